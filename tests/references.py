"""An exchange's own sums and trades, in memory: a Reference of trades, with faults to order."""

from __future__ import annotations

from collections import deque
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from bintrades.errors import ExchangeError
from bintrades.model import Trade
from bintrades.testing.recordings import read_recording
from tests.klines import MINUTE_MS, SECOND_MS, klines_of, ranges_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from bintrades.model import Kline, TradeRange

PAGE = 1_000
KLINES_WEIGHT = 2
TRADES_WEIGHT = 25


class _TradeFrame(msgspec.Struct):
    symbol: str = msgspec.field(name="s")
    trade_id: int = msgspec.field(name="t")
    price: str = msgspec.field(name="p")
    quantity: str = msgspec.field(name="q")
    time: int = msgspec.field(name="T")
    event_time: int = msgspec.field(name="E")
    is_buyer_maker: bool = msgspec.field(name="m")


class _Frame(msgspec.Struct):
    data: _TradeFrame


def recorded_trades(paths: Iterable[Path]) -> list[Trade]:
    """Return the trades of recordings, in the order in which they came."""
    decoder = msgspec.json.Decoder(_Frame)
    frames = (decoder.decode(payload).data for _, payload in read_recording(*paths))
    return [
        Trade(
            frame.symbol,
            frame.trade_id,
            frame.time,
            frame.event_time,
            Decimal(frame.price),
            Decimal(frame.quantity),
            frame.is_buyer_maker,
        )
        for frame in frames
    ]


class TradesReference:
    """A Reference whose exchange has *trades*, all of them before *now_ms*."""

    def __init__(
        self,
        trades: Iterable[Trade],
        now_ms: int,
        kline_intervals_ms: tuple[int, ...] = (MINUTE_MS, SECOND_MS),
    ) -> None:
        self.kline_intervals_ms = kline_intervals_ms
        self.klines_weight = KLINES_WEIGHT
        self.trades_weight = TRADES_WEIGHT
        self.now_ms = now_ms
        self.asked: list[tuple[str, int, int, int]] = []
        """Each request for klines: symbol, length, since, until."""

        self.errors: deque[str | None] = deque()
        """What the next requests are refused with; None: that one is answered."""

        self.revise: Callable[[int, Kline], Kline | None] = lambda _count, kline: kline
        """What becomes of each kline, None: it is left out; *count* is that of the request."""

        self._trades: dict[str, list[Trade]] = {}
        for trade in trades:
            self._trades.setdefault(trade.symbol, []).append(trade)

    def klines(
        self, symbol: str, interval_ms: int, since_ms: int, until_ms: int
    ) -> Sequence[Kline]:
        """Return the first klines of that time that there are by now, up to a page of them."""
        self.asked.append((symbol, interval_ms, since_ms, until_ms))
        self._refuse()
        since_ms += -since_ms % interval_ms
        until_ms = min(until_ms, self.now_ms, since_ms + PAGE * interval_ms)
        trades = [each for each in self._trades.get(symbol, []) if since_ms <= each.time]
        klines = klines_of(trades, interval_ms, since_ms, until_ms)
        count = len(self.asked)
        revised = (self.revise(count, kline) for kline in klines)
        return [kline for kline in revised if kline is not None]

    def trades_between(
        self, symbol: str, since_ms: int, until_ms: int, may_ask: Callable[[int], bool]
    ) -> Sequence[TradeRange] | None:
        """Return the trades of that time, lowest id first."""
        if not may_ask(self.trades_weight):
            return None
        self._refuse()
        return ranges_of(
            each for each in self._trades.get(symbol, []) if since_ms <= each.time < until_ms
        )

    def _refuse(self) -> None:
        error = self.errors.popleft() if self.errors else None
        if error is not None:
            raise ExchangeError(error)


class FreeBudget:
    """A RateBudget without a limit, which counts what is spent; it may be blocked."""

    def __init__(self) -> None:
        self.last_error: str | None = None
        self.spent = 0
        self.blocked_until = 0

    def wait_ms(self, weight: int, now: int) -> int:
        """Spend *weight* and return 0, or return how long to wait."""
        if now < self.blocked_until:
            return self.blocked_until - now
        self.spent += weight
        return 0

    def blocked_for(self, now: int) -> int:
        """Return how long nothing may be asked."""
        return max(0, self.blocked_until - now)

    def banned_for(self, now: int) -> int:  # noqa: ARG002
        """Return 0: nobody is banned."""
        return 0
