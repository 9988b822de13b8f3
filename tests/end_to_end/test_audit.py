"""A collector that compares its bars with the exchange's klines while it collects.

It runs inside of the test, since no option makes the audit look within seconds.
"""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing, contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from bintrades.app.collector import Collector, Resources
from bintrades.app.figures import Process
from bintrades.config.loader import Config, ExchangeConfig, JournalConfig, StoresConfig
from bintrades.core.audit_schedule import AuditTimes
from bintrades.core.spans import has
from bintrades.exchange.registry import EXCHANGES
from bintrades.journal.reader import JournalReader
from bintrades.model import utc
from bintrades.stores.loader import load_stores
from tests.checkout import REPOSITORY
from tests.collectors import NeverAsked
from tests.journals import journal_at
from tests.networks import system_network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bintrades.core.spans import Span
    from bintrades.testing.exchange_simulator import ExchangeSimulator
    from tests.end_to_end.market import Fields, Frame, Key

BTC, ETH = "BTCUSDT", "ETHUSDT"
MINUTE = 60_000
MIDNIGHT = 1_723_161_600_000
FIRST, LAST = MIDNIGHT - 5 * MINUTE, MIDNIGHT + 4 * MINUTE
"""The recording has these minutes whole, the last of them with all that proves it."""

TIMES = AuditTimes(200, 0, 300, 50, postponed_ms=200, postponed_at_most_ms=1_000)
WAIT_S = 90.0


class Running:
    """A collector of which every worker runs, but for the audit until it is started."""

    def __init__(self, collector: Collector, path: Path, stored: Path) -> None:
        self.collector = collector
        self.reader = JournalReader(path)
        self._path = path
        self._stored = stored

    def wait_until(self, holds: Callable[[], bool]) -> None:
        """Wait for what other threads do."""
        deadline = time.monotonic() + WAIT_S
        while not holds():
            assert time.monotonic() < deadline, self.collector.figures()
            time.sleep(0.05)

    def start_audit(self) -> None:
        """Begin to compare."""
        assert self.collector.audit is not None
        self.collector.audit.start()

    def spoil(self, statement: str, symbol: str, open_time: int) -> None:
        """Have a bar of the journal in use be wrong, as no writer would make it."""
        with closing(sqlite3.connect(self._path, timeout=30)) as connection, connection:
            key = {"symbol": symbol, "open_time": open_time}
            where = "WHERE symbol = :symbol AND open_time = :open_time"
            assert connection.execute(f"{statement} {where}", key).rowcount == 1

    def verified(self, symbol: str) -> list[Span]:
        """Return what is verified."""
        return self.reader.verified(symbol)

    def in_store(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Return what the store has of each bar: the line of the highest rank."""
        whole, _, _ = self._stored.read_bytes().rpartition(b"\n")
        lines = [json.loads(line) for line in whole.splitlines()]
        ranked = sorted(
            lines, key=lambda each: (each["epoch"], each["trade_count"], each["is_complete"])
        )
        return {(each["symbol"], each["open_time"]): each for each in ranked}


@contextmanager
def running(exchange: ExchangeSimulator, folder: Path) -> Iterator[Running]:
    """Run a collector of both symbols that stores into a file."""
    path, stored = folder / "bars.journal", folder / "bars.jsonl"
    config = Config(
        path=folder / "bintrades.ini",
        folder=folder,
        exchange_options=ExchangeConfig(
            stream_url=exchange.stream_url, rest_url=exchange.rest_url, coalesce_ms=1
        ),
        journal=JournalConfig(path=path),
        stores=StoresConfig(enabled=("jsonl",)),
        store_options={"jsonl": {"path": str(stored)}},
    )
    opened = EXCHANGES["binance"].open(
        config.exchange_options, system_network(), weight_share=50, banned_for_ms=0
    )
    stores = load_stores(["jsonl"], REPOSITORY / "plugins")
    with closing(opened), journal_at(path) as journal:
        resources = Resources(journal, opened, stores, Process(), NeverAsked())
        collector = Collector(config, [BTC, ETH], resources, audit_times=TIMES)
        assert collector.backfill is not None
        assert collector.audit is not None
        workers = [*collector.deliveries, collector.ingest_thread, collector.backfill]
        for worker in workers:
            worker.start()
        collector.feed.start()
        try:
            yield Running(collector, path, stored)
        finally:
            collector.audit.stop()
            for worker in (*collector.sources, collector.ingest_thread):
                worker.stop()
                assert worker.join(WAIT_S)
            for delivery in collector.deliveries:
                delivery.finish(1.0)
                assert delivery.join(WAIT_S)


def test_bars_that_go_wrong_in_the_journal_are_found_rebuilt_and_delivered(
    exchange: ExchangeSimulator,
    recorded_frames: list[Frame],
    recorded_bars: dict[Key, Fields],
    tmp_path: Path,
) -> None:
    lose_trade = "UPDATE bars SET trade_count = trade_count - 1, last_trade_id = last_trade_id - 1"
    wrong = {
        (BTC, FIRST + 10_000): "UPDATE bars SET quantity = '0.5'",
        (BTC, MIDNIGHT): lose_trade,
        (BTC, MIDNIGHT + 30_000): "DELETE FROM bars",  # in the same minute
        (ETH, LAST - 10_000): "UPDATE bars SET max_price = '9999999'",
    }
    with running(exchange, tmp_path) as collector:
        exchange.wait_for_subscription("btcusdt@trade", "ethusdt@trade")
        exchange.play(recorded_frames)
        collector.wait_until(lambda: len(collector.in_store()) >= len(recorded_bars) - 2)
        for (symbol, open_time), statement in wrong.items():
            collector.spoil(statement, symbol, open_time)

        collector.start_audit()
        collector.wait_until(
            lambda: all(has(collector.verified(symbol), (FIRST, LAST)) for symbol in (BTC, ETH))
        )
        collector.wait_until(
            lambda: sum(each["epoch"] == 1 for each in collector.in_store().values()) == len(wrong)
        )
        figures = collector.collector.figures()["audit"]
        differences = collector.reader.differences()
        in_store = collector.in_store()

    assert {(each.symbol, each.open_time_ms) for each in differences} == wrong.keys()
    assert {each.outcome.value for each in differences} == {"repaired"}
    assert figures["error"] is None
    for symbol, open_time in wrong:
        bar, right = (
            in_store[symbol, utc(open_time).isoformat()],
            recorded_bars[symbol, utc(open_time)],
        )
        assert (bar["epoch"], bar["is_closed"], bar["is_complete"]) == (1, True, True)
        for name in ("trade_count", "first_trade_id", "last_trade_id"):
            assert bar[name] == right[name]
        for name in ("quantity", "value", "buy_value", "min_price", "max_price", "close_price"):
            assert Decimal(bar[name]) == right[name]
