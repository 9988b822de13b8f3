"""MongoDB is away for a while, or always was: collecting goes on, and every bar arrives."""

from __future__ import annotations

import json
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pymongo
import pytest

from bintrades.testing.mongod import Mongod
from tests.end_to_end.collector import Collector, to_mongodb
from tests.end_to_end.market import (
    BAR_COUNT,
    assert_only_the_first_and_last_are_incomplete,
    assert_same_bars,
    documents,
    expected_bars,
    in_the_trades,
    stored_trade_count,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pymongo.database import Database

    from bintrades.testing.exchange_simulator import ExchangeSimulator
    from tests.end_to_end.collector import Sections

    Frames = list[tuple[int, bytes]]

STREAMS = ("btcusdt@trade", "ethusdt@trade")


@pytest.fixture(scope="module")
def server(mongod_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    """Run a server that a test may kill; it must have been started again at the end."""
    with Mongod(mongod_binary, tmp_path_factory.mktemp("mongod")) as server:
        yield server


@pytest.fixture
def database(server: Mongod) -> Iterator[Database[dict[str, Any]]]:
    """Return an empty database of the server, to be looked at while it runs."""
    with pymongo.MongoClient[dict[str, Any]](server.uri, tz_aware=True) as client:
        yield client[f"test_{uuid.uuid4().hex}"]


def store(server: Mongod, name: str) -> Sections:
    return to_mongodb(f"{server.uri}?serverSelectionTimeoutMS=300", name)


def wait_until_stored(
    collector: Collector, database: Database[dict[str, Any]], frames: Frames
) -> None:
    """Wait until all bars but the open ones are in MongoDB."""
    expected = expected_bars(frames)
    open_times = dict(sorted(expected))
    count = sum(bar["trade_count"] for key, bar in expected.items() if open_times[key[0]] != key[1])
    collector.wait_until(
        lambda: stored_trade_count(database) >= count,
        lambda: f"{stored_trade_count(database)} of {count} trades in MongoDB",
    )


def assert_stored(database: Database[dict[str, Any]], frames: Frames) -> None:
    stored = documents(database)
    assert len(stored) == BAR_COUNT
    assert_same_bars(in_the_trades(stored), expected_bars(frames))
    assert_only_the_first_and_last_are_incomplete(stored)


def test_a_server_killed_and_started_again_gets_every_bar(
    recorded_frames: Frames,
    exchange: ExchangeSimulator,
    server: Mongod,
    database: Database[dict[str, Any]],
    tmp_path: Path,
) -> None:
    thirds = recorded_frames[:11_000], recorded_frames[11_000:23_000], recorded_frames[23_000:]
    with Collector(tmp_path, exchange, store(server, database.name)) as collector:
        collector.start()
        exchange.wait_for_subscription(*STREAMS)
        exchange.play(thirds[0])
        wait_until_stored(collector, database, thirds[0])

        server.kill()
        exchange.play(thirds[1])
        collector.wait_for_trades(23_000)
        collector.wait_for_log("store mongodb fails")
        server.start()
        exchange.play(thirds[2])
        wait_until_stored(collector, database, recorded_frames)
        assert collector.stop() == 0

    assert_stored(database, recorded_frames)


def test_without_a_server_the_command_shows_every_bar_and_a_later_server_gets_them(
    recorded_frames: Frames,
    exchange: ExchangeSimulator,
    server: Mongod,
    database: Database[dict[str, Any]],
    tmp_path: Path,
) -> None:
    server.kill()
    with Collector(tmp_path, exchange, store(server, database.name)) as collector:
        collector.start()
        exchange.wait_for_subscription(*STREAMS)
        exchange.play(recorded_frames)
        collector.wait_for_trades(len(recorded_frames))
        printed = [
            bar
            for symbol in ("BTCUSDT", "ETHUSDT")
            for bar in json.loads(
                collector.command("bars", symbol, "--limit", "1000", "--format", "json").stdout
            )
        ]
        server.start()
        wait_until_stored(collector, database, recorded_frames)
        assert collector.stop() == 0

    assert_stored(database, recorded_frames)
    expected = list(expected_bars(recorded_frames).values())
    assert len(printed) == BAR_COUNT
    for name in ("symbol", "trade_count", "first_trade_id", "last_trade_id"):
        assert [bar[name] for bar in printed] == [bar[name] for bar in expected]
    for name in ("open_price", "quantity", "value", "buy_value", "average_price"):
        assert [Decimal(bar[name]) for bar in printed] == [bar[name] for bar in expected]


def test_bars_that_a_server_was_not_there_for_at_the_stop_wait_for_the_next_start(
    recorded_frames: Frames,
    exchange: ExchangeSimulator,
    server: Mongod,
    database: Database[dict[str, Any]],
    tmp_path: Path,
) -> None:
    quickly: Sections = {"stores": {"shutdown_timeout": "300ms"}}
    server.kill()
    with Collector(tmp_path, exchange, store(server, database.name), quickly) as collector:
        collector.start()
        exchange.wait_for_subscription(*STREAMS)
        exchange.play(recorded_frames)
        collector.wait_for_trades(len(recorded_frames))
        assert collector.stop() == 0
        assert "what it lacks stays in the journal" in collector.log
        assert collector.trade_count() == len(recorded_frames)

        server.start()
        collector.start()
        wait_until_stored(collector, database, recorded_frames)
        assert collector.stop() == 0

    assert_stored(database, recorded_frames)


def test_a_refused_password_is_never_logged_and_collecting_goes_on(
    exchange: ExchangeSimulator, mongod_binary: Path, tmp_path: Path
) -> None:
    quickly: Sections = {"stores": {"shutdown_timeout": "300ms"}}
    with Mongod(mongod_binary, tmp_path / "mongod", auth=True) as server:
        uri = f"mongodb://{server.username}:s3cr%2Ft-w%40rd@{server.address}/"
        with Collector(tmp_path, exchange, to_mongodb(uri, "bars"), quickly) as collector:
            collector.start()
            exchange.wait_for_subscription(*STREAMS)
            exchange.publish("BTCUSDT", "60000", "1")
            collector.wait_for_trades(1)
            collector.wait_for_log("Authentication failed")
            collector.wait_for_log("store mongodb fails", 2)
            assert collector.stop() == 0

            shown = collector.log + collector.command("status").stdout
            shown += collector.command("status", "--json").stdout

    assert "Authentication failed" in shown
    assert "s3cr" not in shown
    assert "w@rd" not in shown
    assert "w%40rd" not in shown


def test_of_two_mongodbs_one_takes_everything_while_the_other_is_away_and_both_end_equal(
    recorded_frames: Frames,
    exchange: ExchangeSimulator,
    server: Mongod,
    database: Database[dict[str, Any]],
    mongodb_uri: str,
    mongodb_database: Database[dict[str, Any]],
    tmp_path: Path,
) -> None:
    """The second one is added later: the first goes on where it was."""
    away = {"uri": f"{server.uri}?serverSelectionTimeoutMS=300", "database": database.name}
    archive: Sections = {"store:archive": {"plugin": "mongodb", **away}}
    half = len(recorded_frames) // 2
    main = to_mongodb(mongodb_uri, mongodb_database.name)
    with Collector(tmp_path, exchange, main, archive) as collector:
        collector.start()
        exchange.wait_for_subscription(*STREAMS)
        exchange.play(recorded_frames[:half])
        collector.wait_for_trades(half)
        assert collector.stop() == 0
        before = len(documents(mongodb_database))

        server.kill()
        collector.configure({"stores": {"enabled": "mongodb, archive"}})
        exchange.wait_until(lambda: not exchange.connections, timeout_s=120)
        collector.start()
        exchange.wait_for_subscription(*STREAMS)
        exchange.play(recorded_frames[half:])
        wait_until_stored(collector, mongodb_database, recorded_frames)
        collector.wait_for_log("store archive fails", 2)
        stores = json.loads(collector.command("status", "--json").stdout)["stores"]
        assert stores["archive"]["waiting_bars"] >= BAR_COUNT - 2
        assert stores["mongodb"]["waiting_bars"] < BAR_COUNT - before
        assert "store mongodb fails" not in collector.log

        server.start()
        wait_until_stored(collector, database, recorded_frames)
        said = collector.command("resend", "archive", "--since", "1d").stdout
        assert said.endswith(" will be sent to archive again\n")
        assert collector.stop() == 0
        taken = taken_since_the_last_start(collector)

    for each in (mongodb_database, database):
        assert_stored(each, recorded_frames)
    assert without_ids(database) == without_ids(mongodb_database)
    assert taken["mongodb"] < BAR_COUNT, "it goes on where it was"
    assert taken["archive"] >= 2 * BAR_COUNT - 2, "it alone is sent everything, and once more"


def taken_since_the_last_start(collector: Collector) -> dict[str, int]:
    """Return how many bars each store has taken, as the collector says at its end."""
    (*_, stopped) = (each for each in collector.events if each["event"] == "collector_stopped")
    return {store["name"]: store["delivered"] for store in stopped["stores"]}


def without_ids(database: Database[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the stored bars, without the ids that each server gives."""
    return [{name: bar[name] for name in bar if name != "_id"} for bar in documents(database)]
