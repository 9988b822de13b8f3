"""Recorded USD-M sessions, played to the real process, roll up to the exchange's own klines."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from bintrades.core.spans import has
from bintrades.testing.exchange_simulator import ExchangeSimulator, combined_payload
from bintrades.testing.recordings import read_recording
from tests.end_to_end.collector import Collector, to_mongodb
from tests.end_to_end.market import assert_same_bars, bars_of, documents, in_the_trades, trades_of
from tests.end_to_end.stage import (
    missing,
    newest_connection,
    trade_of,
    wait_for_subscription_after,
)
from tests.recordings import recorded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pymongo.database import Database

    from tests.end_to_end.collector import Sections
    from tests.end_to_end.market import Frame

SYMBOLS = ("BTCUSDT", "ETHUSDT")
MIDNIGHT = 1_723_161_600_000
WHOLE = (MIDNIGHT - 300_000, MIDNIGHT)
"""The minutes that are in the recording from their first trade to their last."""
SPAN = ("--since", "2024-08-08T23:55", "--until", "2024-08-09T00:00")
KLINES = {
    "BTCUSDT": "usdm_BTCUSDT_1m_20240808T2355-20240809T0005.csv",
    "ETHUSDT": "usdm_ETHUSDT_1m_20240808T2354-20240809T0005.csv",
}
USDM: Sections = {
    "binance": {"market": "usdm"},
    "repair": {"enabled": "yes", "weight_share": "100"},
    "audit": {"enabled": "no"},
}
KEY: Sections = {"binance": {"api_key": "aKeyOfNobody2024"}}
SELDOM: Sections = {"proof": {"every": "1h"}}
"""No word of the exchange, which is ahead of who reads a flood: that would look like a dead stream,
and until it is asked for again the flood passes by."""
PLENTY = 1_000_000


@pytest.fixture
def exchange() -> Iterator[ExchangeSimulator]:
    """Run USD-M futures, with a weight that is no obstacle to anybody who reads rateLimits."""
    with ExchangeSimulator(market="usdm", weight_limit=PLENTY) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """Return the trades of both symbols as they were received, and one of each after midnight."""
    names = (f"usdm_20240808/usdm_{symbol.lower()}_20240808.trades.gz" for symbol in SYMBOLS)
    session = list(read_recording(*map(recorded, names)))
    newest = {trade.symbol: trade for trade in map(trade_of, session)}
    made = [
        each._replace(trade_id=each.trade_id + 1, time_ms=MIDNIGHT, event_time_ms=MIDNIGHT)
        for each in newest.values()
    ]
    return session + [(session[-1][0], combined_payload(trade, "usdm")) for trade in made]


class Player:
    """Plays a recording part by part: what is lost happens, and is not sent."""

    def __init__(self, exchange: ExchangeSimulator, frames: list[Frame]) -> None:
        self.exchange = exchange
        self.frames = frames
        self.played = 0

    def play(self, count: int = 2**62) -> None:
        self.exchange.play(self._next(count))
        self._set_clock_limit()

    def lose(self, count: int) -> None:
        self.exchange.add_trades(map(trade_of, self._next(count)))
        self._set_clock_limit()

    def lose_some(self, count: int, rng: random.Random) -> None:
        part = self._next(count)
        self.exchange.add_trades(map(trade_of, part))
        self.exchange.play([frame for frame in part if rng.random() < 0.9])
        self._set_clock_limit()

    def _set_clock_limit(self) -> None:
        """Have the exchange's clock stand still while the market pauses, until all is played."""
        left = self.frames[self.played : self.played + 1]
        self.exchange.rest.next_trade_ms = trade_of(left[0]).time_ms if left else None

    def _next(self, count: int) -> list[Frame]:
        part = self.frames[self.played : self.played + count]
        self.played += len(part)
        return part


@pytest.fixture
def player(exchange: ExchangeSimulator, frames: list[Frame]) -> Player:
    """Return the recording, of which nothing has happened yet."""
    return Player(exchange, frames)


def listening(collector: Collector, exchange: ExchangeSimulator) -> None:
    """Start the collector and wait until it listens."""
    before = newest_connection(exchange)
    collector.start()
    wait_for_subscription_after(exchange, before)


def wait_until_whole(collector: Collector) -> None:
    """Wait until all full minutes of both symbols are proven."""

    def is_whole() -> bool:
        found = [collector.journal.coverage(symbol) for symbol in SYMBOLS]
        return all(each is not None and has(each.coverage.spans, WHOLE) for each in found)

    collector.wait_until(is_whole, lambda: f"not whole; gaps: {missing(collector)}")


def verified(collector: Collector, folder: Path, *arguments: str) -> dict[str, Any]:
    """Return what verify says of the full minutes by the recorded klines of the exchange."""
    files = []
    for symbol, name in KLINES.items():
        lines = recorded(f"usdm_20240808/{name}").read_text(encoding="utf-8").splitlines()
        rows = [line for line in lines if int(line.split(",")[0]) < MIDNIGHT]
        path = folder / f"{symbol}-1m-2024-08-08.csv"
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
        files += ["--klines", str(path)]
    done = collector.command("verify", "--json", *SPAN, *files, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def assert_equal_in_every_full_minute(collector: Collector, folder: Path) -> None:
    said = verified(collector, folder)
    found = [
        (each["symbol"], each["equal_seconds"], each["different_seconds"])
        for each in said["symbols"]
    ]
    assert found == [(symbol, 300, 0) for symbol in SYMBOLS], said


def assert_stored(database: Database[dict[str, Any]], frames: list[Frame]) -> None:
    expected = bars_of(trades_of(frames), "usdm")
    stored = documents(database)
    assert_same_bars(in_the_trades(stored), expected)
    for bar in stored:
        open_ms = round(bar["open_time"].timestamp() * 1000)
        if WHOLE[0] <= open_ms < WHOLE[1]:
            assert bar["is_complete"], bar


def test_a_session_played_whole_is_the_exchange_own_klines(
    player: Player,
    mongodb_database: Database[dict[str, Any]],
    mongodb_uri: str,
    tmp_path: Path,
) -> None:
    store = to_mongodb(mongodb_uri, mongodb_database.name)
    with Collector(tmp_path, player.exchange, store, USDM) as collector:
        listening(collector, player.exchange)
        player.play()
        wait_until_whole(collector)
        assert_equal_in_every_full_minute(collector, tmp_path)
        assert collector.stop() == 0

    assert_stored(mongodb_database, player.frames)


def test_lost_frames_reconnects_and_stalls_leave_no_trace_where_there_is_a_key(
    player: Player,
    mongodb_database: Database[dict[str, Any]],
    mongodb_uri: str,
    tmp_path: Path,
) -> None:
    exchange, rng = player.exchange, random.Random(9)
    store = to_mongodb(mongodb_uri, mongodb_database.name)
    with Collector(tmp_path, exchange, store, USDM, KEY) as collector:
        player.lose(50)  # before anybody listens
        listening(collector, exchange)
        player.play(5_000)
        player.lose(3_000)
        player.play(1_000)
        player.lose_some(600, rng)
        before = newest_connection(exchange)
        exchange.cut_all()
        player.lose(400)
        wait_for_subscription_after(exchange, before)
        player.play(3_000)
        exchange.stall()
        player.play(400)
        exchange.resume()
        player.lose(2_000)
        player.play()
        wait_until_whole(collector)
        assert_equal_in_every_full_minute(collector, tmp_path)
        collector.wait_until(lambda: not missing(collector), lambda: f"{missing(collector)}")
        assert collector.stop() == 0

    assert_stored(mongodb_database, player.frames)
    keys = {
        request.headers.get("X-MBX-APIKEY")
        for request in exchange.rest_requests
        if request.path.endswith("/historicalTrades")
    }
    assert keys == {"aKeyOfNobody2024"}
    assert "aKeyOfNobody2024" not in collector.log


def test_without_a_key_short_holes_are_filled_from_the_newest_trades_exactly(
    player: Player,
    mongodb_database: Database[dict[str, Any]],
    mongodb_uri: str,
    tmp_path: Path,
) -> None:
    store = to_mongodb(mongodb_uri, mongodb_database.name)
    with Collector(tmp_path, player.exchange, store, USDM, SELDOM) as collector:
        listening(collector, player.exchange)
        player.play(9_000)
        player.lose(400)
        player.play(600)  # of both symbols, so that no stream is thought dead
        collector.wait_until(
            lambda: collector.trade_count() == player.played and not missing(collector),
            lambda: f"{collector.trade_count()} of {player.played}, {missing(collector)}",
        )
        player.play()
        wait_until_whole(collector)
        assert_equal_in_every_full_minute(collector, tmp_path)
        assert collector.stop() == 0

    assert_stored(mongodb_database, player.frames)
    asked = {request.path for request in player.exchange.rest_requests}
    assert "/fapi/v1/trades" in asked
    assert "/fapi/v1/historicalTrades" not in asked
