"""When trades are missing: whether a gap touches a bar, without a look at all gaps. Pure.

Where nothing can be repaired a symbol has thousands of gaps, and each bar asks.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING

from bintrades.core.gap_changes import changed_part

if TYPE_CHECKING:
    from bintrades.model import Gap

_NEVER = -(2**63)
_REBUILD_ABOVE = 100  # changes at once, beyond which sorting again is quicker than inserting


class GapTimes:
    """The spans of one symbol's gaps, by when they begin, each with the latest end so far."""

    __slots__ = ("_ends", "_gaps", "_spans")

    def __init__(self, gaps: tuple[Gap, ...] = ()) -> None:
        self._gaps: tuple[Gap, ...] = ()
        self._spans: list[tuple[int, int, int]] = []
        self._ends: list[int] = []  # latest end of a span up to here
        self.update(gaps)

    def update(self, gaps: tuple[Gap, ...]) -> None:
        """Take over what is missing now; costs in proportion to what has changed."""
        if gaps is self._gaps:
            return
        before, after = changed_part(self._gaps, gaps)
        self._gaps = gaps
        if len(before) + len(after) > _REBUILD_ABOVE:
            self._spans = sorted(map(_span, gaps))
            self._ends = [_NEVER] * len(gaps)
            self._recompute(0, len(gaps))
            return
        for gap in before:
            index = bisect_left(self._spans, _span(gap))
            del self._spans[index], self._ends[index]
            self._recompute(index, index)
        for gap in after:
            index = bisect_left(self._spans, _span(gap))
            insort(self._spans, _span(gap))
            self._ends.insert(index, _NEVER)
            self._recompute(index, index + 1)

    def touch(self, open_time_ms: int, interval_ms: int) -> bool:
        """Whether a trade that is missing may belong to the interval that opens then."""
        begun = bisect_left(self._spans, (open_time_ms + interval_ms,))
        return begun > 0 and self._ends[begun - 1] >= open_time_ms

    def _recompute(self, start: int, certain: int) -> None:
        """Set the latest ends from *start* on, at least up to *certain*, until they are right."""
        end = self._ends[start - 1] if start else _NEVER
        for index in range(start, len(self._spans)):
            end = max(end, self._spans[index][1])
            if index >= certain and self._ends[index] == end:
                return
            self._ends[index] = end


def _span(gap: Gap) -> tuple[int, int, int]:
    return gap.since_ms, gap.until_ms, gap.first_id
