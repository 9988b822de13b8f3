"""What is asked about a gap of futures, step by step, and what single answers mean."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from bintrades.core.backfill_result import BackfillResult
from bintrades.core.gap_ranges import DISORDER_MS
from bintrades.exchange.binance.backfill_plan import (
    KEY_REFUSED,
    KEY_RETRY_MS,
    NO_KEY,
    Aggregate,
    AggregatesRequest,
    RecentRequest,
    TradesRequest,
)
from bintrades.exchange.binance.futures_plan import FuturesPlan
from bintrades.exchange.binance.usdm import USDM
from bintrades.model import Gap, GapCause, GapSet, TradeRange
from bintrades.util.backoff import Backoff
from tests.strategies import START as NOON
from tests.strategies import SYMBOLS

if TYPE_CHECKING:
    from bintrades.exchange.binance.backfill_plan import Request

BTC, ETH, _ = SYMBOLS
HOUR = 3_600_000
ALL = 1_000_000
CLOCK = NOON + 15_000
LATER = 60_000
"""When the rest between requests that are not urgent is over."""


class LongestWaits(random.Random):
    """Makes each wait of a backoff as long as it may be."""

    def uniform(self, _a: float, b: float) -> float:
        return b


def gap(first_id: int, last_id: int, *, since: int = NOON - DISORDER_MS, span: int = 2_000) -> Gap:
    return Gap(first_id, last_id, since, since + span, GapCause.RECONNECT)


def rows(*ids: int, time: int = NOON, price: str = "1", quantity: str = "1") -> list[TradeRange]:
    return [TradeRange(i, i, Decimal(price), Decimal(quantity), time, False) for i in ids]


def aggregates(
    *spans: tuple[int, int], first: int = 100, time: int = NOON, quantity: str = "1"
) -> list[Aggregate]:
    return [
        Aggregate(number, TradeRange(low, high, Decimal(1), Decimal(quantity), time, False))
        for number, (low, high) in enumerate(spans, first)
    ]


def update(plan: FuturesPlan, *gaps: Gap, now: int, symbol: str = BTC) -> None:
    plan.update(GapSet(symbol, gaps, (), ALL), now)


def plan_of(*gaps: Gap, has_key: bool = False, max_age: int = 100 * HOUR) -> FuturesPlan:
    """Return a plan that has been told of *gaps* a while ago."""
    plan = FuturesPlan(
        USDM,
        max_age,
        lambda: Backoff(1.0, 300.0, LongestWaits()),
        has_key=has_key,
        allowed=lambda: USDM.weight_per_minute // 2,
    )
    update(plan, *gaps, now=-1_000)
    return plan


def recent(plan: FuturesPlan, now: int = 0, clock: int = CLOCK) -> RecentRequest:
    request = plan.next_request(now, clock)
    assert isinstance(request, RecentRequest)
    return request


def request_of(plan: FuturesPlan, now: int = LATER) -> Request:
    request = plan.next_request(now, CLOCK)
    assert request is not None
    assert not isinstance(request, BackfillResult)
    return request


def passed_plan(*gaps: Gap, has_key: bool = False) -> FuturesPlan:
    """Return a plan to which /trades has said twice that it begins after *gaps*."""
    plan = plan_of(*gaps, has_key=has_key)
    after = gaps[-1].last_id + 1
    for _ in range(2):
        plan.on_recent(recent(plan), rows(after, after + 1), 0)
        update(plan, *gaps, now=0)
    return plan


def spans(ranges: object) -> list[tuple[int, int]]:
    return [(each.first_id, each.last_id) for each in ranges]  # type: ignore[attr-defined]


def test_the_newest_trades_are_asked_for_at_once_and_serve_all_gaps_of_the_symbol() -> None:
    plan = plan_of()
    update(plan, gap(5, 7), gap(20, 24), now=0)
    assert plan.next_request(249, CLOCK) is None

    result = plan.on_recent(recent(plan, 250), rows(4, 5, 7, 8, 19, 21, 22, 26), 250)

    assert spans(result.ranges) == [(5, 5), (7, 7), (21, 21), (22, 22)]
    assert list(result.excluded) == [(6, 6), (20, 20), (23, 24)]
    assert (result.approximations, result.error) == ((), None)


def test_what_an_answer_lacks_of_the_last_seconds_is_excluded_once_a_newer_one_lacks_it_too() -> (
    None
):
    young = CLOCK - 9_000
    plan = plan_of(gap(5, 9, since=young))

    first = plan.on_recent(recent(plan), rows(4, 5, 7, 8, 12, time=young), 0)
    assert (spans(first.ranges), list(first.excluded)) == ([(5, 5), (7, 7), (8, 8)], [])
    update(plan, gap(6, 6, since=young), gap(9, 9, since=young), now=0)
    same = plan.on_recent(recent(plan, 1_000), rows(4, 5, 7, 8, 12, time=young), 1_000)
    assert list(same.excluded) == []
    update(plan, gap(6, 6, since=young), gap(9, 9, since=young), now=1_000)
    newer = plan.on_recent(recent(plan, 2_000), rows(5, 7, 8, 9, 12, 13, time=young), 2_000)

    assert spans(newer.ranges) == [(9, 9)], "it was on its way"
    assert list(newer.excluded) == [(6, 6)]


def test_ids_at_the_edge_of_an_answer_are_not_excluded() -> None:
    plan = plan_of(gap(5, 12))

    result = plan.on_recent(recent(plan), rows(7, 9, 11), 0)

    assert list(result.excluded) == [(8, 8), (10, 10)]
    assert result.error == "the exchange does not have it all yet"


def test_an_answer_that_ends_before_the_gap_is_asked_for_again_after_a_short_rest() -> None:
    plan = plan_of(gap(5, 7))
    plan.on_recent(recent(plan), rows(1, 2, 3), 0)
    update(plan, gap(5, 7), now=0)

    assert plan.next_request(499, CLOCK) is None
    assert recent(plan, 500).gap == gap(5, 7)


def test_an_empty_answer_is_an_outage_and_says_nothing_of_trades() -> None:
    plan = plan_of(gap(5, 7))

    for now in (0, 10_000, 20_000):
        result = plan.on_recent(recent(plan, now), [], now)

        assert (result.ranges, result.excluded) == ((), ())
        assert result.error == "the exchange has nothing there yet"
        update(plan, gap(5, 7), now=now)
    assert recent(plan, 30_000).gap == gap(5, 7)


def test_between_requests_that_are_not_urgent_is_a_rest_but_none_before_urgent_ones() -> None:
    plan = passed_plan(gap(5, 9_000))
    request = request_of(plan)
    assert isinstance(request, AggregatesRequest)
    full = aggregates(*((number, number) for number in range(4, 1_004)))
    plan.on_aggregates(request, full, LATER)
    update(plan, gap(1_004, 9_000), now=LATER)
    update(plan, gap(5, 7), now=LATER - 1_000, symbol=ETH)

    assert recent(plan, LATER).symbol == ETH
    assert plan.next_request(LATER + 1_499, CLOCK) is None
    assert isinstance(plan.next_request(LATER + 1_500, CLOCK), AggregatesRequest)


def test_the_gap_of_the_busiest_symbol_is_asked_about_first() -> None:
    plan = plan_of(gap(5, 7))
    update(plan, gap(500, 900), now=-1_000, symbol=ETH)

    assert recent(plan).symbol == ETH
    assert recent(plan).symbol == BTC


def test_without_a_key_aggregates_stand_in_once_two_answers_have_begun_after_the_gap() -> None:
    plan = plan_of(gap(5, 9))
    plan.on_recent(recent(plan), rows(10, 11), 0)
    update(plan, gap(5, 9), now=0)
    second = plan.on_recent(recent(plan), rows(12, 13), 0)
    assert second.error == NO_KEY
    update(plan, gap(5, 9), now=0)

    request = request_of(plan)

    assert request == AggregatesRequest(BTC, gap(5, 9), None, NOON - DISORDER_MS)
    assert isinstance(request, AggregatesRequest)
    result = plan.on_aggregates(request, aggregates((3, 5), (6, 6), (8, 8), (9, 12)), LATER)
    assert spans(result.approximations) == [(6, 6), (8, 8)]
    assert (result.ranges, list(result.excluded)) == ((), [(7, 7)])
    assert result.error == NO_KEY
    assert plan.key_problem == NO_KEY


def test_edges_that_aggregates_do_not_tell_wait_without_further_requests_until_too_old() -> None:
    plan = passed_plan(gap(5, 9))
    request = request_of(plan)
    assert isinstance(request, AggregatesRequest)
    plan.on_aggregates(request, aggregates((3, 5), (6, 8), (9, 12)), LATER)
    untold, told = gap(5, 5), replace(gap(9, 9), last_error=NO_KEY)
    update(plan, untold, told, now=LATER)
    why = plan.next_request(2 * LATER, CLOCK + 2 * LATER)
    assert why == BackfillResult(BTC, untold, error=NO_KEY)
    update(plan, replace(untold, last_error=NO_KEY), told, now=2 * LATER)

    for now in range(2 * LATER, 40 * HOUR, HOUR // 7):
        assert plan.next_request(now, CLOCK + now) is None
    given_up = plan.next_request(49 * HOUR, CLOCK + 49 * HOUR)

    assert isinstance(given_up, BackfillResult)
    assert given_up.abandoned_through == 9
    assert given_up.error is not None
    assert given_up.error.startswith("older than 48 h")


def plan_with_an_edge(edge: int = 12, *, has_key: bool = False) -> FuturesPlan:
    """Return a plan that lacks 5 to 11, since /trades began with 12 and 13, of 3 and 0.5."""
    plan = plan_of(gap(5, edge + 7), has_key=has_key)
    first = [*rows(edge, quantity="3"), *rows(edge + 1, quantity="0.5")]
    plan.on_recent(recent(plan), [*first, *rows(edge + 8, edge + 9, price="2")], 0)
    update(plan, gap(5, edge - 1), now=0)
    plan.on_recent(recent(plan, now=250), rows(edge + 9, edge + 10, price="2"), 250)
    update(plan, gap(5, edge - 1), now=250)
    return plan


def test_what_the_newest_trades_have_of_an_aggregate_is_left_out_of_what_stands_in() -> None:
    plan = plan_with_an_edge()
    request = request_of(plan)
    assert isinstance(request, AggregatesRequest)

    page = aggregates((3, 5), (7, 13), (20, 22), quantity="4")
    result = plan.on_aggregates(request, page, LATER)

    assert result.approximations == [TradeRange(7, 11, Decimal(1), Decimal("0.5"), NOON, False)]
    assert list(result.excluded) == [(6, 6)]
    assert result.error == NO_KEY  # a stream has brought 3 and 4, and nobody remembers of how much


@pytest.mark.parametrize(
    ("ids", "changes"),
    [
        ((7, 13), {"quantity": Decimal("3.5")}),  # nothing is left
        ((7, 13), {"price": Decimal(2)}),
        ((7, 13), {"is_buyer_maker": True}),
        ((7, 20), {}),  # it has trades of another price, so it is not what it seems
        ((7, 14), {}),  # 14 is in no answer: it may be no fill, or one that was left out
        ((4, 13), {}),  # 4 is known
    ],
)
def test_of_an_aggregate_that_the_newest_trades_do_not_fit_nothing_stands_in(
    ids: tuple[int, int], changes: dict[str, object]
) -> None:
    plan = plan_with_an_edge()
    request = request_of(plan)
    assert isinstance(request, AggregatesRequest)
    (number, trades), *_ = aggregates(ids, quantity="4")
    assert trades is not None

    changed = Aggregate(number, replace(trades, **changes))
    result = plan.on_aggregates(request, [*aggregates((3, 3), first=number - 1), changed], LATER)

    assert result.approximations == []


def test_of_an_aggregate_of_which_more_is_missing_nothing_stands_in() -> None:
    plan = plan_with_an_edge()
    update(plan, gap(5, 11), replace(gap(13, 13), is_abandoned=True), now=250)
    request = request_of(plan)
    assert isinstance(request, AggregatesRequest)

    result = plan.on_aggregates(request, aggregates((3, 5), (7, 13), quantity="4"), LATER)

    assert result.approximations == []


def test_with_a_key_what_the_newest_trades_cut_off_is_asked_for_singly() -> None:
    plan = plan_with_an_edge(10_012, has_key=True)
    request = request_of(plan)
    assert isinstance(request, AggregatesRequest)

    page = aggregates((3, 4), (5, 10_006), (10_007, 10_013), (10_020, 10_022), quantity="4")
    result = plan.on_aggregates(request, page, LATER)
    update(plan, gap(10_007, 10_011), now=LATER)

    assert spans(result.approximations) == [(5, 10_006)]
    assert isinstance(request_of(plan, 2 * LATER), TradesRequest)


def test_ids_between_aggregates_of_which_one_is_left_out_are_not_excluded() -> None:
    plan = passed_plan(gap(5, 9))
    request = request_of(plan)
    assert isinstance(request, AggregatesRequest)

    page = [*aggregates((3, 4)), *aggregates((8, 8), (10, 10), first=102)]
    result = plan.on_aggregates(request, page, LATER)

    assert list(result.excluded) == [(9, 9)]


def test_aggregates_are_paged_by_their_number_and_hold_holes_between_pages_excluded() -> None:
    plan = passed_plan(gap(5, 9_000))
    request = request_of(plan)
    assert isinstance(request, AggregatesRequest)
    full = aggregates(*((number, number) for number in range(4, 1_004)))
    plan.on_aggregates(request, full, LATER)
    left = gap(1_004, 9_000)
    update(plan, left, now=LATER)

    second = request_of(plan, 2 * LATER)

    assert second == AggregatesRequest(BTC, left, 1_100, None)
    assert isinstance(second, AggregatesRequest)
    result = plan.on_aggregates(second, aggregates((1_006, 9_002), first=1_100), 2 * LATER)
    assert list(result.excluded) == [(1_004, 1_005)]


def test_the_aggregate_before_the_gap_is_looked_for_where_the_first_page_lacks_it() -> None:
    plan = passed_plan(gap(5, 9))
    request = request_of(plan)
    assert isinstance(request, AggregatesRequest)
    result = plan.on_aggregates(request, aggregates((7, 9), (10, 10)), LATER)
    assert (result.approximations, result.excluded) == ((), ())
    update(plan, gap(5, 9), now=LATER)

    before = request_of(plan, 2 * LATER)

    assert isinstance(before, AggregatesRequest)
    assert before.from_id == 99
    page = aggregates((2, 4), (7, 9), (10, 10), first=99)
    result = plan.on_aggregates(before, page, 2 * LATER)
    assert spans(result.approximations) == [(7, 9)]
    assert list(result.excluded) == [(5, 6)]


def test_with_a_key_short_holes_are_asked_for_singly_by_a_whole_page_of_ids_around_them() -> None:
    plan = passed_plan(gap(1_005, 1_009), has_key=True)

    request = request_of(plan)

    assert request == TradesRequest(BTC, gap(1_005, 1_009), 758, 500)
    assert isinstance(request, TradesRequest)
    result = plan.on_trades(request, rows(1_001, 1_006, 1_008, 1_011), LATER)
    assert spans(result.ranges) == [(1_006, 1_006), (1_008, 1_008)]
    assert list(result.excluded) == [(1_005, 1_005), (1_007, 1_007), (1_009, 1_009)]
    assert plan.key_problem is None


def test_a_short_page_of_old_trades_is_not_the_last() -> None:
    plan = passed_plan(gap(1_000, 2_999), has_key=True)
    request = request_of(plan)
    assert isinstance(request, TradesRequest)
    assert request.from_id == 950
    plan.on_trades(request, rows(*range(950, 1_440, 7)), LATER)
    left = gap(1_440, 2_999)
    update(plan, left, now=LATER)

    following = request_of(plan, 2 * LATER)

    assert following == TradesRequest(BTC, left, 1_390, 500)


@pytest.mark.parametrize(("size", "kind"), [(6_000, TradesRequest), (6_001, AggregatesRequest)])
def test_single_trades_are_asked_for_holes_that_a_minutes_weight_pays_for(
    size: int, kind: type[Request]
) -> None:
    plan = passed_plan(gap(1_000, 999 + size), has_key=True)

    assert isinstance(request_of(plan), kind)


def test_a_page_of_old_trades_without_one_of_the_gap_has_aggregates_asked_around_it() -> None:
    plan = passed_plan(gap(1_000, 1_999), has_key=True)
    request = request_of(plan)
    assert isinstance(request, TradesRequest)
    plan.on_trades(request, rows(998), LATER)
    update(plan, gap(1_000, 1_999), now=LATER)

    around = request_of(plan, 2 * LATER)

    assert isinstance(around, AggregatesRequest)
    page = aggregates((990, 998), (1_990, 1_995), (1_999, 2_005))
    result = plan.on_aggregates(around, page, 2 * LATER)
    assert result.approximations == []
    assert list(result.excluded) == [(1_000, 1_989), (1_996, 1_998)]


def test_a_key_that_is_refused_leaves_aggregates_and_is_tried_again_after_an_hour() -> None:
    plan = passed_plan(gap(1_005, 1_009), has_key=True)
    request = request_of(plan)
    plan.record_refused_key(LATER)
    assert plan.key_problem == KEY_REFUSED
    plan.failed(request, "-2015", LATER)
    update(plan, gap(1_005, 1_009), now=LATER)

    around = request_of(plan, 2 * LATER)
    assert isinstance(around, AggregatesRequest)
    edges = aggregates((1_000, 1_005), (1_006, 1_020))
    assert plan.on_aggregates(around, edges, 2 * LATER).error == KEY_REFUSED
    update(plan, replace(gap(1_005, 1_009), last_error=KEY_REFUSED), now=2 * LATER)
    assert plan.next_request(LATER + KEY_RETRY_MS - 1, CLOCK) is None
    again = LATER + KEY_RETRY_MS + 600_000
    assert isinstance(plan.next_request(again, CLOCK), TradesRequest)


def test_what_the_exchange_refuses_as_too_old_is_given_up_and_said() -> None:
    plan = passed_plan(gap(5, 9))
    request = request_of(plan)

    result = plan.on_too_old(request, LATER)

    assert (result.abandoned_through, result.error) == (
        9,
        "the exchange tells no trades of then any more: they are too old",
    )


def test_a_gap_that_is_refused_as_too_old_takes_no_other_with_it() -> None:
    plan = passed_plan(gap(5, 9), gap(20, 29))
    request = request_of(plan)
    assert request.gap == gap(20, 29)

    result = plan.on_too_old(request, LATER)

    assert (result.abandoned_from, result.abandoned_through) == (20, 29)
    assert result.abandoned_because == result.error


def test_of_a_long_gap_the_younger_part_is_still_asked_for() -> None:
    long = gap(5, 9_999, since=NOON - 4 * HOUR, span=4 * HOUR)
    plan = passed_plan(long)
    result = plan.on_too_old(request_of(plan), LATER)
    assert result.abandoned_through is None
    update(plan, long, now=LATER)

    request = request_of(plan, 2 * LATER)

    assert isinstance(request, AggregatesRequest)
    assert request.start_ms == NOON - 2 * HOUR


def test_single_trades_that_are_too_old_are_had_as_aggregates() -> None:
    plan = passed_plan(gap(1_005, 1_009), has_key=True)
    assert plan.on_too_old(request_of(plan), LATER).error is None
    update(plan, gap(1_005, 1_009), now=LATER)

    assert isinstance(request_of(plan, 2 * LATER), AggregatesRequest)


def test_nothing_older_than_the_exchange_tells_is_asked_for_whatever_is_configured() -> None:
    plan = plan_of(gap(5, 9), max_age=1_000 * HOUR)

    given_up = plan.next_request(0, NOON + 49 * HOUR)

    assert isinstance(given_up, BackfillResult)
    assert given_up.abandoned_through == 9


def test_the_beginning_is_told_by_a_trade_from_before_it_among_the_newest() -> None:
    start = Gap.beginning(99, NOON, NOON + 999)
    plan = plan_of(start)

    older = rows(88, 90, time=NOON - 2_000)
    result = plan.on_recent(recent(plan), [*older, *rows(93, 99, 100)], 0)

    assert (result.begins_at, result.has_older) == (91, True)
    assert spans(result.ranges) == [(93, 93), (99, 99)]
    assert list(result.excluded) == [(91, 92), (94, 98)]


def test_the_beginning_is_told_by_aggregates_where_the_newest_do_not_reach_back() -> None:
    start = Gap.beginning(99, NOON, NOON + 999)
    plan = passed_plan(start)
    request = request_of(plan)
    assert request == AggregatesRequest(BTC, start, None, NOON - 2 * DISORDER_MS)
    assert isinstance(request, AggregatesRequest)

    page = [*aggregates((80, 85), time=NOON - 1_500), *aggregates((88, 99), first=101)]
    result = plan.on_aggregates(request, page, LATER)

    assert (result.begins_at, result.has_older) == (86, True)


def test_a_beginning_before_which_the_exchange_tells_nothing_is_at_its_first_trade() -> None:
    start = Gap.beginning(99, NOON, NOON + 999)
    plan = passed_plan(start)
    request = request_of(plan)
    assert isinstance(request, AggregatesRequest)
    plan.on_aggregates(request, aggregates((90, 95), (96, 99)), LATER)
    update(plan, start, now=LATER)
    before = request_of(plan, 2 * LATER)

    result = plan.on_too_old(before, 2 * LATER)

    assert (result.begins_at, result.has_older, result.abandoned_through) == (90, True, None)


def test_a_beginning_that_is_too_old_itself_is_given_up_and_said() -> None:
    """An aggregate that is too old to be told may then be one that is wanted."""
    start = Gap.beginning(99, NOON - 47 * HOUR, NOON + 999)
    plan = passed_plan(start)
    request = request_of(plan)
    assert isinstance(request, AggregatesRequest)
    plan.on_aggregates(request, aggregates((90, 95), (96, 100)), LATER)
    update(plan, start, now=LATER)
    clock = NOON + 2 * HOUR  # 49 hours after what is wanted begins
    before = plan.next_request(2 * LATER, clock)
    assert isinstance(before, AggregatesRequest)
    assert before.from_id == 99

    result = plan.on_too_old(before, 2 * LATER)

    assert (result.begins_at, result.abandoned_through) == (None, 89)
    assert result.error == "the exchange tells no trades of then any more: they are too old"


def test_a_contradiction_has_the_first_trade_of_all_asked_for_which_shows_restarted_ids() -> None:
    plan = plan_of(gap(5, 7))
    later = rows(4, 5, 6, 7, 8, time=NOON + HOUR)
    result = plan.on_recent(recent(plan), later, 0)
    assert result.ranges == ()
    update(plan, gap(5, 7), now=0)
    request = request_of(plan)
    assert isinstance(request, AggregatesRequest)
    assert request.is_of_all

    result = plan.on_aggregates(request, aggregates((0, 3), first=0, time=NOON + HOUR), LATER)

    assert result.restarted_at == NOON + HOUR


def test_a_first_trade_that_is_too_old_to_be_told_shows_that_ids_have_not_restarted() -> None:
    plan = plan_of(gap(5, 7))
    later = rows(4, 5, 6, 7, 8, time=NOON + HOUR)
    plan.on_recent(recent(plan), later, 0)
    update(plan, gap(5, 7), now=0)
    plan.on_too_old(request_of(plan), LATER)
    update(plan, gap(5, 7), now=LATER)

    result = plan.on_recent(recent(plan, LATER), later, LATER)

    assert spans(result.ranges) == [(5, 5), (6, 6), (7, 7)]


def test_what_was_told_of_ids_is_forgotten_when_they_restart() -> None:
    plan = passed_plan(gap(500, 507))
    lost = Gap.unnumbered(NOON, NOON + 1, GapCause.RENUMBERED)

    update(plan, lost, gap(5, 7), now=0)

    assert recent(plan, 250).gap == gap(5, 7)


def test_an_aggregate_before_the_gap_that_is_too_old_shows_that_nothing_lies_between() -> None:
    plan = passed_plan(gap(5, 9))
    request = request_of(plan)
    assert isinstance(request, AggregatesRequest)
    plan.on_aggregates(request, aggregates((7, 9), (10, 10)), LATER)
    update(plan, gap(5, 9), now=LATER)

    result = plan.on_too_old(request_of(plan, 2 * LATER), 2 * LATER)

    assert (list(result.excluded), result.abandoned_through) == ([(5, 6)], None)


def test_what_is_left_of_a_beginning_may_be_older_trades_but_none_that_are_wanted() -> None:
    rest = replace(gap(5, 9, since=NOON), cause=GapCause.START)  # 4 was the newest in an answer
    plan = passed_plan(rest)
    request = request_of(plan)
    assert isinstance(request, AggregatesRequest)
    plan.on_aggregates(request, aggregates((7, 9), (10, 10)), LATER)
    update(plan, rest, now=LATER)

    result = plan.on_too_old(request_of(plan, 2 * LATER), 2 * LATER)

    assert (list(result.unwanted), result.excluded) == ([(5, 6)], ())
    assert result.abandoned_through is None


def test_what_may_have_become_too_old_while_an_answer_took_its_time_is_given_up() -> None:
    old = gap(5, 9, since=CLOCK - 48 * HOUR + DISORDER_MS, span=HOUR)
    plan = passed_plan(old)
    request = request_of(plan)
    assert isinstance(request, AggregatesRequest)
    plan.on_aggregates(request, aggregates((7, 9), (10, 10), time=CLOCK - 47 * HOUR), LATER)
    update(plan, old, now=LATER)

    result = plan.on_too_old(request_of(plan, 2 * LATER), 2 * LATER + 1)

    assert (result.excluded, result.abandoned_through) == ((), 6)


def test_of_a_gap_that_begins_out_of_reach_what_is_before_the_first_aggregate_is_given_up() -> None:
    old = gap(5, 9, since=CLOCK - 48 * HOUR, span=HOUR)
    plan = passed_plan(old)
    request = request_of(plan)
    assert isinstance(request, AggregatesRequest)
    plan.on_aggregates(request, aggregates((7, 9), (10, 10), time=CLOCK - 47 * HOUR), LATER)
    update(plan, old, now=LATER)

    result = plan.on_too_old(request_of(plan, 2 * LATER), 2 * LATER)

    assert (result.excluded, result.abandoned_through) == ((), 6)
    assert result.abandoned_before_ms == CLOCK - 47 * HOUR, "what is left begins about then"


def test_aggregates_that_a_step_back_went_over_are_still_asked_for() -> None:
    """The one that is too old may be a thousand before the first one, and from before the gap."""
    wanted = gap(5, 9, span=HOUR)
    plan = passed_plan(wanted)
    now = LATER
    pages = aggregates((9, 10), first=2_000), aggregates((8, 8), (9, 10), first=1_999)
    for page in pages:
        request = request_of(plan, now)
        assert isinstance(request, AggregatesRequest)
        plan.on_aggregates(request, page, now)
        update(plan, wanted, now=now)
        now += LATER
    asked: list[int | None] = []
    while True:
        request = request_of(plan, now)
        assert isinstance(request, AggregatesRequest)
        asked.append(request.from_id)
        if request.from_id == 1_998:
            break
        result = plan.on_too_old(request, now)
        assert (result.excluded, result.abandoned_through) == ((), None)
        update(plan, wanted, now=now)
        now += LATER
    assert (asked[:3], len(asked)) == ([1_000, 1_499, 1_749], 11)

    page = aggregates((6, 6), (8, 8), (9, 10), first=1_998)
    plan.on_aggregates(request, page, now)
    update(plan, wanted, now=now)
    before = request_of(plan, now + LATER)
    assert isinstance(before, AggregatesRequest)
    assert before.from_id == 1_997, "the one that was too old"
    result = plan.on_too_old(before, now + LATER)

    assert list(result.excluded) == [(5, 5)]
