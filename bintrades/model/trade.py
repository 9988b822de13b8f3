"""Trades: one match each, or a range of them as one row. Immutable, exact."""

from __future__ import annotations

from decimal import Decimal  # noqa: TC003 - msgspec reads it at run time

import msgspec


class Trade(msgspec.Struct, frozen=True, gc=False):
    """One match, as the exchange reported it; times are milliseconds on its clock.

    A msgspec struct, because decoding makes one of these for every trade of the market.
    """

    symbol: str
    trade_id: int
    time: int  # `T`, when the matching engine made the trade: decides the interval
    event_time: int  # `E`, when the exchange sent it: shows how late it is
    price: Decimal
    quantity: Decimal
    is_buyer_maker: bool  # the buyer was resting in the book, so the taker sold


class AggregateTrade(Trade, frozen=True, gc=False):
    """Trades with the ids trade_id to last_trade_id, as an aggregate stream reports them at once.

    They have one taker and one price; time is that of the first, quantity that of all of them.
    """

    last_trade_id: int
    aggregate_id: int  # a counter of its own, without holes


class ExcludedId(Trade, frozen=True, gc=False):
    """An id that is used, but is no fill of the order book: a filler, or a fund's settlement.

    It is in no bar: without it, though, the line of ids would have a hole.
    """


class TradeRange(msgspec.Struct, frozen=True, gc=False):
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
