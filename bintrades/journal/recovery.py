"""The writer's file: opened in whatever state it is, and recovered when it is damaged or gone.

What can be read of a damaged file is salvaged into a new one, and the damaged one is quarantined,
never deleted. Trades that are lost with it are missing again.
"""

from __future__ import annotations

import logging
import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from bintrades.core.gap_changes import changed_part
from bintrades.errors import ConfigError, JournalError, JournalInUse
from bintrades.journal import meta
from bintrades.journal.bars import DELETE_BAR, get_bar
from bintrades.journal.checkpoints import put_checkpoints
from bintrades.journal.connection import connect, transaction
from bintrades.journal.damage import UnreadableRow, is_damaged, quarantine
from bintrades.journal.gaps import put_gaps
from bintrades.journal.lock import identity, lock_journal, tighten, what_to_do
from bintrades.journal.lost import corrupt_beside, lost_gaps
from bintrades.journal.migrations import create_schema
from bintrades.journal.restore import Restorer, begun_with_gap, with_lost_gaps
from bintrades.journal.salvage import Salvage, salvage_file, take_over_finished
from bintrades.journal.spare import read_spare
from bintrades.journal.state import JournalState, read_state
from bintrades.util.clocks import utc_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from bintrades.core.write_batch import Checkpoint, Key
    from bintrades.journal.meta import JournalScope
    from bintrades.model import Bar, Gap

_T = TypeVar("_T")
_HEADER = b"SQLite format 3\0"
_SALVAGE_WAIT_S = 1.0  # for what can be read of a small damaged file to be saved
_LOCK_TIMEOUT_S = 0.25  # what cannot be written now waits in memory: nothing else may wait for it

log = logging.getLogger(__name__)


class RecoverableFile:
    """One journal's connection, its lock and its state. Belongs to one thread at a time.

    Raises ConfigError, JournalInUse and JournalError as Journal does.
    """

    def __init__(self, path: Path, scope: JournalScope) -> None:
        self.scope = scope
        self.lost: dict[str, list[Gap]] = {}  # what is missing again, for whoever builds bars
        self._path = path
        self._identity = (0, 0)  # to notice when somebody has removed the file
        self._is_open = True  # False: the file is damaged or gone, and no new one is there yet
        self._damage: str | None = None  # what is wrong with a file that can be read in part
        self._salvage: Salvage | None = None  # which saves that part now
        self._is_salvaged = False  # whether the new file has what could be saved
        self._lock = lock_journal(path)
        try:
            self.connection, self.state = self._open()
        except BaseException:
            self._lock.close()
            raise

    @property
    def is_open(self) -> bool:
        """Whether there is a file to read and write; else with_recovery() will make one."""
        return self._is_open

    def close(self) -> None:
        """Close the file and let others have it."""
        if self._salvage is not None:
            self._salvage.stop()  # the damaged file is where it was
        self.connection.close()
        self._lock.close()

    def get(self, key: Key) -> Bar | None:
        """Return the stored bar of *key*. Raises UnreadableRow, sqlite3.Error."""
        return get_bar(self.connection, self.scope, key)

    def begin_with_gaps(self, symbols: Iterable[str]) -> None:
        """Have each symbol of which nothing is known begin with a gap, if a file was lost."""
        self._restorer(self.connection, self.state).begin_with_gaps(symbols)

    def with_recovery(self, use: Callable[[], _T]) -> _T:
        """Return what *use* returns, which works on the file; raise JournalError if it cannot.

        When the file turns out to be damaged, what can be read of it is saved, and *use* is tried
        on that. A large file takes a while: until then JournalError is raised.
        """
        try:
            if self._is_open and self._identity != identity(self._path):
                self._quarantine_replaced()
            if not self._is_open:
                self._continue_in_new_file()
            try:
                return self._despite_corrupt_rows(use)
            except sqlite3.Error as error:
                if not is_damaged(error):
                    raise
                self._begin_salvage(str(error))
                self._continue_in_new_file()
                return self._despite_corrupt_rows(use)
        except (sqlite3.Error, OSError) as error:
            raise JournalError(f"{self._path}: {error}") from error

    def salvage(self, reason: str, file: tuple[int, int]) -> None:
        """Save what can be read of the file, unless it is another one than *file* by now.

        Raises JournalError while it goes on.
        """
        if self._is_open and self._identity == file:
            self._begin_salvage(reason)
        self.with_recovery(lambda: None)

    # Opening

    def _open(self) -> tuple[sqlite3.Connection, JournalState]:
        """Open the journal, what can be read of it, or a new one, and restore what was lost."""
        try:
            take_over_finished(self._path)
            self._lock.hold()
            tighten(self._path)
            reason = None
            if _lacks_header(self._path):
                reason = "it does not begin as an SQLite file does"
                self._quarantine(reason)
            try:
                return self._open_and_restore(reason)
            except (sqlite3.Error, JournalError) as error:
                if not is_damaged(_cause(error)):
                    raise
                reason = str(_cause(error))
                self._log_damage(reason)
                salvage = self._start_salvage(set())
                salvage.wait()  # however long it takes
                self._put_in_place(salvage, reason)
                return self._open_and_restore(reason)
        except JournalInUse:
            raise
        except (sqlite3.Error, OSError, JournalError) as error:
            cause = _cause(error)
            if cause is None:
                raise
            advice = what_to_do(cause, "make the file and its folder writable")
            raise JournalError(f"{self._path}: cannot be used: {cause}; {advice}") from error

    def _open_and_restore(self, reason: str | None) -> tuple[sqlite3.Connection, JournalState]:
        connection, state = self._connect()
        try:
            self._restorer(connection, state).restore(reason)
        except BaseException:
            connection.close()
            raise
        return connection, state

    def _connect(self) -> tuple[sqlite3.Connection, JournalState]:
        """Open the file that is there, or make it, with today's schema."""
        self._lock.hold()
        connection = connect(self._path, accepts_older=True, lock_timeout_s=_LOCK_TIMEOUT_S)
        try:
            create_schema(connection)
            try:
                meta.keep_scope(connection, self.scope)
            except ConfigError as error:
                raise ConfigError(f"{self._path}: {error}") from error
            state = read_state(connection)
            self._identity = identity(self._path)
        except BaseException:
            connection.close()
            raise
        return connection, state

    def _restorer(self, connection: sqlite3.Connection, state: JournalState) -> Restorer:
        return Restorer(connection, state, self._path, self.scope)

    # A file that is damaged or gone

    def _quarantine_replaced(self) -> None:
        if self._path.exists():
            self._lock.hold()  # unless another collector has started it
        self._is_open = False
        self.connection.close()
        self._quarantine("somebody has removed or replaced the file")

    def _begin_salvage(self, reason: str) -> None:
        self._is_open = False
        self._damage = reason
        self.connection.close()
        self._log_damage(reason)

    def _start_salvage(self, symbols: set[str]) -> Salvage:
        """Begin to salvage the file, which has bars of *symbols* as far as is known."""
        with suppress(ValueError, OSError):
            spare = read_spare(self._path)
            symbols |= spare.checkpoints.keys() if spare is not None else set()
        new = salvage_file(self._path)
        salvage = Salvage(self._path, new, interval_ms=self.scope.interval_ms, symbols=symbols)
        salvage.start()
        return salvage

    def _continue_in_new_file(self) -> None:
        """Recreate the file, with what can be read of a damaged one once that is saved."""
        if self._damage is not None:
            if self._salvage is None:
                self._salvage = self._start_salvage(set())
            if not self._salvage.wait(_SALVAGE_WAIT_S):
                raise JournalError(
                    f"{self._path}: is damaged ({self._damage}); what can be read of it is being"
                    f" saved, {self._salvage.bars} bars so far"
                )
            salvage, self._salvage = self._salvage, None
            self._put_in_place(salvage, self._damage)
            self._is_salvaged, self._damage = salvage.is_readable, None
        self._recreate()

    def _put_in_place(self, salvage: Salvage, reason: str) -> None:
        """Quarantine the damaged file, and put what could be saved of it in its place."""
        if salvage.error is not None:
            raise JournalError(
                f"{self._path}: is damaged ({reason}), and what can be read of it cannot be saved:"
                f" {salvage.error}; make room on its disk"
            )
        if not salvage.is_readable:
            self._quarantine(reason)
            return
        aside = quarantine(self._path)
        salvage_file(self._path).rename(self._path)
        log.error(
            "what could be read of the damaged journal was saved; the damaged file was quarantined,"
            " and what it lacks is missing again, see `bintrades gaps`",
            extra={
                "event": "journal_salvaged",
                "journal": str(self._path),
                "aside": str(aside),
                "bars": salvage.bars,
                "unreadable_bars": salvage.lost_bars,
                "error": reason,
            },
        )

    def _recreate(self) -> None:
        """Go on in a new file, with what is known of each symbol.

        The sequence goes on too: a store that is taking bars from the old file will move its
        cursor in the new one.
        """
        before = self.state.checkpoints
        connection, state = self._connect()
        try:
            state.last_sequence = max(self.state.last_sequence, state.last_sequence)
            restorer = self._restorer(connection, state)
            if self._is_salvaged:
                lost = restorer.gaps_of_lost_rows(before)
            else:
                state.lost_through = self.state.lost_through
                lost = restorer.lose_all_bars(before, "its file was corrupt or removed")
            restorer.save(with_lost_gaps(before, lost))
        except BaseException:
            connection.close()
            raise
        self.connection, self.state = connection, state
        self._record_lost(before, {symbol: state.checkpoints[symbol] for symbol in lost})
        self._is_open, self._is_salvaged = True, False

    def _quarantine(self, reason: str) -> None:
        """Set a file aside of which nothing can be read."""
        aside = quarantine(self._path)
        log.error(
            "the journal is damaged or gone, and nothing of it can be read; it was quarantined and"
            " a new one is created, stores keep what they have, and `sqlite3 FILE .recover` may"
            " save what they lack",
            extra={
                "event": "journal_quarantined",
                "journal": str(self._path),
                "aside": str(aside),
                "error": reason,
            },
        )

    def _log_damage(self, reason: str) -> None:
        log.error(
            "the journal is damaged; what can be read of it is being saved, bars wait in memory",
            extra={"event": "journal_damaged", "journal": str(self._path), "error": reason},
        )

    # Single rows

    def _despite_corrupt_rows(self, use: Callable[[], _T]) -> _T:
        while True:
            try:
                return use()
            except UnreadableRow as error:
                if error.key is None:
                    raise
                self._lose_row(error.key, str(error))

    def _lose_row(self, key: Key, reason: str) -> None:
        """Delete a bar whose values are corrupt; its trades are missing again."""
        symbol, open_time = key
        log.error(
            "a bar of the journal cannot be read; its trades are missing again",
            extra={
                "event": "bar_corrupt",
                "symbol": symbol,
                "open_time": open_time,
                "error": reason,
            },
        )
        checkpoint = self.state.checkpoints.get(symbol) or begun_with_gap(reason)
        with transaction(self.connection):
            bars = self._delete_corrupt(key, reason)
            interval = self.scope.interval_ms
            lost = list(lost_gaps(self.connection, symbol, bars, checkpoint, interval))
            after = with_lost_gaps({symbol: checkpoint}, {symbol: lost})[symbol]
            put_checkpoints(self.connection, {symbol: after}, utc_ms())
            changed = changed_part(checkpoint.ledger.gaps, after.ledger.gaps)
            put_gaps(self.connection, symbol, *changed)
        self.state.checkpoints = {**self.state.checkpoints, symbol: after}
        self._record_lost({symbol: checkpoint}, {symbol: after})

    def _delete_corrupt(self, key: Key, reason: str) -> list[tuple[int, str]]:
        """Delete the row of *key* and corrupt ones beside it, as rows of one page may be.

        Return their open times, ascending, and why.
        """
        symbol, open_time = key
        lost = {open_time: reason}
        self.connection.execute(DELETE_BAR, key)
        while (beside := corrupt_beside(self.connection, symbol, open_time)) is not None:
            self.connection.execute(DELETE_BAR, (symbol, beside))
            lost[beside] = "its ids cannot be read"
        return sorted(lost.items())

    def _record_lost(
        self, before: Mapping[str, Checkpoint], after: Mapping[str, Checkpoint]
    ) -> None:
        """Keep for whoever builds bars what went missing, but not what was missing before.

        That may have come by now: it waits to be written, and would be counted twice.
        """
        for symbol, checkpoint in after.items():
            _, new = changed_part(before[symbol].ledger.gaps, checkpoint.ledger.gaps)
            self.lost.setdefault(symbol, []).extend(new)


def _cause(error: BaseException) -> BaseException | None:
    """Return what is behind a JournalError, or *error* itself."""
    return error.__cause__ if isinstance(error, JournalError) else error


def _lacks_header(path: Path) -> bool:
    """Whether a file that holds something, or whose log does, is not SQLite's.

    Asked before opening, since SQLite deletes the log of a file that it cannot read.
    """
    files = [path, path.with_name(path.name + "-wal")]
    beginning = [_first_bytes(file, len(_HEADER)) for file in files]
    return any(beginning) and beginning[0] != _HEADER


def _first_bytes(path: Path, count: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(count)
    except FileNotFoundError:
        return b""
