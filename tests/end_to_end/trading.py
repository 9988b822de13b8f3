"""Symbols that trade all the time while a test does something else, and what bars that makes."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bintrades.testing.exchange_simulator import ExchangeSimulator
    from bintrades.testing.simulated_market import SimulatedTrade

SECOND = 1_000
"""The length of a bar, milliseconds."""


class Trading:
    """Symbols of *exchange* that trade all the time, now, on a thread of their own."""

    def __init__(self, exchange: ExchangeSimulator, *symbols: str) -> None:
        self.exchange = exchange
        self.symbols = dict.fromkeys(symbols)
        self.happened: dict[str, list[SimulatedTrade]] = {symbol: [] for symbol in symbols}
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._trade)

    def __enter__(self) -> Trading:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._is_over.set()
        self._thread.join()

    def begin(self, *symbols: str) -> None:
        """Have *symbols* trade as well, which need not be listed yet."""
        with self._lock:
            self.symbols |= dict.fromkeys(symbols)
            for symbol in symbols:
                self.happened.setdefault(symbol, [])

    def end(self, *symbols: str) -> None:
        """Have *symbols* trade no longer."""
        with self._lock:
            for symbol in symbols:
                self.symbols.pop(symbol, None)

    def _trade(self) -> None:
        number = 0
        while not self._is_over.wait(0.01):
            with self._lock:
                for symbol in self.symbols:
                    number += 1
                    price, quantity = f"{100 + number % 7}.5", f"0.{1 + number % 9}"
                    trade = self.exchange.publish(symbol, price, quantity)
                    self.happened[symbol].append(trade)


class Expected:
    """What the trades of a symbol make of each of its bars."""

    def __init__(self, trades: list[SimulatedTrade]) -> None:
        self.count, self.quantity = len(trades), Decimal(0)
        self.first = trades[0].trade_id
        self.last = trades[-1].trade_id
        for trade in trades:
            self.quantity += Decimal(trade.quantity)


def expected(trades: list[SimulatedTrade]) -> dict[int, Expected]:
    """Return the bars of a symbol, by open time."""
    parts: dict[int, list[SimulatedTrade]] = {}
    for trade in trades:
        parts.setdefault(trade.time_ms - trade.time_ms % SECOND, []).append(trade)
    return {open_time: Expected(part) for open_time, part in parts.items()}
