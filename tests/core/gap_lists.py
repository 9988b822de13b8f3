"""Gaps as a ledger has them, and the ids in them, for the tests of the core."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st
from msgspec.structs import replace

from bintrades.model import Gap, GapCause
from tests.strategies import START

if TYPE_CHECKING:
    from collections.abc import Iterable


def ids_in(gaps: Iterable[Gap]) -> set[int]:
    return {trade_id for gap in gaps for trade_id in range(gap.first_id, gap.last_id + 1)}


spans = st.tuples(st.integers(0, 30), st.integers(0, 8)).map(lambda pair: (pair[0], sum(pair)))
"""First and last id of a range."""


@st.composite
def gap_lists(draw: st.DrawFn) -> list[Gap]:
    """Draw gaps as a ledger has them: in order, not overlapping, perhaps adjacent."""
    missing = draw(st.sets(st.integers(0, 30)))
    ends = draw(st.sets(st.integers(0, 30)))
    gaps: list[Gap] = []
    for trade_id in sorted(missing):
        if gaps and gaps[-1].last_id == trade_id - 1 and trade_id not in ends:
            gaps[-1] = replace(gaps[-1], last_id=trade_id)
        else:
            gaps.append(Gap(trade_id, trade_id, START, START + 100, GapCause.SKIPPED))
    return gaps
