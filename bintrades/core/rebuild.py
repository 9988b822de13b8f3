"""Bars made again of the exchange's own records, where the stored ones are wrong. Pure."""

from __future__ import annotations

import decimal
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bintrades.core.bucket import Bucket
from bintrades.model import EXACT, Trade

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bintrades.model import Bar, TradeRange


def rebuilt_bar(
    trades: Sequence[TradeRange],
    stored_epoch: int | None,
    *,
    symbol: str,
    market: str,
    open_time_ms: int,
    interval_ms: int,
) -> Bar | None:
    """Return the bar of all *trades* of an interval, lowest id first, in the next epoch.

    *stored_epoch* is that of the bar that is stored of the interval, None where there is none. The
    result is closed and complete, as its trades are all that the exchange has. None: there are no
    trades, and so no bar. Raises ValueError for a trade of another interval.
    """
    end_time_ms = open_time_ms + interval_ms
    for each in trades:
        if not open_time_ms <= each.time < end_time_ms:
            raise ValueError(f"{symbol}: trade {each.first_id} at {each.time} is of another bar")
    if not trades:
        return None
    bucket = Bucket(open_time_ms, end_time_ms, _first_of(trades[0], symbol))
    with decimal.localcontext(EXACT):
        for each in trades:
            bucket.add_range(_first_of(each, symbol), each)
    bar = bucket.bar(symbol, market, is_closed=True)
    return replace(bar, is_complete=True, epoch=(stored_epoch or 0) + 1)


def _first_of(trades: TradeRange, symbol: str) -> Trade:
    """Return the first of *trades* with the quantity of all."""
    return Trade(
        symbol=symbol,
        trade_id=trades.first_id,
        time=trades.time,
        event_time=trades.time,
        price=trades.price,
        quantity=trades.quantity,
        is_buyer_maker=trades.is_buyer_maker,
    )


def is_same(stored: Bar, rebuilt: Bar) -> bool:
    """Whether two versions of a bar are of the same trades, whatever else distinguishes them."""
    return (
        replace(
            rebuilt,
            epoch=stored.epoch,
            version=stored.version,
            is_closed=stored.is_closed,
            is_complete=stored.is_complete,
            updated_at_ms=stored.updated_at_ms,
        )
        == stored
    )
