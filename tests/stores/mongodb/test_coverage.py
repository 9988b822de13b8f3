"""Coverage in MongoDB: one document per span, extended in place."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pymongo
import pytest
from pymongo.errors import DuplicateKeyError, PyMongoError

from bintrades.errors import BintradesError
from bintrades.stores.mongodb.coverage import INDEX
from bintrades.stores.mongodb.store import MongoStore
from bintrades.testing.bars import sample_span
from tests.stores.mongodb.test_store import failing, opened, replica_set

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymongo.collection import Collection
    from pymongo.database import Database

    from bintrades.testing.mongod import Mongod

__all__ = ["replica_set"]

Document = dict[str, Any]


@pytest.fixture
def spans(mongodb_database: Database[Document]) -> Collection[Document]:
    return mongodb_database["bars_coverage"]


@pytest.fixture
def store(mongodb_uri: str, spans: Collection[Document]) -> Iterator[MongoStore]:
    store = opened(mongodb_uri, database=spans.database.name)
    yield store
    store.close_store()


def test_a_document_has_the_published_fields_and_stays_the_same_one_as_it_grows(
    store: MongoStore, spans: Collection[Document]
) -> None:
    store.store_coverage([sample_span(0, 3)])
    before = spans.find_one() or {}

    store.store_coverage([sample_span(0, 4)])
    after = spans.find_one() or {}

    assert before["_id"] == after["_id"]
    assert after.keys() == {
        *("_id", "market", "symbol", "since", "until", "interval_seconds", "updated_at")
    }
    assert after["until"] - before["until"] == timedelta(seconds=10)
    assert after["updated_at"] >= before["updated_at"]
    assert abs(datetime.now(UTC) - after["updated_at"]) < timedelta(minutes=10)


def test_a_span_that_is_stored_as_it_is_told_is_not_changed(
    store: MongoStore, spans: Collection[Document]
) -> None:
    store.store_coverage([sample_span(0, 3), sample_span(5, 6)])
    before = list(spans.find().sort("since"))

    store.store_coverage([sample_span(0, 3), sample_span(5, 7)])
    first, second = spans.find().sort("since")

    assert first == before[0]
    assert second["updated_at"] > before[1]["updated_at"]


def test_spans_are_unique_on_market_symbol_and_since(
    store: MongoStore, spans: Collection[Document]
) -> None:
    store.store_coverage([sample_span(0, 3)])
    document = spans.find_one({}, {"_id": False}) or {}

    with pytest.raises(DuplicateKeyError):
        spans.insert_one(document)


def test_another_index_does_not_stop_it(store: MongoStore, spans: Collection[Document]) -> None:
    spans.create_index([("symbol", 1), ("since", 1)])
    spans.create_index([(name, 1) for name in INDEX.fields], unique=True, name="mine")

    store.store_coverage([sample_span(0, 3)])

    assert spans.count_documents({}) == 1
    assert len(spans.index_information()) == 3


def test_an_index_that_does_not_keep_spans_single_is_said(
    store: MongoStore, spans: Collection[Document]
) -> None:
    spans.create_index([("until", 1)], name=INDEX.name)

    with pytest.raises(BintradesError, match=r"symbol and since.* keep spans single; drop it"):
        store.store_coverage([sample_span(0, 3)])


def test_documents_that_stand_in_the_way_of_the_index_are_said(
    store: MongoStore, spans: Collection[Document]
) -> None:
    spans.insert_many([dict.fromkeys(INDEX.fields, "BTCUSDT") for _ in range(2)])

    with pytest.raises(BintradesError, match=r"and since, .*BTCUSDT.*remove all of them"):
        store.store_coverage([sample_span(0, 3)])


def test_a_store_that_is_told_no_coverage_makes_no_collection(
    store: MongoStore, spans: Collection[Document]
) -> None:
    assert spans.name not in spans.database.list_collection_names()


def test_a_collection_that_was_dropped_comes_again_with_its_index(
    store: MongoStore, spans: Collection[Document]
) -> None:
    store.store_coverage([sample_span(0, 3)])
    spans.drop()

    store.store_coverage([sample_span(0, 4)])

    assert spans.count_documents({}) == 1
    assert len(spans.index_information()) == 2


def test_coverage_of_many_symbols_takes_a_few_commands(
    store: MongoStore, spans: Collection[Document]
) -> None:
    many = [sample_span(0, 1, symbol=f"S{number}USDT") for number in range(1_000)]
    store.store_coverage(many)
    client: pymongo.MongoClient[Document] = spans.database.client

    def commands() -> int:
        counts = client.admin.command("serverStatus")["metrics"]["commands"]
        return sum(int(counts[name]["total"]) for name in ("update", "delete", "insert"))

    before = commands()
    store.store_coverage(many)

    assert commands() - before < 10


def test_what_the_server_does_not_acknowledge_raises_and_may_come_again(
    replica_set: Mongod,
) -> None:
    store = opened(replica_set.uri + "&retryWrites=false")
    span = sample_span(0, 3)
    try:
        store.store_coverage([span])
        failure = {"code": 64, "errmsg": "waiting for replication timed out"}
        with (
            failing(replica_set, writeConcernError=failure, failCommands=["update", "delete"]),
            pytest.raises(PyMongoError),
        ):
            store.store_coverage([sample_span(0, 4)])
        store.store_coverage([sample_span(0, 4)])
        with closing(pymongo.MongoClient[Document](replica_set.uri)) as client:
            (found,) = client["bintrades"]["bars_coverage"].find()
        assert (found["until"] - found["since"]) == timedelta(seconds=40)
    finally:
        store.close_store()


def test_coverage_before_opening_is_refused() -> None:
    with pytest.raises(BintradesError, match="open_store comes before"):
        MongoStore().store_coverage([sample_span(0, 1)])
