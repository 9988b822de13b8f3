"""`bintrades export`: bars as a file, for whatever reads Parquet, CSV or JSON by lines."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from bintrades.app.stored_bars import JournalBars, StoredBars, span_of, symbols_of
from bintrades.cli import arguments
from bintrades.cli.bar_text import longer_row
from bintrades.cli.coverage_text import lasting
from bintrades.cli.exit_status import EXIT_CODES, OK
from bintrades.cli.export_form import (
    FORMS,
    Bars,
    Form,
    form_of,
    require_libraries,
    write_parquet,
    write_rows,
)
from bintrades.cli.output import print_note
from bintrades.cli.progress import ProgressBar
from bintrades.cli.whole_file import whole_file
from bintrades.config.loader import load_config
from bintrades.core.resample import LongerBar
from bintrades.errors import BintradesError, ConfigError
from bintrades.journal.reader import JournalReader
from bintrades.journal.rows import COLUMN
from bintrades.reading.sources import open_source
from bintrades.util.text import showable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from bintrades.core.spans import Span
    from bintrades.journal.rows import Row
    from bintrades.model import Bar

_STDOUT = "-"
_PAGE_ROWS = 1_000
_LONG_S = 1.0  # what takes longer has a bar that shows how far it is
_PARTS = 1_000  # of a symbol, that are counted as done
_OPEN_TIME, _IS_COMPLETE = COLUMN["open_time"], COLUMN["is_complete"]


def add_parser(commands: Any, summary: str) -> None:
    """Describe the command and its options."""
    parser = arguments.add_command(commands, "export", summary)
    parser.description = (
        "Write bars that are closed into one file, sorted by symbol and time: Parquet (needs the"
        " extra: arrow), CSV or JSON by lines, by its ending. It is there once it is whole. How"
        " many bars are not proven to be whole, and the holes, are told on stderr."
    )
    parser.epilog = EXIT_CODES
    arguments.add_bars(parser)
    arguments.add_interval(parser, "as they are stored")
    parser.add_argument(
        "--to",
        required=True,
        metavar="FILE",
        help="such as btc.parquet, btc.csv, btc.ndjson, also .csv.gz, .csv.zst; - is stdout",
    )
    parser.add_argument("--format", choices=FORMS, help="whatever the ending of the file is")
    parser.add_argument("--force", action="store_true", help="replace a file that is there")
    parser.add_argument("--store", metavar="NAME", help="the bars of this store, not the journal's")


def execute(options: argparse.Namespace) -> int:
    """Write the file, and say what is in it."""
    path = None if options.to == _STDOUT else Path(options.to).absolute()
    form = form_of(path, options.format)
    if path is None and form.is_parquet and sys.stdout.isatty():
        raise ConfigError("--to -: parquet is nothing for a terminal; name a file")
    require_libraries(form)
    journal = load_config(options.config).journal.path
    reader = JournalReader(journal) if options.store is None or journal.exists() else None
    with open_source(options.config, options.store) as source:
        bars: StoredBars
        if options.store is None and reader is not None:
            bars = JournalBars(source, reader)
        else:
            bars = StoredBars(source, reader)
        symbols = symbols_of(options.symbols, source.symbols, source.check)
        span = span_of(options.since, options.until, source.newest_ms)
        interval_ms = arguments.check_interval(options.interval, source.interval_ms)
        export = _Export(bars, symbols, span, interval_ms, reader)
        with _opened(path, replaces=options.force) as file:
            export.write(file, form)
    print_note(f"{'stdout' if path is None else options.to}: {export.summary()}")
    return OK


class _Export:
    """Bars of some symbols and some time on their way into a file, counted."""

    def __init__(
        self,
        bars: StoredBars,
        symbols: Sequence[str],
        span: Span,
        interval_ms: int,
        reader: JournalReader | None,
    ) -> None:
        self._bars = bars
        self._symbols = symbols
        self._span = span
        self._common = Bars(bars.market, interval_ms, interval_ms != bars.interval_ms)
        self._progress = ProgressBar(after_s=_LONG_S)
        self._count = self._incomplete = self._with_bars = 0
        self._holes: list[Span] = []
        self._began_at: int | None = None  # with which bar the symbol begins that is written
        self._is_unknown = reader is None
        self._is_any_proven = False
        newest_ms = None if reader is None else reader.newest_stored_open_time_ms()
        self._end_ms = span[1] if newest_ms is None else min(span[1], newest_ms)

    def write(self, file: BinaryIO, form: Form) -> None:
        """Write all bars. Raises BintradesError."""
        try:
            if form.is_parquet:
                write_parquet(file, self._common, self._all_bars())
            else:
                write_rows(file, form, self._common, self._all_rows())
        finally:
            self._progress.clear()

    def summary(self) -> str:
        """Return what was written, in a line."""
        symbols = len(self._symbols)
        whose = f"{self._with_bars} of {symbols} symbols" if symbols > 1 else self._symbols[0]
        text = f"{self._count} bars of {whose}, {self._incomplete} not proven to be whole; "
        if self._is_unknown:
            return text + "whether there are holes nobody knows without a journal"
        if not self._holes:
            return text + ("no holes" if self._is_any_proven else "nothing of that time is proven")
        missing = lasting(sum(until - since for since, until in self._holes))
        return f"{text}{len(self._holes)} holes, {missing} in all: `bintrades coverage` lists them"

    def _all_rows(self) -> Iterator[Sequence[Row]]:
        """Yield pages of rows, or of those of longer bars."""
        for place, symbol in enumerate(self._symbols):
            for page in self._pages(symbol):
                incomplete = sum(not row[_IS_COMPLETE] for row in page)
                self._note(place, page[0][_OPEN_TIME], page[-1][_OPEN_TIME], len(page), incomplete)
                yield page
            self._end(symbol)

    def _pages(self, symbol: str) -> Iterator[Sequence[Row]]:
        if not self._common.is_longer:
            yield from self._bars.rows(symbol, *self._span)
            return
        longer = self._longer(symbol)
        while page := [longer_row(each) for each in islice(longer, _PAGE_ROWS)]:
            yield page

    def _all_bars(self) -> Iterator[Bar | LongerBar]:
        """Yield the same one by one, as they are."""
        stored = self._bars.bars
        bars: Iterator[Bar | LongerBar]
        for place, symbol in enumerate(self._symbols):
            bars = self._longer(symbol) if self._common.is_longer else stored(symbol, *self._span)
            while page := _some(bars):
                first, last = (_bar_of(page[end]).open_time_ms for end in (0, -1))
                incomplete = sum(not _bar_of(each).is_complete for each in page)
                self._note(place, first, last, len(page), incomplete)
                yield from page
            self._end(symbol)

    def _longer(self, symbol: str) -> Iterator[LongerBar]:
        for each in self._bars.longer(symbol, *self._span, self._common.interval_ms):
            if each.bar.is_closed:
                yield each

    def _note(self, place: int, first_ms: int, last_ms: int, count: int, incomplete: int) -> None:
        """Count a page of bars, and show how far it is."""
        if self._began_at is None:
            self._began_at = first_ms
            self._with_bars += 1
        self._count += count
        self._incomplete += incomplete
        whole_ms = max(1, self._end_ms - self._began_at)
        part = min(_PARTS, (last_ms - self._began_at) * _PARTS // whole_ms)
        done, total = place * _PARTS + part, len(self._symbols) * _PARTS
        self._progress.show(done, total, showable(self._symbols[place]))

    def _end(self, symbol: str) -> None:
        """Note what is missing of *symbol*, all of which is read."""
        since_ms, until_ms = self._span
        first_ms = since_ms or self._began_at
        self._began_at = None
        if not self._is_any_proven:
            self._is_any_proven = bool(self._bars.covered(symbol, since_ms, until_ms))
        self._holes += self._bars.holes(symbol, first_ms, until_ms)


def _some(bars: Iterator[Bar | LongerBar]) -> list[Bar | LongerBar]:
    return list(islice(bars, _PAGE_ROWS))


def _bar_of(each: Bar | LongerBar) -> Bar:
    return each.bar if isinstance(each, LongerBar) else each


@contextmanager
def _opened(path: Path | None, *, replaces: bool) -> Iterator[BinaryIO]:
    """Yield the file to write to: *path*, or stdout."""
    if path is not None:
        with whole_file(path, replaces=replaces) as file:
            yield file
        return
    try:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise BintradesError(f"the output cannot be written: {error.strerror}") from error
