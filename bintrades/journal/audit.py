"""Tables `verified` and `differences`: what the exchange's own klines say of the bars.

Of a symbol that is never interrupted `verified` has one row, which grows: neighbours join. All
functions may raise sqlite3.Error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bintrades.core.spans import Span, has, minus, union
from bintrades.core.verification import unit_ms
from bintrades.journal.damage import reading_rows
from bintrades.model import DifferenceOutcome, RecordedDifference

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

    from bintrades.core.audit_result import BarsAudited

ALWAYS: Span = (0, 2**62)
_KLINE_MS = 60_000  # klines of a minute are what bars are compared with
_COLUMNS = "symbol, open_time, interval, ours, theirs, found_at, changed_at, outcome"
_ALL_DIFFERENCES = f"SELECT {_COLUMNS} FROM differences"  # noqa: S608 - constants
_DIFFERENCES = f"{_ALL_DIFFERENCES} WHERE symbol = ? AND open_time >= ? AND open_time < ?"
"""Both in the order of the table: by symbol and time."""

_REOPEN = (
    "INSERT OR REPLACE INTO differences"
    " SELECT symbol, open_time, interval, ours, theirs, found_at, changed_at, ?"
    " FROM differences WHERE symbol = ? AND open_time >= ? AND open_time < ? AND outcome = ?"
)
"""Replaces the rows, since what is added and removed is counted."""

_TOUCHING = (
    "SELECT since, until FROM verified WHERE symbol = ? AND since <= ?"
    " AND since >= coalesce((SELECT max(since) FROM verified WHERE symbol = ? AND since <= ?), 0)"
    " ORDER BY since"
)
"""The spans that begin up to a time, from the last that begins before another one on."""

_WRITTEN_AFTER = "SELECT open_time FROM bars WHERE sequence > ? AND symbol = ?"
"""Of all symbols since a moment ago: the index of the sequence has them beside each other."""


def put_audited(
    connection: sqlite3.Connection, results: Iterable[BarsAudited], interval_ms: int
) -> None:
    """Record what was compared of bars of *interval_ms*, but of none that has changed since."""
    for result in results:
        changed = _changed_units(connection, result, unit_ms(interval_ms, _KLINE_MS))
        for since, until in minus(result.verified, changed):
            _put_verified(connection, result.symbol, since, until)
        differences = [
            each
            for each in result.differences
            if each.outcome is DifferenceOutcome.OPEN or not has(changed, each.span)
        ]
        for each in differences:
            if each.outcome is not DifferenceOutcome.REPAIRED:
                unverify(connection, result.symbol, each.span, interval_ms)
        connection.executemany(
            f"INSERT OR REPLACE INTO differences ({_COLUMNS})"  # noqa: S608 - constants
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    *(each.symbol, each.open_time_ms, each.interval_ms, each.ours, each.theirs),
                    *(each.found_at_ms, each.changed_at_ms, each.outcome),
                )
                for each in differences
            ],
        )


def _changed_units(connection: sqlite3.Connection, result: BarsAudited, unit: int) -> list[Span]:
    """Return the units with bars that were written after those of *result* were read."""
    if result.read_through is None:
        return []
    starts = (
        open_time // unit * unit
        for (open_time,) in connection.execute(_WRITTEN_AFTER, (result.read_through, result.symbol))
    )
    return union((start, start + unit) for start in starts)


def _put_verified(connection: sqlite3.Connection, symbol: str, since: int, until: int) -> None:
    """Add a span, as one with those that it touches."""
    rows = connection.execute(_TOUCHING, (symbol, until, symbol, since)).fetchall()
    touched = [row for row in rows if row[1] >= since]
    if any(row[0] <= since and until <= row[1] for row in touched):
        return
    for row in touched[1:]:
        _delete(connection, symbol, row[0])
    if not touched:
        connection.execute("INSERT INTO verified VALUES (?, ?, ?)", (symbol, since, until))
        return
    first = touched[0][0]
    connection.execute(
        "UPDATE verified SET since = ?, until = ? WHERE symbol = ? AND since = ?",
        (min(since, first), max(until, touched[-1][1]), symbol, first),
    )


def look_again(connection: sqlite3.Connection, symbol: str, span: Span, interval_ms: int) -> None:
    """Have a unit with a bar that has changed be compared again, also where it was to stay."""
    unverify(connection, symbol, span, interval_ms)
    unit = _unit_around(span, interval_ms)
    connection.execute(_REOPEN, (DifferenceOutcome.OPEN, symbol, *unit, DifferenceOutcome.STAYS))


def unverify(connection: sqlite3.Connection, symbol: str, span: Span, interval_ms: int) -> None:
    """Have what was compared together with a part of *span* be unverified.

    Bars of *interval_ms* are compared by the unit, which may be longer than a bar and a minute.
    """
    since, until = _unit_around(span, interval_ms)
    for first, last in connection.execute(_TOUCHING, (symbol, until - 1, symbol, since)).fetchall():
        if last <= since:
            continue
        _delete(connection, symbol, first)
        for left in ((first, since), (until, last)):
            if left[0] < left[1]:
                connection.execute("INSERT INTO verified VALUES (?, ?, ?)", (symbol, *left))


def _unit_around(span: Span, interval_ms: int) -> Span:
    """Return the whole units that have a part of *span*."""
    unit = unit_ms(interval_ms, _KLINE_MS)
    return span[0] - span[0] % unit, span[1] + -span[1] % unit


def _delete(connection: sqlite3.Connection, symbol: str, since: int) -> None:
    connection.execute("DELETE FROM verified WHERE symbol = ? AND since = ?", (symbol, since))


def read_verified(connection: sqlite3.Connection, symbol: str, within: Span = ALWAYS) -> list[Span]:
    """Return the spans that are verified and touch *within*, oldest first."""
    since, until = within
    rows = connection.execute(_TOUCHING, (symbol, until, symbol, since))
    return [(first, last) for first, last in rows if since <= last]


def read_differences(
    connection: sqlite3.Connection, symbol: str | None = None, within: Span = ALWAYS
) -> Iterator[RecordedDifference]:
    """Yield the differences on record, of all symbols or of those of one that open *within*.

    By symbol and time. Raises UnreadableRow.
    """
    rows = (
        connection.execute(_ALL_DIFFERENCES)
        if symbol is None
        else connection.execute(_DIFFERENCES, (symbol, *within))
    )
    for name, open_time, interval, ours, theirs, found_at, changed_at, outcome in rows:
        with reading_rows():
            known = DifferenceOutcome(outcome)
        yield RecordedDifference(
            name, open_time, interval, ours, theirs, found_at, changed_at, known
        )
