"""Tables `cursors` and `rejected`: how far each store is, and which bars it refused.

All functions may raise sqlite3.Error.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from bintrades.journal.bars import DUE_SINCE, WAITING_SINCE
from bintrades.journal.damage import WRONG_VALUES, UnreadableRow, reading_rows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator
    from typing import Any

    from bintrades.core.write_batch import Key

log = logging.getLogger(__name__)

_POSITION = """
SELECT sequence, (SELECT CAST(value AS INTEGER) FROM facts WHERE name = 'sequence')
FROM cursors WHERE store = ?
"""

_PAGE_ROWS = 100
_REFUSED_PAGES = (
    "SELECT rejected_at, open_time, symbol, reason FROM rejected WHERE store = :store"
    " AND is_due = 0 AND (rejected_at, open_time, symbol) > (:at, :open_time, :symbol)"
    " ORDER BY rejected_at, open_time, symbol LIMIT :limit",
    "SELECT rejected_at, open_time, symbol, reason FROM rejected WHERE store = :store"
    " AND is_due = 1 AND (open_time, symbol) > (:open_time, :symbol)"
    " ORDER BY open_time, symbol LIMIT :limit",
)
"""What a store refused, as it came, and what of that is to be sent again; each by its index."""

RefusedRow = tuple[int, int, str, str]
"""When it was refused, the bar's open time and symbol, and why."""

BEFORE_ALL: RefusedRow = (-(2**63), -(2**63), "", "")


def position_of(connection: sqlite3.Connection, store: str) -> int:
    """Return which number of the sequence a store has come to."""
    row = connection.execute(_POSITION, (store,)).fetchone()
    return 0 if row is None else _checked(store, *row)


def first_position(
    connection: sqlite3.Connection, stores: Iterable[str], last_sequence: int
) -> int | None:
    """Return up to which number of the sequence all of *stores* have everything; None for none."""
    positions = dict(connection.execute("SELECT store, sequence FROM cursors"))
    return min(
        (_checked(store, positions.get(store, 0), last_sequence) for store in stores), default=None
    )


def put_position(connection: sqlite3.Connection, store: str, sequence: int) -> None:
    """Record that a store has everything up to that number of the sequence."""
    connection.execute(
        "INSERT INTO cursors (store, sequence) VALUES (?, ?)"
        " ON CONFLICT (store) DO UPDATE SET sequence = excluded.sequence",
        (store, sequence),
    )


def delete_corrupt_positions(connection: sqlite3.Connection, last_sequence: int) -> None:
    """Delete positions that cannot be; a store without one gets all bars again."""
    wrong = connection.execute(
        "DELETE FROM cursors WHERE typeof(sequence) <> 'integer'"
        " OR sequence NOT BETWEEN 0 AND ? RETURNING store, sequence",
        (last_sequence,),
    ).fetchall()
    for store, sequence in wrong:
        log.error(
            "how far a store is cannot be right and is forgotten; it gets all bars again",
            extra={"event": "store_position_corrupt", "store": store, "sequence": str(sequence)},
        )


def waiting_and_refused(connection: sqlite3.Connection, store: str) -> tuple[int, int] | None:
    """Return how many bars wait for a store and how many it refused; None before its first bar."""
    row: tuple[int, int] | None = connection.execute(
        "SELECT waiting + due, refused FROM cursors WHERE store = ?", (store,)
    ).fetchone()
    return row


def waiting_since(connection: sqlite3.Connection, store: str) -> int | None:
    """Return when the oldest bar was written that waits for a store; None: none, or not known."""
    try:
        rows = [
            connection.execute(WAITING_SINCE, (position_of(connection, store),)).fetchone(),
            connection.execute(DUE_SINCE, (store,)).fetchone(),
        ]
    except UnreadableRow:
        return None
    return min((row[0] for row in rows if row and isinstance(row[0], int)), default=None)


def last_refusal(connection: sqlite3.Connection, store: str) -> str | None:
    """Return why the store refused a bar most recently, if it has refused some."""
    row = connection.execute(
        "SELECT reason FROM rejected WHERE store = ? AND is_due = 0"
        " ORDER BY rejected_at DESC LIMIT 1",
        (store,),
    ).fetchone()
    return None if row is None else row[0]


def stores_known(connection: sqlite3.Connection) -> list[str]:
    """Return the stores that have a place in the journal, enabled or not, in alphabetical order."""
    return [name for (name,) in connection.execute("SELECT store FROM cursors ORDER BY store")]


def refused_page(
    connection: sqlite3.Connection, store: str, after: RefusedRow, *, is_due: bool
) -> list[RefusedRow]:
    """Return the next bars that *store* refused, or that of those are to be sent again.

    None when *after* was the last.
    """
    at, open_time, symbol, _ = after
    place = {"store": store, "at": at, "open_time": open_time, "symbol": symbol}
    return connection.execute(_REFUSED_PAGES[is_due], place | {"limit": _PAGE_ROWS}).fetchall()


def readable_refusals(store: str, rows: Iterable[RefusedRow]) -> Iterator[RefusedRow]:
    """Yield all rows of a page but corrupt ones."""
    for at, open_time, symbol, reason in rows:
        try:
            yield int(at), int(open_time), symbol, str(reason)
        except WRONG_VALUES as error:
            log.warning(
                "a bar that a store refused is on record and cannot be read",
                extra={"event": "refusal_corrupt", "store": store, "error": str(error)},
            )


def resend_refused(connection: sqlite3.Connection, store: str) -> int:
    """Have the bars that *store* refused delivered again; return how many."""
    return connection.execute(
        "UPDATE rejected SET is_due = 1 WHERE store = ? AND is_due = 0", (store,)
    ).rowcount


def put_refused(
    connection: sqlite3.Connection,
    store: str,
    bars: Iterable[tuple[str, int, str]],
    now_ms: int,
) -> None:
    """Record symbol, open time and reason of bars that a store refused."""
    connection.executemany(
        "INSERT OR REPLACE INTO rejected VALUES (?, ?, ?, ?, ?, 0)",
        [(store, *bar, now_ms) for bar in bars],
    )


def delete_refused(connection: sqlite3.Connection, store: str, keys: Iterable[Key]) -> None:
    """Record that a store has these bars, which it may have refused before."""
    (has_some,) = connection.execute("SELECT EXISTS (SELECT 1 FROM rejected)").fetchone()
    if has_some:  # nearly never, and looking for each bar is not free
        connection.executemany(
            "DELETE FROM rejected WHERE store = ? AND symbol = ? AND open_time = ?",
            [(store, *key) for key in keys],
        )


def _checked(store: str, position: Any, last_sequence: int) -> int:
    """Return *position*; raise UnreadableRow where no store can have come so far."""
    with reading_rows():
        if not (isinstance(position, int) and 0 <= position <= last_sequence):
            raise ValueError(f"store {store} has come to {position} of {last_sequence}")
        return position
