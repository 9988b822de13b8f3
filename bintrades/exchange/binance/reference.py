"""The exchange's own sums and records, to check bars by (docs: "Kline/Candlestick data")."""

from __future__ import annotations

from decimal import Decimal, DecimalException
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

import msgspec

from bintrades.core.gap_ranges import DISORDER_MS
from bintrades.core.newest_ids import NEWEST_WITHIN_MS
from bintrades.core.proof import LAG_MS
from bintrades.exchange.binance.asking import ask
from bintrades.exchange.binance.messages import Time, milliseconds
from bintrades.exchange.binance.newest_trades import NewestTrades
from bintrades.exchange.binance.numbers import PlainNumber  # noqa: TC001 - msgspec reads it
from bintrades.exchange.binance.past_trades import PastTrades
from bintrades.exchange.binance.rest import RestError
from bintrades.model import Kline

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bintrades.exchange.binance.backfill_plan import Aggregate
    from bintrades.exchange.binance.budget import Budget
    from bintrades.exchange.binance.market import Klines
    from bintrades.exchange.binance.rest import RestClient
    from bintrades.model import TradeRange

T = TypeVar("T")

_DAY_MS = NEWEST_WITHIN_MS - 60_000  # less what the exchange's clocks may differ by


class _KlineRow(msgspec.Struct, array_like=True):
    """More values may follow."""

    open_time: Time
    open_price: PlainNumber
    max_price: PlainNumber
    min_price: PlainNumber
    close_price: PlainNumber
    quantity: PlainNumber
    close_time: Time
    value: PlainNumber
    trade_count: int
    buy_quantity: PlainNumber
    buy_value: PlainNumber


class Reference:
    """A Reference, see exchange.port. Calls come from one thread; all may raise RestError.

    Trades are had as aggregates, which tell all of them where ids are dense.
    """

    def __init__(
        self, rest: RestClient, klines: Klines, budget: Budget, now: Callable[[], int]
    ) -> None:
        self._rest = rest
        self._klines = klines
        self._budget = budget
        self._now = now
        self._past_trades = PastTrades(rest, rest.market)
        self._newest_trades = NewestTrades(rest, rest.market, now)
        self.kline_intervals_ms = tuple(klines.names)
        self._aggregates_weight = rest.market.aggregate_trades.weight

    def klines_weight(self, interval_ms: int, since_ms: int, until_ms: int) -> int:
        """Return what klines() of such a span weighs."""
        return self._klines.weight(_rows(interval_ms, since_ms, until_ms))

    def klines(
        self, symbol: str, interval_ms: int, since_ms: int, until_ms: int
    ) -> Sequence[Kline]:
        """Return a page of klines, also those of the last moments: they may yet change."""
        params: dict[str, str | int] = {
            "symbol": symbol,
            "interval": self._klines.names[interval_ms],
            "startTime": since_ms,
            "endTime": until_ms - 1,
            "limit": self._klines.limit(_rows(interval_ms, since_ms, until_ms)),
        }
        rows = self._ask(lambda: self._rest.get(self._klines.endpoint, params, list[_KlineRow]))
        klines = [_kline(symbol, row, interval_ms) for row in rows]
        times = [since_ms - 1, *(kline.open_time_ms for kline in klines), until_ms]
        if any(later <= earlier for earlier, later in pairwise(times)):
            raise RestError(f"{symbol}: the answer has klines out of order, or of another time")
        return klines

    def trades_between(
        self, symbol: str, since_ms: int, until_ms: int, may_ask: Callable[[int], bool]
    ) -> Sequence[TradeRange] | None:
        """Return every trade of a span, from the aggregate before it to one after it.

        The time of a trade may be a little earlier than that of a lower id: those around the span
        are looked at as well. Aggregates are numbered without holes, so one that is left out
        shows; that none is left out at the end takes a later one or the exchange's newest id.
        """
        start = since_ms - DISORDER_MS
        first = self._page(symbol, may_ask, start_ms=start)
        if first is None:
            return None
        if not first:  # also what is answered where the records lag
            return self._none_since(symbol, start, until_ms, may_ask)
        found: list[TradeRange] = []
        begins = max(0, first[0].id - 1)  # whose time shows that nothing was left out before
        from_id = begins
        while True:
            page = self._page(symbol, may_ask, from_id=from_id)
            if page is None:
                return None
            if page and from_id == 0:  # where the first of all is number 1
                from_id = min(page[0].id, first[0].id)
            if [each.id for each in page] != list(range(from_id, from_id + len(page))):
                raise RestError(f"{symbol}: the answer lacks aggregates from {from_id} on")
            trades = [each.trades for each in page if each.trades is not None]
            if from_id == begins < first[0].id and (not trades or trades[0].time >= start):
                raise RestError(f"{symbol}: the answers disagree on which trades were at {start}")
            found += trades
            is_whole = bool(trades) and trades[-1].time >= until_ms + DISORDER_MS
            if not is_whole and len(page) < self._rest.market.aggregate_trades.max_rows:
                last = found[-1] if found else None
                if not self._confirm_newest(symbol, last, until_ms, may_ask):
                    return None
                is_whole = True
            if is_whole:
                return [each for each in found if since_ms <= each.time < until_ms]
            from_id = page[-1].id + 1

    def _none_since(
        self, symbol: str, start_ms: int, until_ms: int, may_ask: Callable[[int], bool]
    ) -> list[TradeRange] | None:
        """Return no trades, once it is proven that there are none; None if it may not be asked."""
        if not may_ask(self._aggregates_weight):
            return None
        latest = self._ask(lambda: self._past_trades.latest(symbol))
        if latest is not None and latest.time >= start_ms:
            raise RestError(f"{symbol}: the answers disagree on whether trades were at {start_ms}")
        return [] if self._confirm_newest(symbol, latest, until_ms, may_ask) else None

    def _confirm_newest(
        self, symbol: str, last: TradeRange | None, until_ms: int, may_ask: Callable[[int], bool]
    ) -> bool:
        """Return whether it may be asked. Raises RestError unless *last* is the newest trade.

        That is said by statistics which may lag by moments, and do not say it of a symbol without
        trades for a day; no records lag by so much.
        """
        if not may_ask(self._newest_trades.weight(1)):
            return False
        answer = self._ask(lambda: self._newest_trades.ids([symbol]))
        newest_id, last_time = answer.ids.get(symbol), last.time if last else 0
        if newest_id is None:
            is_newest = symbol in answer.ids and last_time < answer.said_at - _DAY_MS
        else:
            is_newest = last is not None and newest_id == last.last_id
        if not is_newest or answer.said_at < until_ms + LAG_MS:
            raise RestError(
                f"{symbol}: it is not proven that no trade is missing before {until_ms}:"
                " the exchange's records may lag"
            )
        return True

    def _page(
        self, symbol: str, may_ask: Callable[[int], bool], **start: int
    ) -> list[Aggregate] | None:
        if not may_ask(self._aggregates_weight):
            return None
        return self._ask(lambda: self._past_trades.page_from(symbol, **start))

    def _ask(self, request: Callable[[], T]) -> T:
        return ask(request, self._rest, self._budget, self._now)


def _rows(interval_ms: int, since_ms: int, until_ms: int) -> int:
    return -(-(until_ms - since_ms) // interval_ms)


def _kline(symbol: str, row: _KlineRow, interval_ms: int) -> Kline:
    try:
        kline = Kline(
            milliseconds(row.open_time),
            interval_ms,
            Decimal(row.open_price),
            Decimal(row.max_price),
            Decimal(row.min_price),
            Decimal(row.close_price),
            Decimal(row.quantity),
            Decimal(row.value),
            row.trade_count,
            Decimal(row.buy_quantity),
            Decimal(row.buy_value),
        )
        is_whole = milliseconds(row.close_time) == kline.open_time_ms + interval_ms - 1
    except (ValueError, DecimalException) as error:
        raise RestError(f"{symbol}: the answer has a number that cannot be: {error}") from error
    figures = (kline.quantity, kline.value, kline.buy_quantity, kline.buy_value, kline.min_price)
    if not is_whole or kline.open_time_ms % interval_ms or row.trade_count < 0 or min(figures) < 0:
        raise RestError(f"{symbol}: the answer has a kline that cannot be: {row}"[:500])
    return kline
