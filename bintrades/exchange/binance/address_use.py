"""What the processes on one address use of the exchange together, in a small file that they share.

The exchange counts request weight and attempts to connect by address. The file is an SQLite
database: it brings the lock, and a process that dies in the middle of a write harms nobody. Of
a window as long as the exchange's minute, wherever it begins, no more is spent than what one may
spend in a minute. Times are those of the machine's monotonic clock, which all its processes have in
common and which never leaps; what an earlier start of the machine has left is forgotten.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import sqlite3
import threading
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from bintrades.core.ban import LONGEST_MS
from bintrades.util.logs import LimitedLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

log = logging.getLogger(__name__)

T = TypeVar("T")

_MINUTE_MS = 60_000
_LOCKED_WITHIN_S = 0.5  # longer, a process that holds the lock has stopped: this one goes on alone
_AHEAD_MS = 60_000  # later than now by so much is of before the machine was started
_ALONE_FOR_MS = 10_000  # before the file is tried again
_ATTEMPTS = "attempts to connect"  # a pool of its own, in which each weighs 1
_ASKS_AGAIN_MS = 1_000  # of one that waits for those in line before it
_STAYS_IN_LINE_MS = 10_000  # after it should have asked again, one that waits is forgotten
_LOGGED_EVERY_S = 3_600.0
_MODE = 0o600

_MAGIC = b"SQLite format 3\0"
_APPLICATION_ID = 0x62746231  # "btb1"
_HEADER_BYTES = 100

ALONE = 4
"""Of what may be used a process uses one part of so many while it cannot know what others use."""

_TABLES = """
CREATE TABLE IF NOT EXISTS spent (pool TEXT NOT NULL, at INTEGER NOT NULL, weight INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS waiting (
    who TEXT NOT NULL,
    pool TEXT NOT NULL,
    weight INTEGER NOT NULL,
    since INTEGER NOT NULL,
    until INTEGER NOT NULL,
    PRIMARY KEY (who, pool)
);
CREATE TABLE IF NOT EXISTS bans (pool TEXT PRIMARY KEY, said_at INTEGER, until INTEGER);
"""


class _Limit(NamedTuple):
    """How much of a pool all processes may spend within any window so long."""

    pool: str
    allowed: int
    window_ms: int


class AddressUse:
    """One process's share in the file at *path*; *pool* is what its market's weight counts in.

    Any thread. Nothing raises: where the file cannot be used, None says that nobody knows what
    others use, which is logged, and the file is tried again some seconds later.
    """

    def __init__(self, path: Path, pool: str) -> None:
        self._path = path
        self._pool = pool
        self._token = secrets.token_hex(8)  # process numbers of containers are not unique
        self._lock = threading.Lock()
        self._file: sqlite3.Connection | None = None
        self._inode = 0
        self._alone_until = 0
        self._limited = LimitedLog(log, every_s=_LOGGED_EVERY_S)

    def spend(self, weight: int, allowed: int, now: int) -> int | None:
        """Return how long to wait before a request of *weight*; 0 means go, and spends it.

        *allowed* is what all may spend in a minute. Who has waited longest is the next to go, so
        that many light requests do not keep a heavy one waiting for ever.
        """

        def use(file: sqlite3.Connection) -> int:
            if banned_for := self._banned_for(file, now):
                return banned_for
            return self._take(file, _Limit(self._pool, allowed, _MINUTE_MS), weight, now)

        return self._use(use, now)

    def attempt(self, most: int, window_ms: int, now: int) -> int | None:
        """Return how long to wait before an attempt to connect; 0 means go, and counts one.

        *most* is how many there may be within *window_ms*, of all processes.
        """
        limit = _Limit(_ATTEMPTS, most, window_ms)
        return self._use(lambda file: self._take(file, limit, 1, now), now)

    def ban(self, wait_ms: int, now: int) -> None:
        """Tell all that the exchange wants no requests from this address for so long."""

        def use(file: sqlite3.Connection) -> None:
            if self._banned_for(file, now) < wait_ms:
                file.execute(
                    "INSERT OR REPLACE INTO bans VALUES (?, ?, ?)",
                    (self._pool, now, now + min(wait_ms, LONGEST_MS)),
                )

        self._use(use, now)

    def close(self) -> None:
        """Close the file. It is opened again if it is used again."""
        with self._lock:
            self._close()

    def _take(self, file: sqlite3.Connection, limit: _Limit, weight: int, now: int) -> int:
        """Spend *weight* and return 0, or get in line and return how long to wait."""
        pool, who = limit.pool, f"{self._token} {threading.get_ident()}"
        # What counts no more, or is of before the machine was started.
        file.execute(
            "DELETE FROM spent WHERE pool = ? AND (at <= ? OR at > ?)",
            (pool, now - limit.window_ms, now + _AHEAD_MS),
        )
        file.execute(
            "DELETE FROM waiting WHERE pool = ? AND (until < ? OR since > ?)",
            (pool, now, now + _AHEAD_MS),
        )
        rows = file.execute(
            "SELECT at, weight FROM spent WHERE pool = ? ORDER BY at", (pool,)
        ).fetchall()
        (since,) = file.execute(
            "SELECT coalesce(min(since), ?) FROM waiting WHERE pool = ? AND who = ?",
            (now, pool, who),
        ).fetchone()
        (before,) = file.execute(
            "SELECT coalesce(sum(weight), 0) FROM waiting"
            " WHERE pool = ? AND who <> ? AND (since, who) < (?, ?)",
            (pool, who, since, who),
        ).fetchone()
        file.execute("DELETE FROM waiting WHERE pool = ? AND who = ?", (pool, who))
        lacking = sum(spent for _, spent in rows) + before + weight - limit.allowed
        # The first of a window may go whatever it weighs, or it never could.
        if lacking <= 0 or not (rows or before):
            # Another process may have come after *now*, while this one waited for the lock.
            at = max(now, rows[-1][0]) if rows else now
            file.execute("INSERT INTO spent VALUES (?, ?, ?)", (pool, at, weight))
            return 0
        wait = _room_in(rows, lacking, limit.window_ms, now)
        until = now + wait + _STAYS_IN_LINE_MS
        file.execute(
            "INSERT INTO waiting VALUES (?, ?, ?, ?, ?)", (who, pool, weight, since, until)
        )
        return wait

    def _banned_for(self, file: sqlite3.Connection, now: int) -> int:
        # One of before the machine was started would hold again once this start is as old.
        file.execute("DELETE FROM bans WHERE until <= ? OR said_at > ?", (now, now + _AHEAD_MS))
        (until,) = file.execute(
            "SELECT coalesce(max(until), 0) FROM bans WHERE pool = ?", (self._pool,)
        ).fetchone()
        return max(0, min(int(until) - now, LONGEST_MS))

    def _use(self, use: Callable[[sqlite3.Connection], T], now: int) -> T | None:
        """Do something with the file in one transaction; None: it cannot be used."""
        with self._lock:
            if now < self._alone_until:
                return None
            try:
                try:
                    return self._transact(use)
                except sqlite3.OperationalError:  # locked, full, not to be written
                    raise
                except (sqlite3.DatabaseError, TypeError, ValueError):
                    self._replace()
                    return self._transact(use)
            except (OSError, sqlite3.Error, TypeError, ValueError) as error:
                self._close()
                self._alone_until = now + _ALONE_FOR_MS
                self._limited.warning(
                    "shared_budget_unusable",
                    "the file of the shared budget cannot be used; this process goes on alone, with"
                    " a quarter of what it may use",
                    path=str(self._path),
                    error=str(error),
                )
                return None

    def _transact(self, use: Callable[[sqlite3.Connection], T]) -> T:
        file = self._opened()
        with _transaction(file):
            return use(file)

    def _opened(self) -> sqlite3.Connection:
        """Return the file, opened again where another process has replaced it."""
        with suppress(FileNotFoundError):
            if self._file is not None and self._path.stat().st_ino == self._inode:
                return self._file
        self._close()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, _MODE))
        self._check_owner()
        file = sqlite3.connect(
            self._path, timeout=_LOCKED_WITHIN_S, isolation_level=None, check_same_thread=False
        )
        self._file, self._inode = file, self._path.stat().st_ino
        file.execute("PRAGMA synchronous = OFF")  # it is worth no more than five minutes
        with _transaction(file):
            file.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            for statement in filter(str.strip, _TABLES.split(";")):
                file.execute(statement)
        return file

    def _check_owner(self) -> None:
        """Raise OSError unless the file is one of these, or empty: nobody else's is touched."""
        with self._path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
        is_ours = header[:16] == _MAGIC and header[68:72] == _APPLICATION_ID.to_bytes(4, "big")
        if not is_ours and any(header):
            raise OSError("it is another program's file; name one that is not there yet")

    def _replace(self) -> None:
        """Begin anew where the file is corrupt; one process at a time does it."""
        self._close()
        self._check_owner()
        beside = self._path.with_name(f"{self._path.name}.lock")
        lock = os.open(beside, os.O_RDWR | os.O_CREAT, _MODE)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self._is_sound():
                self._path.unlink(missing_ok=True)
                log.warning(
                    "the file of the shared budget is corrupt; it is begun anew",
                    extra={"event": "shared_budget_replaced", "path": str(self._path)},
                )
        finally:
            os.close(lock)

    def _is_sound(self) -> bool:
        """Whether another process has replaced the file meanwhile."""
        try:
            with closing(sqlite3.connect(self._path, timeout=_LOCKED_WITHIN_S)) as file:
                file.execute("SELECT total(at) + total(weight) FROM spent").fetchone()
                (wrong,) = file.execute(
                    "SELECT (SELECT count(*) FROM spent WHERE typeof(at) <> 'integer'"
                    "  OR typeof(weight) <> 'integer')"
                    " + (SELECT count(*) FROM waiting WHERE typeof(weight) <> 'integer')"
                    " + (SELECT count(*) FROM bans WHERE typeof(until) <> 'integer')"
                ).fetchone()
                return bool(wrong == 0)
        except sqlite3.DatabaseError:
            return False

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(sqlite3.Error):
                file.close()


@contextmanager
def _transaction(file: sqlite3.Connection) -> Iterator[None]:
    file.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with suppress(sqlite3.Error):
            file.execute("ROLLBACK")
        raise
    file.execute("COMMIT")


def _room_in(rows: list[tuple[int, int]], lacking: int, window_ms: int, now: int) -> int:
    """Return in how many milliseconds so much of what was spent counts no more."""
    for at, weight in rows:
        lacking -= weight
        if lacking <= 0:
            return max(1, at + window_ms - now)
    return window_ms if rows else _ASKS_AGAIN_MS
