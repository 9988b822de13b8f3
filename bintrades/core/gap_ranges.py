"""Ranges of missing ids in order: find one, take ids out, put a range in. Pure.

Each range is a gap, so it also has the span of time in which its trades happened. Gaps whose ids
are unknown have no place here.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bintrades.model import GapCause

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bintrades.model import Gap, TradeRange

DISORDER_MS = 999
"""How much older a trade may be than one with a lower id, at most.

In recorded sessions `T` never falls back; after a correction of the exchange's clocks it may, a
little. Every span of a gap allows for it, so a lost trade never lies outside of its gap.
"""


def first_id_of(ids: Gap | TradeRange) -> int:
    """Return the first id, by which gaps and trades are in order."""
    return ids.first_id


def span_between(one: int, other: int) -> tuple[int, int]:
    """Return since when and until when trades happened that lie between two, by their `T`."""
    return min(one, other) - DISORDER_MS, max(one, other) + DISORDER_MS


class GapRanges:
    """Gaps with ids, lowest first, of which no two have an id in common."""

    __slots__ = ("_as_tuple", "_gaps")

    def __init__(self, gaps: Iterable[Gap] = ()) -> None:
        self._as_tuple: tuple[Gap, ...] | None = tuple(gaps)  # None: they have changed since
        self._gaps = list(self._as_tuple)

    def __len__(self) -> int:
        return len(self._gaps)

    def __iter__(self) -> Iterator[Gap]:
        return iter(self._gaps)

    def __getitem__(self, index: int) -> Gap:
        return self._gaps[index]

    @property
    def as_tuple(self) -> tuple[Gap, ...]:
        """All of them: the same object for as long as nothing changes."""
        if self._as_tuple is None:
            self._as_tuple = tuple(self._gaps)
        return self._as_tuple

    def find(self, trade_id: int) -> int | None:
        """Return the index of the gap with this id, if there is one."""
        index = bisect_right(self._gaps, trade_id, key=first_id_of) - 1
        return index if index >= 0 and trade_id <= self._gaps[index].last_id else None

    def within(self, first_id: int, last_id: int) -> Iterator[Gap]:
        """Yield what of the gaps lies within these ids, ends included, lowest first."""
        index = bisect_right(self._gaps, first_id, key=first_id_of)
        if index and first_id <= self._gaps[index - 1].last_id:
            index -= 1
        while index < len(self._gaps) and (gap := self._gaps[index]).first_id <= last_id:
            yield gap.part(max(first_id, gap.first_id), min(last_id, gap.last_id))
            index += 1

    def append(self, gap: Gap) -> None:
        """Add a gap above all others."""
        self._gaps.append(gap)
        self._as_tuple = None

    def insert(self, gap: Gap) -> None:
        """Add a gap wherever its ids belong."""
        insort(self._gaps, gap, key=first_id_of)
        self._as_tuple = None

    def insert_joined(self, gap: Gap) -> None:
        """Add a gap wherever its ids belong, as one with neighbours of the same kind and cause."""
        index = bisect_right(self._gaps, gap.first_id, key=first_id_of)
        start, stop = index, index
        if index and _are_joined(self._gaps[index - 1], gap):
            start -= 1
        if index < len(self._gaps) and _are_joined(gap, self._gaps[index]):
            stop += 1
        parts = [*self._gaps[start:index], gap, *self._gaps[index:stop]]
        whole = replace(
            gap,
            first_id=parts[0].first_id,
            last_id=parts[-1].last_id,
            since_ms=min(part.since_ms for part in parts),
            until_ms=max(part.until_ms for part in parts),
        )
        self._gaps[start:stop] = [whole]
        self._as_tuple = None

    def replace(self, index: int, *parts: Gap) -> None:
        """Put *parts*, lowest first, in the place of a gap; those without an id are left out."""
        self._gaps[index : index + 1] = [part for part in parts if part.size > 0]
        self._as_tuple = None

    def cut(self, index: int, first_id: int, last_id: int, time: int) -> None:
        """Take ids out of a gap: their trades happened at *time*.

        What is left on either side ends, or begins, about then; so does a gap right behind it.
        """
        gap = self._gaps[index]
        since, until = span_between(time, time)
        # What was lost before the first trade is wanted since the beginning, and no earlier.
        earliest = gap.since_ms if gap.cause == GapCause.START else since
        before = replace(
            gap.part(gap.first_id, first_id - 1),
            since_ms=min(gap.since_ms, max(since, earliest)),
            until_ms=max(gap.since_ms, until),
        )
        after = replace(
            gap.part(last_id + 1, gap.last_id),
            since_ms=min(gap.until_ms, max(since, earliest)),
            until_ms=max(gap.until_ms, until),
        )
        if last_id == gap.last_id:
            self.begin_no_earlier(last_id + 1, since)
        self.replace(index, before, after)

    def begin_no_earlier(self, first_id: int, since: int) -> None:
        """Have the trades of a gap with this first id, if there is one, not be from before then."""
        index = self.find(first_id)
        if index is not None and self._gaps[index].first_id == first_id:
            gap = self._gaps[index]
            since = max(gap.since_ms, min(since, gap.until_ms))
            self.replace(index, replace(gap, since_ms=since))

    def subtract(self, first_id: int, last_id: int) -> None:
        """Take ids out of all gaps that have any of them; the spans of what is left stay."""
        if first_id > last_id:
            return
        index = bisect_right(self._gaps, last_id, key=first_id_of) - 1
        while index >= 0 and (gap := self._gaps[index]).last_id >= first_id:
            before = gap.part(gap.first_id, first_id - 1)
            after = gap.part(last_id + 1, gap.last_id)
            self.replace(index, before, after)
            index -= 1


def _are_joined(one: Gap, other: Gap) -> bool:
    """Whether *other* goes on where *one* ends, and nothing else tells them apart."""
    return one.last_id + 1 == other.first_id and (
        (one.is_approximated, one.cause, one.kind)
        == (other.is_approximated, other.cause, other.kind)
    )
