"""The market that the soak plays: seeded trades of many symbols, and the exact sums of each."""

from __future__ import annotations

import random
from bisect import bisect
from dataclasses import dataclass
from itertools import accumulate

from bintrades.testing.simulated_market import SimulatedTrade

START_MS = 1_767_225_600_000
"""2026-01-01 00:00 UTC: where the market's time begins, whatever the clock of this machine says."""

DAY_MS = 86_400_000
_STEEPNESS = 1.5  # of the symbols' shares: the first has a third of all trades, the last 0.005 %


@dataclass(slots=True)
class Sums:
    """Exact sums over the trades of one symbol: quantity in units of 1e-8, value of 1e-16."""

    trades: int = 0
    buys: int = 0
    quantity: int = 0
    value: int = 0


class Market:
    """Trades in the order in which they happen, spread evenly over *days*; ids begin at 1.

    Few symbols trade most, as in real markets: symbol number n has a share in proportion to
    n ** -1.5. The same arguments give the same trades.
    """

    def __init__(self, symbols: int, trades: int, days: float, seed: int) -> None:
        self.symbols = [f"C{number:03d}USDT" for number in range(symbols)]
        self.trades = trades
        self.made = 0
        self.sums = {symbol: Sums() for symbol in self.symbols}
        self._span_ms = int(days * DAY_MS)
        self._random = random.Random(seed)
        self._shares = list(accumulate((n + 1) ** -_STEEPNESS for n in range(symbols)))
        self._prices = [self._random.randrange(10_000, 7_000_000) for _ in range(symbols)]

    @property
    def time_ms(self) -> int:
        """When the next trade happens, on the market's own clock."""
        return START_MS + self.made * self._span_ms // self.trades

    def next_trades(self, count: int) -> list[SimulatedTrade]:
        """Return the next *count* trades, fewer at the end of the days."""
        count = min(count, self.trades - self.made)
        total, chance = self._shares[-1], self._random.random
        trades = []
        for _ in range(count):
            trades.append(self._trade(bisect(self._shares, chance() * total)))
            self.made += 1
        return trades

    def closing_trades(self) -> list[SimulatedTrade]:
        """Return one more trade of each symbol: it shows whether one before it was lost."""
        return [self._trade(index) for index in range(len(self.symbols))]

    def _trade(self, index: int) -> SimulatedTrade:
        chance = self._random.random
        symbol = self.symbols[index]
        price = self._prices[index] = max(1, self._prices[index] + int(chance() * 11) - 5)
        quantity = 1 + int(chance() * 500_000)
        is_sell = chance() < 0.5
        sums = self.sums[symbol]
        sums.trades += 1
        sums.buys += not is_sell
        sums.quantity += quantity * 1_000
        sums.value += price * 1_000_000 * quantity * 1_000
        time_ms = self.time_ms
        return SimulatedTrade(
            symbol,
            sums.trades,
            f"{price // 100}.{price % 100:02d}000000",
            f"{quantity // 100_000}.{quantity % 100_000:05d}000",
            time_ms,
            time_ms + 1,
            is_sell,
        )
