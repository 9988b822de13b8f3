"""What is covered as it is true of one store. Table `undelivered`: what it never could have.

All functions may raise sqlite3.Error and UnreadableRow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bintrades.core.coverage import without
from bintrades.core.spans import minus
from bintrades.journal.coverage import read_coverage
from bintrades.journal.damage import reading_rows
from bintrades.journal.meta import read_resend_place, read_scope
from bintrades.journal.positions import waiting_and_refused

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence

    from bintrades.core.spans import Span

_REFUSED = "SELECT symbol, open_time FROM rejected WHERE store = ? AND is_due = 0"
_UNDELIVERED = "SELECT symbol, since, through FROM undelivered WHERE store = ?"
_OR_MORE = (
    "ON CONFLICT (store, symbol, since) DO UPDATE SET through = max(through, excluded.through)"
)
_NOTE_UNDELIVERED = f"INSERT INTO undelivered VALUES (?, ?, 0, ?) {_OR_MORE}"  # noqa: S608
_NOTE_LOST = (
    "INSERT INTO undelivered SELECT :store, symbol, :since, through FROM pruned"  # noqa: S608
    f" WHERE through >= :since {_OR_MORE}"
)


class StoreCoverage(NamedTuple):
    """In which spans a store has every bar of a symbol that has had a trade there."""

    symbol: str
    since_ms: int  # the beginning of all that can be covered
    spans: Sequence[Span]


def has_all(connection: sqlite3.Connection, store: str) -> bool:
    """Whether a store has had every bar there is, in its newest version, or has refused it.

    Not before its first one, and not while it is to get some again.
    """
    counted = waiting_and_refused(connection, store)
    return counted is not None and not counted[0] and read_resend_place(connection, store) is None


def read_store_coverage(connection: sqlite3.Connection, store: str) -> Iterator[StoreCoverage]:
    """Yield what is covered of every symbol of which anything is proven, by name.

    What the store refused is a hole, and so is what had left the journal before it could have it.
    To be of one commit it has to be read within one transaction.
    """
    interval_ms = read_scope(connection).interval_ms
    refused: dict[str, list[int]] = {}
    undelivered: dict[str, list[Span]] = {}
    with reading_rows():
        for symbol, open_time in connection.execute(_REFUSED, (store,)):
            refused.setdefault(symbol, []).append(int(open_time))
        for symbol, since, through in connection.execute(_UNDELIVERED, (store,)):
            first = int(since) + -int(since) % interval_ms
            undelivered.setdefault(symbol, []).append((first, int(through) + interval_ms))
    for symbol, coverage, *_ in read_coverage(connection, None):
        spans = coverage.spans
        if symbol in undelivered:
            spans = minus(spans, undelivered[symbol])
        if symbol in refused:
            spans = without(spans, refused[symbol], interval_ms)
        yield StoreCoverage(symbol, coverage.since_ms, spans)


def note_undelivered(
    connection: sqlite3.Connection, leaving: Iterable[tuple[str, int, int]]
) -> None:
    """Record for which stores bars leave too early: those that are not enabled now, but were.

    They have not come to those bars, or were to get them again. *leaving* are symbol, open time and
    sequence number of the bars.
    """
    bars = list(leaving)
    stores = connection.execute("SELECT store, sequence FROM cursors").fetchall()
    for store, position in stores:
        place = read_resend_place(connection, store)
        connection.executemany(
            _NOTE_UNDELIVERED,
            [
                (store, symbol, open_time)
                for symbol, open_time, sequence in bars
                if sequence > position or (place is not None and (open_time, symbol) > place)
            ],
        )


def note_lost(connection: sqlite3.Connection, store: str, since_ms: int) -> None:
    """Record that a store may have lost what it had since then, and has left the journal."""
    connection.execute(_NOTE_LOST, {"store": store, "since": since_ms})
