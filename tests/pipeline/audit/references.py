"""The exchange's own records, in memory: klines and trades of a list of trades."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bintrades.errors import ExchangeError
from tests.klines import klines_of, ranges_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bintrades.model import Kline, Trade, TradeRange


@dataclass
class MemoryReference:
    """Answers as an exchange that had exactly *trades*, but for what a test has it do wrong."""

    trades: Sequence[Trade]
    kline_intervals_ms: tuple[int, ...] = (60_000, 1_000)
    klines_weight: int = 2
    trades_weight: int = 25
    page: int = 1_000
    pages_of_trades: int = 1
    """Requests that it takes to have the trades of any span."""

    error: str | None = None
    """Instead of any answer."""

    on_request: Callable[[], None] = lambda: None
    revise: Callable[[Kline], Kline | None] = lambda kline: kline
    """What it says instead of a kline; None: it leaves it out."""

    asked: list[tuple[str, int, int, int]] = field(default_factory=list)
    """Symbol, length, since and until of each request for klines; length 0 for trades."""

    def klines(
        self, symbol: str, interval_ms: int, since_ms: int, until_ms: int
    ) -> Sequence[Kline]:
        """Return a page of klines."""
        self.asked.append((symbol, interval_ms, since_ms, until_ms))
        self._fail()
        trades = [trade for trade in self.trades if trade.symbol == symbol]
        until_ms = min(until_ms, since_ms + self.page * interval_ms)
        said = map(self.revise, klines_of(trades, interval_ms, since_ms, until_ms))
        return [kline for kline in said if kline is not None]

    def trades_between(
        self, symbol: str, since_ms: int, until_ms: int, may_ask: Callable[[int], bool]
    ) -> Sequence[TradeRange] | None:
        """Return the trades of a span."""
        if not all(may_ask(self.trades_weight) for _ in range(self.pages_of_trades)):
            return None
        self.asked.append((symbol, 0, since_ms, until_ms))
        self._fail()
        return ranges_of(
            trade
            for trade in self.trades
            if trade.symbol == symbol and since_ms <= trade.time < until_ms
        )

    def _fail(self) -> None:
        self.on_request()
        if self.error is not None:
            raise ExchangeError(self.error)
