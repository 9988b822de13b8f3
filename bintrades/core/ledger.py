"""Which trade ids of a symbol were seen and which are missing.

Where each trade has the id of the one before plus one (IdLaw.DENSE), one number and the list of
gaps below it say everything: whether a trade is new, whether it was counted before, what was lost.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from bintrades.core.gap_changes import no_longer_missing
from bintrades.core.gap_ranges import DISORDER_MS, GapRanges, first_id_of, span_between
from bintrades.model import Gap, GapCause, GapKind, IdLaw, id_ranges, unnumbered_gaps

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_RENUMBERED_AFTER_MS = 4_000  # beyond the end of the beginning's span: no trade of before it
_GROWS_FOR_MS = 10_000  # then a gap is left to be repaired, and what is missing next is another
MOST_ABSENT = 200
"""Ranges of ids that do not exist, of one symbol, of which trades are still welcome."""
MOST_EXCLUDED = 500
"""Ranges of ids that past trades go around, of one symbol, of which fills are still welcome."""
_EXCLUDED_FOR_MS = 300_000  # before the newest trade; a stream brings nothing that is older


class LedgerState(msgspec.Struct, frozen=True):
    """A ledger as it is written down."""

    next_id: int | None  # None: no trade was ever seen
    last_time: int | None
    """`T` of the highest id; before the first, since when trades are wanted (None: not known)."""
    gaps: tuple[Gap, ...]  # those without ids first, then the lowest ids
    absent: tuple[Gap, ...] = ()  # ids that do not exist, as far as the exchange knows


def with_lost(state: LedgerState, lost: Iterable[Gap]) -> LedgerState:
    """Return *state* with the gaps in *lost* as well, but for ids that are missing already.

    One without ids gets an ordinal of its own, unless the same is on record already.
    """
    ranges, unnumbered = [*id_ranges(state.gaps)], [*unnumbered_gaps(state.gaps)]
    unknown = sorted((*ranges, *state.absent), key=first_id_of)
    spans = {(gap.since_ms, gap.until_ms, gap.cause) for gap in unnumbered}
    ordinal = max((gap.ordinal for gap in unnumbered), default=0)
    for gap in lost:
        ranges = list(_without_approximations(ranges, gap))
        if not gap.has_ids:
            if (gap.since_ms, gap.until_ms, gap.cause) not in spans:
                ordinal += 1
                unnumbered.insert(0, gap.with_ordinal(ordinal))
        elif state.next_id is not None:
            seen = replace(gap, last_id=min(gap.last_id, state.next_id - 1))
            ranges += no_longer_missing([seen], unknown)
    ranges.sort(key=first_id_of)
    return replace(state, gaps=(*unnumbered, *ranges))


def _without_approximations(ranges: Iterable[Gap], lost: Gap) -> Iterator[Gap]:
    """Yield *ranges*, wanted again where the aggregates were lost that stood in for trades."""
    for gap in ranges:
        if not gap.is_approximated or gap.last_id < lost.first_id or gap.first_id > lost.last_id:
            yield gap
            continue
        first_id, last_id = max(gap.first_id, lost.first_id), min(gap.last_id, lost.last_id)
        parts = (
            gap.part(gap.first_id, first_id - 1),
            replace(gap.part(first_id, last_id), is_approximated=False, attempts=0),
            gap.part(last_id + 1, gap.last_id),
        )
        yield from (part for part in parts if part.size > 0)


def without_approximations(
    state: LedgerState, ids: Iterable[tuple[int, int]] | None = None
) -> LedgerState:
    """Return *state* without the gaps that aggregates stand in for, or without some ids of those.

    It is the same object where it has none of them.
    """
    if not any(gap.is_approximated for gap in state.gaps):
        return state
    if ids is None:
        return replace(state, gaps=tuple(gap for gap in state.gaps if not gap.is_approximated))
    ledger = Ledger(state)
    for first_id, last_id in ids:
        ledger.settle_approximated(first_id, last_id)
    return state if ledger.gaps == state.gaps else replace(state, gaps=ledger.gaps)


def in_numbering(next_id: int | None, lost: Iterable[Gap]) -> Iterator[Gap]:
    """Yield *lost*, found where fewer trades were known, as a ledger at *next_id* can have it.

    Ids beyond those that it has seen are of before ids restarted: nobody can be asked for them any
    more. That they are lost stays on record without ids.
    """
    for gap in lost:
        if not gap.has_ids or (next_id is not None and gap.last_id < next_id):
            yield gap
        else:
            yield Gap.unnumbered(
                gap.since_ms, gap.until_ms, GapCause.RENUMBERED, last_error=gap.last_error
            )


class Ledger:
    """The ids of one symbol. Pure: time comes in with the trades.

    What is missing are ranges of ids, and apart from those, what was lost without its ids. Ids that
    the exchange does not have are missing no longer, but remembered: if a trade of theirs comes
    after all, the exchange was wrong about them, and they are missing again. So it is with those
    that are no fills, as the exchange's past trades lately had it.
    """

    LAWS = frozenset(IdLaw)
    """The laws of ids that it counts by: every id is one more than the one before."""

    __slots__ = (
        "_absent",
        "_excluded",
        "_gaps",
        "_gaps_of",
        "_ranges",
        "_unnumbered",
        "last_time",
        "next_id",
        "proven",
        "reopened",
        "wanted_since",
    )

    def __init__(self, state: LedgerState | None = None, proven: int | None = None) -> None:
        time = state.last_time if state else None
        self.next_id = state.next_id if state else None
        """The id that comes next; None: no trade was ever seen."""
        self.last_time = 0 if time is None or self.next_id is None else time
        """`T` of the highest id, if a trade was ever seen; no higher id has an earlier one."""
        self.proven = proven
        """No id from the next one on is of a trade before this time, as was proven; None: never."""
        self.wanted_since = time if self.next_id is None else None
        """Since when trades are wanted; None: not known, or the first one has come."""
        self._ranges = GapRanges()
        self._unnumbered: tuple[Gap, ...] = ()  # the last one first
        self._gaps: tuple[Gap, ...] = ()  # both, as handed out last
        self._gaps_of: tuple[Gap, ...] = ()  # the ranges that were handed out with them
        if state is not None:
            self._set_gaps(state.gaps)
        self._absent = state.absent if state else ()
        # Lately, and not since before a restart: a new connection brings nothing that is older.
        self._excluded = GapRanges()
        self.reopened: list[Gap] = []  # absent ids that are missing again, for whoever reports it

    @classmethod
    def renumbered(cls, before: Ledger, since: int, seen_at: int) -> Ledger:
        """Return what follows *before* where ids restart, and trades are wanted since *since*.

        The first new id is of a trade at *seen_at*: up to then trades of before may have been
        lost. Those, and what was missing, cannot be asked for any more. That they are lost stays on
        record without ids.
        """
        lost = _lost(before.gaps, before._known_until - DISORDER_MS, max(since - 1, seen_at))
        return cls(LedgerState(None, since, lost), before.proven)

    @classmethod
    def renumbered_within(cls, before: Ledger, gap: Gap, since: int, seen_at: int) -> Ledger:
        """Return what follows *before* where ids turn out to have restarted within *gap*, a range.

        As renumbered() does, but trades behind the gap are of the new ids, and stay known: missing
        are those since *since* that come before them.
        """
        gaps, others = before.gaps, id_ranges(before.gaps)
        older = gaps[: gaps.index(gap)]
        beginning = Gap.beginning(gap.last_id, since, max(since, gap.until_ms))
        missing = (
            *_lost(older, gap.since_ms, max(since - 1, seen_at)),
            beginning,
            *(each for each in others if each.first_id > gap.last_id),
        )
        absent = tuple(each for each in before.absent if each.first_id > gap.last_id)
        state = LedgerState(before.next_id, before.last_time, missing, absent)
        return cls(state, before.proven)

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """What is missing, in the order of LedgerState: the same object until it changes."""
        ranges = self._ranges.as_tuple
        if ranges is not self._gaps_of:
            self._gaps_of = ranges
            self._gaps = (*self._unnumbered, *ranges) if self._unnumbered else ranges
        return self._gaps

    @property
    def absent(self) -> tuple[Gap, ...]:
        """The id ranges that the exchange does not have, lowest first."""
        return self._absent

    @property
    def beginning(self) -> int | None:
        """Since when trades are wanted, as long as the first of them is not known."""
        start = self._start
        return None if start is None else start.since_ms

    @property
    def state(self) -> LedgerState | None:
        """What to write down; None while nothing is known."""
        time = self.wanted_since if self.next_id is None else self.last_time
        if time is None:
            return None
        return LedgerState(self.next_id, time, self.gaps, self._absent)

    def admit(self, trade_id: int, time: int, cause: GapCause = GapCause.SKIPPED) -> bool:
        """Record a trade; return whether it is to be counted, which is true once per id.

        An id beyond the next opens a gap, named after *cause*; an id inside a gap is welcome
        however late it comes. Before the first there is a gap as well, if trades are wanted since
        some time: how many there are is unknown, every lower id may be one of them.
        """
        next_id = self.next_id
        if next_id is None:
            if self.wanted_since is not None and trade_id > 0:
                self._append_start(trade_id - 1, time)
            self.wanted_since = None
        elif trade_id != next_id:
            if trade_id < next_id:
                return self._fill(trade_id, time)
            self.end_unusable_by(time)
            span = span_between(self._known_until, time)
            self._ranges.append(Gap(next_id, trade_id - 1, *span, cause))
        else:
            self.end_unusable_by(time)
        self.next_id = trade_id + 1
        self.last_time = time
        return True

    def admit_aggregate(self, first_id: int, last_id: int, time: int, cause: GapCause) -> bool:
        """Record trades that came as one aggregate; return whether they are to be counted.

        They are if none of them is known, as admit() and admit_range() say.
        """
        next_id = self.next_id
        if next_id is not None and first_id < next_id:
            index = self._ranges.find(first_id)
            if index is not None and self._is_behind_start(self._ranges[index], time):
                return False
            return self.admit_range(first_id, last_id, time)
        self.admit(first_id, time, cause)
        self.next_id = last_id + 1
        return True

    def last_gap_after(self, time: int) -> Gap | None:
        """Return the last range of ids that lies behind a trade of before *time*, if there is one.

        All that is known behind it has happened since then. That of the beginning is none.
        """
        for index in range(len(self._ranges) - 1, -1, -1):
            gap = self._ranges[index]
            if gap.since_ms + DISORDER_MS < time and not gap.is_start:
                return gap
        return None

    def rewind(self, next_id: int, since: int) -> None:
        """Have *next_id* come next again: it and all higher ones are of trades since *since*."""
        self.next_id = next_id
        self.last_time = self.proven = since

    def want_since(self, since: int) -> None:
        """Want the first trade, and all that follow, of those since *since*.

        Of no effect once a trade has come.
        """
        if self.next_id is None:
            self.wanted_since = since

    def want_no_later(self, since: int) -> None:
        """Want the first trade since *since*, unless it is wanted since before."""
        if self.next_id is None and self.wanted_since is not None:
            self.wanted_since = min(self.wanted_since, since)

    def admit_range(self, first_id: int, last_id: int, time: int) -> bool:
        """Record trades with consecutive ids; return whether they are to be counted.

        They are if all of them are missing: of a range that is partly known nobody can say which
        part of its quantity is.
        """
        if self._absent:
            self._reopen(first_id, last_id)
        index = self._ranges.find(first_id)
        if index is None or last_id > self._ranges[index].last_id:
            return False
        if self._ranges[index].is_approximated:
            return False
        self._cut(index, first_id, last_id, time)
        return True

    def approximate(self, first_id: int, last_id: int, time: int) -> bool:
        """Have an aggregate stand in for trades with these ids; return whether it is to be counted.

        It is if all of them are missing. They stay on record, but are wanted no more.
        """
        index = self._ranges.find(first_id)
        if index is None or last_id > self._ranges[index].last_id:
            return False
        gap = self._ranges[index]
        if gap.is_approximated:
            return False
        since, until = span_between(time, time)
        self._cut(index, first_id, last_id, time)
        approximated = replace(
            gap,
            first_id=first_id,
            last_id=last_id,
            since_ms=since,
            until_ms=until,
            is_abandoned=False,
            is_approximated=True,
            kind=GapKind.IDS,
        )
        self._ranges.insert_joined(approximated)
        return True

    def settle_approximated(self, first_id: int, last_id: int) -> None:
        """Have trades have taken the place of the aggregates that stood in for these ids."""
        self._subtract(first_id, last_id, is_approximated=True)

    def lack_through(
        self, trade_id: int, until: int, cause: GapCause, later_than: int | None = None
    ) -> None:
        """Record that a trade of no later than *until* exists that never came.

        It and what lies before it is a gap: if none ever came, of all that is wanted. No higher id
        is of a trade before *later_than* (None: nobody knows).
        """
        if self.next_id is None:
            self._append_start(trade_id, until)
            self.wanted_since = None
        elif trade_id >= self.next_id:
            if cause is not GapCause.UNUSABLE:
                self.end_unusable_by(until)
            # A clock that is late says less than the trade before.
            span = span_between(self._known_until, max(until, self._known_until))
            gap = Gap(self.next_id, trade_id, *span, cause)
            last = len(self._ranges) - 1
            if self._ranges and self._continues(self._ranges[last], gap):
                longer = replace(self._ranges[last], last_id=trade_id, until_ms=gap.until_ms)
                self._ranges.replace(last, longer)
            else:
                self._ranges.append(gap)
        else:
            return
        self.next_id = trade_id + 1
        if later_than is not None:
            self.last_time = max(self.last_time, later_than)

    def end_unusable_by(self, time: int) -> None:
        """Have trades that could not be used have happened by *time*, that of the one after them.

        When they came the clock may have stood still, or been late. Of no effect if something else
        has come since.
        """
        until, next_id = time + DISORDER_MS, self.next_id
        for index in range(len(self._ranges) - 1, -1, -1):
            gap = self._ranges[index]
            if gap.cause is not GapCause.UNUSABLE or gap.last_id + 1 != next_id:
                return
            if gap.until_ms < until:
                self._ranges.replace(index, replace(gap, until_ms=until))
            next_id = gap.first_id

    def prove(self, time: int) -> None:
        """Record that no id from the next one on is of a trade before *time*."""
        if self.proven is None or time > self.proven:
            self.proven = time

    def lose(self, lost: Iterable[Gap]) -> None:
        """Have trades be missing again that were had: the bars that held them are lost."""
        state = LedgerState(self.next_id, self.last_time, self.gaps, self._absent)
        self._set_gaps(with_lost(state, in_numbering(self.next_id, lost)).gaps)
        for gap in id_ranges(self.gaps) if self._excluded else ():
            self._excluded.subtract(gap.first_id, gap.last_id)

    def close_absent(self, first_id: int, last_id: int, at: int) -> None:
        """Record that the exchange has no trades with these ids: they are missing no longer.

        *at* is when it had said so, on its clock. If they are known to be absent, that was
        confirmed once more. Of very many, those that were believed first are forgotten.
        """
        known = [
            replace(gap, looks=gap.looks + 1)
            if first_id <= gap.first_id and gap.last_id <= last_id
            else gap
            for gap in self._absent
        ]
        missing = [gap for gap in self._ranges.within(first_id, last_id) if not gap.is_approximated]
        known += [replace(gap, absent_at=at) for gap in missing]
        newest = sorted(known, key=_absent_at)[-MOST_ABSENT:]
        self._absent = tuple(sorted(newest, key=first_id_of))
        self._subtract(first_id, last_id, is_approximated=False)

    def close_excluded(self, first_id: int, last_id: int) -> list[tuple[int, int]]:
        """Have ids be no fills of the order book: return those that were missing until now."""
        missing = [gap for gap in self._ranges.within(first_id, last_id) if not gap.is_approximated]
        self._subtract(first_id, last_id, is_approximated=False)
        oldest = self.last_time - _EXCLUDED_FOR_MS
        young = [gap for gap in missing if gap.until_ms >= oldest]
        if young:
            young += [gap for gap in self._excluded if gap.until_ms >= oldest]
            self._excluded = GapRanges(sorted(young, key=first_id_of)[-MOST_EXCLUDED:])
        return [(gap.first_id, gap.last_id) for gap in missing]

    def reopen_excluded(self, trade_id: int, time: int) -> Gap | None:
        """Have ids be missing again that were held to be no fills: a fill of theirs has come.

        All that the same answer held so at that place: it was wrong there. Return them, or None if
        this id is not among those of late, or if the fill, of *time*, is too new to be meant.
        """
        if not self._excluded:
            return None  # so that second copies of trades cost no more than that
        index = self._excluded.find(trade_id)
        if index is None or time > self._excluded[index].until_ms:
            return None
        gap = self._excluded[index]
        self._excluded.replace(index)
        self._ranges.insert(gap)
        return gap

    def forget_below(self, first_id: int) -> None:
        """Have the wanted beginning be at *first_id*: lower ids were before it."""
        start = self._start
        if start is not None:
            last_id = min(first_id - 1, start.last_id)
            self._ranges.begin_no_earlier(last_id + 1, start.since_ms - DISORDER_MS)
            self._happened_by(last_id, start.since_ms)
            self._ranges.subtract(start.first_id, last_id)

    def forget(self, first_id: int, last_id: int) -> None:
        """Have ids be of no trade since the beginning: they are missing no longer."""
        self._subtract(first_id, last_id, is_approximated=False)

    def abandon(
        self, last_id: int, time: int, *, first_id: int = 0, reason: str | None = None
    ) -> None:
        """Give up missing ids up to *last_id*, whose trades are about as old as *time*.

        They stay missing, but will not be asked for any more. What lies before *first_id* will;
        *reason* goes on record with those that are given up, and with no others.
        """
        since, until = span_between(time, time)
        for index in range(len(self._ranges) - 1, -1, -1):
            gap = self._ranges[index]
            if not gap.is_wanted or gap.first_id > last_id:
                continue
            if gap.last_id < first_id:
                break
            old = replace(
                gap,
                last_id=min(gap.last_id, last_id),
                until_ms=min(max(until, gap.since_ms), gap.until_ms),
                is_abandoned=True,
                last_error=reason or gap.last_error,
            )
            left = replace(
                gap.part(last_id + 1, gap.last_id),
                since_ms=max(min(since, gap.until_ms), gap.since_ms),
                last_error=None if reason else gap.last_error,
            )
            self._ranges.replace(index, old, left)

    def on_older(self) -> None:
        """Record that ids had restarted before the beginning: nothing after it is lost with those.

        Of no effect where ids did not restart.
        """
        beginning = self.beginning
        if beginning is None or not self._unnumbered:
            return
        last, *others = self._unnumbered
        if last.cause == GapCause.RENUMBERED:
            last = replace(last, until_ms=min(last.until_ms, beginning - 1))
            self._set_gaps((last, *others, *self._ranges))

    def reconsider(self) -> None:
        """Have no gap be too old to be asked for, as far as is known now."""
        for index, gap in enumerate(self._ranges):
            if gap.is_abandoned:
                self._ranges.replace(index, replace(gap, is_abandoned=False))

    def record_attempt(self, first_id: int, error: str | None) -> Gap | None:
        """Record that the gap beginning at *first_id* was asked for, and what came of it.

        Return the gap, or None if it has filled meanwhile. Absent ids are asked for, too.
        """
        index = self._ranges.find(first_id)
        if index is None:
            self._absent = tuple(
                replace(gap, attempts=gap.attempts + 1, last_error=error)
                if gap.first_id == first_id
                else gap
                for gap in self._absent
            )
            return None
        gap = self._ranges[index]
        gap = replace(gap, attempts=gap.attempts + 1, last_error=error)
        self._ranges.replace(index, gap)
        return gap

    @property
    def _known_until(self) -> int:
        """Since when trades with the next id and higher ones can have happened, at the earliest."""
        return self.last_time if self.proven is None else max(self.last_time, self.proven)

    @property
    def _start(self) -> Gap | None:
        """The gap of the beginning, which no other range is below, while it is not filled."""
        first = self._ranges[0] if self._ranges else None
        return first if first is not None and first.is_start else None

    def _set_gaps(self, gaps: tuple[Gap, ...]) -> None:
        self._ranges = GapRanges(id_ranges(gaps))
        self._unnumbered = unnumbered_gaps(gaps)
        self._gaps, self._gaps_of = gaps, self._ranges.as_tuple

    @staticmethod
    def _continues(last: Gap, gap: Gap) -> bool:
        """Whether *gap* is more of *last*: message after message may be of no use."""
        is_next = last.last_id + 1 == gap.first_id and last.cause == gap.cause
        is_new = not (last.attempts or last.is_approximated)
        return is_next and 0 <= gap.until_ms - last.since_ms <= _GROWS_FOR_MS and is_new

    def _append_start(self, last_id: int, time: int) -> None:
        """Have every id up to *last_id*, of a trade at *time*, be missing since the beginning."""
        since = time if self.wanted_since is None else self.wanted_since
        self._ranges.append(Gap.beginning(last_id, since, max(since, time + DISORDER_MS)))

    def _fill(self, trade_id: int, time: int) -> bool:
        """Take *trade_id* out of the gap that holds it; return whether there was one.

        The gap of the beginning holds every lower id, but no trade that is newer than its end.
        """
        if self._absent:
            self._reopen(trade_id, trade_id)
        index = self._ranges.find(trade_id)
        if index is None:
            return False
        gap = self._ranges[index]
        if gap.is_approximated or self._is_behind_start(gap, time):
            return False
        self._cut(index, trade_id, trade_id, time)
        return True

    def _subtract(self, first_id: int, last_id: int, *, is_approximated: bool) -> None:
        """Take ids out of the gaps that aggregates stand in for, or out of all others."""
        parts = list(self._ranges.within(first_id, last_id))
        for part in parts:
            if part.is_approximated is is_approximated:
                self._ranges.subtract(part.first_id, part.last_id)

    @staticmethod
    def _is_behind_start(gap: Gap, time: int) -> bool:
        """Whether a trade of the beginning's ids is too new to be one of those."""
        return gap.is_start and time > gap.until_ms + _RENUMBERED_AFTER_MS

    def _cut(self, index: int, first_id: int, last_id: int, time: int) -> None:
        """Take ids, of trades at *time*, out of a gap; when the highest happened may be news."""
        self._ranges.cut(index, first_id, last_id, time)
        self._happened_by(last_id, time)

    def _happened_by(self, trade_id: int, time: int) -> None:
        """Have no id after *trade_id* be of a trade before *time*."""
        if trade_id + 1 == self.next_id:
            self.last_time = max(self.last_time, time)

    def _reopen(self, first_id: int, last_id: int) -> None:
        """Have absent ranges be missing again of which one of these ids is a part: it exists."""
        index = max(0, bisect_right(self._absent, first_id, key=first_id_of) - 1)
        while index < len(self._absent) and self._absent[index].first_id <= last_id:
            gap = self._absent[index]
            if gap.last_id < first_id:
                index += 1
                continue
            self._absent = self._absent[:index] + self._absent[index + 1 :]
            self.reopened.append(gap)
            self._ranges.insert(replace(gap, absent_at=None, looks=0))


def _lost(gaps: Iterable[Gap], since: int, until: int) -> tuple[Gap, ...]:
    """Return, as a record without ids, *gaps* and what may have been lost since then."""
    spans = [*((gap.since_ms, gap.until_ms) for gap in gaps), (since, until)]
    lost = [
        Gap.unnumbered(*span, GapCause.RENUMBERED, ordinal=ordinal)
        for ordinal, span in enumerate(spans, 1)
    ]
    return tuple(reversed(lost))


def _absent_at(gap: Gap) -> int:
    return gap.absent_at or 0
