"""What is known of each symbol after damage: restored from its bars, its gaps and the spare file.

A checkpoint that cannot be read is rebuilt from the newest bars; what was lost with rows, or with a
whole file, becomes gaps, which are asked for like any others. All methods may raise sqlite3.Error.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bintrades.core.ledger import LedgerState, with_lost
from bintrades.core.write_batch import Checkpoint
from bintrades.journal import meta
from bintrades.journal.checkpoints import put_checkpoints
from bintrades.journal.connection import symbols_in, transaction
from bintrades.journal.damage import UnreadableRow, reading_rows
from bintrades.journal.gaps import delete_all, put_absent, put_gaps, read_absent, read_gaps
from bintrades.journal.lost import (
    delete_lost_bars,
    gaps_around_incomplete,
    is_outdated,
    lacks_newest,
    lost_gaps,
    read_lost_bars,
    rebuilt,
    unknown_gap,
)
from bintrades.journal.spare import read_spare, spare_file
from bintrades.util.clocks import utc_ms

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from bintrades.journal.meta import JournalScope
    from bintrades.journal.state import JournalState
    from bintrades.model import Gap

log = logging.getLogger(__name__)

_OF_SYMBOLS = ("blocks", "gaps", "absent", "proofs")  # tables with rows of symbols that have begun


class Restorer:
    """Restores the state of one opened file, in memory and in the file."""

    def __init__(
        self, connection: sqlite3.Connection, state: JournalState, path: Path, scope: JournalScope
    ) -> None:
        self._connection = connection
        self._state = state
        self._path = path
        self._scope = scope
        self._interval = scope.interval_ms

    def restore(self, reason: str | None) -> None:
        """Restore what a file that was just opened lacks; *reason* is what befell the one before.

        Raises UnreadableRow where the file has to be salvaged first.
        """
        state = self._state
        is_salvaged, are_gaps_lost = meta.read_salvaged(self._connection)
        on_record = self._symbols_on_record()
        is_known = on_record or state.checkpoints or state.corrupt or state.last_sequence
        if not (is_salvaged or is_known):
            self._restore_from_spare(reason)
            return
        if is_salvaged:
            on_record.update(symbol for symbol, _ in read_lost_bars(self._connection))
        self._rebuild_checkpoints(on_record)
        if not is_salvaged:
            self._look_for_newest()
        if not (is_salvaged or state.corrupt or state.corrupt_gaps):
            return
        lost = self.gaps_of_lost_rows(state.checkpoints) if is_salvaged else {}
        without_gaps = state.checkpoints if are_gaps_lost else state.corrupt_gaps
        doubtful = {
            symbol: [
                unknown_gap(0, 0, "its gaps could not be read"),
                *gaps_around_incomplete(
                    self._connection, symbol, state.checkpoints[symbol], self._interval
                ),
            ]
            for symbol in without_gaps.keys() & state.checkpoints.keys()
        }
        # One after the other: ids that are lost with a row are not missing once more beside it.
        self.save(with_lost_gaps(with_lost_gaps(state.checkpoints, lost), doubtful))

    def begin_with_gaps(self, symbols: Iterable[str]) -> None:
        """Have each symbol of which nothing is known begin with a gap, if a file was lost."""
        reason = meta.read_total_loss(self._connection)
        if reason is None:
            return
        known = self._state.checkpoints
        new = {symbol: begun_with_gap(reason) for symbol in symbols if symbol not in known}
        with transaction(self._connection):
            put_checkpoints(self._connection, new, utc_ms())
            for symbol, checkpoint in new.items():
                put_gaps(self._connection, symbol, (), checkpoint.ledger.gaps)
            meta.delete_total_loss(self._connection)
        self._state.checkpoints = known | new

    def gaps_of_lost_rows(self, checkpoints: Mapping[str, Checkpoint]) -> dict[str, list[Gap]]:
        """Return what is missing without the bars that a salvage could not read."""
        return {
            symbol: list(
                lost_gaps(self._connection, symbol, bars, checkpoints[symbol], self._interval)
            )
            for symbol, bars in read_lost_bars(self._connection)
            if symbol in checkpoints
        }

    def lose_all_bars(
        self, checkpoints: Mapping[str, Checkpoint], reason: str
    ) -> dict[str, list[Gap]]:
        """Give up the bars of the past, of which stores may have any; return their gaps."""
        known = {symbol: each.closed_through for symbol, each in checkpoints.items()}
        through = {symbol: last for symbol, last in known.items() if last is not None}
        self._state.lost_through = self._state.lost_through | through
        return {
            symbol: [unknown_gap(0, last + self._interval - 1, reason)]
            for symbol, last in through.items()
        }

    def save(self, checkpoints: Mapping[str, Checkpoint]) -> None:
        """Write what is known of all symbols, in place of what the file says of them."""
        connection, state = self._connection, self._state
        with transaction(connection):
            delete_all(connection)
            put_checkpoints(connection, checkpoints, utc_ms())
            for symbol, checkpoint in checkpoints.items():
                put_gaps(connection, symbol, (), checkpoint.ledger.gaps)
                put_absent(connection, symbol, (), checkpoint.ledger.absent)
            delete_lost_bars(connection)
            meta.delete_salvaged(connection)
            meta.put_sequence(connection, state.last_sequence)
            meta.put_lost_through(connection, state.lost_through)
        state.checkpoints = dict(checkpoints)

    def _symbols_on_record(self) -> set[str]:
        """Return the symbols of which the file knows anything, beside their checkpoints."""
        return {symbol for table in _OF_SYMBOLS for symbol in symbols_in(self._connection, table)}

    def _rebuild_checkpoints(self, on_record: set[str]) -> None:
        """Have each symbol that the file knows go on, also where its checkpoint cannot be read.

        A checkpoint that is gone, although the symbol is *on_record*, is no error to SQLite:
        without it the symbol would start afresh, and what it missed while nobody collected would
        not be asked for. Nor is an older one that is there again: trades that came since would be
        counted twice.
        """
        connection, state = self._connection, self._state
        spared = self._spared_checkpoints()
        for symbol in (on_record | spared.keys()) - state.checkpoints.keys():
            state.corrupt.setdefault(symbol, "its checkpoint is gone")
        for symbol, checkpoint in state.checkpoints.items():
            if is_outdated(connection, symbol, checkpoint):
                state.corrupt[symbol] = "its checkpoint is older than its newest bar"
        for symbol, reason in {**state.corrupt_gaps, **state.corrupt}.items():
            log.error(
                "what the journal knew of a symbol cannot be read; its bars show where to go on",
                extra={"event": "checkpoint_corrupt", "symbol": symbol, "error": reason},
            )
        if not state.corrupt:
            return
        gaps, _ = read_gaps(connection)
        absent = read_absent(connection)
        for symbol, reason in state.corrupt.items():
            known_gaps, known_absent = gaps.get(symbol, ()), absent.get(symbol, ())
            with reading_rows():  # of the newest bars, which may be corrupt as well
                found = rebuilt(connection, symbol, known_gaps, known_absent, self._scope)
            state.checkpoints[symbol] = found or spared.get(symbol) or begun_with_gap(reason)

    def _spared_checkpoints(self) -> dict[str, Checkpoint]:
        """Return what is known of the symbols of this journal beside its file."""
        with suppress(ValueError, OSError):
            spare = read_spare(self._path)
            if spare is not None and spare.scope == self._scope:
                return spare.checkpoints
        return {}

    def _look_for_newest(self) -> None:
        """Raise UnreadableRow where bars are gone without an error, but are not on record."""
        state = self._state
        for symbol, checkpoint in state.checkpoints.items():
            gone = max(state.pruned_through.get(symbol, -1), state.lost_through.get(symbol, -1))
            if lacks_newest(self._connection, symbol, checkpoint, gone, self._interval):
                raise UnreadableRow(f"the newest bars of {symbol} are missing without any error")

    def _restore_from_spare(self, reason: str | None) -> None:
        """Go on where the spare file says that a journal was, if the file is a new one."""
        try:
            spare = read_spare(self._path)
        except (ValueError, OSError) as error:
            reason = reason or f"its file is gone, and {spare_file(self._path)} is corrupt: {error}"
            spare = None
        if spare is not None and spare.scope != self._scope:
            return  # of another journal that was here
        if spare is None and reason is not None:
            log.error(
                "all that was known of the symbols is lost with the journal: each begins with a gap"
                " of unknown size",
                extra={
                    "event": "checkpoints_lost",
                    "journal": str(self._path),
                    "error": reason,
                },
            )
            meta.put_total_loss(self._connection, reason)
        if spare is None or not spare.checkpoints:
            return
        reason = reason or "its file is gone"
        log.error(
            "the journal is lost; collecting goes on where %s says that it was, what came since is"
            " missing and asked for again. To start from scratch, stop, and delete both files",
            spare_file(self._path),
            extra={"event": "journal_lost", "journal": str(self._path), "error": reason},
        )
        lost = self.lose_all_bars(spare.checkpoints, reason)
        self.save(with_lost_gaps(spare.checkpoints, lost))


def begun_with_gap(reason: str) -> Checkpoint:
    """Return what is known of a symbol of which something unknown was lost."""
    return Checkpoint(with_lost(LedgerState(None, None, ()), [unknown_gap(0, 0, reason)]))


def with_lost_gaps(
    checkpoints: Mapping[str, Checkpoint], lost: Mapping[str, Sequence[Gap]]
) -> dict[str, Checkpoint]:
    """Return *checkpoints* with what is missing again of some symbols."""
    return {
        symbol: replace(checkpoint, ledger=with_lost(checkpoint.ledger, lost.get(symbol, ())))
        for symbol, checkpoint in checkpoints.items()
    }
