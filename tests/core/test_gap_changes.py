"""What differs between the gaps of before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bintrades.core.gap_changes import changed_spans, no_longer_missing
from bintrades.core.ledger import Ledger
from tests.core.gap_lists import gap_lists, ids_in
from tests.strategies import START

if TYPE_CHECKING:
    from bintrades.model import Gap

ids = st.lists(st.integers(0, 30), max_size=60)


@given(gap_lists(), gap_lists())
def test_what_is_no_longer_missing_is_exactly_the_ids_of_before_that_are_in_no_gap_after(
    before: list[Gap], after: list[Gap]
) -> None:
    parts = list(no_longer_missing(before, after))

    assert ids_in(parts) == ids_in(before) - ids_in(after)
    assert sum(part.size for part in parts) == len(ids_in(parts)), "each id once"
    for part in parts:
        assert part.size > 0
        assert any(ids_in([part]) <= ids_in([gap]) for gap in before), "of one gap each"


@given(ids, ids, st.lists(st.integers(0, 40), max_size=6))
def test_bars_outside_of_the_changed_spans_are_touched_as_before(
    before: list[int], after: list[int], shifts: list[int]
) -> None:
    def gaps(missing: list[int]) -> list[Gap]:
        ledger = Ledger()
        for trade_id in (0, *(i for i in range(1, 60) if i not in missing), 61):
            ledger.admit(trade_id, START + trade_id)
        return [
            replace(gap, since_ms=gap.since_ms + shift, until_ms=gap.until_ms + 2 * shift)
            for gap, shift in zip(ledger.gaps, [*shifts, *[0] * len(ledger.gaps)], strict=False)
        ]

    old, new = gaps(before), gaps(after)
    spans = list(changed_spans(old, new))

    for open_time in range(START - 20, START + 200, 7):
        was = any(gap.touches(open_time, 7) for gap in old)
        if was != any(gap.touches(open_time, 7) for gap in new):
            assert any(since < open_time + 7 and until >= open_time for since, until in spans)
