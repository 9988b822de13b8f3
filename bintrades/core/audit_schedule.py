"""Which symbol is compared with the exchange's klines next, and what is looked at again. Pure.

Each symbol has its turn about every half an hour, so that one request has a whole batch of minutes;
one with a backlog has its next turn at once, behind all whose turn has come. What differs, or
cannot be told yet, is looked at again minutes later, and is left out of the turns meanwhile. What
has been due for longest is next, whichever of both it is: neither waits for ever for the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from bintrades.core.spans import minus, union

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bintrades.core.spans import Span
    from bintrades.model import RecordedDifference

MINUTE_MS = 60_000
MAX_SUSPECTS = 1_000
"""Units that are looked at again at a time; where more differ, they wait for a later turn."""

_SPREAD_MS = 1_000  # from one symbol's first turn to the next one's, of few
_NEVER = 2**63


@dataclass(frozen=True, slots=True)
class AuditTimes:
    """How often the audit looks, and how long it waits. Milliseconds."""

    every_ms: int = 30 * MINUTE_MS
    """From one turn of a symbol to the next."""

    behind_ms: int = 5 * MINUTE_MS
    """How old a minute is when it is compared: klines may be revised shortly after their end."""

    again_ms: int = 5 * MINUTE_MS
    """Until what differs is looked at again, and what was rebuilt."""

    backlog_ms: int = 5_000
    """From one turn to the next of a symbol with a backlog: by then the first is on record."""

    postponed_ms: int = 30 * MINUTE_MS
    """Until that of which nothing could be told is compared again; twice as long each time."""

    postponed_at_most_ms: int = 24 * 60 * MINUTE_MS


AUDIT_TIMES = AuditTimes()


class Stage(StrEnum):
    """What is to be done with a unit that differs, one after the other."""

    LOOK_AGAIN = "look again"
    NARROW = "narrow"
    """Find the bars, with finer klines."""

    REBUILD = "rebuild"
    """Make them again of the exchange's trades."""

    CONFIRM = "confirm"
    """See whether they agree now."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A unit of a symbol that differed, or of which a bar contradicts itself."""

    symbol: str
    span: Span
    stage: Stage = Stage.LOOK_AGAIN
    differences: tuple[RecordedDifference, ...] = ()
    """What differs by klines, as it would go on record: of the unit or, once narrowed, of bars."""

    bars: tuple[int, ...] = ()
    """Open times of the bars to be made again, at the stage REBUILD; none: all of the unit."""

    rebuilt: tuple[tuple[int, int], ...] = ()
    """Open times and epochs of those that were made again."""

    proven: tuple[int, ...] = ()
    """Open times of the bars, or intervals without one, of which all trades were asked for: they
    were of these, or were made again of them."""

    is_too_large: bool = False
    """Whether it has more trades than can be asked for, and so is not made again."""


@dataclass(slots=True)
class _Postponed:
    span: Span
    until: int
    wait_ms: int


class AuditSchedule:
    """The turns of all symbols. *now* is milliseconds, monotonic. Belongs to one thread."""

    def __init__(self, symbols: Sequence[str], times: AuditTimes, now: int) -> None:
        self._times = times
        spread = min(times.every_ms // max(1, len(symbols)), _SPREAD_MS)
        self._entries: list[tuple[int, int, Suspect | str]] = [
            (now + place * spread, place, name) for place, name in enumerate(symbols)
        ]
        self._count = len(symbols)  # of entries so far: of those due at once the earlier is first
        heapify(self._entries)
        self._taken: tuple[int, int, Suspect | str] | None = None
        self._held: dict[tuple[str, Span], None] = {}  # the units of the suspects
        self._postponed: dict[str, list[_Postponed]] = {}

    def wait_ms(self, now: int) -> int:
        """Return how long there is nothing to do."""
        return max(0, self._entries[0][0] - now) if self._entries else _NEVER

    def next(self, now: int) -> Suspect | str | None:
        """Return what is due and take it out: a suspect, or the symbol whose turn it is."""
        if not self._entries or now < self._entries[0][0]:
            return None
        self._taken = heappop(self._entries)
        return self._taken[2]

    def put_back(self) -> None:
        """Have what was taken out last be the next again: it could not even begin, or end."""
        if self._taken is not None:
            heappush(self._entries, self._taken)
            self._taken = None

    def give_turn(self, symbol: str, at: int) -> None:
        """Have the next turn of *symbol* be at a time."""
        heappush(self._entries, (at, self._next_count(), symbol))

    def forget(self, symbol: str) -> None:
        """Remember nothing of a symbol whose turn was taken out, and is not given again."""
        self._postponed.pop(symbol, None)

    def add_suspect(self, suspect: Suspect, at: int) -> bool:
        """Have a unit be looked at again at a time; return whether there is room for it."""
        key = (suspect.symbol, suspect.span)
        if key not in self._held and len(self._held) >= MAX_SUSPECTS:
            return False
        self._held[key] = None
        heappush(self._entries, (at, self._next_count(), suspect))
        return True

    def settle(self, suspect: Suspect) -> None:
        """Have the unit of a suspect be one like any other."""
        self._held.pop((suspect.symbol, suspect.span), None)

    def give_up(self, suspect: Suspect, now: int) -> None:
        """Leave the unit of a suspect for a later turn: nothing can be told now."""
        self.settle(suspect)
        self.postpone(suspect.symbol, [suspect.span], now)

    def postpone(self, symbol: str, spans: Iterable[Span], now: int) -> None:
        """Leave *spans* out of the turns for a while, longer each time."""
        longest = self._times.postponed_at_most_ms
        before = self._postponed.get(symbol, [])
        spans = union(spans)
        # What is over stays known for as long again: the next time takes twice as long.
        postponed = [
            each
            for each in before
            if now < each.until + each.wait_ms
            and not any(_overlap(each.span, span) for span in spans)
        ]
        for span in spans:
            waits = [2 * each.wait_ms for each in before if _overlap(each.span, span)]
            wait = min(max(waits, default=self._times.postponed_ms), longest)
            postponed.append(_Postponed(span, now + wait, wait))
        self._postponed[symbol] = postponed

    def left_out(self, symbol: str, now: int) -> list[Span]:
        """Return what no turn of *symbol* compares at the moment."""
        held = [span for name, span in self._held if name == symbol]
        waiting = [each.span for each in self._postponed.get(symbol, ()) if each.until > now]
        return union([*held, *waiting])

    def _next_count(self) -> int:
        self._count += 1
        return self._count


def next_page(
    covered: Iterable[Span], known: Iterable[Span], most_ms: int
) -> tuple[Span, bool] | None:
    """Return the oldest span to compare, of *most_ms* at most, and whether that leaves others.

    *covered* are whole units, *known* those that need no comparison. The span goes on beyond what
    is known in its midst: one request has all of it.
    """
    left = minus(covered, known)
    if not left:
        return None
    since = left[0][0]
    end = since + most_ms
    until = max(min(until, end) for first, until in left if first < end)
    return (since, until), left[-1][1] > until


def _overlap(one: Span, other: Span) -> bool:
    return one[0] < other[1] and other[0] < one[1]
