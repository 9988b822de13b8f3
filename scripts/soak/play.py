"""The soak itself: the exchange plays, the collector and the database run, accidents happen."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pymongo

from bintrades.errors import JournalError
from bintrades.journal.reader import JournalReader
from bintrades.util.durations import format_duration
from scripts.soak.market import DAY_MS, Sums
from scripts.soak.report import Event
from scripts.soak.sampling import Sampler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from decimal import Decimal
    from pathlib import Path

    from bintrades.testing.exchange_simulator import ExchangeSimulator
    from bintrades.testing.mongod import Mongod
    from scripts.soak.market import Market

BATCH = 200
INTERVAL_MS = 10_000
LOST_TRADES = 20
SUBSCRIBED_WITHIN_S = 120.0
SETTLE_S = 900.0
_REPAIRED_WITHIN_S = 180.0
LOSSES = ("cut", "reset", "close")
"""How connections end; a few trades happen before there is a new one."""

RESTARTS = ((0.21, "stop"), (0.38, "kill"), (0.61, "stop"), (0.71, "kill"))
OUTAGES = ((0.29, "outage"), (0.54, "outage"), (0.79, "outage"))
"""Of the collector and of the database: when, as a part of the whole, and what is done."""

CONFIGURATION = """\
[binance]
stream_url = {stream_url}
rest_url = {rest_url}
streams_per_connection = 200
[symbols]
include = {symbols}
[repair]
max_age = {max_age}
weight_share = 100
[http]
listen =
[journal]
path = soak.journal
retention = {retention}
[stores]
enabled = mongodb
[store:mongodb]
uri = {mongodb}
database = soak
[logging]
file = soak.log
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long the market plays *days*, and what goes wrong on the way."""

    duration_s: float
    days: float

    @property
    def accidents(self) -> list[tuple[float, str]]:
        """Every accident in order: seconds since the beginning, and what is done."""
        losses = [((n + 0.5) / 12, LOSSES[n % len(LOSSES)]) for n in range(12)]
        return sorted((self.duration_s * at, name) for at, name in [*losses, *RESTARTS, *OUTAGES])

    @property
    def retention_ms(self) -> int:
        """How long bars stay, on the market's clock: 3 days, as by default.

        Less in a short run, so that for most of it as many bars leave as come; but minutes of this
        machine, in which whatever was lost is repaired.
        """
        least = _REPAIRED_WITHIN_S / self.duration_s
        return int(min(3.0, max(0.2, least) * self.days) * DAY_MS)

    @property
    def outage_s(self) -> float:
        """How long the database stays away."""
        return self.duration_s / 90


class Soak:
    """One run: the exchange and the market are here, the collector and the database processes."""

    def __init__(
        self, market: Market, plan: Plan, exchange: ExchangeSimulator, mongod: Mongod, folder: Path
    ) -> None:
        self.events: list[Event] = []
        self._market = market
        self._plan = plan
        self._exchange = exchange
        self._mongod = mongod
        self._config = folder / "soak.ini"
        self._journal = folder / "soak.journal"
        self._config.write_text(
            CONFIGURATION.format(
                stream_url=exchange.stream_url,
                rest_url=exchange.rest_url,
                symbols=" ".join(market.symbols),
                mongodb=mongod.uri,
                retention=format_duration(plan.retention_ms),
                max_age=format_duration(plan.retention_ms * 2 // 3),
            ),
            encoding="utf-8",
        )
        self._client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(
            mongod.uri, serverSelectionTimeoutMS=1_000
        )
        self._collector: subprocess.Popen[bytes] | None = None
        self.sampler = Sampler(
            self._journal, folder / "soak.log", lambda: market.made, self._stored_bars
        )

    def play(self, sample_every_s: float) -> None:
        """Play the whole market; returns when the collector has ended in good order."""
        self._start_collector()
        began, sample_at = time.monotonic(), 0.0
        accidents = iter(self._plan.accidents)
        accident = next(accidents, None)
        while self._market.made < self._market.trades:
            now_s = time.monotonic() - began
            if accident is not None and now_s >= accident[0]:
                self._do(accident[1])
                accident = next(accidents, None)
            if now_s >= sample_at:
                sample_at = now_s + sample_every_s
                self._sample()
            due = min(1.0, now_s / self._plan.duration_s) * self._market.trades
            if self._market.made < due and self._is_subscribed():
                self._exchange.publish_trades(self._market.next_trades(BATCH))
            else:
                time.sleep(0.005)
        _wait(self._is_subscribed, SUBSCRIBED_WITHIN_S)
        self._exchange.publish_trades(self._market.closing_trades())
        self._settle()
        self._stop_collector()

    def wrong_sums(self) -> Iterator[str]:
        """Yield what the store has of each symbol where that is not exactly what was traded."""
        found = {
            row["_id"]: Sums(
                row["trades"], row["buys"], _units(row["quantity"], 8), _units(row["value"], 16)
            )
            for row in self._bars().aggregate(
                [
                    {
                        "$group": {
                            "_id": "$symbol",
                            "trades": {"$sum": "$trade_count"},
                            "buys": {"$sum": "$buy_count"},
                            "quantity": {"$sum": "$quantity"},
                            "value": {"$sum": "$value"},
                        }
                    }
                ]
            )
        }
        for symbol, sums in self._market.sums.items():
            if found.get(symbol, Sums()) != sums:
                yield f"{symbol}: traded {sums}, but the store has {found.get(symbol)}"

    def bars(self) -> int:
        """Return how many bars the store has."""
        return self._bars().count_documents({})

    def incomplete_bars(self) -> int:
        """Return how many closed bars in the store lack trades, as far as the collector knows.

        The last one of each symbol is open when it stops, and so it is not complete.
        """
        return self._bars().count_documents({"is_closed": True, "is_complete": False})

    def end(self) -> None:
        """Leave nothing behind."""
        if self._collector is not None and self._collector.poll() is None:
            self._collector.kill()
            self._collector.wait()
        self._client.close()

    def _bars(self) -> pymongo.collection.Collection[dict[str, Any]]:
        return self._client.soak.bars

    def _stored_bars(self) -> int:
        try:
            return self._bars().estimated_document_count()
        except pymongo.errors.PyMongoError:
            return 0  # it is down; the sampler keeps what it had

    def _sample(self) -> None:
        assert self._collector is not None
        if self._collector.poll() is not None:
            raise RuntimeError(f"the collector has ended with status {self._collector.returncode}")
        self.sampler.sample(self._collector.pid)

    def _is_subscribed(self) -> bool:
        streams = sum(len(client.streams) for client in self._exchange.connections)
        return streams >= len(self._market.symbols)

    def _do(self, name: str) -> None:
        """Let an accident happen: it, and the catching up after it, are no part of the figures."""
        since_s = self.sampler.now_s
        print(f"{since_s / 60:7.1f} min  {name}", file=sys.stderr, flush=True)
        shows_s = self._plan.outage_s
        match name:
            case "stop":
                self._stop_collector()
                self._lose()
                self._start_collector()
            case "kill":
                assert self._collector is not None
                self._collector.kill()
                self._collector.wait()
                self._lose()
                self._start_collector()
            case "outage":
                self._mongod.kill()
                self._play_on(self._plan.outage_s)
                self._mongod.start()
                shows_s *= 3
            case "close":
                self._exchange.close_all(1008, "Pong timeout")
                self._lose()
            case _:
                getattr(self._exchange, f"{name}_all")()
                self._lose()
        self.events.append(Event(name, since_s, self.sampler.now_s + shows_s))

    def _play_on(self, seconds: float) -> None:
        """Let the market go on at its usual pace while the database is down."""
        per_s = self._market.trades / self._plan.duration_s
        until, began, begun = time.monotonic() + seconds, time.monotonic(), self._market.made
        while time.monotonic() < until and self._market.made < self._market.trades:
            if self._market.made - begun < (time.monotonic() - began) * per_s:
                self._exchange.publish_trades(self._market.next_trades(BATCH))
            else:
                time.sleep(0.005)

    def _lose(self) -> None:
        """Trade while nobody is connected: REST has it."""
        self._exchange.add_trades(self._market.next_trades(LOST_TRADES))

    def _start_collector(self) -> None:
        self._collector = subprocess.Popen(
            [sys.executable, "-P", "-m", "bintrades", "run", "--config", str(self._config)]
        )
        if not _wait(self._is_subscribed, SUBSCRIBED_WITHIN_S):
            raise RuntimeError("the collector does not subscribe")

    def _stop_collector(self) -> None:
        assert self._collector is not None
        self._collector.send_signal(signal.SIGTERM)
        status = self._collector.wait(120)
        if status:
            raise RuntimeError(f"the collector has ended with status {status}")

    def _settle(self) -> None:
        """Wait until nothing is missing and nothing waits, and say so if that does not come.

        Until the last trade of each symbol is there, nobody knows what is missing before it.
        """
        reader = JournalReader(self._journal)

        def has_closing_trade(symbol: str) -> bool:
            newest_ms = reader.newest_open_time_ms(symbol)
            return newest_ms is not None and self._market.time_ms < newest_ms + INTERVAL_MS

        def is_settled() -> bool:
            try:
                return (
                    all(map(has_closing_trade, self._market.symbols))
                    and not reader.gaps()
                    and not reader.store("mongodb").waiting_bars
                )
            except JournalError:
                return False

        if not _wait(is_settled, SETTLE_S):
            print(f"gaps that are still open: {reader.gaps()}"[:2_000], file=sys.stderr)


def _wait(until: Callable[[], bool], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while not until():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.25)
    return True


def _units(number: Any, places: int) -> int:
    exact: Decimal = number.to_decimal().scaleb(places)
    if exact != exact.to_integral_value():
        raise ValueError(f"{number} has more than {places} places")
    return int(exact)
