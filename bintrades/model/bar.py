"""Bars: what is stored of the trades of one interval. Immutable, exact."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal  # noqa: TC003 - msgspec reads it at run time
from functools import cache
from operator import add, attrgetter, or_
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec.structs import astuple

from bintrades.model.bar_fields import (
    FIELDS,
    RANK,
    ROUNDED,
    Field,
    FieldKind,
    MergeRule,
    fields_of,
)
from bintrades.model.numbers import DECIMAL128, EXACT, plain

if TYPE_CHECKING:
    from collections.abc import Callable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def utc(time_ms: int) -> datetime:
    """Return milliseconds since the epoch as an aware datetime, without going through a float."""
    return _EPOCH + timedelta(milliseconds=time_ms)


def milliseconds(moment: datetime) -> int:
    """Return an aware datetime as milliseconds since the epoch, rounded down."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


class Bar(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """All trades of one symbol with open_time_ms <= T < open_time_ms + interval_ms.

    Times are milliseconds since the epoch on the exchange's clock, quantities are in the base
    asset, values (price times quantity, not rounded) in the quote asset. With a contract_size
    quantities are contracts, and values (contract_size times quantity, divided by the price of each
    trade to 34 digits, summed without rounding) in the base asset. The buy side is the taker's: a
    trade is a buy when the taker bought (`m` is false).

    The attributes and properties named like the fields of a stored bar (see bar_fields) are what
    storage plugins may rely on.
    """

    symbol: str
    market: str
    open_time_ms: int
    interval_ms: int
    trade_count: int
    buy_count: int
    quantity: Decimal
    buy_quantity: Decimal
    value: Decimal
    buy_value: Decimal
    open_price: Decimal
    close_price: Decimal
    min_price: Decimal
    max_price: Decimal
    first_trade_id: int
    last_trade_id: int
    first_trade_time_ms: int
    last_trade_time_ms: int
    is_closed: bool = True
    is_complete: bool = True
    version: int = 1
    updated_at_ms: int = 0
    epoch: int = 0  # from here on: checkpoints of old keep bars as arrays that end before
    excluded_count: int = 0
    is_approximate: bool = False
    contract_size: Decimal | None = None

    @property
    def open_time(self) -> datetime:
        """Start of the interval, UTC."""
        return utc(self.open_time_ms)

    @property
    def end_time_ms(self) -> int:
        """First millisecond after the interval."""
        return self.open_time_ms + self.interval_ms

    @property
    def interval_seconds(self) -> int:
        """Length of the interval."""
        return self.interval_ms // 1000

    @property
    def sell_count(self) -> int:
        """Trades in which the taker sold."""
        return self.trade_count - self.buy_count

    @property
    def sell_quantity(self) -> Decimal:
        """Of the quantity, what takers sold."""
        return EXACT.subtract(self.quantity, self.buy_quantity)

    @property
    def sell_value(self) -> Decimal:
        """Of the value, what takers sold for, or what they sold where quantities are contracts."""
        return EXACT.subtract(self.value, self.buy_value)

    @property
    def average_price(self) -> Decimal:
        """Volume-weighted: what is paid of the quote asset for one of the base asset, 34 digits."""
        if self.contract_size is not None:
            return DECIMAL128.divide(EXACT.multiply(self.quantity, self.contract_size), self.value)
        return DECIMAL128.divide(self.value, self.quantity)

    @property
    def first_trade_time(self) -> datetime:
        """`T` of the trade with the lowest id."""
        return utc(self.first_trade_time_ms)

    @property
    def last_trade_time(self) -> datetime:
        """`T` of the trade with the highest id."""
        return utc(self.last_trade_time_ms)

    @property
    def updated_at(self) -> datetime:
        """When this version was made, on the local clock."""
        return utc(self.updated_at_ms)

    @property
    def rank(self) -> tuple[int, int, bool, bool, int]:
        """What decides between two versions of a bar: the one of the higher rank is kept.

        The epoch comes first: a bar rebuilt from the exchange's own records may have fewer trades.
        Within one epoch more trades win; of equally many, the bar that is closed, then the one
        that is complete. The version comes last, since it counts within one journal only: a second
        collector, or one that lost its journal, begins with 1 again.

        The journal's own row of a bar may become incomplete again at the same trade count, when a
        gap opens later that touches the bar.
        """
        rank: tuple[int, int, bool, bool, int] = _rank(self)
        return rank

    def merge(self, other: Bar) -> Bar:
        """Return the bar of both sets of trades, which must have no trade in common.

        Bars of two epochs are never added up, since a rebuilt bar has all trades that count: the
        one of the higher epoch is returned as it is.
        Raises ValueError when the two are not the same interval of the same symbol.
        """
        if (self.symbol, self.open_time_ms) != (other.symbol, other.open_time_ms):
            raise ValueError(f"{self.symbol} {self.open_time} and {other.symbol} {other.open_time}")
        if self.epoch != other.epoch:
            return max(self, other, key=lambda bar: bar.epoch)
        mine, others = astuple(self), astuple(other)  # by place, which costs half of by name
        first = mine if self.first_trade_id <= other.first_trade_id else others
        last = mine if self.last_trade_id >= other.last_trade_id else others
        values = list(mine)
        for place in _OF_FIRST:
            values[place] = first[place]
        for place in _OF_LAST:
            values[place] = last[place]
        for place, combine in _COMBINED:
            values[place] = combine(mine[place], others[place])
        return Bar(*values)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields of a stored bar under their published names, decimals kept short.

        Values are str, int, bool, Decimal and aware datetime: what a store needs and no more. Which
        fields there are depends on the market (see bar_fields); the values of a bar of contracts
        are rounded here, to 34 significant digits.
        """
        published = _published(self.market)
        values = list(published.get(self))
        if self.contract_size is not None:
            for index in published.rounded:
                values[index] = DECIMAL128.plus(values[index])
        for index in published.decimals:
            if values[index] is not None:
                values[index] = plain(values[index])
        return dict(zip(published.names, values, strict=True))


_COMBINE: dict[MergeRule, Callable[[Any, Any], Any]] = {
    MergeRule.SUM: add,
    MergeRule.MIN: min,
    MergeRule.MAX: max,
    MergeRule.ANY: or_,
}


def _combination(field: Field) -> Callable[[Any, Any], Any]:
    """Return what makes one value of two; sums of decimals are exact."""
    is_exact = field.rule is MergeRule.SUM and field.kind is FieldKind.DECIMAL
    return EXACT.add if is_exact else _COMBINE[field.rule]


_PLACES = {name: place for place, name in enumerate(Bar.__struct_fields__)}
_OF_FIRST = tuple(_PLACES[field.attribute] for field in FIELDS if field.rule is MergeRule.FIRST)
_OF_LAST = tuple(_PLACES[field.attribute] for field in FIELDS if field.rule is MergeRule.LAST)
_COMBINED = [
    (_PLACES[field.attribute], _combination(field)) for field in FIELDS if field.rule in _COMBINE
]
_rank = attrgetter(*RANK)


class _Published(NamedTuple):
    """How the bars of one market are published."""

    names: tuple[str, ...]
    get: attrgetter[Any]
    decimals: tuple[int, ...]  # places of those
    rounded: tuple[int, ...]  # likewise, where quantities are contracts


@cache
def _published(market: str) -> _Published:
    fields = fields_of(market)
    names = tuple(field.name for field in fields)
    decimals = tuple(i for i, field in enumerate(fields) if field.kind is FieldKind.DECIMAL)
    rounded = tuple(i for i, name in enumerate(names) if name in ROUNDED)
    return _Published(names, attrgetter(*names), decimals, rounded)
