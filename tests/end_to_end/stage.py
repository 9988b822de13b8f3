"""The recorded market on a stage: parts of it reach the wire, others only happen."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bintrades.testing.simulated_market import SimulatedTrade
from tests.end_to_end.collector import PATIENCE_S, Collector, to_mongodb
from tests.end_to_end.market import BAR_COUNT, assert_same_bars, documents, in_the_trades

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Mapping

    from pymongo.database import Database

    from bintrades.model import Gap
    from bintrades.testing.exchange_simulator import ExchangeSimulator
    from bintrades.testing.rest_server import RestRequest
    from tests.end_to_end.collector import Sections
    from tests.end_to_end.market import Fields, Frame, Key

MARKET_S = 660
"""How long the recorded market took."""
MACHINE = Path(__file__).parent / "machine"
STREAMS = ("btcusdt@trade", "ethusdt@trade")
FIRST_PART = 150
"""Trades that happened before anybody listened: within the first interval of either symbol."""


class Stage:
    """Plays the recording part by part, and knows what must be in MongoDB in the end.

    *frames* are what was recorded and *bars* what it makes. The first trades happen before any
    collector listens, in the interval that is then open.
    """

    def __init__(
        self,
        frames: list[Frame],
        bars: dict[Key, Fields],
        exchange: ExchangeSimulator,
        database: Database[dict[str, Any]],
        uri: str,
        folder: Path,
    ) -> None:
        self.frames = frames
        self.bars = bars
        self.exchange = exchange
        self.played = 0
        self._database = database
        self._uri = uri
        self._folder = folder
        self.lose(FIRST_PART)

    def collector(
        self,
        *sections: Sections,
        name: str = "collector",
        environ: Mapping[str, str] | None = None,
    ) -> Collector:
        """Return a collector that repairs and stores into MongoDB, not started yet.

        *environ* may have what machine/sitecustomize.py understands.
        """
        folder = self._folder / name
        folder.mkdir()
        repairing: Sections = {"repair": {"enabled": "yes"}}
        store = to_mongodb(self._uri, self._database.name)
        return Collector(
            folder, self.exchange, store, repairing, *sections, environ=machine(environ)
        )

    def start(self, collector: Collector) -> None:
        """Start the collector and wait until it listens, not one before it that was killed."""
        before = newest_connection(self.exchange)
        collector.start()
        wait_for_subscription_after(self.exchange, before)

    def send(self, count: int, *, speed: float | None = None) -> None:
        """Have the next trades happen and sent."""
        self.exchange.play(self._next(count), speed)
        self._set_clock_limit()

    def send_rest(self, *, speed: float | None = None) -> None:
        """Have all remaining trades happen and sent."""
        self.send(len(self.frames) - self.played, speed=speed)

    def send_some(self, count: int, *, share: float, rng: random.Random) -> None:
        """Have the next trades happen and about so large a share of them sent."""
        part = self._next(count)
        sent = [frame for frame in part if rng.random() < share]
        self.exchange.add_trades(map(trade_of, part))
        self.exchange.play(sent)
        self._set_clock_limit()

    def lose(self, count: int) -> None:
        """Have the next trades happen but not sent."""
        self.exchange.add_trades(map(trade_of, self._next(count)))
        self._set_clock_limit()

    def wait_until_seen(self, collector: Collector) -> None:
        """Wait until the newest trade of each symbol is in the journal."""
        newest = {
            trade.symbol: trade.trade_id for trade in map(trade_of, self.frames[: self.played])
        }

        def seen() -> dict[str, int]:
            return {symbol: bar.last_trade_id for (symbol, _), bar in collector.bars().items()}

        collector.wait_until(lambda: seen() == newest, lambda: f"{seen()} instead of {newest}")

    def wait_until_whole(self, collector: Collector, timeout_s: float = PATIENCE_S) -> None:
        """Wait until the collector has every trade so far, and knows it."""
        collector.wait_until(
            lambda: not missing(collector) and collector.trade_count() == self.played,
            lambda: f"{collector.trade_count()} of {self.played} trades, gaps {missing(collector)}",
            timeout_s,
        )

    def assert_stored(self) -> None:
        """Assert that all bars stand in MongoDB, once each, exact; and complete, but for the last.

        Of the last one of each symbol nothing proves that no trade follows while it is open, and
        the exchange has its word some seconds after its end.
        """
        assert self.played == len(self.frames)
        stored = documents(self._database)
        assert len(stored) == BAR_COUNT
        assert_same_bars(in_the_trades(stored), self.bars)
        last = {bar["symbol"]: bar["open_time"] for bar in stored}
        for bar in stored:
            is_last = bar["open_time"] == last[bar["symbol"]]
            assert (bar["is_closed"] and bar["is_complete"]) or is_last, bar
            assert bar["is_closed"] or not bar["is_complete"], bar

    def _set_clock_limit(self) -> None:
        """Have the exchange's clock stand still while the market pauses, until all is played."""
        left = self.frames[self.played : self.played + 1]
        self.exchange.rest.next_trade_ms = trade_of(left[0]).time_ms if left else None

    def _next(self, count: int) -> list[Frame]:
        part = self.frames[self.played : self.played + count]
        self.played += len(part)
        return part


def machine(environ: Mapping[str, str] | None) -> dict[str, str]:
    """Return *environ* with what makes a process heed it, see machine/sitecustomize.py."""
    path = f"{MACHINE}:{Path(__file__).resolve().parents[2]}"
    return {"PYTHONPATH": path, **environ} if environ else {}


@contextmanager
def market_going_on(stage: Stage, seconds: float, count: int | None = None) -> Iterator[None]:
    """Play the next *count* trades, or what is left, and have them all played at the end.

    The whole market would take so many *seconds*. Some trades are kept for when everything is up:
    the last ones must reach somebody.
    """
    player = threading.Thread(
        target=stage.send,
        args=(len(stage.frames) - stage.played - 300 if count is None else count,),
        kwargs={"speed": MARKET_S / seconds},
    )
    player.start()
    try:
        yield
    finally:
        player.join(PATIENCE_S)
    assert not player.is_alive()


def let_pass(seconds: float, *collectors: Collector) -> None:
    """Let time go by: what happens at what moment is the point here."""
    until = time.monotonic() + seconds
    for collector in collectors:
        collector.wait_until(lambda: time.monotonic() > until, lambda: "time stands still")


def trade_of(frame: Frame) -> SimulatedTrade:
    """Return the trade in a recorded frame."""
    event = json.loads(frame[1])["data"]
    return SimulatedTrade(
        event["s"], event["t"], event["p"], event["q"], event["T"], event["E"], event["m"]
    )


def missing(collector: Collector) -> list[Gap]:
    """Return every gap in the journal."""
    return [gap for gaps in collector.journal.gaps().values() for gap in gaps]


def trade_requests(exchange: ExchangeSimulator) -> list[RestRequest]:
    """Return the requests for trades so far."""
    return [request for request in exchange.rest_requests if request.path.endswith("Trades")]


def wait_for_subscriptions(exchange: ExchangeSimulator, count: int) -> None:
    """Wait until so many connections are subscribed to everything."""
    exchange.wait_until(
        lambda: sum({*STREAMS} <= {*each.streams} for each in exchange.connections) == count,
        timeout_s=120,
    )


def newest_connection(exchange: ExchangeSimulator) -> int:
    """Return the number of the youngest open connection, -1 without any."""
    return max((connection.number for connection in exchange.connections), default=-1)


def wait_for_subscription_after(exchange: ExchangeSimulator, number: int) -> None:
    """Wait until a connection younger than that one is subscribed to everything."""
    exchange.wait_until(
        lambda: any(
            each.number > number and {*STREAMS} <= {*each.streams} for each in exchange.connections
        ),
        timeout_s=120,
    )
