"""Tables `gaps`, `absent` and `past_gaps`: what is missing, what does not exist, what was missing.

All functions may raise sqlite3.Error.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bintrades.core.gap_changes import no_longer_missing
from bintrades.journal.damage import UnreadableRow, checked_symbol, reading_rows
from bintrades.journal.rows import GAP_COLUMNS, gap_from_row, gap_row
from bintrades.model import GapOutcome, GapState

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from bintrades.model import Gap

log = logging.getLogger(__name__)

GapRow = tuple["Any", ...]
"""Symbol, GAP_COLUMNS, state, and when it ended (0: it has not)."""

Outcome = tuple[int, int, GapOutcome]
"""First and last id of what is missing no longer though its trades did not come, and why."""

_LOWEST = -(2**63)
FROM_THE_BEGINNING: GapRow = ("", _LOWEST, 0, _LOWEST)

STATE_OF_GAP = (
    f"CASE is_abandoned WHEN 0 THEN '{GapState.OPEN}' WHEN 2 THEN '{GapState.APPROXIMATED}'"
    f" ELSE '{GapState.ABANDONED}' END"
)
"""The GapState of a row of `gaps`, as SQL."""

_PAGE_ROWS = 1_000
_PAGE_COLUMNS = {
    "gaps": f"symbol, {GAP_COLUMNS}, {STATE_OF_GAP}, 0",
    "past_gaps": "symbol, first_id, last_id, since, until, cause, attempts, last_error, 0,"
    " outcome, closed_at",
}
TABLES = tuple(_PAGE_COLUMNS)
"""Of what is missing, and of what was."""

_PUT_PAST_GAP = "INSERT OR REPLACE INTO past_gaps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_NOT_PAST = (GapOutcome.UNWANTED, GapOutcome.RENUMBERED, GapOutcome.LATE)
"""Outcomes of ids that were never missing, or are lost and so stay a gap."""

# What is lost stays on record.
_DELETE_PAST_GAPS = (
    "DELETE FROM past_gaps WHERE (symbol, last_id) IN (SELECT symbol, last_id"  # noqa: S608
    f" FROM past_gaps WHERE closed_at < ? AND outcome <> '{GapOutcome.LATE}' LIMIT ?)"
)


def read_gaps(
    connection: sqlite3.Connection,
) -> tuple[dict[str, list[Gap]], dict[str, str]]:
    """Return the gaps of each symbol, and which symbols have unreadable ones, and why.

    Raises UnreadableRow where nobody can tell of which symbol one is.
    """
    gaps: dict[str, list[Gap]] = {}
    corrupt: dict[str, str] = {}
    for symbol, *row in connection.execute(
        f"SELECT symbol, {GAP_COLUMNS} FROM gaps ORDER BY symbol, first_id"  # noqa: S608
    ):
        checked_symbol(symbol)
        try:
            gaps.setdefault(symbol, []).append(gap_from_row(tuple(row)))
        except UnreadableRow as error:
            corrupt[symbol] = str(error)
    return gaps, corrupt


def read_absent(connection: sqlite3.Connection) -> dict[str, tuple[Gap, ...]]:
    """Return what does not exist of each symbol; a row that cannot be read is forgotten."""
    absent: dict[str, list[Gap]] = {}
    for symbol, absent_at, looks, *row in connection.execute(
        f"SELECT symbol, absent_at, looks, {GAP_COLUMNS} FROM absent"  # noqa: S608
        " ORDER BY symbol, first_id"
    ):
        try:
            with reading_rows():
                sum((absent_at, looks))
            gap = replace(gap_from_row(tuple(row)), absent_at=absent_at, looks=looks)
            absent.setdefault(symbol, []).append(gap)
        except UnreadableRow as error:
            log.warning(
                "ids that the exchange does not have are forgotten: they cannot be read",
                extra={"event": "absent_ids_corrupt", "symbol": symbol, "error": str(error)},
            )
    return {symbol: tuple(gaps) for symbol, gaps in absent.items()}


def put_gaps(
    connection: sqlite3.Connection, symbol: str, before: Iterable[Gap], after: Iterable[Gap]
) -> None:
    """Replace some gaps of a symbol by others."""
    connection.executemany(
        "DELETE FROM gaps WHERE symbol = ? AND first_id = ?",
        [(symbol, gap.first_id) for gap in before],
    )
    connection.executemany(
        "INSERT INTO gaps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(symbol, *gap_row(gap)) for gap in after],
    )


def put_absent(
    connection: sqlite3.Connection, symbol: str, before: Iterable[Gap], after: Iterable[Gap]
) -> None:
    """Replace some absent ids of a symbol by others."""
    connection.executemany(
        "DELETE FROM absent WHERE symbol = ? AND first_id = ?",
        [(symbol, gap.first_id) for gap in before],
    )
    connection.executemany(
        "INSERT INTO absent VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(symbol, *gap_row(gap), gap.absent_at, gap.looks) for gap in after],
    )


def delete_all(connection: sqlite3.Connection) -> None:
    """Forget what is missing and what is absent, of all symbols; what was missing stays."""
    connection.execute("DELETE FROM gaps")
    connection.execute("DELETE FROM absent")


def record_past_gaps(
    connection: sqlite3.Connection,
    symbol: str,
    before: Iterable[Gap],
    after: Iterable[Gap],
    outcomes: Sequence[Outcome],
    closed_at: int,
) -> None:
    """Keep on record what was missing *before* and is not *after*, and how it ended.

    What has no ids never comes.
    """
    was_missing = [gap for gap in before if gap.has_ids]
    is_missing = [gap for gap in after if gap.has_ids]
    for gap in no_longer_missing(was_missing, is_missing):
        for part, outcome in _with_outcomes(gap, outcomes):
            if outcome not in _NOT_PAST:
                put_past_gap(connection, symbol, part, outcome, closed_at)


def put_past_gap(
    connection: sqlite3.Connection, symbol: str, gap: Gap, outcome: GapOutcome, closed_at: int
) -> None:
    """Add a closed range, or lengthen the one that it continues, as page follows page."""
    earlier = connection.execute(
        "DELETE FROM past_gaps WHERE symbol = ? AND last_id = ? AND cause = ? AND outcome = ?"
        " RETURNING first_id, since",
        (symbol, gap.first_id - 1, gap.cause, outcome),
    ).fetchall()
    first_id, since = earlier[0] if earlier else (gap.first_id, gap.since_ms)
    span = (first_id, gap.last_id, since, gap.until_ms)
    details = (gap.cause, gap.attempts, gap.last_error, outcome)
    connection.execute(_PUT_PAST_GAP, (symbol, *span, *details, closed_at))


def delete_disproven(connection: sqlite3.Connection, symbol: str, reopened: Iterable[Gap]) -> None:
    """Take ids off the record as absent, or excluded: a trade of one of them has come."""
    for gap in reopened:
        rows = connection.execute(
            "DELETE FROM past_gaps WHERE symbol = ? AND last_id >= ? AND first_id <= ?"
            " AND outcome IN (?, ?) RETURNING *",
            (symbol, gap.first_id, gap.last_id, GapOutcome.ABSENT, GapOutcome.EXCLUDED),
        ).fetchall()
        for _, first_id, last_id, *row in rows:
            left = [(first_id, gap.first_id - 1), (gap.last_id + 1, last_id)]
            connection.executemany(
                "INSERT INTO past_gaps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(symbol, *ids, *row) for ids in left if ids[0] <= ids[1]],
            )


def delete_past_gaps(connection: sqlite3.Connection, before_ms: int, limit: int) -> None:
    """Delete some of what ended before then."""
    connection.execute(_DELETE_PAST_GAPS, (before_ms, limit))


def gap_page(
    connection: sqlite3.Connection, table: str, symbol: str | None, after: GapRow
) -> list[GapRow]:
    """Return the next gaps of one of TABLES, oldest first, of one symbol or of all.

    None when *after* was the last.
    """
    where, order = (
        ("(since, symbol, first_id) > (:since, :after, :first_id)", "since, symbol, first_id")
        if symbol is None
        else ("symbol = :symbol AND (since, first_id) > (:since, :first_id)", "since, first_id")
    )
    return connection.execute(
        f"SELECT {_PAGE_COLUMNS[table]} FROM {table} WHERE {where}"  # noqa: S608 - constants
        f" ORDER BY {order} LIMIT :limit",
        {
            "symbol": symbol,
            "since": after[3],
            "after": after[0],
            "first_id": after[1],
            "limit": _PAGE_ROWS,
        },
    ).fetchall()


def readable_gaps(table: str, rows: Iterable[GapRow]) -> Iterator[tuple[str, Gap, str, int]]:
    """Yield symbol, gap, state and when it ended of all rows of a page but corrupt ones."""
    for symbol, *gap, state, closed_at in rows:
        try:
            with reading_rows():
                yield symbol, gap_from_row(tuple(gap)), state, int(closed_at)
        except UnreadableRow as error:
            log.warning(
                "a gap on record cannot be read",
                extra={
                    "event": "gap_record_corrupt",
                    "table": table,
                    "symbol": symbol,
                    "error": str(error),
                },
            )


def with_attempts(
    symbol: str, gaps: Iterable[Gap], attempts: Mapping[tuple[str, int], int]
) -> list[Gap]:
    """Return *gaps* with the requests that were made since, by symbol and last id."""
    return [
        replace(gap, attempts=attempts.get((symbol, gap.last_id), gap.attempts)) for gap in gaps
    ]


def _with_outcomes(gap: Gap, outcomes: Iterable[Outcome]) -> Iterator[tuple[Gap, GapOutcome]]:
    """Split a closed range by what became of its ids; without another reason, trades came."""
    start = gap.first_id
    for low, high, why in sorted(outcomes):
        low, high = max(low, start), min(high, gap.last_id)
        if low > high:
            continue
        if low > start:
            yield gap.part(start, low - 1), GapOutcome.REPAIRED
        yield gap.part(low, high), why
        start = high + 1
    if start <= gap.last_id:
        yield gap.part(start, gap.last_id), GapOutcome.REPAIRED
