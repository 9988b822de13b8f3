"""Lost trades of Binance.US, where old single trades are told only to those who send a key."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bintrades.core.gap_queue import FIRST_RETRY_S, LONGEST_RETRY_S, BackfillTiming
from bintrades.exchange.binance.backfill_plan import (
    KEY_REFUSED,
    KEY_RETRY_MS,
    NO_KEY,
    AggregatesRequest,
    BackfillPlan,
    RecentRequest,
    TradesRequest,
)
from bintrades.exchange.binance.us import US
from bintrades.util.backoff import Backoff
from tests.exchange.binance.test_backfill_plan import (
    ALL,
    BTC,
    FIRST_REQUEST_AFTER_MS,
    HOUR,
    LongestWaits,
    Story,
    aggregates,
    gap,
    rows,
    start_gap,
    update,
)
from tests.socketless_exchange import as_run
from tests.strategies import START as NOON
from tests.strategies import SYMBOLS, bars_of

if TYPE_CHECKING:
    from bintrades.core.backfill_result import BackfillResult
    from bintrades.exchange.binance.backfill_plan import Aggregate, Request

PAGE = 5
MARKET = dataclasses.replace(
    US,
    historical_trades=dataclasses.replace(US.historical_trades, max_rows=PAGE),
    aggregate_trades=dataclasses.replace(US.aggregate_trades, max_rows=PAGE),
)


def new_plan(*, has_key: bool) -> BackfillPlan:
    rng = LongestWaits()
    return BackfillPlan(
        MARKET, 3 * HOUR, lambda: Backoff(FIRST_RETRY_S, LONGEST_RETRY_S, rng), has_key=has_key
    )


class UsStory(Story):
    """A Story without a key, where the newest trades reach back so many."""

    def __init__(self, seed: int, recent_rows: int) -> None:
        super().__init__(seed)
        self.plan = new_plan(has_key=False)
        self.recent_rows = recent_rows

    def _answer(self, request: Request) -> BackfillResult:
        if not isinstance(request, RecentRequest):
            return super()._answer(request)
        self.asked.append(request)
        if self.rng.random() < 0.2:
            return self.plan.failed(request, "the wire is cut", self.now)
        database = self.databases[request.symbol]
        hidden = self.rng.choice([0, 0, 3])
        known = [trade for trade in database.trades if trade.trade_id <= database.through - hidden]
        newest = [as_run(trade) for trade in known[-self.recent_rows :]]
        return self.plan.on_recent(request, newest, self.now)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32))
def test_without_a_key_all_is_filled_that_the_newest_trades_and_aggregates_tell(seed: int) -> None:
    story = UsStory(seed, recent_rows=8)
    story.go()

    assert not any(isinstance(request, TradesRequest) for request in story.asked)
    for symbol in SYMBOLS:
        gaps = story.aggregator.series[symbol].gap_set.missing
        missing = {i for each in gaps for i in range(each.first_id, each.last_id + 1)}
        for _, each in story.databases[symbol].aggregates:
            assert not missing.issuperset(range(each.first_id, each.last_id + 1))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32))
def test_where_the_newest_trades_reach_back_bars_are_those_of_all_trades_without_a_key(
    seed: int,
) -> None:
    story = UsStory(seed, recent_rows=1_000)
    story.go()

    for symbol in SYMBOLS:
        existing = {trade.trade_id for trade in story.markets[symbol]}
        for each in story.aggregator.series[symbol].gap_set.missing:
            assert not existing & set(range(each.first_id, each.last_id + 1))
    assert story.written.closed.keys() == bars_of(story.wanted).keys()


def plan_of_gap(*, has_key: bool = False) -> BackfillPlan:
    plan = new_plan(has_key=has_key)
    update(plan, BTC, [gap(5, 7)], now=-FIRST_REQUEST_AFTER_MS)
    return plan


def ask(plan: BackfillPlan, now: int = 0) -> Request:
    request = plan.next_request(now, NOON + 2_000)
    assert isinstance(request, RecentRequest | AggregatesRequest | TradesRequest)
    return request


def test_with_a_key_single_trades_are_asked_for_by_id_as_on_spot() -> None:
    assert ask(plan_of_gap(has_key=True)) == TradesRequest(BTC, gap(5, 7), 4, 5)


def test_without_one_the_newest_trades_fill_a_small_gap() -> None:
    plan = plan_of_gap()
    request = ask(plan)
    assert request == RecentRequest(BTC, gap(5, 7))
    assert isinstance(request, RecentRequest)

    result = plan.on_recent(request, rows(3, 4, 5, 6, 7, 8), 0)

    assert [each.first_id for each in result.ranges] == [5, 6, 7]
    assert (result.error, plan.key_problem) == (None, None)


def test_newest_trades_that_begin_after_the_gap_leave_it_to_aggregates() -> None:
    plan = plan_of_gap()
    request = ask(plan)
    assert isinstance(request, RecentRequest)
    plan.on_recent(request, rows(8, 9), 0)
    update(plan, BTC, [gap(5, 7)], now=0, answers=ALL)
    request = ask(plan)
    assert isinstance(request, AggregatesRequest)

    result = plan.on_aggregates(request, aggregates((3, 5), (6, 7), (8, 8)), 0)

    assert [(each.first_id, each.last_id) for each in result.ranges] == [(6, 7)]
    assert (result.error, plan.key_problem) == (NO_KEY, NO_KEY)


@pytest.mark.parametrize("answer", [rows(), rows(3, 4), rows(3, 4, 5)], ids=str)
def test_newest_trades_that_end_before_the_gap_does_are_asked_for_three_times(
    answer: list[object],
) -> None:
    plan = plan_of_gap()
    now = 0
    for _ in range(3):
        request = ask(plan, now)
        assert isinstance(request, RecentRequest)
        result = plan.on_recent(request, answer, now)  # type: ignore[arg-type]
        assert result.error == "the exchange does not have it all yet"
        update(plan, BTC, [replace(gap(5, 7), attempts=1)], now)
        now += 10_000

    assert isinstance(ask(plan, now), AggregatesRequest)


def test_a_key_that_is_refused_is_sent_again_after_an_hour() -> None:
    plan = plan_of_gap(has_key=True)
    request = ask(plan)
    plan.record_refused_key(0)
    plan.failed(request, "-2015", 0)
    update(plan, BTC, [gap(5, 7)], now=0)

    assert isinstance(ask(plan, 1_000), RecentRequest)
    assert plan.key_problem == KEY_REFUSED
    plan.put_back(request)
    assert isinstance(ask(plan, KEY_RETRY_MS), TradesRequest)


def test_without_a_key_ids_that_do_not_exist_are_absent_once_both_have_said_so_each_time() -> None:
    plan, now = plan_of_gap(), 0
    absent: list[tuple[int, int]] = []
    page = aggregates((3, 3), (4, 4), (8, 8), (9, 9))
    waits = (*BackfillTiming().confirm_absence_after_ms, 0)
    for wait in waits:
        newest = ask(plan, now)
        assert isinstance(newest, RecentRequest), "also the second time, and the third"
        absent += plan.on_recent(newest, rows(3, 4, 8, 9), now).absent
        cross_check = ask(plan, now)
        assert isinstance(cross_check, AggregatesRequest)
        absent += plan.on_aggregates(cross_check, page, now).absent
        now = wait

    assert absent == [(5, 7)]


def second_look_at_the_first_of_all() -> tuple[BackfillPlan, AggregatesRequest]:
    """Return a plan that has been told that 7 is the first trade of all, and what it asks then."""
    plan = new_plan(has_key=False)
    update(plan, BTC, [start_gap(9)], now=-FIRST_REQUEST_AFTER_MS)
    request = ask(plan)
    for answers in range(1, 4):
        assert isinstance(request, AggregatesRequest)
        assert request.limit(PAGE) == PAGE
        result = plan.on_aggregates(request, aggregates((7, 12), (13, 13), first=1_000), 0)
        assert result.begins_at is None
        update(plan, BTC, [replace(start_gap(9), attempts=answers)], now=0)
        request = ask(plan)
    assert isinstance(request, AggregatesRequest)
    return plan, request


def test_without_a_key_the_first_trade_of_all_is_the_beginning_if_a_short_page_has_it_too() -> None:
    plan, request = second_look_at_the_first_of_all()
    assert (request.from_id, request.start_ms, request.limit(PAGE)) == (0, None, 2)

    assert plan.on_aggregates(request, aggregates((7, 12), (13, 13)), 0).begins_at == 7


@pytest.mark.parametrize(
    "answer",
    [
        aggregates((20, 20), (21, 21), first=1_004),  # the newest rows, whatever was asked for
        aggregates((1, 6), (7, 12), first=999),
        [],
    ],
    ids=str,
)
def test_newest_rows_in_the_place_of_the_first_ones_are_no_beginning(
    answer: list[Aggregate],
) -> None:
    plan, request = second_look_at_the_first_of_all()

    result = plan.on_aggregates(request, answer, 0)

    assert (result.begins_at, result.ranges) == (None, ())
    assert result.error == "where it begins is not known yet"
    update(plan, BTC, [replace(start_gap(9), attempts=9)], now=0)
    again = ask(plan, HOUR)
    assert isinstance(again, AggregatesRequest)
    assert (again.from_id, again.begins_ms) == (None, NOON)
