"""A futures exchange without sockets, and a collector's ledger that loses much of its stream."""

from __future__ import annotations

import dataclasses
import random
from decimal import Decimal
from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from bintrades.core.backfill_result import BackfillResult
from bintrades.core.gap_queue import FIRST_RETRY_S, LONGEST_RETRY_S
from bintrades.core.gap_ranges import DISORDER_MS, GapRanges
from bintrades.exchange.binance.backfill_plan import (
    Aggregate,
    AggregatesRequest,
    RecentRequest,
    TradesRequest,
)
from bintrades.exchange.binance.budget import Budget
from bintrades.exchange.binance.futures_plan import FuturesPlan
from bintrades.exchange.binance.usdm import USDM
from bintrades.model import Gap, GapCause, GapSet, TradeRange
from bintrades.util.backoff import Backoff
from tests.strategies import START, SYMBOLS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bintrades.exchange.binance.backfill_plan import Request

T = TypeVar("T")

HOUR_MS = 3_600_000
REACH_MS = 2 * HOUR_MS
PAGE_IDS, PAGE_ROWS, RECENT_ROWS = 10, 6, 12
MARKET = dataclasses.replace(
    USDM,
    historical_trades=dataclasses.replace(USDM.historical_trades, max_rows=PAGE_IDS),
    aggregate_trades=dataclasses.replace(USDM.aggregate_trades, max_rows=PAGE_ROWS),
    recent_trades=dataclasses.replace(USDM.recent_trades, max_rows=RECENT_ROWS),
    history_ms=REACH_MS,
)
_WINDOW_MS = 100
_LONG_HOLE = 6  # ids
_CERTAIN_WITHIN_MS = 1_000 + DISORDER_MS  # what may be too old is given up with its gap


class Tape:
    """Every id of one symbol, what the exchange makes of them, and when it was published."""

    def __init__(self, rng: random.Random, count: int) -> None:
        self.fills: list[TradeRange] = []
        self.times: dict[int, int] = {}  # of every id, also of those that are no fills
        fillers = rng.choice([0.0, 0.05, 0.4])
        steps = rng.choice([(0, 1, 20), (0, 40, 300, 4_000), (1, 10_000, 90_000)])
        time, price, is_sell, left = START - 30_000, 7, False, 0
        self.first_id = rng.choice([0, 1_000])
        for trade_id in range(self.first_id, self.first_id + count):
            if rng.random() < 0.6:
                time += rng.choice(steps)
                price, is_sell = rng.randrange(1, 9), rng.random() < 0.5
            self.times[trade_id] = time
            if not left and rng.random() < fillers:
                left = rng.choice([1, 1, 2, 3 * PAGE_IDS])
            if left:
                left -= 1
            else:
                quantity = Decimal(rng.randrange(1, 99))
                self.fills.append(
                    TradeRange(trade_id, trade_id, Decimal(price), quantity, time, is_sell)
                )
        self.last_id = self.first_id + count - 1
        self.fill_ids = {each.first_id for each in self.fills}
        self.aggregates = self._aggregated(rng.choice([0, 1, 7_000]))

    def _aggregated(self, first_number: int) -> list[Aggregate]:
        groups: list[list[TradeRange]] = []
        for fill in self.fills:
            first = groups[-1][0] if groups else None
            if (
                first is not None
                and fill.time - first.time < _WINDOW_MS
                and (first.price, first.is_buyer_maker) == (fill.price, fill.is_buyer_maker)
            ):
                groups[-1].append(fill)
            else:
                groups.append([fill])
        return [
            Aggregate(
                number,
                replace(
                    group[0],
                    last_id=group[-1].last_id,
                    quantity=sum((each.quantity for each in group), Decimal(0)),
                ),
            )
            for number, group in enumerate(groups, first_number)
        ]


class LedgerOfIds:
    """What is missing of one symbol, as a ledger has it, and how each id ended."""

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.ranges = GapRanges()
        self.next_id: int | None = None
        self.last_time = START
        self.answers = 0
        self.live: set[int] = set()
        self.filled: dict[int, TradeRange] = {}
        self.excluded: set[int] = set()
        self.unwanted: set[int] = set()
        self.approximated: list[TradeRange] = []
        self.abandoned: dict[int, str | None] = {}
        self.begins_at: int | None = None
        self.errors: list[str] = []

    @property
    def gap_set(self) -> GapSet:
        return GapSet(self.symbol, self.ranges.as_tuple, (), self.answers)

    def hear(self, trade_id: int, time: int) -> None:
        """Take what the stream brought."""
        if self.next_id is None and trade_id > 0:
            gap = Gap.beginning(trade_id - 1, START, max(START, time) + DISORDER_MS)
            self.ranges.append(gap)
        elif self.next_id is not None and trade_id > self.next_id:
            span = self.last_time - DISORDER_MS, time + DISORDER_MS
            self.ranges.append(Gap(self.next_id, trade_id - 1, *span, GapCause.SKIPPED))
        self.live.add(trade_id)
        self.next_id, self.last_time = trade_id + 1, time

    def fill(self, result: BackfillResult) -> None:
        """Take an answer, in the order in which a series does."""
        self.answers += 1
        if result.error is not None:
            self.errors.append(result.error)
        if result.begins_at is not None:
            assert self.begins_at in (None, result.begins_at)
            self.begins_at = result.begins_at
            self.ranges.subtract(0, result.begins_at - 1)
        if result.abandoned_through is not None:
            self._abandon(result.abandoned_from, result.abandoned_through, result.error)
        for each in result.ranges:
            assert each.first_id == each.last_id, "single trades"
            if self.ranges.find(each.first_id) is not None:
                self._cut(each)
                self.filled[each.first_id] = each
        for ended, spans in (
            (self.excluded, result.excluded),
            (self.unwanted, result.unwanted),
        ):
            for first_id, last_id in spans:
                for part in list(self.ranges.within(first_id, last_id)):
                    ended.update(range(part.first_id, part.last_id + 1))
                self.ranges.subtract(first_id, last_id)
        for each in result.approximations:
            index = self.ranges.find(each.first_id)
            if index is not None and each.last_id <= self.ranges[index].last_id:
                self._cut(each)
                self.approximated.append(each)

    def _cut(self, trades: TradeRange) -> None:
        index = self.ranges.find(trades.first_id)
        assert index is not None
        self.ranges.cut(index, trades.first_id, trades.last_id, trades.time)

    def _abandon(self, first_id: int, last_id: int, error: str | None) -> None:
        parts = list(self.ranges.within(first_id, last_id))
        for part in parts:
            for each in range(part.first_id, part.last_id + 1):
                self.abandoned[each] = error
            self.ranges.subtract(part.first_id, part.last_id)


class World:
    """Streams that lose much, a plan, and an exchange whose answers are late, short or missing."""

    def __init__(
        self,
        seed: int,
        *,
        has_key: bool,
        is_faulty: bool = True,
        is_key_refused: bool = False,
        is_of_aggregates: bool = False,
        share_percent: int = 50,
        count: int = 120,
    ) -> None:
        self.rng = rng = random.Random(seed)
        self.is_faulty = is_faulty
        self.is_key_refused = is_key_refused
        self.now = 0
        self.tapes = {symbol: Tape(rng, rng.randrange(1, count)) for symbol in SYMBOLS[:2]}
        self.ledgers = {symbol: LedgerOfIds(symbol) for symbol in self.tapes}
        self.plan = FuturesPlan(
            MARKET,
            REACH_MS,
            lambda: Backoff(FIRST_RETRY_S, LONGEST_RETRY_S, rng),
            has_key=has_key,
            is_of_aggregates=is_of_aggregates,
            allowed=lambda: self.budget.allowed,
        )
        self.budget = Budget(MARKET.weight_per_minute, share_percent)
        self.asked: list[tuple[int, Request]] = []

    @property
    def clock(self) -> int:
        return START + self.now

    def weight(self, request: Request) -> int:
        if isinstance(request, TradesRequest):
            return MARKET.historical_trades.weight
        if isinstance(request, RecentRequest):
            return MARKET.recent_trades.weight
        return MARKET.aggregate_trades.weight

    def go(self) -> None:
        """Live through the tapes while most is lost, then on until all of it is too old."""
        loss = self.rng.choice([0.1, 0.6, 0.97])
        events = sorted(
            (time, symbol, trade_id)
            for symbol, tape in self.tapes.items()
            for trade_id, time in tape.times.items()
            if time >= START
        )
        for time, symbol, trade_id in events:
            while self.clock < time:
                self._pass(min(250, time - self.clock))
                self._step()
            is_last = trade_id == self.tapes[symbol].last_id
            if is_last or self.rng.random() >= loss:
                self.ledgers[symbol].hear(trade_id, time)
                self.plan.update(self.ledgers[symbol].gap_set, self.now)
            self._step()
        end = self.now + REACH_MS + HOUR_MS
        while self.now < end and not self.plan.is_empty:
            self._pass(250 if self._step() else self.rng.choice([250, 30_000]))

    def _pass(self, pause_ms: int) -> None:
        self.now += pause_ms

    def _step(self) -> bool:
        request = self.plan.next_request(self.now, self.clock)
        if request is None:
            return False
        if isinstance(request, BackfillResult):
            self._take(request)
            return True
        if self.budget.wait_ms(self.weight(request), self.now):
            self.plan.put_back(request)
            return False
        self.asked.append((self.now, request))
        self._take(self._answer(request))
        return True

    def _take(self, result: BackfillResult) -> None:
        ledger = self.ledgers[result.symbol]
        given_up = set(ledger.abandoned)
        ledger.fill(result)
        times = self.tapes[result.symbol].times
        for each in times.keys() & ledger.abandoned.keys() - given_up:
            assert times[each] < self.clock - REACH_MS + _CERTAIN_WITHIN_MS, "it could still be had"
        self.plan.update(ledger.gap_set, self.now)

    def _strikes(self, chance: float) -> bool:
        return self.is_faulty and self.rng.random() < chance

    def _answer(self, request: Request) -> BackfillResult:
        if self._strikes(0.15):
            return self.plan.failed(request, "the wire is cut", self.now)
        tape = self.tapes[request.symbol]
        visible = self.clock - (self.rng.choice([0, 0, 300, 20_000]) if self.is_faulty else 0)
        oldest = self.clock - REACH_MS
        if isinstance(request, RecentRequest):
            known = [each for each in tape.fills if each.time <= visible]
            rows = [] if self._strikes(0.1) else known[-RECENT_ROWS:]
            return self.plan.on_recent(request, self._without_a_burst(rows), self.now)
        if isinstance(request, TradesRequest):
            assert request.limit == PAGE_IDS
            if self.is_key_refused:
                self.plan.record_refused_key(self.now)
                return self.plan.failed(request, "-2015", self.now)
            page = [
                each
                for each in tape.fills
                if request.from_id <= each.first_id < request.from_id + request.limit
            ]
            if page and page[0].time < oldest:
                return self.plan.on_too_old(request, self.now)
            known = [each for each in page if each.time <= visible]
            return self.plan.on_trades(request, self._cut_short(known), self.now)
        return self._answer_aggregates(request, tape, visible, oldest)

    def _answer_aggregates(
        self, request: AggregatesRequest, tape: Tape, visible: int, oldest: int
    ) -> BackfillResult:
        assert request.from_id is None or request.start_ms is None
        if request.start_ms is not None and request.start_ms < oldest:
            return self.plan.on_too_old(request, self.now)
        found = [
            each
            for each in tape.aggregates
            if each.trades is not None
            and (request.from_id is None or each.id >= request.from_id)
            and (request.start_ms is None or each.trades.time >= request.start_ms)
        ]
        if found and found[0].trades is not None and found[0].trades.time < oldest:
            return self.plan.on_too_old(request, self.now)
        known = [
            each
            for each in found
            if each.trades is not None and tape.times[each.trades.last_id] + _WINDOW_MS <= visible
        ]
        return self.plan.on_aggregates(request, self._cut_short(known[:PAGE_ROWS]), self.now)

    def _without_a_burst(self, rows: list[TradeRange]) -> list[TradeRange]:
        """Return *rows*, perhaps without some of a burst, which will be there a moment later."""
        young = [each for each in rows if each.time > self.clock - 900]
        count = min(len(young), len(rows) - 1) - 1
        if count < _LONG_HOLE or not self._strikes(0.3):
            return rows
        start = len(rows) - 1 - self.rng.randrange(_LONG_HOLE, count + 1)
        return [*rows[:start], rows[-1]]

    def _cut_short(self, rows: Sequence[T]) -> Sequence[T]:
        return rows[: self.rng.randrange(len(rows))] if rows and self._strikes(0.1) else rows
