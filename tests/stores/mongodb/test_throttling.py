"""Writes that a server refuses one by one, within a bulk, since it cannot do them now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pymongo
import pytest
from pymongo.errors import WriteError

from bintrades.pipeline.batch_size import is_timeout
from bintrades.stores.mongodb import writes
from bintrades.testing.bars import sample_bars, sample_span
from tests.stores.mongodb.test_store import counts, opened, replica_set
from tests.stores.mongodb.throttled_server import ThrottledServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymongo.collection import Collection
    from pymongo.database import Database

    from bintrades.stores.mongodb.store import MongoStore
    from bintrades.testing.mongod import Mongod

__all__ = ["replica_set"]

Document = dict[str, Any]

TOO_MANY_REQUESTS = 16500
IN_COSMOS_DB = (
    "Error=16500, RetryAfterMs=7, Details='Response status code does not indicate success:"
    " TooManyRequests (429); Substatus: 3200'"
)


@pytest.fixture
def bars(mongodb_database: Database[Document]) -> Collection[Document]:
    return mongodb_database["bars"]


@pytest.fixture
def server(request: pytest.FixtureRequest, bars: Collection[Document]) -> Iterator[ThrottledServer]:
    """Run one that has room for all, and answers with the code of the test."""
    host, port = bars.database.client.address or ("", 0)
    with ThrottledServer(
        host, port, code=request.param, message=IN_COSMOS_DB, room=1_000_000
    ) as server:
        yield server


@pytest.fixture
def store(server: ThrottledServer, bars: Collection[Document]) -> Iterator[MongoStore]:
    store = opened(server.uri, database=bars.database.name)
    yield store
    store.close_store()


@pytest.mark.parametrize("server", [TOO_MANY_REQUESTS, 1, 8, 50, 99_999], indirect=True)
def test_what_the_server_cannot_do_now_comes_again_and_no_bar_is_set_aside(
    server: ThrottledServer,
    store: MongoStore,
    bars: Collection[Document],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writes, "_PATIENCE_S", 0.05)
    server.room = 0
    with pytest.raises(WriteError, match="TooManyRequests") as raised:
        store.store_bars(sample_bars(10))
    assert "_id" not in str(raised.value)
    is_too_much = server.code in (TOO_MANY_REQUESTS, 50)
    assert is_timeout(raised.value, 0) is is_too_much, "else batches do not become smaller"
    assert bars.count_documents({}) == 0

    server.room = 1_000_000
    store.store_bars(sample_bars(10))

    assert counts(bars) == [3] * 10


@pytest.mark.parametrize("server", [TOO_MANY_REQUESTS], indirect=True)
@pytest.mark.parametrize("version", [1, 2])
def test_only_what_there_was_no_throughput_for_is_sent_again(
    server: ThrottledServer, store: MongoStore, bars: Collection[Document], version: int
) -> None:
    server.room = 4
    store.store_bars(sample_bars(10, version=version))

    assert counts(bars) == [3] * 10
    assert server.bulks == [10, 6, 2]


@pytest.mark.parametrize("server", [TOO_MANY_REQUESTS], indirect=True)
def test_bars_that_are_there_already_are_found_beside_those_without_throughput(
    server: ThrottledServer, store: MongoStore, bars: Collection[Document]
) -> None:
    store.store_bars(sample_bars(5))
    server.room = 3
    store.store_bars(sample_bars(10, trade_count=4))

    assert counts(bars) == [4] * 10


@pytest.mark.parametrize("server", [TOO_MANY_REQUESTS], indirect=True)
def test_spans_there_was_no_throughput_for_are_sent_again_alone(
    server: ThrottledServer, store: MongoStore, bars: Collection[Document]
) -> None:
    server.room = 4
    store.store_coverage([sample_span(2 * number, 2 * number + 1) for number in range(10)])

    assert bars.database["bars_coverage"].count_documents({}) == 10
    assert server.bulks[-3:] == [10, 6, 2]


@pytest.mark.parametrize("server", [1], indirect=True)
def test_a_bulk_of_which_a_part_was_done_comes_again_whole(
    server: ThrottledServer, store: MongoStore, bars: Collection[Document]
) -> None:
    server.room = 6
    with pytest.raises(WriteError):
        store.store_bars(sample_bars(10))
    assert bars.count_documents({}) == 6

    server.room = 1_000_000
    store.store_bars(sample_bars(10))

    assert counts(bars) == [3] * 10


def test_a_bulk_that_fails_inside_of_a_real_server_comes_again(replica_set: Mongod) -> None:
    """It answers each update of the bulk with code 1."""
    better = sample_bars(3, version=2)
    store = opened(replica_set.uri, collection="inside")
    try:
        with pymongo.MongoClient[Document](replica_set.uri) as client:
            client.admin.command({"configureFailPoint": "failAllUpdates", "mode": "alwaysOn"})
            try:
                with pytest.raises(WriteError) as raised:
                    store.store_bars(better)
            finally:
                client.admin.command({"configureFailPoint": "failAllUpdates", "mode": "off"})
            assert raised.value.code == 1

            store.store_bars(better)
            assert counts(client["bintrades"]["inside"]) == [3] * 3
    finally:
        store.close_store()


@pytest.mark.parametrize(
    ("message", "wait_s"),
    [
        (IN_COSMOS_DB, 0.01),
        ("RetryAfterMs=340, ", 0.34),
        ("RetryAfterMs=999999999", 2.0),
        ("Request rate is large", 0.1),
    ],
)
def test_the_wait_that_the_server_asks_for_is_kept_within_reason(
    message: str, wait_s: float
) -> None:
    assert writes._wait_s({"errmsg": message}) == wait_s
