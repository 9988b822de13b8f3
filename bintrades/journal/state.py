"""What the writer knows of its file without asking it: read at the opening, moved on by commits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bintrades.core.gap_times import GapTimes
from bintrades.journal.check import has_corrupt_counts, lacks_gaps
from bintrades.journal.checkpoints import delete_corrupt_proofs, read_checkpoints
from bintrades.journal.damage import UnreadableRow
from bintrades.journal.excluded import are_any_excluded, with_newest_fills
from bintrades.journal.gaps import read_absent, read_gaps
from bintrades.journal.meta import (
    read_found_damaged,
    read_lost_through,
    read_reopened,
    read_sequence,
)
from bintrades.journal.positions import delete_corrupt_positions
from bintrades.journal.pruning import delete_corrupt_marks, newest_mark, read_pruned
from bintrades.journal.surplus import mend_surplus, read_surplus

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection

    from bintrades.core.write_batch import Checkpoint, IdRange, Key
    from bintrades.model import Bar, Gap


@dataclass(slots=True)
class JournalState:
    """The memory of one opened file. Belongs to the writer's thread."""

    last_sequence: int
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict)
    lost_through: dict[str, int] = field(default_factory=dict)
    """Open time of each symbol's newest bar that was lost with an earlier file."""

    pruned_through: dict[str, int] = field(default_factory=dict)
    """Newest open time of each symbol of which a bar was pruned."""

    reopened: dict[str, list[IdRange]] = field(default_factory=dict)
    """Ids that are missing again after they were held to be absent, when bars may have left."""

    unproven: dict[str, set[int]] = field(default_factory=dict)
    """Open times of the stored bars of each symbol that end later than is proven, once they were
    looked for: its newest ones, since a trade of the next bar proves what comes before it."""

    surplus: frozenset[Key] = frozenset()
    """The bars where the exchange has no trades."""

    marked_at: int = 0  # when the age of bars was last marked, on the exchange's clock
    examined_through: int = 0  # sequence up to which bars were pruned, or had to stay
    reexamined_through: int = 0  # up to which those that had to stay were examined again
    corrupt: dict[str, str] = field(default_factory=dict)
    """Symbols whose checkpoint cannot be read, and why."""

    corrupt_gaps: dict[str, str] = field(default_factory=dict)
    """Symbols with gaps that cannot be read, and why."""

    _gap_times: dict[str, GapTimes] = field(default_factory=dict)

    def gaps_of(self, symbol: str) -> tuple[Gap, ...]:
        """Return what is missing of a symbol, as last committed."""
        checkpoint = self.checkpoints.get(symbol)
        return checkpoint.ledger.gaps if checkpoint else ()

    def absent_of(self, symbol: str) -> tuple[Gap, ...]:
        """Return what does not exist of a symbol, as last committed."""
        checkpoint = self.checkpoints.get(symbol)
        return checkpoint.ledger.absent if checkpoint else ()

    def has_gap_in(
        self, symbol: str, checkpoint: Checkpoint, open_time_ms: int, interval_ms: int
    ) -> bool:
        """Whether a gap of *checkpoint* touches the interval that opens then."""
        times = self._gap_times.get(symbol)
        if times is None:
            times = self._gap_times[symbol] = GapTimes()
        times.update(checkpoint.ledger.gaps)
        return times.touch(open_time_ms, interval_ms)

    def is_complete(
        self, bar: Bar, checkpoints: dict[str, Checkpoint], surplus: Collection[Key]
    ) -> bool:
        """Whether *bar* is proven to have all of its trades, and no others.

        By *checkpoints* its trades were collected from the first on, every one before its end is
        known, and no gap touches it; nothing of it may have been lost, it is none of *surplus*, and
        no aggregates stand in for its trades.
        """
        if bar.is_approximate or (bar.symbol, bar.open_time_ms) in surplus:
            return False
        if bar.open_time_ms <= self.lost_through.get(bar.symbol, -1):
            return False
        checkpoint = checkpoints.get(bar.symbol)
        if checkpoint is None or not checkpoint.proves(bar.end_time_ms):
            return False
        if bar.open_time_ms < (checkpoint.covered_since_ms or 0):
            return False  # who began in the middle of it has not seen all of it
        return not self.has_gap_in(bar.symbol, checkpoint, bar.open_time_ms, bar.interval_ms)


def read_state(connection: sqlite3.Connection) -> JournalState:
    """Return the state of a file. Raises UnreadableRow where salvage is needed, sqlite3.Error."""
    state = JournalState(read_sequence(connection))
    delete_corrupt_marks(connection)
    delete_corrupt_proofs(connection)
    delete_corrupt_positions(connection, state.last_sequence)
    mend_surplus(connection)
    if found := read_found_damaged(connection):
        raise UnreadableRow(found)
    if has_corrupt_counts(connection):
        raise UnreadableRow("the counts are invalid")
    if lacks_gaps(connection):
        raise UnreadableRow("gaps are missing that were counted")
    gaps, state.corrupt_gaps = read_gaps(connection)
    absent = read_absent(connection)
    state.checkpoints, state.corrupt = read_checkpoints(connection, gaps, absent)
    if are_any_excluded(connection):
        state.checkpoints = with_newest_fills(connection, state.checkpoints)
    state.lost_through = read_lost_through(connection, state.checkpoints)
    state.pruned_through = read_pruned(connection, state.checkpoints)
    state.reopened = read_reopened(connection, state.checkpoints)
    state.surplus = read_surplus(connection)
    state.marked_at = newest_mark(connection)
    return state
