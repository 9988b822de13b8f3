"""The local truth: bars, gaps, and what each store already has. One SQLite file in WAL mode.

A bar is one row per (symbol, open_time). Each version takes the next number of a sequence, and a
store's cursor is the last number it took: an amended bar is thereby delivered again, and after an
outage a store gets only the newest version of each bar. Bars that still take trades are saved apart
from those, in one short row per symbol: it is written every second, and a row beside thousands
of older bars would cost a whole page of the file each time.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import sqlite3
import time
from bisect import bisect_left
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec.structs import replace

from bintrades.core.gap_times import GapTimes
from bintrades.core.ledger import (
    DISORDER_MS,
    LedgerState,
    changed_part,
    changed_spans,
    no_longer_missing,
    with_lost,
)
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.errors import ConfigError, JournalError, JournalInUse
from bintrades.journal.bars import GET_BAR, PRUNABLE, PUT_BAR, pages
from bintrades.journal.check import has_nonsense_counts, lacks_gaps
from bintrades.journal.file import (
    GAP_COLUMNS,
    UnreadableRow,
    bar_from_row,
    bar_row,
    connect,
    decode_open_bars,
    encode_open_bars,
    gap_from_row,
    gap_row,
    is_damaged,
    reading_rows,
    set_aside,
    symbols_in,
)
from bintrades.journal.lock import identity, lock_journal, tighten, what_to_do
from bintrades.journal.lost import (
    gaps_around_incomplete,
    is_outdated,
    lacks_newest,
    lost_gaps,
    rebuilt,
    spoilt_beside,
    unknown_gap,
)
from bintrades.journal.meta import (
    LOST_THROUGH,
    RATE_LIMIT_BAN,
    REOPENED,
    Kind,
    checked_place,
    decode_ban,
    forget_nonsense,
    keep_kind,
    read_found_damaged,
    read_lost_through,
    read_pruned,
    read_reopened,
    read_sequence,
)
from bintrades.journal.resend import earliest_place
from bintrades.journal.salvage import (
    GAPS_UNREADABLE,
    SALVAGED,
    Salvage,
    salvage_file,
    take_over_finished,
)
from bintrades.journal.schema import create_schema, transaction
from bintrades.journal.spare import (
    Spare,
    before_unfinished,
    read_spare,
    spare_file,
    write_spare,
)
from bintrades.journal.wal import WalLimit
from bintrades.model import ABSENT, LATE, REPAIRED, SKIPPED, UNWANTED, Gap, GapOutcome
from bintrades.util.clocks import utc_ms
from bintrades.util.logs import LimitedLog

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from bintrades.core.ban import Ban
    from bintrades.core.write_batch import Key
    from bintrades.journal.meta import IdRange
    from bintrades.journal.resend import Place
    from bintrades.model import Bar

_T = TypeVar("_T")
_HEADER = b"SQLite format 3\0"

log = logging.getLogger(__name__)

NOTHING_KNOWN = "lost"
"""Name of the fact that a file was lost with all that was known of its symbols, and why."""

_STAND_STILL_S = 1.0  # for what can be read of a small damaged file to be saved
_SPARE_EVERY_S = 60.0
_LOCK_TIMEOUT_S = 0.25  # what cannot be written now waits in memory: nothing else may wait for it

PRUNE_BATCH = 2_000
"""Rows looked at, and deleted, at a time, so that nobody waits long for the file's write lock."""

MARK_EVERY_MS = 60_000
"""How often it is noted how far the sequence has come, by which the age of bars is known."""

_LOOK_AGAIN = 500  # rows that had to stay, looked at each time, round and round

_DELETE_BAR = "DELETE FROM bars WHERE symbol = ? AND open_time = ?"
_DELETE_PAST_GAPS = (
    "DELETE FROM past_gaps WHERE (symbol, last_id) IN (SELECT symbol, last_id"  # noqa: S608
    f" FROM past_gaps WHERE closed_at < ? AND outcome <> '{LATE}' LIMIT ?)"  # what is lost stays
)


class Journal:
    """The one writer of the journal. Belongs to one thread at a time.

    Opening raises ConfigError for a file that is not ours, is of another market or interval or of
    a newer version, JournalInUse when another collector uses it, and JournalError when the disk
    refuses. What can be read of a damaged file is saved into a new one, and the damaged one set
    aside, never deleted. Trades that are lost with it are missing again.
    """

    def __init__(
        self,
        path: Path,
        *,
        market: str,
        interval_ms: int,
        exchange: str = "binance",
        stream: str = "trade",
        mark_every_ms: int = MARK_EVERY_MS,
    ) -> None:
        self.path = path
        self._mark_every = mark_every_ms
        self._marked_at = 0  # when `written` last got a row, on the exchange's clock
        self._pruned_through: dict[str, int] = {}  # newest open time of a bar that has left
        self._reopened: dict[str, list[IdRange]] = {}  # missing again when bars may have left
        self._interval = interval_ms
        self._kind = Kind(market, interval_ms, exchange, stream)
        self._checkpoints: dict[str, Checkpoint] = {}
        self._last_sequence = 0
        self._lost_through: dict[str, int] = {}  # open time of each symbol's newest lost bar
        self._gap_times: dict[str, GapTimes] = {}
        self._wal_limit = WalLimit(path)
        self.has_more_to_prune = False  # whether the last prune() left bars that it can delete
        self._looked_through = 0  # sequence up to which bars were pruned, or had to stay
        self._looked_again = 0  # up to which those that had to stay were looked at again
        self._file = (0, 0)  # device and number, to notice when somebody has removed it
        self._is_abandoned = False
        self._is_open = True  # False: the file is damaged or gone, and no new one is there yet
        self._damage: str | None = None  # what is wrong with a file that can be read in part
        self._salvage: Salvage | None = None  # which saves that part now
        self._is_salvaged = False  # whether the file that is begun anew has it
        self._spoilt: dict[str, str] = {}  # symbols whose checkpoint cannot be read, and why
        self._spoilt_gaps: dict[str, str] = {}  # symbols with gaps that cannot be read, and why
        self._lost: dict[str, list[Gap]] = {}  # what went missing again and nobody was told yet
        self._spared_at: float | None = None
        self._limited = LimitedLog(log, every_s=_SPARE_EVERY_S)
        self._lock = lock_journal(path)
        try:
            self._connection = self._open()
        except BaseException:
            self._lock.close()
            raise

    @property
    def checkpoints(self) -> dict[str, Checkpoint]:
        """Where each symbol was when it was last written."""
        return self._checkpoints

    def close(self) -> None:
        """Let go of the file; what was written stays."""
        if not self._is_abandoned:
            if self._salvage is not None:
                self._salvage.stop()  # the damaged file is where it was
            if self._is_open:
                self._keep_spare()
            self._connection.close()
            self._lock.close()

    def abandon(self) -> None:
        """Leave closing to the end of the process: a thread that hangs still uses the file."""
        self._is_abandoned = True

    def release(self, symbols: Collection[str], now_ms: int) -> None:
        """Give the stores the open bars of symbols other than *symbols*, as they are.

        Nobody continues them now, but they stay open for the day on which somebody does. After a
        file was lost, *symbols* begin with a gap of unknown size. Raises JournalError.
        """
        self._with_recovery(lambda: self._begin_with_gaps(symbols))
        bars = [
            bar
            for symbol, checkpoint in self._checkpoints.items()
            if symbol not in symbols
            for bar in checkpoint.open_bars
        ]
        left = self._with_recovery(lambda: self._beyond_stored(bars))
        if left:
            self.write(WriteBatch(finished=left), now_ms)

    def write(
        self,
        changes: WriteBatch,
        now_ms: int,
        status: str | None = None,
        *,
        exchange_ms: int | None = None,
    ) -> None:
        """Commit *changes*, all or nothing; *now_ms* becomes the updated_at of what is new.

        From *exchange_ms*, the exchange's clock, the age of bars is counted (the same, if it is
        not given; 0: it is not known yet). Raises JournalError when the disk refuses: write the
        same changes again later.
        """
        at = now_ms if exchange_ms is None else exchange_ms
        self._marked_at = self._with_recovery(lambda: self._write(changes, now_ms, status, at))
        self._checkpoints = self._checkpoints | changes.checkpoints
        self._wal_limit.look(self._connection)
        if self._spared_at is None or time.monotonic() - self._spared_at >= _SPARE_EVERY_S:
            self._keep_spare()

    def take_lost(self) -> dict[str, list[Gap]]:
        """Return what of each symbol was had and is missing again since the last call.

        It is on record; whoever builds bars has to want it again.
        """
        lost, self._lost = self._lost, {}
        return lost

    def save_readable(self, reason: str, file: tuple[int, int]) -> None:
        """Save what can be read of the file, unless it is another one than *file* by now.

        A reader has found it damaged. Raises JournalError while it goes on.
        """
        if self._is_open and self._file == file:
            self._begin_salvage(reason)
        self._with_recovery(lambda: None)

    def lose_unreadable(self, keys: Iterable[Key]) -> None:
        """Have the trades of bars that a reader could not read be missing again.

        Unless their rows are well, or gone, by now. Raises JournalError.
        """
        for key in keys:
            self._with_recovery(partial(self._get, key))

    def prune(
        self,
        stores: Iterable[str],
        before_ms: int,
        had_for_a_while: Callable[[int], int] = lambda sequence: sequence,
    ) -> int:
        """Delete bars last written before *before_ms* that each of *stores* has; return how many.

        The local clock has no say in it: *before_ms* is a time of the exchange's clock. Bars that
        are not closed stay; those that one of *stores* refused or was to get again, until they are
        sent; those that a gap on record touches; and a symbol's newest bar, which the next gap
        would touch, until there is a newer one. *had_for_a_while* is told up to which number of
        the sequence all stores have everything, and returns which may be deleted.
        Raises JournalError.
        """
        names = list(stores)
        return self._with_recovery(lambda: self._prune(names, before_ms, had_for_a_while))

    def get_ban(self) -> Ban:
        """Return for how long the exchange wants no requests, as was last kept.

        Raises JournalError.
        """
        return decode_ban(self.get_meta(RATE_LIMIT_BAN))

    def set_ban(self, ban: Ban) -> None:
        """Keep for how long the exchange wants no requests. Raises JournalError."""
        self.set_meta(RATE_LIMIT_BAN, str(ban))

    def get_meta(self, name: str) -> str | None:
        """Return what was remembered under *name*, if anything. Raises JournalError."""
        try:
            row = self._connection.execute(
                "SELECT value FROM facts WHERE name = ?", (name,)
            ).fetchone()
        except sqlite3.Error as error:
            raise JournalError(f"{self.path}: {error}") from error
        return None if row is None else str(row[0])

    def set_meta(self, name: str, value: str) -> None:
        """Keep *value* under *name*. Raises JournalError."""
        try:
            self._put_fact(name, value)
        except sqlite3.Error as error:
            raise JournalError(f"{self.path}: {error}") from error

    def _open(self) -> sqlite3.Connection:
        try:
            return self._open_whatever_is_there()
        except JournalInUse:
            raise
        except (sqlite3.Error, OSError, JournalError) as error:
            cause = error.__cause__ if isinstance(error, JournalError) else error
            if cause is None:
                raise
            advice = what_to_do(cause, "make the file and its folder writable")
            raise JournalError(f"{self.path}: cannot be used: {cause}; {advice}") from error

    def _open_whatever_is_there(self) -> sqlite3.Connection:
        """Open the journal, what can be read of it, or a new one, and know what was lost."""
        take_over_finished(self.path)
        self._lock.hold()
        tighten(self.path)
        reason = None
        if _lacks_header(self.path):
            reason = "it does not begin as an SQLite file does"
            self._report_set_aside(reason)
        try:
            return self._open_and_recall(reason)
        except (sqlite3.Error, JournalError) as error:
            cause = error.__cause__ if isinstance(error, JournalError) else error
            if not is_damaged(cause):
                raise
            reason = str(cause)
            self._save_readable_now(reason)
            return self._open_and_recall(reason)

    def _open_and_recall(self, reason: str | None) -> sqlite3.Connection:
        connection = self._open_once()
        try:
            self._recall(connection, reason)
        except BaseException:
            connection.close()
            raise
        return connection

    def _save_readable_now(self, reason: str) -> None:
        """Save what can be read of a file that is not open, however long it takes."""
        self._report_damage(reason)
        salvage = self._make_salvage()
        salvage.start()
        salvage.wait()
        self._put_in_place(salvage, reason)

    def _make_salvage(self) -> Salvage:
        symbols = set(self._checkpoints)
        with suppress(ValueError, OSError):
            spare = read_spare(self.path)
            symbols |= spare.checkpoints.keys() if spare is not None else set()
        return Salvage(
            self.path, salvage_file(self.path), interval_ms=self._interval, symbols=symbols
        )

    def _put_in_place(self, salvage: Salvage, reason: str) -> None:
        """Set the damaged file aside, and what could be saved of it in its place."""
        if salvage.error is not None:
            raise JournalError(
                f"{self.path}: is damaged ({reason}), and what can be read of it cannot be saved:"
                f" {salvage.error}; make room on its disk"
            )
        if not salvage.is_readable:
            self._report_set_aside(reason)
            return
        aside = set_aside(self.path)
        salvage_file(self.path).rename(self.path)
        log.error(
            "what could be read of the damaged journal was saved; the damaged file was set aside,"
            " and what it lacks is missing again, as `bintrades gaps` tells",
            extra={
                "journal": str(self.path),
                "aside": str(aside),
                "bars": salvage.bars,
                "unreadable_bars": salvage.lost_bars,
                "error": reason,
            },
        )

    def _open_once(self) -> sqlite3.Connection:
        self._lock.hold()
        connection = connect(self.path, accepts_older=True, lock_timeout_s=_LOCK_TIMEOUT_S)
        try:
            create_schema(connection)
            self._keep_kind(connection)
            self._last_sequence = read_sequence(connection)
            forget_nonsense(connection, self._last_sequence)
            self._checkpoints = self._read_checkpoints(connection)
            self._lost_through = read_lost_through(connection, self._checkpoints)
            self._looked_through = self._looked_again = 0
            self._pruned_through = read_pruned(connection, self._checkpoints)
            self._reopened = read_reopened(connection, self._checkpoints)
            (marked_at,) = connection.execute("SELECT max(at) FROM written").fetchone()
            self._marked_at = marked_at or 0
            self._file = identity(self.path)
        except BaseException:
            connection.close()
            raise
        return connection

    def _read_checkpoints(self, connection: sqlite3.Connection) -> dict[str, Checkpoint]:
        """Return what is known of each symbol; where a row is spoilt, what its bars tell."""
        if found := read_found_damaged(connection):
            raise UnreadableRow(found)
        if has_nonsense_counts(connection):
            raise UnreadableRow("what is counted is nonsense")
        if lacks_gaps(connection):
            raise UnreadableRow("gaps are missing that were counted")
        gaps, self._spoilt_gaps = _read_gaps(connection)
        absent = _read_absent(connection)
        checkpoints = {}
        self._spoilt = {}
        for symbol, *row in connection.execute(
            "SELECT symbol, next_id, last_time, open_bars, closed_through FROM checkpoints"
        ).fetchall():
            known = tuple(gaps.get(symbol, ()))
            try:
                checkpoints[symbol] = _checkpoint(symbol, row, known, absent.get(symbol, ()))
            except UnreadableRow as error:
                self._spoilt[symbol] = str(error)
        return checkpoints

    def _rebuild_spoilt(self, connection: sqlite3.Connection, has_lost_rows: bool) -> None:
        """Have each symbol that the file knows go on, also where its checkpoint cannot be read.

        A checkpoint that is gone, although there are bars, is no error to SQLite: without it the
        symbol would begin anew, and what it missed while nobody collected would not be asked for.
        Nor is an older one that is there again: trades that came since would be counted twice.
        """
        spared = self._spared_checkpoints()
        known = {*symbols_in(connection, "blocks"), *spared}
        if has_lost_rows:
            rows = connection.execute("SELECT DISTINCT symbol FROM lost_bars")
            known.update(symbol for (symbol,) in rows)
        for symbol in known - self._checkpoints.keys():
            self._spoilt.setdefault(symbol, "its checkpoint is gone")
        for symbol, checkpoint in self._checkpoints.items():
            if is_outdated(connection, symbol, checkpoint):
                self._spoilt[symbol] = "its checkpoint is older than its newest bar"
        for symbol, reason in {**self._spoilt_gaps, **self._spoilt}.items():
            log.error(
                "what the journal knew of a symbol cannot be read; its bars tell where to go on",
                extra={"symbol": symbol, "error": reason},
            )
        if not self._spoilt:
            return
        gaps, _ = _read_gaps(connection)
        absent = _read_absent(connection)
        for symbol, reason in self._spoilt.items():
            with reading_rows():  # of the newest bars, which may be spoilt as well
                found = rebuilt(
                    connection,
                    symbol,
                    gaps.get(symbol, ()),
                    absent.get(symbol, ()),
                    self._kind,
                )
            self._checkpoints[symbol] = found or spared.get(symbol) or _begun_with_a_gap(reason)

    def _spared_checkpoints(self) -> dict[str, Checkpoint]:
        """Return what is known of the symbols of this journal beside its file."""
        with suppress(ValueError, OSError):
            spare = read_spare(self.path)
            if spare is not None and spare.kind == self._kind:
                return spare.checkpoints
        return {}

    def _recall(self, connection: sqlite3.Connection, reason: str | None) -> None:
        """Know what was lost with the file that was there before, *reason* being what befell it."""
        facts = dict(
            connection.execute(
                "SELECT name, value FROM facts WHERE name IN (?, ?)", (SALVAGED, GAPS_UNREADABLE)
            )
        )
        is_salvaged = SALVAGED in facts
        if not (is_salvaged or self._checkpoints or self._spoilt or self._last_sequence):
            self._recall_spared(connection, reason)
            return
        self._rebuild_spoilt(connection, has_lost_rows=is_salvaged)
        if not is_salvaged:
            self._look_for_newest(connection)
        if not (is_salvaged or self._spoilt or self._spoilt_gaps):
            return
        lost = self._lost_with_rows(connection, self._checkpoints) if is_salvaged else {}
        are_gaps_lost = GAPS_UNREADABLE in facts
        without_gaps = self._checkpoints if are_gaps_lost else self._spoilt_gaps
        for symbol in without_gaps.keys() & self._checkpoints.keys():
            lost.setdefault(symbol, []).extend(self._lost_with_gaps(connection, symbol))
        self._save_recalled(connection, _with_lost(self._checkpoints, lost))

    def _look_for_newest(self, connection: sqlite3.Connection) -> None:
        """Raise UnreadableRow where bars are gone without an error, but are not on record."""
        for symbol, checkpoint in self._checkpoints.items():
            gone = max(told.get(symbol, -1) for told in (self._pruned_through, self._lost_through))
            if lacks_newest(connection, symbol, checkpoint, gone, self._interval):
                raise UnreadableRow(f"the newest bars of {symbol} are missing without any error")

    def _lost_with_gaps(self, connection: sqlite3.Connection, symbol: str) -> list[Gap]:
        """Return what may be missing of a symbol whose gaps cannot be read."""
        return [
            unknown_gap(0, 0, "its gaps could not be read"),
            *gaps_around_incomplete(connection, symbol, self._interval),
        ]

    def _recall_spared(self, connection: sqlite3.Connection, reason: str | None) -> None:
        try:
            spare = read_spare(self.path)
        except (ValueError, OSError) as error:
            reason = reason or f"its file is gone, and {spare_file(self.path)} is spoilt: {error}"
            spare = None
        if spare is not None and spare.kind != self._kind:
            return  # of another journal that was here
        if spare is None and reason is not None:
            log.error(
                "all that was known of the symbols is lost with the journal: each begins with a gap"
                " of unknown size",
                extra={"journal": str(self.path), "error": reason},
            )
            connection.execute(
                "INSERT OR REPLACE INTO facts VALUES (?, ?)", (NOTHING_KNOWN, reason)
            )
        if spare is None or not spare.checkpoints:
            return
        reason = reason or "its file is gone"
        log.error(
            "the journal is lost; collecting goes on where %s says that it was, what came since is"
            " missing and asked for again. To begin anew instead, stop, and delete both files",
            spare_file(self.path),
            extra={"journal": str(self.path), "error": reason},
        )
        lost = self._all_lost(spare.checkpoints, reason)
        self._save_recalled(connection, _with_lost(spare.checkpoints, lost))

    def _all_lost(self, checkpoints: Mapping[str, Checkpoint], reason: str) -> dict[str, list[Gap]]:
        """Note that no bar of the past can be had: nobody knows which of them the stores have."""
        through = {symbol: each.closed_through for symbol, each in checkpoints.items()}
        self._lost_through = self._lost_through | through
        return {
            symbol: [unknown_gap(0, last + self._interval - 1, reason)]
            for symbol, last in through.items()
            if last >= 0
        }

    def _save_recalled(
        self, connection: sqlite3.Connection, checkpoints: Mapping[str, Checkpoint]
    ) -> None:
        """Write what is known of all symbols, in place of what the file says of them."""
        with transaction(connection):
            connection.execute("DELETE FROM gaps")
            connection.execute("DELETE FROM absent")
            self._put_checkpoints(connection, checkpoints, utc_ms())
            for symbol, checkpoint in checkpoints.items():
                self._put_gaps(connection, symbol, (), checkpoint.ledger.gaps)
                self._put_absent(connection, symbol, (), checkpoint.ledger.absent)
            connection.execute("DELETE FROM lost_bars")
            connection.execute(
                "DELETE FROM facts WHERE name IN (?, ?)", (SALVAGED, GAPS_UNREADABLE)
            )
            for name, value in (
                ("sequence", str(self._last_sequence)),
                (LOST_THROUGH, msgspec.json.encode(self._lost_through).decode()),
            ):
                connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))
        self._checkpoints = dict(checkpoints)

    def _lost_with_rows(
        self, connection: sqlite3.Connection, checkpoints: Mapping[str, Checkpoint]
    ) -> dict[str, list[Gap]]:
        """Return what is missing without the bars in lost_bars."""
        lost: dict[str, list[Gap]] = {}
        rows = connection.execute(
            "SELECT symbol, open_time, reason FROM lost_bars ORDER BY symbol, open_time"
        )
        for symbol, group in itertools.groupby(rows, key=lambda row: str(row[0])):
            checkpoint = checkpoints.get(symbol)
            if checkpoint is not None:
                bars = ((row[1], row[2]) for row in group)
                lost[symbol] = list(lost_gaps(connection, symbol, bars, checkpoint, self._interval))
        return lost

    def _begin_with_gaps(self, symbols: Iterable[str]) -> None:
        """Have each symbol of which nothing is known begin with a gap, if a file was lost."""
        reason = self.get_meta(NOTHING_KNOWN)
        if reason is None:
            return
        new = {
            symbol: _begun_with_a_gap(reason)
            for symbol in symbols
            if symbol not in self._checkpoints
        }
        with transaction(self._connection):
            self._put_checkpoints(self._connection, new, utc_ms())
            for symbol, checkpoint in new.items():
                self._put_gaps(self._connection, symbol, (), checkpoint.ledger.gaps)
            self._connection.execute("DELETE FROM facts WHERE name = ?", (NOTHING_KNOWN,))
        self._checkpoints = self._checkpoints | new

    def _keep_kind(self, connection: sqlite3.Connection) -> None:
        try:
            keep_kind(connection, self._kind)
        except ConfigError as error:
            raise ConfigError(f"{self.path}: {error}") from error

    def _with_recovery(self, use: Callable[[], _T]) -> _T:
        """Return what *use* returns, which works on the file; raise JournalError if it cannot.

        When the file turns out to be damaged, what can be read of it is saved, and *use* is tried
        on that. A large file takes a while: until then JournalError is raised.
        """
        try:
            if self._is_open and self._file != identity(self.path):
                self._let_go_of_removed()
            if not self._is_open:
                self._go_on_in_another_file()
            try:
                return self._despite_spoilt_rows(use)
            except sqlite3.Error as error:
                if not is_damaged(error):
                    raise
                self._begin_salvage(str(error))
                self._go_on_in_another_file()
                return self._despite_spoilt_rows(use)
        except (sqlite3.Error, OSError) as error:
            raise JournalError(f"{self.path}: {error}") from error

    def _despite_spoilt_rows(self, use: Callable[[], _T]) -> _T:
        while True:
            try:
                return use()
            except UnreadableRow as error:
                if error.key is None:
                    raise
                self._lose_row(error.key, str(error))

    def _let_go_of_removed(self) -> None:
        if self.path.exists():
            self._lock.hold()  # unless another collector has begun it
        self._is_open = False
        self._connection.close()
        self._report_set_aside("somebody has removed or replaced the file")

    def _begin_salvage(self, reason: str) -> None:
        self._is_open = False
        self._damage = reason
        self._connection.close()
        self._report_damage(reason)

    def _go_on_in_another_file(self) -> None:
        """Begin anew, with what can be read of a damaged file once that is saved."""
        if self._damage is not None:
            if self._salvage is None:
                self._salvage = self._make_salvage()
                self._salvage.start()
            if not self._salvage.wait(_STAND_STILL_S):
                raise JournalError(
                    f"{self.path}: is damaged ({self._damage}); what can be read of it is being"
                    f" saved, {self._salvage.bars} bars so far"
                )
            salvage, self._salvage = self._salvage, None
            self._put_in_place(salvage, self._damage)
            self._is_salvaged, self._damage = salvage.is_readable, None
        self._recreate()

    def _recreate(self) -> None:
        """Go on in a new file, with what is known of each symbol.

        The sequence goes on too: a store that is taking bars from the old file will move its
        cursor in the new one.
        """
        checkpoints, last_sequence = self._checkpoints, self._last_sequence
        lost_through = self._lost_through
        try:
            self._connection = self._open_once()
            self._last_sequence = last_sequence = max(last_sequence, self._last_sequence)
            if self._is_salvaged:
                lost = self._lost_with_rows(self._connection, checkpoints)
            else:
                self._lost_through = lost_through
                lost = self._all_lost(checkpoints, "its file was spoilt or removed")
            before = checkpoints
            self._save_recalled(self._connection, _with_lost(checkpoints, lost))
            checkpoints, lost_through = self._checkpoints, self._lost_through
            self._record_lost(before, {symbol: checkpoints[symbol] for symbol in lost})
            self._is_open, self._is_salvaged = True, False
        finally:
            self._checkpoints, self._last_sequence = checkpoints, last_sequence
            self._lost_through = lost_through
            if not self._is_open:
                self._connection.close()

    def _lose_row(self, key: Key, reason: str) -> None:
        """Take out a bar whose values are spoilt; its trades are missing again."""
        symbol, open_time = key
        log.error(
            "a bar of the journal cannot be read; its trades are missing again",
            extra={"symbol": symbol, "open_time": open_time, "error": reason},
        )
        checkpoint = self._checkpoints.get(symbol) or _begun_with_a_gap(reason)
        with transaction(self._connection):
            bars = self._take_out_spoilt(key, reason)
            lost = list(lost_gaps(self._connection, symbol, bars, checkpoint, self._interval))
            after = _with_lost({symbol: checkpoint}, {symbol: lost})[symbol]
            self._put_checkpoints(self._connection, {symbol: after}, utc_ms())
            self._put_gaps(
                self._connection,
                symbol,
                *changed_part(checkpoint.ledger.gaps, after.ledger.gaps),
            )
        self._checkpoints = {**self._checkpoints, symbol: after}
        self._record_lost({symbol: checkpoint}, {symbol: after})

    def _take_out_spoilt(self, key: Key, reason: str) -> list[tuple[int, str]]:
        """Delete the row of *key* and those beside it that are spoilt, as rows of one page may be.

        Return their open times, ascending, and why.
        """
        symbol, open_time = key
        lost = {open_time: reason}
        self._connection.execute(_DELETE_BAR, key)
        while (beside := spoilt_beside(self._connection, symbol, open_time)) is not None:
            self._connection.execute(_DELETE_BAR, (symbol, beside))
            lost[beside] = "its ids cannot be read"
        return sorted(lost.items())

    def _record_lost(
        self, before: Mapping[str, Checkpoint], after: Mapping[str, Checkpoint]
    ) -> None:
        """Note for whoever builds bars what went missing, but not what was missing before.

        That may have come by now: it waits to be written, and would be counted twice.
        """
        for symbol, checkpoint in after.items():
            _, new = changed_part(before[symbol].ledger.gaps, checkpoint.ledger.gaps)
            self._lost.setdefault(symbol, []).extend(new)

    def _keep_spare(self) -> None:
        """Keep what is known of the symbols outside of the journal, too."""
        self._spared_at = time.monotonic()
        checkpoints = {
            symbol: before_unfinished(checkpoint, partial(self._bar_at, symbol), self._interval)
            for symbol, checkpoint in self._checkpoints.items()
        }
        try:
            write_spare(self.path, Spare.of(self._kind, checkpoints))
        except OSError as error:
            self._limited.warning(
                "spare_file_failed",
                "what is known of the symbols cannot be kept beside the journal as well",
                file=str(spare_file(self.path)),
                error=str(error),
            )

    def _bar_at(self, symbol: str, open_time: int) -> Bar | None:
        try:
            return self._get((symbol, open_time))
        except sqlite3.Error:
            return None

    def _report_damage(self, reason: str) -> None:
        log.error(
            "the journal is damaged; what can be read of it is being saved, bars wait in memory",
            extra={"journal": str(self.path), "error": reason},
        )

    def _report_set_aside(self, reason: str) -> None:
        aside = set_aside(self.path)
        log.error(
            "the journal is damaged or gone, and nothing of it can be read; it was set aside and a"
            " new one is begun, stores keep what they have, and `sqlite3 FILE .recover` may save"
            " what they lack",
            extra={"journal": str(self.path), "aside": str(aside), "error": reason},
        )

    def _beyond_stored(self, bars: Iterable[Bar]) -> dict[Key, Bar]:
        """Return the bars that have more trades than their rows, which an orderly stop wrote."""
        return {(bar.symbol, bar.open_time_ms): bar for bar in bars if not self._is_stored(bar)}

    def _is_stored(self, bar: Bar) -> bool:
        stored = self._get((bar.symbol, bar.open_time_ms))
        return stored is not None and _progress(stored) >= _progress(bar)

    def _prune(
        self, stores: Sequence[str], before_ms: int, had_for_a_while: Callable[[int], int]
    ) -> int:
        with transaction(self._connection):
            self._connection.execute(_DELETE_PAST_GAPS, (before_ms, PRUNE_BATCH))
            cursors = dict(self._connection.execute("SELECT store, sequence FROM cursors"))
            taken = min(
                (
                    checked_place(store, cursors.get(store, 0), self._last_sequence)
                    for store in stores
                ),
                default=2**62,
            )
            if stores:
                taken = had_for_a_while(taken)
            taken = min(taken, self._written_before(before_ms))
            looked_through = self._looked_through
            new = self._bars_between(looked_through, taken, PRUNE_BATCH)
            again = self._bars_between(self._looked_again, min(looked_through, taken), _LOOK_AGAIN)
            resent_from = earliest_place(self._connection, stores)
            old = [(row[0], row[1]) for row in (*again, *new) if self._may_go(row, resent_from)]
            self._connection.executemany(_DELETE_BAR, old)
            pruned_through = self._record_pruned(old)
        self._pruned_through = pruned_through
        if new:
            self._looked_through = new[-1][2]
        self._looked_again = again[-1][2] if len(again) == _LOOK_AGAIN else 0
        has_room = len(old) > _LOOK_AGAIN // 2  # what had to stay is leaving now
        self.has_more_to_prune = len(new) == PRUNE_BATCH or (bool(again) and has_room)
        return len(old)

    def _written_before(self, before_ms: int) -> int:
        """Return up to which number of the sequence all was written before then."""
        mark = self._connection.execute(
            "SELECT at, sequence FROM written WHERE at < ? ORDER BY at DESC LIMIT 1", (before_ms,)
        ).fetchone()
        if mark is None:
            return 0
        self._connection.execute("DELETE FROM written WHERE at < ?", (mark[0],))
        with reading_rows():
            return int(mark[1])

    def _bars_between(
        self, after: int, through: int, limit: int
    ) -> list[tuple[str, int, int, int]]:
        """Return what PRUNABLE tells of bars, in the order of writing."""
        rows = self._connection.execute(PRUNABLE, (after, through, limit)).fetchall()
        for symbol, open_time, *_ in rows:
            if not (isinstance(symbol, str) and isinstance(open_time, int)):
                # Nobody could tell whose bar it is: the rows beside it may.
                raise UnreadableRow(f"a row cannot be read: {symbol!r} has a bar of {open_time!r}")
        return rows

    def _record_pruned(self, keys: Iterable[tuple[str, int]]) -> dict[str, int]:
        """Write down, and return, up to which open time bars of each symbol have left."""
        new: dict[str, int] = {}
        for symbol, open_time in keys:
            new[symbol] = max(open_time, new.get(symbol, self._pruned_through.get(symbol, -1)))
        self._connection.executemany("INSERT OR REPLACE INTO pruned VALUES (?, ?)", new.items())
        return {**self._pruned_through, **new}

    def _may_go(self, row: tuple[str, int, int, int], resent_from: Place | None) -> bool:
        """Whether no trade is missing that may belong to the bar of *row*, nor will be soon.

        Nor may a store have to get it again: all bars after *resent_from* are.
        """
        symbol, open_time, _, is_free = row
        if resent_from is not None and (open_time, symbol) > resent_from:
            return False
        checkpoint = self._checkpoints.get(symbol)
        if not is_free or checkpoint is None:
            return bool(is_free)
        return checkpoint.ledger.last_time >= open_time + self._interval + DISORDER_MS and not (
            self._times(symbol, checkpoint).touch(open_time, self._interval)
        )

    def _write(self, changes: WriteBatch, now_ms: int, status: str | None, at: int) -> int:
        """Write it down; return when `written` last got a row."""
        for symbol, gaps in self._lost.items():
            changes.lose(symbol, gaps)
        checkpoints = self._checkpoints | changes.checkpoints
        is_at_rest = not (changes.finished or changes.amendments)
        self._wal_limit.prepare(self._connection, is_at_rest=is_at_rest)
        with transaction(self._connection):
            sequence = self._sequence()
            finished = {
                key: bar
                for key, bar in changes.finished.items()
                if bar.is_closed or not self._is_stored(bar)
            }
            late: list[Bar] = []
            for key, part in changes.amendments.items():
                stored = self._get(key)
                if stored is None and self._has_left(key):
                    late.append(part)  # in a bar of its own it would be taken for all of it
                elif stored is not None and stored.epoch > part.epoch:
                    self._report_refused(part, stored)  # a rebuilt bar has all of its trades
                else:
                    finished[key] = part if stored is None else stored.merge(part)
            changed = self._changed_gaps(changes)
            for key, stored in self._touched(changed).items():
                if key not in finished and stored.is_complete != self._is_complete(
                    stored, checkpoints
                ):
                    finished[key] = _continued(stored, checkpoints)
            bars = sorted(finished.values(), key=lambda bar: (bar.open_time_ms, bar.symbol))
            rows = [
                (
                    *bar_row(bar, now_ms, is_complete=self._is_complete(bar, checkpoints)),
                    next(sequence),
                )
                for bar in bars
            ]
            if self._connection.executemany(PUT_BAR, rows).rowcount < len(rows):
                self._report_all_refused(bars)
            told = self._record_late(late, changes, at or now_ms)
            reopened_ids = self._record_reopened(changes, changed, checkpoints)
            for symbol, (before, after) in changed.items():
                reopened = [gap for name, gap in changes.reopened if name == symbol]
                self._forget_past_absence(symbol, reopened)
                before_all = sorted((*before, *reopened), key=lambda gap: gap.first_id)
                self._record_past_gaps(symbol, before_all, after, told, at or now_ms)
                self._put_gaps(self._connection, symbol, before, after)
            for symbol, checkpoint in changes.checkpoints.items():
                known = self._checkpoints.get(symbol)
                before_absent = known.ledger.absent if known else ()
                if before_absent or checkpoint.ledger.absent:
                    self._put_absent(
                        self._connection,
                        symbol,
                        *changed_part(before_absent, checkpoint.ledger.absent),
                    )
            self._put_checkpoints(self._connection, changes.checkpoints, now_ms)
            self._save_sequence(sequence)
            for name, value in changes.facts.items():
                self._put_fact(name, value)
            if status is not None:
                self._put_fact("status", status)
            marked_at = self._mark(at)
        self._reopened = reopened_ids
        return marked_at

    def _report_all_refused(self, bars: Iterable[Bar]) -> None:
        """Say which of *bars*, just written, were not taken."""
        for bar in bars:
            stored = self._get((bar.symbol, bar.open_time_ms))
            if stored is not None and stored.rank[:3] > bar.rank[:3]:
                self._report_refused(bar, stored)

    def _report_refused(self, bar: Bar, stored: Bar) -> None:
        self._limited.warning(
            "bar_refused",
            "a version of a bar is refused: the journal has one that ranks above it",
            symbol=bar.symbol,
            open_time=bar.open_time_ms,
            epoch=bar.epoch,
            trade_count=bar.trade_count,
            stored_epoch=stored.epoch,
            stored_trade_count=stored.trade_count,
        )

    def _mark(self, at: int) -> int:
        """Note now and then how far the sequence has come; return when that was last done."""
        if not at or 0 <= at - self._marked_at < self._mark_every:
            return self._marked_at
        self._connection.execute("DELETE FROM written WHERE at > ?", (at,))  # a bad clock's
        self._connection.execute(
            "INSERT OR REPLACE INTO written VALUES (?, ?)", (at, self._last_sequence)
        )
        return at

    def _has_left(self, key: Key) -> bool:
        """Whether the bar of *key*, which is not there, may have been pruned.

        What a gap touches is not pruned: where one does, there has been no bar yet. That tells
        nothing where the ids of the gap were held to be absent for a while: the bar may have left
        then.
        """
        symbol, open_time = key
        if open_time > self._pruned_through.get(symbol, -1):
            return False
        checkpoint = self._checkpoints.get(symbol)
        if checkpoint is None:
            return True
        if not self._times(symbol, checkpoint).touch(open_time, self._interval):
            return True
        reopened = self._reopened.get(symbol)
        return reopened is not None and all(
            any(
                first_id <= gap.first_id and gap.last_id <= last_id
                for first_id, last_id in reopened
            )
            for gap in checkpoint.ledger.gaps
            if gap.since_ms < open_time + self._interval and gap.until_ms >= open_time
        )

    def _record_reopened(
        self,
        changes: WriteBatch,
        changed: Collection[str],
        checkpoints: Mapping[str, Checkpoint],
    ) -> dict[str, list[IdRange]]:
        """Write down, and return, which ids were absent while bars of theirs may have left.

        For as long as one of them is missing.
        """
        ranges = {symbol: list(known) for symbol, known in self._reopened.items()}
        for symbol, gap in changes.reopened:
            if gap.since_ms < self._pruned_through.get(symbol, -1) + self._interval:
                ranges.setdefault(symbol, []).append((gap.first_id, gap.last_id))
        for symbol in ranges.keys() & changed:
            gaps = checkpoints[symbol].ledger.gaps
            ranges[symbol] = [each for each in ranges[symbol] if _is_any_within(gaps, *each)]
        ranges = {symbol: known for symbol, known in ranges.items() if known}
        if ranges != self._reopened:
            self._put_fact(REOPENED, msgspec.json.encode(ranges).decode())
        return ranges

    def _record_late(self, late: Sequence[Bar], changes: WriteBatch, at: int) -> WriteBatch:
        """Keep on record what came too late for its bar; return *changes* with that told."""
        for part in late:
            first_id, last_id = part.first_trade_id, part.last_trade_id
            gaps = self._gaps_before(part.symbol)
            cause = next((g.cause for g in gaps if g.first_id <= first_id <= g.last_id), SKIPPED)
            since, until = sorted((part.first_trade_time_ms, part.last_trade_time_ms))
            self._put_past_gap(part.symbol, Gap(first_id, last_id, since, until, cause), LATE, at)
            self._limited.warning(
                "late_trades_recorded",
                "trades came when their bar had left the journal: they are in no bar, but on record"
                " as late",
                symbol=part.symbol,
                first_id=first_id,
                last_id=last_id,
            )
        ids = [(part.symbol, part.first_trade_id, part.last_trade_id, LATE) for part in late]
        return dataclasses.replace(changes, resolved=[*changes.resolved, *ids])

    def _changed_gaps(self, changes: WriteBatch) -> dict[str, tuple[list[Gap], list[Gap]]]:
        """Return the gaps that were on record and are no more, and the new ones, by symbol.

        Where nothing can be repaired there may be thousands that stay as they are.
        """
        changed = {}
        reopened = {symbol for symbol, _ in changes.reopened}
        for symbol, checkpoint in changes.checkpoints.items():
            before, after = changed_part(self._gaps_before(symbol), checkpoint.ledger.gaps)
            if before or after or symbol in reopened:
                changed[symbol] = (before, after)
        return changed

    def _touched(self, changed: Mapping[str, tuple[list[Gap], list[Gap]]]) -> dict[Key, Bar]:
        """Return the stored bars whose completeness may differ now that gaps came or went."""
        bars = {}
        for symbol, (before, after) in changed.items():
            for since, until in changed_spans(before, after):
                first = since - self._interval + 1
                for page in pages(self._connection, symbol, first, until + 1):
                    for row in page:
                        bar = self._bar(row)
                        bars[symbol, bar.open_time_ms] = bar
        return bars

    def _is_complete(self, bar: Bar, checkpoints: Mapping[str, Checkpoint]) -> bool:
        """Whether no gap touches *bar*, and none of it may be lost with an earlier file."""
        if bar.open_time_ms <= self._lost_through.get(bar.symbol, -1):
            return False
        checkpoint = checkpoints.get(bar.symbol)
        return checkpoint is None or not self._times(bar.symbol, checkpoint).touch(
            bar.open_time_ms, bar.interval_ms
        )

    def _times(self, symbol: str, checkpoint: Checkpoint) -> GapTimes:
        """Return when trades of *symbol* are missing, as *checkpoint* has it."""
        times = self._gap_times.get(symbol)
        if times is None:
            times = self._gap_times[symbol] = GapTimes()
        times.update(checkpoint.ledger.gaps)
        return times

    def _gaps_before(self, symbol: str) -> tuple[Gap, ...]:
        before = self._checkpoints.get(symbol)
        return before.ledger.gaps if before else ()

    def _get(self, key: Key) -> Bar | None:
        row = self._connection.execute(GET_BAR, key).fetchone()
        return None if row is None else self._bar(row)

    def _put_checkpoints(
        self,
        connection: sqlite3.Connection,
        checkpoints: Mapping[str, Checkpoint],
        now_ms: int,
    ) -> None:
        connection.executemany(
            "INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?, ?, ?)",
            [
                (
                    symbol,
                    checkpoint.ledger.next_id,
                    checkpoint.ledger.last_time,
                    encode_open_bars(checkpoint.open_bars),
                    checkpoint.closed_through,
                    now_ms,
                )
                for symbol, checkpoint in checkpoints.items()
            ],
        )

    def _put_gaps(
        self,
        connection: sqlite3.Connection,
        symbol: str,
        before: Iterable[Gap],
        after: Iterable[Gap],
    ) -> None:
        connection.executemany(
            "DELETE FROM gaps WHERE symbol = ? AND first_id = ?",
            [(symbol, gap.first_id) for gap in before],
        )
        connection.executemany(
            "INSERT INTO gaps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(symbol, *gap_row(gap)) for gap in after],
        )

    def _put_absent(
        self,
        connection: sqlite3.Connection,
        symbol: str,
        before: Iterable[Gap],
        after: Iterable[Gap],
    ) -> None:
        connection.executemany(
            "DELETE FROM absent WHERE symbol = ? AND first_id = ?",
            [(symbol, gap.first_id) for gap in before],
        )
        connection.executemany(
            "INSERT INTO absent VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(symbol, *gap_row(gap), gap.absent_at, gap.looks) for gap in after],
        )

    def _forget_past_absence(self, symbol: str, reopened: Iterable[Gap]) -> None:
        """Take ids off the record as absent: one of them has turned out to exist."""
        for gap in reopened:
            rows = self._connection.execute(
                "DELETE FROM past_gaps WHERE symbol = ? AND last_id >= ? AND first_id <= ?"
                " AND outcome = ? RETURNING *",
                (symbol, gap.first_id, gap.last_id, ABSENT),
            ).fetchall()
            for _, first_id, last_id, *row in rows:
                left = [(first_id, gap.first_id - 1), (gap.last_id + 1, last_id)]
                self._connection.executemany(
                    "INSERT INTO past_gaps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    [(symbol, *ids, *row) for ids in left if ids[0] <= ids[1]],
                )

    def _record_past_gaps(
        self,
        symbol: str,
        before: Iterable[Gap],
        after: Iterable[Gap],
        changes: WriteBatch,
        now_ms: int,
    ) -> None:
        """Keep on record what was a gap at the last write and is none now, and why."""
        asked = [
            replace(gap, attempts=changes.attempts.get((symbol, gap.last_id), gap.attempts))
            for gap in before
        ]
        reasons = [(low, high, why) for name, low, high, why in changes.resolved if name == symbol]
        for gap in no_longer_missing(asked, after):
            for part, outcome in _with_outcomes(gap, reasons):
                if outcome not in (
                    UNWANTED,
                    GapOutcome.RENUMBERED,
                    LATE,
                ):  # what is lost stays a gap
                    self._put_past_gap(symbol, part, outcome, now_ms)

    def _put_past_gap(self, symbol: str, gap: Gap, outcome: str, now_ms: int) -> None:
        """Add a closed range, or lengthen the one that it continues, as page follows page."""
        earlier = self._connection.execute(
            "DELETE FROM past_gaps WHERE symbol = ? AND last_id = ? AND cause = ? AND outcome = ?"
            " RETURNING first_id, since",
            (symbol, gap.first_id - 1, gap.cause, outcome),
        ).fetchall()
        first_id, since = earlier[0] if earlier else (gap.first_id, gap.since_ms)
        self._connection.execute(
            "INSERT OR REPLACE INTO past_gaps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                symbol,
                first_id,
                gap.last_id,
                since,
                gap.until_ms,
                gap.cause,
                gap.attempts,
                gap.last_error,
                outcome,
                now_ms,
            ),
        )

    def _sequence(self) -> itertools.count[int]:
        return itertools.count(self._last_sequence + 1)

    def _save_sequence(self, sequence: itertools.count[int]) -> None:
        self._last_sequence = next(sequence) - 1
        self._put_fact("sequence", str(self._last_sequence))

    def _put_fact(self, name: str, value: str) -> None:
        self._connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def _bar(self, row: tuple[Any, ...]) -> Bar:
        try:
            return bar_from_row(row, self._kind.market, self._interval)
        except UnreadableRow as error:
            error.key = (row[0], row[1])
            raise


def _is_any_within(gaps: Sequence[Gap], first_id: int, last_id: int) -> bool:
    """Whether one of *gaps*, lowest first, has no other ids than these."""
    index = bisect_left(gaps, first_id, key=lambda gap: gap.first_id)
    return index < len(gaps) and gaps[index].last_id <= last_id


def _progress(bar: Bar) -> tuple[int, int]:
    """Return how far a version of a bar has come."""
    return bar.epoch, bar.trade_count


def _continued(stored: Bar, checkpoints: Mapping[str, Checkpoint]) -> Bar:
    """Return what there is of a bar that goes on after a shutdown, or *stored* if it does not."""
    for bar in checkpoints[stored.symbol].open_bars:
        if bar.open_time_ms == stored.open_time_ms and _progress(bar) >= _progress(stored):
            return bar
    return stored


def _with_outcomes(
    gap: Gap, reasons: Sequence[tuple[int, int, GapOutcome]]
) -> Iterator[tuple[Gap, GapOutcome]]:
    """Split a closed range by what became of its ids; without another reason, trades came."""
    start = gap.first_id
    for low, high, why in sorted(reasons):
        low, high = max(low, start), min(high, gap.last_id)
        if low > high:
            continue
        if low > start:
            yield gap.part(start, low - 1), REPAIRED
        yield gap.part(low, high), why
        start = high + 1
    if start <= gap.last_id:
        yield gap.part(start, gap.last_id), REPAIRED


def _read_gaps(
    connection: sqlite3.Connection,
) -> tuple[dict[str, list[Gap]], dict[str, str]]:
    """Return the gaps of each symbol, and of which symbols some cannot be read, and why."""
    gaps: dict[str, list[Gap]] = {}
    spoilt: dict[str, str] = {}
    for symbol, *row in connection.execute(
        f"SELECT symbol, {GAP_COLUMNS} FROM gaps ORDER BY symbol, first_id"  # noqa: S608
    ):
        try:
            gaps.setdefault(symbol, []).append(gap_from_row(tuple(row)))
        except UnreadableRow as error:
            spoilt[symbol] = str(error)
    return gaps, spoilt


def _read_absent(connection: sqlite3.Connection) -> dict[str, tuple[Gap, ...]]:
    """Return what does not exist of each symbol; a row that cannot be read is forgotten."""
    absent: dict[str, list[Gap]] = {}
    for symbol, absent_at, looks, *row in connection.execute(
        f"SELECT symbol, absent_at, looks, {GAP_COLUMNS} FROM absent"  # noqa: S608
        " ORDER BY symbol, first_id"
    ):
        try:
            with reading_rows():
                sum((absent_at, looks))
            gap = replace(gap_from_row(tuple(row)), absent_at=absent_at, looks=looks)
            absent.setdefault(symbol, []).append(gap)
        except UnreadableRow as error:
            log.warning(
                "ids that the exchange does not have are forgotten: they cannot be read",
                extra={"symbol": symbol, "error": str(error)},
            )
    return {symbol: tuple(gaps) for symbol, gaps in absent.items()}


def _checkpoint(
    symbol: str, row: Sequence[Any], gaps: tuple[Gap, ...], absent: tuple[Gap, ...]
) -> Checkpoint:
    """Return the checkpoint of a row; raises UnreadableRow."""
    next_id, last_time, open_bars, closed_through = row
    bars = decode_open_bars(open_bars)
    with reading_rows():
        sum((next_id or 0, last_time, closed_through))  # whole numbers, or it raises
        if any(bar.symbol != symbol for bar in bars):
            raise ValueError(f"open bars of another symbol than {symbol}")
        beyond = [gap for gap in (*gaps, *absent) if gap.last_id >= (next_id or gap.last_id + 1)]
        if beyond:
            raise ValueError(f"at id {next_id}, although {beyond[0]} was known")
    return Checkpoint(LedgerState(next_id, last_time, gaps, absent), bars, closed_through)


def _begun_with_a_gap(reason: str) -> Checkpoint:
    """Return what is known of a symbol of which something was lost, and nobody knows what."""
    return Checkpoint(with_lost(LedgerState(None, 0, ()), [unknown_gap(0, 0, reason)]))


def _with_lost(
    checkpoints: Mapping[str, Checkpoint], lost: Mapping[str, Sequence[Gap]]
) -> dict[str, Checkpoint]:
    return {
        symbol: replace(checkpoint, ledger=with_lost(checkpoint.ledger, lost.get(symbol, ())))
        for symbol, checkpoint in checkpoints.items()
    }


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
