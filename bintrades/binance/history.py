"""Past trades over REST, as runs of ids (docs: "Old trade lookup", "Aggregate trades list")."""

from __future__ import annotations

from decimal import Decimal  # noqa: TC003 - msgspec reads the annotations
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from bintrades.binance.rest import RestError
from bintrades.model import Run
from bintrades.repair import Aggregate, AggregatesTask, TradesTask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bintrades.binance.markets import Market
    from bintrades.binance.rest import RestClient


class _TradeRow(msgspec.Struct):
    trade_id: int = msgspec.field(name="id")
    price: Decimal
    quantity: Decimal = msgspec.field(name="qty")
    time: int
    is_buyer_maker: bool = msgspec.field(name="isBuyerMaker")


class _AggregateRow(msgspec.Struct):
    aggregate_id: int = msgspec.field(name="a")
    price: Decimal = msgspec.field(name="p")
    quantity: Decimal = msgspec.field(name="q")
    first_id: int = msgspec.field(name="f")
    last_id: int = msgspec.field(name="l")
    time: int = msgspec.field(name="T")
    is_buyer_maker: bool = msgspec.field(name="m")


class History:
    """Asks for the trades that a repair needs. Every call may raise RestError."""

    def __init__(self, rest: RestClient, market: Market) -> None:
        self._rest = rest
        self._market = market

    def weight(self, task: TradesTask | AggregatesTask) -> int:
        """Return what *task* costs of the minute's weight."""
        if isinstance(task, TradesTask):
            return self._market.historical_trades.weight
        return self._market.aggregate_trades.weight

    @property
    def newest_weight(self) -> int:
        """What newest() costs."""
        return self._market.aggregate_trades.weight

    def trades(self, task: TradesTask) -> list[Run]:
        """Return single trades from task.from_id on, lowest id first."""
        rows = self._rest.get(
            self._market.historical_trades,
            {"symbol": task.symbol, "fromId": task.from_id, "limit": task.limit},
            list[_TradeRow],
        )
        runs = [
            Run(row.trade_id, row.trade_id, row.price, row.quantity, row.time, row.is_buyer_maker)
            for row in rows
            if row.trade_id >= task.from_id and _is_valid(row.price, row.quantity)
        ]
        return _ascending(task.symbol, runs)

    def aggregates(self, task: AggregatesTask) -> list[Aggregate]:
        """Return a page of aggregates, by id or by time, oldest first."""
        start: dict[str, int] = (
            {"fromId": task.from_id}
            if task.from_id is not None
            else {"startTime": task.start_ms or 0}
        )
        limit = self._market.aggregate_trades.max_rows
        return self._aggregates(task.symbol, {**start, "limit": limit})

    def newest(self, symbol: str) -> Run | None:
        """Return the last aggregate of *symbol*, the cheapest question there is."""
        rows = self._aggregates(symbol, {"limit": 1})
        return rows[-1].run if rows else None

    def _aggregates(self, symbol: str, params: dict[str, int]) -> list[Aggregate]:
        rows = self._rest.get(
            self._market.aggregate_trades, {"symbol": symbol, **params}, list[_AggregateRow]
        )
        aggregates = [
            Aggregate(
                row.aggregate_id,
                Run(
                    row.first_id,
                    row.last_id,
                    row.price,
                    row.quantity,
                    row.time,
                    row.is_buyer_maker,
                ),
            )
            for row in rows
            # Old data holds aggregates that the exchange has marked invalid: f = l = -1, p = q = 0.
            if 0 <= row.first_id <= row.last_id and _is_valid(row.price, row.quantity)
        ]
        _ascending(symbol, [run for _, run in aggregates])
        return aggregates


def _is_valid(price: Decimal, quantity: Decimal) -> bool:
    return price.is_finite() and quantity.is_finite() and price > 0 and quantity > 0


def _ascending(symbol: str, runs: Sequence[Run]) -> list[Run]:
    """Return *runs* if their ids rise, as they must; what does not is not to be trusted."""
    for earlier, later in pairwise(runs):
        if later.first_id <= earlier.last_id:
            raise RestError(
                f"{symbol}: the exchange's answer has id {later.first_id} after {earlier.last_id}"
            )
    return list(runs)
