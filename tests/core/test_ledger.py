"""Which trades count, and which are missing."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bintrades.core.gap_ranges import DISORDER_MS
from bintrades.core.ledger import MOST_ABSENT, MOST_EXCLUDED, Ledger, LedgerState
from bintrades.model import Gap, GapCause
from tests.core.gap_lists import gap_lists, ids_in, spans
from tests.strategies import START, trades_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bintrades.model import Trade

ids = st.lists(st.integers(0, 30), max_size=60)
"""Ids as they come: with holes, again, and in any order."""


def fed(sequence: Sequence[int]) -> tuple[Ledger, list[bool]]:
    """Return a ledger after *sequence*, and what it said to each id; time is the id."""
    ledger = Ledger()
    return ledger, [ledger.admit(trade_id, START + trade_id) for trade_id in sequence]


def gaps_of(ledger: Ledger) -> tuple[Gap, ...]:
    return ledger.state.gaps if ledger.state else ()


def between(
    first_id: int, last_id: int, before: int, after: int, cause: GapCause = GapCause.SKIPPED
) -> Gap:
    """Return the gap between two trades of such times: `T` may be in disorder."""
    return Gap(first_id, last_id, before - DISORDER_MS, after + DISORDER_MS, cause)


def since_the_beginning(last_id: int, since: int, after: int) -> Gap:
    """Return the gap before the first trade, which reaches back to *since* exactly."""
    return Gap.beginning(last_id, since, after + DISORDER_MS)


def missing_ids(ledger: Ledger) -> list[int]:
    return [
        trade_id for gap in gaps_of(ledger) for trade_id in range(gap.first_id, gap.last_id + 1)
    ]


@given(ids)
def test_each_id_from_the_first_on_counts_exactly_once(sequence: list[int]) -> None:
    _, answers = fed(sequence)

    admitted = [trade_id for trade_id, answer in zip(sequence, answers, strict=True) if answer]
    assert sorted(admitted) == sorted({i for i in sequence if i >= sequence[0]})


@given(ids)
def test_what_is_missing_is_exactly_what_was_not_seen_between_the_first_and_the_highest(
    sequence: list[int],
) -> None:
    ledger, _ = fed(sequence)

    expected = (
        sorted(set(range(sequence[0], max(sequence) + 1)) - set(sequence)) if sequence else []
    )
    assert missing_ids(ledger) == expected


@given(ids)
def test_gaps_are_in_order_and_never_empty(sequence: list[int]) -> None:
    ledger, _ = fed(sequence)

    assert all(gap.size > 0 for gap in gaps_of(ledger))
    assert list(gaps_of(ledger)) == sorted(gaps_of(ledger), key=lambda gap: gap.first_id)


@given(ids, ids)
def test_a_ledger_goes_on_from_what_was_written_down(before: list[int], after: list[int]) -> None:
    ledger, _ = fed(before)
    restarted = Ledger(ledger.state)

    for trade_id in after:
        time = START + trade_id
        assert restarted.admit(trade_id, time) == ledger.admit(trade_id, time)
    assert restarted.state == ledger.state


@given(
    st.data(),
    trades_of("BTCUSDT", is_time_ordered=True).filter(lambda trades: len(trades) >= 2),
)
def test_the_span_of_a_gap_holds_the_times_of_the_trades_that_are_missing(
    data: st.DataObject, trades: list[Trade]
) -> None:
    ledger = Ledger()
    ledger.admit(trades[0].trade_id, trades[0].time)
    for trade in data.draw(st.lists(st.sampled_from(trades), max_size=30)):
        ledger.admit(trade.trade_id, trade.time)

    by_id = {trade.trade_id: trade for trade in trades}
    for gap in gaps_of(ledger):
        for trade_id in range(gap.first_id, gap.last_id + 1):
            assert gap.since_ms <= by_id[trade_id].time <= gap.until_ms


def test_a_ledger_that_saw_nothing_has_nothing_to_write_down() -> None:
    assert Ledger().state is None


def test_skipped_ids_are_a_gap_from_the_trade_before_to_the_trade_after() -> None:
    ledger = Ledger()
    ledger.admit(7, START)

    assert ledger.admit(10, START + 500, cause=GapCause.RECONNECT)
    assert gaps_of(ledger) == (between(8, 9, START, START + 500, GapCause.RECONNECT),)


def test_an_id_inside_a_gap_is_welcome_however_late_and_splits_it() -> None:
    ledger = Ledger()
    ledger.admit(1, START)
    ledger.admit(9, START + 900)
    for trade_id in range(10, 1_000):
        ledger.admit(trade_id, START + 900)

    assert ledger.admit(5, START + 500)
    assert gaps_of(ledger) == (
        between(2, 4, START, START + 500),
        between(6, 8, START + 500, START + 900),
    )


def test_an_id_that_was_had_or_came_before_the_beginning_does_not_count() -> None:
    ledger = Ledger()
    ledger.admit(5, START)

    assert not ledger.admit(5, START)
    assert not ledger.admit(4, START)
    assert ledger.state == LedgerState(next_id=6, last_time=START, gaps=())


def test_the_trades_since_the_start_of_the_first_interval_are_wanted() -> None:
    ledger = Ledger()
    ledger.want_since(START)

    ledger.admit(100, START + 3_000)

    assert gaps_of(ledger) == (since_the_beginning(99, START, START + 3_000),)
    assert ledger.admit(99, START + 2_500)
    assert ledger.admit(100, START + 3_000) is False


def test_that_trades_are_wanted_is_known_after_a_restart_though_none_has_come() -> None:
    ledger = Ledger()
    assert ledger.state is None
    ledger.want_since(START)

    restarted = Ledger(ledger.state)
    restarted.admit(7, START + 30_000)

    assert gaps_of(restarted) == (since_the_beginning(6, START, START + 30_000),)


def test_nothing_is_missing_before_the_first_trade_that_there_can_be() -> None:
    ledger = Ledger()
    ledger.want_since(START)
    assert gaps_of(ledger) == ()

    ledger.admit(0, START + 5)

    assert gaps_of(ledger) == ()


def test_once_a_trade_has_come_nothing_changes_what_is_wanted() -> None:
    ledger = Ledger()
    ledger.admit(7, START)

    ledger.want_since(START - 10_000)

    assert ledger.state == LedgerState(8, START, ())


def test_a_gap_of_any_width_costs_no_memory() -> None:
    ledger = Ledger()
    ledger.admit(1, START)
    ledger.admit(2**62, START + 1)

    assert len(gaps_of(ledger)) == 1
    assert gaps_of(ledger)[0].size == 2**62 - 2


def with_gaps(gaps: Sequence[Gap]) -> Ledger:
    return Ledger(LedgerState(50, START + 100, tuple(gaps)))


@given(gap_lists(), spans)
def test_a_range_counts_exactly_when_all_of_it_is_missing(
    gaps: list[Gap], span: tuple[int, int]
) -> None:
    ledger = with_gaps(gaps)
    first_id, last_id = span
    run = set(range(first_id, last_id + 1))

    is_counted = ledger.admit_range(first_id, last_id, START + 50)

    assert is_counted == any(run <= ids_in([gap]) for gap in gaps)
    assert ids_in(ledger.gaps) == (ids_in(gaps) - run if is_counted else ids_in(gaps))


def test_what_is_left_of_a_gap_ends_and_begins_at_the_time_of_its_trades() -> None:
    asked = {"attempts": 2, "last_error": "no"}
    ledger = with_gaps([replace(between(5, 20, START, START + 100), **asked)])

    assert ledger.admit_range(8, 12, START + 40)
    assert ledger.gaps == (
        replace(between(5, 7, START, START + 40), **asked),
        replace(between(13, 20, START + 40, START + 100), **asked),
    )


@pytest.mark.parametrize("time", [START - 70, START + 170])
def test_what_is_left_of_a_gap_widens_to_a_trade_from_outside_of_its_span(time: int) -> None:
    ledger = with_gaps([between(5, 20, START, START + 100)])

    assert ledger.admit(12, time)

    left, right = ledger.gaps
    assert left.since_ms == min(START, time) - DISORDER_MS
    assert left.until_ms >= time + DISORDER_MS
    assert right.since_ms <= time - DISORDER_MS
    assert right.until_ms == max(START + 100, time) + DISORDER_MS


def test_what_is_left_of_the_beginning_still_begins_there() -> None:
    ledger = with_gaps([since_the_beginning(20, START, START + 100)])

    assert ledger.admit(12, START + 40)
    assert ledger.gaps == (
        since_the_beginning(11, START, START + 40),
        since_the_beginning(20, START, START + 100).part(13, 20),
    ), "nothing is wanted of before"


times_in_disorder = st.lists(
    st.tuples(st.integers(0, 3_000), st.integers(0, DISORDER_MS)), min_size=2, max_size=30
)
"""Steps from one id to the next, and how far each `T` falls back behind the newest before it."""


@given(st.data(), times_in_disorder)
def test_no_gap_however_it_came_about_ends_before_or_begins_after_a_trade_that_it_lacks(
    data: st.DataObject, steps: list[tuple[int, int]]
) -> None:
    newest = list(accumulate((step for step, _ in steps), initial=START))[1:]
    times = [time - back for time, (_, back) in zip(newest, steps, strict=True)]
    ledger = Ledger()
    ledger.admit(0, times[0])
    for trade_id in data.draw(st.lists(st.integers(0, len(times) - 1), max_size=20)):
        match data.draw(st.sampled_from(["live", "repaired", "newest", "proven", "abandoned"])):
            case "live":
                ledger.admit(trade_id, times[trade_id])
            case "repaired":
                ledger.admit_range(trade_id, trade_id, times[trade_id])
            case "newest":
                later_than = min(times[trade_id + 1 :], default=None)
                ledger.lack_through(trade_id, times[trade_id], GapCause.SILENT_STREAM, later_than)
            case "proven":
                if later := times[ledger.next_id or 0 :]:
                    ledger.prove(min(later))
            case "abandoned":
                ledger.abandon(trade_id, times[trade_id])

    for gap in gaps_of(ledger):
        for trade_id in range(gap.first_id, gap.last_id + 1):
            assert gap.since_ms <= times[trade_id] <= gap.until_ms


def test_a_trade_lost_where_t_falls_back_across_the_edge_of_a_bar_touches_the_bar_before() -> None:
    ledger = Ledger()
    ledger.admit(1, START - 1_000)
    ledger.admit(2, START)
    ledger.admit(4, START + 1)  # the third one happened at START - 1

    (gap,) = ledger.gaps
    assert gap.touches(START - 10_000, 10_000)
    assert ledger.admit(3, START - 1)
    assert ledger.gaps == ()


def test_what_is_lost_where_ids_restart_may_have_happened_before_the_last_trade() -> None:
    ledger = Ledger()
    ledger.admit(900, START)

    (lost,) = Ledger.renumbered(ledger, START + 10_000, START).gaps

    assert (lost.since_ms, lost.until_ms) == (START - DISORDER_MS, START + 9_999)


def test_trades_of_the_old_ids_may_be_lost_until_it_is_seen_that_ids_restarted() -> None:
    before = Ledger()
    before.admit(900, START)
    ledger = Ledger.renumbered(before, START + 10_000, START + 32_000)
    ledger.admit(8, START + 32_000)
    assert ledger.gaps[0].until_ms == START + 32_000

    ledger.on_older()

    assert ledger.gaps[0].until_ms == START + 9_999, "a trade of the new ids came before that"


def known_by_a_word() -> Ledger:
    """Return a ledger of a listing: ids 0 to 37 by the exchange's word, 38 to 40 missing behind."""
    ledger = Ledger()
    ledger.want_since(START)
    ledger.lack_through(37, START + 9_000, GapCause.SKIPPED, START + 3_000)
    ledger.admit(41, START + 9_500)
    return ledger


def test_a_gap_right_behind_another_begins_no_earlier_than_the_trade_that_fills_that_one() -> None:
    ledger = known_by_a_word()
    assert ledger.gaps[1].since_ms == START + 3_000 - DISORDER_MS

    assert ledger.admit_range(30, 37, START + 8_700)

    assert ledger.gaps[1].since_ms == START + 8_700 - DISORDER_MS


def test_a_gap_right_behind_the_beginning_has_no_trade_of_before_the_beginning() -> None:
    ledger = Ledger(LedgerState(None, START, ()))
    ledger.lack_through(37, START + 9_000, GapCause.SKIPPED, START - 3_000)
    ledger.admit(41, START + 9_500)

    ledger.forget_below(38)

    assert [(gap.first_id, gap.since_ms) for gap in ledger.gaps] == [(38, START - DISORDER_MS)]


@pytest.mark.parametrize("is_range", [False, True])
def test_when_the_highest_id_happened_is_known_once_its_trade_has_come(is_range: bool) -> None:
    ledger = Ledger()
    ledger.want_since(START)
    ledger.lack_through(37, START + 9_000, GapCause.SKIPPED, START + 3_000)
    assert ledger.last_time == START + 3_000

    if is_range:
        ledger.admit_range(36, 37, START + 8_700)
    else:
        ledger.admit(37, START + 8_700)

    assert ledger.last_time == START + 8_700


def test_of_ids_that_restarted_within_a_gap_what_is_behind_it_stays_known() -> None:
    before = Ledger(LedgerState(51, START, (between(30, 35, START - 9_000, START - 8_000),)))
    before.admit(1_700, START + 99_000)
    before.admit(1_705, START + 99_500)
    boundary = before.last_gap_after(START + 60_000)
    assert boundary is not None
    assert (boundary.first_id, boundary.last_id) == (51, 1_699)

    after = Ledger.renumbered_within(before, boundary, START + 10_000, START + 60_000)

    lost, older, beginning, newer = after.gaps
    assert (lost.since_ms, lost.until_ms) == (START - DISORDER_MS, START + 60_000)
    assert (older.since_ms, older.until_ms) == (before.gaps[0].since_ms, before.gaps[0].until_ms)
    assert not lost.has_ids
    assert not older.has_ids
    assert beginning == since_the_beginning(1_699, START + 10_000, START + 99_000)
    assert newer == before.gaps[-1]
    assert (after.next_id, after.last_time) == (1_706, START + 99_500)
    assert after.last_gap_after(START + 60_000) is None, "it is known already"


@given(gap_lists(), spans)
def test_absent_ids_are_missing_no_longer_and_the_times_of_the_rest_stay(
    gaps: list[Gap], span: tuple[int, int]
) -> None:
    ledger = with_gaps(gaps)

    ledger.close_absent(*span, START)

    assert ids_in(ledger.gaps) == ids_in(gaps) - set(range(span[0], span[1] + 1))
    assert all((gap.since_ms, gap.until_ms) == (START, START + 100) for gap in ledger.gaps)


@given(gap_lists(), st.integers(0, 40))
def test_to_abandon_marks_the_missing_ids_up_to_one_and_forgets_none(
    gaps: list[Gap], last_id: int
) -> None:
    ledger = with_gaps(gaps)

    ledger.abandon(last_id, START + 30)

    assert ids_in(ledger.gaps) == ids_in(gaps)
    for gap in ledger.gaps:
        assert gap.is_abandoned == (gap.first_id <= last_id)
        assert not gap.first_id <= last_id < gap.last_id
        assert START <= gap.since_ms <= gap.until_ms <= START + 100


def test_a_gap_that_is_abandoned_in_part_is_divided_at_the_oldest_moment() -> None:
    ledger = with_gaps([between(5, 20, START, START + 100)])

    ledger.abandon(12, START + 30)

    assert ledger.gaps == (
        replace(between(5, 12, START, START + 30), is_abandoned=True),
        between(13, 20, START + 30, START + 100),
    )


def test_what_is_given_up_for_a_reason_says_it_and_no_gap_before_or_behind_it_does() -> None:
    lower, gap = (
        replace(between(1, 3, START - 50, START), last_error="a key is needed"),
        between(5, 20, START, START + 100),
    )
    ledger = with_gaps([lower, gap])

    ledger.abandon(12, START + 30, first_id=5, reason="too old")

    given_up = replace(between(5, 12, START, START + 30), is_abandoned=True, last_error="too old")
    assert ledger.gaps == (lower, given_up, between(13, 20, START + 30, START + 100))


def test_lower_gaps_that_are_given_up_with_one_say_why() -> None:
    lower, gap = between(1, 3, START - 50, START), between(5, 20, START, START + 100)
    ledger = with_gaps([replace(lower, last_error="a key is needed"), gap])

    ledger.abandon(20, START + 30, reason="too old")

    assert [(each.is_abandoned, each.last_error) for each in ledger.gaps] == [(True, "too old")] * 2


def test_a_trade_of_an_abandoned_gap_is_still_welcome() -> None:
    ledger = with_gaps([Gap(5, 6, START, START + 100, GapCause.RESTART, is_abandoned=True)])

    assert ledger.admit(5, START + 1)
    assert ledger.admit_range(6, 6, START + 2)
    assert ledger.gaps == ()


def test_what_was_before_the_beginning_is_forgotten_and_no_other_gap_with_it() -> None:
    start, later = (
        Gap.beginning(9, START, START + 5),
        Gap(12, 14, START + 5, START + 9, GapCause.SKIPPED),
    )

    for begins_at, left in (
        (7, (start.part(7, 9), later)),
        (10, (later,)),
        (13, (later,)),
    ):
        ledger = with_gaps([start, later])
        ledger.forget_below(begins_at)
        assert ledger.gaps == left
    ledger = with_gaps([later])
    ledger.forget_below(13)
    assert ledger.gaps == (later,), "its beginning is known already"


def test_a_trade_that_never_came_is_a_gap_up_to_itself() -> None:
    ledger = Ledger()
    ledger.admit(5, START)

    ledger.lack_through(9, START + 50, GapCause.SILENT_STREAM)

    assert ledger.gaps == (between(6, 9, START, START + 50, GapCause.SILENT_STREAM),)
    assert not ledger.admit(5, START)
    assert ledger.admit(9, START + 50)
    assert ledger.admit(10, START + 60)


def test_a_single_trade_that_never_came_is_noted_as_well() -> None:
    ledger = Ledger()
    ledger.admit(5, START)

    ledger.lack_through(6, START + 50, GapCause.SILENT_STREAM)

    assert ledger.gaps == (between(6, 6, START, START + 50, GapCause.SILENT_STREAM),)


def test_before_the_first_trade_ever_it_reaches_back_to_the_beginning() -> None:
    ledger = Ledger()
    ledger.want_since(START - 10_000)

    ledger.lack_through(9, START + 50, GapCause.SILENT_STREAM)

    assert ledger.gaps == (since_the_beginning(9, START - 10_000, START + 50),)
    assert ledger.next_id == 10


def test_a_trade_that_came_before_it_was_said_to_exist_is_not_missing() -> None:
    ledger = Ledger()
    ledger.admit(5, START)
    before = ledger.state

    ledger.lack_through(4, START + 50, GapCause.SILENT_STREAM)
    ledger.lack_through(5, START + 50, GapCause.SILENT_STREAM)

    assert ledger.state == before


def test_a_gap_begins_no_earlier_than_is_proven() -> None:
    ledger = Ledger()
    ledger.admit(5, START)
    ledger.prove(START + 60_000)
    ledger.prove(START + 30_000)

    ledger.admit(9, START + 90_000)

    assert ledger.gaps == (between(6, 8, START + 60_000, START + 90_000, GapCause.SKIPPED),)


def test_what_is_lost_where_ids_restart_happened_no_earlier_than_is_proven() -> None:
    before = Ledger()
    before.admit(900, START)
    before.prove(START + 5_000)

    ledger = Ledger.renumbered(before, START + 10_000, START + 32_000)

    assert ledger.gaps[0].since_ms == START + 5_000 - DISORDER_MS
    assert ledger.proven == START + 5_000


def test_ids_beyond_a_trade_that_never_came_are_of_no_earlier_trades_than_was_said() -> None:
    ledger = Ledger()
    ledger.admit(5, START)
    ledger.lack_through(9, START + 60_000, GapCause.SILENT_STREAM, START + 54_000)

    ledger.admit(12, START + 80_000)

    assert ledger.gaps == (
        between(6, 9, START, START + 60_000, GapCause.SILENT_STREAM),
        between(10, 11, START + 54_000, START + 80_000, GapCause.SKIPPED),
    )


def test_an_attempt_is_noted_with_the_gap_that_it_concerned() -> None:
    ledger = with_gaps(
        [Gap(5, 6, START, START, GapCause.SKIPPED), Gap(9, 9, START, START, GapCause.SKIPPED)]
    )

    ledger.record_attempt(9, "no answer")
    ledger.record_attempt(9, None)
    ledger.record_attempt(7, "for a gap that filled meanwhile")

    assert [(gap.attempts, gap.last_error) for gap in ledger.gaps] == [(0, None), (2, None)]


@given(ids)
def test_what_is_missing_is_the_same_object_until_it_changes(sequence: list[int]) -> None:
    ledger = Ledger()
    for trade_id in sequence:
        before = ledger.gaps
        ledger.admit(trade_id, START + trade_id)
        assert (ledger.gaps is before) == (ledger.gaps == before)


@given(ids, st.integers(-1, 31), st.integers(-1, 31))
def test_ids_that_the_exchange_does_not_have_are_taken_out_of_every_gap(
    sequence: list[int], first_id: int, last_id: int
) -> None:
    ledger, _ = fed(sequence)
    missing = missing_ids(ledger)

    ledger.close_absent(first_id, last_id, START)

    assert missing_ids(ledger) == [each for each in missing if not first_id <= each <= last_id]


def with_excluded(*ranges: tuple[int, int]) -> Ledger:
    """Return a ledger of which past trades go around *ranges*, of trades as new as their ids."""
    gaps = [between(first, last, START + first, START + last) for first, last in ranges]
    ledger = with_gaps(gaps)
    ledger.last_time = START + ranges[-1][1] + 1
    for first_id, last_id in ranges:
        assert ledger.close_excluded(first_id, last_id) == [(first_id, last_id)]
    return ledger


def test_ids_that_are_no_fills_are_missing_again_once_a_fill_of_theirs_has_come() -> None:
    ledger = with_excluded((5, 9), (20, 22))

    assert ledger.reopen_excluded(7, START + 10_000) is None, "too new to be one of them"
    assert ledger.reopen_excluded(10, START + 7) is None
    reopened = ledger.reopen_excluded(7, START + 7)

    assert reopened is not None
    assert (reopened.first_id, reopened.last_id) == (5, 9)
    assert ledger.gaps == (reopened,)
    assert ledger.reopen_excluded(8, START + 7) is None, "they are missing already"


def test_only_ids_that_were_excluded_of_late_can_be_of_fills() -> None:
    old, young = START + 1, START + 400_000

    ledger = with_excluded((old - START, 2), (young - START, young - START + 1))

    assert ledger.reopen_excluded(1, old) is None
    assert ledger.reopen_excluded(young - START, young) is not None


def test_of_very_many_excluded_ids_the_newest_can_be_of_fills() -> None:
    ids = range(10, 10 + 2 * MOST_EXCLUDED + 2, 2)
    ledger = with_excluded(*((each, each) for each in ids))

    assert ledger.reopen_excluded(ids[0], START) is None
    assert ledger.reopen_excluded(ids[1], START) is not None
    assert ledger.reopen_excluded(ids[-1], START) is not None


def test_excluded_ids_that_are_lost_with_their_bars_come_as_any_that_are_missing() -> None:
    ledger = with_excluded((5, 9))
    ledger.lose([between(7, 8, START, START + 9)])

    assert ledger.admit(7, START + 7)
    assert not ledger.admit(7, START + 7)
    assert ledger.reopen_excluded(7, START + 7) is None
    assert ledger.reopen_excluded(5, START + 5) is not None


def with_absent(first_id: int, last_id: int) -> Ledger:
    """Return a ledger of which the exchange has said that it has no such ids."""
    ledger = with_gaps([between(first_id, last_id, START, START + 100)])
    ledger.close_absent(first_id, last_id, START + 900_000)
    return Ledger(ledger.state)


def test_ids_that_the_exchange_does_not_have_are_kept_in_mind_over_a_restart() -> None:
    ledger = with_absent(5, 9)

    assert ledger.gaps == ()
    (absent,) = ledger.absent
    assert (absent.first_id, absent.last_id, absent.absent_at) == (5, 9, START + 900_000)


@pytest.mark.parametrize("is_repaired", [False, True])
def test_a_trade_of_an_absent_id_is_welcome_once_and_the_others_are_missing_again(
    is_repaired: bool,
) -> None:
    ledger = with_absent(5, 9)

    answers = [
        ledger.admit_range(7, 7, START + 50) if is_repaired else ledger.admit(7, START + 50)
        for _ in range(2)
    ]

    assert answers == [True, False]
    assert [(gap.first_id, gap.last_id, gap.is_absent) for gap in ledger.gaps] == [
        (5, 6, False),
        (8, 9, False),
    ]
    assert ledger.absent == ()
    assert [(gap.first_id, gap.last_id) for gap in ledger.reopened] == [(5, 9)]


def test_an_aggregate_that_covers_absent_ids_makes_them_missing_again() -> None:
    ledger = with_absent(5, 9)

    assert not ledger.admit_range(9, 12, START + 50), "of 10 to 12 the trades are known"
    assert ids_in(ledger.gaps) == {5, 6, 7, 8, 9}


@given(gap_lists(), spans, spans)
def test_every_id_is_missing_or_absent_or_known_whatever_is_said_of_it(
    gaps: list[Gap], absent: tuple[int, int], run: tuple[int, int]
) -> None:
    ledger = with_gaps(gaps)
    ledger.close_absent(*absent, START)

    ids = set(range(run[0], run[1] + 1))
    missing = ids_in(gaps)
    is_counted = ledger.admit_range(*run, START + 50)

    assert ids_in(ledger.gaps) | ids_in(ledger.absent) == (missing - ids if is_counted else missing)
    assert not ids_in(ledger.gaps) & ids_in(ledger.absent)
    assert list(ledger.gaps) == sorted(ledger.gaps, key=lambda gap: gap.first_id)
    assert not is_counted or ids <= missing


def test_what_is_confirmed_again_later_is_counted() -> None:
    ledger = with_absent(5, 9)

    ledger.record_attempt(5, None)
    ledger.close_absent(5, 9, START + 4_500_000)

    (absent,) = ledger.absent
    assert (absent.looks, absent.attempts, absent.absent_at) == (1, 1, START + 900_000)


def test_of_very_many_absent_ranges_the_ones_that_were_believed_first_are_forgotten() -> None:
    count = MOST_ABSENT + 5
    ledger = with_gaps([between(2 * i, 2 * i, START, START) for i in range(count)])

    for i in reversed(range(count)):
        ledger.close_absent(2 * i, 2 * i, START + count - i)

    assert [gap.first_id for gap in ledger.absent] == [2 * i for i in range(MOST_ABSENT)]
    assert not ledger.admit_range(2 * count - 2, 2 * count - 2, START)


def test_absent_ids_are_forgotten_where_ids_restart() -> None:
    assert Ledger.renumbered(with_absent(5, 9), START + 10_000, START).absent == ()


def test_what_a_file_lost_of_ids_that_restarted_since_is_on_record_without_ids() -> None:
    before = Ledger()
    before.admit(900, START)
    ledger = Ledger.renumbered(before, START + 10_000, START + 11_000)
    for trade_id in range(4):
        assert ledger.admit(trade_id, START + 11_000 + trade_id)

    ledger.lose([Gap(0, 899, START - 60_000, START, GapCause.LOST)])

    assert not any(ledger.admit(trade_id, START + 11_000 + trade_id) for trade_id in range(4))
    lost = ledger.gaps[0]
    assert (lost.since_ms, lost.until_ms, lost.cause) == (
        START - 60_000,
        START,
        GapCause.RENUMBERED,
    )
    assert not lost.has_ids
    assert lost.is_abandoned


LOST_WITHOUT_IDS = (
    Gap.unnumbered(START - 60_000, START, GapCause.LOST, ordinal=2),
    Gap.unnumbered(START - 90_000, START, GapCause.RENUMBERED),
)


@given(gap_lists(), st.lists(st.tuples(st.integers(0, 6), spans), max_size=8))
def test_what_was_lost_without_ids_stays_as_it_is_whatever_is_done_to_ids(
    gaps: list[Gap], steps: list[tuple[int, tuple[int, int]]]
) -> None:
    ledger = with_gaps([*LOST_WITHOUT_IDS, *gaps])
    other = with_gaps(gaps)
    for step, (first_id, last_id) in steps:
        for each in (ledger, other):
            match step:
                case 0:
                    each.admit(first_id, START + 50)
                case 1:
                    each.admit_range(first_id, last_id, START + 50)
                case 2:
                    each.close_absent(first_id, last_id, START)
                case 3:
                    each.abandon(last_id, START + 50)
                case 4:
                    each.reconsider()
                case 5:
                    each.forget_below(first_id)
                case 6:
                    each.record_attempt(first_id, "no answer")

        assert ledger.gaps == (*LOST_WITHOUT_IDS, *other.gaps)
        assert ledger.absent == other.absent
        assert ledger.gaps is ledger.gaps


def test_what_is_lost_without_ids_gets_an_ordinal_of_its_own_and_is_on_record_once() -> None:
    ledger = with_gaps([*LOST_WITHOUT_IDS, Gap(3, 5, START, START + 5, GapCause.SKIPPED)])
    lost = Gap.unnumbered(START, START + 9, GapCause.LOST, last_error="damaged")

    ledger.lose([lost, replace(LOST_WITHOUT_IDS[0], first_id=-1, last_id=-1)])

    assert [gap.ordinal for gap in ledger.gaps if not gap.has_ids] == [3, 2, 1]
    assert ledger.gaps[0] == lost.with_ordinal(3)
    assert Ledger(ledger.state).state == ledger.state


def test_what_a_file_lost_is_missing_again_though_trades_came_since() -> None:
    ledger = Ledger()
    for trade_id in range(1, 10):
        ledger.admit(trade_id, START + trade_id)
    gap = Gap(3, 5, START + 3, START + 5, GapCause.LOST)

    ledger.lose([gap])

    assert ledger.gaps == (gap,)
    assert [ledger.admit(trade_id, START + trade_id) for trade_id in (3, 4, 5, 6)] == [
        *(True, True, True),
        False,
    ]
