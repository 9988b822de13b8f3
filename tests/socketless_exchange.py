"""An exchange without sockets: its trades, some ids absent, as REST answers them."""

from __future__ import annotations

from decimal import Decimal
from itertools import groupby
from typing import TYPE_CHECKING

from bintrades.exchange.binance.backfill_plan import Aggregate, TradesRequest
from bintrades.model import Trade, TradeRange
from tests.strategies import START

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from bintrades.exchange.binance.backfill_plan import AggregatesRequest


def make_market(
    rng: random.Random, symbol: str, count: int, *, first_id: int = 1_000, is_holed: bool = True
) -> list[Trade]:
    """Return *count* ids' worth of trades over a minute or so: runs of one taker, and holes."""
    trades: list[Trade] = []
    time, price, is_buyer_maker = START + rng.randrange(10_000), Decimal(7), False
    for trade_id in range(first_id, first_id + count):
        if is_holed and rng.random() < 0.1:
            continue
        if rng.random() < 0.6:
            time += rng.choice([1, 5, 700, 2_500, 12_000])
            price = Decimal(rng.randrange(1, 100_000)).scaleb(-3)
            is_buyer_maker = rng.random() < 0.5
        quantity = Decimal(rng.randrange(1, 10**9)).scaleb(-8)
        trades.append(Trade(symbol, trade_id, time, time + 3, price, quantity, is_buyer_maker))
    return trades


def as_run(trade: Trade) -> TradeRange:
    """Return *trade* as historicalTrades has it."""
    return TradeRange(
        trade.trade_id,
        trade.trade_id,
        trade.price,
        trade.quantity,
        trade.time,
        trade.is_buyer_maker,
    )


class Database:
    """What REST knows of one symbol, as far as the trade *through* and no farther."""

    def __init__(self, trades: Sequence[Trade], *, page: int) -> None:
        self.trades = trades
        self.through = 2**62
        self.page = page
        self.aggregates = _aggregates(trades)

    def trades_from(self, task: TradesRequest) -> list[TradeRange]:
        """Answer historicalTrades."""
        known = (trade for trade in self.trades if task.from_id <= trade.trade_id <= self.through)
        return [as_run(trade) for trade in known][: task.limit]

    def aggregates_from(self, task: AggregatesRequest) -> list[Aggregate]:
        """Answer aggTrades."""
        return [
            Aggregate(number, run)
            for number, run in self.aggregates
            if run.last_id <= self.through
            and (task.from_id is None or number >= task.from_id)
            and (task.start_ms is None or run.time >= task.start_ms)
        ][: self.page]


def _aggregates(trades: Sequence[Trade]) -> list[tuple[int, TradeRange]]:
    """Return what historic takers did, numbered: neighbouring ids with one price, time and side."""

    def key(place: tuple[int, Trade]) -> tuple[object, ...]:
        index, trade = place
        return trade.trade_id - index, trade.price, trade.time, trade.is_buyer_maker

    runs = []
    for _, places in groupby(enumerate(trades), key):
        group = [trade for _, trade in places]
        quantity = sum((trade.quantity for trade in group), Decimal(0))
        first, last = group[0], group[-1]
        runs.append(
            TradeRange(
                first.trade_id,
                last.trade_id,
                first.price,
                quantity,
                first.time,
                first.is_buyer_maker,
            )
        )
    return list(enumerate(runs, 500))
