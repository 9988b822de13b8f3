"""The journal's file: opening and checking it, rows from and to values."""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from bintrades.errors import ConfigError, JournalError
from bintrades.journal.schema import APPLICATION_ID, SCHEMA_VERSION
from bintrades.journal.wal import AUTOCHECKPOINT_PAGES, WAL_LIMIT
from bintrades.model import Bar, Gap, GapCause, GapKind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LOCK_TIMEOUT_S = 10.0
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_ANY_TEXT = partial(str, encoding="utf-8", errors="replace")
_UNREADABLE = {sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_CORRUPTFS}  # a bad sector
_NOT_UTF8 = "Could not decode to UTF-8"  # Python's own words: SQLite does not look into a text


class UnreadableRow(sqlite3.DatabaseError):
    """A row that SQLite finds nothing wrong with, but whose values are not what was written."""

    key: tuple[str, int] | None = None  # symbol and open time, of a bar


_SPOILT = (ArithmeticError, TypeError, ValueError, msgspec.DecodeError)
"""What is raised by values of a wrong kind."""


@contextlib.contextmanager
def reading_rows() -> Iterator[None]:
    """Have whatever is raised by values of a wrong kind be UnreadableRow."""
    try:
        yield
    except _SPOILT as error:
        raise UnreadableRow(f"a row cannot be read: {error!r}") from error


_open_bars = msgspec.json.Decoder(tuple[Bar, ...])

_CAUSES = frozenset(GapCause)

GAP_COLUMNS = "first_id, last_id, since, until, cause, attempts, last_error, is_abandoned"


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
    # A spoilt text is no worse than any other spoilt value: UnreadableRow.
    connection.text_factory = _ANY_TEXT
    try:
        connection.execute("PRAGMA recursive_triggers = ON")  # so that REPLACE counts, too
        connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {AUTOCHECKPOINT_PAGES}")
        _check(connection, path, accepts_older=accepts_older)
    except sqlite3.Error as error:
        connection.close()
        raise JournalError(f"{path}: {error}") from error
    except UnicodeDecodeError as error:  # SQLite has put a spoilt name into what it says
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
    """Return all rows, spoilt texts among them or not; a tolerant text_factory doubles the cost.

    Raises sqlite3.Error.
    """
    before, connection.text_factory = connection.text_factory, str
    try:
        return connection.execute(query, arguments).fetchall()
    except sqlite3.OperationalError as error:
        if _NOT_UTF8 not in str(error):
            raise
        connection.text_factory = _ANY_TEXT
        return connection.execute(query, arguments).fetchall()
    finally:
        connection.text_factory = before


def is_damaged(error: BaseException | None) -> bool:
    """Whether *error* says that the file itself is spoilt, so that trying again is no use."""
    if isinstance(error, UnreadableRow) or _NOT_UTF8 in str(error):
        return True
    code = getattr(error, "sqlite_errorcode", 0) or 0
    return code & 0xFF in _DAMAGED or code in _UNREADABLE


def set_aside(path: Path) -> Path:
    """Rename a damaged journal and its companions, for whoever wants to recover what is in it."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    for suffix in ("", "-wal", "-shm"):
        companion = path.with_name(path.name + suffix)
        if companion.exists():
            companion.rename(aside.with_name(aside.name + suffix))
    return aside


def bar_row(bar: Bar, updated_at: int, *, is_complete: bool) -> tuple[Any, ...]:
    """Return *bar* in the order of journal_bars.BAR_COLUMNS, as version 1."""
    return (
        bar.symbol,
        bar.open_time_ms,
        1,
        updated_at,
        bar.is_closed,
        is_complete,
        bar.trade_count,
        bar.buy_count,
        str(bar.quantity),
        str(bar.buy_quantity),
        str(bar.value),
        str(bar.buy_value),
        str(bar.open_price),
        str(bar.close_price),
        str(bar.min_price),
        str(bar.max_price),
        bar.first_trade_id,
        bar.last_trade_id,
        bar.first_trade_time_ms,
        bar.last_trade_time_ms,
        bar.epoch,
    )


def bar_from_row(row: tuple[Any, ...], market: str, interval_ms: int) -> Bar:
    """Return the bar of a row selected by journal_bars.BAR_COLUMNS. Raises UnreadableRow."""
    try:
        sum(row[16:21], sum(row[1:8]))  # whole numbers, or it raises
        if not isinstance(row[0], str):
            raise TypeError("a symbol is no text")
        return Bar(  # by place, which costs less than by name: for each of millions of bars
            row[0],
            market,
            row[1],
            interval_ms,
            row[6],
            row[7],
            Decimal(row[8]),
            Decimal(row[9]),
            Decimal(row[10]),
            Decimal(row[11]),
            Decimal(row[12]),
            Decimal(row[13]),
            Decimal(row[14]),
            Decimal(row[15]),
            row[16],
            row[17],
            row[18],
            row[19],
            bool(row[4]),
            bool(row[5]),
            row[2],
            row[3],
            row[20],
        )
    except _SPOILT as error:
        raise UnreadableRow(f"a row cannot be read: {error!r}") from error


def encode_open_bars(bars: tuple[Bar, ...]) -> str:
    """Return *bars* as one JSON text, each an array of its fields in the order of Bar."""
    return msgspec.json.encode(bars).decode()


def decode_open_bars(text: str) -> tuple[Bar, ...]:
    """Return what encode_open_bars was given. Raises UnreadableRow for anything else."""
    with reading_rows():
        return _open_bars.decode(text)


def gap_row(gap: Gap) -> tuple[Any, ...]:
    """Return *gap* in the order of GAP_COLUMNS."""
    return (
        gap.first_id,
        gap.last_id,
        gap.since_ms,
        gap.until_ms,
        gap.cause,
        gap.attempts,
        gap.last_error,
        gap.is_abandoned,
    )


def gap_from_row(row: tuple[Any, ...]) -> Gap:
    """Return the gap of a row selected by GAP_COLUMNS. Raises UnreadableRow."""
    first_id, last_id, since, until, cause, attempts, last_error, is_abandoned = row
    with reading_rows():
        sum((first_id, last_id, since, until, attempts))  # whole numbers, or it raises
        known_cause = GapCause(cause) if cause in _CAUSES else GapCause.LOST
    return with_kind(
        Gap(
            *(first_id, last_id, since, until, known_cause, attempts, last_error),
            is_abandoned=bool(is_abandoned),
        )
    )


def with_kind(gap: Gap) -> Gap:
    """Return a gap that was stored, of the kind that its key and its cause stand for."""
    if gap.first_id < 0:
        return replace(gap, kind=GapKind.UNNUMBERED)
    if gap.first_id == 0 and gap.cause == GapCause.START:
        return replace(gap, kind=GapKind.BEGINNING)
    return gap
