"""Table `bars`: how bars are written and found, by key, by sequence, and by symbol and time.

Everything here costs in proportion to what it returns, however many bars there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bintrades.journal.connection import fetch_rows
from bintrades.journal.damage import UnreadableRow
from bintrades.journal.rows import BAR_COLUMNS, COLUMN, bar_from_row
from bintrades.journal.schema import BLOCK_MS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from bintrades.core.write_batch import Key
    from bintrades.journal.meta import JournalScope
    from bintrades.journal.rows import Row
    from bintrades.model import Bar

_PLACES = ", ".join("?" * (len(COLUMN) + 1))
_UPDATES = ", ".join(
    f"{column} = excluded.{column}"
    for column in f"{BAR_COLUMNS}, sequence".split(", ")
    if column not in ("symbol", "open_time", "version")
)
PUT_BAR = (
    f"INSERT INTO bars ({BAR_COLUMNS}, sequence) VALUES ({_PLACES})"  # noqa: S608 - constants
    f" ON CONFLICT (open_time, symbol) DO UPDATE SET version = bars.version + 1, {_UPDATES}"
    " WHERE (excluded.epoch, excluded.trade_count, excluded.is_closed)"
    " >= (bars.epoch, bars.trade_count, bars.is_closed)"
)
"""Takes a row of BAR_COLUMNS and a sequence number; a bar that is there gets its next version.

Never back: one that ranks below it (see Bar.rank) changes nothing. Of two that differ in nothing
but is_complete the new one is taken, since the gaps on record say which is right.
"""

GET_BAR = f"SELECT {BAR_COLUMNS} FROM bars WHERE symbol = ? AND open_time = ?"  # noqa: S608

DELETE_BAR = "DELETE FROM bars WHERE symbol = ? AND open_time = ?"

BARS_AFTER = (
    f"SELECT {BAR_COLUMNS}, sequence FROM bars"  # noqa: S608 - constants
    " WHERE sequence > ? ORDER BY sequence LIMIT ?"
)
"""What was written after a sequence number, oldest version first."""

BARS_FROM = (
    f"SELECT {BAR_COLUMNS} FROM bars"  # noqa: S608 - constants
    " WHERE (open_time, symbol) > (?, ?) ORDER BY open_time, symbol LIMIT ?"
)
"""What is to be sent again after a Place, in the order of the table."""

BARS_DUE = (
    f"SELECT {BAR_COLUMNS} FROM rejected CROSS JOIN bars USING (symbol, open_time)"  # noqa: S608
    " WHERE store = ? AND is_due = 1 ORDER BY rejected.open_time, rejected.symbol LIMIT ?"
)
"""What a store refused and is to get again. CROSS JOIN: from the few refused ones to the bars."""

PRUNABLE = (
    "SELECT symbol, open_time, sequence, is_closed AND NOT EXISTS"
    " (SELECT 1 FROM rejected WHERE rejected.open_time = bars.open_time"
    "  AND rejected.symbol = bars.symbol)"
    " FROM bars WHERE sequence > ? AND sequence <= ? ORDER BY sequence LIMIT ?"
)
"""Of bars between two sequence numbers: key, number, and whether no store and no trade waits for
the row."""

_COUNT_SINCE = """
SELECT (SELECT count(*) FROM bars WHERE open_time >= :since AND open_time < :next)
    + (SELECT coalesce(sum(bars), 0) FROM blocks WHERE block >= :next / :block)
"""

_IN_BLOCK = f"""
WITH RECURSIVE times (open_time) AS (
    SELECT max(open_time) FROM bars WHERE open_time < :until
    UNION ALL
    SELECT (SELECT max(bars.open_time) FROM bars WHERE bars.open_time < times.open_time)
    FROM times WHERE times.open_time >= :since
)
SELECT {BAR_COLUMNS} FROM times CROSS JOIN bars USING (open_time)
WHERE symbol = :symbol AND open_time >= :since
"""  # noqa: S608 - constants
"""Bars of one symbol within a block: from one open time to the next, each time for that symbol."""

_BEFORE = f"{_IN_BLOCK} LIMIT 1"
"""The newest of those: SQLite looks no further than it is asked."""

_AFTER = f"""
WITH RECURSIVE times (open_time) AS (
    SELECT min(open_time) FROM bars WHERE open_time >= :since
    UNION ALL
    SELECT (SELECT min(bars.open_time) FROM bars WHERE bars.open_time > times.open_time)
    FROM times WHERE times.open_time < :until
)
SELECT {BAR_COLUMNS} FROM times CROSS JOIN bars USING (open_time)
WHERE symbol = :symbol AND open_time < :until LIMIT 1
"""  # noqa: S608 - constants
"""The oldest of them."""

_PAGE_ROWS = 1_000
_IS_COMPLETE = COLUMN["is_complete"]
_END = 2**62
_LAST_BLOCK = _END // BLOCK_MS


def pages(
    connection: sqlite3.Connection, symbol: str, since_ms: int, until_ms: int
) -> Iterator[list[Row]]:
    """Yield rows of bars with since_ms <= open time < until_ms, oldest first.

    Raises sqlite3.Error.
    """
    while rows := page(connection, symbol, since_ms, until_ms):
        yield rows
        since_ms = after_page(rows)


def page(connection: sqlite3.Connection, symbol: str, since_ms: int, until_ms: int) -> list[Row]:
    """Return the first of those pages: whole blocks; none if it is empty. Raises sqlite3.Error."""
    first, last = since_ms // BLOCK_MS, (until_ms - 1) // BLOCK_MS
    rows: list[Row] = []
    for block in _blocks(connection, symbol, first, last):
        rows += _in_block(connection, symbol, block, since_ms, until_ms)
        if len(rows) >= _PAGE_ROWS:
            break
    return rows


WAITING_SINCE = "SELECT updated_at FROM bars WHERE sequence > ? ORDER BY sequence LIMIT 1"
"""When the first bar after a sequence number was written."""

DUE_SINCE = (
    "SELECT updated_at FROM rejected CROSS JOIN bars USING (symbol, open_time)"
    " WHERE store = ? AND is_due = 1 ORDER BY rejected.open_time, rejected.symbol LIMIT 1"
)
"""When the first bar was written that a store refused and is to get again."""


def after_page(rows: list[Row]) -> int:
    """Return since when the page after *rows* is."""
    return int((rows[-1][1] // BLOCK_MS + 1) * BLOCK_MS)


def newest(
    connection: sqlite3.Connection, symbol: str, since_ms: int, until_ms: int, limit: int
) -> tuple[int, int]:
    """Return where the newest *limit* bars of that span begin, and how many there are.

    Raises sqlite3.Error.
    """
    count = 0
    last = (until_ms - 1) // BLOCK_MS
    for block in _blocks_backwards(connection, symbol, since_ms // BLOCK_MS, last):
        (stored,) = connection.execute(
            "SELECT bars FROM blocks WHERE block = ? AND symbol = ?", (block, symbol)
        ).fetchone() or (0,)
        is_whole = since_ms <= block * BLOCK_MS and (block + 1) * BLOCK_MS <= until_ms
        if not isinstance(stored, int):
            raise UnreadableRow(f"of {symbol} there are {stored!r} bars in an hour")
        if is_whole and count + stored <= limit:
            count += stored
            if count == limit:
                return block * BLOCK_MS, count
            continue
        times = [row[1] for row in _in_block(connection, symbol, block, since_ms, until_ms)]
        if count + len(times) >= limit:
            return times[count - limit], limit
        count += len(times)
    return since_ms, count


def after_newest_complete(connection: sqlite3.Connection, symbol: str) -> list[int]:
    """Return the open times of the bars of *symbol* that are newer than its newest complete one.

    Raises sqlite3.Error.
    """
    times: list[int] = []
    for block in _blocks_backwards(connection, symbol, 0, _LAST_BLOCK):
        for row in reversed(_in_block(connection, symbol, block, 0, _END)):
            if row[_IS_COMPLETE]:
                return times
            times.append(int(row[1]))
    return times


def read_bar(row: Row, scope: JournalScope) -> Bar:
    """Return the bar of a row selected by BAR_COLUMNS. Raises UnreadableRow with its key."""
    try:
        return bar_from_row(row, scope.market, scope.interval_ms)
    except UnreadableRow as error:
        error.key = (row[0], row[1])
        raise


def get_bar(connection: sqlite3.Connection, scope: JournalScope, key: Key) -> Bar | None:
    """Return the stored bar of *key*, if there is one. Raises UnreadableRow, sqlite3.Error."""
    row = connection.execute(GET_BAR, key).fetchone()
    return None if row is None else read_bar(row, scope)


def count_since(connection: sqlite3.Connection, since_ms: int) -> int:
    """Return how many bars open then or later. Raises sqlite3.Error."""
    span = {"since": since_ms, "next": (since_ms // BLOCK_MS + 1) * BLOCK_MS, "block": BLOCK_MS}
    (count,) = connection.execute(_COUNT_SINCE, span).fetchone()
    return int(count)


def is_unclosed(connection: sqlite3.Connection, key: Key) -> bool:
    """Whether an orderly stop has written the bar, so that it is counted. Raises sqlite3.Error."""
    row = connection.execute(
        "SELECT is_closed FROM bars WHERE symbol = ? AND open_time = ?", key
    ).fetchone()
    return row is not None and not row[0]


def newest_open_time(connection: sqlite3.Connection) -> int | None:
    """Return the open time of the newest bar of any symbol. Raises sqlite3.Error."""
    (newest,) = connection.execute("SELECT max(open_time) FROM bars").fetchone()
    return None if newest is None else int(newest)


def neighbours(
    connection: sqlite3.Connection, symbol: str, open_time: int
) -> tuple[Row | None, Row | None]:
    """Return the rows of the bars of *symbol* before and after *open_time*.

    Raises sqlite3.Error.
    """
    here = open_time // BLOCK_MS
    earlier = _blocks_backwards(connection, symbol, 0, here)
    later = _blocks(connection, symbol, here, _LAST_BLOCK)
    return (
        _first_found(connection, _BEFORE, symbol, earlier, 0, open_time),
        _first_found(connection, _AFTER, symbol, later, open_time + 1, _END),
    )


def _first_found(
    connection: sqlite3.Connection,
    query: str,
    symbol: str,
    blocks: Iterator[int],
    since_ms: int,
    until_ms: int,
) -> Row | None:
    """Return what *query* finds in the first of *blocks* that has some of it."""
    for block in blocks:
        if rows := fetch_rows(connection, query, _span(symbol, block, since_ms, until_ms)):
            return rows[0]
    return None


def _in_block(
    connection: sqlite3.Connection, symbol: str, block: int, since_ms: int, until_ms: int
) -> list[Row]:
    rows = fetch_rows(connection, _IN_BLOCK, _span(symbol, block, since_ms, until_ms))
    return sorted(rows, key=lambda row: row[1])


def _span(symbol: str, block: int, since_ms: int, until_ms: int) -> dict[str, str | int]:
    return {
        "symbol": symbol,
        "since": max(since_ms, block * BLOCK_MS),
        "until": min(until_ms, (block + 1) * BLOCK_MS),
    }


def _blocks(connection: sqlite3.Connection, symbol: str, first: int, last: int) -> Iterator[int]:
    """Yield the blocks in which *symbol* has bars, oldest first."""
    block = first - 1
    while True:
        (block,) = connection.execute(
            "SELECT min(block) FROM blocks WHERE symbol = ? AND block > ? AND block <= ?",
            (symbol, block, last),
        ).fetchone()
        if block is None:
            return
        yield block


def _blocks_backwards(
    connection: sqlite3.Connection, symbol: str, first: int, last: int
) -> Iterator[int]:
    """Yield the blocks in which *symbol* has bars, newest first."""
    block = last + 1
    while True:
        (block,) = connection.execute(
            "SELECT max(block) FROM blocks WHERE symbol = ? AND block < ? AND block >= ?",
            (symbol, block, first),
        ).fetchone()
        if block is None:
            return
        yield block
