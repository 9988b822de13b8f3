"""Which request is made for which gap of futures, and what its answer means."""

from __future__ import annotations

import random
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bintrades.exchange.binance.backfill_plan import (
    KEY_RETRY_MS,
    Aggregate,
    AggregatesRequest,
    RecentRequest,
    TradesRequest,
)
from bintrades.exchange.binance.futures_plan import FuturesPlan
from bintrades.model import Gap, GapSet, TradeRange
from bintrades.util.backoff import Backoff
from tests.exchange.binance.futures_world import MARKET, PAGE_IDS, REACH_MS, LedgerOfIds, World
from tests.strategies import START

if TYPE_CHECKING:
    from tests.exchange.binance.futures_world import Tape

MINUTE_MS = 60_000
SEEDS = st.integers(0, 2**32)


def assert_all_is_accounted_for(world: World) -> None:
    """Every id that is wanted ended in one way, and what is said of each is true."""
    for symbol, tape in world.tapes.items():
        ledger = world.ledgers[symbol]
        assert ledger.ranges.as_tuple == ()
        assert not ledger.excluded & tape.fill_ids
        assert not ledger.unwanted & {each.first_id for each in tape.fills if each.time >= START}
        fills = {each.first_id: each for each in tape.fills}
        assert ledger.filled == {trade_id: fills[trade_id] for trade_id in ledger.filled}
        assert all(stands_for_fills(each, tape) for each in ledger.approximated)
        ended = [ledger.live, set(ledger.filled), ledger.excluded, approximated(ledger)]
        ended += [set(ledger.abandoned), ledger.unwanted]
        assert sum(map(len, ended)) == len(set.union(*ended))
        assert set.union(*ended) >= wanted(ledger, tape)
        assert all(error for error in ledger.abandoned.values())


def stands_for_fills(approximation: TradeRange, tape: Tape) -> bool:
    """Whether it is an aggregate, or one without its last fills, with the quantity of the rest."""
    whole = next(
        (
            each.trades
            for each in tape.aggregates
            if each.trades is not None and each.trades.first_id == approximation.first_id
        ),
        None,
    )
    first_id, last_id = approximation.first_id, approximation.last_id
    quantity = sum(each.quantity for each in tape.fills if first_id <= each.first_id <= last_id)
    return (
        whole is not None
        and last_id <= whole.last_id
        and approximation == replace(whole, last_id=last_id, quantity=Decimal(quantity))
    )


def wanted(ledger: LedgerOfIds, tape: Tape) -> set[int]:
    """Return the ids since the first trade that is wanted, up to the newest that was heard."""
    if ledger.next_id is None:
        return set()
    young = (each.first_id for each in tape.fills if each.time >= START)
    first = min(young, default=ledger.next_id)
    return {each for each in tape.times if first <= each < ledger.next_id}


def approximated(ledger: LedgerOfIds) -> set[int]:
    """Return the ids for which aggregates stand in."""
    spans = [range(each.first_id, each.last_id + 1) for each in ledger.approximated]
    return {each for span in spans for each in span}


@settings(deadline=None, max_examples=150)
@given(SEEDS, st.booleans())
@example(121_517, False)  # an answer of /trades lacks some of an aggregate for a moment
def test_every_id_is_had_excluded_approximated_or_abandoned_in_the_end(
    seed: int, has_key: bool
) -> None:
    world = World(seed, has_key=has_key)
    world.go()

    assert_all_is_accounted_for(world)


@settings(deadline=None, max_examples=60)
@given(SEEDS)
def test_with_a_key_and_without_faults_every_trade_is_had_singly(seed: int) -> None:
    world = World(seed, has_key=True, is_faulty=False)
    world.go()

    assert_all_is_accounted_for(world)
    for symbol, tape in world.tapes.items():
        ledger = world.ledgers[symbol]
        had = ledger.live | set(ledger.filled)
        assert had >= wanted(ledger, tape) & tape.fill_ids
        assert ledger.approximated == []


@settings(deadline=None, max_examples=60)
@given(SEEDS)
@example(1_553_310)  # aggregates about another gap cover what is not begun
@example(6_842)  # and what is not missing yet
def test_without_a_key_only_trades_of_aggregates_that_are_partly_known_are_given_up(
    seed: int,
) -> None:
    world = World(seed, has_key=False, is_faulty=False)
    world.go()

    assert_all_is_accounted_for(world)
    assert not any(isinstance(request, TradesRequest) for _, request in world.asked)
    for symbol, tape in world.tapes.items():
        ledger = world.ledgers[symbol]
        known = ledger.live | set(ledger.filled)
        first = ledger.begins_at or 0
        for aggregate in tape.aggregates:
            assert aggregate.trades is not None
            ids = set(range(aggregate.trades.first_id, aggregate.trades.last_id + 1))
            if min(ids) >= first and not ids & known:
                assert not ids & set(ledger.abandoned)


@settings(deadline=None, max_examples=40)
@given(SEEDS)
def test_a_key_that_is_refused_is_tried_again_rarely_and_all_goes_on_without(seed: int) -> None:
    world = World(seed, has_key=True, is_key_refused=True, is_faulty=False)
    world.go()

    assert_all_is_accounted_for(world)
    refused_at = [at for at, request in world.asked if isinstance(request, TradesRequest)]
    assert all(later - earlier >= KEY_RETRY_MS for earlier, later in pairwise(refused_at))


@settings(deadline=None, max_examples=40)
@given(SEEDS)
def test_a_stream_of_aggregates_is_filled_by_aggregates_alone(seed: int) -> None:
    world = World(seed, has_key=True, is_of_aggregates=True)
    world.go()

    assert_all_is_accounted_for(world)
    assert all(isinstance(request, AggregatesRequest) for _, request in world.asked)


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.booleans(), st.sampled_from([10, 50, 100]))
def test_what_is_not_urgent_takes_two_thirds_of_what_may_be_asked_and_requests_end(
    seed: int, has_key: bool, share_percent: int
) -> None:
    world = World(seed, has_key=has_key, share_percent=share_percent)
    world.go()

    others = [
        (at, world.weight(request))
        for at, request in world.asked
        if not isinstance(request, RecentRequest)
    ]
    for index, (at, _) in enumerate(others):
        within_a_minute = [weight for time, weight in others[index:] if time < at + MINUTE_MS]
        assert sum(within_a_minute[:-1]) <= world.budget.allowed * 2 / 3
    assert world.plan.is_empty
    assert world.plan.next_request(world.now + 10**9, world.clock + 10**9) is None


def single(trade_id: int, time: int) -> TradeRange:
    """Return a fill of the order book."""
    return TradeRange(trade_id, trade_id, Decimal(1), Decimal(1), time, is_buyer_maker=False)


@pytest.mark.parametrize(("allowed", "within_ms"), [(1_000_000, 20_000), (2_400, 400_000)])
def test_the_pace_follows_what_may_be_asked_by_now(allowed: int, within_ms: int) -> None:
    plan = FuturesPlan(
        MARKET,
        REACH_MS,
        lambda: Backoff(1.0, 60.0, random.Random(1)),
        has_key=True,
        allowed=lambda: allowed,
    )
    fills = [single(each, START + each) for each in range(11 * PAGE_IDS)]
    ledger = LedgerOfIds("BTCUSDT")
    ledger.hear(0, START)
    ledger.hear(fills[-1].first_id, fills[-1].time)
    plan.update(ledger.gap_set, 0)
    asked_at = []
    for now in range(0, within_ms, 250):
        request = plan.next_request(now, START + 10_000 + now)
        if isinstance(request, RecentRequest):
            ledger.fill(plan.on_recent(request, fills[-1:], now))
        elif isinstance(request, TradesRequest):
            asked_at.append(now)
            page = fills[request.from_id : request.from_id + request.limit]
            ledger.fill(plan.on_trades(request, page, now))
        plan.update(ledger.gap_set, now)

    assert plan.is_empty
    pace_ms = 3 * MINUTE_MS * MARKET.historical_trades.weight / (2 * allowed)
    assert all(later - earlier >= pace_ms for earlier, later in pairwise(asked_at))


def test_a_long_hole_in_the_newest_trades_is_believed_once_a_later_answer_has_it_too() -> None:
    plan = FuturesPlan(MARKET, REACH_MS, lambda: Backoff(1.0, 60.0, random.Random(1)))
    ledger = LedgerOfIds("BTCUSDT")
    ledger.hear(0, START)
    ledger.hear(50, START + 50)
    plan.update(ledger.gap_set, 0)

    def answer(now: int, *ids: int) -> None:
        request = plan.next_request(now, START + 20_000)
        assert isinstance(request, RecentRequest)
        rows = [single(each, START + each) for each in ids]
        ledger.fill(plan.on_recent(request, rows, now))
        plan.update(ledger.gap_set, now)

    answer(1_000, *range(5), *range(10, 20), *range(45, 52))
    few = set(range(5, 10))
    assert ledger.excluded == few
    answer(2_000, *range(5), *range(10, 20), *range(45, 52))  # the same one again
    assert ledger.excluded == few
    answer(3_000, *range(5), *range(10, 20), *range(45, 53))
    assert ledger.excluded == few | set(range(20, 45))


def test_a_fill_whose_time_falls_back_before_the_beginning_is_no_excluded_id() -> None:
    plan = FuturesPlan(MARKET, MINUTE_MS, lambda: Backoff(1.0, 60.0, random.Random(1)))
    beginning = Gap.beginning(70, START, START + 1_000)
    plan.update(GapSet("BTCUSDT", (beginning,)), 0)
    times = {60: -500, 69: 50, 70: -400, 71: 300}  # which shows no trade from long enough before
    rows = [single(each, START + time) for each, time in times.items()]

    request = plan.next_request(5_000, START + 6_000)
    assert isinstance(request, RecentRequest)
    result = plan.on_recent(request, rows, 5_000)

    assert [each.first_id for each in result.ranges] == [69]
    assert list(result.excluded) == []


def test_where_aggregates_tell_the_beginning_the_newest_trades_are_had_singly() -> None:
    plan = FuturesPlan(MARKET, REACH_MS, lambda: Backoff(1.0, 60.0, random.Random(1)))
    # The first of all come within the disorder of times before the beginning.
    fills = [single(each, START + 200 * each - 500) for each in range(1, 12)]
    ledger = LedgerOfIds("BTCUSDT")
    ledger.hear(fills[6].first_id, fills[6].time)
    plan.update(ledger.gap_set, 0)
    for now in range(0, 10 * MINUTE_MS, 250):
        request = plan.next_request(now, START + 10_000 + now)
        if isinstance(request, RecentRequest):
            ledger.fill(plan.on_recent(request, fills, now))
        elif isinstance(request, AggregatesRequest):
            since_ms, from_id = request.start_ms or 0, request.from_id or 0
            page = [
                Aggregate(each.first_id, each)
                for each in fills
                if each.time >= since_ms and each.first_id >= from_id
            ]
            ledger.fill(plan.on_aggregates(request, page, now))
        plan.update(ledger.gap_set, now)

    assert plan.is_empty
    assert ledger.begins_at == fills[0].first_id
    assert ledger.approximated == []
    assert set(ledger.filled) == set(range(1, 7))
