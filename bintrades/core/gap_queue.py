"""Which gap to ask about next, whatever exchange it is. Pure: time is an input.

Symbols take turns; of one symbol the newest gap comes first. A gap about which nothing was learned
is retried with backoff. Nothing is asked about a symbol twice at once: after an answer its next gap
is due when the ledger has counted that answer.

That ids do not exist is believed when all endpoints agree, again and again (core/absence.py). An
answer counts only if it holds the trades right before and right after the ids, which shows that it
is about them and complete around them. What is believed is checked again an hour and a day later.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from bintrades.core.absence import Absence
from bintrades.core.gap_ranges import first_id_of
from bintrades.core.unknown_ids import UnknownIds
from bintrades.model import id_ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bintrades.model import Gap, GapSet, TradeRange

ProgressT = TypeVar("ProgressT")
"""What an exchange's plan remembers of a gap while it is asked about."""

_UNCONFIRMED = (
    "the exchange has no such trades, it says; it must say so again before that is believed"
)
_NOT_ENCLOSED = "the answer does not hold the trades around it"


FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 300.0
"""Of the backoff of one gap."""


@dataclass(frozen=True, slots=True)
class BackfillTiming:
    """When gaps are asked about."""

    first_request_after_ms: int = 1_000
    """A gap often fills by itself: from a second connection, or by a frame out of order."""
    confirm_absence_after_ms: tuple[int, ...] = (60_000, 600_000)
    """Since all endpoints agreed for the first time."""
    recheck_absence_after_ms: tuple[int, ...] = (3_600_000, 86_400_000)
    """Since it was believed, on the exchange's clock."""


class Backoff(Protocol):
    """Waits that grow; util.backoff has them, with a random part that is no matter of the core."""

    def next_wait_s(self) -> float:
        """Count a failure and return how long to wait after it."""


@dataclass(slots=True)
class QueuedGap(Generic[ProgressT]):
    """A gap and what was learned of it; one that is filled from its front stays the same."""

    symbol: str
    gap: Gap
    due: int
    progress: ProgressT
    absence: Absence | None = None
    backoff: Backoff | None = None  # None: the last answer brought something

    def retry_at(self, due: int) -> None:
        """Have it asked about again at *due*, as one that makes progress."""
        self.due = due
        self.backoff = None

    @property
    def confirmed_by(self) -> set[str]:
        """The endpoints that say, in this round, that its ids do not exist."""
        absence = self.absence
        if absence is None or absence.first_id != self.gap.first_id:
            return set()
        return absence.confirmed_by


class _Symbol(Generic[ProgressT]):
    """What is queued of one symbol."""

    __slots__ = ("absent", "entries", "missing", "unknown")

    def __init__(self) -> None:
        self.missing: tuple[Gap, ...] = ()  # to be asked for, lowest first
        self.absent: tuple[Gap, ...] = ()  # to be checked again
        self.unknown = UnknownIds()
        self.entries: dict[int, QueuedGap[ProgressT]] = {}  # by last id

    def update(self, gaps: GapSet, rechecks: int) -> None:
        missing = id_ranges(gaps.missing)
        self.missing = tuple(gap for gap in missing if gap.is_wanted)
        self.absent = tuple(gap for gap in gaps.absent if gap.looks < rechecks)
        both = sorted((*missing, *gaps.absent), key=first_id_of) if gaps.absent else missing
        self.unknown = UnknownIds(both)


class GapQueue(Generic[ProgressT]):
    """All gaps of all symbols, in the order in which they are asked about.

    *now* is milliseconds on a clock that never goes back. An entry is taken, and then either put
    back or recorded as answered.
    """

    def __init__(
        self,
        endpoints: frozenset[str],
        new_progress: Callable[[], ProgressT],
        new_backoff: Callable[[], Backoff],
        timing: BackfillTiming,
    ) -> None:
        self._endpoints = endpoints
        self._new_progress = new_progress
        self._new_backoff = new_backoff
        self._timing = timing
        self._symbols: dict[str, _Symbol[ProgressT]] = {}  # with gaps, next turn first
        self._in_flight: set[str] = set()  # symbols about which is being asked
        self._results: dict[str, int] = {}  # that were made of each symbol
        self._counted: dict[str, int] = {}  # those that its ledger had counted at the last update

    @property
    def is_empty(self) -> bool:
        """Whether nothing is missing that will be asked for, and nothing of old is remembered.

        Absent ids are not missing, although they are checked again.
        """
        return not self._in_flight and not any(
            each.missing or len(each.entries) > len(each.absent) for each in self._symbols.values()
        )

    def update(self, gaps: GapSet, now: int) -> None:
        """Take over the gaps of a symbol as its ledger has them."""
        symbol = gaps.symbol
        if gaps.has_ended:
            self._forget(symbol)
            return
        self._counted[symbol] = gaps.answers
        queued = self._symbols.get(symbol) or _Symbol()
        queued.update(gaps, len(self._timing.recheck_absence_after_ms))
        if not gaps.missing and not gaps.absent:
            self._symbols.pop(symbol, None)
            return
        self._symbols[symbol] = queued
        first_due = now + self._timing.first_request_after_ms
        before, queued.entries = queued.entries, {}
        for gap in (*queued.missing, *queued.absent):
            entry = before.get(gap.last_id)
            if entry is None:
                entry = QueuedGap(symbol, gap, first_due, self._new_progress())
            entry.gap = gap
            queued.entries[gap.last_id] = entry

    def _forget(self, symbol: str) -> None:
        """Remember nothing of a symbol that is collected no longer: it may begin anew one day."""
        for known in (self._symbols, self._results, self._counted):
            known.pop(symbol, None)
        self._in_flight.discard(symbol)

    def take_most_urgent(
        self, now: int, urgency: Callable[[QueuedGap[ProgressT]], int]
    ) -> QueuedGap[ProgressT] | None:
        """Return the most urgent missing gap that is due; None: none is, or all have urgency 0."""
        found, highest = None, 0
        for symbol, queued in self._symbols.items():
            if not queued.missing or self._is_busy(symbol):
                continue
            for gap in reversed(queued.missing):
                entry = queued.entries[gap.last_id]
                if now >= entry.due and (its_urgency := urgency(entry)) > highest:
                    found, highest = entry, its_urgency
        if found is not None:
            self._in_flight.add(found.symbol)
        return found

    def take(self, now: int) -> QueuedGap[ProgressT] | None:
        """Return the next missing gap that is due; None: nothing yet."""
        for symbol, queued in self._symbols.items():
            if not queued.missing or self._is_busy(symbol):
                continue
            for gap in reversed(queued.missing):
                entry = queued.entries[gap.last_id]
                if now >= entry.due:
                    self._in_flight.add(symbol)
                    return entry
        return None

    def take_absent(self, now: int, clock: int) -> QueuedGap[ProgressT] | None:
        """Return absent ids that are to be checked again by now; *clock* is the exchange's."""
        for symbol, queued in self._symbols.items():
            if not queued.absent or self._is_busy(symbol):
                continue
            for gap in queued.absent:
                believed_at = gap.absent_at or 0
                due = believed_at + self._timing.recheck_absence_after_ms[gap.looks]
                entry = queued.entries[gap.last_id]
                if clock >= due and now >= entry.due:
                    self._in_flight.add(symbol)
                    return entry
        return None

    def put_back(self, symbol: str) -> None:
        """Take back what could not be asked now: by then it may be another gap."""
        self._in_flight.discard(symbol)

    def record_result(self, symbol: str, gap: Gap) -> QueuedGap[ProgressT]:
        """Record that a BackfillResult about *gap* goes to the ledger: the symbol's turn is over.

        Return the entry of the gap, or a new one that nobody else has if it has filled meanwhile.
        """
        self._in_flight.discard(symbol)
        self._results[symbol] = self._results.get(symbol, 0) + 1
        queued = self._symbols.pop(symbol, None)
        entry = None
        if queued is not None:
            self._symbols[symbol] = queued
            entry = queued.entries.get(gap.last_id)
        return entry or QueuedGap(symbol, gap, 0, self._new_progress())

    def back_off(self, entry: QueuedGap[ProgressT], now: int) -> None:
        """Have a gap asked about again after a wait that grows."""
        if entry.backoff is None:
            entry.backoff = self._new_backoff()
        entry.due = now + int(entry.backoff.next_wait_s() * 1000)

    def missing(self, symbol: str) -> Sequence[Gap]:
        """Return the gaps of *symbol* that are asked for, lowest first."""
        queued = self._symbols.get(symbol)
        return () if queued is None else queued.missing

    def entries(self, symbol: str) -> Iterator[QueuedGap[ProgressT]]:
        """Yield what is queued of the gaps of *symbol* that are asked for, lowest first."""
        queued = self._symbols.get(symbol)
        if queued is not None:
            for gap in queued.missing:
                yield queued.entries[gap.last_id]

    def unknown_ids(self, symbol: str) -> UnknownIds:
        """Return the ids of *symbol* that are not known to exist."""
        queued = self._symbols.get(symbol)
        return UnknownIds() if queued is None else queued.unknown

    def confirm_absences(
        self,
        symbol: str,
        endpoint: str,
        rows: Sequence[TradeRange],
        now: int,
        *,
        is_from_zero: bool,
    ) -> list[tuple[int, int]]:
        """Record of which gaps an answer says that their ids do not exist; return those believed.

        An answer is about every gap that lies between two of its *rows*.
        """
        queued = self._symbols.get(symbol)
        if queued is None or not rows:
            return []
        gaps = queued.missing
        start = 0 if is_from_zero else bisect_left(gaps, rows[0].first_id, key=first_id_of)
        end = bisect_left(gaps, rows[-1].first_id, key=first_id_of)
        return [
            (gap.first_id, gap.last_id)
            for gap in gaps[start:end]
            if not gap.is_start
            and queued.unknown.is_enclosed(gap, rows, is_from_zero=is_from_zero)
            and self._is_absent(queued.entries[gap.last_id], endpoint, rows, now)
        ]

    def await_confirmation(self, entry: QueuedGap[ProgressT], endpoint: str, now: int) -> str:
        """Have a gap be asked about again when a confirmation is due; return the reason."""
        absence = entry.absence
        if absence is not None and absence.first_id == entry.gap.first_id:
            if now < absence.due:
                entry.due = absence.due
                return _UNCONFIRMED
            if endpoint in absence.confirmed_by:
                entry.retry_at(now)  # the other endpoints may be asked at once
                return _UNCONFIRMED
        self.back_off(entry, now)
        return _NOT_ENCLOSED

    def _is_absent(
        self, entry: QueuedGap[ProgressT], endpoint: str, rows: Sequence[TradeRange], now: int
    ) -> bool:
        """Record that *endpoint* has nothing of a gap; return whether that is believed now."""
        gap, absence = entry.gap, entry.absence
        if absence is None or absence.first_id != gap.first_id:
            absence = entry.absence = Absence(gap.first_id)
        if now < absence.due:
            return False  # too early to count
        after = bisect_right(rows, gap.first_id, key=first_id_of)
        around = rows[after - 1 : after + 1] if after else ()
        absence.time_before_ms = min(map(_time, around), default=0)
        again_after_ms = self._timing.confirm_absence_after_ms
        is_believed = absence.confirm(endpoint, self._endpoints, again_after_ms, now)
        if is_believed:
            entry.absence = None
        if not absence.confirmed_by:  # all have said so: the next round is to come
            entry.retry_at(entry.due if is_believed else absence.due)
        return is_believed

    def _is_busy(self, symbol: str) -> bool:
        """Whether it is being asked about, or the ledger has not counted the last answer yet."""
        if symbol in self._in_flight:
            return True
        return self._results.get(symbol, 0) > self._counted.get(symbol, 0)


_time = attrgetter("time")
