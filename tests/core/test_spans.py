"""Spans of time, by what a set of milliseconds would say."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bintrades.core.spans import Span, clipped, has, minus, union, whole

lists = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=6)


def members(spans: list[Span]) -> set[int]:
    return {ms for since, until in spans for ms in range(since, until)}


def are_apart(spans: list[Span]) -> bool:
    return all(since < until for since, until in spans) and all(
        one[1] < other[0] for one, other in pairwise(spans)
    )


@given(lists)
def test_a_union_has_what_one_has_and_neighbours_are_one(spans: list[Span]) -> None:
    joined = union(spans)

    assert members(joined) == members(spans)
    assert are_apart(joined)


@given(lists, lists)
def test_a_remainder_has_what_none_of_the_others_has(spans: list[Span], others: list[Span]) -> None:
    left = minus(spans, others)

    assert members(left) == members(spans) - members(others)
    assert are_apart(left)


@given(lists, st.integers(1, 7))
def test_whole_units_are_those_of_which_a_span_has_all(spans: list[Span], unit: int) -> None:
    apart = union(spans)

    units = {ms // unit for ms in members(apart)}
    inside = {n for n in units if set(range(n * unit, (n + 1) * unit)) <= members(apart)}
    assert members(whole(apart, unit)) == {
        ms for n in inside for ms in range(n * unit, (n + 1) * unit)
    }


@given(lists, st.integers(0, 30), st.integers(0, 30))
def test_clipped_spans_lie_between_two_times(spans: list[Span], since: int, until: int) -> None:
    assert members(clipped(spans, since, until)) == {
        ms for ms in members(spans) if since <= ms < until
    }


@given(lists, st.tuples(st.integers(0, 30), st.integers(0, 30)).filter(lambda s: s[0] < s[1]))
def test_spans_have_a_part_where_one_of_them_has_all_of_it(spans: list[Span], part: Span) -> None:
    assert has(union(spans), part) == (set(range(*part)) <= members(spans))
