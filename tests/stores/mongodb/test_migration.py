"""A collection of earlier versions, in which a symbol is of one market, comes to hold them all."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
from pymongo.errors import DuplicateKeyError

from bintrades import BintradesError
from bintrades.stores.mongodb.bar_bson import document
from bintrades.stores.mongodb.store import INDEX, OLD_INDEX, MongoStore
from bintrades.testing.bars import sample_bar, sample_bars

if TYPE_CHECKING:
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
