"""The journal as others see it: the stores' threads with their cursors, and the commands.

Each use opens the file anew, which costs a fraction of a millisecond and finds the right file even
after a damaged one was set aside.
"""

from __future__ import annotations

import contextlib
import heapq
import logging
import sqlite3
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bintrades.errors import JournalDamaged, JournalError
from bintrades.journal import resend as journal_resend
from bintrades.journal.bars import BARS_AFTER, BARS_DUE, GET_BAR, Row, after_page, newest, page
from bintrades.journal.check import has_nonsense_counts
from bintrades.journal.file import (
    GAP_COLUMNS,
    UnreadableRow,
    bar_from_row,
    bar_row,
    connect,
    decode_open_bars,
    fetch_rows,
    gap_from_row,
    is_damaged,
    reading_rows,
    symbols_in,
)
from bintrades.journal.gaps import FROM_THE_BEGINNING, TABLES, GapRow, gap_page
from bintrades.journal.lock import identity, what_to_do
from bintrades.journal.meta import FOUND_DAMAGED, place_of, read_kind
from bintrades.journal.schema import transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from typing import Any

    from bintrades.core.write_batch import Key
    from bintrades.journal.resend import Place
    from bintrades.model import Bar, Gap


log = logging.getLogger(__name__)

_VERSION, _TRADE_COUNT, _EPOCH = 2, 6, 20  # in a row
_GAPS = "gaps "


@dataclass(frozen=True, slots=True)
class StoreState:
    """How far a store is."""

    waiting_bars: int
    rejected_bars: int
    last_reason: str | None
    resending_from_ms: int | None = None  # open time of the next bar that it is to get again


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
        rows = [row for page in self.pages(symbol, since_ms, until_ms, limit) for row in page]
        kind = self.kind() if rows else ("", 0)
        try:
            return [bar_from_row(row, *kind) for row in rows]
        except UnreadableRow as error:
            raise JournalDamaged(f"{self.path}: {error}") from error

    def pages(self, symbol: str, since_ms: int, until_ms: int, limit: int) -> Iterator[list[Row]]:
        """Yield the same bars as rows in the order of journal_bars.BAR_COLUMNS, page by page.

        Between two pages the journal is not open: whoever takes them may take their time.
        """
        with self._reading() as connection:
            since_ms, count = newest(connection, symbol, since_ms, until_ms, limit)
            still_open = [
                bar
                for bar in _open_bars(connection, symbol)
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

    def kind(self) -> tuple[str, int]:
        """Return the market and the interval in milliseconds of all bars."""
        with self._reading() as connection:
            kind = read_kind(connection)
            return kind.market, kind.interval_ms

    def newest_open_time_ms(self, symbol: str) -> int | None:
        """Return the open time of the symbol's newest bar, if it has one."""
        with self._reading() as connection:
            row = connection.execute(
                "SELECT closed_through FROM checkpoints WHERE symbol = ?", (symbol,)
            ).fetchone()
            times = [bar.open_time_ms for bar in _open_bars(connection, symbol)]
            with reading_rows():
                if row is not None and row[0] >= 0:
                    times.append(row[0])
            return max(times, default=None)

    def newest_stored_open_time_ms(self) -> int | None:
        """Return the open time of the newest bar that stores can have, of whatever symbol."""
        with self._reading() as connection:
            (newest,) = connection.execute("SELECT max(open_time) FROM bars").fetchone()
            return None if newest is None else int(newest)

    def symbols(self) -> list[str]:
        """Return the symbols of which a trade was ever seen."""
        with self._reading() as connection:
            return [
                row[0]
                for row in connection.execute(
                    "SELECT symbol FROM checkpoints WHERE next_id IS NOT NULL"
                )
            ]

    def gaps(self) -> dict[str, list[Gap]]:
        """Return the open gaps of each symbol that has some, newest last."""
        with self._reading() as connection:
            found: dict[str, list[Gap]] = {}
            for symbol, *row in connection.execute(
                f"SELECT symbol, {GAP_COLUMNS} FROM gaps"  # noqa: S608 - constants
                " ORDER BY symbol, first_id"
            ):
                found.setdefault(symbol, []).append(gap_from_row(tuple(row)))
            return found

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
                gaps = list(_readable_gaps(table, rows))
            if not rows:
                return
            yield from gaps
            after = rows[-1]

    def counts(self) -> dict[str, int]:
        """Return how many bars there are, in all and by what is worth knowing of them."""
        with self._reading() as connection:
            counts = _counts(connection)
            still_open = [(bar.symbol, bar.open_time_ms) for bar in _open_bars(connection)]
            beside = sum(not _is_unclosed(connection, key) for key in still_open)
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
                for name, count in _counts(connection).items()
                if name.startswith(_GAPS)
            }

    def symbols_with_gaps(self) -> list[str]:
        """Return the symbols of which something is missing now."""
        with self._reading() as connection:
            return symbols_in(connection, "gaps")

    def get_meta(self, name: str) -> str | None:
        """Return what the collector remembered under *name*, if anything."""
        with self._reading() as connection:
            row = connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
            return None if row is None else str(row[0])

    def store(self, name: str) -> StoreState:
        """Return how far the store *name* is."""
        with self._reading() as connection:
            row = connection.execute(
                "SELECT waiting + due, refused FROM cursors WHERE store = ?", (name,)
            ).fetchone()
            waiting, refused = row or (_counts(connection)["bars"], 0)
            reason = connection.execute(
                "SELECT reason FROM rejected WHERE store = ? AND is_due = 0"
                " ORDER BY rejected_at DESC LIMIT 1",
                (name,),
            ).fetchone()
            place = journal_resend.place_of(connection, name)
            return StoreState(
                waiting, refused, reason[0] if reason else None, place[0] if place else None
            )

    def resend(self, name: str) -> int:
        """Have the bars that *name* refused delivered again; return how many."""
        try:
            with self._writing() as connection:
                return connection.execute(
                    "UPDATE rejected SET is_due = 1 WHERE store = ? AND is_due = 0", (name,)
                ).rowcount
        except JournalDamaged as error:
            self._leave_word(str(error))
            raise

    def resend_since(self, name: str, since_ms: int) -> int:
        """Have all bars that open then or later delivered to *name* again; return how many."""
        with self._writing() as connection:
            return journal_resend.request(connection, name, since_ms)

    def _leave_word(self, damage: str) -> None:
        """Have the next start save what can be read: the collector itself may never look there."""
        word = (FOUND_DAMAGED, damage)
        with contextlib.suppress(JournalError), self._writing() as connection:
            connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", word)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._connected(is_read_only=True) as connection:
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
        """Tell whoever can save what is readable, if there is somebody."""


class Cursor(JournalReader):
    """One store's place in the journal. Belongs to that store's thread.

    on_damage is called with what is wrong, and with which file, when that cannot be read, and
    on_unreadable with the bars of which single rows cannot: their trades are to be asked for again.
    """

    def __init__(
        self,
        path: Path,
        store: str,
        on_damage: Callable[[str, tuple[int, int]], None] | None = None,
        on_unreadable: Callable[[Sequence[Key]], None] | None = None,
    ) -> None:
        super().__init__(path)
        self._store = store
        self._on_damage = on_damage
        self._on_unreadable = on_unreadable
        self._unreadable: list[tuple[str, int, str]] = []  # symbol, open time, what is wrong
        self._sent_again: tuple[Place, Place | None] | None = None  # from there, through here

    def _record_damage(self, reason: str, file: tuple[int, int]) -> None:
        if self._on_damage is not None:
            self._on_damage(reason, file)

    def next_bars(self, limit: int) -> tuple[list[Bar], int]:
        """Return the next bars, oldest version first, and where to move the cursor after them.

        Bars that the store refused and that are to be sent again come before, in batches of
        their own; those that it had and is to get again come when no others wait. Rows that
        cannot be read are left out, and set aside when the cursor moves.
        """
        while True:
            bars, sequence = self._next_bars(limit)
            if self._unreadable and self._on_unreadable is not None:
                self._on_unreadable([row[:2] for row in self._unreadable])
            if bars or not (self._unreadable or self._sent_again):
                return bars, sequence
            self.move(sequence, [])

    @property
    def is_sending_again(self) -> bool:
        """Whether the last bars were such that the store had already: no others waited."""
        return self._sent_again is not None

    def _next_bars(self, limit: int) -> tuple[list[Bar], int]:
        self._unreadable = []
        self._sent_again = None
        with self._reading() as connection:
            position = place_of(connection, self._store)
            due = fetch_rows(connection, BARS_DUE, (self._store, limit))
            if due:
                return self._readable(connection, due), position
            rows = fetch_rows(connection, BARS_AFTER, (position, limit))
            if rows:
                return self._readable(connection, rows), rows[-1][-1]
            place = journal_resend.place_of(connection, self._store)
            if place is None:
                return [], 0
            again = fetch_rows(connection, journal_resend.BARS_FROM, (*place, limit))
            through = (again[-1][1], again[-1][0]) if len(again) == limit else None
            self._sent_again = (place, through)
            return self._readable(connection, again), position

    def _readable(self, connection: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> list[Bar]:
        if not rows:
            return []
        kind = read_kind(connection)
        bars = []
        for row in rows:
            try:
                bars.append(bar_from_row(row, kind.market, kind.interval_ms))
            except UnreadableRow as error:
                if not (isinstance(row[0], str) and isinstance(row[1], int)):
                    raise  # nobody could tell whose trades they are: the rows beside it may
                self._unreadable.append((row[0], row[1], str(error)))
        return bars

    def move(
        self, sequence: int, bars: Sequence[Bar], rejected: Sequence[tuple[Bar, str]] = ()
    ) -> None:
        """Note that the store has *bars*, up to *sequence*, but for the *rejected* among them."""
        now_ms = time.time_ns() // 1_000_000
        refused = [(bar.symbol, bar.open_time_ms, reason) for bar, reason in rejected]
        with self._writing() as connection:
            if _has_rejected(connection):  # nearly never, and looking for each bar is not free
                connection.executemany(
                    "DELETE FROM rejected WHERE store = ? AND symbol = ? AND open_time = ?",
                    [(self._store, bar.symbol, bar.open_time_ms) for bar in bars],
                )
            connection.executemany(
                "INSERT OR REPLACE INTO rejected VALUES (?, ?, ?, ?, ?, 0)",
                [(self._store, *each, now_ms) for each in [*refused, *self._unreadable]],
            )
            connection.execute(
                "INSERT INTO cursors (store, sequence) VALUES (?, ?)"
                " ON CONFLICT (store) DO UPDATE SET sequence = excluded.sequence",
                (self._store, sequence),
            )
            if self._sent_again is not None:
                journal_resend.record_sent(connection, self._store, *self._sent_again)


def _open_bars(connection: sqlite3.Connection, symbol: str | None = None) -> Iterator[Bar]:
    """Yield the bars, of one symbol or of all, that still take trades, as last saved."""
    for text, updated_at in connection.execute(
        "SELECT open_bars, updated_at FROM checkpoints WHERE symbol = ? OR ? IS NULL",
        (symbol, symbol),
    ):
        for bar in decode_open_bars(text):
            yield replace(bar, is_complete=False, updated_at_ms=updated_at)


def _has_rejected(connection: sqlite3.Connection) -> bool:
    """Whether any store has refused any bar."""
    (has_some,) = connection.execute("SELECT EXISTS (SELECT 1 FROM rejected)").fetchone()
    return bool(has_some)


def _counts(connection: sqlite3.Connection) -> dict[str, int]:
    if has_nonsense_counts(connection):
        raise UnreadableRow("what is counted is nonsense")
    return dict(connection.execute("SELECT name, value FROM counts"))


def _is_unclosed(connection: sqlite3.Connection, key: tuple[str, int]) -> bool:
    """Whether an orderly stop has written the bar, so that it is counted already."""
    row = connection.execute(
        "SELECT is_closed FROM bars WHERE symbol = ? AND open_time = ?", key
    ).fetchone()
    return row is not None and not row[0]


def _newer(stored: Row | None, bar: Bar) -> Row:
    """Return what is now known of a bar that takes trades, perhaps since an earlier stop."""
    row = bar_row(bar, bar.updated_at_ms, is_complete=False)
    if stored is None:
        return row
    if (stored[_EPOCH], stored[_TRADE_COUNT]) >= (bar.epoch, bar.trade_count):
        return stored
    return (*row[:_VERSION], stored[_VERSION] + 1, *row[_VERSION + 1 :])


def _readable_gaps(table: str, rows: list[GapRow]) -> Iterator[tuple[str, Gap, str, int]]:
    """Yield symbol, gap, state and when it ended of all rows but those of nonsense."""
    for symbol, *gap, state, closed_at in rows:
        try:
            with reading_rows():
                yield symbol, gap_from_row(tuple(gap)), state, int(closed_at)
        except UnreadableRow as error:
            log.warning(
                "a gap on record cannot be read",
                extra={"table": table, "symbol": symbol, "error": str(error)},
            )
