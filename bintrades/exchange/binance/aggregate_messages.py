"""Aggregates on the wire: `<symbol>@aggTrade` of each market. Pure."""

from __future__ import annotations

from decimal import Decimal  # noqa: TC003 - msgspec reads it at run time
from typing import TYPE_CHECKING, Annotated

import msgspec

from bintrades.exchange.binance.messages import (
    LARGEST_ID,
    MOST_IDS,
    MessageDecoder,
    Time,
    TradeId,
    checked,
)
from bintrades.model import AggregateTrade

if TYPE_CHECKING:
    from bintrades.exchange.batch import Decoded

_NOTHING = -1
"""First and last id of an aggregate that the exchange has marked invalid; its p and q are 0."""

_IdOrNothing = Annotated[int, msgspec.Meta(ge=_NOTHING, le=LARGEST_ID)]


class _StreamAggregate(
    AggregateTrade,
    frozen=True,
    gc=False,
    tag_field="e",
    tag="aggTrade",
    rename={
        "symbol": "s",
        "trade_id": "f",
        "last_trade_id": "l",
        "aggregate_id": "a",
        "time": "T",
        "event_time": "E",
        "price": "p",
        "quantity": "q",
        "is_buyer_maker": "m",
    },
):
    """An AggregateTrade as it is spelt; fields that we do not know are ignored."""

    symbol: Annotated[str, msgspec.Meta(min_length=1)]
    trade_id: _IdOrNothing
    time: Time
    event_time: Time
    price: Decimal
    quantity: Decimal
    is_buyer_maker: bool
    last_trade_id: _IdOrNothing
    aggregate_id: TradeId


def _take_aggregates(aggregates: list[_StreamAggregate], decoded: Decoded) -> None:
    valid = [each for each in aggregates if _is_valid(each)]
    decoded.trades += checked(valid)
    decoded.invalid_count += len(aggregates) - len(valid)


def _is_valid(aggregate: _StreamAggregate) -> bool:
    """Return False for what the exchange has marked as none. Raises ValueError."""
    first_id, last_id = aggregate.trade_id, aggregate.last_trade_id
    if first_id == _NOTHING or last_id == _NOTHING:
        return False
    if last_id < first_id:
        raise ValueError(f"the last trade, {last_id}, is before the first, {first_id}")
    if last_id - first_id >= MOST_IDS:
        raise ValueError(f"more trades than one aggregate has, {first_id} to {last_id}")
    return bool(aggregate.price and aggregate.quantity)


decode_aggregates = MessageDecoder("aggTrade", _StreamAggregate, _take_aggregates, last_id="l")
