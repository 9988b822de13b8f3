"""What of each symbol is covered, from what the journal has on record.

All functions may raise sqlite3.Error and UnreadableRow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from bintrades.core.coverage import SURPLUS, Collected, HoleCause, Missing, coverage_of
from bintrades.journal.checkpoints import collected_rows
from bintrades.journal.damage import reading_rows
from bintrades.journal.gaps import STATE_OF_GAP
from bintrades.journal.meta import read_lost_through, read_scope
from bintrades.model import GapCause, GapOutcome, GapState

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    from bintrades.core.coverage import Coverage
    from bintrades.core.spans import Span

_HOLES = (
    f"SELECT since, until, {STATE_OF_GAP}, cause FROM gaps"  # noqa: S608 - constants
    " WHERE symbol = :symbol AND until >= :from"
    f" UNION ALL SELECT since, until, outcome, cause FROM past_gaps INDEXED BY past_gaps_late"
    f" WHERE symbol = :symbol AND until >= :from AND outcome = '{GapOutcome.LATE}'"
    f" UNION ALL SELECT open_time, open_time, '{SURPLUS.state}', '{SURPLUS.cause}' FROM surplus"
    " WHERE symbol = :symbol AND open_time > :from - :interval"
)
"""What is in no bar: gaps, and trades that came when their bar had left, which has an index; and
bars that should not be."""

_DIGEST = (
    "SELECT count(*), sum(since), sum(until), sum(since % 1000003 * (until % 1000033))"  # noqa: S608
    f" FROM ({_HOLES}) WHERE since < :before"
)

_LOST = HoleCause(GapState.ABANDONED, GapCause.LOST)
_OF_AGGREGATES = HoleCause(GapState.APPROXIMATED, "aggregates of futures")


class _OpenBar(msgspec.Struct, array_like=True):
    """The beginning of a bar as a checkpoint has it: the rest does not matter here."""

    symbol: str
    market: str
    open_time_ms: int


_open_bars = msgspec.json.Decoder(tuple[_OpenBar, ...])


class SymbolCoverage(NamedTuple):
    """What of a symbol is covered, and what of that was found to be what the exchange has."""

    symbol: str
    coverage: Coverage
    proven_ms: int
    """Up to when every trade was had, or is in a hole."""
    verified: Sequence[Span] = ()
    """Only where it was asked for."""


@dataclass(frozen=True, slots=True)
class OnRecord:
    """What is on record of a symbol at one commit; its holes are read when they are asked for."""

    symbol: str
    since_ms: int
    """Since when its trades are collected."""
    proven_ms: int
    open_times: Sequence[int]
    lost_through_ms: int | None
    """Open time of the newest bar that was lost with an earlier file."""
    interval_ms: int
    connection: sqlite3.Connection
    is_approximate: bool = False
    """Whether all bars are, since their stream is: nothing is covered then."""

    def coverage(self, from_ms: int = 0) -> Coverage:
        """Return what is covered; holes before *from_ms* are not read."""
        values = {"symbol": self.symbol, "from": from_ms, "interval": self.interval_ms}
        rows = self.connection.execute(_HOLES, values)
        with reading_rows():
            missing = [
                Missing(int(first), int(last), HoleCause(str(state), str(cause)))
                for first, last, state, cause in rows
            ]
        if self.lost_through_ms is not None:
            missing.append(Missing(0, self.lost_through_ms + self.interval_ms - 1, _LOST))
        if self.is_approximate:
            missing.append(Missing(0, self.proven_ms, _OF_AGGREGATES))
        collected = Collected(self.since_ms, self.proven_ms, self.open_times, missing)
        return coverage_of(collected, self.interval_ms)

    def digest_of_holes(self, before_ms: int) -> tuple[object, ...]:
        """Return what is another one where there are other holes that begin before then.

        To read them would cost ten times as much.
        """
        values = {"symbol": self.symbol, "from": 0, "interval": 0, "before": before_ms}
        return tuple(self.connection.execute(_DIGEST, values).fetchone())


def read_on_record(connection: sqlite3.Connection, symbol: str | None = None) -> Iterator[OnRecord]:
    """Yield what is on record of one symbol, or of all of which anything is proven, by name.

    To be of one commit it has to be read within one transaction.
    """
    scope = read_scope(connection)
    interval_ms, is_approximate = scope.interval_ms, scope.is_approximate
    lost_through = read_lost_through(connection, {})
    for name, since, proven, open_bars in collected_rows(connection, symbol):
        with reading_rows():
            since, proven = int(since), int(proven)
            open_times = [bar.open_time_ms for bar in _open_bars.decode(open_bars)]
        lost = lost_through.get(name)
        yield OnRecord(
            name, since, proven, open_times, lost, interval_ms, connection, is_approximate
        )


def read_coverage(
    connection: sqlite3.Connection, symbol: str | None, since_ms: int = 0
) -> Iterator[SymbolCoverage]:
    """Yield what is covered of one symbol or of all, by name; holes before *since_ms* are not.

    To be of one commit it has to be read within one transaction.
    """
    for each in read_on_record(connection, symbol):
        yield SymbolCoverage(each.symbol, each.coverage(since_ms), each.proven_ms)
