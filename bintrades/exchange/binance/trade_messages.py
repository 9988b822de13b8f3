"""Single trades on the wire: `<symbol>@trade` of each market. Pure."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal  # noqa: TC003 - msgspec reads it at run time
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated

import msgspec

from bintrades.exchange.binance.messages import (
    LARGEST,
    MessageDecoder,
    Time,
    TradeId,
    checked,
    milliseconds,
)
from bintrades.model import ExcludedId, Trade

if TYPE_CHECKING:
    from bintrades.exchange.batch import Decoded

_FILLS: frozenset[str | None] = frozenset({"MARKET", "RPI", None})
"""What a futures trade is that counts: a fill of the order book, RPI orders among them."""

_NO_FILLS: frozenset[str | None] = frozenset({"NA", "INSURANCE_FUND", "ADL"})
"""What it is where nothing was filled, or not in the order book: no kline and no file has it."""

_KNOWN = _FILLS | _NO_FILLS

_UNNAMED = "none"
"""Stands for the kind of a trade that says none."""

_kind = attrgetter("kind")


class _StreamTrade(
    Trade,
    frozen=True,
    gc=False,
    tag_field="e",
    tag="trade",
    rename={
        "symbol": "s",
        "trade_id": "t",
        "time": "T",
        "event_time": "E",
        "price": "p",
        "quantity": "q",
        "is_buyer_maker": "m",
        "kind": "X",
    },
):
    """A Trade as it is spelt; fields that we do not know are ignored."""

    symbol: Annotated[str, msgspec.Meta(min_length=1)]
    trade_id: TradeId
    time: Time
    event_time: Time
    price: Decimal
    quantity: Decimal
    is_buyer_maker: bool


class _FuturesTrade(_StreamTrade, frozen=True, gc=False):
    """One of futures, which says of which kind it is."""

    kind: str | None = None


def _take_trades(trades: list[_StreamTrade], decoded: Decoded) -> None:
    decoded.trades += checked(trades)


def _take_futures_trades(trades: list[_FuturesTrade], decoded: Decoded) -> None:
    kinds = Counter(map(_kind, trades))
    if kinds.keys() <= _FILLS:
        decoded.trades += checked(trades)
    else:
        fills = iter(checked([trade for trade in trades if trade.kind in _FILLS]))
        excluded = iter([_excluded(trade) for trade in trades if trade.kind not in _FILLS])
        decoded.trades += [next(fills if trade.kind in _FILLS else excluded) for trade in trades]
        if not kinds.keys() <= _KNOWN:
            decoded.unknown_kinds += [
                (trade.symbol, trade.kind)
                for trade in trades
                if trade.kind is not None and trade.kind not in _KNOWN
            ]
    for kind, count in kinds.items():
        name = _UNNAMED if kind is None else kind
        decoded.kinds[name] = decoded.kinds.get(name, 0) + count


def _excluded(trade: _FuturesTrade) -> ExcludedId:
    """Return the id of *trade*, which is in no bar. Raises ValueError.

    Its price and quantity may be zero; they count nowhere.
    """
    if not (0 <= trade.price <= LARGEST and 0 <= trade.quantity <= LARGEST):
        raise ValueError(f"price or quantity out of range: {trade.price}, {trade.quantity}")
    return ExcludedId(
        trade.symbol,
        trade.trade_id,
        milliseconds(trade.time),
        milliseconds(trade.event_time),
        trade.price,
        trade.quantity,
        trade.is_buyer_maker,
    )


decode_trades = MessageDecoder("trade", _StreamTrade, _take_trades, last_id="t")
"""Those of spot markets: each is a fill."""

decode_futures_trades = MessageDecoder("trade", _FuturesTrade, _take_futures_trades, last_id="t")
"""Those of futures: each uses up an id, and what is no fill is an ExcludedId."""
