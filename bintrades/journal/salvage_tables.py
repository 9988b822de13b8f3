"""Copies the small tables of a damaged journal row by row, from both ends up to what is corrupt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bintrades.journal.connection import transaction
from bintrades.journal.damage import READ_ERRORS, is_of_the_file
from bintrades.journal.rows import CHECKPOINT_COLUMNS, GAP_COLUMNS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

SMALL = {  # tables of every version: how many columns are the key, and all of them
    "facts": (1, "name, value"),
    "cursors": (1, "store, sequence"),
    "checkpoints": (1, f"symbol, {CHECKPOINT_COLUMNS}, updated_at"),
    "gaps": (2, f"symbol, {GAP_COLUMNS}"),
    "past_gaps": (
        2,
        "symbol, last_id, first_id, since, until, cause, attempts, last_error, outcome, closed_at",
    ),
    "rejected": (3, "open_time, symbol, store, reason, rejected_at, is_due"),
}
LATER = {  # tables of later versions, copied once the new file has them
    "pruned": (1, "symbol, through"),
    "written": (1, "at, sequence"),
    "lost_bars": (2, "symbol, open_time, reason"),
    "absent": (2, f"symbol, {GAP_COLUMNS}, absent_at, looks"),
    "undelivered": (3, "store, symbol, since, through"),
    "proofs": (1, "symbol, proven, last_time, covered_since"),
    "verified": (2, "symbol, since, until"),
    "differences": (
        3,
        "symbol, open_time, interval, ours, theirs, found_at, changed_at, outcome",
    ),
    "rebuilt": (2, "symbol, open_time, bar"),
    "surplus": (2, "symbol, open_time"),
    "excluded": (2, "symbol, first_id, last_id"),
}
_TABLES = {**SMALL, **LATER}
_LATER_COLUMNS = ("epoch", "excluded_count", "is_approximate", "contract_size")
"""Of the table of bars, with defaults for those of earlier versions."""


def copy_tables(
    connection: sqlite3.Connection,
    damaged: sqlite3.Connection,
    tables: Iterable[str],
    symbols: Iterable[str],
) -> dict[str, str]:
    """Copy what can be read of *tables*; return those of which it is not all, and why."""
    found = {table: _copy_table(connection, damaged, table, symbols) for table in tables}
    return {table: reason for table, reason in found.items() if reason is not None}


def _copy_table(
    connection: sqlite3.Connection,
    damaged: sqlite3.Connection,
    table: str,
    symbols: Iterable[str],
) -> str | None:
    keys, columns = _TABLES[table]
    names = columns.split(", ")
    select = f"SELECT {columns} FROM {table}"  # noqa: S608 - constants
    insert = (
        f"INSERT OR IGNORE INTO main.{table} ({columns})"  # noqa: S608
        f" VALUES ({', '.join('?' * len(names))})"
    )
    reason = None
    types = _types_of(connection, table, names)
    with transaction(connection):
        for direction in ("ASC", "DESC"):  # from both ends, up to what is corrupt
            order = ", ".join(f"{name} {direction}" for name in names[:keys])
            rows = _rows(damaged, f"{select} ORDER BY {order}")
            reason = _copy_rows(rows, connection, insert, types)
            if reason is None:
                return None
        if names[0] == "symbol":
            for symbol in symbols:
                rows = _rows(damaged, f"{select} WHERE symbol = ?", symbol)
                _copy_rows(rows, connection, insert, types)
    return reason


def tables_there(connection: sqlite3.Connection) -> tuple[set[str], str]:
    """Return the tables of the damaged file that are known to be there, and why others are not."""
    found, reason = set(), ""
    for table in (*_TABLES, "bars", "blocks"):
        try:
            connection.execute(f"SELECT 1 FROM damaged.{table} LIMIT 0").fetchall()  # noqa: S608
            found.add(table)
        except READ_ERRORS as error:
            if not is_of_the_file(error):
                raise
            reason = str(error)
    return found, reason


def lacking_columns(connection: sqlite3.Connection) -> list[str]:
    """Return the columns of later versions that the damaged file's bars do not have."""
    lacking = []
    for column in _LATER_COLUMNS:
        try:
            connection.execute(f"SELECT {column} FROM damaged.bars LIMIT 0").fetchall()  # noqa: S608
        except READ_ERRORS as error:
            if not is_of_the_file(error):
                raise
            lacking.append(column)
    return lacking


def _rows(damaged: sqlite3.Connection, select: str, *values: str) -> Iterator[tuple[Any, ...]]:
    yield from damaged.execute(select, values)


def _types_of(
    connection: sqlite3.Connection, table: str, columns: Iterable[str]
) -> list[tuple[type, ...]]:
    """Return what the values of each column may be."""
    kinds: dict[str, type] = {"INTEGER": int, "TEXT": str}
    types = {
        name: (kinds[kind],) if not_null or is_key else (kinds[kind], type(None))
        for _, name, kind, not_null, _, is_key in connection.execute(
            f"PRAGMA main.table_info({table})"
        )
    }
    return [types[name] for name in columns]


def _copy_rows(
    rows: Iterator[tuple[Any, ...]],
    connection: sqlite3.Connection,
    insert: str,
    types: Sequence[tuple[type, ...]],
) -> str | None:
    """Copy valid rows up to the first that cannot be read; return what is wrong."""
    reason = None
    while True:
        try:
            row = next(rows, None)
        except READ_ERRORS as error:
            if not is_of_the_file(error):
                raise
            return str(error)
        if row is None:
            return reason
        if all(map(isinstance, row, types)):
            connection.execute(insert, row)
        else:
            reason = "a row has values that cannot be"
