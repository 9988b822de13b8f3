"""Whether a missing trade may belong to a bar, asked of thousands of gaps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bintrades.core.gap_changes import changed_part
from bintrades.core.gap_times import GapTimes
from bintrades.model import Gap, GapCause

INTERVAL = 10


def gap_at(first_id: int, since: int, length: int, *, is_abandoned: bool = False) -> Gap:
    return Gap(
        first_id, first_id, since, since + length, GapCause.SKIPPED, is_abandoned=is_abandoned
    )


gap_sets = st.lists(
    st.builds(
        gap_at,
        st.integers(0, 200),
        st.integers(0, 200),
        st.integers(0, 60),
        is_abandoned=st.booleans(),
    ),
    max_size=12,
    unique_by=lambda gap: gap.first_id,
).map(lambda gaps: tuple(sorted(gaps, key=lambda gap: gap.first_id)))


@given(st.lists(gap_sets, min_size=1, max_size=5))
def test_a_bar_is_touched_exactly_when_one_of_the_gaps_touches_it(
    steps: list[tuple[Gap, ...]],
) -> None:
    times = GapTimes()
    known: dict[int, Gap] = {}
    for step in steps:
        # What stays the same is the same object, as in a ledger.
        gaps = tuple(known[gap.first_id] if known.get(gap.first_id) == gap else gap for gap in step)
        known = {gap.first_id: gap for gap in gaps}
        times.update(gaps)
        for open_time in range(0, 280, 7):
            expected = any(gap.touches(open_time, INTERVAL) for gap in gaps)
            assert times.touch(open_time, INTERVAL) == expected


def test_thousands_of_gaps_that_come_and_go_at_once_are_known_as_well() -> None:
    gaps = tuple(gap_at(2 * n, 20 * n, 5) for n in range(3_000))
    times = GapTimes(gaps)

    assert times.touch(20 * 1_234, INTERVAL)
    times.update(gaps[:1_234] + gaps[2_000:])

    assert not times.touch(20 * 1_500, INTERVAL)
    assert times.touch(20 * 1_000, INTERVAL)
    assert times.touch(20 * 2_500, INTERVAL)


@given(gap_sets, st.lists(st.tuples(st.integers(0, 11), st.sampled_from("-+!")), max_size=4))
def test_what_has_changed_of_many_gaps_is_all_that_has_and_little_else(
    before: tuple[Gap, ...], edits: list[tuple[int, str]]
) -> None:
    many = tuple(gap_at(1_000 + n, n, 0) for n in range(600))
    gaps = [*before, *many]
    for index, edit in edits:
        if edit == "+":
            gaps.append(gap_at(10_000 + index + len(gaps), 1, 1))
        elif gaps[index : index + 1]:
            gaps[index : index + 1] = (
                [] if edit == "-" else [replace(gaps[index], attempts=gaps[index].attempts + 1)]
            )

    gone, new = changed_part((*before, *many), tuple(gaps))

    assert {gap for gap in (*before, *many) if gap not in gaps} == set(gone)
    assert {gap for gap in gaps if gap not in (*before, *many)} == set(new)
    assert gone == sorted(gone, key=lambda gap: gap.first_id)
    assert changed_part(many, many) == ([], [])
