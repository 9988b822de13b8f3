"""Connections to the journal's file: how it is opened, and the transaction of all who write."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from functools import partial
from typing import TYPE_CHECKING

from bintrades.errors import ConfigError, JournalError
from bintrades.journal.damage import NOT_UTF8, UnreadableRow
from bintrades.journal.schema import APPLICATION_ID, SCHEMA_VERSION
from bintrades.journal.wal import AUTOCHECKPOINT_PAGES, WAL_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

_LOCK_TIMEOUT_S = 10.0
_POLL_S = 0.001  # how often the write lock is tried
_ANY_TEXT = partial(str, encoding="utf-8", errors="replace")


def connect(
    path: Path,
    *,
    is_read_only: bool = False,
    accepts_older: bool = False,
    lock_timeout_s: float = _LOCK_TIMEOUT_S,
) -> sqlite3.Connection:
    """Open the file; raise JournalError, or ConfigError where only the user can help.

    The connection is in autocommit mode and may be handed from one thread to another. A journal
    of an earlier version is refused but where *accepts_older*, by whoever brings it up to date.
    """
    mode = "ro" if is_read_only else "rwc"
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=lock_timeout_s,
            isolation_level=None,
            check_same_thread=False,
        )
    except sqlite3.Error as error:
        raise JournalError(f"{path}: cannot be opened: {error}") from error
    # A corrupt text is no worse than any other corrupt value: UnreadableRow.
    connection.text_factory = _ANY_TEXT
    try:
        connection.execute("PRAGMA recursive_triggers = ON")  # so that REPLACE counts, too
        connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {AUTOCHECKPOINT_PAGES}")
        _check(connection, path, accepts_older=accepts_older)
    except sqlite3.Error as error:
        connection.close()
        raise JournalError(f"{path}: {error}") from error
    except UnicodeDecodeError as error:  # SQLite has put a corrupt name into what it says
        connection.close()
        raise UnreadableRow(f"the schema cannot be read: {error}") from error
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection, path: Path, *, accepts_older: bool) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT EXISTS (SELECT 1 FROM sqlite_schema)").fetchone()
    if application != APPLICATION_ID and (application or version or tables):
        raise ConfigError(
            f"{path}: is an SQLite database, but not a journal of bintrades;"
            " set [journal] path to another file"
        )
    if version > SCHEMA_VERSION:
        raise ConfigError(
            f"{path}: was made by a newer bintrades (journal version {version}, this one knows up"
            f" to {SCHEMA_VERSION}); upgrade bintrades, or set [journal] path to another file"
        )
    if 0 < version < SCHEMA_VERSION and not accepts_older:
        raise JournalError(
            f"{path}: was made by an older bintrades (journal version {version}, this one needs"
            f" {SCHEMA_VERSION}); `bintrades run` of this one brings it up to date, so stop the"
            " collector and start it again"
        )


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing, holding the write lock from the start."""
    if connection.in_transaction:  # an earlier one that could not even be rolled back
        connection.execute("ROLLBACK")
    _begin(connection)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A commit that failed for want of space may have ended the transaction already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _begin(connection: sqlite3.Connection) -> None:
    """Take the write lock as soon as it is free, or raise sqlite3.Error after busy_timeout.

    SQLite itself looks less and less often, up to ten times a second. Between two commits of one
    who writes thousands of bars the lock is free for a few milliseconds, and a store that has
    stored some of them would wait for the last of them all the same.
    """
    (wait_ms,) = connection.execute("PRAGMA busy_timeout").fetchone()
    deadline = time.monotonic() + wait_ms / 1_000
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        while not _has_begun(connection, is_last_try=time.monotonic() >= deadline):
            time.sleep(_POLL_S)
    finally:
        connection.execute(f"PRAGMA busy_timeout = {wait_ms}")


def _has_begun(connection: sqlite3.Connection, *, is_last_try: bool) -> bool:
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if is_last_try or error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        return False
    return True


def symbols_in(connection: sqlite3.Connection, table: str) -> list[str]:
    """Return the symbols in a *table* of which an index begins with them. Raises sqlite3.Error.

    From one to the next: of each there may be thousands of rows.
    """
    found = connection.execute(
        f"""
        WITH RECURSIVE symbols (symbol) AS (
            SELECT min(symbol) FROM {table}
            UNION ALL
            SELECT (SELECT min({table}.symbol) FROM {table} WHERE {table}.symbol > symbols.symbol)
            FROM symbols WHERE symbol IS NOT NULL
        )
        SELECT symbol FROM symbols WHERE symbol IS NOT NULL
        """  # noqa: S608 - names of ours
    )
    return [symbol for (symbol,) in found]


def fetch_rows(connection: sqlite3.Connection, query: str, arguments: Any) -> list[tuple[Any, ...]]:
    """Return all rows, corrupt texts among them or not; a tolerant text_factory doubles the cost.

    Raises sqlite3.Error.
    """
    before, connection.text_factory = connection.text_factory, str
    try:
        return connection.execute(query, arguments).fetchall()
    except sqlite3.OperationalError as error:
        if NOT_UTF8 not in str(error):
            raise
        connection.text_factory = _ANY_TEXT
        return connection.execute(query, arguments).fetchall()
    finally:
        connection.text_factory = before
