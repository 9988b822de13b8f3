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
_UNDELIVERED = "SELECT symbol, through FROM undelivered WHERE store = ?"
_NOTE_UNDELIVERED = """
INSERT INTO undelivered SELECT store, ?1, ?2 FROM cursors WHERE sequence < ?3
ON CONFLICT (store, symbol) DO UPDATE SET through = max(through, excluded.through)
"""


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
    with reading_rows():
        for symbol, open_time in connection.execute(_REFUSED, (store,)):
            refused.setdefault(symbol, []).append(int(open_time))
        undelivered = {
            symbol: int(through) + interval_ms
            for symbol, through in connection.execute(_UNDELIVERED, (store,))
        }
    for symbol, coverage, *_ in read_coverage(connection, None):
        spans = coverage.spans
        if symbol in undelivered:
            spans = minus(spans, [(0, undelivered[symbol])])
        if symbol in refused:
            spans = without(spans, refused[symbol], interval_ms)
        yield StoreCoverage(symbol, coverage.since_ms, spans)


def note_undelivered(
    connection: sqlite3.Connection, leaving: Iterable[tuple[str, int, int]]
) -> None:
    """Record for which stores bars leave too early: those that are not enabled now, but were.

    *leaving* are symbol, open time and sequence number of those bars.
    """
    bars = list(leaving)
    newest = max((sequence for *_, sequence in bars), default=0)
    (lowest,) = connection.execute("SELECT min(sequence) FROM cursors").fetchone()
    if lowest is not None and lowest < newest:
        connection.executemany(_NOTE_UNDELIVERED, bars)
