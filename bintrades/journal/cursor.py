"""The cursor with which a store goes through the journal."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from bintrades.journal import resend
from bintrades.journal.bars import BARS_AFTER, BARS_DUE, BARS_FROM
from bintrades.journal.connection import fetch_rows
from bintrades.journal.damage import UnreadableRow
from bintrades.journal.meta import put_identity, read_identity, read_resend_place, read_scope
from bintrades.journal.positions import delete_refused, position_of, put_position, put_refused
from bintrades.journal.reader import JournalReader
from bintrades.journal.rows import bar_from_row
from bintrades.journal.store_coverage import has_all, read_store_coverage
from bintrades.util.clocks import utc_ms

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from bintrades.core.write_batch import Key
    from bintrades.journal.meta import Place
    from bintrades.journal.store_coverage import Mark, StoreCoverage
    from bintrades.model import Bar


_NO_MARKS: Mapping[str, Mark] = {}


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
        cannot be read are left out, and count as refused when the cursor moves.
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
            position = position_of(connection, self._store)
            due = fetch_rows(connection, BARS_DUE, (self._store, limit))
            if due:
                return self._readable(connection, due), position
            rows = fetch_rows(connection, BARS_AFTER, (position, limit))
            if rows:
                return self._readable(connection, rows), rows[-1][-1]
            place = read_resend_place(connection, self._store)
            if place is None:
                return [], 0
            again = fetch_rows(connection, BARS_FROM, (*place, limit))
            through = (again[-1][1], again[-1][0]) if len(again) == limit else None
            self._sent_again = (place, through)
            return self._readable(connection, again), position

    def _readable(self, connection: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> list[Bar]:
        if not rows:
            return []
        scope = read_scope(connection)
        bars = []
        for row in rows:
            try:
                bars.append(bar_from_row(row, scope.market, scope.interval_ms))
            except UnreadableRow as error:
                if not (isinstance(row[0], str) and isinstance(row[1], int)):
                    raise  # it is unknown whose trades they are: the rows beside it may
                self._unreadable.append((row[0], row[1], str(error)))
        return bars

    @contextlib.contextmanager
    def coverage_of_delivered(
        self, marks: Mapping[str, Mark] = _NO_MARKS
    ) -> Iterator[Iterator[StoreCoverage] | None]:
        """Have the coverage of every symbol at one commit, by name, as it is true of this store.

        Of a symbol with one of *marks*, which came with it before, only from where it may have
        changed. None if a bar waits for the store: try again once it has that. Until the end of
        the context the journal cannot let go of what is replaced: take them at once.
        """
        with self._at_one_commit() as connection:
            is_delivered = has_all(connection, self._store)
            yield read_store_coverage(connection, self._store, marks) if is_delivered else None

    def begin_again_if_other(self, identity: str) -> bool:
        """Have all bars sent to the store again if its *identity* is not what it was.

        Returns whether that is so. What has left the journal it may have lost.
        """
        with self._reading() as connection:
            if read_identity(connection, self._store) == identity:
                return False
        with self._writing() as connection:
            before = read_identity(connection, self._store)
            put_identity(connection, self._store, identity)
            if before is not None:
                resend.request(connection, self._store, 0)
        return before is not None

    def move(
        self, sequence: int, bars: Sequence[Bar], rejected: Sequence[tuple[Bar, str]] = ()
    ) -> None:
        """Record that the store has *bars*, up to *sequence*, but for the *rejected* among them."""
        now_ms = utc_ms()
        refused = [(bar.symbol, bar.open_time_ms, reason) for bar, reason in rejected]
        with self._writing() as connection:
            taken = ((bar.symbol, bar.open_time_ms) for bar in bars)
            delete_refused(connection, self._store, taken)
            put_refused(connection, self._store, [*refused, *self._unreadable], now_ms)
            put_position(connection, self._store, sequence)
            if self._sent_again is not None:
                resend.record_sent(connection, self._store, *self._sent_again)
