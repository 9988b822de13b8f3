"""`bintrades bars SYMBOL --follow`: bars as they are written, longer ones as they are over."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from bintrades.app.stored_bars import all_ended_ms, longer_bar
from bintrades.cli.bar_text import longer_row
from bintrades.cli.output import print_problems, wait_for
from bintrades.errors import BintradesError, JournalError
from bintrades.journal.damage import UnreadableRow
from bintrades.journal.rows import COLUMN, bar_from_row
from bintrades.model import utc
from bintrades.util.clocks import utc_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bintrades.core.spans import Span
    from bintrades.journal.reader import JournalReader, Known
    from bintrades.journal.rows import Row

_EVERY_S = 0.5
_AGAIN_NS = 5_000_000_000  # until a longer bar that was not over is looked at again
_MOST_ROWS = 5_000
_OVERLAP_MS = 60_000
"""Bars written so long before it began, and later, are known by their versions when they come."""

_IS_CLOSED, _VERSION, _UPDATED_AT = map(COLUMN.__getitem__, ("is_closed", "version", "updated_at"))

_Key = tuple[str, int]


class Follower:
    """What is written to a journal from now on of the symbols that are *wanted*. Main thread.

    A journal that cannot be read for a while, as when it is replaced or the disk is busy, is tried
    again; that is said once, on stderr. One that has begun anew is printed from its beginning.

    Everything may raise BrokenPipeError, as soon as nobody can read stdout any more, and
    BintradesError where the journal becomes one of other bars.
    """

    def __init__(self, reader: JournalReader, wanted: Callable[[str], bool]) -> None:
        self._reader = reader
        self._wanted = wanted
        self._sequence = reader.last_sequence()
        self._began_ms = utc_ms()
        self._scope = reader.scope()
        self._trouble = ""

    def stored(self, first: Iterator[Sequence[Row]]) -> Iterator[Sequence[Row]]:
        """Yield *first*, then again and again the closed bars that were written meanwhile."""
        known: dict[_Key, int] = {}
        for page in first:
            for row in page:
                if row[_UPDATED_AT] >= self._began_ms - _OVERLAP_MS:
                    known[row[0], row[1]] = row[_VERSION]
            yield page
        for written in self._written():
            rows = [row for row in written if known.pop((row[0], row[1]), None) != row[_VERSION]]
            if rows:
                yield rows

    def longer(self, first: Iterator[Sequence[Row]], interval_ms: int) -> Iterator[Sequence[Row]]:
        """Yield *first*, then the longer bars that are over, and again those that change."""
        longer = _Longer(self._reader, interval_ms)
        for page in first:
            yield longer.first(page)
        for written in self._written():
            longer.note(written)
            if rows := self._patiently(longer.due, []):
                yield rows

    def _written(self) -> Iterator[list[Row]]:
        """Yield what was written, and nothing where nothing was, after a while each."""
        while True:
            written = self._patiently(
                lambda: self._reader.written_after(self._sequence, _MOST_ROWS), None
            )
            if written is not None:
                if written.scope != self._scope:
                    raise BintradesError(
                        f"{self._reader.path}: is a journal of other bars now: begin again"
                    )
                if written.sequence < self._sequence:
                    print_problems([f"{self._reader.path}: has begun anew"])
                    self._sequence = 0
                    continue
                self._sequence = written.sequence
                yield list(filter(self._is_to_be_printed, written.rows))
            if written is None or len(written.rows) < _MOST_ROWS:
                wait_for(_EVERY_S)

    def _is_to_be_printed(self, row: Row) -> bool:
        if not isinstance(row[0], str) or not self._wanted(row[0]) or not row[_IS_CLOSED]:
            return False
        try:
            bar_from_row(row, *self._scope)
        except UnreadableRow as error:
            print_problems([f"the bar of {row[0]} that opens at {row[1]}: {error}"])
            return False
        return True

    def _patiently(self, read: Callable[[], Any], otherwise: Any) -> Any:
        """Return what *read* does, *otherwise* where the journal cannot be read now."""
        try:
            found = read()
        except JournalError as error:
            if str(error) != self._trouble:
                print_problems([str(error)])
            self._trouble = str(error)
            return otherwise
        self._trouble = ""
        return found


class _Longer:
    """Which longer bars are to be printed, and when."""

    def __init__(self, reader: JournalReader, interval_ms: int) -> None:
        self._reader = reader
        self._scope = reader.scope()
        self._interval_ms = interval_ms
        self._changed: dict[_Key, int] = {}  # when to look, by the clock of time.monotonic_ns()
        self._newest: dict[str, int] = {}  # open time of the newest stored bar of each symbol
        self._printed: dict[str, Row] = {}  # the newest one of each symbol
        self._ready: list[Row] = []  # to be printed, even if the journal cannot be read meanwhile

    def first(self, page: Sequence[Row]) -> list[Row]:
        """Return what of *page* is to be printed, and remember what is not over."""
        for row in page:
            if row[_IS_CLOSED]:
                self._printed[row[0]] = row
            else:
                self._changed[row[0], row[1]] = 0
        return [row for row in page if row[_IS_CLOSED]]

    def note(self, written: Sequence[Row]) -> None:
        """Take note of stored bars that are new, or have changed."""
        for row in written:
            symbol, open_time_ms = row[:2]
            self._newest[symbol] = max(open_time_ms, self._newest.get(symbol, 0))
            self._changed[symbol, open_time_ms - open_time_ms % self._interval_ms] = 0

    def due(self) -> list[Row]:
        """Return the longer bars that are over and have changed. Raises JournalError."""
        now = time.monotonic_ns()
        looked_at = [key for key, not_before in self._changed.items() if not_before <= now]
        if not looked_at:
            return []
        proven_ms = self._reader.newest_proof_ms() or 0
        ended_ms = all_ended_ms(self._reader)
        over = [
            (symbol, (since_ms, since_ms + self._interval_ms))
            for symbol, since_ms in looked_at
            if max(proven_ms, self._newest.get(symbol, 0)) >= since_ms + self._interval_ms
        ]
        some = max(1, _MOST_ROWS // (self._interval_ms // self._scope[1]))
        for place in range(0, len(over), some):
            wanted = over[place : place + some]
            for each, known in zip(wanted, self._reader.known_of(wanted), strict=True):
                self._look(*each, known, ended_ms)
        rows, self._ready = self._ready, []
        return rows

    def _look(self, symbol: str, span: Span, known: Known, ended_ms: int) -> None:
        """Have the longer bar of *span* be printed if it is over, and not what was printed last."""
        since_ms = span[0]
        key = (symbol, since_ms)
        if known.left_ms is not None and known.left_ms >= since_ms:
            del self._changed[key]
            time_text = utc(since_ms).isoformat()
            print_problems(
                [
                    f"{symbol}: what opens at {time_text} has changed, but parts of it have left"
                    " the journal, so it cannot be added up again"
                ]
            )
            return
        ended_ms = max(ended_ms, self._newest.get(symbol, 0))
        longer = longer_bar(known, self._scope, span, ended_ms)
        if longer is not None and not longer.bar.is_closed:
            self._changed[key] = time.monotonic_ns() + _AGAIN_NS
            return
        del self._changed[key]
        if longer is None:
            return
        printed = self._printed.get(symbol)
        is_amended = printed is not None and printed[1] >= since_ms
        row = longer_row(longer, is_amended=is_amended)
        if printed is None or row[:-1] != printed[:-1]:
            self._ready.append(row)
            self._printed[symbol] = row if printed is None else max(row, printed, key=_open_time)


def _open_time(row: Row) -> int:
    return int(row[1])
