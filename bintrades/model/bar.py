"""Bars: what is stored of the trades of one interval. Immutable, exact."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal  # noqa: TC003 - msgspec reads it at run time
from typing import Any

import msgspec
from msgspec.structs import replace

from bintrades.model.numbers import DECIMAL128, EXACT, plain

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def utc(time_ms: int) -> datetime:
    """Return milliseconds since the epoch as an aware datetime, without going through a float."""
    return _EPOCH + timedelta(milliseconds=time_ms)


class Bar(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """All trades of one symbol with open_time_ms <= T < open_time_ms + interval_ms.

    Times are milliseconds since the epoch on the exchange's clock, quantities are in the base
    asset, values (price times quantity, not rounded) in the quote asset. The buy side is the
    taker's: a trade is a buy when the taker bought (`m` is false).

    The attributes and properties named like the fields of a stored bar (see as_dict) are what
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
    epoch: int = 0  # last, since checkpoints of old keep bars as arrays without it

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
        """Base asset that takers sold."""
        return EXACT.subtract(self.quantity, self.buy_quantity)

    @property
    def sell_value(self) -> Decimal:
        """Quote asset that takers received."""
        return EXACT.subtract(self.value, self.buy_value)

    @property
    def average_price(self) -> Decimal:
        """Volume-weighted: value / quantity, to 34 significant digits."""
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
        """
        return self.epoch, self.trade_count, self.is_closed, self.is_complete, self.version

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
        first = min(self, other, key=lambda bar: bar.first_trade_id)
        last = max(self, other, key=lambda bar: bar.last_trade_id)
        return replace(
            self,
            trade_count=self.trade_count + other.trade_count,
            buy_count=self.buy_count + other.buy_count,
            quantity=EXACT.add(self.quantity, other.quantity),
            buy_quantity=EXACT.add(self.buy_quantity, other.buy_quantity),
            value=EXACT.add(self.value, other.value),
            buy_value=EXACT.add(self.buy_value, other.buy_value),
            open_price=first.open_price,
            close_price=last.close_price,
            min_price=min(self.min_price, other.min_price),
            max_price=max(self.max_price, other.max_price),
            first_trade_id=first.first_trade_id,
            last_trade_id=last.last_trade_id,
            first_trade_time_ms=first.first_trade_time_ms,
            last_trade_time_ms=last.last_trade_time_ms,
            is_closed=self.is_closed or other.is_closed,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the fields of a stored bar under their published names, decimals kept short.

        Values are str, int, bool, Decimal and aware datetime: what a store needs and no more.
        """
        return {
            "symbol": self.symbol,
            "market": self.market,
            "open_time": self.open_time,
            "interval_seconds": self.interval_seconds,
            "trade_count": self.trade_count,
            "buy_count": self.buy_count,
            "sell_count": self.sell_count,
            "quantity": plain(self.quantity),
            "buy_quantity": plain(self.buy_quantity),
            "sell_quantity": plain(self.sell_quantity),
            "value": plain(self.value),
            "buy_value": plain(self.buy_value),
            "sell_value": plain(self.sell_value),
            "open_price": plain(self.open_price),
            "close_price": plain(self.close_price),
            "min_price": plain(self.min_price),
            "max_price": plain(self.max_price),
            "average_price": plain(self.average_price),
            "first_trade_id": self.first_trade_id,
            "last_trade_id": self.last_trade_id,
            "first_trade_time": self.first_trade_time,
            "last_trade_time": self.last_trade_time,
            "is_closed": self.is_closed,
            "is_complete": self.is_complete,
            "epoch": self.epoch,
            "version": self.version,
            "updated_at": self.updated_at,
        }
