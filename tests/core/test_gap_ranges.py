"""Ranges of missing ids, compared with the set of ids that they stand for."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bintrades.core.gap_ranges import DISORDER_MS, GapRanges
from bintrades.model import Gap, GapCause
from tests.core.gap_lists import gap_lists, ids_in, spans
from tests.strategies import START

edits = st.lists(st.tuples(st.sampled_from(["cut", "subtract", "insert", "append"]), spans))
"""What is done to ranges, and to which ids."""


def ids_of(span: tuple[int, int]) -> set[int]:
    return set(range(span[0], span[1] + 1))


def gap_of(first_id: int, last_id: int) -> Gap:
    return Gap(first_id, last_id, START, START + 100, GapCause.SKIPPED)


@given(gap_lists(), edits)
def test_ranges_have_the_ids_of_a_set_to_which_the_same_is_done(
    gaps: list[Gap], steps: list[tuple[str, tuple[int, int]]]
) -> None:
    ranges, missing = GapRanges(gaps), ids_in(gaps)
    for edit, span in steps:
        before = ranges.as_tuple
        match edit:
            case "cut" if (index := ranges.find(span[0])) is not None:
                last_id = min(span[1], ranges[index].last_id)
                ranges.cut(index, span[0], last_id, START + 50)
                missing -= ids_of((span[0], last_id))
            case "subtract":
                ranges.subtract(*span)
                missing -= ids_of(span)
            case "insert" if not missing & ids_of(span):
                ranges.insert(gap_of(*span))
                missing |= ids_of(span)
            case "append":
                first_id = max(missing, default=0) + 2
                ranges.append(gap_of(first_id, first_id + 1))
                missing |= {first_id, first_id + 1}

        assert ids_in(ranges) == missing
        assert sum(gap.size for gap in ranges) == len(missing), "each id once"
        assert all(one.last_id < other.first_id for one, other in pairwise(ranges)), "in order"
        assert ranges.as_tuple == tuple(ranges)
        assert (ranges.as_tuple is before) == (ranges.as_tuple == before)


@given(gap_lists(), st.integers(-1, 40))
def test_the_range_that_is_found_is_the_one_with_that_id(gaps: list[Gap], trade_id: int) -> None:
    ranges = GapRanges(gaps)

    index = ranges.find(trade_id)

    assert (index is None) == (trade_id not in ids_in(gaps))
    assert index is None or trade_id in ids_in([ranges[index]])


@given(gap_lists(), spans)
def test_what_lies_within_some_ids_are_the_parts_of_the_ranges_that_have_them(
    gaps: list[Gap], span: tuple[int, int]
) -> None:
    parts = list(GapRanges(gaps).within(*span))

    assert ids_in(parts) == ids_in(gaps) & ids_of(span)
    assert all(any(ids_in([part]) <= ids_in([gap]) for gap in gaps) for part in parts)
    assert parts == sorted(parts, key=lambda gap: gap.first_id)


@given(gap_lists(), spans)
def test_to_take_ids_out_without_their_trades_leaves_the_times_of_the_rest(
    gaps: list[Gap], span: tuple[int, int]
) -> None:
    ranges = GapRanges(gaps)

    ranges.subtract(*span)

    assert {(gap.since_ms, gap.until_ms) for gap in ranges} <= {(START, START + 100)}


def test_to_take_out_trades_of_a_moment_has_the_rest_end_and_begin_about_then() -> None:
    wide = replace(gap_of(5, 20), since_ms=START - 5_000, until_ms=START + 5_000)
    ranges = GapRanges([wide])

    ranges.cut(0, 8, 12, START)

    assert list(ranges) == [
        replace(wide, last_id=7, until_ms=START + DISORDER_MS),
        replace(wide, first_id=13, since_ms=START - DISORDER_MS),
    ]


def test_what_is_left_of_the_beginning_reaches_back_no_further_than_it_did() -> None:
    beginning = Gap.beginning(9, START, START + 100)
    ranges = GapRanges([beginning])

    ranges.cut(0, 3, 5, START + 40)

    left, right = ranges
    assert (left.is_start, left.since_ms, left.last_id) == (True, START, 2)
    assert (right.is_start, right.since_ms, right.first_id) == (False, START, 6)
