"""Many bars that are stored already: a look at them spares the server an update of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pymongo
import pytest
from msgspec.structs import replace

from bintrades import RejectedBars
from bintrades.testing.bars import OPEN_TIME_MS, sample_bar, sample_bars
from tests.stores.mongodb.test_store import failing, opened, replica_set, updates

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymongo.collection import Collection

    from bintrades import Bar
    from bintrades.stores.mongodb.store import MongoStore
    from bintrades.testing.mongod import Mongod

__all__ = ["replica_set"]

Document = dict[str, Any]


@pytest.fixture
def bars(replica_set: Mongod) -> Iterator[Collection[Document]]:
    with pymongo.MongoClient[Document](replica_set.uri) as client:
        client["bintrades"].drop_collection("settled")
        yield client["bintrades"]["settled"]


@pytest.fixture
def store(replica_set: Mongod, bars: Collection[Document]) -> Iterator[MongoStore]:
    store = opened(replica_set.uri, collection=bars.name)
    yield store
    store.close_store()


def stored(bars: Collection[Document]) -> list[int]:
    return [each["trade_count"] for each in bars.find().sort([("open_time", 1), ("symbol", 1)])]


def of_symbols(count: int, **changes: Any) -> list[Bar]:
    """Return as many bars, each of a symbol and of a time of its own."""
    return [
        sample_bar(symbol=f"S{n:04}USDT", open_time_ms=OPEN_TIME_MS + 10_000 * n, **changes)
        for n in range(count)
    ]


@pytest.mark.parametrize("trade_count", [3, 2])
def test_bars_that_are_stored_in_no_lesser_version_cost_no_update(
    store: MongoStore, bars: Collection[Document], trade_count: int
) -> None:
    store.store_bars(sample_bars(1_500))
    before = updates(bars.database.client)

    store.store_bars(sample_bars(1_500, trade_count=trade_count))

    assert updates(bars.database.client) == before
    assert stored(bars) == [3] * 1_500


def test_only_the_better_ones_of_many_are_written(
    store: MongoStore, bars: Collection[Document]
) -> None:
    store.store_bars(sample_bars(100))

    store.store_bars(
        [replace(bar, trade_count=n % 5) for n, bar in enumerate(sample_bars(100), start=1)]
    )

    assert stored(bars) == [max(3, n % 5) for n in range(1, 101)]


@pytest.mark.parametrize("failure", [148, 115, 13])
def test_where_the_server_cannot_be_asked_each_is_compared(
    replica_set: Mongod, store: MongoStore, bars: Collection[Document], failure: int
) -> None:
    store.store_bars(sample_bars(50))

    with failing(replica_set, errorCode=failure, failCommands=["find"]):
        store.store_bars(sample_bars(50, trade_count=4))

    assert stored(bars) == [4] * 50


def test_scattered_bars_are_compared_one_by_one(
    store: MongoStore, bars: Collection[Document]
) -> None:
    store.store_bars(of_symbols(100))
    before = updates(bars.database.client)

    store.store_bars(of_symbols(100))

    assert updates(bars.database.client) == before + 1
    assert stored(bars) == [3] * 100


def test_a_document_that_is_no_bar_is_never_taken_for_one(
    store: MongoStore, bars: Collection[Document]
) -> None:
    wanted = sample_bars(40)
    keys: list[Document] = [
        {"market": bar.market, "symbol": bar.symbol, "open_time": bar.open_time} for bar in wanted
    ]
    bars.insert_many([keys[0], {**keys[1], "trade_count": "9"}, {**keys[2], "trade_count": None}])
    bars.insert_one({**keys[3], "symbol": [keys[3]["symbol"]], "trade_count": 9})
    store.store_bars(wanted[4:])

    with pytest.raises(RejectedBars) as refused:
        store.store_bars(wanted)

    assert [bar for bar, _ in refused.value.rejected] == wanted[:3]
