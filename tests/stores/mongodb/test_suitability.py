"""Collections that cannot hold bars: each is named before a bar is lost in it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from bintrades.errors import BintradesError
from bintrades.stores.mongodb.bar_bson import document
from bintrades.stores.mongodb.store import INDEX
from bintrades.stores.mongodb.suitability import refuse_other_documents
from bintrades.testing.bars import sample_bars
from tests.stores.mongodb.test_store import opened

if TYPE_CHECKING:
    from pymongo.collection import Collection
    from pymongo.database import Database

Document = dict[str, Any]

KINDS: dict[str, tuple[Document, str]] = {
    "view": ({"viewOn": "others", "pipeline": []}, "is a view of others, in which nothing can be"),
    "time series": (
        {"timeseries": {"timeField": "open_time", "metaField": "symbol"}},
        "is a time series collection, which takes no unique index",
    ),
    "capped": ({"capped": True, "size": 100_000}, "is a capped collection, which drops the oldest"),
    "collation": ({"collation": {"locale": "en", "strength": 1}}, r"has a collation \(en\)"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["bars", "bars_coverage"])
def test_a_collection_of_a_kind_that_cannot_keep_bars_or_spans_is_named(
    mongodb_uri: str, mongodb_database: Database[Document], name: str, kind: str
) -> None:
    options, reason = KINDS[kind]
    mongodb_database.create_collection(name, **options)

    with pytest.raises(BintradesError, match=f"{name} {reason}.*; name another one in the option"):
        opened(mongodb_uri, database=mongodb_database.name)

    if name == "bars" and kind != "view":
        assert sorted(mongodb_database[name].index_information()) in ([], ["_id_"])


@pytest.fixture
def bars(mongodb_database: Database[Document]) -> Collection[Document]:
    return mongodb_database["bars"]


OTHERS: list[Document] = [
    {"a": 1},
    {"symbol": "BTCUSDT", "open_time": datetime(2024, 1, 1, tzinfo=UTC), "close": 1.0},
    {"symbol": "BTCUSDT", "market": "spot", "open_time": 1_700_000_000, "trade_count": 1},
]


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("how_many", [1, 2])
def test_a_collection_that_holds_other_documents_is_named_and_left_alone(
    mongodb_uri: str, bars: Collection[Document], other: Document, how_many: int
) -> None:
    bars.insert_many([{**other} for _ in range(how_many)])
    before = list(bars.find())

    with pytest.raises(BintradesError, match=r"bars holds documents that are no bars, .*ObjectId"):
        opened(mongodb_uri, database=bars.database.name)

    assert list(bars.find()) == before
    assert list(bars.index_information()) == ["_id_"]


def test_bars_that_were_restored_without_their_index_are_taken(
    mongodb_uri: str, bars: Collection[Document]
) -> None:
    bars.insert_many([document(bar) for bar in sample_bars(3)])

    opened(mongodb_uri, database=bars.database.name).close_store()

    assert INDEX.is_on(bars)


def test_other_documents_that_come_later_stop_nothing(
    mongodb_uri: str, bars: Collection[Document]
) -> None:
    opened(mongodb_uri, database=bars.database.name).close_store()
    bars.insert_one({"note": "mine"})

    store = opened(mongodb_uri, database=bars.database.name)
    store.store_bars(sample_bars(2))
    store.close_store()

    assert bars.count_documents({}) == 3


def test_no_collection_is_too_large_to_be_searched_for_other_documents(
    bars: Collection[Document],
) -> None:
    bar = document(sample_bars(1)[0])
    bars.insert_many([{**bar} for _ in range(20_000)])
    bars.insert_one({"a": 1})

    refuse_other_documents(bars, limit_ms=1)
    with pytest.raises(BintradesError, match="no bars"):
        refuse_other_documents(bars, limit_ms=20_000)


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        ([("symbol", 1), ("open_time", 1), ("market", 1)], INDEX.name),
        ([("close_price", -1)], INDEX.name),
        ([("close_price", 1)], INDEX.name),
    ],
)
def test_an_index_in_the_way_is_named_with_the_command_that_drops_it(
    mongodb_uri: str, bars: Collection[Document], keys: list[tuple[str, int]], name: str
) -> None:
    bars.create_index(keys, name=name)

    with pytest.raises(BintradesError) as refused:
        opened(mongodb_uri, database=bars.database.name)

    assert str(refused.value).startswith(f"{bars.full_name} has an index that stands in the way")
    assert str(refused.value).endswith(f'drop it: db.getCollection("bars").dropIndex("{name}")')
    bars.drop_index(name)
    opened(mongodb_uri, database=bars.database.name).close_store()
    assert INDEX.is_on(bars)
