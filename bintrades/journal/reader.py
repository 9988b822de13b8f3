"""The journal as others see it: the stores' threads with their cursors, and the commands.

Each use opens the file again, which costs a fraction of a millisecond and finds the right file even
after a damaged one was quarantined.
"""

from __future__ import annotations

import contextlib
import heapq
import logging
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from bintrades.errors import BarsLeft, JournalDamaged, JournalError
from bintrades.journal import audit, meta, resend
from bintrades.journal.bars import (
    BARS_AFTER,
    GET_BAR,
    after_page,
    is_unclosed,
    newest,
    newest_open_time,
    page,
    pages,
    read_bar,
)
from bintrades.journal.check import read_counts
from bintrades.journal.checkpoints import (
    newest_proof,
    open_bars,
    read_closed_through,
    symbols_known,
    symbols_seen,
)
from bintrades.journal.connection import connect, fetch_rows, symbols_in, transaction
from bintrades.journal.coverage import SymbolCoverage, read_coverage
from bintrades.journal.damage import UnreadableRow, is_damaged
from bintrades.journal.gaps import (
    FROM_THE_BEGINNING,
    TABLES,
    gap_page,
    read_gaps,
    readable_gaps,
)
from bintrades.journal.lock import identity, what_to_do
from bintrades.journal.positions import (
    BEFORE_ALL,
    last_refusal,
    readable_refusals,
    refused_page,
    resend_refused,
    stores_known,
    waiting_and_refused,
    waiting_since,
)
from bintrades.journal.pruning import pruned_through
from bintrades.journal.rebuilt import has_rebuilt, put_rebuilt
from bintrades.journal.rows import COLUMN, bar_from_row, bar_row
from bintrades.journal.surplus import surplus_of
from bintrades.model import DifferenceOutcome, utc

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from bintrades.core.ban import Ban
    from bintrades.core.spans import Span
    from bintrades.journal.meta import JournalScope
    from bintrades.journal.rows import Row
    from bintrades.model import Bar, Gap, RecordedDifference
    from bintrades.model.symbol_record import SymbolRecord


log = logging.getLogger(__name__)

NO_LIMIT = 2**31
"""More bars than any journal has of a symbol."""

_VERSION, _TRADE_COUNT, _EPOCH = map(COLUMN.__getitem__, ("version", "trade_count", "epoch"))
_GAPS = "gaps "


@dataclass(frozen=True, slots=True)
class StoreState:
    """How far a store is."""

    waiting_bars: int
    rejected_bars: int
    last_reason: str | None
    resending_from_ms: int | None = None  # open time of the next bar that it is to get again


class Written(NamedTuple):
    """Some of what was written to a journal after a sequence number."""

    rows: list[Row]
    """In the order of rows.BAR_COLUMNS, oldest version first; of each bar only its newest one."""
    sequence: int
    """After which the rest comes: the number of the last of the rows, or of all where that is it.

    Lower than the one that was asked for only in another journal, which has begun anew."""
    scope: tuple[str, int]
    """The market and the interval in milliseconds of all bars."""


class Known(NamedTuple):
    """What the journal has of some time of a symbol, all at one commit."""

    rows: list[Row]
    """Stored bars in the order of rows.BAR_COLUMNS, oldest first."""
    spans: Sequence[Span]
    """What is covered from that time on."""
    left_ms: int | None
    """The newest open time of which a bar has left the journal, if one has."""


@dataclass(frozen=True, slots=True)
class RefusedBar:
    """A bar that a store refused; is_due: it is to be sent again."""

    store: str
    symbol: str
    open_time_ms: int
    reason: str
    refused_at_ms: int
    is_due: bool


@dataclass(frozen=True, slots=True)
class PastGap:
    """A range of ids that was missing once, and how that ended: repaired or absent."""

    symbol: str
    gap: Gap
    outcome: str
    closed_at_ms: int


class JournalReader:
    """Reads what the collector wrote, from any thread of any process.

    Every call may raise JournalError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def bars(self, symbol: str, since_ms: int, until_ms: int, limit: int) -> list[Bar]:
        """Return the newest *limit* bars with since_ms <= open time < until_ms, oldest first."""
        return list(self.stream(symbol, since_ms, until_ms, limit))

    def stream(
        self, symbol: str, since_ms: int, until_ms: int, limit: int = NO_LIMIT
    ) -> Iterator[Bar]:
        """Yield the same bars as they are read; while one is looked at, no file is open."""
        return self._bars_of(self.pages(symbol, since_ms, until_ms, limit))

    def _bars_of(self, pages: Iterator[list[Row]]) -> Iterator[Bar]:
        scope = None
        for rows in pages:
            scope = scope or self.scope()
            try:
                yield from [bar_from_row(row, *scope) for row in rows]
            except UnreadableRow as error:
                raise JournalDamaged(f"{self.path}: {error}") from error

    def pages(self, symbol: str, since_ms: int, until_ms: int, limit: int) -> Iterator[list[Row]]:
        """Yield the same bars as rows in the order of rows.BAR_COLUMNS, page by page.

        Between two pages the journal is not open: whoever takes them may take their time.
        """
        with self._reading() as connection:
            since_ms, count = newest(connection, symbol, since_ms, until_ms, limit)
            still_open = [
                bar
                for bar in open_bars(connection, symbol)
                if since_ms <= bar.open_time_ms < until_ms
            ]
            keys = [(symbol, bar.open_time_ms) for bar in still_open]
            count += sum(connection.execute(GET_BAR, key).fetchone() is None for key in keys)
        surplus = max(0, count - limit)
        still_open.sort(key=lambda bar: bar.open_time_ms, reverse=True)
        while True:
            with self._reading() as connection:
                rows = page(connection, symbol, since_ms, until_ms)
            since_ms = after_page(rows) if rows else until_ms
            found = {row[1]: row for row in rows}
            while still_open and still_open[-1].open_time_ms < since_ms:
                bar = still_open.pop()
                found[bar.open_time_ms] = _newer(found.get(bar.open_time_ms), bar)
            merged = [found[open_time] for open_time in sorted(found)]
            if merged[surplus:]:
                yield merged[surplus:]
            surplus = max(0, surplus - len(merged))
            if not rows:
                return

    def kept_pages(self, symbol: str, since_ms: int, until_ms: int) -> Iterator[list[Row]]:
        """Yield all of those pages. Raises BarsLeft if bars leave before they are in one.

        That the oldest ones leave afterwards, as they do every minute, is no matter.
        """
        place_ms = since_ms
        for rows in self.pages(symbol, since_ms, until_ms, NO_LIMIT):
            self._require_kept(symbol, place_ms)
            yield rows
            place_ms = rows[-1][1] + 1
        self._require_kept(symbol, place_ms)

    def kept_bars(self, symbol: str, since_ms: int, until_ms: int) -> Iterator[Bar]:
        """Yield the same as bars."""
        return self._bars_of(self.kept_pages(symbol, since_ms, until_ms))

    def _require_kept(self, symbol: str, since_ms: int) -> None:
        pruned = self.pruned_through(symbol)
        if pruned is not None and pruned >= since_ms:
            raise BarsLeft(
                f"{symbol}: bars up to {utc(pruned).isoformat()} have left the journal before they"
                " were read; ask for later ones, or keep them longer: [journal] retention"
            )

    def newest_bars(self, symbols: Iterable[str], count: int) -> dict[str, list[Bar]]:
        """Return the bars of the newest *count* intervals of each of *symbols*, oldest first.

        Those of a symbol end with its newest bar; one that has none is left out.
        """
        with self._reading() as connection:
            scope = meta.read_scope(connection)
            found = {each: _newest_bars(connection, each, count, scope) for each in symbols}
            return {symbol: bars for symbol, bars in found.items() if bars}

    def bars_after(
        self, sequence: int, limit: int, symbols: Collection[str]
    ) -> tuple[int, list[Bar]]:
        """Return the newest sequence number, and what of *symbols* was written after *sequence*.

        Oldest first. Of more than *limit* numbers only the newest are looked at.
        """
        with self._reading() as connection:
            scope = meta.read_scope(connection)
            last = meta.read_sequence(connection)
            rows = connection.execute(BARS_AFTER, (max(sequence, last - limit), limit))
            return last, [read_bar(row[:-1], scope) for row in rows if row[0] in symbols]

    def written_after(self, sequence: int, limit: int) -> Written:
        """Return the first *limit* bars, of whatever symbol, that were written after *sequence*."""
        with self._reading() as connection:
            scope = meta.read_scope(connection)
            last = meta.read_sequence(connection)
            found = fetch_rows(connection, BARS_AFTER, (sequence, limit))
            through = found[-1][-1] if found else last
            rows = [row[:-1] for row in found]
            return Written(rows, through, (scope.market, scope.interval_ms))

    def known_of(self, wanted: Iterable[tuple[str, Span]]) -> list[Known]:
        """Return what is known of each symbol and span; all bars of them are in memory then."""
        with self._at_one_commit() as connection:
            return [
                Known(
                    [row for rows in pages(connection, symbol, *span) for row in rows],
                    [
                        each
                        for found in read_coverage(connection, symbol, span[0])
                        for each in found.coverage.spans
                    ],
                    pruned_through(connection, symbol),
                )
                for symbol, span in wanted
            ]

    def scope(self) -> tuple[str, int]:
        """Return the market and the interval in milliseconds of all bars."""
        with self._reading() as connection:
            scope = meta.read_scope(connection)
            return scope.market, scope.interval_ms

    def environment(self) -> str | None:
        """Return for what the exchange's hosts are that the bars are of; None: nobody knows."""
        with self._reading() as connection:
            return meta.read_environment(connection)

    def last_sequence(self) -> int:
        """Return the number of the newest version of all bars. Each version has a higher one."""
        with self._reading() as connection:
            return meta.read_sequence(connection)

    def newest_open_time_ms(self, symbol: str) -> int | None:
        """Return the open time of the symbol's newest bar, if it has one."""
        with self._reading() as connection:
            times = [bar.open_time_ms for bar in open_bars(connection, symbol)]
            through = read_closed_through(connection, symbol)
            return max(times if through is None else [*times, through], default=None)

    def newest_stored_open_time_ms(self) -> int | None:
        """Return the open time of the newest bar that stores can have, of whatever symbol."""
        with self._reading() as connection:
            return newest_open_time(connection)

    def symbols(self) -> list[str]:
        """Return the symbols of which a trade was ever seen."""
        with self._reading() as connection:
            return symbols_seen(connection)

    def symbols_known(self) -> list[str]:
        """Return, by name, the symbols with a trade, and those proven to have had none so far."""
        with self._reading() as connection:
            return symbols_known(connection)

    def gaps(self) -> dict[str, list[Gap]]:
        """Return the open gaps of each symbol that has some, newest last."""
        with self._reading() as connection:
            gaps, corrupt = read_gaps(connection)
            if corrupt:
                raise UnreadableRow(f"gaps cannot be read: {corrupt}")
            return gaps

    def past_gaps(self, symbol: str | None = None) -> Iterator[PastGap]:
        """Yield the gaps that are gaps no longer, of one symbol or of all, oldest first."""
        for name, gap, outcome, closed_at in self._gap_rows("past_gaps", symbol):
            yield PastGap(name, gap, outcome, closed_at)

    def all_gaps(self, symbol: str | None = None) -> Iterator[tuple[str, Gap, str]]:
        """Yield symbol, gap and state of what is and what was missing, oldest first.

        Between two pages the journal is not open: whoever takes them may take their time.
        """
        for name, gap, state, _ in heapq.merge(
            *(self._gap_rows(table, symbol) for table in TABLES),
            key=lambda row: (row[1].since_ms, row[0], row[1].first_id),
        ):
            yield name, gap, state

    def _gap_rows(self, table: str, symbol: str | None) -> Iterator[tuple[str, Gap, str, int]]:
        after = FROM_THE_BEGINNING
        while True:
            with self._reading() as connection:
                rows = gap_page(connection, table, symbol, after)
                gaps = list(readable_gaps(table, rows))
            if not rows:
                return
            yield from gaps
            after = rows[-1]

    def counts(self) -> dict[str, int]:
        """Return how many bars there are, in all and by what is worth knowing of them."""
        with self._reading() as connection:
            counts = read_counts(connection)
            still_open = [(bar.symbol, bar.open_time_ms) for bar in open_bars(connection)]
            beside = sum(not is_unclosed(connection, key) for key in still_open)
            return {
                "bars": counts["bars"] + beside,
                "unclosed": counts["unclosed"] + beside,
                "incomplete": counts["incomplete"],
            }

    def gap_counts(self) -> dict[str, int]:
        """Return how many gaps there are: open, abandoned, and those that ended, by outcome."""
        with self._reading() as connection:
            return {
                name.removeprefix(_GAPS): count
                for name, count in read_counts(connection).items()
                if name.startswith(_GAPS)
            }

    def symbols_with_gaps(self) -> list[str]:
        """Return the symbols of which something is missing now."""
        with self._reading() as connection:
            return symbols_in(connection, "gaps")

    def get_ban(self) -> Ban:
        """Return for how long the exchange wants no requests, as it said to the collector."""
        with self._reading() as connection:
            return meta.read_ban(connection)

    def symbol_records(self) -> dict[str, SymbolRecord]:
        """Return what is on record of each symbol: since when and why it is collected."""
        with self._reading() as connection:
            return meta.read_symbol_records(connection)

    def get_status(self) -> str | None:
        """Return what the collector last said of itself, if anything."""
        with self._reading() as connection:
            return meta.read_status(connection)

    def store(self, name: str) -> StoreState:
        """Return how far the store *name* is."""
        with self._reading() as connection:
            waiting, refused = waiting_and_refused(connection, name) or (
                read_counts(connection)["bars"],
                0,
            )
            place = meta.read_resend_place(connection, name)
            return StoreState(
                waiting, refused, last_refusal(connection, name), place[0] if place else None
            )

    def waiting_since_ms(self, store: str) -> int | None:
        """Return when the oldest bar was written that waits for *store*, by the local clock.

        None: no bar waits.
        """
        with self._reading() as connection:
            return waiting_since(connection, store)

    def stores_known(self) -> list[str]:
        """Return the stores that have been here, enabled or not, in alphabetical order."""
        with self._reading() as connection:
            return stores_known(connection)

    def refused_bars(self, store: str) -> Iterator[RefusedBar]:
        """Yield what *store* refused, in the order of that, and then what of it is to be resent.

        Between two pages the journal is not open: whoever takes them may take their time.
        """
        for is_due in (False, True):
            after = BEFORE_ALL
            while True:
                with self._reading() as connection:
                    rows = refused_page(connection, store, after, is_due=is_due)
                if not rows:
                    break
                for at, open_time, symbol, reason in readable_refusals(store, rows):
                    yield RefusedBar(store, symbol, open_time, reason, at, is_due)
                after = rows[-1]

    def resend(self, name: str) -> int:
        """Have the bars that *name* refused delivered again; return how many."""
        try:
            with self._writing() as connection:
                return resend_refused(connection, name)
        except JournalDamaged as error:
            self._report_damage_to_collector(str(error))
            raise

    def resend_since(self, name: str, since_ms: int) -> int:
        """Have all bars that open then or later delivered to *name* again; return how many."""
        with self._writing() as connection:
            return resend.request(connection, name, since_ms)

    def verified(self, symbol: str, within: Span = audit.ALWAYS) -> list[Span]:
        """Return in which spans the bars of *symbol* are what the exchange has, oldest first.

        Those which touch *within*.
        """
        with self._reading() as connection:
            return audit.read_verified(connection, symbol, within)

    def coverage(self, symbol: str, since_ms: int = 0) -> SymbolCoverage | None:
        """Return what of *symbol* is covered; None: nothing of it is proven.

        Holes that end before *since_ms* are not read, and what is verified before then neither.
        """
        return self.coverage_of([symbol], since_ms).get(symbol)

    def coverage_of(self, symbols: Iterable[str], since_ms: int = 0) -> dict[str, SymbolCoverage]:
        """Return the same of each of *symbols* of which anything is proven, all at one commit."""
        within = (since_ms, audit.ALWAYS[1])
        with self._at_one_commit() as connection:
            return {
                each.symbol: each._replace(
                    verified=audit.read_verified(connection, each.symbol, within)
                )
                for symbol in symbols
                for each in read_coverage(connection, symbol, since_ms)
            }

    def coverage_of_all(self, since_ms: int = 0) -> Iterator[SymbolCoverage]:
        """Yield what is covered of each symbol, by name; holes that end before *since_ms* are not.

        All of it at one commit: until the last one is taken, the journal cannot let go of what is
        replaced. Whoever takes them must not take their time.
        """
        with self._at_one_commit() as connection:
            yield from read_coverage(connection, None, since_ms)

    def newest_proof_ms(self) -> int | None:
        """Return up to when the symbol is proven that is proven furthest; None: none is at all."""
        with self._reading() as connection:
            return newest_proof(connection)

    def pruned_through(self, symbol: str) -> int | None:
        """Return the newest open time of which a bar of *symbol* has left, if one has."""
        with self._reading() as connection:
            return pruned_through(connection, symbol)

    def differences(
        self, symbol: str | None = None, within: Span = audit.ALWAYS
    ) -> list[RecordedDifference]:
        """Return what did not agree with the exchange, of all symbols or of one and *within*."""
        with self._reading() as connection:
            return list(audit.read_differences(connection, symbol, within))

    def surplus(self, symbol: str, since_ms: int, until_ms: int) -> list[int]:
        """Return when bars of *symbol* open, within that time, where the exchange has no trades."""
        with self._reading() as connection:
            return surplus_of(connection, symbol, since_ms, until_ms)

    def audit_counts(self) -> dict[str, int]:
        """Return for how many milliseconds bars are verified, and the differences by outcome."""
        with self._reading() as connection:
            counts = read_counts(connection)
            differences = {
                outcome.value: counts.get(f"differences {outcome}", 0)
                for outcome in DifferenceOutcome
            }
            return {"verified_ms": counts.get("verified", 0), **differences}

    def leave_rebuilt(self, bars: Sequence[Bar]) -> None:
        """Leave *bars* that were made again for the collector, which takes them over in seconds."""
        with self._writing() as connection:
            put_rebuilt(connection, bars)

    def has_rebuilt(self) -> bool:
        """Whether such bars wait for the collector."""
        with self._reading() as connection:
            return has_rebuilt(connection)

    def _report_damage_to_collector(self, damage: str) -> None:
        """Have the next start save what can be read: the collector itself may never look there."""
        with contextlib.suppress(JournalError), self._writing() as connection:
            meta.put_found_damaged(connection, damage)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._connected(is_read_only=True) as connection:
            yield connection

    @contextlib.contextmanager
    def _at_one_commit(self) -> Iterator[sqlite3.Connection]:
        """Have all that is read be of one commit."""
        with self._reading() as connection:
            connection.execute("BEGIN")  # ends with the connection
            yield connection

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._connected(is_read_only=False) as connection, transaction(connection):
            yield connection

    @contextlib.contextmanager
    def _connected(self, *, is_read_only: bool) -> Iterator[sqlite3.Connection]:
        if not self.path.exists():
            raise JournalError(f"{self.path}: there is no journal yet; `bintrades run` begins it")
        file = identity(self.path)
        try:
            with contextlib.closing(connect(self.path, is_read_only=is_read_only)) as connection:
                yield connection
        except (sqlite3.Error, JournalError) as error:
            cause = error.__cause__ if isinstance(error, JournalError) else error
            if is_damaged(cause):
                self._record_damage(str(cause), file)
                raise JournalDamaged(
                    f"{self.path}: is damaged ({cause}); a collector that is running saves what can"
                    " be read of it when it meets the damage, `bintrades run` when it starts"
                ) from error
            if isinstance(error, JournalError):
                raise
            advice = what_to_do(error, "let `bintrades run` open it, which makes what it lacks")
            raise JournalError(f"{self.path}: cannot be read: {error}; {advice}") from error

    def _record_damage(self, reason: str, file: tuple[int, int]) -> None:
        """Report to the callback that can save what is readable, if there is one."""


def _newest_bars(
    connection: sqlite3.Connection, symbol: str, count: int, scope: JournalScope
) -> list[Bar]:
    """Return the bars of the newest intervals of a symbol, those that take trades included."""
    still_open = {bar.open_time_ms: bar for bar in open_bars(connection, symbol)}
    through = read_closed_through(connection, symbol)
    newest = max(still_open if through is None else [*still_open, through], default=None)
    if newest is None:
        return []
    bars = []
    for back in reversed(range(count)):
        open_time = newest - back * scope.interval_ms
        row: Row | None = connection.execute(GET_BAR, (symbol, open_time)).fetchone()
        if open_time in still_open:
            row = _newer(row, still_open[open_time])
        if row is not None:
            bars.append(read_bar(row, scope))
    return bars


def _newer(stored: Row | None, bar: Bar) -> Row:
    """Return what is now known of a bar that takes trades, perhaps since an earlier stop."""
    row = bar_row(bar, bar.updated_at_ms, is_complete=False)
    if stored is None:
        return row
    if (stored[_EPOCH], stored[_TRADE_COUNT]) >= (bar.epoch, bar.trade_count):
        return stored
    return (*row[:_VERSION], stored[_VERSION] + 1, *row[_VERSION + 1 :])
