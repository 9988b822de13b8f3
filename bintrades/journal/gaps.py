"""What is and what was missing, as the journal has it, oldest first and page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bintrades.journal.file import GAP_COLUMNS

if TYPE_CHECKING:
    import sqlite3
    from typing import Any

GapRow = tuple["Any", ...]
"""Symbol, GAP_COLUMNS, state, and when it ended (0: it has not)."""

_LOWEST = -(2**63)
FROM_THE_BEGINNING: GapRow = ("", _LOWEST, 0, _LOWEST)

_PAGE_ROWS = 1_000
_COLUMNS = {
    "gaps": f"symbol, {GAP_COLUMNS}, CASE WHEN is_abandoned THEN 'abandoned' ELSE 'open' END, 0",
    "past_gaps": "symbol, first_id, last_id, since, until, cause, attempts, last_error, 0,"
    " outcome, closed_at",
}
TABLES = tuple(_COLUMNS)
"""Of what is missing, and of what was."""


def gap_page(
    connection: sqlite3.Connection, table: str, symbol: str | None, after: GapRow
) -> list[GapRow]:
    """Return the next gaps of a table, of one symbol or of all; none when *after* was the last.

    Raises sqlite3.Error.
    """
    where, order = (
        ("(since, symbol, first_id) > (:since, :after, :first_id)", "since, symbol, first_id")
        if symbol is None
        else ("symbol = :symbol AND (since, first_id) > (:since, :first_id)", "since, first_id")
    )
    return connection.execute(
        f"SELECT {_COLUMNS[table]} FROM {table} WHERE {where}"  # noqa: S608 - constants
        f" ORDER BY {order} LIMIT :limit",
        {
            "symbol": symbol,
            "since": after[3],
            "after": after[0],
            "first_id": after[1],
            "limit": _PAGE_ROWS,
        },
    ).fetchall()
