"""Which trade ids of a symbol were seen and which are missing.

Where each trade has the id of the one before plus one (IdLaw.DENSE), one number and the list of
gaps below it say everything: whether a trade is new, whether it was counted before, what was lost.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from bintrades.model import Gap, GapCause, IdLaw

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DISORDER_MS = 999
"""How much older a trade may be than one with a lower id, at most.

In recorded sessions `T` never falls back; after a correction of the exchange's clocks it may, a
little. Every span of a gap allows for it, so a lost trade never lies outside of its gap.
"""

_RENUMBERED_AFTER_MS = 4_000  # beyond the end of the beginning's span: no trade of before it
_GROWS_FOR_MS = 10_000  # then a gap is left to be repaired, and what is missing next is another
MOST_ABSENT = 200
"""Ranges of ids that do not exist, of one symbol, of which trades are still welcome."""

_STEP = 256  # gaps compared at once


def changed_part(before: tuple[Gap, ...], after: tuple[Gap, ...]) -> tuple[list[Gap], list[Gap]]:
    """Return the gaps of each of the two that are not gaps of the other; both sorted.

    Of thousands of gaps a few change at a time. Those are the same objects, so they are told apart
    at the price of copying the list.
    """
    if before is after:
        return [], []
    start = _common_beginning(before, after)
    end = _common_end(before, after, start)
    before, after = before[start : len(before) - end], after[start : len(after) - end]
    known, kept = set(map(id, before)), set(map(id, after))
    return (
        [gap for gap in before if id(gap) not in kept],
        [gap for gap in after if id(gap) not in known],
    )


def _common_beginning(one: tuple[Gap, ...], other: tuple[Gap, ...]) -> int:
    """Return with how many equal gaps both begin, many of them compared at once."""
    length = min(len(one), len(other))
    count = 0
    while count < length and one[count : count + _STEP] == other[count : count + _STEP]:
        count += _STEP
    while count < length and one[count] == other[count]:
        count += 1
    return min(count, length)


def _common_end(one: tuple[Gap, ...], other: tuple[Gap, ...], start: int) -> int:
    """Return with how many equal gaps what comes after *start* ends in both."""
    length = min(len(one), len(other)) - start
    low, high = len(one), len(other)
    count = 0
    while count + _STEP <= length and (
        one[low - count - _STEP : low - count] == other[high - count - _STEP : high - count]
    ):
        count += _STEP
    while count < length and one[low - count - 1] == other[high - count - 1]:
        count += 1
    return count


def _first_id(gap: Gap) -> int:
    return gap.first_id


def _absent_at(gap: Gap) -> int:
    return gap.absent_at


def span_between(one: int, other: int) -> tuple[int, int]:
    """Return since when and until when trades happened that lie between two, by their `T`."""
    return min(one, other) - DISORDER_MS, max(one, other) + DISORDER_MS


def no_longer_missing(before: Iterable[Gap], after: Iterable[Gap]) -> Iterator[Gap]:
    """Yield the parts of the gaps in *before* whose ids are in no gap of *after*; both sorted."""
    remaining = deque(after)
    for gap in before:
        start = gap.first_id
        while remaining and remaining[0].first_id <= gap.last_id:
            other = remaining[0]
            if other.first_id > start:
                yield gap.part(start, other.first_id - 1)
            start = max(start, other.last_id + 1)
            if other.last_id > gap.last_id:
                break  # it may reach into the next one as well
            remaining.popleft()
        if start <= gap.last_id:
            yield gap.part(start, gap.last_id)


def changed_spans(before: Iterable[Gap], after: Iterable[Gap]) -> Iterator[tuple[int, int]]:
    """Yield the spans of time, ends included, that gaps touch in one of the two but not in both.

    A gap of hours that is filled from its front, page by page, is not looked at whole each time.
    """
    old = {gap.last_id: gap for gap in before}
    new = {gap.last_id: gap for gap in after}
    for last_id in old.keys() ^ new.keys():
        gap = old.get(last_id) or new[last_id]
        yield gap.since_ms, gap.until_ms
    for last_id in old.keys() & new.keys():
        one, other = old[last_id], new[last_id]
        if one.since_ms != other.since_ms:
            yield min(one.since_ms, other.since_ms), max(one.since_ms, other.since_ms)
        if one.until_ms != other.until_ms:
            yield min(one.until_ms, other.until_ms), max(one.until_ms, other.until_ms)


def with_lost(state: LedgerState, lost: Iterable[Gap]) -> LedgerState:
    """Return *state* with the gaps in *lost* as well, but for ids that are missing already.

    One without ids gets a number that no other gap has.
    """
    gaps = list(state.gaps)
    known_ids = sorted((*state.gaps, *state.absent), key=_first_id)
    unnumbered = [gap for gap in gaps if not gap.has_ids]
    spans = {(gap.since_ms, gap.until_ms, gap.cause) for gap in unnumbered}
    lowest = min((gap.first_id for gap in unnumbered), default=0)
    for gap in lost:
        if gap.has_ids:
            known = replace(gap, last_id=min(gap.last_id, (state.next_id or 0) - 1))
            gaps += no_longer_missing([known], known_ids)
        elif (gap.since_ms, gap.until_ms, gap.cause) not in spans:
            lowest -= 1
            gaps.append(replace(gap, first_id=lowest, last_id=lowest))
    gaps.sort(key=_first_id)
    return replace(state, gaps=tuple(gaps))


def in_numbering(next_id: int | None, lost: Iterable[Gap]) -> Iterator[Gap]:
    """Yield *lost*, found where fewer trades were known, as a ledger at *next_id* can have it.

    Ids beyond those that it has seen are of before ids restarted: nobody can be asked for them any
    more. That they are lost stays on record without ids.
    """
    for gap in lost:
        if gap.last_id < (next_id or 0):
            yield gap
        else:
            yield Gap.unnumbered(
                gap.since_ms, gap.until_ms, GapCause.RENUMBERED, last_error=gap.last_error
            )


class LedgerState(msgspec.Struct, frozen=True):
    """A ledger as it is written down."""

    next_id: int | None  # None: no trade was ever seen
    last_time: int
    gaps: tuple[Gap, ...]
    absent: tuple[Gap, ...] = ()  # ids that do not exist, as far as the exchange knows


class Ledger:
    """The ids of one symbol. Pure: time comes in with the trades.

    Ids that the exchange does not have are missing no longer, but kept in mind: if a trade of
    theirs comes after all, the exchange was wrong about them, and they are missing again.
    """

    LAW = IdLaw.DENSE
    """The law of ids that it counts by."""

    __slots__ = (
        "_absent",
        "_gaps",
        "_published",
        "last_time",
        "next_id",
        "reopened",
    )

    def __init__(self, state: LedgerState | None = None) -> None:
        self.next_id = state.next_id if state else None  # None: no trade was ever seen
        # `T` of the highest id; before the first, since when trades are wanted (0: not known yet).
        self.last_time = state.last_time if state else 0
        self._gaps = list(state.gaps) if state else []  # lowest first, never adjacent by accident
        self._published = state.gaps if state else None  # the same; None: they have changed since
        self._absent = state.absent if state else ()
        self.reopened: list[Gap] = []  # absent ids that are missing again, for whoever reports it

    @classmethod
    def renumbered(cls, before: Ledger, since: int, seen_at: int) -> Ledger:
        """Return what follows *before* where ids restart, and trades are wanted since *since*.

        The first new id is of a trade at *seen_at*: up to then trades of before may have been
        lost. Those, and what was missing, cannot be asked for any more. That they are lost stays on
        record without ids.
        """
        spans = [(gap.since_ms, gap.until_ms) for gap in before.gaps]
        spans.append((before.last_time - DISORDER_MS, max(since - 1, seen_at)))
        lost = [
            Gap.unnumbered(*span, GapCause.RENUMBERED, number=number)
            for number, span in enumerate(spans, 1)
        ]
        return cls(LedgerState(None, since, tuple(reversed(lost))))

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """The missing id ranges, lowest first: the same object for as long as they are the same."""
        if self._published is None:
            self._published = tuple(self._gaps)
        return self._published

    @property
    def absent(self) -> tuple[Gap, ...]:
        """The id ranges that the exchange does not have, lowest first."""
        return self._absent

    @property
    def beginning(self) -> int:
        """Since when trades are wanted, as long as the first of them is not known; otherwise 0."""
        index = self._gap_with(0)
        return 0 if index is None or not self._gaps[index].is_start else self._gaps[index].since_ms

    @property
    def state(self) -> LedgerState | None:
        """What to write down; None while nothing is known."""
        if not self.last_time:
            return None
        return LedgerState(self.next_id, self.last_time, self.gaps, self._absent)

    def admit(self, trade_id: int, time: int, cause: GapCause = GapCause.SKIPPED) -> bool:
        """Note a trade; return whether it is to be counted, which is true once per id.

        An id beyond the next opens a gap, named after *cause*; an id inside a gap is welcome
        however late it comes. Before the first there is a gap as well, if trades are wanted since
        some time: how many there are is unknown, every lower id may be one of them.
        """
        next_id = self.next_id
        if next_id is None:
            if self.last_time and trade_id > 0:
                self._append_start(trade_id - 1, time)
        elif trade_id != next_id:
            if trade_id < next_id:
                return self._fill(trade_id, time)
            span = span_between(self.last_time, time)
            self._append(Gap(next_id, trade_id - 1, *span, cause))
        self.next_id = trade_id + 1
        self.last_time = time
        return True

    def want_since(self, since: int) -> None:
        """Note that the first trade is wanted, and all that follow, of those since *since*.

        Of no effect once a trade has come.
        """
        if self.next_id is None:
            self.last_time = since

    def want_no_later(self, since: int) -> None:
        """Have the first trade be wanted since *since*, unless it is wanted since before."""
        if self.next_id is None:
            self.last_time = min(self.last_time, since)

    def want_earlier(self, since: int) -> None:
        """Have the beginning lie at *since*, unless it lies before: a trade of then has come."""
        index = self._gap_with(0)
        if index is not None and since < self.beginning:
            self._replace(index, replace(self._gaps[index], since_ms=since))

    def admit_run(self, first_id: int, last_id: int, time: int) -> bool:
        """Note trades with consecutive ids; return whether they are to be counted.

        They are if all of them are missing: of a run that is partly known nobody can say which
        part of its quantity is.
        """
        if self._absent:
            self._reopen(first_id, last_id)
        index = self._gap_with(first_id)
        if index is None or last_id > self._gaps[index].last_id:
            return False
        self._cut(index, first_id, last_id, time)
        return True

    def is_too_early(self, trade_id: int, time: int) -> bool:
        """Whether a missing trade at *time* is from before the beginning, so that no bar wants it.

        It belongs to an interval of which the rest will not come.
        """
        index = self._gap_with(trade_id)
        if index is None:
            return False
        gap = self._gaps[index]
        return gap.cause == GapCause.START and time < gap.since_ms

    def on_latest_trade(
        self, trade_id: int, time: int, cause: GapCause = GapCause.SILENT_STREAM
    ) -> None:
        """Note that a trade exists that never came: it and what lies before it is a gap.

        If none ever came, the gap begins with the first trade that is wanted.
        """
        if self.next_id is None:
            self._append_start(trade_id, time)
        elif trade_id >= self.next_id:
            span = span_between(self.last_time, time)
            gap = Gap(self.next_id, trade_id, *span, cause)
            if self._gaps and self._continues(self._gaps[-1], gap):
                longer = replace(self._gaps[-1], last_id=trade_id, until_ms=gap.until_ms)
                self._replace(len(self._gaps) - 1, longer)
            else:
                self._append(gap)
        else:
            return
        self.next_id = trade_id + 1
        self.last_time = time

    def lose(self, lost: Iterable[Gap]) -> None:
        """Note that trades which were had are missing again: the bars that held them are lost."""
        state = LedgerState(self.next_id, self.last_time, self.gaps, self._absent)
        state = with_lost(state, in_numbering(self.next_id, lost))
        self._gaps, self._published = list(state.gaps), None

    def close_absent(self, first_id: int, last_id: int, at: int) -> None:
        """Note that the exchange has no trades with these ids: they are missing no longer.

        *at* is when it had said so, on its clock. If they are known to be absent, that was
        confirmed once more. Of very many, those that were believed first are forgotten.
        """
        known = [
            replace(gap, looks=gap.looks + 1)
            if first_id <= gap.first_id and gap.last_id <= last_id
            else gap
            for gap in self._absent
        ]
        index = self._first_from(first_id)
        while index < len(self._gaps) and (gap := self._gaps[index]).first_id <= last_id:
            low, high = max(first_id, gap.first_id), min(last_id, gap.last_id)
            known.append(replace(gap.part(low, high), absent_at=max(1, at)))
            index += 1
        newest = sorted(known, key=_absent_at)[-MOST_ABSENT:]
        self._absent = tuple(sorted(newest, key=_first_id))
        self._subtract(first_id, last_id)

    def forget_below(self, first_id: int) -> None:
        """Note that the wanted beginning is *first_id*: lower ids were before it."""
        index = self._gap_with(0)
        if index is not None and self._gaps[index].is_start:
            self._subtract(0, min(first_id - 1, self._gaps[index].last_id))

    def abandon(self, last_id: int, time: int) -> None:
        """Note that missing ids up to *last_id*, whose trades are about as old as *time*, stay so.

        They will not be asked for any more.
        """
        since, until = span_between(time, time)
        for index in range(len(self._gaps) - 1, -1, -1):
            gap = self._gaps[index]
            if gap.is_abandoned or gap.first_id > last_id:
                continue
            old = replace(
                gap,
                last_id=min(gap.last_id, last_id),
                until_ms=min(max(until, gap.since_ms), gap.until_ms),
                is_abandoned=True,
            )
            left = replace(
                gap.part(last_id + 1, gap.last_id),
                since_ms=max(min(since, gap.until_ms), gap.since_ms),
            )
            self._replace(index, *(part for part in (old, left) if part.size > 0))

    def on_older(self) -> None:
        """Note that ids had restarted before the beginning: nothing after it is lost with those.

        Of no effect where ids did not restart.
        """
        beginning = self.beginning
        if beginning and self._gaps[0].cause == GapCause.RENUMBERED:
            lost = self._gaps[0]  # what was lost last has the lowest number
            self._replace(0, replace(lost, until_ms=min(lost.until_ms, beginning - 1)))

    def reconsider(self) -> None:
        """Note that no gap is too old to be asked for, as far as is known now."""
        for index, gap in enumerate(self._gaps):
            if gap.is_abandoned and gap.cause != GapCause.RENUMBERED:
                self._replace(index, replace(gap, is_abandoned=False))

    def record_attempt(self, first_id: int, error: str | None) -> Gap | None:
        """Note that the gap beginning at *first_id* was asked for, and what came of it.

        Return the gap, or None if it has filled meanwhile. Absent ids are asked for, too.
        """
        index = self._gap_with(first_id)
        if index is None:
            self._absent = tuple(
                replace(gap, attempts=gap.attempts + 1, last_error=error)
                if gap.first_id == first_id
                else gap
                for gap in self._absent
            )
            return None
        gap = self._gaps[index]
        gap = replace(gap, attempts=gap.attempts + 1, last_error=error)
        self._replace(index, gap)
        return gap

    @staticmethod
    def _continues(last: Gap, gap: Gap) -> bool:
        """Whether *gap* is more of *last*: message after message may be of no use."""
        is_next = last.last_id + 1 == gap.first_id and last.cause == gap.cause
        return is_next and 0 <= gap.until_ms - last.since_ms <= _GROWS_FOR_MS and not last.attempts

    def _append_start(self, last_id: int, time: int) -> None:
        """Have every id up to *last_id*, of a trade at *time*, be missing since the beginning."""
        since = min(self.last_time, time)
        self._append(Gap.beginning(last_id, since, time + DISORDER_MS))

    def _fill(self, trade_id: int, time: int) -> bool:
        """Take *trade_id* out of the gap that holds it; return whether there was one.

        The gap of the beginning holds every lower id, but no trade that is newer than its end.
        """
        if self._absent:
            self._reopen(trade_id, trade_id)
        index = self._gap_with(trade_id)
        if index is None:
            return False
        gap = self._gaps[index]
        if gap.is_start and time > gap.until_ms + _RENUMBERED_AFTER_MS:
            return False
        self._cut(index, trade_id, trade_id, time)
        return True

    def _reopen(self, first_id: int, last_id: int) -> None:
        """Have absent ranges be missing again of which one of these ids is a part: it exists."""
        index = max(0, bisect_right(self._absent, first_id, key=_first_id) - 1)
        while index < len(self._absent) and self._absent[index].first_id <= last_id:
            gap = self._absent[index]
            if gap.last_id < first_id:
                index += 1
                continue
            self._absent = self._absent[:index] + self._absent[index + 1 :]
            self.reopened.append(gap)
            insort(self._gaps, replace(gap, absent_at=0, looks=0), key=_first_id)
            self._published = None

    def _first_from(self, trade_id: int) -> int:
        """Return the place of the first gap that does not end before *trade_id*."""
        index = bisect_right(self._gaps, trade_id, key=_first_id)
        return index - 1 if index and trade_id <= self._gaps[index - 1].last_id else index

    def _gap_with(self, trade_id: int) -> int | None:
        index = bisect_right(self._gaps, trade_id, key=_first_id) - 1
        return index if index >= 0 and trade_id <= self._gaps[index].last_id else None

    def _cut(self, index: int, first_id: int, last_id: int, time: int | None) -> None:
        """Take ids out of a gap; what is left on either side ends, or begins, at *time*."""
        gap = self._gaps[index]
        before = gap.part(gap.first_id, first_id - 1)
        after = gap.part(last_id + 1, gap.last_id)
        if time is not None:
            since, until = span_between(time, time)
            # What was lost before the first trade is wanted since the beginning, and no earlier.
            earliest = gap.since_ms if gap.cause == GapCause.START else since
            before = replace(
                before,
                since_ms=min(gap.since_ms, max(since, earliest)),
                until_ms=max(gap.since_ms, until),
            )
            after = replace(
                after,
                since_ms=min(gap.until_ms, max(since, earliest)),
                until_ms=max(gap.until_ms, until),
            )
        self._replace(index, *(part for part in (before, after) if part.size > 0))

    def _append(self, gap: Gap) -> None:
        self._gaps.append(gap)
        self._published = None

    def _replace(self, index: int, *parts: Gap) -> None:
        self._gaps[index : index + 1] = parts
        self._published = None

    def _subtract(self, first_id: int, last_id: int) -> None:
        if first_id > last_id:
            return
        index = bisect_right(self._gaps, last_id, key=_first_id) - 1
        while index >= 0 and (gap := self._gaps[index]).last_id >= first_id:
            self._cut(index, max(first_id, gap.first_id), min(last_id, gap.last_id), None)
            index -= 1
