"""Table `excluded`: ids that are used, but are no fills of the order book, in ranges.

By them a bar of futures proves itself: its last id - first id + 1 is its trades and the ids in here
that lie between. No two ranges of a symbol overlap or follow each other without a gap.

Where ids have begun again, as on test networks, only those of the new numbering are in here; a row
of a negative number says since when it counts. All functions may raise sqlite3.Error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from bintrades.journal.damage import reading_rows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence

    from bintrades.core.write_batch import Checkpoint, IdRange, IdsRestart
    from bintrades.model import Gap

_HIGHEST_UP_TO = (
    "SELECT first_id, last_id FROM excluded WHERE symbol = ? AND first_id <= ?"
    " ORDER BY first_id DESC LIMIT 1"
)


def put_excluded(connection: sqlite3.Connection, symbol: str, ranges: Iterable[IdRange]) -> None:
    """Record ranges of ids, those included that are on record already."""
    for first_id, last_id in ranges:
        first, last = first_id, last_id
        while (row := _highest_up_to(connection, symbol, last + 1)) and row[1] >= first - 1:
            connection.execute(
                "DELETE FROM excluded WHERE symbol = ? AND first_id = ?", (symbol, row[0])
            )
            first, last = min(first, row[0]), max(last, row[1])
        connection.execute("INSERT INTO excluded VALUES (?, ?, ?)", (symbol, first, last))


def take_back(connection: sqlite3.Connection, symbol: str, first_id: int, last_id: int) -> None:
    """Have ids not be on record, those that are: one of them has turned out to be a fill."""
    while (row := _highest_up_to(connection, symbol, last_id)) and row[1] >= first_id:
        connection.execute(
            "DELETE FROM excluded WHERE symbol = ? AND first_id = ?", (symbol, row[0])
        )
        left = [(row[0], first_id - 1), (last_id + 1, row[1])]
        connection.executemany(
            "INSERT INTO excluded VALUES (?, ?, ?)",
            [(symbol, *ids) for ids in left if ids[0] <= ids[1]],
        )


def put_restart(connection: sqlite3.Connection, symbol: str, restart: IdsRestart) -> None:
    """Forget those of before ids began again, of which no bar is counted any more."""
    connection.execute(
        "DELETE FROM excluded WHERE symbol = ? AND first_id <= ?", (symbol, restart.last_id)
    )
    connection.execute(
        "INSERT INTO excluded VALUES (?, ?, ?)", (symbol, -restart.begun, -restart.begun)
    )


def numbered_since(connection: sqlite3.Connection, symbol: str) -> int:
    """Return when the first bar opens whose ids are those in here; 0: all are."""
    row = connection.execute(
        "SELECT first_id FROM excluded WHERE symbol = ? AND first_id < 0 ORDER BY first_id LIMIT 1",
        (symbol,),
    ).fetchone()
    with reading_rows():
        return 0 if row is None else -int(row[0])


def count_excluded(connection: sqlite3.Connection, symbol: str, first_id: int, last_id: int) -> int:
    """Return how many there are between two ids of fills."""
    (count,) = connection.execute(
        "SELECT coalesce(sum(last_id - first_id + 1), 0) FROM excluded"
        " WHERE symbol = ? AND first_id > ? AND first_id < ?",
        (symbol, first_id, last_id),
    ).fetchone()
    with reading_rows():
        return int(count)


def count_excluded_since(
    connection: sqlite3.Connection, symbol: str, time: int, first_id: int, last_id: int
) -> int:
    """Return how many there are between two ids of fills of *time* or later.

    0 where that is before ids began again: which those of then were is not known any more.
    """
    if time < numbered_since(connection, symbol):
        return 0
    return count_excluded(connection, symbol, first_id, last_id)


def delete_excluded(
    connection: sqlite3.Connection, symbol: str, first_id: int, last_id: int
) -> None:
    """Forget those between two ids, of which bars have left."""
    connection.execute(
        "DELETE FROM excluded WHERE symbol = ? AND first_id > ? AND first_id < ?",
        (symbol, first_id, last_id),
    )


def are_any_excluded(connection: sqlite3.Connection) -> bool:
    """Whether the journal has any, as those of futures do."""
    return connection.execute("SELECT 1 FROM excluded LIMIT 1").fetchone() is not None


def with_newest_fills(
    connection: sqlite3.Connection, checkpoints: Mapping[str, Checkpoint]
) -> dict[str, Checkpoint]:
    """Return *checkpoints* with the highest id of each symbol that is known to be of a fill."""
    found = {}
    for symbol, checkpoint in checkpoints.items():
        ledger = checkpoint.ledger
        if ledger.next_id is not None:
            fill_id = _newest_fill_id(connection, symbol, ledger.next_id, ledger.gaps)
            if fill_id != ledger.next_id - 1:
                checkpoint = replace(checkpoint, newest_fill_id=fill_id)
        found[symbol] = checkpoint
    return found


def _newest_fill_id(
    connection: sqlite3.Connection, symbol: str, next_id: int, gaps: Sequence[Gap]
) -> int:
    """Return the highest id before *next_id* that is known to be of a fill.

    It is neither excluded nor in one of *gaps*, which are in order. -1: there is none.
    """
    missing = [gap for gap in gaps if gap.has_ids]
    fill_id = next_id - 1
    while fill_id >= 0:
        row = _highest_up_to(connection, symbol, fill_id)
        if row is not None and row[1] >= fill_id:
            fill_id = row[0] - 1
            continue
        while missing and missing[-1].first_id > fill_id:
            missing.pop()
        if not missing or missing[-1].last_id < fill_id:
            break
        fill_id = missing.pop().first_id - 1
    return fill_id


def _highest_up_to(
    connection: sqlite3.Connection, symbol: str, first_id: int
) -> tuple[int, int] | None:
    """Return the range that begins last of those that begin no later than at *first_id*."""
    row = connection.execute(_HIGHEST_UP_TO, (symbol, first_id)).fetchone()
    with reading_rows():
        return None if row is None else (int(row[0]), int(row[1]))
