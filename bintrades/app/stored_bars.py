"""Bars that a command reads: of which symbols, of which time, and where from.

Light: a command that only looks at the journal imports no store and no network.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from bintrades.core.resample import resample
from bintrades.core.spans import clipped
from bintrades.errors import BintradesError, ConfigError, JournalError
from bintrades.exchange.symbols import is_pattern, matcher
from bintrades.journal.damage import UnreadableRow
from bintrades.journal.rows import COLUMN, bar_from_row

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Sequence

    from bintrades.core.resample import LongerBar
    from bintrades.core.spans import Span
    from bintrades.journal.reader import JournalReader, Known
    from bintrades.journal.rows import Row
    from bintrades.model import Bar

END_MS = 253_370_764_800_000
"""The year 9999: later times are no dates everywhere."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_LIMIT = 2**31
_LATEST_MS = 600_000
_SHOWN = 10
_IS_CLOSED = COLUMN["is_closed"]


class BarSource(Protocol):
    """Where bars are read from. One thread. Every call may raise BintradesError."""

    market: str
    interval_ms: int

    def ended_ms(self) -> int:
        """Return up to when intervals are over, whatever is known of a single symbol."""

    def pages(self, symbol: str, since_ms: int, until_ms: int) -> Iterator[Sequence[Row]]:
        """Yield rows of rows.BAR_COLUMNS with since_ms <= open time < until_ms, oldest first.

        Only bars that are closed, unless it was made to give others. No page is empty.
        """

    def covered(self, symbol: str, since_ms: int, until_ms: int) -> list[Span]:
        """Return the spans of that time in which all is there: without a bar were no trades."""


class JournalSource:
    """The bars that the journal still has: *with_open*, also those that still take trades."""

    def __init__(self, reader: JournalReader, *, with_open: bool = False) -> None:
        self._reader = reader
        self._with_open = with_open
        self.market, self.interval_ms = reader.scope()

    def ended_ms(self) -> int:
        """Return what all_ended_ms() does."""
        return all_ended_ms(self._reader)

    def pages(self, symbol: str, since_ms: int, until_ms: int) -> Iterator[Sequence[Row]]:
        """Yield them; between two pages the journal is not open."""
        for page in self._reader.pages(symbol, since_ms, until_ms, _NO_LIMIT):
            if rows := [row for row in page if self._with_open or row[_IS_CLOSED]]:
                yield rows

    def covered(self, symbol: str, since_ms: int, until_ms: int) -> list[Span]:
        """Return what is proven, from where no bar has left the journal yet."""
        left = self._reader.pruned_through(symbol)
        if left is not None:
            since_ms = max(since_ms, left + self.interval_ms)
        found = self._reader.coverage(symbol)
        return [] if found is None else clipped(found.coverage.spans, since_ms, until_ms)


def all_ended_ms(reader: JournalReader) -> int:
    """Return up to when intervals are over, by the symbol of which the newest trades are proven.

    Another one may be late, but not that much, unless it is not collected any more.
    """
    return (reader.newest_proof_ms() or 0) - _LATEST_MS


def longer_bars(
    source: BarSource,
    symbol: str,
    since_ms: int,
    until_ms: int,
    interval_ms: int,
) -> Iterator[LongerBar]:
    """Yield the longer bars with since_ms <= open time < until_ms, oldest first, flat in memory.

    Whole ones: of the last one also what is stored from *until_ms* on. Raises BintradesError.
    """
    since_ms += -since_ms % interval_ms
    until_ms = min(until_ms + -until_ms % interval_ms, END_MS)
    # First what is covered: a bar that comes in between is no reason to believe in more.
    covered = source.covered(symbol, since_ms, until_ms)
    scope = (source.market, source.interval_ms)
    pages = source.pages(symbol, since_ms, until_ms)
    bars = (read_bar(row, *scope) for page in pages for row in page)
    yield from resample(bars, covered, interval_ms, source.ended_ms())


def longer_bar(known: Known, scope: tuple[str, int], span: Span, ended_ms: int) -> LongerBar | None:
    """Return the longer bar of all of *span*; None: no bar is in it that is closed.

    Raises JournalError.
    """
    market, stored_ms = scope
    since_ms, until_ms = span
    kept_since_ms = 0 if known.left_ms is None else known.left_ms + stored_ms
    covered = clipped(known.spans, max(since_ms, kept_since_ms), until_ms)
    bars = [read_bar(row, market, stored_ms) for row in known.rows if row[_IS_CLOSED]]
    return next(resample(bars, covered, until_ms - since_ms, ended_ms), None)


def read_bar(row: Row, market: str, interval_ms: int) -> Bar:
    """Return the bar of a row. Raises JournalError, with what can be done."""
    try:
        return bar_from_row(row, market, interval_ms)
    except UnreadableRow as error:
        raise JournalError(
            f"the bar of {row[0]} that opens at {row[1]} cannot be read: {error};"
            " a collector that meets it takes it out and fetches its trades again"
        ) from error


def fitting(names: Sequence[str]) -> Callable[[str], bool]:
    """Return a test for symbols that one of *names*, which may be patterns, stands for."""
    return matcher(names)


def may_be_several(names: Sequence[str]) -> bool:
    """Whether *names* stand for more than one symbol, as far as can be seen from them."""
    return len(names) > 1 or any(map(is_pattern, names))


def symbols_of(reader: JournalReader, names: Sequence[str], also: Container[str] = ()) -> list[str]:
    """Return the symbols that *names*, which may be patterns, stand for, each once, by name.

    Raises BintradesError for a pattern that no symbol of the journal fits, and for a name of which
    it has no bars and which is not one of *also*.
    """
    known = reader.symbols()
    found: set[str] = set()
    for name in names:
        symbols = list(filter(matcher([name]), known)) if is_pattern(name) else [name]
        if not symbols or not (
            is_pattern(name) or name in also or reader.newest_open_time_ms(name) is not None
        ):
            there = ", ".join(known[:_SHOWN]) or "none yet"
            raise BintradesError(f"{name}: the journal has no bars of it; it has: {there}")
        found.update(symbols)
    return sorted(found)


def span_of(
    reader: JournalReader,
    since: int | datetime | None,
    until: int | datetime | None,
    *,
    otherwise: int | None = None,
) -> Span:
    """Return from when until when bars are meant, in milliseconds since the epoch.

    A number is milliseconds before the newest bar that stores can have. Without *since* it begins
    *otherwise* milliseconds before that, without either at the epoch; without *until* it has all
    later ones. Raises ConfigError where nothing can be in it.
    """
    since = otherwise if since is None else since
    since_ms = 0 if since is None else _moment_ms(reader, since)
    until_ms = END_MS if until is None else _moment_ms(reader, until)
    if since_ms >= until_ms:
        raise ConfigError("--since must be before --until")
    return since_ms, until_ms


def _moment_ms(reader: JournalReader, moment: int | datetime) -> int:
    if isinstance(moment, datetime):
        return max(0, (moment - _EPOCH) // timedelta(milliseconds=1))
    newest_ms = reader.newest_stored_open_time_ms()
    if newest_ms is None:
        raise BintradesError("the journal has no bars, so say --since and --until as times")
    return max(0, newest_ms - moment)
