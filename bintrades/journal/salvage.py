"""Saves what can be read of a damaged journal into a new file, and names what cannot.

Bars are copied by spans of time. A span in which SQLite meets a corrupt page is halved until a
single open time is left, of which each symbol is tried alone: what then fails is put into the new
file's table lost_bars, by symbol and open time. Everything else is small and copied row by row from
both ends. The damaged file is only read. Memory does not grow with the number of bars.

SQLite does not notice all damage: it may read invalid rows, or not see rows at all. So what was
copied is checked, see check.py.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from bintrades.journal import meta
from bintrades.journal.check import BarCheck, corrupt_bars, lacks_gaps
from bintrades.journal.connection import transaction
from bintrades.journal.damage import READ_ERRORS, is_of_the_file
from bintrades.journal.migrations import count_rows, create_uncounted
from bintrades.journal.rows import BAR_COLUMNS
from bintrades.journal.salvage_tables import (
    LATER,
    SMALL,
    copy_tables,
    lacking_columns,
    tables_there,
)
from bintrades.journal.schema import BLOCK_MS, FIRST_PROOFS, UNPROVEN, UNPROVING_VERSIONS
from bintrades.journal.surplus import find_surplus

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

log = logging.getLogger(__name__)

_SPAN_INTERVALS = 60  # copied at a time: 180,000 bars where 3,000 symbols trade all the time
_LOG_EVERY_S = 10.0

_BARS = f"{BAR_COLUMNS}, sequence"
_COPY = f"INSERT INTO main.bars ({_BARS}) SELECT {_BARS} FROM damaged.bars WHERE"  # noqa: S608
_TOLERANT = "PRAGMA writable_schema = ON"
"""Has SQLite make do with a file that is too short, and with what it can read of the schema."""

_REASON = "it could not be read"
_LONGEST_MS = 3_660 * 86_400_000  # of time that is searched where no row names the next
_LATEST_MS = 10**13  # no exchange's time is later
_OF_BLOCKS = f"FROM damaged.blocks WHERE block BETWEEN 0 AND {_LATEST_MS // BLOCK_MS}"
_IN_TIME = f"open_time BETWEEN 0 AND {_LATEST_MS}"
_OF_BARS = f"FROM damaged.bars WHERE {_IN_TIME}"
_BOUNDS = (
    f"SELECT (SELECT min(block) {_OF_BLOCKS}) * {BLOCK_MS},"
    f" ((SELECT max(block) {_OF_BLOCKS}) + 1) * {BLOCK_MS}",
    f"SELECT (SELECT min(open_time) {_OF_BARS}), (SELECT max(open_time) {_OF_BARS})",
    "SELECT min(open_time), max(open_time) FROM damaged.bars INDEXED BY bars_by_sequence"  # noqa: S608
    f" WHERE {_IN_TIME}",
)


class Salvage:
    """Copies *damaged* into *new* on a thread of its own, from start() on.

    *symbols* are those known to have bars; each that the damaged file names is added.
    """

    def __init__(
        self, damaged: Path, new: Path, *, interval_ms: int, symbols: Iterable[str] = ()
    ) -> None:
        self.bars = 0  # copied so far
        self.lost_bars = 0  # that could not be read
        self.is_readable = False  # whether anything of the file is
        self.error: str | None = None  # why nothing came of it: the disk, not the damaged file
        self._damaged = damaged
        self._new = new
        self._interval = interval_ms
        self._symbols = set(symbols)
        self._tables: set[str] = set()
        self._copy_where = _COPY
        self._stopping = threading.Event()
        self._logged_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="salvage", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the end; return whether it came in time."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def stop(self) -> None:
        """End without a result, soon."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            remove(self._new)
            with closing(self._connect()) as connection:
                if self._attach(connection):
                    with closing(self._connect_to_damaged()) as damaged:
                        self._copy(connection, damaged)
            if self.is_readable:
                make_durable(self._new)
        except _Stopped:
            self.error = "stopped"
        except (*READ_ERRORS, OSError) as error:
            self.error = str(error)
        except BaseException as error:
            self.error = repr(error)
            log.exception(
                "what can be read of the damaged journal could not be saved",
                extra={"event": "salvage_failed"},
            )

    def _connect(self) -> sqlite3.Connection:
        os.close(os.open(self._new, os.O_CREAT | os.O_RDWR, 0o600))
        connection = sqlite3.connect(
            f"{self._new.absolute().as_uri()}?mode=rwc", uri=True, isolation_level=None
        )
        connection.text_factory = partial(str, encoding="utf-8", errors="replace")
        for setting in ("journal_mode = MEMORY", "synchronous = OFF", "temp_store = FILE"):
            connection.execute(f"PRAGMA {setting}")  # it is made durable as a whole, at the end
        connection.execute(_TOLERANT)
        return connection

    def _connect_to_damaged(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._damaged_uri, uri=True, isolation_level=None)
        connection.text_factory = partial(str, encoding="utf-8", errors="replace")
        connection.execute(_TOLERANT)
        return connection

    @property
    def _damaged_uri(self) -> str:
        return f"{self._damaged.absolute().as_uri()}?mode=ro"

    def _attach(self, connection: sqlite3.Connection) -> bool:
        """Whether the bars of the damaged file can be looked for at all."""
        try:
            connection.execute("ATTACH DATABASE ? AS damaged", (self._damaged_uri,))
            self._tables, reason = tables_there(connection)
        except READ_ERRORS as error:
            if not is_of_the_file(error):
                raise  # the disk may have no room for SQLite's own files beside it
            reason = str(error)
        if "bars" in self._tables:
            for column in lacking_columns(connection):
                self._copy_where = self._copy_where.replace(f", {column}", "")
            return True
        log.error(
            "nothing of the damaged journal can be read",
            extra={"event": "salvage_empty", "error": reason},
        )
        return False

    def _copy(self, connection: sqlite3.Connection, damaged: sqlite3.Connection) -> None:
        create_uncounted(connection)
        meta.clear(connection)
        connection.execute("CREATE TEMP TABLE lost (symbol, open_time, reason)")
        self._find_symbols(connection)
        unreadable = copy_tables(connection, damaged, SMALL.keys() & self._tables, self._symbols)
        self._find_symbols(connection)
        self._copy_bars(connection)
        self._check_bars(connection)
        with contextlib.suppress(*READ_ERRORS):
            if "gaps" not in unreadable and lacks_gaps(connection, "damaged"):
                unreadable["gaps"] = "some are missing without any error"
        meta.restore_sequence(connection)
        count_rows(connection)
        unreadable |= copy_tables(connection, damaged, LATER.keys() & self._tables, self._symbols)
        connection.execute(FIRST_PROOFS)  # of symbols of which none could be read
        if _version_of(connection) in UNPROVING_VERSIONS:
            connection.execute(UNPROVEN)
        if "surplus" in unreadable or "surplus" not in self._tables:
            find_surplus(connection)
        connection.execute("INSERT OR IGNORE INTO main.lost_bars SELECT * FROM temp.lost")
        meta.put_salvaged(connection, _REASON, unreadable.get("gaps"))
        for table, reason in unreadable.items():
            log.error(
                "a table of the damaged journal cannot be read whole",
                extra={"event": "salvage_table_incomplete", "table": table, "error": reason},
            )
        self.is_readable = True

    def _find_symbols(self, connection: sqlite3.Connection) -> None:
        for table in (
            "main.checkpoints",
            "damaged.checkpoints",
            "damaged.blocks",
            "damaged.gaps",
            "damaged.past_gaps",
        ):
            with contextlib.suppress(*READ_ERRORS):
                for (symbol,) in connection.execute(f"SELECT DISTINCT symbol FROM {table}"):  # noqa: S608
                    self._symbols.add(symbol)

    def _copy_bars(self, connection: sqlite3.Connection) -> None:
        bounds = _first_times(connection, _BOUNDS)
        if bounds is None:
            self._lose(connection, sorted(self._symbols), 0, "no bar can be found")
            return
        if not bounds:
            return  # there are none
        first, last = (bound // self._interval * self._interval for bound in bounds)
        step = _SPAN_INTERVALS * self._interval
        blind_ms = 0
        since: int | None = first
        while since is not None and since <= last:
            if self._stopping.is_set():
                raise _Stopped
            if blind_ms > _LONGEST_MS:
                self._lose(connection, sorted(self._symbols), 0, "not all bars can be found")
                return
            self._copy_span(connection, since, min(since + step, last + self._interval))
            self._log_progress(since - first, last - first)
            before, since = since, self._next_bar(connection, since + step)
            blind_ms += step if since == before + step else 0

    def _next_bar(self, connection: sqlite3.Connection, since: int) -> int | None:
        """Return where the next bars may be, from *since* on."""
        try:
            (found,) = connection.execute(
                "SELECT min(open_time) FROM damaged.bars WHERE open_time >= ?", (since,)
            ).fetchone()
        except READ_ERRORS:
            return since
        # What is no number comes after all numbers: where it is the first, there are no more bars.
        return found // self._interval * self._interval if isinstance(found, int) else None

    def _copy_span(self, connection: sqlite3.Connection, since: int, until: int) -> None:
        try:
            with transaction(connection):
                rows = connection.execute(
                    f"{self._copy_where} open_time >= ? AND open_time < ?", (since, until)
                ).rowcount
            self.bars += rows
        except READ_ERRORS as error:
            if not is_of_the_file(error):
                raise
            if until - since <= self._interval:
                self._copy_each(connection, since)
                return
            half = (until - since) // self._interval // 2 * self._interval
            self._copy_span(connection, since, since + half)
            self._copy_span(connection, since + half, until)

    def _copy_each(self, connection: sqlite3.Connection, open_time: int) -> None:
        """Copy the bars of one open time, each alone; those that cannot be read are lost."""
        for symbol in self._symbols_of(connection, open_time):
            try:
                self.bars += connection.execute(
                    f"{self._copy_where} open_time = ? AND symbol = ?", (open_time, symbol)
                ).rowcount
            except READ_ERRORS as error:
                if not is_of_the_file(error):
                    raise
                self._lose(connection, [symbol], open_time, str(error))

    def _check_bars(self, connection: sqlite3.Connection) -> None:
        """Lose the rows that are no bars, and those that are missing though nothing was wrong."""
        for symbol, open_time in corrupt_bars(connection, self._interval):
            self.bars -= connection.execute(
                "DELETE FROM main.bars WHERE symbol IS ? AND open_time IS ?", (symbol, open_time)
            ).rowcount
            if isinstance(symbol, str) and isinstance(open_time, int):
                self._lose(connection, [symbol], open_time, "its values cannot be")
        check = BarCheck(self._interval)
        for row in connection.execute(
            "SELECT symbol, open_time, first_trade_id, last_trade_id FROM main.bars"
            " ORDER BY open_time, symbol"
        ):
            check.take(*row)
        closed_through = connection.execute("SELECT symbol, closed_through FROM main.checkpoints")
        check.end(closed_through.fetchall())
        with contextlib.suppress(*READ_ERRORS):
            check.beginning(
                connection.execute("SELECT symbol, block, bars FROM damaged.blocks").fetchall()
            )
        for symbol, open_time in check.missing:
            self._lose(connection, [symbol], open_time, "it is missing without any error")
        # A row in a wrong place may have been found after all: asked for again it would be doubled.
        self.lost_bars -= connection.execute(
            "DELETE FROM temp.lost WHERE (open_time, symbol) IN"
            " (SELECT open_time, symbol FROM main.bars)"
        ).rowcount

    def _symbols_of(self, connection: sqlite3.Connection, open_time: int) -> list[str]:
        """Return the symbols that may have a bar then: where it is known, those that have some."""
        try:
            return [
                symbol
                for (symbol,) in connection.execute(
                    "SELECT symbol FROM damaged.blocks WHERE block = ?", (open_time // BLOCK_MS,)
                ).fetchall()
            ]
        except READ_ERRORS:
            return sorted(self._symbols)

    def _lose(
        self, connection: sqlite3.Connection, symbols: Iterable[str], open_time: int, reason: str
    ) -> None:
        rows = [(symbol, open_time, reason) for symbol in symbols]
        self.lost_bars += len(rows)
        connection.executemany("INSERT INTO temp.lost VALUES (?, ?, ?)", rows)

    def _log_progress(self, done_ms: int, all_ms: int) -> None:
        if time.monotonic() - self._logged_at >= _LOG_EVERY_S:
            self._logged_at = time.monotonic()
            log.info(
                "saving what can be read of the damaged journal; %d%% done",
                100 * done_ms // max(1, all_ms),
                extra={
                    "event": "salvage_continued",
                    "bars": self.bars,
                    "unreadable_bars": self.lost_bars,
                },
            )


def _version_of(connection: sqlite3.Connection) -> int:
    """Return the version of the damaged file; 0: it cannot be read."""
    try:
        return int(connection.execute("PRAGMA damaged.user_version").fetchone()[0])
    except READ_ERRORS as error:
        if not is_of_the_file(error):
            raise
        return 0


class _Stopped(Exception):  # noqa: N818 - no error
    """The collector ends."""


def salvage_file(journal: Path) -> Path:
    """Return where what can be read of *journal* is put until it is whole."""
    return journal.with_name(journal.name + ".salvage")


def take_over_finished(journal: Path) -> None:
    """Finish or forget what a process that was killed has left of a salvage. Raises OSError."""
    new = salvage_file(journal)
    if new.exists() and not journal.exists() and _is_finished(new):
        new.rename(journal)  # the damaged file was quarantined just before
    else:
        remove(new)


def _is_finished(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as found:
            return meta.read_salvaged(found)[0]
    except READ_ERRORS:
        return False


def remove(path: Path) -> None:
    """Remove a file that was not finished, and what SQLite left beside it. Raises OSError."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _first_times(connection: sqlite3.Connection, queries: Iterable[str]) -> list[int] | None:
    """Return the first answer of two times; an empty list if some say that there are none."""
    found: list[int] | None = None
    for query in queries:
        with contextlib.suppress(*READ_ERRORS):
            answer = [time for time in connection.execute(query).fetchone() if type(time) is int]
            if len(answer) == 2:
                return answer
            found = []
    return found


def make_durable(path: Path) -> None:
    """Have what is in a file, or which names are in a folder, survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
