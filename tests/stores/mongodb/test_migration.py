"""A collection of earlier versions, in which a symbol is of one market, comes to hold them all."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
from pymongo import MongoClient
from pymongo.errors import DuplicateKeyError

from bintrades import BintradesError
from bintrades.stores.mongodb.bar_bson import document
from bintrades.stores.mongodb.store import (
    INDEX,
    OLD_INDEX,
    MongoStore,
    has_documents_without_market,
)
from bintrades.testing.bars import sample_bar, sample_bars
from bintrades.testing.mongod import Mongod

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pymongo.collection import Collection
    from pymongo.database import Database

Document = dict[str, Any]

OLD_NAMES = ["symbol_open_time", "mine"]


@pytest.fixture
def bars(mongodb_database: Database[Document]) -> Collection[Document]:
    return mongodb_database["bars"]


@pytest.fixture(params=OLD_NAMES)
def old(request: pytest.FixtureRequest, bars: Collection[Document]) -> Collection[Document]:
    """Return a collection as earlier versions have left it, its index made by us or the user."""
    bars.create_index([("symbol", 1), ("open_time", 1)], unique=True, name=request.param)
    bars.insert_many([document(bar) for bar in sample_bars(3)])
    return bars


def opened(uri: str, bars: Collection[Document]) -> MongoStore:
    store = MongoStore()
    store.open_store({"uri": uri, "database": bars.database.name})
    return store


def unique_on(bars: Collection[Document]) -> list[list[str]]:
    """Return the fields of each unique index."""
    return [
        [field for field, _ in index["key"]]
        for index in bars.index_information().values()
        if index.get("unique")
    ]


def test_a_collection_of_before_takes_every_market_after_an_opening(
    mongodb_uri: str, old: Collection[Document]
) -> None:
    usdm = [sample_bar(market="usdm", open_time_ms=bar.open_time_ms) for bar in sample_bars(3)]

    store = opened(mongodb_uri, old)
    store.store_bars(usdm)
    store.store_bars(sample_bars(3))
    store.close_store()

    assert unique_on(old) == [[*INDEX.fields]]
    assert old.count_documents({"market": "usdm"}) == old.count_documents({"market": "spot"}) == 3
    opened(mongodb_uri, old).close_store()
    assert unique_on(old) == [[*INDEX.fields]]


def test_at_no_moment_of_the_migration_does_a_second_bar_get_in(
    mongodb_uri: str, old: Collection[Document]
) -> None:
    bar = document(sample_bar())
    found: set[str] = set()
    is_over = threading.Event()

    def insert() -> None:
        while not is_over.is_set():
            try:
                old.insert_one({**bar})
                found.add("stored")
            except DuplicateKeyError:
                found.add("refused")

    intruder = threading.Thread(target=insert)
    intruder.start()
    try:
        store = opened(mongodb_uri, old)
        store.store_bars([sample_bar(market="usdm")])
        store.close_store()
    finally:
        is_over.set()
        intruder.join()

    assert found == {"refused"}


def test_an_interrupted_migration_is_finished_by_the_next_opening(
    mongodb_uri: str, old: Collection[Document]
) -> None:
    INDEX.make(old)  # and there it ended
    assert len(unique_on(old)) == 2

    opened(mongodb_uri, old).close_store()

    assert unique_on(old) == [[*INDEX.fields]]


def test_two_collectors_may_migrate_at_once(mongodb_uri: str, old: Collection[Document]) -> None:
    failures: list[BaseException] = []

    def migrate() -> None:
        try:
            opened(mongodb_uri, old).close_store()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=migrate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert unique_on(old) == [[*INDEX.fields]]


def test_an_index_of_before_that_comes_back_loses_no_bar_and_is_named(
    mongodb_uri: str, bars: Collection[Document]
) -> None:
    """As where a collector of an earlier version still runs."""
    store = opened(mongodb_uri, bars)
    store.store_bars([sample_bar()])
    OLD_INDEX.make(bars)

    with pytest.raises(BintradesError, match="stop the collectors of earlier versions"):
        store.store_bars([sample_bar(market="usdm")])
    store.close_store()
    store = opened(mongodb_uri, bars)
    store.store_bars([sample_bar(market="usdm")])
    store.close_store()

    assert bars.count_documents({}) == 2


def test_documents_without_a_market_are_named_and_stay_single(
    mongodb_uri: str, old: Collection[Document]
) -> None:
    old.insert_one({"symbol": "ETHUSDT", "open_time": 1})

    with pytest.raises(BintradesError, match="documents without a market"):
        opened(mongodb_uri, old)

    assert ["symbol", "open_time"] in unique_on(old)


def test_the_log_tells_before_the_index_is_built(
    mongodb_uri: str, old: Collection[Document], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        opened(mongodb_uri, old).close_store()
        opened(mongodb_uri, old).close_store()

    told = [
        line for line in caplog.records if line.__dict__.get("event") == "unique_index_migrated"
    ]
    assert len(told) == 1
    assert "seconds for each million bars" in told[0].getMessage()


def test_no_collection_is_too_large_to_be_searched_for_what_no_version_has_written(
    bars: Collection[Document],
) -> None:
    bars.insert_many([{"market": "spot"} for _ in range(20_000)])
    assert not has_documents_without_market(bars, limit_ms=20_000)
    bars.insert_one({"market": None})

    assert not has_documents_without_market(bars, limit_ms=1)
    assert has_documents_without_market(bars, limit_ms=20_000)


@pytest.fixture(scope="module")
def guarded(
    mongod_binary: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MongoClient[Document]]:
    """Return root's client of a server on which "writer" may do anything but drop an index.

    "reader" may not make one, either. Each is the password, too.
    """
    with (
        Mongod(mongod_binary, tmp_path_factory.mktemp("guarded"), auth=True) as server,
        MongoClient[Document](server.uri) as root,
    ):
        actions = ["find", "insert", "update", "remove", "listIndexes", "listCollections"]
        for name, more in (("reader", []), ("writer", ["createIndex", "createCollection"])):
            rights = {"resource": {"db": "", "collection": ""}, "actions": actions + more}
            root.admin.command("createRole", name, privileges=[rights], roles=[])
            root.admin.command("createUser", name, pwd=name, roles=[name])
        yield root


def uri_of(user: str, guarded: MongoClient[Document]) -> str:
    host, port = guarded.address or ("", 0)
    return f"mongodb://{user}:{user}@{host}:{port}/"


def test_a_user_who_may_not_drop_the_old_index_goes_on_with_one_market_and_is_told(
    guarded: MongoClient[Document], caplog: pytest.LogCaptureFixture
) -> None:
    bars = guarded["one_market"]["bars"]
    OLD_INDEX.make(bars)

    store = opened(uri_of("writer", guarded), bars)
    store.store_bars(sample_bars(3))
    with pytest.raises(BintradesError, match="which keeps bars of other markets out"):
        store.store_bars([sample_bar(market="usdm")])
    store.close_store()

    warnings = [line for line in caplog.records if line.levelno >= logging.WARNING]
    assert [line.__dict__["event"] for line in warnings] == ["unique_index_kept"]
    assert bars.count_documents({}) == 3
    assert len(unique_on(bars)) == 2


def test_a_user_who_may_make_no_index_uses_the_one_that_is_there_or_hears_how_to_make_it(
    guarded: MongoClient[Document],
) -> None:
    bars = guarded["no_rights"]["bars"]

    with pytest.raises(BintradesError) as refused:
        opened(uri_of("reader", guarded), bars)
    assert str(refused.value).endswith(
        'give it the role readWrite, or make it: db.getCollection("bars").createIndex('
        "{symbol: 1, open_time: 1, market: 1}, {unique: true})"
    )
    INDEX.make(bars)
    store = opened(uri_of("reader", guarded), bars)
    store.store_bars([sample_bar(), sample_bar(market="usdm")])
    store.close_store()

    assert bars.count_documents({}) == 2
