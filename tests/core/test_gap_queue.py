"""In which order gaps are asked about, and when ids are held to be absent, on any exchange."""

from __future__ import annotations

import random
from decimal import Decimal
from itertools import combinations_with_replacement, pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bintrades.core.gap_queue import BackfillTiming, GapQueue, QueuedGap
from bintrades.model import Gap, GapCause, GapSet, TradeRange
from bintrades.util.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Sequence

NOON = 1_723_118_400_000
MINUTE, HOUR = 60_000, 3_600_000
TIMING = BackfillTiming()
DUE = TIMING.first_request_after_ms
BTC, ETH = "BTCUSDT", "ETHUSDT"
TRADES, AGGREGATES = "trades", "aggregates"


class LongestWaits(random.Random):
    """Makes each wait of a backoff as long as it may be."""

    def uniform(self, _a: float, b: float) -> float:
        return b


Queue = GapQueue[list[str]]


def new_queue(*endpoints: str) -> Queue:
    rng = LongestWaits()
    return GapQueue(
        frozenset(endpoints or (TRADES, AGGREGATES)), list, lambda: Backoff(1.0, 300.0, rng), TIMING
    )


def gap(first_id: int, last_id: int) -> Gap:
    return Gap(first_id, last_id, NOON, NOON + 1_000, GapCause.RESTART)


def absent(first_id: int, last_id: int, *, looks: int = 0) -> Gap:
    return replace(gap(first_id, last_id), absent_at=NOON, looks=looks)


def rows(*ids: int) -> list[TradeRange]:
    return [TradeRange(i, i, Decimal(1), Decimal(1), NOON + i, False) for i in ids]


def queue_of(*gaps: Gap, symbol: str = BTC) -> Queue:
    """Return a queue whose *gaps* are all due at DUE."""
    queue = new_queue()
    queue.update(GapSet(symbol, gaps), 0)
    return queue


def taken(queue: Queue, now: int = DUE) -> QueuedGap[list[str]]:
    """Return the next entry, which there must be."""
    entry = queue.take(now)
    assert entry is not None
    return entry


def confirm(queue: Queue, endpoint: str, now: int, answer: Sequence[TradeRange]) -> list[object]:
    """Have *endpoint* answer, and return what is believed to be absent thereafter."""
    return [*queue.confirm_absences(BTC, endpoint, answer, now, is_from_zero=False)]


def test_a_gap_is_given_time_to_fill_by_itself() -> None:
    queue = queue_of(gap(5, 7))

    assert queue.take(DUE - 1) is None
    assert taken(queue, DUE).gap == gap(5, 7)


def test_the_newest_gap_of_a_symbol_comes_first() -> None:
    assert taken(queue_of(gap(5, 6), gap(9, 9), gap(20, 22))).gap == gap(20, 22)


def test_abandoned_gaps_are_not_asked_about_but_their_ids_stay_unknown() -> None:
    queue = queue_of(replace(gap(5, 6), is_abandoned=True))

    assert queue.take(DUE) is None
    assert queue.is_empty
    assert queue.unknown_ids(BTC).is_wanted(5)


def test_symbols_take_turns_however_many_gaps_one_has() -> None:
    queue = new_queue()
    for symbol in (BTC, ETH):
        queue.update(GapSet(symbol, tuple(gap(10 * n, 10 * n + 1) for n in range(1, 9))), 0)
    served = []
    for number in range(1, 9):
        entry = taken(queue)
        served.append(entry.symbol)
        queue.record_result(entry.symbol, entry.gap).retry_at(DUE)
        for symbol in (BTC, ETH):
            queue.update(GapSet(symbol, (gap(1, 2), gap(80, 81)), answers=number), DUE)

    assert all(one != other for one, other in pairwise(served))


def test_a_symbol_waits_until_its_ledger_has_counted_every_result() -> None:
    queue = queue_of(gap(5, 6), gap(20, 22))
    entry = taken(queue)
    queue.record_result(BTC, entry.gap)

    queue.update(GapSet(BTC, (gap(5, 6), gap(20, 21)), answers=0), DUE)  # from before the result
    assert queue.take(HOUR) is None

    queue.update(GapSet(BTC, (gap(5, 6),), answers=1), DUE)
    assert taken(queue, HOUR).gap == gap(5, 6)


def test_the_results_of_a_symbol_are_counted_on_while_it_lacks_nothing() -> None:
    queue = queue_of(gap(5, 6))
    queue.record_result(BTC, taken(queue).gap)
    queue.update(GapSet(BTC, (), answers=0), DUE)  # it filled by itself before the result came
    queue.update(GapSet(BTC, (gap(20, 22),), answers=0), DUE)

    assert queue.take(HOUR) is None
    queue.update(GapSet(BTC, (gap(20, 22),), answers=1), DUE)
    assert taken(queue, HOUR).gap == gap(20, 22)


def test_what_was_put_back_is_taken_again() -> None:
    queue = queue_of(gap(5, 6))
    entry = taken(queue)
    assert queue.take(DUE) is None
    assert not queue.is_empty

    queue.put_back(BTC)

    assert taken(queue) is entry


def test_a_gap_that_is_filled_from_its_front_keeps_what_was_learned_of_it() -> None:
    queue = queue_of(gap(5, 40))
    taken(queue).progress.append("page 3")
    queue.put_back(BTC)

    queue.update(GapSet(BTC, (gap(31, 40),)), HOUR)

    entry = taken(queue, DUE)
    assert (entry.gap, entry.progress) == (gap(31, 40), ["page 3"])


def test_nothing_is_remembered_of_a_gap_that_has_closed() -> None:
    queue = queue_of(gap(5, 7))
    taken(queue).progress.append("page 3")
    assert queue.record_result(BTC, gap(5, 7)).progress == ["page 3"]
    queue.update(GapSet(BTC, (), answers=1), DUE)
    assert queue.is_empty
    assert queue.record_result(BTC, gap(5, 7)).progress == []

    queue.update(GapSet(BTC, (gap(5, 7),), answers=2), DUE)

    assert taken(queue, 2 * DUE).progress == []


def test_the_wait_grows_until_something_comes_and_begins_anew_after_that() -> None:
    queue = queue_of(gap(5, 7))
    entry = taken(queue)
    waits = []
    for _ in range(10):
        queue.back_off(entry, now=0)
        waits.append(entry.due)
    entry.retry_at(0)
    queue.back_off(entry, now=0)

    assert waits == [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 300_000]
    assert entry.due == 1_000


def test_a_gap_that_must_wait_holds_up_no_other_one() -> None:
    queue = queue_of(gap(5, 6), gap(20, 22))
    queue.back_off(queue.record_result(BTC, taken(queue).gap), DUE)
    queue.update(GapSet(BTC, (gap(5, 6), gap(20, 22)), answers=1), DUE)

    assert taken(queue).gap == gap(5, 6)


def test_ids_are_absent_when_all_endpoints_agree_three_times() -> None:
    queue = queue_of(gap(5, 7))
    around = rows(4, 8)
    for now in (0, MINUTE):
        assert confirm(queue, TRADES, now, around) == []
        assert confirm(queue, AGGREGATES, now, around) == []
    assert confirm(queue, TRADES, 10 * MINUTE, around) == []

    assert confirm(queue, AGGREGATES, 10 * MINUTE, around) == [(5, 7)]


def test_one_endpoint_alone_is_never_believed() -> None:
    queue = queue_of(gap(5, 7))

    assert not any(confirm(queue, TRADES, hour * HOUR, rows(4, 8)) for hour in range(100))


def test_an_exchange_with_one_endpoint_confirms_by_that() -> None:
    queue = new_queue(TRADES)
    queue.update(GapSet(BTC, (gap(5, 7),)), 0)

    believed = [confirm(queue, TRADES, now, rows(4, 8)) for now in (0, MINUTE, 10 * MINUTE)]

    assert believed == [[], [], [(5, 7)]]


def test_what_is_said_before_a_confirmation_is_due_does_not_count() -> None:
    queue = queue_of(gap(5, 7))
    for now in (0, 1, MINUTE - 1):
        for endpoint in (TRADES, AGGREGATES) * 3:
            assert confirm(queue, endpoint, now, rows(4, 8)) == []

    assert not taken(queue, MINUTE).confirmed_by


def test_an_answer_tells_of_every_gap_that_lies_in_it() -> None:
    queue = queue_of(gap(5, 5), gap(7, 7), gap(9, 9))

    confirm(queue, TRADES, DUE, rows(4, 6, 8))

    confirmed = {}
    for each in (gap(9, 9), gap(7, 7), gap(5, 5)):
        entry = queue.record_result(BTC, each)
        confirmed[each.first_id] = entry.confirmed_by
    assert confirmed == {5: {TRADES}, 7: {TRADES}, 9: set()}


def test_once_a_part_of_a_gap_has_filled_its_confirmations_start_over() -> None:
    queue = queue_of(gap(5, 7))
    for now in (0, MINUTE):
        for endpoint in (TRADES, AGGREGATES):
            assert confirm(queue, endpoint, now, rows(4, 8)) == []
    assert confirm(queue, TRADES, 10 * MINUTE, rows(4, 8)) == []
    assert queue.record_result(BTC, gap(5, 7)).confirmed_by == {TRADES}

    queue.update(GapSet(BTC, (gap(6, 7),), answers=1), DUE)

    assert taken(queue, HOUR).confirmed_by == set()
    believed = [
        confirm(queue, endpoint, HOUR + now, rows(5, 8))
        for now in (0, MINUTE, 10 * MINUTE)
        for endpoint in (AGGREGATES, TRADES)
    ]
    assert believed == [[], [], [], [], [], [(6, 7)]]


@pytest.mark.parametrize(
    "answer",
    [rows(), rows(8), rows(4), rows(3, 8), rows(4, 9), rows(4, 6, 8), rows(90, 91)],
    ids=str,
)
def test_an_answer_without_the_trades_around_a_gap_confirms_nothing(
    answer: list[TradeRange],
) -> None:
    queue = queue_of(gap(5, 7))

    confirm(queue, TRADES, DUE, answer)

    assert taken(queue).confirmed_by == set()


def test_the_reason_to_wait_says_whether_a_confirmation_is_due_or_the_answer_was_elsewhere() -> (
    None
):
    queue = queue_of(gap(5, 7))
    entry = taken(queue)
    assert "does not hold the trades around" in queue.await_confirmation(entry, TRADES, DUE)
    assert entry.due == DUE + 1_000

    confirm(queue, TRADES, DUE, rows(4, 8))
    assert "must say so again" in queue.await_confirmation(entry, TRADES, DUE)
    assert entry.due == DUE, "the other endpoint may be asked at once"
    confirm(queue, AGGREGATES, DUE, rows(4, 8))
    assert "must say so again" in queue.await_confirmation(entry, AGGREGATES, DUE)
    assert entry.due == DUE + MINUTE


def test_absent_ids_are_checked_again_an_hour_and_a_day_after_they_were_believed() -> None:
    queue = new_queue()
    asked = []
    looks = 0
    queue.update(GapSet(BTC, (), (absent(5, 7),)), 0)
    for hour in range(50):
        entry = queue.take_absent(hour * HOUR + DUE, NOON + hour * HOUR)
        if entry is not None:
            asked.append(hour)
            looks += 1
            queue.record_result(BTC, entry.gap)
            queue.update(GapSet(BTC, (), (absent(5, 7, looks=looks),), looks), hour * HOUR)

    assert asked == [1, 24]
    assert queue.take(HOUR) is None
    assert queue.is_empty


@given(
    st.sets(st.integers(0, 40), min_size=1),
    st.sets(st.integers(0, 40)),
)
def test_unknown_ids_are_those_of_all_gaps(unknown: set[int], held_absent: set[int]) -> None:
    queue = new_queue()
    queue.update(
        GapSet(
            BTC,
            tuple(gap(*span) for span in spans(unknown - held_absent)),
            tuple(absent(*span) for span in spans(held_absent)),
        ),
        0,
    )
    unknown |= held_absent
    ids = queue.unknown_ids(BTC)

    assert {i for i in range(42) if ids.is_wanted(i)} == unknown
    for first_id, _ in (*spans(unknown - held_absent), *spans(held_absent)):
        known = [i for i in range(first_id) if i not in unknown]
        assert ids.stretch_from(first_id) == max(known, default=-1) + 1
    for first_id, last_id in combinations_with_replacement(range(42), 2):
        assert ids.cover(first_id, last_id) == (set(range(first_id, last_id + 1)) <= unknown)


def spans(ids: set[int]) -> list[tuple[int, int]]:
    """Return the ranges of consecutive *ids*."""
    starts = sorted(i for i in ids if i - 1 not in ids)
    ends = sorted(i for i in ids if i + 1 not in ids)
    return list(zip(starts, ends, strict=True))


def test_the_most_urgent_gap_that_is_due_is_taken_and_none_of_urgency_0() -> None:
    queue = queue_of(gap(5, 6), gap(9, 9))
    queue.update(GapSet(ETH, (gap(20, 29),)), 0)

    def size(entry: QueuedGap[list[str]]) -> int:
        return entry.gap.size - 1

    assert queue.take_most_urgent(DUE - 1, size) is None
    taken = [queue.take_most_urgent(DUE, size) for _ in range(3)]
    assert [entry and entry.gap for entry in taken] == [gap(20, 29), gap(5, 6), None]
