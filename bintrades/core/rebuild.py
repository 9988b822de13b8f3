"""Bars made again of the exchange's own records, where the stored ones are wrong. Pure."""

from __future__ import annotations

import decimal
from bisect import bisect_left
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bintrades.core.bucket import new_bucket
from bintrades.core.gap_ranges import first_id_of
from bintrades.model import EXACT, IdLaw, Trade

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bintrades.model import Bar, SeriesKey, TradeRange


def rebuilt_bars(
    stored: Iterable[Bar],
    trades: Iterable[TradeRange],
    open_times: Iterable[int],
    *,
    key: SeriesKey,
    interval_ms: int,
    others: Iterable[Bar] = (),
) -> list[Bar]:
    """Return the bars that are to take the place of the *stored* ones of some intervals.

    *trades* are all that the exchange has of the intervals that open at *open_times*, lowest id
    first; those of other intervals are passed over. Each bar is in the epoch after that of the
    stored one, and of the same bar among *others*, which another place has of it.

    A bar that is of those trades and complete stays, so it is not returned. Where there are no
    trades at all, a stored bar is surplus. Nobody can take it back: it is returned as it is, but
    not complete, unless it says so already.
    """
    trades = list(trades)
    known = {bar.open_time_ms: bar for bar in stored}
    epochs = {bar.open_time_ms: bar.epoch for bar in known.values()}
    for bar in others:
        epochs[bar.open_time_ms] = max(bar.epoch, epochs.get(bar.open_time_ms, 0))
    of_bar: dict[int, list[TradeRange]] = {}
    for each in trades:
        of_bar.setdefault(each.time // interval_ms * interval_ms, []).append(each)
    bars = []
    for opens in open_times:
        old = known.get(opens)
        new = rebuilt_bar(
            of_bar.get(opens, []),
            epochs.get(opens),
            key=key,
            open_time_ms=opens,
            interval_ms=interval_ms,
            around=trades,
        )
        if new is None:
            if old is not None and old.is_complete:
                bars.append(_surplus(old, epochs[opens]))
        elif old is None or not (old.is_complete and is_same(old, new)):
            bars.append(new)
    return bars


def _surplus(bar: Bar, epoch: int) -> Bar:
    """Return the next version of a bar where the exchange has no trades."""
    return replace(bar, is_closed=True, is_complete=False, epoch=epoch + 1)


def rebuilt_bar(
    trades: Sequence[TradeRange],
    stored_epoch: int | None,
    *,
    key: SeriesKey,
    open_time_ms: int,
    interval_ms: int,
    around: Sequence[TradeRange] = (),
) -> Bar | None:
    """Return the bar of all *trades* of an interval, lowest id first, in the next epoch.

    *stored_epoch* is that of the bar that is stored of the interval, None where there is none. The
    result is closed and complete, as its trades are all that the exchange has: where not every id
    is a trade, those between that it does not have are none, but for those of other intervals
    *around*, lowest id first, if any of these are known. None: there are no trades, and so no bar.
    Raises ValueError for a trade of another interval.
    """
    end_time_ms = open_time_ms + interval_ms
    for each in trades:
        if not open_time_ms <= each.time < end_time_ms:
            raise ValueError(
                f"{key.symbol}: trade {each.first_id} at {each.time} is of another bar"
            )
    if not trades:
        return None
    bucket = new_bucket(key, open_time_ms, end_time_ms, _first_of(trades[0], key.symbol))
    with decimal.localcontext(EXACT):
        for each in trades:
            bucket.add_range(_first_of(each, key.symbol), each.last_id)
    bar = bucket.bar(key.symbol, key.market, is_closed=True)
    excluded_count = 0
    if key.id_law is IdLaw.WITH_FILLERS:
        excluded_count = _unused(bar.first_trade_id, bar.last_trade_id, around or trades)
    return replace(
        bar, is_complete=True, epoch=(stored_epoch or 0) + 1, excluded_count=excluded_count
    )


def _unused(first_id: int, last_id: int, trades: Sequence[TradeRange]) -> int:
    """Return how many ids from the first to the last none of *trades* has, which are in order."""
    start = bisect_left(trades, first_id, key=first_id_of)
    stop = bisect_left(trades, last_id + 1, lo=start, key=first_id_of)
    return last_id - first_id + 1 - sum(each.count for each in trades[start:stop])


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
            excluded_count=stored.excluded_count,
        )
        == stored
    )
