"""Keeps the journal's write-ahead log short, and says what keeps it long.

What is committed goes into that log first and is moved from there into the file (a checkpoint, in
SQLite's words) a few megabytes at a time. What a reader's transaction may still look at cannot be
moved. So the log grows for as long as another program has one open; nothing of ours keeps any.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

WAL_LIMIT = 16 * 1024 * 1024
"""Bytes to which the log is cut when SQLite restarts it, and above which it is emptied."""

AUTOCHECKPOINT_PAGES, AT_REST_PAGES = 3_400, 2_000
"""Pages in the log from which a commit moves them into the file: any, and one without bars.

A page that changes again and again is moved but once each time, so the rarer the less is written;
and bars that many symbols finish at one moment should not have to wait for it.
"""

_READ_LOCKS = range(123, 128)  # bytes of the -shm file that readers lock (SQLite: WAL_READ_LOCK)


class WalLimit:
    """Empties the log of the one who writes when it is too long. Belongs to the writer's thread."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._warn_at = WAL_LIMIT

    def prepare(self, connection: sqlite3.Connection, *, is_at_rest: bool) -> None:
        """Have the next commit empty the log already if it is rather long. Raises sqlite3.Error."""
        pages = AT_REST_PAGES if is_at_rest else AUTOCHECKPOINT_PAGES
        connection.execute(f"PRAGMA wal_autocheckpoint = {pages}")

    def truncate_if_long(self, connection: sqlite3.Connection) -> None:
        """Empty the log if it is too long; warn if it cannot be done. Call after each commit."""
        size = wal_bytes(self._journal)
        if size <= WAL_LIMIT or _is_emptied(connection):
            self._warn_at = WAL_LIMIT
        elif size >= self._warn_at:
            self._warn_at = 2 * size
            log.warning(
                "the journal's write-ahead log grows, because another program keeps a transaction"
                " open on it: end that, or the disk will be full",
                extra={
                    "event": "wal_growing",
                    "journal": str(self._journal),
                    "wal_bytes": size,
                    "held_by": reading_processes(self._journal),
                },
            )


def wal_bytes(journal: Path) -> int:
    """Return how long the write-ahead log is."""
    try:
        return _beside(journal, "-wal").stat().st_size
    except OSError:
        return 0


def reading_processes(journal: Path) -> list[int]:
    """Return the processes that have a read transaction open, as far as is known."""
    try:
        shm = _beside(journal, "-shm").stat()
        locks = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    inode = f"{os.major(shm.st_dev):02x}:{os.minor(shm.st_dev):02x}:{shm.st_ino}"
    return sorted(set(_holders(locks, inode)))


def _holders(locks: list[str], inode: str) -> Iterator[int]:
    """Yield who holds one of the locks of a reader, from lines as /proc/locks has them.

    Such as `1: POSIX  ADVISORY  READ 4711 08:01:131 124 124`.
    """
    for line in locks:
        match line.split():
            case [_, "POSIX", _, "READ", process, place, first, _] if place == inode:
                if int(first) in _READ_LOCKS:
                    yield int(process)


def _is_emptied(connection: sqlite3.Connection) -> bool:
    """Move all that is in the log into the file, unless somebody would have to be waited for."""
    (wait_ms,) = connection.execute("PRAGMA busy_timeout").fetchone()
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        (is_busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error:
        return False  # what was committed is safe; the next write will find out
    finally:
        connection.execute(f"PRAGMA busy_timeout = {wait_ms}")
    return not is_busy


def _beside(journal: Path, suffix: str) -> Path:
    return journal.with_name(journal.name + suffix)
