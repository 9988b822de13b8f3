"""The exact list of trades of a simulated market, and the bars that it makes."""

from __future__ import annotations

import json
from bisect import bisect_left
from copy import copy
from dataclasses import dataclass, replace
from decimal import Decimal, localcontext
from itertools import groupby
from typing import TYPE_CHECKING, Any

from msgspec import structs

from bintrades.model import Trade
from tests.simulation.schedule import START_MS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

    from bintrades.model import Bar
    from tests.simulation.schedule import Schedule

_PACES = (
    (0, 0, 0, 1, 3),  # a burst: many trades in one millisecond
    (5, 40, 90, 200),
    (20, 100, 400),
    (300, 900, 1_500),
    (4_000, 9_000),  # nearly silent
)
WIPED_IDS = 2**41
"""Of a market that is wiped all trades of before have higher ids, and those of after lower ones."""

_QUIET = (9_000, 25_000, 70_000)  # a trade now and then
_CALM = (2_000, 5_000, 9_000)  # after the faults


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Trades of one taker's order at one price, as aggTrades has them."""

    id: int
    trades: list[Trade]


class Tape:
    """All trades of one symbol, by id. Their event_time is when the exchange publishes them."""

    def __init__(
        self,
        symbol: str,
        schedule: Schedule,
        start: int,
        end: int,
        rng: Random,
        first_id: int | None = None,
    ) -> None:
        self.symbol = symbol
        self.trades = list(_trades(symbol, schedule, start, end, rng))
        if first_id is not None and self.trades:
            shift = first_id - self.trades[0].trade_id
            self.trades = [_renumbered(trade, shift) for trade in self.trades]
        self.ids = [trade.trade_id for trade in self.trades]
        first = rng.choice([0, 1, 77_000_000])
        self.aggregates = [
            Aggregate(first + number, group)
            for number, group in enumerate(_groups(self.trades, rng))
        ]

    def until(self, moment: int) -> Tape:
        """Return what is published before *moment*, with ids far above all of another tape."""
        cut = copy(self)
        cut.trades = [
            _renumbered(trade, WIPED_IDS) for trade in self.trades if trade.event_time <= moment
        ]
        cut.ids = [trade.trade_id for trade in cut.trades]
        count = bisect_left(
            self.aggregates, moment + 1, key=lambda group: group.trades[-1].event_time
        )
        cut.aggregates = [
            replace(group, trades=[_renumbered(trade, WIPED_IDS) for trade in group.trades])
            for group in self.aggregates[:count]
        ]
        return cut

    def between(self, first_id: int, last_id: int) -> list[Trade]:
        """Return the trades with such ids."""
        return self.trades[bisect_left(self.ids, first_id) : bisect_left(self.ids, last_id + 1)]


def _renumbered(trade: Trade, shift: int) -> Trade:
    return structs.replace(trade, trade_id=trade.trade_id + shift)


def _trades(symbol: str, schedule: Schedule, start: int, end: int, rng: Random) -> Iterable[Trade]:
    trade_id = rng.choice([0, 1, 2, 950, 2**40])
    time, published = start + rng.randrange(2_000), 0
    price = rng.choice([Decimal("0.00000001"), Decimal("61234.56"), Decimal("98765432.1")])
    tick = rng.choice([Decimal("0.00000001"), Decimal("0.01")])
    quantities = ["0.00000001", "0.1", "0.2", "3", "1234567.89012345", "92233720368.54775807"]
    pace = rng.choice(_PACES)
    is_buyer_maker = False
    calm = START_MS + schedule.phase + schedule.faults_end
    if symbol in schedule.silent_symbols:
        return
    if symbol == schedule.ended_symbol:
        end = min(end, START_MS + schedule.phase + schedule.ended_at)
    while time < end:
        if symbol in schedule.quiet_symbols:
            pace = _QUIET
        elif time > calm:
            pace = _CALM
        elif rng.random() < 0.05:
            pace = rng.choice(_PACES)
        if rng.random() < 0.4:
            price = max(price + tick * rng.randint(-3, 3), tick)
            is_buyer_maker = rng.random() < 0.5
        if rng.random() >= schedule.lawful_holes:
            shown = time - (rng.randint(0, schedule.clock_disorder) if time > start else 0)
            published = max(published, time + rng.randint(1, 9))
            quantity = Decimal(rng.choice(quantities))
            yield Trade(symbol, trade_id, shown, published, price, quantity, is_buyer_maker)
        trade_id += 1
        time += rng.choice(pace)


def _groups(trades: list[Trade], rng: Random) -> Iterable[list[Trade]]:
    """Yield aggregates: runs of ids with one price, time and taker, not always the longest."""
    group: list[Trade] = []
    for trade in trades:
        if group and not (
            trade.trade_id == group[-1].trade_id + 1
            and (trade.price, trade.time, trade.is_buyer_maker)
            == (group[-1].price, group[-1].time, group[-1].is_buyer_maker)
            and rng.random() < 0.8
        ):
            yield group
            group = []
        group.append(trade)
    if group:
        yield group


def payload(trade: Trade) -> bytes:
    """Return the message of a combined stream that tells of *trade*."""
    fields = {
        "e": "trade",
        "E": trade.event_time,
        "s": trade.symbol,
        "t": trade.trade_id,
        "p": f"{trade.price:f}",
        "q": f"{trade.quantity:f}",
        "T": trade.time,
        "m": trade.is_buyer_maker,
        "M": True,
    }
    message = {"stream": f"{trade.symbol.lower()}@trade", "data": fields}
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


def by_interval(trades: Iterable[Trade], interval: int) -> dict[int, list[Trade]]:
    """Return *trades*, which are in the order of their ids, by the open time of their interval."""
    found: dict[int, list[Trade]] = {}
    for trade in trades:
        found.setdefault(trade.time - trade.time % interval, []).append(trade)
    return found


def differences(bar: Bar, trades: list[Trade]) -> dict[str, tuple[Any, Any]]:
    """Return what *bar* says otherwise than the plain sums over *trades*, which say the second."""
    with localcontext() as context:
        context.prec = 200
        bought = [trade for trade in trades if not trade.is_buyer_maker]
        prices = [trade.price for trade in trades]
        expected = {
            "trade_count": len(trades),
            "buy_count": len(bought),
            "quantity": sum(trade.quantity for trade in trades),
            "buy_quantity": sum(trade.quantity for trade in bought),
            "value": sum(trade.quantity * trade.price for trade in trades),
            "buy_value": sum(trade.quantity * trade.price for trade in bought),
            "open_price": prices[0],
            "close_price": prices[-1],
            "min_price": min(prices),
            "max_price": max(prices),
            "first_trade_id": trades[0].trade_id,
            "last_trade_id": trades[-1].trade_id,
            "first_trade_time_ms": trades[0].time,
            "last_trade_time_ms": trades[-1].time,
        }
    return {
        name: (getattr(bar, name), value)
        for name, value in expected.items()
        if getattr(bar, name) != value
    }


def ranges(ids: Iterable[int]) -> list[tuple[int, int]]:
    """Return ascending *ids* as ranges, for people to read."""
    found = []
    for _, group in groupby(enumerate(ids), key=lambda pair: pair[1] - pair[0]):
        members = [trade_id for _, trade_id in group]
        found.append((members[0], members[-1]))
    return found
