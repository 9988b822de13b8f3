"""What is covered as it is true of one store. Table `undelivered`: what it never could have.

All functions may raise sqlite3.Error and UnreadableRow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bintrades.core.spans import clipped, minus
from bintrades.journal.coverage import read_on_record
from bintrades.journal.damage import reading_rows
from bintrades.journal.meta import read_resend_place, read_scope
from bintrades.journal.positions import waiting_and_refused

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from bintrades.core.spans import Span
    from bintrades.journal.coverage import OnRecord

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


class Mark(NamedTuple):
    """By what is known later that all of a symbol's coverage before some time is as it was."""

    before_ms: int
    """No span lies on both sides of it."""
    depends_on: tuple[object, ...]


class StoreCoverage(NamedTuple):
    """In which spans a store has every bar of a symbol that has had a trade there."""

    symbol: str
    since_ms: int  # the beginning of all that can be covered
    from_ms: int
    """What is covered before that is what it was when the mark was given."""
    spans: Sequence[Span]  # from then on
    mark: Mark | None  # None: the next time all is to be read


def has_all(connection: sqlite3.Connection, store: str) -> bool:
    """Whether a store has had every bar there is, in its newest version, or has refused it.

    Not before its first one, and not while it is to get some again.
    """
    counted = waiting_and_refused(connection, store)
    return counted is not None and not counted[0] and read_resend_place(connection, store) is None


def read_store_coverage(
    connection: sqlite3.Connection, store: str, marks: Mapping[str, Mark]
) -> Iterator[StoreCoverage]:
    """Yield what is covered of every symbol of which anything is proven, by name.

    What the store refused is a hole, and so is what had left the journal before it could have it.
    Of a symbol with one of *marks*, given before, only what may have changed is read.
    To be of one commit it has to be read within one transaction.
    """
    interval_ms = read_scope(connection).interval_ms
    withheld: dict[str, list[Span]] = {}
    with reading_rows():
        for symbol, open_time in connection.execute(_REFUSED, (store,)):
            withheld.setdefault(symbol, []).append((int(open_time), int(open_time) + interval_ms))
        for symbol, since, through in connection.execute(_UNDELIVERED, (store,)):
            first = int(since) + -int(since) % interval_ms
            withheld.setdefault(symbol, []).append((first, int(through) + interval_ms))
    for record in read_on_record(connection):
        yield _read_symbol(record, withheld.get(record.symbol, ()), marks.get(record.symbol))


def _read_symbol(record: OnRecord, withheld: Sequence[Span], mark: Mark | None) -> StoreCoverage:
    """Return what is covered but for what is *withheld*: what has changed since *mark*, or all."""
    if mark is not None and _mark(record, withheld, mark.before_ms) != mark:
        mark = None
    from_ms = 0 if mark is None else mark.before_ms
    coverage = record.coverage(from_ms)
    spans = clipped(coverage.spans, from_ms, coverage.until_ms)
    if withheld:
        spans = minus(spans, withheld)
    before_ms = spans[-1][0] if spans else max(from_ms, coverage.since_ms)
    if mark is None or before_ms != mark.before_ms:
        mark = _mark(record, withheld, before_ms)
    return StoreCoverage(record.symbol, coverage.since_ms, from_ms, spans, mark)


def _mark(record: OnRecord, withheld: Sequence[Span], before_ms: int) -> Mark | None:
    """Return all that the coverage before then depends on; None while that is not over."""
    if record.proven_ms < before_ms or any(time < before_ms for time in record.open_times):
        return None
    digest = record.digest_of_holes(before_ms)
    return Mark(before_ms, (record.since_ms, record.lost_through_ms, tuple(withheld), digest))


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
