"""Which request is made for which gap, and what its answer means."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bintrades.core.aggregator import Aggregator
from bintrades.core.backfill_result import BackfillResult
from bintrades.core.gap_queue import FIRST_RETRY_S, LONGEST_RETRY_S, BackfillTiming
from bintrades.core.gap_ranges import DISORDER_MS
from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint
from bintrades.exchange.binance.backfill_plan import (
    Aggregate,
    AggregatesRequest,
    BackfillPlan,
    TradesRequest,
)
from bintrades.exchange.binance.spot import SPOT
from bintrades.model import Gap, GapCause, GapOutcome, GapSet, TradeRange
from bintrades.util.backoff import Backoff
from tests.socketless_exchange import Database, as_run, make_market
from tests.strategies import INTERVAL, SYMBOLS, Written, bars_of, spot_series
from tests.strategies import START as NOON

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bintrades.exchange.binance.backfill_plan import Request
    from bintrades.model import Trade

HOUR = 3_600_000
PAGE = 5
MARKET = dataclasses.replace(
    SPOT,
    historical_trades=dataclasses.replace(SPOT.historical_trades, max_rows=PAGE),
    aggregate_trades=dataclasses.replace(SPOT.aggregate_trades, max_rows=PAGE),
)
ALL = 1_000_000
"""More results of the backfill than there are: the ledger has taken them all."""

FIRST_REQUEST_AFTER_MS = BackfillTiming().first_request_after_ms
BTC, ETH, _ = SYMBOLS


def gap(
    first_id: int,
    last_id: int,
    *,
    since: int = NOON - DISORDER_MS,
    until: int = NOON + 1_000,
    attempts: int = 0,
) -> Gap:
    return Gap(first_id, last_id, since, until, GapCause.RESTART, attempts)


def start_gap(last_id: int, *, since: int = NOON) -> Gap:
    return Gap.beginning(last_id, since, since + 5_000)


def rows(*ids: int, time: int = NOON) -> list[TradeRange]:
    """Return single trades as historicalTrades answers them."""
    return [TradeRange(trade_id, trade_id, Decimal(1), Decimal(1), time, False) for trade_id in ids]


def aggregates(*spans: tuple[int, int], first: int = 100, time: int = NOON) -> list[Aggregate]:
    """Return aggregates of these ids, numbered from *first*."""
    return [
        Aggregate(number, TradeRange(low, high, Decimal(1), Decimal(1), time, False))
        for number, (low, high) in enumerate(spans, first)
    ]


class LongestWaits(random.Random):
    """Makes each wait of a backoff as long as it may be."""

    def uniform(self, _a: float, b: float) -> float:
        return b


def new_plan(max_age: int = HOUR) -> BackfillPlan:
    rng = LongestWaits()
    return BackfillPlan(MARKET, max_age, lambda: Backoff(FIRST_RETRY_S, LONGEST_RETRY_S, rng))


def update(
    plan: BackfillPlan, symbol: str, gaps: Sequence[Gap], now: int, *, answers: int = ALL
) -> None:
    """Have *plan* take over *gaps*, absent ones included, from a ledger that took *answers*."""
    missing = tuple(gap for gap in gaps if not gap.is_absent)
    absent = tuple(gap for gap in gaps if gap.is_absent)
    plan.update(GapSet(symbol, missing, absent, answers), now)


def missing_endpoint(
    plan: BackfillPlan, request: TradesRequest, error: str, now: int
) -> BackfillResult:
    """Have the host say that it has no historicalTrades."""
    plan.record_missing_endpoint(now)
    return plan.failed(request, error, now)


def plan_of(*gaps: Gap, symbol: str = BTC, max_age: int = HOUR, now: int = 0) -> BackfillPlan:
    """Return a plan that has been told of *gaps* a while ago."""
    plan = new_plan(max_age)
    update(plan, symbol, gaps, now - FIRST_REQUEST_AFTER_MS)
    return plan


def request_of(plan: BackfillPlan, now: int = 0, clock: int = NOON + 2_000) -> Request:
    """Return the next request, which there must be."""
    request = plan.next_request(now, clock)
    assert isinstance(request, TradesRequest | AggregatesRequest)
    return request


class Story:
    """Live trades, a plan and a database that answers, fails and lags as a seed has it."""

    def __init__(self, seed: int, *, has_single_trades: bool = True) -> None:
        self.rng = random.Random(seed)
        self.now = 0
        self.has_single_trades = has_single_trades
        self.aggregator = Aggregator(spot_series(SYMBOLS), interval_ms=INTERVAL, grace_ms=500)
        self.aggregator.connected(SYMBOLS, 0)
        self.plan = new_plan(3 * HOUR)
        self.written = Written()
        self.asked: list[Request] = []
        self.not_found_count = 0
        self.absent: set[tuple[str, int]] = set()
        self._updates: list[tuple[int, GapSet]] = []
        self.markets = {
            symbol: make_market(self.rng, symbol, self.rng.randrange(60)) for symbol in SYMBOLS
        }
        self.databases = {
            symbol: Database(trades, page=PAGE) for symbol, trades in self.markets.items()
        }
        self.heard: dict[str, list[Trade]] = {symbol: [] for symbol in SYMBOLS}

    @property
    def wanted(self) -> list[Trade]:
        """What the bars must hold: from the interval of the first live trade of all to the last."""
        times = [trade.event_time for heard in self.heard.values() for trade in heard]
        return [
            trade
            for symbol, heard in self.heard.items()
            if heard
            for trade in self.markets[symbol]
            if trade.time >= min([*times, heard[0].time]) // INTERVAL * INTERVAL
            and trade.trade_id <= heard[-1].trade_id
        ]

    def go(self) -> None:
        """Lose much of what is sent while repairing, then repair to the end."""
        loss = self.rng.choice([0.05, 0.5, 0.97])
        sent = sorted((t for m in self.markets.values() for t in m), key=lambda trade: trade.time)
        for trade in sent:
            self._pass(self.rng.choice([0, 1, 400]))
            self._lag(through=trade.time)
            if self.rng.random() >= loss:
                self.heard[trade.symbol].append(trade)
                self.aggregator.add([trade], self.now)
                self._tell(trade.symbol)
            self._step()
        self._lag(through=2**62)
        self.repair_for(50 * 60_000)

    def repair_for(self, duration_ms: int) -> None:
        """Go on without live trades, until nothing is missing or for so long."""
        end = self.now + duration_ms
        while self.now < end and any(
            self.aggregator.series[symbol].gap_set.missing for symbol in SYMBOLS
        ):
            self._pass(250)
            self._step()
        self._collect()

    def _pass(self, pause_ms: int) -> None:
        self.now += pause_ms
        while self._updates and self._updates[0][0] <= self.now:
            _, gaps = self._updates.pop(0)
            self.plan.update(gaps, self.now)

    def _lag(self, through: int) -> None:
        for symbol, database in self.databases.items():
            ids = [trade.trade_id for trade in self.markets[symbol] if trade.time <= through]
            hidden = self.rng.choice([0, 0, 1, 6]) if through < 2**62 else 0
            database.through = ids[-1 - hidden] if len(ids) > hidden else -1

    def _tell(self, symbol: str) -> None:
        """Let the plan hear of the gaps a little later, as it does of what went before."""
        at = max(self.now + self.rng.choice([0, 1, 300]), *(u[0] for u in self._updates[-1:]), 0)
        gaps = self.aggregator.series[symbol].take_gap_set()
        if gaps is not None:
            self._updates.append((at, gaps))

    def _step(self) -> None:
        request = self.plan.next_request(self.now, self.aggregator.clock(self.now) or NOON)
        if request is None:
            return
        repaired = request if isinstance(request, BackfillResult) else self._answer(request)
        for first_id, last_id in repaired.absent:
            self.absent.update((repaired.symbol, i) for i in range(first_id, last_id + 1))
        self.aggregator.fill(repaired)
        self._tell(repaired.symbol)
        if self.rng.random() < 0.3:
            self._collect()

    def _answer(self, request: Request) -> BackfillResult:
        self.asked.append(request)
        if self.rng.random() < 0.2:
            return self.plan.failed(request, "the wire is cut", self.now)
        database = self.databases[request.symbol]
        if isinstance(request, TradesRequest) and not self.has_single_trades:
            self.not_found_count += 1
            return missing_endpoint(self.plan, request, "404", self.now)
        if isinstance(request, TradesRequest):
            return self.plan.on_trades(request, database.trades_from(request), self.now)
        assert isinstance(request, AggregatesRequest)
        return self.plan.on_aggregates(request, database.aggregates_from(request), self.now)

    def _collect(self) -> None:
        self.aggregator.advance(self.now)
        self.written.pending.update(self.aggregator.collect(is_last=True))
        self.written.write()


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 2**32))
def test_every_gap_is_closed_in_the_end_and_the_bars_are_those_of_all_trades(seed: int) -> None:
    story = Story(seed)
    story.go()

    assert {
        symbol: story.aggregator.series[symbol].gap_set.missing for symbol in SYMBOLS
    } == dict.fromkeys(SYMBOLS, ())
    assert story.written.closed == bars_of(story.wanted)
    assert story.plan.next_request(story.now, NOON) is None


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32))
def test_only_ids_that_the_exchange_does_not_have_are_held_to_be_absent(seed: int) -> None:
    story = Story(seed)
    story.go()

    existing = {(trade.symbol, trade.trade_id) for m in story.markets.values() for trade in m}
    assert not story.absent & existing


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32))
@example(548)
def test_without_single_trades_all_that_aggregates_tell_is_filled_and_the_rest_when_they_are_there(
    seed: int,
) -> None:
    story = Story(seed, has_single_trades=False)
    story.go()

    assert story.not_found_count <= 2
    for symbol in SYMBOLS:
        gaps = story.aggregator.series[symbol].gap_set.missing
        missing = {i for gap in gaps for i in range(gap.first_id, gap.last_id + 1)}
        for _, each in story.databases[symbol].aggregates:
            assert not missing.issuperset(range(each.first_id, each.last_id + 1))
        assert all("no historicalTrades" in (gap.last_error or "") for gap in gaps)

    story.has_single_trades = True
    story.repair_for(2 * HOUR)
    assert not any(story.aggregator.series[symbol].gap_set.missing for symbol in SYMBOLS)
    assert story.written.closed == bars_of(story.wanted)


def test_a_new_gap_is_given_time_to_fill_by_itself() -> None:
    plan = new_plan(HOUR)
    update(plan, BTC, [gap(5, 7)], now=0)

    assert plan.next_request(FIRST_REQUEST_AFTER_MS - 1, NOON) is None
    assert plan.next_request(FIRST_REQUEST_AFTER_MS, NOON) is not None


def test_a_gap_that_filled_by_itself_is_not_asked_about() -> None:
    plan = plan_of(gap(5, 7))
    update(plan, BTC, [], now=0)

    assert plan.next_request(0, NOON) is None
    assert plan.is_empty


def test_a_small_gap_is_asked_for_by_id_with_the_rows_before_and_after_it() -> None:
    assert request_of(plan_of(gap(5, 7))) == TradesRequest(BTC, gap(5, 7), from_id=4, limit=5)
    assert request_of(plan_of(gap(0, 2))) == TradesRequest(BTC, gap(0, 2), from_id=0, limit=4)


def test_the_row_before_a_gap_is_looked_for_below_what_is_not_known_either() -> None:
    abandoned = replace(gap(5, 6), is_abandoned=True)

    assert request_of(plan_of(abandoned, gap(7, 7))) == TradesRequest(
        BTC, gap(7, 7), from_id=4, limit=5
    )
    assert request_of(plan_of(replace(abandoned, first_id=2), gap(7, 7))) == TradesRequest(
        BTC, gap(7, 7), from_id=6, limit=3
    )


def test_a_page_asked_for_by_id_reaches_back_to_the_gaps_before() -> None:
    plan = plan_of(start_gap(1), gap(3, 3), gap(6, 6), gap(8, 8))

    request = request_of(plan)
    assert request == TradesRequest(BTC, gap(8, 8), from_id=5, limit=5)
    repaired = plan.on_trades(request, rows(5, 6, 7, 8, 9), now=0)

    assert repaired.gap == gap(8, 8)
    assert [each.first_id for each in repaired.ranges] == [6, 8]
    assert repaired.error is None


def test_a_page_that_does_not_reach_its_gap_yet_still_fills_those_before() -> None:
    plan = plan_of(gap(6, 6), gap(8, 8))
    request = request_of(plan)
    assert isinstance(request, TradesRequest)

    repaired = plan.on_trades(request, rows(6, 7), now=0)

    assert [each.first_id for each in repaired.ranges] == [6]
    assert repaired.error == "the exchange does not have it all yet"


def test_a_large_gap_is_asked_for_by_aggregates_since_the_trade_before_it() -> None:
    assert request_of(plan_of(gap(5, 9))) == AggregatesRequest(BTC, gap(5, 9), None, start_ms=NOON)


def test_what_is_left_of_a_beginning_is_asked_for_since_that_and_not_after() -> None:
    begun = Gap(100, 190, NOON, NOON + 1_000, GapCause.START)

    assert request_of(plan_of(begun)) == AggregatesRequest(BTC, begun, None, NOON)


def test_a_gap_at_the_end_of_a_full_page_of_trades_is_asked_for_again_at_once() -> None:
    plan = plan_of(gap(5, 9))
    request = TradesRequest(BTC, gap(5, 9), 5, 5)

    repaired = plan.on_trades(request, rows(3, 5, 6, 7, 8), now=0)

    assert [each.first_id for each in repaired.ranges] == [5, 6, 7, 8]
    assert repaired.error is None
    update(plan, BTC, [gap(9, 9)], now=0)
    assert request_of(plan).gap == gap(9, 9)


def test_a_page_has_as_many_rows_as_its_endpoint_answers() -> None:
    market = dataclasses.replace(
        SPOT,
        historical_trades=dataclasses.replace(SPOT.historical_trades, max_rows=500),
        aggregate_trades=dataclasses.replace(SPOT.aggregate_trades, max_rows=300),
    )
    plan = BackfillPlan(market, HOUR, lambda: Backoff(1.0, 300.0))
    update(plan, BTC, [gap(10, 508)], now=-FIRST_REQUEST_AFTER_MS)
    assert request_of(plan) == TradesRequest(BTC, gap(10, 508), from_id=9, limit=500)

    update(plan, ETH, [gap(10, 2_009)], now=-FIRST_REQUEST_AFTER_MS)
    request = request_of(plan)
    assert isinstance(request, AggregatesRequest)
    full = aggregates(*((i, i) for i in range(10, 310)))
    assert plan.on_aggregates(request, full, now=0).error is None
    update(plan, ETH, [gap(310, 2_009)], now=0)
    assert request_of(plan) == AggregatesRequest(ETH, gap(310, 2_009), 400, None)


def test_aggregates_are_paged_by_their_own_id_and_never_by_time() -> None:
    plan = plan_of(gap(5, 40))
    first = request_of(plan)
    assert isinstance(first, AggregatesRequest)

    plan.on_aggregates(first, aggregates((3, 5), (6, 6), (7, 8), (9, 9), (10, 12)), now=0)
    update(plan, BTC, [gap(5, 5), gap(13, 40)], now=0)

    assert request_of(plan) == AggregatesRequest(BTC, gap(13, 40), from_id=105, start_ms=None)


def test_what_aggregates_cannot_tell_at_the_edges_is_asked_for_by_id() -> None:
    plan = plan_of(gap(5, 9))
    request = request_of(plan)
    assert isinstance(request, AggregatesRequest)

    repaired = plan.on_aggregates(request, aggregates((3, 5), (6, 7), (8, 12)), now=0)

    assert [(each.first_id, each.last_id) for each in repaired.ranges] == [(6, 7)]
    update(plan, BTC, [gap(5, 5), gap(8, 9)], now=0)
    assert request_of(plan, now=FIRST_REQUEST_AFTER_MS) == TradesRequest(BTC, gap(8, 9), 7, 4)


def test_a_large_hole_that_aggregates_reach_around_is_asked_for_by_id() -> None:
    plan = plan_of(gap(5, 30))
    request = request_of(plan)
    assert isinstance(request, AggregatesRequest)

    assert plan.on_aggregates(request, aggregates((4, 4), (31, 31)), now=0).ranges == []
    update(plan, BTC, [gap(5, 30, attempts=1)], now=0)

    assert isinstance(request_of(plan), TradesRequest)


def test_aggregates_that_the_exchange_has_marked_invalid_are_passed_over() -> None:
    plan = plan_of(gap(5, 40))
    request = request_of(plan)
    assert isinstance(request, AggregatesRequest)
    invalid = [Aggregate(number, None) for number in range(100, 105)]

    repaired = plan.on_aggregates(request, invalid, now=0)

    assert (repaired.ranges, repaired.error) == ((), "the exchange has nothing valid there")
    update(plan, BTC, [gap(5, 40, attempts=1)], 0)
    again = request_of(plan, now=1_000)
    assert isinstance(again, AggregatesRequest)
    assert again.from_id == 105
    mixed = [Aggregate(105, None), *aggregates((6, 9), first=106), Aggregate(107, None)]
    assert [each.first_id for each in plan.on_aggregates(again, mixed, now=0).ranges] == [6]


def test_the_gap_before_the_first_trade_begins_at_the_interval_and_what_is_before_is_unwanted() -> (
    None
):
    plan = plan_of(start_gap(99))
    request = request_of(plan)
    assert request == AggregatesRequest(
        BTC, start_gap(99), None, NOON - 2 * DISORDER_MS, begins_ms=NOON
    )
    assert isinstance(request, AggregatesRequest)

    older = aggregates((90, 94), (95, 96), time=NOON - DISORDER_MS - 1)
    page = [*older, *aggregates((97, 98), (99, 103), first=102)]
    repaired = plan.on_aggregates(request, page, now=0)

    assert repaired.begins_at == 97
    assert repaired.abandoned_through is None
    assert [(each.first_id, each.last_id) for each in repaired.ranges] == [(97, 98)]


def test_only_the_first_page_tells_where_the_first_interval_begins() -> None:
    plan = plan_of(start_gap(99))
    request = request_of(plan)
    assert isinstance(request, AggregatesRequest)
    page = aggregates(*((i, i) for i in range(5)))
    assert plan.on_aggregates(request, page, now=0).begins_at == 0
    update(plan, BTC, [replace(Gap.beginning(99, NOON, NOON + 5_000), attempts=1)], now=0)
    request = request_of(plan)
    assert isinstance(request, AggregatesRequest)
    assert request.from_id == 105

    assert plan.on_aggregates(request, aggregates((5, 6), first=105), now=0).begins_at is None


def test_the_newest_gap_of_a_symbol_comes_first() -> None:
    assert request_of(plan_of(gap(5, 6), gap(20, 22), gap(9, 9))).gap.last_id == 9
    assert request_of(plan_of(gap(5, 6), gap(9, 9), gap(20, 22))).gap == gap(20, 22)


def test_a_gap_that_must_wait_does_not_hold_up_the_others_of_its_symbol() -> None:
    plan = plan_of(gap(5, 6), gap(20, 22))
    newest = request_of(plan)
    plan.failed(newest, "no", now=0)
    update(plan, BTC, [gap(5, 6), gap(20, 22, attempts=1)], now=0)

    assert request_of(plan).gap == gap(5, 6)


def test_symbols_take_turns_however_often_their_gaps_change() -> None:
    plan = new_plan(HOUR)
    gaps = {
        symbol: [gap(number * 10, number * 10 + 2) for number in range(9)] for symbol in SYMBOLS
    }
    for symbol in SYMBOLS:
        update(plan, symbol, gaps[symbol], now=-FIRST_REQUEST_AFTER_MS)
    served = []
    for number in range(9):
        update(plan, BTC, gaps[BTC], now=0)  # it is always busy
        request = request_of(plan)
        assert isinstance(request, TradesRequest)
        served.append(request.symbol)
        plan.on_trades(request, rows(*range(request.from_id, request.from_id + 3)), now=0)
        gaps[request.symbol].remove(request.gap)
        update(plan, request.symbol, gaps[request.symbol], now=0)
        assert number or request.gap.first_id == 80

    assert Counter(served) == dict.fromkeys(SYMBOLS, 3)
    assert all(one != other for one, other in pairwise(served))


def test_nothing_is_asked_about_a_symbol_until_its_last_answer_has_been_taken_in() -> None:
    plan = plan_of(gap(5, 6), gap(20, 22))
    request = request_of(plan)
    assert plan.next_request(0, NOON) is None

    update(plan, BTC, [gap(5, 6), gap(20, 22), gap(40, 41)], now=0)  # older than the answer
    assert plan.next_request(10_000, NOON) is None

    plan.failed(request, "no", now=0)
    update(plan, BTC, [gap(5, 6), gap(20, 21), gap(40, 41)], now=0, answers=0)  # as well
    assert plan.next_request(10_000, NOON) is None
    update(plan, BTC, [gap(5, 6), gap(20, 22, attempts=1)], now=0, answers=1)
    assert plan.next_request(10_000, NOON) is not None


def test_a_task_that_cannot_be_carried_out_now_is_found_again() -> None:
    plan = plan_of(gap(5, 6))
    request = request_of(plan)

    plan.put_back(request)

    assert request_of(plan) == request


def test_the_wait_for_a_gap_grows_while_its_requests_fail_and_begins_anew_after() -> None:
    plan = plan_of(gap(5, 40))
    waits, now = [], 0
    for attempt in range(1, 12):
        request = request_of(plan, now)
        plan.failed(request, "no", now)
        update(plan, BTC, [gap(5, 40, attempts=attempt)], now)
        asked_at = now
        while plan.next_request(now, NOON + 2_000) is None:
            now += 500
        waits.append(now - asked_at)
        plan.put_back(request)

    assert waits[:5] == [1_000, 2_000, 4_000, 8_000, 16_000]
    assert waits[-2:] == [300_000, 300_000]
    assert isinstance(request, AggregatesRequest)
    plan.on_aggregates(request, aggregates(*((i, i) for i in range(5, 10))), now)
    update(plan, BTC, [gap(10, 40)], now)
    assert plan.failed(request_of(plan, now), "no", now).error == "no"
    update(plan, BTC, [gap(10, 40, attempts=1)], now)
    assert plan.next_request(now + 1_000, NOON) is not None


def wait_after(plan: BackfillPlan, left: Sequence[Gap], now: int) -> int:
    """Return how long nothing is asked after an answer at *now* that has *left* these gaps."""
    update(plan, BTC, left, now)
    waited = 0
    while (request := plan.next_request(now + waited, NOON + 2_000)) is None:
        waited += 500
    assert not isinstance(request, BackfillResult)
    plan.put_back(request)
    return waited


def test_a_short_page_that_brought_something_is_followed_by_the_shortest_wait() -> None:
    plan = plan_of(gap(5, 7))
    waits, now = [], 0
    for page, left in [
        (rows(), gap(5, 7, attempts=1)),
        (rows(), gap(5, 7, attempts=2)),
        (rows(5), gap(6, 7, attempts=3)),
        (rows(6), gap(7, 7, attempts=4)),
        (rows(), gap(7, 7, attempts=5)),
    ]:
        request = request_of(plan, now)
        assert isinstance(request, TradesRequest)
        plan.on_trades(request, page, now)
        waits.append(wait_after(plan, [left], now))
        now += waits[-1]

    assert waits == [1_000, 2_000, 1_000, 1_000, 2_000]


def test_a_page_that_only_filled_gaps_before_its_own_is_followed_by_the_shortest_wait() -> None:
    plan = plan_of(gap(4, 4), gap(6, 7))
    plan.failed(request_of(plan), "no", now=0)
    update(plan, BTC, [gap(4, 4), gap(6, 7, attempts=1)], now=0)
    request = request_of(plan, now=1_000)
    assert isinstance(request, TradesRequest)
    assert request.gap == gap(6, 7, attempts=1)

    plan.on_trades(request, rows(4), now=1_000)

    assert wait_after(plan, [gap(6, 7, attempts=2)], now=1_000) == 1_000


def test_a_short_page_of_aggregates_that_brought_something_is_followed_by_the_shortest_wait() -> (
    None
):
    plan = plan_of(gap(5, 40))
    plan.failed(request_of(plan), "no", now=0)
    assert wait_after(plan, [gap(5, 40, attempts=1)], now=0) == 1_000
    request = request_of(plan, now=1_000)
    assert isinstance(request, AggregatesRequest)

    plan.on_aggregates(request, aggregates((5, 6)), now=1_000)
    assert wait_after(plan, [gap(7, 40, attempts=2)], now=1_000) == 1_000
    request = request_of(plan, now=2_000)
    assert isinstance(request, AggregatesRequest)
    plan.on_aggregates(request, aggregates((4, 6), first=101), now=2_000)
    assert wait_after(plan, [gap(7, 40, attempts=3)], now=2_000) == 2_000


def plan_without_single_trades(*gaps: Gap) -> BackfillPlan:
    """Return a plan whose host has said twice, at 0 and at 1 s, that it has no historicalTrades."""
    plan = plan_of(*gaps)
    for attempt in range(2):
        request = request_of(plan, attempt * 1_000)
        assert isinstance(request, TradesRequest)
        assert missing_endpoint(plan, request, "404", attempt * 1_000).error == "404"
        update(plan, BTC, [replace(each, attempts=attempt + 1) for each in gaps], attempt * 1_000)
    return plan


def test_a_host_without_single_trades_is_asked_for_aggregates_of_small_gaps_too() -> None:
    plan = plan_without_single_trades(gap(5, 8))
    assert plan.next_request(2_999, NOON) is None
    request = request_of(plan, now=3_000)
    assert request == AggregatesRequest(BTC, gap(5, 8, attempts=2), None, start_ms=NOON)
    assert isinstance(request, AggregatesRequest)

    repaired = plan.on_aggregates(request, aggregates((4, 5), (6, 8), (9, 9)), now=3_000)

    assert [(each.first_id, each.last_id) for each in repaired.ranges] == [(6, 8)]
    assert repaired.error == (
        "this host has no historicalTrades, and aggregates do not tell these trades"
    )


def test_an_answer_that_leaves_nothing_is_no_failure_for_want_of_single_trades() -> None:
    plan = plan_without_single_trades(gap(5, 8))
    request = request_of(plan, now=3_000)
    assert isinstance(request, AggregatesRequest)

    repaired = plan.on_aggregates(request, aggregates((5, 7), (8, 8)), now=3_000)

    assert (len(repaired.ranges), repaired.error) == (2, None)


def test_ids_before_the_beginning_are_not_what_aggregates_failed_to_tell() -> None:
    plan = plan_without_single_trades(gap(5, 8))
    update(plan, BTC, [], now=1_000)
    update(plan, BTC, [start_gap(99)], now=1_000)
    request = request_of(plan, now=2_000)
    assert isinstance(request, AggregatesRequest)

    older = aggregates((96, 96), time=NOON - DISORDER_MS - 1)
    page = [*older, *aggregates((97, 98), (99, 99), first=101)]
    repaired = plan.on_aggregates(request, page, now=2_000)

    assert (repaired.begins_at, repaired.error) == (97, None)


def test_what_aggregates_do_not_tell_waits_until_single_trades_are_asked_for_again() -> None:
    plan = plan_without_single_trades(gap(5, 8))
    request = request_of(plan, now=3_000)
    assert isinstance(request, AggregatesRequest)
    plan.on_aggregates(request, aggregates((4, 8)), now=3_000)
    left = gap(5, 8, attempts=3)
    update(plan, BTC, [left], now=3_000)
    asked_again_at = 1_000 + HOUR

    assert plan.next_request(asked_again_at - 1, NOON) is None
    request = request_of(plan, now=asked_again_at)
    assert isinstance(request, TradesRequest)
    missing_endpoint(plan, request, "404", asked_again_at)
    update(plan, BTC, [gap(5, 8, attempts=4)], asked_again_at)
    assert isinstance(request_of(plan, now=asked_again_at + 1_000), AggregatesRequest)


def test_a_host_that_has_single_trades_after_all_is_asked_for_them() -> None:
    plan = plan_without_single_trades(gap(5, 8))
    now = 1_000 + HOUR
    request = request_of(plan, now)
    assert isinstance(request, TradesRequest)
    plan.on_trades(request, rows(5, 6), now)
    update(plan, BTC, [gap(7, 8)], now)
    request = request_of(plan, now + 1_000)
    assert isinstance(request, TradesRequest)

    missing_endpoint(plan, request, "404", now + 1_000)
    update(plan, BTC, [gap(7, 8, attempts=1)], now + 1_000)

    assert isinstance(request_of(plan, now + 60_000), TradesRequest), (
        "one such answer may be a mistake"
    )


def test_a_short_or_empty_page_is_no_proof_of_absence() -> None:
    plan = plan_of(gap(5, 7))
    request = request_of(plan)
    assert isinstance(request, TradesRequest)

    for now in (0, 10_000, 100_000):
        for page in (rows(), rows(5), rows(5, 6)):
            repaired = plan.on_trades(request, page, now)
            assert repaired.absent == []
            assert len(repaired.ranges) == len(page)
            assert repaired.error == "the exchange does not have it all yet"


MINUTE = 60_000


def ask(
    plan: BackfillPlan, now: int, answer: Sequence[TradeRange] | Sequence[Aggregate]
) -> BackfillResult:
    """Have the next question about BTC be answered; the plan hears what the ledger made of it."""
    request = request_of(plan, now)
    if isinstance(request, TradesRequest):
        repaired = plan.on_trades(
            request, [row for row in answer if isinstance(row, TradeRange)], now
        )
    else:
        page = [row for row in answer if isinstance(row, Aggregate)]
        assert isinstance(request, AggregatesRequest)
        repaired = plan.on_aggregates(request, page, now)
    assert answer
    update(plan, BTC, [replace(request.gap, attempts=request.gap.attempts + 1)], now)
    return repaired


AROUND = rows(4, 8)
AROUND_TOO = aggregates((3, 4), (8, 9))


def said_twice(plan: BackfillPlan, first_at: int = 0) -> int:
    """Have both endpoints say two times that 5 to 7 do not exist; return when next to ask."""
    for now in (first_at, first_at + MINUTE):
        assert ask(plan, now, AROUND).absent == []
        assert ask(plan, now, AROUND_TOO).absent == []
    return first_at + 10 * MINUTE


def test_ids_are_absent_when_both_endpoints_have_said_so_again_after_one_and_ten_minutes() -> None:
    plan = plan_of(gap(5, 7))

    assert ask(plan, 0, AROUND).absent == []
    assert plan.next_request(0, NOON) == AggregatesRequest(
        BTC, gap(5, 7, attempts=1), None, NOON, is_cross_check=True
    )
    plan.put_back(request_of(plan_of(gap(5, 7))))
    first = ask(plan, 0, AROUND_TOO)
    assert (first.absent, "must say so again" in (first.error or "")) == ([], True)
    assert plan.next_request(MINUTE - 1, NOON) is None
    assert ask(plan, MINUTE, AROUND).absent == []
    assert ask(plan, MINUTE, AROUND_TOO).absent == []
    assert plan.next_request(10 * MINUTE - 1, NOON) is None
    assert ask(plan, 10 * MINUTE, AROUND).absent == []
    last = ask(plan, 10 * MINUTE, AROUND_TOO)

    assert (last.absent, last.absent_at, last.error) == ([(5, 7)], NOON + 2_000, None)


def test_after_a_restart_it_must_be_said_as_often_again() -> None:
    plan = plan_of(gap(5, 7))
    said_twice(plan)
    restarted = plan_of(gap(5, 7, attempts=4), now=10 * MINUTE)

    now = said_twice(restarted, first_at=10 * MINUTE)

    assert ask(restarted, now, AROUND).absent == []
    assert ask(restarted, now, AROUND_TOO).absent == [(5, 7)]


@pytest.mark.parametrize(
    "answer",
    [
        rows(900, 901, 902),  # the newest rows, whatever was asked for
        rows(8, 9),  # without the trade before
        rows(4, 9),  # without the trade after
        rows(3, 8),  # without one that is known to be before
        rows(3, 4, 9, 10),
    ],
    ids=str,
)
def test_an_answer_that_lacks_the_trades_around_a_hole_says_nothing_of_it(
    answer: list[TradeRange],
) -> None:
    plan = plan_of(gap(5, 7))
    now = said_twice(plan)

    repaired = ask(plan, now, answer)

    assert repaired.absent == []
    assert repaired.error == "the answer does not hold the trades around it"
    assert isinstance(request_of(plan, now + 5 * MINUTE), TradesRequest)


@pytest.mark.parametrize(
    "answer",
    [
        aggregates((900, 950)),
        aggregates((8, 9)),
        aggregates((3, 4)),
        aggregates((1, 3), (8, 9)),
        aggregates((3, 4), (9, 9)),
    ],
    ids=str,
)
def test_a_second_endpoint_that_lacks_the_trades_around_a_hole_does_not_agree(
    answer: list[Aggregate],
) -> None:
    plan = plan_of(gap(5, 7))
    now = said_twice(plan)
    ask(plan, now, AROUND)

    repaired = ask(plan, now, answer)

    assert repaired.absent == []
    assert repaired.error == "the answer does not hold the trades around it"
    assert ask(plan, now + 5 * MINUTE, AROUND_TOO).absent == [(5, 7)]


def test_a_second_endpoint_that_has_one_of_the_trades_makes_everything_start_over() -> None:
    plan = plan_of(gap(5, 7))
    now = said_twice(plan)
    ask(plan, now, AROUND)

    disagrees = ask(plan, now, aggregates((4, 5), (8, 9)))
    assert (disagrees.absent, disagrees.error) == (
        [],
        "aggTrades has trades that historicalTrades lacks",
    )

    now = said_twice(plan, first_at=now + 5 * MINUTE)
    assert ask(plan, now, AROUND).absent == []
    assert ask(plan, now, AROUND_TOO).absent == [(5, 7)]


def test_a_second_look_goes_on_page_by_page_until_it_has_reached_around() -> None:
    plan = plan_of(gap(50, 50))
    assert ask(plan, 0, rows(49, 51)).absent == []

    page = aggregates(*((i, i) for i in range(45, 50)))
    assert ask(plan, 0, page).absent == []
    request = request_of(plan)
    assert request == AggregatesRequest(
        BTC, gap(50, 50, attempts=2), from_id=105, start_ms=None, is_cross_check=True
    )
    plan.put_back(request)
    ask(plan, 0, aggregates((51, 51), first=105))

    assert plan.next_request(MINUTE - 1, NOON) is None
    assert isinstance(request_of(plan, MINUTE), TradesRequest)


def test_what_is_left_of_a_hole_when_a_trade_of_it_came_must_be_said_anew() -> None:
    plan = plan_of(gap(5, 7))
    now = said_twice(plan)
    update(plan, BTC, [gap(6, 7)], now)
    around, around_too = rows(5, 8), aggregates((5, 5), (8, 9))

    assert ask_about(plan, now, around, around_too) == []
    assert ask_about(plan, now + MINUTE, around, around_too) == []
    assert ask_about(plan, now + 10 * MINUTE, around, around_too) == [(6, 7)]


def ask_about(
    plan: BackfillPlan, now: int, trades: list[TradeRange], too: list[Aggregate]
) -> list[tuple[int, int]]:
    """Have one question after the other be answered, as long as there is one now."""
    absent: Sequence[tuple[int, int]] = ()
    while not absent and (request := plan.next_request(now, NOON + 2_000)) is not None:
        assert not isinstance(request, BackfillResult)
        plan.put_back(request)
        absent = ask(plan, now, trades if isinstance(request, TradesRequest) else too).absent
    return list(absent)


def test_one_answer_tells_of_all_gaps_that_lie_in_it() -> None:
    plan = plan_of(gap(5, 5), gap(7, 7))
    gaps = [gap(5, 5), gap(7, 7)]
    asked, absent = 0, set()
    for now in range(0, 11 * MINUTE, 1_000):
        while (request := plan.next_request(now, NOON + 2_000)) is not None:
            asked += 1
            if isinstance(request, TradesRequest):
                repaired = plan.on_trades(request, rows(4, 6, 8), now)
            else:
                assert isinstance(request, AggregatesRequest)
                repaired = plan.on_aggregates(request, aggregates((3, 4), (6, 6), (8, 9)), now)
            absent |= set(repaired.absent)
            gaps = [
                replace(each, attempts=asked)
                for each in gaps
                if (each.first_id, each.last_id) not in absent
            ]
            update(plan, BTC, gaps, now)

    assert absent == {(5, 5), (7, 7)}
    assert asked == 6, "three times both endpoints, for both"


def absent_gap(first_id: int, last_id: int, *, looks: int = 0, attempts: int = 0) -> Gap:
    return replace(gap(first_id, last_id, attempts=attempts), absent_at=NOON, looks=looks)


def test_absent_ids_are_asked_for_once_more_after_an_hour_and_after_a_day() -> None:
    asked = []
    plan = plan_of(absent_gap(5, 7))
    looks = 0
    for minute in range(0, 60 * 48, 10):
        now, clock = minute * MINUTE, NOON + minute * MINUTE
        request = plan.next_request(now, clock)
        if request is not None:
            assert request == TradesRequest(BTC, absent_gap(5, 7, looks=looks), from_id=4, limit=5)
            assert isinstance(request, TradesRequest)
            asked.append(minute)
            assert plan.on_trades(request, AROUND, now).absent == [(5, 7)]
            looks += 1
            update(plan, BTC, [absent_gap(5, 7, looks=looks)], now)
            assert looks == 2 or plan.next_request(now + 30 * MINUTE, clock) is None

    assert asked == [60, 60 * 24]
    assert plan.is_empty


def test_a_later_look_that_tells_nothing_is_made_again_soon() -> None:
    plan = plan_of(absent_gap(5, 7))
    request = plan.next_request(0, NOON + HOUR)
    assert isinstance(request, TradesRequest)

    repaired = plan.on_trades(request, rows(900, 901), 0)

    assert (repaired.absent, len(repaired.ranges)) == ([], 0)
    update(plan, BTC, [absent_gap(5, 7, attempts=1)], 0)
    assert plan.next_request(999, NOON + HOUR) is None
    assert isinstance(plan.next_request(1_000, NOON + HOUR), TradesRequest)


def test_trades_of_absent_and_of_abandoned_ids_are_welcome_in_any_answer() -> None:
    plan = plan_of(absent_gap(2, 2), replace(gap(4, 4), is_abandoned=True), gap(6, 6))
    request = request_of(plan)
    assert isinstance(request, TradesRequest)

    repaired = plan.on_trades(request, rows(1, 2, 3, 4, 5, 6, 7), 0)

    assert [each.first_id for each in repaired.ranges] == [2, 4, 6]


def test_where_the_first_bar_begins_takes_a_trade_from_before_it() -> None:
    plan = plan_of(start_gap(99))
    request = request_of(plan)
    assert isinstance(request, AggregatesRequest)

    # It leaves out 51 to 60, and nothing in it shows that.
    repaired = plan.on_aggregates(request, aggregates((61, 61), (62, 99), first=171), now=0)

    assert (repaired.begins_at, [each.first_id for each in repaired.ranges]) == (None, [61, 62])
    left = replace(start_gap(60), attempts=1)
    update(plan, BTC, [left], now=0)
    request = request_of(plan, now=FIRST_REQUEST_AFTER_MS)
    assert request == AggregatesRequest(BTC, left, None, NOON - 2 * DISORDER_MS, begins_ms=NOON)


def test_a_trade_from_before_the_first_bar_is_looked_for_by_the_number_of_its_aggregate() -> None:
    plan = plan_of(start_gap(99))
    asked = []
    first, ancient = (
        aggregates((99, 100), first=1_000),
        aggregates((3, 5), first=0, time=NOON - HOUR),
    )
    for now, answer in enumerate([first, first, ancient]):
        request = request_of(plan, now)
        assert isinstance(request, AggregatesRequest)
        asked.append(request.from_id)
        repaired = plan.on_aggregates(request, answer, now)
        assert (repaired.begins_at, repaired.ranges) == (None, [])
        update(plan, BTC, [replace(start_gap(99), attempts=now + 1)], now)
    request = request_of(plan, now=3)
    assert isinstance(request, AggregatesRequest)
    page = [*aggregates((40, 50), first=984, time=NOON - 70_000), *first]

    repaired = plan.on_aggregates(request, page, now=3)

    assert [*asked, request.from_id] == [None, 999, 0, 984]
    assert repaired.begins_at == 51


def test_trades_just_before_the_first_bar_are_not_taken_as_long_as_it_is_not_known_to_begin() -> (
    None
):
    plan = plan_of(start_gap(99))
    request = request_of(plan)
    assert isinstance(request, AggregatesRequest)
    page = [*aggregates((90, 95), time=NOON - 1), *aggregates((96, 99), first=101)]

    repaired = plan.on_aggregates(request, page, now=0)

    assert (repaired.begins_at, [each.first_id for each in repaired.ranges]) == (None, [96])


def test_ids_between_a_trade_from_before_the_first_bar_and_its_first_one_stay_missing() -> None:
    plan = plan_of(start_gap(99))
    request = request_of(plan)
    assert isinstance(request, AggregatesRequest)
    page = [
        *aggregates((40, 50), time=NOON - 7_000),
        *aggregates((61, 70), (71, 99), first=101),
    ]

    repaired = plan.on_aggregates(request, page, now=0)

    assert (repaired.begins_at, [each.first_id for each in repaired.ranges]) == (51, [61, 71])


def test_the_first_trade_of_all_needs_no_trade_before_it() -> None:
    plan = plan_of(start_gap(99))
    request = request_of(plan)
    assert isinstance(request, AggregatesRequest)

    assert plan.on_aggregates(request, aggregates((0, 5), (6, 99), first=0), now=0).begins_at == 0


def plan_with_nothing_older() -> BackfillPlan:
    """Return a plan that has heard from aggregates that 7 is the first trade of all."""
    plan = plan_of(start_gap(9))
    for now in range(3):
        request = request_of(plan, now)
        assert isinstance(request, AggregatesRequest)
        assert request.from_id == (None, 999, 0)[now]
        plan.on_aggregates(request, aggregates((7, 12), first=1_000), now)
        update(plan, BTC, [replace(start_gap(9), attempts=now + 1)], now)
    return plan


def test_the_very_first_aggregate_is_asked_for_again_by_its_number() -> None:
    plan = plan_of(start_gap(9))
    request = request_of(plan)
    assert isinstance(request, AggregatesRequest)
    plan.on_aggregates(request, aggregates((7, 12), first=0), now=0)
    update(plan, BTC, [replace(start_gap(9), attempts=1)], now=0)

    request = request_of(plan)
    assert isinstance(request, AggregatesRequest)
    assert request.from_id == 0
    plan.on_aggregates(request, aggregates((7, 12), first=0), now=0)
    update(plan, BTC, [replace(start_gap(9), attempts=2)], now=0)
    assert isinstance(request_of(plan), TradesRequest)


def test_the_first_trade_of_all_is_the_beginning_if_both_endpoints_say_that_it_is() -> None:
    plan = plan_with_nothing_older()
    request = request_of(plan, now=3)
    assert isinstance(request, TradesRequest)
    assert (request.from_id, request.limit) == (0, 2)

    assert plan.on_trades(request, rows(7, 8), now=3).begins_at == 7


@pytest.mark.parametrize("answer", [rows(0, 1, time=NOON - 10**10), rows(900, 901), []], ids=str)
def test_where_they_do_not_agree_the_beginning_is_looked_for_again(
    answer: list[TradeRange],
) -> None:
    plan = plan_with_nothing_older()
    request = request_of(plan, now=3)
    assert isinstance(request, TradesRequest)

    repaired = plan.on_trades(request, answer, now=3)

    assert (repaired.ranges, repaired.begins_at) == ((), None)
    update(plan, BTC, [replace(start_gap(9), attempts=9)], now=3)
    again = request_of(plan, now=HOUR)
    assert isinstance(again, AggregatesRequest)
    assert (again.from_id, again.begins_ms) == (None, NOON)


def test_trades_that_are_newer_than_one_that_was_had_are_not_the_first_of_all() -> None:
    """A server may tell the newest trades whatever it is asked for, by each of its endpoints."""
    plan = plan_of(start_gap(9))
    for now in range(3):
        request = request_of(plan, now)
        assert isinstance(request, AggregatesRequest)
        repaired = plan.on_aggregates(request, aggregates((41, 45), first=1_000), now)
        assert (repaired.begins_at, repaired.ranges) == (None, [])
        update(plan, BTC, [replace(start_gap(9), attempts=now + 1)], now)

    assert isinstance(request, AggregatesRequest)
    assert request.from_id == 0
    assert "older ones than it tells of were had" in (repaired.error or "")
    assert plan.next_request(3, NOON + 2_000) is None, "it is asked again later"
    again = request_of(plan, now=HOUR)
    assert isinstance(again, AggregatesRequest)
    assert again.from_id is None


def test_the_last_aggregate_of_a_page_is_taken_by_its_last_id() -> None:
    plan = plan_of(gap(5, 40))
    request = request_of(plan)
    assert isinstance(request, AggregatesRequest)

    plan.on_aggregates(request, aggregates((4, 4), (5, 5), (6, 6), (7, 7), (36, 45)), now=0)

    update(plan, BTC, [gap(8, 40)], now=0)
    assert isinstance(request_of(plan), TradesRequest), "aggregates have told what they can"


def test_what_lies_wholly_before_the_oldest_moment_is_abandoned_without_asking() -> None:
    old = gap(5, 6, since=NOON - 2 * HOUR, until=NOON - HOUR - 1)
    plan = plan_of(old)

    repaired = plan.next_request(0, NOON)

    assert repaired == BackfillResult(
        BTC, old, abandoned_through=6, abandoned_before_ms=NOON - HOUR
    )


def test_of_a_gap_that_began_too_long_ago_only_the_older_part_is_abandoned() -> None:
    long = gap(5, 40, since=NOON - 2 * HOUR, until=NOON)
    plan = plan_of(long)
    request = request_of(plan, clock=NOON)
    oldest = NOON - HOUR
    assert request == AggregatesRequest(
        BTC, long, None, oldest - 2 * DISORDER_MS, oldest, is_oldest=True
    )
    assert isinstance(request, AggregatesRequest)

    page = [*aggregates((16, 17), time=oldest - 2_000), *aggregates((18, 19), (21, 21), first=101)]
    repaired = plan.on_aggregates(request, page, now=0)

    assert (repaired.abandoned_through, repaired.abandoned_before_ms) == (17, oldest - 2_000)
    assert [each.first_id for each in repaired.ranges] == [18, 21]


def test_a_page_that_begins_with_a_young_trade_is_no_proof_that_what_is_before_is_too_old() -> None:
    long = gap(5, 40, since=NOON - 2 * HOUR, until=NOON)
    plan = plan_of(long)
    request = request_of(plan, clock=NOON)
    assert isinstance(request, AggregatesRequest)

    repaired = plan.on_aggregates(request, aggregates((18, 19), (20, 20)), now=0)

    assert repaired.abandoned_through is None
    assert [each.first_id for each in repaired.ranges] == [18, 20]
    left = gap(5, 17, since=NOON - 2 * HOUR, until=NOON)
    update(plan, BTC, [left], now=-FIRST_REQUEST_AFTER_MS)
    again = request_of(plan, clock=NOON)
    assert isinstance(again, AggregatesRequest)
    assert again.is_oldest


def test_a_first_interval_that_is_partly_too_old_is_abandoned_as_far_and_not_forgotten() -> None:
    long = start_gap(99, since=NOON - HOUR - 2_000)
    plan = plan_of(long)
    request = request_of(plan, clock=NOON)
    assert isinstance(request, AggregatesRequest)
    assert request.is_oldest

    page = [*aggregates((88, 89), time=NOON - 2 * HOUR), *aggregates((90, 91), first=101)]
    repaired = plan.on_aggregates(request, page, now=0)

    assert (repaired.begins_at, repaired.abandoned_through) == (None, 89)


def test_an_abandoned_gap_is_asked_about_no_more() -> None:
    abandoned = Gap(5, 6, NOON, NOON, GapCause.RESTART, is_abandoned=True)

    assert plan_of(abandoned).next_request(0, NOON) is None


def test_a_gap_that_reaches_the_age_while_it_waits_is_abandoned() -> None:
    plan = plan_of(gap(5, 6))
    plan.put_back(request_of(plan))

    repaired = plan.next_request(0, NOON + 1_001 + HOUR)

    assert isinstance(repaired, BackfillResult)
    assert repaired.abandoned_through == 6


def test_abandoned_and_absent_parts_end_up_on_record_as_such() -> None:
    aggregator = Aggregator(spot_series([BTC]), interval_ms=INTERVAL, grace_ms=500)
    long = gap(5, 40, since=NOON - 2 * HOUR, until=NOON)
    aggregator.resume({BTC: Checkpoint(LedgerState(41, NOON, (long,)))})
    plan = plan_of(long)
    request = request_of(plan, clock=NOON)
    assert isinstance(request, AggregatesRequest)

    page = [
        *aggregates((16, 17), time=NOON - HOUR - 2_000),
        *aggregates((18, 30), (33, 40), first=101),
    ]
    aggregator.fill(plan.on_aggregates(request, page, now=0))
    (old, hole) = aggregator.series[BTC].gap_set.missing
    assert (old.first_id, old.last_id, old.is_abandoned) == (5, 17, True)
    assert (hole.first_id, hole.last_id, hole.is_abandoned) == (31, 32, False)
    for minutes in (0, 1, 10):
        now = minutes * MINUTE + FIRST_REQUEST_AFTER_MS
        for _ in range(2):
            update(plan, BTC, aggregator.series[BTC].gap_set.missing, now=0)
            look = request_of(plan, now, clock=NOON)
            if isinstance(look, TradesRequest):
                aggregator.fill(plan.on_trades(look, rows(30, 33), now))
            else:
                assert isinstance(look, AggregatesRequest)
                around = aggregates((18, 30), (33, 40), first=101)
                aggregator.fill(plan.on_aggregates(look, around, now))

    assert aggregator.series[BTC].gap_set.missing == (old,)
    assert [
        (gap.first_id, gap.last_id, gap.absent_at) for gap in aggregator.series[BTC].gap_set.absent
    ] == [(31, 32, NOON)]
    assert aggregator.collect().resolved == [(BTC, 31, 32, GapOutcome.ABSENT)]


def test_an_answer_for_a_gap_that_has_gone_meanwhile_does_no_harm() -> None:
    plan = plan_of(gap(5, 7))
    request = request_of(plan)
    assert isinstance(request, TradesRequest)
    update(plan, BTC, [], now=0)

    assert [each.first_id for each in plan.on_trades(request, rows(5, 6, 7, 8), 0).ranges] == [
        5,
        6,
        7,
    ]
    assert plan.failed(request, "no", 0).error == "no"
    assert plan.is_empty


def test_a_large_gap_costs_few_requests() -> None:
    trades = make_market(random.Random(1), BTC, 5_000, first_id=0, is_holed=False)
    database = Database(trades, page=PAGE)
    aggregator = Aggregator(spot_series([BTC]), interval_ms=INTERVAL, grace_ms=500)
    aggregator.connected([BTC], 0)
    aggregator.add([trades[0], trades[-1]], 0)
    plan = new_plan(24 * HOUR)
    update(plan, BTC, aggregator.series[BTC].gap_set.missing, -1_000)
    requests: Counter[type] = Counter()
    now = 0
    while gaps := aggregator.series[BTC].gap_set.missing:
        now += 250
        update(plan, BTC, gaps, now)
        request = plan.next_request(now, aggregator.clock(now))
        if isinstance(request, AggregatesRequest):
            aggregator.fill(plan.on_aggregates(request, database.aggregates_from(request), now))
        elif isinstance(request, TradesRequest):
            aggregator.fill(plan.on_trades(request, database.trades_from(request), now))
        requests[type(request)] += 1

    assert requests[AggregatesRequest] <= len(database.aggregates) / 5 + 2
    assert requests[TradesRequest] <= 4
    assert as_run(trades[0]).count == 1
