"""Bars that a command reads: of which symbols, of which time, as they are stored or longer.

Light: a command that looks at a journal imports no store's library and no network.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING

from bintrades.core.resample import resample
from bintrades.core.spans import clipped, minus
from bintrades.errors import BintradesError, ConfigError, JournalError
from bintrades.exchange.symbols import is_pattern, matcher
from bintrades.journal.damage import UnreadableRow
from bintrades.journal.rows import COLUMN, bar_from_row, stored_row
from bintrades.reading.moments import LAST_MS
from bintrades.reading.sources import again_if_left

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bintrades.core.resample import LongerBar
    from bintrades.core.spans import Span
    from bintrades.journal.reader import JournalReader
    from bintrades.journal.reader import Known as KnownOfSpan
    from bintrades.journal.rows import Row
    from bintrades.model import Bar
    from bintrades.reading.sources import Known, Source

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST_MS = 600_000
_PAGE_ROWS = 1_000
_SHOWN = 10
_IS_CLOSED = COLUMN["is_closed"]


class StoredBars:
    """The bars of *source*, those that still take trades only where they are wanted *with_open*.

    *reader* is that of the journal, if there is one: of *source* itself, or of a store's. One
    thread. Every call may raise BintradesError.
    """

    def __init__(
        self, source: Source, reader: JournalReader | None, *, with_open: bool = False
    ) -> None:
        self._source = source
        self._reader = reader
        self._with_open = with_open
        self._read: tuple[str, Known] | None = None
        self.market, self.interval_ms = source.market, source.interval_ms
        self._ended_ms = all_ended_ms(reader) if reader is not None else 0

    def covered(self, symbol: str, since_ms: int, until_ms: int) -> list[Span]:
        """Return the spans of that time in which an interval without a bar had no trades."""
        return clipped(self._known_of(symbol).covered, since_ms, until_ms)

    def judged_until_ms(self, symbol: str) -> int:
        """Return up to when it is known what is there and what is missing, in whole intervals.

        What is later is not proven yet, or in a bar that still takes trades.
        """
        found = None if self._reader is None else self._reader.coverage(symbol)
        return 0 if found is None else found.coverage.until_ms

    def holes(self, symbol: str, since_ms: int | None, until_ms: int) -> list[Span]:
        """Return the spans in which trades may be missing, as far as that is known by now.

        Without *since_ms* they are looked for from where anything is covered.
        """
        known = self._known_of(symbol)
        end_ms = min(until_ms, self.judged_until_ms(symbol))
        if since_ms is None:
            since_ms = known.covered[0][0] if known.covered else end_ms
        return minus([(since_ms, end_ms)], known.covered)

    def _known_of(self, symbol: str) -> Known:
        """Return what was known when the bars of *symbol* were read, if they were the last ones.

        What has left the journal since then has been read.
        """
        if self._read is None or self._read[0] != symbol:
            return self._source.known(symbol)
        return self._read[1]

    def _known(self, symbol: str) -> Known:
        """Return what is known before bars of *symbol* are read."""
        known = self._source.known(symbol)
        self._read = (symbol, known)
        return known

    def rows(self, symbol: str, since_ms: int, until_ms: int) -> Iterator[Sequence[Row]]:
        """Yield rows of rows.BAR_COLUMNS with since_ms <= open time < until_ms, oldest first.

        In pages, none of which is empty.
        """
        bars = self.bars(symbol, since_ms, until_ms)
        while page := list(map(stored_row, islice(bars, _PAGE_ROWS))):
            yield page

    def bars(self, symbol: str, since_ms: int, until_ms: int) -> Iterator[Bar]:
        """Yield the same as bars."""
        return again_if_left(lambda: self._bars(symbol, self._known(symbol), since_ms, until_ms))

    def longer(
        self, symbol: str, since_ms: int, until_ms: int, interval_ms: int
    ) -> Iterator[LongerBar]:
        """Yield the longer bars with since_ms <= open time < until_ms, oldest first.

        Whole ones, also of what is stored from *until_ms* on. One that is not over is not closed.
        """
        since_ms += -since_ms % interval_ms
        until_ms = min(until_ms + -until_ms % interval_ms, LAST_MS)

        def read() -> Iterator[LongerBar]:
            # First what is known: a bar that comes in between is no reason to believe in more.
            known = self._known(symbol)
            covered = clipped(known.covered, since_ms, until_ms)
            bars = self._bars(symbol, known, since_ms, until_ms)
            return resample(bars, covered, interval_ms, max(known.proven_ms, self._ended_ms))

        return again_if_left(read)

    def _bars(self, symbol: str, known: Known, since_ms: int, until_ms: int) -> Iterator[Bar]:
        since_ms = max(since_ms, known.kept_since_ms)
        for bar in self._source.read(symbol, since_ms, min(until_ms, LAST_MS)):
            if bar.is_closed or self._with_open:
                yield bar


class JournalBars(StoredBars):
    """The same of a journal, with rows as they are stored: three times as fast."""

    def __init__(self, source: Source, reader: JournalReader, *, with_open: bool = False) -> None:
        super().__init__(source, reader, with_open=with_open)
        self._journal = reader

    def rows(self, symbol: str, since_ms: int, until_ms: int) -> Iterator[Sequence[Row]]:
        """Yield them; BarsLeft if some leave the journal before they are read."""
        return again_if_left(lambda: self._pages(symbol, since_ms, until_ms))

    def _pages(self, symbol: str, since_ms: int, until_ms: int) -> Iterator[Sequence[Row]]:
        since_ms = max(since_ms, self._known(symbol).kept_since_ms)
        for page in self._journal.kept_pages(symbol, since_ms, until_ms):
            if rows := [row for row in page if self._with_open or row[_IS_CLOSED]]:
                yield rows


def all_ended_ms(reader: JournalReader) -> int:
    """Return up to when intervals are over, by the symbol of which the newest trades are proven.

    Another one may be late, but not that much, unless it is not collected any more.
    """
    return (reader.newest_proof_ms() or 0) - _LATEST_MS


def longer_bar(
    known: KnownOfSpan, scope: tuple[str, int], span: Span, ended_ms: int
) -> LongerBar | None:
    """Return the longer bar of all of *span*; None: no bar is in it that is closed.

    Raises JournalError.
    """
    market, stored_ms = scope
    since_ms, until_ms = span
    kept_since_ms = 0 if known.left_ms is None else known.left_ms + stored_ms
    covered = clipped(known.spans, max(since_ms, kept_since_ms), until_ms)
    bars = [_read(row, market, stored_ms) for row in known.rows if row[_IS_CLOSED]]
    return next(resample(bars, covered, until_ms - since_ms, ended_ms), None)


def _read(row: Row, market: str, interval_ms: int) -> Bar:
    try:
        return bar_from_row(row, market, interval_ms)
    except UnreadableRow as error:
        raise JournalError(f"the bar of {row[0]} that opens at {row[1]}: {error}") from error


def fitting(names: Sequence[str]) -> Callable[[str], bool]:
    """Return a test for symbols that one of *names*, which may be patterns, stands for."""
    return matcher(names)


def may_be_several(names: Sequence[str]) -> bool:
    """Whether *names* stand for more than one symbol, as far as can be seen from them."""
    return len(names) > 1 or any(map(is_pattern, names))


def symbols_of(
    names: Sequence[str], known: Callable[[], Sequence[str]], check: Callable[[str], object]
) -> list[str]:
    """Return the symbols that *names*, which may be patterns, stand for, each once, by name.

    *check* raises for a name that is not a symbol of which there is anything. Raises BintradesError
    for a pattern that none of the *known* symbols fits.
    """
    found: set[str] = set()
    for name in names:
        if not is_pattern(name):
            check(name)
            found.add(name)
        elif symbols := list(filter(matcher([name]), known())):
            found.update(symbols)
        else:
            raise no_bars_of(name, known())
    return sorted(found)


def no_bars_of(name: str, known: Sequence[str]) -> BintradesError:
    """Return what is to be said of a name or pattern without bars."""
    there = ", ".join(known[:_SHOWN]) or "none yet"
    return BintradesError(f"{name}: the journal has no bars of it; it has: {there}")


def span_of(
    since: int | datetime | None,
    until: int | datetime | None,
    newest_ms: Callable[[], int],
) -> Span:
    """Return from when until when bars are meant, in milliseconds since the epoch.

    A number is milliseconds before the end of the newest bar, which is *newest_ms*, as in
    bintrades.bars(). Without *since* it begins with the epoch, without *until* it has all later
    ones. Raises ConfigError where nothing
    can be in it, and what *newest_ms* raises where there is no newest bar.
    """
    since_ms = 0 if since is None else _moment_ms(since, newest_ms)
    until_ms = LAST_MS if until is None else _moment_ms(until, newest_ms)
    if since_ms >= until_ms:
        raise ConfigError("--since must be before --until")
    return since_ms, until_ms


def _moment_ms(moment: int | datetime, newest_ms: Callable[[], int]) -> int:
    if isinstance(moment, datetime):
        return max(0, (moment - _EPOCH) // timedelta(milliseconds=1))
    return max(0, newest_ms() - moment)
