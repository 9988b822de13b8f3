"""An exchange's own sums and trades, in memory: a Reference of trades, with faults to order."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from bintrades.errors import ExchangeError, NotToldError
from bintrades.model import Trade
from bintrades.testing.recordings import read_recording
from tests.klines import MINUTE_MS, SECOND_MS, klines_of, ranges_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from bintrades.model import Kline, TradeRange

KLINES_WEIGHT = 2


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


@dataclass
class TradesReference:
    """Answers as an exchange that has exactly *trades*, but for what a test has it do wrong."""

    trades: Iterable[Trade]
    now_ms: int = 2**62
    """All klines before then can be had."""

    kline_intervals_ms: tuple[int, ...] = (MINUTE_MS, SECOND_MS)
    trades_weight: int = 25
    page: int = 1_000
    pages_of_trades: int = 1
    """Requests that it takes to have the trades of any span."""

    is_not_told: bool = False
    """Whether its trades are told to nobody who asks."""

    error: str | None = None
    """What every request is refused with."""

    errors: deque[str | None] = field(default_factory=deque)
    """What the next requests are refused with; None: that one is answered."""

    on_request: Callable[[], None] = lambda: None
    revise: Callable[[Kline], Kline | None] = lambda kline: kline
    """What it says instead of a kline; None: it leaves it out."""

    asked: list[tuple[str, int, int, int]] = field(default_factory=list)
    """Symbol, length, since and until of each request for klines; length 0 for trades."""

    def __post_init__(self) -> None:
        """Tell the trades of one symbol from those of another."""
        self.replace_trades(self.trades)

    def replace_trades(self, trades: Iterable[Trade]) -> None:
        """Have the exchange have these from now on, and no others."""
        self._of_symbol: dict[str, list[Trade]] = {}
        for trade in trades:
            self._of_symbol.setdefault(trade.symbol, []).append(trade)

    def klines(
        self, symbol: str, interval_ms: int, since_ms: int, until_ms: int
    ) -> Sequence[Kline]:
        """Return the first klines of that time that there are by now, up to a page of them."""
        self.asked.append((symbol, interval_ms, since_ms, until_ms))
        self._answer_or_fail()
        since_ms += -since_ms % interval_ms
        until_ms = min(until_ms, self.now_ms, since_ms + self.page * interval_ms)
        trades = [each for each in self._of_symbol.get(symbol, []) if since_ms <= each.time]
        said = map(self.revise, klines_of(trades, interval_ms, since_ms, until_ms))
        return [kline for kline in said if kline is not None]

    def klines_weight(self, _interval_ms: int, _since_ms: int, _until_ms: int) -> int:
        """Return what a page of klines weighs."""
        return KLINES_WEIGHT

    def trades_between(
        self, symbol: str, since_ms: int, until_ms: int, may_ask: Callable[[int], bool]
    ) -> Sequence[TradeRange] | None:
        """Return the trades of that time, lowest id first."""
        if not all(may_ask(self.trades_weight) for _ in range(self.pages_of_trades)):
            return None
        self.asked.append((symbol, 0, since_ms, until_ms))
        if self.is_not_told:
            raise NotToldError("set api_key")
        self._answer_or_fail()
        return ranges_of(
            each for each in self._of_symbol.get(symbol, []) if since_ms <= each.time < until_ms
        )

    def _answer_or_fail(self) -> None:
        self.on_request()
        error = self.error or (self.errors.popleft() if self.errors else None)
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
