"""Bars against the exchange's klines: what is equal, what differs, what cannot be told. Pure.

Both sides are rolled up to a unit, the shortest time that is a whole number of bars and of klines:
a minute for bars of 10 s and klines of a minute, and one bar for klines of a second.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from math import lcm
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from bintrades.core.spans import has
from bintrades.model import EXACT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from bintrades.core.spans import Span
    from bintrades.model import Bar, Kline

    Figure = int | Decimal | None

ROUNDING = Decimal("1E-8")
"""How much the value of a kline may be off, for each of its trades: the exchange rounds each.

Where quantities are contracts, the exchange rounds the sum, once for each kline."""

_QUOTIENTS = Decimal("1E-32")
"""How much, of one, the value of a bar of contracts may be off: quotients have 34 digits."""

_NOTHING = Decimal(0)


class Outcome(StrEnum):
    """What comes of a comparison."""

    EQUAL = "equal"
    DIFFERENT = "different"

    SUSPECT = "suspect"
    """Equal as a whole, but a bar in it contradicts itself: a trade may be in the wrong one, or be
    missing on both sides."""

    SURPLUS = "surplus"
    """Equal, but for a bar that is known to be where the exchange has no trades."""

    INCOMPLETE = "incomplete"
    """Not compared: it is not proven that all trades are in the bars."""

    NO_KLINE = "no kline"
    """Not compared: the exchange gave no kline of it, or not all of them."""


class Difference(msgspec.Struct, frozen=True):
    """What a bar or a unit of several says, and what the exchange says."""

    symbol: str
    open_time_ms: int
    interval_ms: int
    fields: dict[str, tuple[Figure, Figure]]
    """By name of the field of a bar: ours and theirs. A price without trades is None."""


class Comparison(NamedTuple):
    """One unit."""

    open_time_ms: int
    interval_ms: int
    outcome: Outcome
    difference: Difference | None = None  # of a DIFFERENT one
    may_hide_more: bool = False
    """Whether bars in it may differ though that cannot be told of the whole: klines of a finer
    interval could."""

    contradicting: tuple[int, ...] = ()
    """Open times of the bars of a SUSPECT one that contradict themselves."""


class Figures(NamedTuple):
    """The sums of some bars or klines, under the names of a bar's fields."""

    trade_count: int = 0
    quantity: Decimal = _NOTHING
    buy_quantity: Decimal = _NOTHING
    value: Decimal = _NOTHING
    buy_value: Decimal = _NOTHING
    open_price: Decimal | None = None
    close_price: Decimal | None = None
    min_price: Decimal | None = None
    max_price: Decimal | None = None


def unit_ms(interval_ms: int, kline_ms: int) -> int:
    """Return the length of a unit of bars and klines of these lengths, milliseconds."""
    return lcm(interval_ms, kline_ms)


def compare(
    symbol: str,
    bars: Iterable[Bar],
    klines: Iterable[Kline],
    since_ms: int,
    until_ms: int,
    *,
    interval_ms: int,
    kline_ms: int,
    covered: Sequence[Span],
    surplus: Collection[int] = (),
) -> Iterator[Comparison]:
    """Yield the outcome of each unit from *since_ms* to *until_ms*, which are multiples of it.

    *bars* and *klines* are all that there are of that time, oldest first, of *interval_ms* and of
    *kline_ms*. In *covered*, disjoint spans from the oldest to the newest, an interval without a
    bar had no trades; anywhere else that is not known. A bar that is closed and complete is proven
    to be whole wherever it is; one that opens at a time in *surplus* and says that it is not
    complete counts for nothing: the exchange had no trades there when it was asked for them. A
    kline that is left out may have had trades, so its unit is neither equal nor different.

    Raises ValueError where the two ends are no multiples of the unit.
    """
    unit = unit_ms(interval_ms, kline_ms)
    if since_ms % unit or until_ms % unit:
        raise ValueError(f"{since_ms} to {until_ms} are no whole units of {unit} ms")
    bars_of: dict[int, list[Bar]] = {}
    klines_of: dict[int, list[Kline]] = {}
    for bar in bars:
        bars_of.setdefault(bar.open_time_ms // unit * unit, []).append(bar)
    for kline in klines:
        klines_of.setdefault(kline.open_time_ms // unit * unit, []).append(kline)
    lengths = (unit, interval_ms, kline_ms)
    for start in range(since_ms, until_ms, unit):
        yield _compare_unit(
            symbol,
            start,
            lengths,
            bars_of.get(start, ()),
            klines_of.get(start, ()),
            covered,
            surplus,
        )


def _compare_unit(
    symbol: str,
    start: int,
    lengths: tuple[int, int, int],
    bars: Sequence[Bar],
    klines: Sequence[Kline],
    covered: Sequence[Span],
    surplus: Collection[int],
) -> Comparison:
    unit, interval_ms, kline_ms = lengths
    if not klines:
        return Comparison(start, unit, Outcome.NO_KLINE)
    counted = [bar for bar in bars if bar.is_complete or bar.open_time_ms not in surplus]
    has_surplus = len(counted) < len(bars)
    bars = counted
    fields = _differing(bars, klines)
    is_many = unit > interval_ms
    if not all(bar.is_closed and bar.is_complete for bar in bars):
        return Comparison(start, unit, Outcome.INCOMPLETE, may_hide_more=is_many and bool(fields))
    if fields and not _is_covered(covered, bars, start, unit, interval_ms):
        may_hide_more = is_many and bool(bars)
        return Comparison(start, unit, Outcome.INCOMPLETE, may_hide_more=may_hide_more)
    if len(klines) < unit // kline_ms:
        # What is equal may be so because bars lack just the trades of the kline that is left out.
        return Comparison(start, unit, Outcome.NO_KLINE, may_hide_more=is_many and bool(bars))
    if fields:
        difference = Difference(symbol, start, unit, fields)
        return Comparison(start, unit, Outcome.DIFFERENT, difference, is_many)
    if contradicting := tuple(bar.open_time_ms for bar in bars if contradicts_itself(bar)):
        return Comparison(
            start, unit, Outcome.SUSPECT, may_hide_more=True, contradicting=contradicting
        )
    return Comparison(start, unit, Outcome.SURPLUS if has_surplus else Outcome.EQUAL)


def contradicts_itself(bar: Bar) -> bool:
    """Whether no trades of the bar's interval, with ids one after the other, can have made it.

    Ids that the exchange has left out, which happens, make a sound bar contradict itself.
    """
    times = (bar.first_trade_time_ms, bar.last_trade_time_ms)
    prices = (bar.open_price, bar.close_price)
    return not (
        all(bar.open_time_ms <= time < bar.end_time_ms for time in times)
        and bar.open_time_ms % bar.interval_ms == 0
        and bar.trade_count + bar.excluded_count == bar.last_trade_id - bar.first_trade_id + 1
        and all(bar.min_price <= price <= bar.max_price for price in prices)
        and _has_value_between_its_prices(bar)
        and 0 <= bar.buy_count <= bar.trade_count
        and (bar.buy_count > 0) == (bar.buy_quantity > 0)
        and (bar.sell_count > 0) == (bar.sell_quantity > 0)
    )


def _has_value_between_its_prices(bar: Bar) -> bool:
    multiply = EXACT.multiply
    if bar.contract_size is None:
        lowest, highest = (
            multiply(bar.min_price, bar.quantity),
            multiply(bar.max_price, bar.quantity),
        )
        return lowest <= bar.value <= highest
    worth = multiply(bar.quantity, bar.contract_size)
    off = multiply(worth, _QUOTIENTS)
    lowest, highest = multiply(bar.min_price, bar.value), multiply(bar.max_price, bar.value)
    return EXACT.subtract(lowest, off) <= worth <= EXACT.add(highest, off)


def figures(parts: Sequence[Bar] | Sequence[Kline]) -> Figures:
    """Return the sums of *parts*, which are in the order of time."""
    traded = [part for part in parts if part.trade_count]
    if not traded:
        return Figures()
    quantity = buy_quantity = value = buy_value = _NOTHING
    add = EXACT.add
    for part in traded:
        quantity = add(quantity, part.quantity)
        buy_quantity = add(buy_quantity, part.buy_quantity)
        value = add(value, part.value)
        buy_value = add(buy_value, part.buy_value)
    return Figures(
        sum(part.trade_count for part in traded),
        quantity,
        buy_quantity,
        value,
        buy_value,
        traded[0].open_price,
        traded[-1].close_price,
        min(part.min_price for part in traded),
        max(part.max_price for part in traded),
    )


def are_same(fine: Sequence[Kline], coarse: Sequence[Kline]) -> bool:
    """Whether klines of two lengths are of the same trades, by their exact sums."""
    ours, theirs = figures(fine), figures(coarse)
    return (ours.trade_count, ours.quantity, ours.buy_quantity) == (
        theirs.trade_count,
        theirs.quantity,
        theirs.buy_quantity,
    )


def _differing(bars: Sequence[Bar], klines: Sequence[Kline]) -> dict[str, tuple[Figure, Figure]]:
    """Return the figures that differ by more than the exchange's rounding, ours and theirs."""
    ours, theirs = figures(bars), figures(klines)
    if ours == theirs:
        return {}
    fields: dict[str, tuple[Figure, Figure]] = {
        name: (mine, other)
        for name, mine, other in zip(Figures._fields, ours, theirs, strict=True)
        if mine != other
    }
    if any(bar.contract_size is not None for bar in bars):
        roundings = buy_roundings = len(klines)
    else:
        roundings, buy_roundings = ours.trade_count, sum(bar.buy_count for bar in bars)
    if _is_within(ours.value, theirs.value, roundings):
        fields.pop("value", None)
    if _is_within(ours.buy_value, theirs.buy_value, buy_roundings):
        fields.pop("buy_value", None)
    return fields


def _is_within(ours: Decimal, theirs: Decimal, roundings: int) -> bool:
    """Whether so many roundings of the exchange account for the difference of two values."""
    return abs(EXACT.subtract(ours, theirs)) <= ROUNDING * roundings


def _is_covered(
    covered: Sequence[Span], bars: Sequence[Bar], start: int, unit: int, interval_ms: int
) -> bool:
    """Whether each interval of a unit without one of *bars* is in one of the spans."""
    if has(covered, (start, start + unit)):
        return True
    there = {bar.open_time_ms for bar in bars}
    return all(
        opens in there or has(covered, (opens, opens + interval_ms))
        for opens in range(start, start + unit, interval_ms)
    )
