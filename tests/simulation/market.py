"""The exact list of trades of a simulated market, what streams bring of it, and the bars of it."""

from __future__ import annotations

import json
from bisect import bisect_left
from copy import copy
from dataclasses import dataclass, replace
from decimal import Context, Decimal, localcontext
from itertools import groupby
from random import Random
from typing import TYPE_CHECKING, Any

from msgspec import structs

from bintrades.model import AggregateTrade, ExcludedId, Trade
from tests.simulation.schedule import START_MS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from bintrades.model import Bar
    from tests.simulation.kinds import Kind
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
_WINDOW_MS = 100  # of which futures aggregate the fills
_PUSHED_AFTER_MS = 150  # since the first of them
_LONGEST_RUN = 40  # of ids that are no fills
_NO_FILLS = ("NA", "NA", "NA", "NA", "INSURANCE_FUND", "ADL", "SOMETHING_NEW")
_FILLS = ("MARKET", "MARKET", "MARKET", "RPI", None)
_DIGITS = Context(prec=34)
"""To which the value of a trade in contracts is rounded."""


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Trades of one taker's order at one price, as aggTrades has them."""

    id: int
    trades: list[Trade]

    @property
    def quantity(self) -> Decimal:
        """That of all of them."""
        return sum((trade.quantity for trade in self.trades), Decimal(0))

    def before(self, trade_id: int) -> Trade:
        """Return as one trade those with lower ids, which there are."""
        trades = [trade for trade in self.trades if trade.trade_id < trade_id]
        quantity = sum((trade.quantity for trade in trades), Decimal(0))
        return structs.replace(self.published(0), quantity=quantity, last_trade_id=trade_id - 1)

    def published(self, event_time: int) -> AggregateTrade:
        """Return it as a stream brings it."""
        first = self.trades[0]
        return AggregateTrade(
            first.symbol,
            first.trade_id,
            first.time,
            event_time,
            first.price,
            self.quantity,
            first.is_buyer_maker,
            self.trades[-1].trade_id,
            self.id,
        )


class Tape:
    """All trades of one symbol, by id. Their event_time is when the exchange publishes them.

    Some ids of futures are no trades: only the stream has them.
    """

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
        self._kind = kind = schedule.kind
        self.records: Sequence[Trade] = self.trades
        """What the stream of single trades brings: ids that are no fills as well."""
        if kind.has_fillers:
            of_fillers = Random(f"fillers {schedule.seed} {symbol} {first_id}")
            self.records = _with_fillers(self.trades, kind.fillers, of_fillers)
            self.trades = fills_of(self.records)
        self.ids = [trade.trade_id for trade in self.trades]
        first = rng.choice([0, 1, 77_000_000])
        self.aggregates = [
            Aggregate(first + number, group)
            for number, group in enumerate(_groups(self.trades, rng, kind))
        ]
        self.stream = self.records
        """What the stream brings that is collected."""
        self.counted: Sequence[Trade] = self.trades
        """Of what bars are made."""
        if kind.is_aggregated:
            self.stream = list(_published(self.aggregates, kind))
            self.counted = self.stream if kind.is_approximate else self.trades

    def until(self, moment: int) -> Tape:
        """Return what is published before *moment*, with ids far above all of another tape."""
        cut, kind = copy(self), self._kind
        records = [each for each in self.records if each.event_time <= moment]
        count = bisect_left(
            self.aggregates, moment + 1, key=lambda group: group.trades[-1].event_time
        )
        if kind.is_aggregated:  # what is in no aggregate yet is as if it had not happened
            count = bisect_left(self.stream, moment + 1, key=lambda each: each.event_time)
            last = self.aggregates[count - 1].trades[-1].trade_id if count else -1
            records = [each for each in records if each.trade_id <= last]
        while records and isinstance(records[-1], ExcludedId):
            records.pop()
        cut.records = [_renumbered(each, WIPED_IDS) for each in records]
        cut.trades = fills_of(cut.records)
        cut.ids = [trade.trade_id for trade in cut.trades]
        cut.aggregates = [
            replace(group, trades=[_renumbered(trade, WIPED_IDS) for trade in group.trades])
            for group in self.aggregates[:count]
        ]
        cut.stream, cut.counted = cut.records, cut.trades
        if kind.is_aggregated:
            cut.stream = list(_published(cut.aggregates, kind))
            cut.counted = cut.stream if kind.is_approximate else cut.trades
        return cut

    @property
    def shown(self) -> Sequence[Trade]:
        """What bars are made of, and the ids that are no fills where the stream brings those."""
        return self.counted if self._kind.is_aggregated else self.records

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
        if not schedule.is_traded(symbol, time):
            time += rng.choice(pace) or 1
            continue
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


def _with_fillers(trades: Iterable[Trade], share: float, rng: Random) -> list[Trade]:
    """Return *trades*, some of whose ids are no fills, one or many in a row.

    The last one is: of others behind it nobody could tell that they were none.
    """
    trades = list(trades)
    records: list[Trade] = []
    left = 0
    for trade in trades[:-1]:
        if not left and rng.random() < share:
            left = rng.choice([1, 1, 1, 2, 5, _LONGEST_RUN])
        if left:
            left -= 1
            records.append(_as_filler(trade, rng))
        else:
            records.append(trade)
    return records + trades[-1:]


def _as_filler(trade: Trade, rng: Random) -> ExcludedId:
    is_empty = rng.random() < 0.7  # as those of kind NA are
    return ExcludedId(
        trade.symbol,
        trade.trade_id,
        trade.time,
        trade.event_time,
        Decimal(0) if is_empty else trade.price,
        Decimal(0) if is_empty else trade.quantity,
        trade.is_buyer_maker,
    )


def _groups(trades: Sequence[Trade], rng: Random, kind: Kind) -> Iterable[list[Trade]]:
    """Yield aggregates: runs of ids with one price, time and taker, not always the longest.

    On futures they need not have one time, and ids that are no fills may lie between them.
    """
    goes_on = _is_of_window if kind.has_fillers else _is_of_order
    group: list[Trade] = []
    for trade in trades:
        if group and not (goes_on(group, trade) and rng.random() < 0.8):
            yield group
            group = []
        group.append(trade)
    if group:
        yield group


def _is_of_order(group: list[Trade], trade: Trade) -> bool:
    last = group[-1]
    return trade.trade_id == last.trade_id + 1 and (
        (trade.price, trade.time, trade.is_buyer_maker)
        == (last.price, last.time, last.is_buyer_maker)
    )


def _is_of_window(group: list[Trade], trade: Trade) -> bool:
    first = group[0]
    return abs(trade.time - first.time) < _WINDOW_MS and (
        (trade.price, trade.is_buyer_maker) == (first.price, first.is_buyer_maker)
    )


def _published(aggregates: Iterable[Aggregate], kind: Kind) -> Iterator[AggregateTrade]:
    """Yield *aggregates* as a stream brings them: at once, or when their window is over."""
    published = 0
    for each in aggregates:
        event_time = each.trades[-1].event_time
        if kind.has_fillers:
            event_time = max(event_time, each.trades[0].time + _PUSHED_AFTER_MS)
        published = max(published, event_time)
        yield each.published(published)


def fills_of(records: Iterable[Trade]) -> list[Trade]:
    """Return those of *records* that are trades."""
    return [each for each in records if not isinstance(each, ExcludedId)]


def stream_name(symbol: str, stream: str) -> str:
    """Return what the stream of a symbol is called."""
    return f"{symbol.lower()}@{stream}"


def payload(trade: Trade, kind: Kind) -> bytes:
    """Return the message of a combined stream that tells of *trade*."""
    if isinstance(trade, AggregateTrade):
        return _aggregate_payload(trade, kind)
    if kind.has_fillers:
        return _futures_payload(trade)
    fields = {
        "e": "trade",
        "E": _time(trade.event_time, trade, kind),
        "s": trade.symbol,
        "t": trade.trade_id,
        "p": f"{trade.price:f}",
        "q": f"{trade.quantity:f}",
        "T": _time(trade.time, trade, kind),
        "m": trade.is_buyer_maker,
        "M": True,
    }
    return _combined(fields)


def _futures_payload(trade: Trade) -> bytes:
    """Return the message of a trade of futures, or of what is none. `T` is before `s` there."""
    fields = {
        "e": "trade",
        "E": trade.event_time,
        "T": trade.time,
        "s": trade.symbol,
        "t": trade.trade_id,
        "p": f"{trade.price:f}",
        "q": f"{trade.quantity:f}",
        "m": trade.is_buyer_maker,
        "st": 1,
    }
    kinds: Sequence[str | None] = _FILLS
    if isinstance(trade, ExcludedId):
        kinds = _NO_FILLS if trade.price else ("NA",)
    kind = kinds[trade.trade_id % len(kinds)]
    return _combined(fields if kind is None else {**fields, "X": kind})


def _aggregate_payload(trade: AggregateTrade, kind: Kind) -> bytes:
    fields = {
        "e": "aggTrade",
        "E": _time(trade.event_time, trade, kind),
        "s": trade.symbol,
        "a": trade.aggregate_id,
        "p": f"{trade.price:f}",
        "q": f"{trade.quantity:f}",
        "f": trade.trade_id,
        "l": trade.last_trade_id,
        "T": _time(trade.time, trade, kind),
        "m": trade.is_buyer_maker,
    }
    return _combined({**fields, "nq": "0", "st": 1} if kind.has_fillers else {**fields, "M": True})


def _time(time: int, trade: Trade, kind: Kind) -> int:
    """Return *time* as the stream tells it, in its unit."""
    return 1_000 * time + trade.trade_id % 1_000 if kind.is_in_microseconds else time


def _combined(fields: dict[str, Any]) -> bytes:
    message = {"stream": stream_name(fields["s"], fields["e"]), "data": fields}
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


def value_of(trade: Trade, contract_size: Decimal | None) -> Decimal:
    """Return what *trade* is worth: of contracts in the base asset, rounded to 34 digits."""
    if contract_size is None:
        return trade.quantity * trade.price
    return _DIGITS.divide(contract_size * trade.quantity, trade.price)


def by_interval(trades: Iterable[Trade], interval: int) -> dict[int, list[Trade]]:
    """Return *trades*, which are in the order of their ids, by the open time of their interval."""
    found: dict[int, list[Trade]] = {}
    for trade in trades:
        found.setdefault(trade.time - trade.time % interval, []).append(trade)
    return found


def differences(
    bar: Bar, trades: Sequence[Trade], contract_size: Decimal | None = None
) -> dict[str, tuple[Any, Any]]:
    """Return what *bar* says otherwise than the plain sums over *trades*, which say the second."""
    last = trades[-1]
    with localcontext() as context:
        context.prec = 200
        bought = [trade for trade in trades if not trade.is_buyer_maker]
        prices = [trade.price for trade in trades]
        expected = {
            "trade_count": len(trades),
            "buy_count": len(bought),
            "quantity": sum(trade.quantity for trade in trades),
            "buy_quantity": sum(trade.quantity for trade in bought),
            "value": sum(value_of(trade, contract_size) for trade in trades),
            "buy_value": sum(value_of(trade, contract_size) for trade in bought),
            "open_price": prices[0],
            "close_price": prices[-1],
            "min_price": min(prices),
            "max_price": max(prices),
            "first_trade_id": trades[0].trade_id,
            "last_trade_id": (
                last.last_trade_id if isinstance(last, AggregateTrade) else last.trade_id
            ),
            "first_trade_time_ms": trades[0].time,
            "last_trade_time_ms": last.time,
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
