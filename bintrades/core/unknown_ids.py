"""Which ids of a symbol are not known to exist: those of its gaps, absent ones included. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from bintrades.core.gap_ranges import first_id_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bintrades.model import Gap, TradeRange


class UnknownIds:
    """The missing, abandoned and absent ids of one symbol; *gaps* has them, lowest first.

    Gaps without ids are not among those.
    """

    __slots__ = ("_gaps",)

    def __init__(self, gaps: Sequence[Gap] = ()) -> None:
        self._gaps = gaps

    def is_wanted(self, trade_id: int) -> bool:
        """Whether a trade is news, except for one from before the beginning of all."""
        index = bisect_right(self._gaps, trade_id, key=first_id_of) - 1
        return (
            index >= 0 and trade_id <= self._gaps[index].last_id and not self._gaps[index].is_start
        )

    def cover(self, first_id: int, last_id: int) -> bool:
        """Whether none of the ids from *first_id* to *last_id* is known to exist."""
        index = max(0, bisect_right(self._gaps, first_id, key=first_id_of) - 1)
        while first_id <= last_id and index < len(self._gaps):
            gap = self._gaps[index]
            if not gap.first_id <= first_id <= gap.last_id:
                break
            first_id = gap.last_id + 1
            index += 1
        return first_id > last_id

    def within(self, first_id: int, last_id: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges of ids from *first_id* to *last_id* that are not known to exist."""
        index = max(0, bisect_right(self._gaps, first_id, key=first_id_of) - 1)
        while index < len(self._gaps) and (gap := self._gaps[index]).first_id <= last_id:
            if first_id <= min(gap.last_id, last_id):
                yield max(first_id, gap.first_id), min(last_id, gap.last_id)
            index += 1

    def stretch_from(self, first_id: int) -> int:
        """Return the lowest id from which on none is known to exist, up to a gap's *first_id*."""
        index = bisect_left(self._gaps, first_id, key=first_id_of)
        while index and self._gaps[index - 1].last_id == first_id - 1:
            index -= 1
            first_id = self._gaps[index].first_id
        return first_id

    def is_enclosed(self, gap: Gap, rows: Sequence[TradeRange], *, is_from_zero: bool) -> bool:
        """Whether *rows* hold the trades right before and right after *gap*, and none in it.

        Between those and the gap there may be other ids that are not known to exist either. Before
        id 0 there is no trade.
        """
        index = bisect_right(rows, gap.last_id, key=first_id_of)
        if index == len(rows) or not (index or is_from_zero):
            return False
        first_id = rows[index - 1].last_id + 1 if index else 0
        return first_id <= gap.first_id and self.cover(first_id, rows[index].first_id - 1)
