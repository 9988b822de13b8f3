"""What is covered, by what a set of intervals would say."""

from __future__ import annotations

import time
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bintrades.core.coverage import NOT_CLOSED, Collected, HoleCause, Missing, coverage_of
from bintrades.model import Gap, GapCause, GapState

INTERVAL = 10
RECONNECT = HoleCause(GapState.OPEN, GapCause.RECONNECT)
RESTART = HoleCause(GapState.ABANDONED, GapCause.RESTART)

times = st.integers(0, 120)
missing = st.builds(Missing, times, times, st.sampled_from([RECONNECT, RESTART]))
collected = st.builds(
    Collected,
    times,
    times,
    st.lists(times.map(lambda time: time - time % INTERVAL), max_size=3),
    st.lists(missing, max_size=8),
)


def covered_intervals(each: Collected) -> set[int]:
    """Return the open times of all intervals that are proven, closed, and touched by no gap."""
    return {
        open_time
        for open_time in range(0, 200, INTERVAL)
        if each.since_ms <= open_time
        and open_time + INTERVAL <= each.proven_ms
        and open_time not in each.open_times
        and not any(
            Gap(1, 1, lack.since_ms, lack.until_ms, GapCause.SKIPPED).touches(open_time, INTERVAL)
            for lack in each.missing
        )
    }


def open_times(spans: list[tuple[int, int]]) -> set[int]:
    assert all(
        since % INTERVAL == until % INTERVAL == 0 and since < until for since, until in spans
    )
    return {time for since, until in spans for time in range(since, until, INTERVAL)}


@given(collected)
def test_a_span_has_exactly_the_intervals_that_are_proven_and_lack_nothing(each: Collected) -> None:
    found = coverage_of(each, INTERVAL)

    assert open_times(found.spans) == covered_intervals(each)
    assert found.covered_ms == INTERVAL * len(covered_intervals(each))


@given(collected)
def test_spans_and_holes_take_turns_without_anything_between(each: Collected) -> None:
    found = coverage_of(each, INTERVAL)

    parts = sorted([*found.spans, *((hole.since_ms, hole.until_ms) for hole in found.holes)])
    edges = [edge for part in parts for edge in part]
    assert edges[::2] == [found.since_ms, *edges[1:-1:2]][: len(parts)]
    assert not edges or edges[-1] == found.until_ms
    kinds = [part in found.spans for part in parts]
    assert all(one != other for one, other in pairwise(kinds))


@given(collected)
def test_a_hole_names_each_cause_that_touches_it_once(each: Collected) -> None:
    found = coverage_of(each, INTERVAL)

    for hole in found.holes:
        open_bars = [Missing(time, time, NOT_CLOSED) for time in each.open_times]
        touching = {
            lack.why
            for lack in [*each.missing, *open_bars]
            for time in range(hole.since_ms, hole.until_ms, INTERVAL)
            if Gap(1, 1, lack.since_ms, lack.until_ms, GapCause.SKIPPED).touches(time, INTERVAL)
        }
        assert set(hole.causes) == touching
        assert len(hole.causes) == len(touching)


@given(collected, times, times)
def test_a_part_of_it_has_what_lies_between_two_times(
    each: Collected, since: int, until: int
) -> None:
    whole = coverage_of(each, 1)
    part = whole.within(since, until)

    def moments(spans: list[tuple[int, int]]) -> set[int]:
        return {ms for first, last in spans for ms in range(first, last)}

    asked = set(range(since, until))
    assert moments(part.spans) == moments(whole.spans) & asked
    assert (
        moments([hole[:2] for hole in part.holes])
        == moments([hole[:2] for hole in whole.holes]) & asked
    )


def test_a_hundred_thousand_gaps_take_no_more_than_sorting_them() -> None:
    lacks = tuple(Missing(at * 100, at * 100, RECONNECT) for at in reversed(range(100_000)))
    started = time.process_time()

    found = coverage_of(Collected(0, 10_000_000, (), lacks), INTERVAL)

    assert len(found.holes) == len(found.spans) == 100_000
    assert time.process_time() - started < 5
