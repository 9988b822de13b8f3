"""Past trades over REST, as ranges of ids (docs: "Old trade lookup", "Aggregate trades list")."""

from __future__ import annotations

from decimal import Decimal, DecimalException
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated

import msgspec

from bintrades.exchange.binance.backfill_plan import Aggregate, AggregatesRequest, TradesRequest
from bintrades.exchange.binance.messages import (
    LARGEST,
    MAX_TRADE_BYTES,
    MOST_IDS,
    SMALLEST,
    Time,
    TradeId,
    milliseconds,
)
from bintrades.exchange.binance.numbers import PlainNumber  # noqa: TC001 - msgspec reads the annotations
from bintrades.exchange.binance.rest import RestError
from bintrades.model import TradeRange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bintrades.exchange.binance.market import Market
    from bintrades.exchange.binance.rest import RestClient


_NOTHING = -1
"""First and last id of an aggregate that the exchange has marked invalid; its p and q are 0."""

_IdOrNothing = Annotated[int, msgspec.Meta(ge=_NOTHING, le=2**63 - 2)]


class _TradeRow(msgspec.Struct):
    trade_id: TradeId = msgspec.field(name="id")
    price: PlainNumber
    quantity: PlainNumber = msgspec.field(name="qty")
    time: Time
    is_buyer_maker: bool = msgspec.field(name="isBuyerMaker")


class _AggregateRow(msgspec.Struct):
    aggregate_id: TradeId = msgspec.field(name="a")
    price: PlainNumber = msgspec.field(name="p")
    quantity: PlainNumber = msgspec.field(name="q")
    first_id: _IdOrNothing = msgspec.field(name="f")
    last_id: _IdOrNothing = msgspec.field(name="l")
    time: Time = msgspec.field(name="T")
    is_buyer_maker: bool = msgspec.field(name="m")


class PastTrades:
    """Asks for the trades that a backfill needs.

    Every call may raise RestError, also for an answer that cannot be: what is there must not be
    taken for absent. Rows may come in any order, and twice if they are the same.
    """

    def __init__(self, rest: RestClient, market: Market) -> None:
        self._rest = rest
        self._market = market

    def trades(self, request: TradesRequest) -> list[TradeRange]:
        """Return single trades from request.from_id on, lowest id first."""
        return self.trades_from(request.symbol, request.from_id, request.limit)

    def trades_from(self, symbol: str, from_id: int, limit: int) -> list[TradeRange]:
        """Return up to *limit* single trades from an id on, lowest id first."""
        rows = self._rest.get(
            self._market.historical_trades,
            {"symbol": symbol, "fromId": from_id, "limit": limit},
            list[_TradeRow],
        )
        return _in_order(symbol, [row for row in rows if row.trade_id >= from_id])

    def recent(self, symbol: str) -> list[TradeRange]:
        """Return the newest single trades that the exchange tells everybody, lowest id first."""
        endpoint = self._market.recent_trades
        params: dict[str, str | int] = {"symbol": symbol, "limit": endpoint.max_rows}
        return _in_order(symbol, self._rest.get(endpoint, params, list[_TradeRow]))

    def aggregates(self, request: AggregatesRequest) -> list[Aggregate]:
        """Return a page of aggregates, by id or by time or the newest, oldest first."""
        start: dict[str, int] = {}
        if request.from_id is not None:
            start = {"fromId": request.from_id}
        elif request.start_ms is not None:
            start = {"startTime": request.start_ms}
        limit = request.limit(self._market.aggregate_trades.max_rows)
        return self._aggregates(request.symbol, {**start, "limit": limit})

    def _aggregates(self, symbol: str, params: dict[str, int]) -> list[Aggregate]:
        rows = self._rest.get(
            self._market.aggregate_trades, {"symbol": symbol, **params}, list[_AggregateRow]
        )
        aggregates = {Aggregate(row.aggregate_id, _aggregated(symbol, row)) for row in rows}
        in_order = sorted(aggregates, key=lambda aggregate: aggregate.id)
        for (earlier, _), (later, _) in pairwise(in_order):
            if later == earlier:
                raise RestError(f"{symbol}: the answer has two aggregates {later}")
        _check_order(symbol, [trades for _, trades in in_order if trades is not None])
        return in_order

    def page_from(
        self, symbol: str, *, from_id: int | None = None, start_ms: int | None = None
    ) -> list[Aggregate]:
        """Return a page of aggregates from one of them on, or from a time on, oldest first."""
        start = {"startTime": start_ms or 0} if from_id is None else {"fromId": from_id}
        limit = self._market.aggregate_trades.max_rows
        return self._aggregates(symbol, {**start, "limit": limit})

    def latest(self, symbol: str) -> TradeRange | None:
        """Return the last aggregate of *symbol*; None: there is none, or none that is valid."""
        valid = [each.trades for each in self._aggregates(symbol, {"limit": 1}) if each.trades]
        return valid[-1] if valid else None


def _in_order(symbol: str, rows: Sequence[_TradeRow]) -> list[TradeRange]:
    """Return the trades of *rows*, lowest id first. Raises RestError for two of one id."""
    # A set, since equal rows are one trade.
    ranges = {trade for row in rows if (trade := _trade(symbol, row)) is not None}
    in_order = sorted(ranges, key=lambda each: each.first_id)
    _check_order(symbol, in_order)
    return in_order


def _trade(symbol: str, row: _TradeRow) -> TradeRange | None:
    return _checked(symbol, row, row.trade_id, row.trade_id)


def _aggregated(symbol: str, row: _AggregateRow) -> TradeRange | None:
    return None if row.first_id == _NOTHING else _checked(symbol, row, row.first_id, row.last_id)


def _checked(
    symbol: str, row: _TradeRow | _AggregateRow, first_id: int, last_id: int
) -> TradeRange | None:
    """Return the trades of *row*; None if the exchange has marked it invalid, as in old data.

    Raises RestError if it has numbers that are none.
    """
    try:
        price, quantity = Decimal(row.price), Decimal(row.quantity)
        if not (price and quantity):
            return None
        time = milliseconds(row.time)
    except (ValueError, DecimalException) as error:
        raise RestError(f"{symbol}: the answer has a number that cannot be: {error}") from error
    trades = TradeRange(first_id, last_id, price, quantity, time, row.is_buyer_maker)
    has_ids = 0 <= last_id - first_id < MOST_IDS
    if not (has_ids and _is_usable(price) and _is_usable(quantity)):
        raise RestError(f"{symbol}: the answer has a row that cannot be: {trades}"[:500])
    return trades


def _check_order(symbol: str, ranges: Sequence[TradeRange]) -> None:
    """Raise RestError if one of *ranges* does not begin after the one before it ends."""
    for earlier, later in pairwise(ranges):
        if later.first_id <= earlier.last_id:
            raise RestError(
                f"{symbol}: the answer has trade {later.first_id} after {earlier.last_id}"
            )


def _is_usable(number: Decimal) -> bool:
    return (
        number.is_finite()
        and SMALLEST <= number <= LARGEST
        and len(number.as_tuple().digits) <= MAX_TRADE_BYTES
    )
