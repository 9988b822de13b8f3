"""The values that travel through bintrades: exact, immutable, free of threads and clocks."""

from __future__ import annotations

import decimal
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
from msgspec.structs import replace

EXACT = decimal.Context(
    prec=8_000,
    rounding=decimal.ROUND_HALF_EVEN,
    traps=[decimal.Inexact, decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow],
)
"""Arithmetic that never rounds: a result that did not fit would raise decimal.Inexact.

A message that can hold a trade is at most binance.messages.MAX_TRADE_BYTES long, so a product has
fewer than twice as many digits and a sum fewer than four times: 8,000 is never reached. A wide
context costs nothing, since the work depends on the digits that are there.
"""

DECIMAL128 = decimal.Context(prec=34, rounding=decimal.ROUND_HALF_EVEN)
"""34 significant digits, the precision of IEEE 754 decimal128, for the one quotient of a bar."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def utc(time_ms: int) -> datetime:
    """Return milliseconds since the epoch as an aware datetime, without going through a float."""
    return _EPOCH + timedelta(milliseconds=time_ms)


def plain(value: Decimal) -> Decimal:
    """Return *value* without trailing zeros and without an exponent: 1.50000000 becomes 1.5."""
    value = value.normalize(EXACT)
    return value.quantize(Decimal(1), context=EXACT) if value.as_tuple().exponent > 0 else value  # type: ignore[operator]


class Trade(msgspec.Struct, gc=False):
    """One match, as the exchange reported it; times are milliseconds on its clock.

    A msgspec struct, because decoding makes one of these for every trade of the market.
    """

    symbol: str
    trade_id: int
    time: int  # `T`, when the matching engine made the trade: decides the interval
    event_time: int  # `E`, when the exchange sent it: tells how late it is
    price: Decimal
    quantity: Decimal
    is_buyer_maker: bool  # the buyer was resting in the book, so the taker sold


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
    def rank(self) -> tuple[int, bool, bool, int]:
        """What decides between two versions of a bar: the one of the higher rank is kept.

        More trades win; of equally many, the bar that is closed, then the one that is complete.
        The version comes last, since it counts within one journal only: a second collector, or
        one that lost its journal, begins with 1 again.
        """
        return self.trade_count, self.is_closed, self.is_complete, self.version

    def merge(self, other: Bar) -> Bar:
        """Return the bar of both sets of trades, which must have no trade in common.

        Raises ValueError when the two are not the same interval of the same symbol.
        """
        if (self.symbol, self.open_time_ms) != (other.symbol, other.open_time_ms):
            raise ValueError(f"{self.symbol} {self.open_time} and {other.symbol} {other.open_time}")
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
            "version": self.version,
            "updated_at": self.updated_at,
        }


SKIPPED, RECONNECT, RESTART = "skipped", "reconnect", "restart"
SILENT_STREAM, UNUSABLE = "silent stream", "unusable message"
"""Causes of gaps: ids left out on the wire, across a reconnect, across a restart; never sent; sent
in a message that cannot be used."""

LOST = "lost with a journal"
"""Cause of gaps that were none until the file which held their bars was spoilt or removed."""

ABSENT, UNWANTED, REPAIRED = "absent", "unwanted", "repaired"
"""How a gap ends: the exchange has no such ids; they were before the beginning; trades came."""

LATE = "late"
"""How a gap ends whose trades came when their bar had left the journal: they are in no bar."""

RENUMBERED = "renumbered"
"""Cause and end of gaps where the exchange has begun its ids anew, as its test networks do."""

START = "start"
"""Cause of the gap before the first trade ever, which reaches back to its interval's open."""


class Run(msgspec.Struct, frozen=True, gc=False):
    """Trades with consecutive ids, one price, one time and one taker: an aggregate, or one trade.

    A taker's order that is filled by several resting ones at one price makes several trades, which
    the exchange publishes as one aggregate as well. The quantity is that of all of them.
    """

    first_id: int
    last_id: int
    price: Decimal
    quantity: Decimal
    time: int
    is_buyer_maker: bool

    @property
    def count(self) -> int:
        """How many trades."""
        return self.last_id - self.first_id + 1


class Gap(msgspec.Struct, frozen=True, gc=False):
    """Consecutive trade ids of one symbol that were not received.

    The trades in it happened between since_ms, when the last trade before it did, and until_ms,
    when the first one after it did: the bars that this span touches lack trades.
    """

    first_id: int
    last_id: int
    since_ms: int
    until_ms: int
    cause: str
    attempts: int = 0  # requests to the exchange that concerned it
    last_error: str | None = None  # why the last one brought nothing
    is_abandoned: bool = False  # it is not asked for any more, but its trades are still welcome
    absent_at: int = 0  # when the exchange had confirmed, on its clock, that there are no such ids
    looks: int = 0  # how often that was confirmed once more, later

    @property
    def is_absent(self) -> bool:
        """Whether the ids are held not to exist: no bar lacks them; trades are still welcome."""
        return self.absent_at > 0

    @property
    def is_start(self) -> bool:
        """Whether it stands for all trades since since_ms, however many: their ids are unknown."""
        return self.first_id == 0 and self.cause == START

    @property
    def size(self) -> int:
        """Number of missing ids."""
        return self.last_id - self.first_id + 1

    def touches(self, open_time_ms: int, interval_ms: int) -> bool:
        """Whether a trade in the gap may belong to the interval that opens at *open_time_ms*."""
        return self.since_ms < open_time_ms + interval_ms and self.until_ms >= open_time_ms
