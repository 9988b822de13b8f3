"""Deletes old bars that every store has. Tables `written` and `pruned`: how old bars are.

All functions may raise sqlite3.Error.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from bintrades.core.gap_ranges import DISORDER_MS
from bintrades.journal.bars import DELETE_BAR, PRUNABLE, neighbours
from bintrades.journal.connection import transaction
from bintrades.journal.damage import UnreadableRow, reading_rows
from bintrades.journal.excluded import are_any_excluded, delete_excluded, numbered_since
from bintrades.journal.gaps import delete_past_gaps
from bintrades.journal.meta import log_mended
from bintrades.journal.positions import first_position
from bintrades.journal.resend import earliest_place
from bintrades.journal.rows import COLUMN
from bintrades.journal.store_coverage import note_undelivered

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from bintrades.core.write_batch import Checkpoint
    from bintrades.journal.meta import Place
    from bintrades.journal.state import JournalState

log = logging.getLogger(__name__)

PRUNE_BATCH = 2_000
"""Rows examined, and deleted, at a time, so that nobody waits long for the file's write lock."""

MARK_EVERY_MS = 60_000
"""How often the end of the sequence is marked, by which the age of bars is known."""

_REEXAMINED = 500  # rows that had to stay, examined each time, round and round
_END = 2**62
_OPEN_TIME, _LAST_ID = COLUMN["open_time"], COLUMN["last_trade_id"]

_Prunable = tuple[str, int, int, int]
"""What PRUNABLE selects: symbol, open time, sequence, whether nobody needs the row."""


class Pruned(NamedTuple):
    """What a call of prune() did."""

    bars: int
    has_more: bool  # bars that may leave at once as well


def prune(
    connection: sqlite3.Connection,
    state: JournalState,
    interval_ms: int,
    stores: Sequence[str],
    before_ms: int,
    had_for_a_while: Callable[[int], int],
) -> Pruned:
    """Delete a batch of bars last written before *before_ms* that each of *stores* has.

    The arguments are those of Journal.prune(). Bars are examined in the order of writing: each
    time the next ones, and again some of those that had to stay before.
    """
    with transaction(connection):
        delete_past_gaps(connection, before_ms, PRUNE_BATCH)
        taken = first_position(connection, stores, state.last_sequence)
        through = _END if taken is None else had_for_a_while(taken)
        through = min(through, _written_before(connection, before_ms))

        before = state.examined_through
        new = _bars_between(connection, before, through, PRUNE_BATCH)
        again = _bars_between(
            connection, state.reexamined_through, min(before, through), _REEXAMINED
        )

        resent_from = earliest_place(connection, stores)
        going = [row for row in (*again, *new) if _may_go(row, state, interval_ms, resent_from)]
        note_undelivered(connection, (row[:3] for row in going))
        old = [row[:2] for row in going]
        last_ids = _last_ids(connection, old) if are_any_excluded(connection) else {}
        connection.executemany(DELETE_BAR, old)
        for symbol, last_id in last_ids.items():
            _forget_excluded(connection, symbol, last_id)
        left = dict(state.pruned_through)
        for symbol, open_time in old:
            left[symbol] = max(open_time, left.get(symbol, -1))
        changed = {symbol: left[symbol] for symbol, _ in old}
        connection.executemany("INSERT OR REPLACE INTO pruned VALUES (?, ?)", changed.items())

    state.pruned_through = left
    if new:
        state.examined_through = new[-1][2]
    state.reexamined_through = again[-1][2] if len(again) == _REEXAMINED else 0
    has_room = len(old) > _REEXAMINED // 2  # what had to stay is leaving now
    return Pruned(len(old), len(new) == PRUNE_BATCH or (bool(again) and has_room))


def _bars_between(
    connection: sqlite3.Connection, after: int, through: int, limit: int
) -> list[_Prunable]:
    """Return what PRUNABLE selects, in the order of writing."""
    rows: list[_Prunable] = connection.execute(PRUNABLE, (after, through, limit)).fetchall()
    for symbol, open_time, *_ in rows:
        if not (isinstance(symbol, str) and isinstance(open_time, int)):
            # Nobody could say whose bar it is: the rows beside it may.
            raise UnreadableRow(f"a row cannot be read: {symbol!r} has a bar of {open_time!r}")
    return rows


def _may_go(
    row: _Prunable, state: JournalState, interval_ms: int, resent_from: Place | None
) -> bool:
    """Whether no trade is missing that may belong to the bar of *row*, nor will be soon.

    Nor may a store have to get it again: all bars after *resent_from* are.
    """
    symbol, open_time, _, is_free = row
    if resent_from is not None and (open_time, symbol) > resent_from:
        return False
    checkpoint = state.checkpoints.get(symbol)
    if not is_free or checkpoint is None:
        return bool(is_free)
    # Not proven, it is to come again; and a gap may open no earlier than that.
    if not checkpoint.proves(open_time + interval_ms + DISORDER_MS):
        return False
    return not state.has_gap_in(symbol, checkpoint, open_time, interval_ms)


def _last_ids(
    connection: sqlite3.Connection, going: Iterable[tuple[str, int]]
) -> dict[str, tuple[int, int]]:
    """Return of each symbol when the newest of its bars that go opens, and its last id.

    Not where that is of before ids began again: those went then.
    """
    newest_of = dict(sorted(going))
    last_ids = {}
    for symbol, open_time in newest_of.items():
        if open_time < numbered_since(connection, symbol):
            continue
        with reading_rows():
            last_ids[symbol] = (open_time, int(_last_id(connection, symbol, open_time)))
    return last_ids


def _forget_excluded(connection: sqlite3.Connection, symbol: str, gone: tuple[int, int]) -> None:
    """Forget ids that are no fills of bars that have gone, back to the last that had to stay.

    *gone* is when the newest of them opened, and its last id.
    """
    open_time, last_id = gone
    stays, _ = neighbours(connection, symbol, open_time)
    with reading_rows():
        is_of_these_ids = stays and stays[_OPEN_TIME] >= numbered_since(connection, symbol)
        first_id = int(stays[_LAST_ID]) if stays and is_of_these_ids else -1
    delete_excluded(connection, symbol, first_id, last_id)


def _last_id(connection: sqlite3.Connection, symbol: str, open_time: int) -> Any:
    (last_id,) = connection.execute(
        "SELECT last_trade_id FROM bars WHERE symbol = ? AND open_time = ?", (symbol, open_time)
    ).fetchone()
    return last_id


def mark(connection: sqlite3.Connection, at: int, sequence: int) -> None:
    """Mark that bars up to *sequence* were written by *at*, on the exchange's clock."""
    connection.execute("DELETE FROM written WHERE at > ?", (at,))  # a bad clock's
    connection.execute("INSERT OR REPLACE INTO written VALUES (?, ?)", (at, sequence))


def newest_mark(connection: sqlite3.Connection) -> int:
    """Return when the end of the sequence was last marked; 0 for never."""
    (at,) = connection.execute("SELECT max(at) FROM written").fetchone()
    return at or 0


def _written_before(connection: sqlite3.Connection, before_ms: int) -> int:
    """Return up to which number of the sequence all was written before then."""
    row = connection.execute(
        "SELECT at, sequence FROM written WHERE at < ? ORDER BY at DESC LIMIT 1", (before_ms,)
    ).fetchone()
    if row is None:
        return 0
    connection.execute("DELETE FROM written WHERE at < ?", (row[0],))
    with reading_rows():
        return int(row[1])


def delete_corrupt_marks(connection: sqlite3.Connection) -> None:
    """Delete marks that cannot be; bars stay a while longer."""
    wrong = connection.execute(
        "DELETE FROM written WHERE typeof(at) <> 'integer' OR typeof(sequence) <> 'integer'"
        " RETURNING at, sequence"
    ).fetchall()
    for values in wrong:
        log.error(
            "a mark of the age of bars cannot be right and is forgotten",
            extra={"event": "journal_mark_corrupt", "values": str(values)},
        )


def pruned_through(connection: sqlite3.Connection, symbol: str) -> int | None:
    """Return the newest open time of which a bar of *symbol* was pruned. Raises sqlite3.Error."""
    row = connection.execute("SELECT through FROM pruned WHERE symbol = ?", (symbol,)).fetchone()
    with reading_rows():
        return None if row is None else int(row[0])


def read_pruned(
    connection: sqlite3.Connection, checkpoints: Mapping[str, Checkpoint]
) -> dict[str, int]:
    """Return up to which open time bars of each symbol have left."""
    pruned = dict(connection.execute("SELECT symbol, through FROM pruned"))
    for symbol, through in pruned.items():
        if not isinstance(through, int):  # any bar may be among them
            log_mended(f"pruned {symbol}", through)
            checkpoint = checkpoints.get(symbol)
            newest = checkpoint.closed_through if checkpoint is not None else None
            pruned[symbol] = -1 if newest is None else newest
    return pruned
