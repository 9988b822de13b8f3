"""A fail-over takes back what only the old primary had, and that was never acknowledged."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import pymongo
import pytest
from msgspec.structs import replace
from pymongo.errors import PyMongoError

from bintrades.journal.cursor import Cursor
from bintrades.journal.reader import JournalReader
from bintrades.pipeline.delivery import Delivery
from bintrades.stores.loader import load_stores
from bintrades.stores.mongodb.store import MongoStore
from bintrades.testing.bars import OPEN_TIME_MS, sample_bars
from bintrades.testing.mongod import Mongod, ReplicaSet
from tests.journals import finished, journal_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bintrades import Bar

NOW = OPEN_TIME_MS + 60_000
SOON = "&serverSelectionTimeoutMS=500&socketTimeoutMS=3000"
WAIT_S = 120.0


@pytest.fixture(scope="module")
def replica_set(
    mongod_binary: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ReplicaSet]:
    """Run three members, all of which must be there again at the end of a test."""
    with ReplicaSet(mongod_binary, tmp_path_factory.mktemp("members")) as replica_set:
        yield replica_set


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bintrades.pipeline.delivery._FIRST_WAIT_S", 0.05)
    monkeypatch.setattr("bintrades.pipeline.delivery._LONGEST_WAIT_S", 0.2)


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def await_delivery(delivery: Delivery, goal: int) -> None:
    """Wait until at least *goal* bars are delivered."""
    wait_until(lambda: delivery.delivered_count >= goal)


def await_lone_bars(primary: Mongod, bars: list[Bar], journal: Path) -> None:
    """Wait until *primary* has more of *bars*, all of one symbol, than it has acknowledged."""
    uri = f"mongodb://{primary.address}/?directConnection=true"
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        found = client["bintrades"]["bars"]

        def has_more() -> bool:
            waiting = JournalReader(journal).store("mongodb").waiting_bars
            return found.count_documents({"symbol": bars[0].symbol}) > len(bars) - waiting

        wait_until(has_more)


def stored(replica_set: ReplicaSet, collection: str) -> list[int]:
    """Return the first ids of the bars that a majority has."""
    with pymongo.MongoClient[dict[str, Any]](f"{replica_set.uri}&readConcernLevel=majority") as it:
        return [
            bar["first_trade_id"] for bar in it["bintrades"][collection].find().sort("open_time")
        ]


@contextlib.contextmanager
def delivering(replica_set: ReplicaSet, journal: Path) -> Iterator[Delivery]:
    (store,) = load_stores(["mongodb"], journal.parent)
    delivery = Delivery(
        store,
        {"uri": replica_set.uri + SOON},
        Cursor(journal, "mongodb"),
        on_failure=pytest.fail,
        on_bad_options=pytest.fail,
    )
    delivery.start()
    try:
        yield delivery
    finally:
        delivery.finish(WAIT_S)
        assert delivery.join(WAIT_S + 1)


def test_what_a_lone_primary_took_is_not_acknowledged_and_survives_its_fail_over(
    replica_set: ReplicaSet, tmp_path: Path
) -> None:
    path = tmp_path / "bars.journal"
    old, *others = replica_set.members
    safe, lost = sample_bars(2)
    careless = MongoStore()
    careless.open_store({"uri": f"{replica_set.uri}&w=1", "collection": "careless"})
    with journal_at(path) as journal, delivering(replica_set, path) as delivery:
        journal.write(finished(safe), NOW)
        delivery.notify()
        wait_until(lambda: delivery.delivered_count == 1)

        for member in others:
            member.kill()
        careless.store_bars([lost])  # acknowledged by the lone primary
        careless.close_store()
        journal.write(finished(lost), NOW)
        delivery.notify()
        wait_until(lambda: "replication timed out" in (delivery.last_error or ""))
        assert delivery.delivered_count == 1
        assert JournalReader(path).store("mongodb").waiting_bars == 1

        old.kill()
        for member in others:
            member.start()
        replica_set.make_primary(others[0])
        old.start()
        wait_until(lambda: delivery.delivered_count == 2)
        assert delivery.last_error is None

    assert stored(replica_set, "careless") == [], "the fail-over rolled it back"
    assert stored(replica_set, "bars") == [safe.first_trade_id, lost.first_trade_id]


def test_bars_that_only_a_lone_primary_has_are_not_taken_for_stored(
    replica_set: ReplicaSet,
) -> None:
    bars = sample_bars(100)
    careless, store = MongoStore(), MongoStore()
    careless.open_store({"uri": f"{replica_set.uri}&w=1", "collection": "lone"})
    store.open_store({"uri": replica_set.uri + SOON, "collection": "lone"})
    others = [each for each in replica_set.members if each is not replica_set.primary()]
    try:
        for member in others:
            member.kill()
        careless.store_bars(bars)
        with pytest.raises(PyMongoError):
            store.store_bars(bars)
    finally:
        for member in others:
            member.start()
        careless.close_store()
        store.close_store()
    replica_set.await_members()


def test_with_w_1_on_a_replica_set_the_log_says_once_that_it_is_unsafe(
    replica_set: ReplicaSet, caplog: pytest.LogCaptureFixture
) -> None:
    store = MongoStore()
    for _ in range(3):
        store.open_store({"uri": f"{replica_set.uri}&w=1"})
    store.open_store({"uri": f"{replica_set.uri}&w=2"})
    store.close_store()

    said = [record.getMessage() for record in caplog.records if "unsafe" in record.getMessage()]
    assert len(said) == 1
    assert "once 2 members have it" in said[0]


def test_when_primaries_are_killed_amid_a_load_no_bar_is_lost_or_doubled(
    replica_set: ReplicaSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each primary is killed when it has bars that no other member has, and comes back.

    Every other bar comes again, amended.
    """
    monkeypatch.setattr("bintrades.pipeline.delivery.BATCH", 250)  # so that it is amid many
    path = tmp_path / "bars.journal"
    parts = [sample_bars(6_000, symbol=f"PART{number}USDT") for number in range(2)]
    with journal_at(path) as journal, delivering(replica_set, path) as delivery:
        for part in parts:
            killed = replica_set.primary()
            goal = delivery.delivered_count + 1
            journal.write(finished(*part), NOW)
            delivery.notify()
            await_delivery(delivery, goal)
            others = [member for member in replica_set.members if member is not killed]
            for member in others:
                member.kill()
            await_lone_bars(killed, part, path)
            killed.kill()
            for member in others:
                member.start()
            better = [replace(bar, trade_count=4, version=2) for bar in part[::2]]
            journal.write(finished(*better), NOW)
            delivery.notify()
            wait_until(lambda: not JournalReader(path).store("mongodb").waiting_bars)
            killed.start()
            replica_set.await_members()
        assert JournalReader(path).store("mongodb").rejected_bars == 0

    with pymongo.MongoClient[dict[str, Any]](f"{replica_set.uri}&readConcernLevel=majority") as it:
        bars = it["bintrades"]["bars"]
        for part in parts:
            kept = bars.find({"symbol": part[0].symbol}).sort("open_time")
            assert [(bar["open_time"], bar["trade_count"]) for bar in kept] == [
                (bar.open_time.replace(tzinfo=None), 3 + (place + 1) % 2)
                for place, bar in enumerate(part)
            ]
