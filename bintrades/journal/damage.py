"""How damage of the journal's file shows, and where a damaged file is put."""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_UNREADABLE = {sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_CORRUPTFS}  # a bad sector

NOT_UTF8 = "Could not decode to UTF-8"
"""Python's own words for a corrupt text: SQLite does not look into one."""

WRONG_VALUES = (ArithmeticError, TypeError, ValueError, msgspec.DecodeError)
"""What values of a wrong kind raise."""


READ_ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""What SQLite raises, and Python where a corrupt name is in what SQLite says."""

_OF_THE_MACHINE = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT,
}


class UnreadableRow(sqlite3.DatabaseError):
    """A row that SQLite finds nothing wrong with, but whose values are not what was written."""

    key: tuple[str, int] | None = None  # symbol and open time, of a bar


@contextlib.contextmanager
def reading_rows() -> Iterator[None]:
    """Raise UnreadableRow for whatever values of a wrong kind raise."""
    try:
        yield
    except WRONG_VALUES as error:
        raise UnreadableRow(f"a row cannot be read: {error!r}") from error


def checked_symbol(value: object) -> str:
    """Return the symbol that a row is of; raise UnreadableRow if it can be of none.

    So it is where a sector of its page is empty: whose row it was, nothing else shows.
    """
    if not isinstance(value, str):
        raise UnreadableRow(f"a row of no symbol: {value!r}")
    return value


def is_damaged(error: BaseException | None) -> bool:
    """Whether *error* says that the file itself is corrupt, so that a retry is no use."""
    if isinstance(error, UnreadableRow) or NOT_UTF8 in str(error):
        return True
    code = getattr(error, "sqlite_errorcode", 0) or 0
    return code & 0xFF in _DAMAGED or code in _UNREADABLE


def is_of_the_file(error: Exception) -> bool:
    """Whether *error* lies in what is read, and not in the machine.

    A corrupt schema or row may lead to nearly any error.
    """
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF not in _OF_THE_MACHINE or is_damaged(error)


def quarantine(path: Path) -> Path:
    """Rename a damaged journal and its companions, for whoever wants to recover what is in it."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    for suffix in ("", "-wal", "-shm"):
        companion = path.with_name(path.name + suffix)
        if companion.exists():
            companion.rename(aside.with_name(aside.name + suffix))
    return aside
