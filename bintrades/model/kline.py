"""Klines: the exchange's own sums over the trades of an interval. Immutable, exact."""

from __future__ import annotations

from decimal import Decimal  # noqa: TC003 - msgspec reads it at run time

import msgspec


class Kline(msgspec.Struct, frozen=True, gc=False):
    """All trades of one symbol with open_time_ms <= T < open_time_ms + interval_ms.

    Without trades (trade_count 0) the prices repeat an earlier one and mean nothing. Quantities
    are in the base asset, values in the quote asset: the exchange rounds the value of each trade
    to 8 decimals before it adds it. Where quantities are contracts, values are in the base asset,
    and it rounds their sum. The buy side is the taker's.
    """

    open_time_ms: int
    interval_ms: int
    open_price: Decimal
    max_price: Decimal
    min_price: Decimal
    close_price: Decimal
    quantity: Decimal
    value: Decimal
    trade_count: int
    buy_quantity: Decimal
    buy_value: Decimal
