"""What SQLite has not noticed about bars of a damaged journal. Pure, but for what is read of rows.

A row may have become invalid, and rows may be gone without an error: a page that holds fewer than
it did, or that of another table, is a page like any other. What bars say of each other and what the
small tables say of them shows which are missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bintrades.journal.damage import UnreadableRow
from bintrades.journal.rows import COLUMN
from bintrades.journal.schema import BLOCK_MS
from bintrades.model.bar_fields import FIELDS, FieldKind

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable
    from typing import Any

_NO_BLOCK = 10**13 // BLOCK_MS  # no exchange's time is so late
_COLUMNS = [field for field in FIELDS if field.name in COLUMN]
_DECIMALS = [
    field.name for field in _COLUMNS if field.kind is FieldKind.DECIMAL and field.markets is None
]
_INTEGERS = [
    field.name
    for field in _COLUMNS
    if field.kind in (FieldKind.TIME, FieldKind.INT, FieldKind.LONG)
]
_CAN_BE = " AND ".join(
    [
        "typeof(symbol) = 'text'",
        *(f"typeof({name}) = 'integer'" for name in _INTEGERS),
        *(
            f"typeof({name}) = 'text' AND {name} GLOB '[0-9]*'"
            f" AND NOT {name} GLOB '*[^0-9.E+-]*' AND NOT {name} GLOB '*.*.*'"
            for name in _DECIMALS
        ),
        "(contract_size IS NULL OR typeof(contract_size) = 'text' AND contract_size GLOB '[0-9]*'"
        " AND NOT contract_size GLOB '*[^0-9.E+-]*' AND NOT contract_size GLOB '*.*.*')",
        "excluded_count >= 0",
        "open_time % :interval = 0",
        "first_trade_time - open_time BETWEEN 0 AND :interval - 1",
        "last_trade_time - open_time BETWEEN 0 AND :interval - 1",
        "buy_count BETWEEN 0 AND trade_count",
        "epoch >= 0",
        "trade_count BETWEEN 1 AND last_trade_id - first_trade_id + 1",
    ]
)
_CORRUPT = f"SELECT symbol, open_time FROM main.bars WHERE ({_CAN_BE}) IS NOT 1"  # noqa: S608

_COUNTED = ("bars", "unclosed", "incomplete", "gaps open", "gaps abandoned", "gaps approximated")
_CORRUPT_COUNTS = f"""
SELECT (SELECT count(*) FROM counts WHERE name IN {_COUNTED}) < {len(_COUNTED)}
    OR EXISTS (SELECT 1 FROM counts WHERE typeof(value) <> 'integer')
    OR EXISTS (SELECT 1 FROM cursors WHERE typeof(waiting) <> 'integer'
        OR typeof(due) <> 'integer' OR typeof(refused) <> 'integer')
"""  # noqa: S608 - constants


def corrupt_bars(connection: sqlite3.Connection, interval_ms: int) -> list[tuple[Any, Any]]:
    """Return symbol and open time of the rows that no bar can have. Raises sqlite3.Error."""
    return connection.execute(_CORRUPT, {"interval": interval_ms}).fetchall()


def has_corrupt_counts(connection: sqlite3.Connection) -> bool:
    """Whether what is counted as it is written cannot be. Raises sqlite3.Error."""
    (is_corrupt,) = connection.execute(_CORRUPT_COUNTS).fetchone()
    return bool(is_corrupt)


def read_counts(connection: sqlite3.Connection) -> dict[str, int]:
    """Return what is counted as it is written, by name. Raises sqlite3.Error."""
    if has_corrupt_counts(connection):
        raise UnreadableRow("the counts are invalid")
    return dict(connection.execute("SELECT name, value FROM counts"))


def lacks_gaps(connection: sqlite3.Connection, counted_in: str = "main") -> bool:
    """Whether more gaps were counted than there are. Raises sqlite3.Error."""
    (lacks,) = connection.execute(
        f"SELECT sum(value) > (SELECT count(*) FROM main.gaps) FROM {counted_in}.counts"  # noqa: S608
        " WHERE name IN ('gaps open', 'gaps abandoned', 'gaps approximated')"
    ).fetchone()
    return bool(lacks)


class BarCheck:
    """Finds which bars are missing among those that are there.

    *missing* are symbols with open times, ascending for each: the first and the last of a span in
    which there may have been bars. That there was none is left to whoever knows the ids that were
    missing before.
    """

    def __init__(self, interval_ms: int) -> None:
        self.missing: list[tuple[str, int]] = []
        self._interval = interval_ms
        self._last: dict[
            str, tuple[int, int, int]
        ] = {}  # open time, last id, that of the one before
        self._first: dict[str, int] = {}  # open time
        self._in_first_block: dict[str, int] = {}  # how many bars
        self._through: dict[str, int] = {}  # open time of the newest, as the checkpoints have it

    def take(self, symbol: str, open_time: int, first_id: int, last_id: int) -> None:
        """Take the bars of all symbols, in the order of their open times."""
        before = self._last.get(symbol)
        if before is None:
            self._first[symbol] = open_time
            self._in_first_block[symbol] = 1
            self._last[symbol] = open_time, last_id, last_id
            return
        if open_time // BLOCK_MS == self._first[symbol] // BLOCK_MS:
            self._in_first_block[symbol] += 1
        before_open_time, before_id, id_before_that = before
        if max(before_id, id_before_that) + 1 < first_id:
            self._miss(symbol, before_open_time + self._interval, open_time - self._interval)
        self._last[symbol] = open_time, last_id, before_id

    def end(self, closed_through: Iterable[tuple[str, int]]) -> None:
        """Take up to which open time each symbol had bars."""
        for symbol, through in closed_through:
            if not isinstance(through, int):
                continue
            self._through[symbol] = through
            if symbol in self._last:
                self._miss(symbol, self._last[symbol][0] + self._interval, through)

    def beginning(self, blocks: Iterable[tuple[str, int, int]]) -> None:
        """Take how many bars each symbol had in which block."""
        since: dict[str, int] = {}
        for symbol, block, bars in blocks:
            if not (isinstance(block, int) and isinstance(bars, int) and 0 <= block < _NO_BLOCK):
                continue
            first = self._first.get(symbol)
            found = self._in_first_block[symbol] if first and first // BLOCK_MS == block else 0
            if (first is None or block <= first // BLOCK_MS) and found < bars:
                since[symbol] = min(block, since.get(symbol, block))
        found_before = self.missing
        self.missing = []
        for symbol, block in since.items():
            open_time = -(-block * BLOCK_MS // self._interval) * self._interval
            first = self._first.get(symbol)
            last = self._through.get(symbol, open_time) if first is None else first - self._interval
            self._miss(symbol, open_time, last)
        self.missing += found_before

    def _miss(self, symbol: str, first: int, last: int) -> None:
        if first <= last:
            self.missing += [(symbol, first), (symbol, last)]
