"""Table `surplus`: of which bars the exchange has no trades at all.

Stores cannot forget a bar, so it stays, but it is never complete and its interval not covered. Its
row outlives that of the bar: stores have it for longer than the journal. All functions may raise
sqlite3.Error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bintrades.journal.damage import reading_rows
from bintrades.journal.meta import log_mended

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from bintrades.core.write_batch import Key


def put_surplus(connection: sqlite3.Connection, keys: Iterable[Key]) -> None:
    """Record that the exchange has no trades where the bars of *keys* are."""
    connection.executemany("INSERT OR REPLACE INTO surplus VALUES (?, ?)", list(keys))


def delete_surplus(connection: sqlite3.Connection, keys: Iterable[Key]) -> None:
    """Forget it: the exchange has trades there after all."""
    connection.executemany("DELETE FROM surplus WHERE symbol = ? AND open_time = ?", list(keys))


def read_surplus(connection: sqlite3.Connection) -> frozenset[Key]:
    """Return the keys of all of them."""
    return frozenset(connection.execute("SELECT symbol, open_time FROM surplus"))


def surplus_of(
    connection: sqlite3.Connection, symbol: str, since_ms: int, until_ms: int
) -> list[int]:
    """Return when those of a symbol open, within that time, oldest first. Raises UnreadableRow."""
    rows = connection.execute(
        "SELECT open_time FROM surplus WHERE symbol = ? AND open_time >= ? AND open_time < ?"
        " ORDER BY open_time",
        (symbol, since_ms, until_ms),
    )
    with reading_rows():
        return [int(open_time) for (open_time,) in rows]


def find_surplus(connection: sqlite3.Connection) -> None:
    """Record those again of which it is not known any more. Looks at every bar.

    They are among the bars that were rebuilt and are not complete. Where others are taken for one,
    the audit finds that the exchange has trades there.
    """
    connection.execute(
        "INSERT OR IGNORE INTO surplus SELECT symbol, open_time FROM bars"
        " WHERE epoch > 0 AND is_closed AND NOT is_complete"
    )


def mend_surplus(connection: sqlite3.Connection) -> None:
    """Find the bars of rows that cannot be, in the place of these."""
    corrupt = connection.execute(
        "DELETE FROM surplus WHERE typeof(symbol) <> 'text' OR typeof(open_time) <> 'integer'"
        " RETURNING symbol, open_time"
    ).fetchall()
    for symbol, open_time in corrupt:
        log_mended(f"surplus bar of {symbol}", open_time)
    if corrupt:
        find_surplus(connection)
