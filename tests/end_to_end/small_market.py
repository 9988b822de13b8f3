"""Two symbols that trade evenly for some minutes: far less to play than a recorded market."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bintrades.testing.simulated_market import SimulatedTrade
from tests.end_to_end.stage import newest_connection, wait_for_subscription_after

if TYPE_CHECKING:
    from bintrades.core.spans import Span
    from bintrades.testing.exchange_simulator import ExchangeSimulator
    from tests.end_to_end.collector import Collector

SYMBOLS = ("BTCUSDT", "ETHUSDT")
MINUTE = 60_000
MINUTES = 16
TRADES_PER_MINUTE = 30


class SmallMarket:
    """Sixteen minutes of *exchange* from *since_ms* on, and one trade of each symbol behind them.

    Both symbols trade every two seconds.
    """

    def __init__(self, exchange: ExchangeSimulator, since_ms: int) -> None:
        self.exchange = exchange
        self.since_ms = since_ms
        self.end_ms = since_ms + MINUTES * MINUTE

    def minute(self, number: int) -> int:
        """Return when a minute begins, milliseconds."""
        return self.since_ms + number * MINUTE

    def trades_from(self, number: int) -> int:
        """Return how many trades each symbol has from the beginning of a minute on."""
        return (MINUTES - number) * TRADES_PER_MINUTE + 1

    def have_collected(self, collector: Collector) -> None:
        """Have all happen while a collector runs that has not been started, and stop it."""
        before = newest_connection(self.exchange)
        collector.start()
        wait_for_subscription_after(self.exchange, before)
        self.exchange.publish_trades(
            _trade(symbol, number, self.since_ms)
            for number in range(self.trades_from(0))
            for symbol in SYMBOLS
        )
        whole = [[(self.since_ms, self.end_ms)]] * len(SYMBOLS)
        collector.wait_until(
            lambda: _covered(collector) == whole,
            lambda: f"{_covered(collector)} instead of {whole}",
        )
        assert collector.stop() == 0


def _covered(collector: Collector) -> list[list[Span]]:
    found = [collector.journal.coverage(symbol) for symbol in SYMBOLS]
    return [[] if each is None else each.coverage.spans for each in found]


def _trade(symbol: str, number: int, since_ms: int) -> SimulatedTrade:
    time_ms = since_ms + number * MINUTE // TRADES_PER_MINUTE
    price, quantity = f"{2_000 + number % 7}.5", f"0.{1 + number % 5}"
    return SimulatedTrade(symbol, 1 + number, price, quantity, time_ms, time_ms, number % 3 == 0)
