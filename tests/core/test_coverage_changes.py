"""What is told of coverage is enough to know all of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bintrades.core.coverage_changes import changed_from
from bintrades.core.spans import Span, union

times = st.integers(0, 50)
span_lists = st.lists(st.tuples(times, times), max_size=6).map(union)


@given(span_lists, span_lists)
def test_whoever_replaces_from_the_first_told_span_on_knows_all(
    before: list[Span], after: list[Span]
) -> None:
    told = changed_from(before, after)

    assert bool(told) == (before != after)
    if told:
        since = told[0][0]
        kept = [span for span in before if span[0] < since]
        assert all(until <= since for _, until in kept), "nothing has to be cut off"
        assert [*kept, *(span for span in told if span[0] < span[1])] == after


def test_of_a_span_that_grows_no_other_is_told() -> None:
    before = [(0, 10), (20, 30)]

    assert changed_from(before, [(0, 10), (20, 40)]) == [(20, 40)]
