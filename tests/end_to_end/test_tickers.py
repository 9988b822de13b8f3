"""The exchange's word on its newest trades is old, lacks a symbol, or is none: it proves nothing.

The exchange and the collector live in a time that goes faster than that of this machine.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from bintrades.testing.exchange_simulator import ExchangeSimulator
from tests.end_to_end.collector import Collector, to_mongodb
from tests.end_to_end.machine.sitecustomize import SPEED
from tests.end_to_end.market import documents
from tests.end_to_end.stage import (
    let_pass,
    machine,
    newest_connection,
    wait_for_subscription_after,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pymongo.database import Database

    from tests.end_to_end.market import Fields

BUSY, QUIET = "BTCUSDT", "ETHUSDT"
FASTER = 20
BASE = 1_795_737_600_000
LAG_MS = 4_000
"""How late its word may be, and is, while it is honest."""

SEEN_AFTER_S = 20.0
"""When a word is surely old enough for that to be seen, by what has traded since."""

SAVED_WITHIN_S = 65.0
"""When the journal surely has what was believed."""


class FastClock:
    """The exchange's clock."""

    def __init__(self) -> None:
        self._began_at = time.monotonic()

    def __call__(self) -> int:
        return BASE + int(1_000 * FASTER * (time.monotonic() - self._began_at))


@pytest.fixture
def exchange() -> Iterator[ExchangeSimulator]:
    with ExchangeSimulator([BUSY, QUIET], now_ms=FastClock()) as exchange:
        exchange.ticker_faults(lag_ms=LAG_MS)
        with trading(exchange):
            yield exchange


@contextmanager
def trading(exchange: ExchangeSimulator) -> Iterator[None]:
    """Have one symbol trade every second."""
    is_over = threading.Event()

    def trade() -> None:
        while not is_over.wait(1 / FASTER):
            exchange.publish(BUSY, "61837.63", "0.001")

    trader = threading.Thread(target=trade)
    trader.start()
    try:
        yield
    finally:
        is_over.set()
        trader.join()


@pytest.fixture
def collector(
    exchange: ExchangeSimulator,
    mongodb_uri: str,
    mongodb_database: Database[Fields],
    tmp_path: Path,
) -> Iterator[Collector]:
    """Return a collector that runs."""
    store = to_mongodb(mongodb_uri, mongodb_database.name)
    repairing = {"repair": {"enabled": "yes"}, "audit": {"enabled": "no"}}
    environ = machine({SPEED: str(FASTER)})
    with Collector(tmp_path, exchange, store, repairing, environ=environ) as collector:
        collector.start()
        wait_for_subscription_after(exchange, -1)
        yield collector
        assert collector.stop() == 0


def trade_quietly(exchange: ExchangeSimulator, count: int) -> None:
    """Have some trades of the other symbol happen now."""
    for _ in range(count):
        exchange.publish(QUIET, "2683.8", "0.5")


def wait_for_trades(collector: Collector, database: Database[Fields], count: int) -> None:
    """Wait until so many trades of the quiet symbol are stored, all of them in complete bars."""

    def has_them() -> bool:
        bars = documents(database, {"symbol": QUIET})
        is_proven = all(bar["is_closed"] and bar["is_complete"] for bar in bars)
        return is_proven and sum(bar["trade_count"] for bar in bars) == count

    collector.wait_until(has_them, lambda: str(documents(database, {"symbol": QUIET})))


def ask_in_vain(collector: Collector, exchange: ExchangeSimulator) -> None:
    """Wait until the exchange was asked for its newest trades, and its answer was heeded."""

    def answers() -> int:
        paths = (
            each.path for each in exchange.rest_requests if QUIET in each.query.get("symbols", "")
        )
        return sum(path.endswith("/ticker/24hr") for path in paths)

    before = answers()
    collector.wait_until(lambda: answers() >= before + 2, lambda: "the exchange is not asked")


def proven_ms(collector: Collector) -> int:
    """Return until when all trades of the quiet symbol are known, as the journal has it."""
    found = collector.journal.coverage(QUIET)
    assert found is not None
    return found.coverage.until_ms


def test_trades_of_a_quiet_symbol_that_happen_during_a_cut_are_found_by_an_honest_word_only(
    collector: Collector, exchange: ExchangeSimulator, mongodb_database: Database[Fields]
) -> None:
    trade_quietly(exchange, 2)
    wait_for_trades(collector, mongodb_database, 2)
    exchange.ticker_faults(is_stale=True)
    let_pass(SEEN_AFTER_S / FASTER, collector)
    number = newest_connection(exchange)
    exchange.refuse()
    exchange.cut_all()
    lost_at = exchange.rules.now_ms()
    trade_quietly(exchange, 3)
    exchange.accept()
    wait_for_subscription_after(exchange, number)

    def assert_nothing_is_concluded() -> None:
        ask_in_vain(collector, exchange)
        assert proven_ms(collector) <= lost_at
        assert not collector.journal.gaps().get(QUIET)

    let_pass(SAVED_WITHIN_S / FASTER, collector)
    assert_nothing_is_concluded()
    assert "lacks trades" in collector.status()["repair"]["proof_error"]
    exchange.ticker_faults(without=[QUIET])
    assert_nothing_is_concluded()
    exchange.rest_answer(503, {}, b"<html>oops</html>", times=3, path="/ticker/24hr")
    assert_nothing_is_concluded()

    exchange.ticker_faults(lag_ms=LAG_MS)
    wait_for_trades(collector, mongodb_database, 5)
    collector.wait_until(
        lambda: proven_ms(collector) > lost_at, lambda: "the lost trades are not covered"
    )
