"""Klines as an exchange makes them of its trades, in the plainest way there is."""

from __future__ import annotations

import decimal
from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING

from bintrades.model import EXACT, Kline, TradeRange

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bintrades.model import Trade

MINUTE_MS = 60_000
SECOND_MS = 1_000
_EIGHT_PLACES = Decimal("1E-8")


def klines_of(
    trades: Iterable[Trade], interval_ms: int, since_ms: int, until_ms: int
) -> list[Kline]:
    """Return the klines of trades of one symbol, one for each interval of that time."""
    parts: dict[int, list[Trade]] = defaultdict(list)
    for trade in trades:
        parts[trade.time // interval_ms * interval_ms].append(trade)
    last_price = Decimal(1)
    klines = []
    for opens in range(since_ms, until_ms, interval_ms):
        kline = kline_of(parts[opens], opens, interval_ms, last_price)
        last_price = kline.close_price
        klines.append(kline)
    return klines


def kline_of(
    trades: Sequence[Trade], open_time_ms: int, interval_ms: int, last_price: Decimal
) -> Kline:
    """Return the kline of all trades of an interval; its values are rounded trade by trade."""
    members = sorted(trades, key=lambda trade: trade.trade_id)
    prices = [trade.price for trade in members] or [last_price]
    with decimal.localcontext(EXACT):
        values = [_rounded(trade.price * trade.quantity) for trade in members]
        buys = [not trade.is_buyer_maker for trade in members]
        return Kline(
            open_time_ms=open_time_ms,
            interval_ms=interval_ms,
            open_price=prices[0],
            max_price=max(prices),
            min_price=min(prices),
            close_price=prices[-1],
            quantity=sum((trade.quantity for trade in members), Decimal(0)),
            value=sum(values, Decimal(0)),
            trade_count=len(members),
            buy_quantity=sum(
                (trade.quantity for trade, is_buy in zip(members, buys, strict=True) if is_buy),
                Decimal(0),
            ),
            buy_value=sum(
                (value for value, is_buy in zip(values, buys, strict=True) if is_buy), Decimal(0)
            ),
        )


def ranges_of(trades: Iterable[Trade]) -> list[TradeRange]:
    """Return trades of one symbol as REST has them, lowest id first."""
    return [
        TradeRange(
            trade.trade_id,
            trade.trade_id,
            trade.price,
            trade.quantity,
            trade.time,
            trade.is_buyer_maker,
        )
        for trade in sorted(trades, key=lambda trade: trade.trade_id)
    ]


def _rounded(value: Decimal) -> Decimal:
    places = decimal.Context(prec=8_000, rounding=decimal.ROUND_HALF_EVEN)
    return value.quantize(_EIGHT_PLACES, context=places)
