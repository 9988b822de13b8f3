"""`bintrades bars`: bars from the journal, as a table, CSV or JSON, and as they close."""

from __future__ import annotations

import argparse
from collections import deque
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from bintrades.app.stored_bars import (
    JournalBars,
    fitting,
    may_be_several,
    no_bars_of,
    span_of,
    symbols_of,
)
from bintrades.cli import arguments
from bintrades.cli.bar_text import FORMS, longer_row
from bintrades.cli.exit_status import EXIT_CODES, OK
from bintrades.cli.follow import Follower
from bintrades.cli.output import print_pieces
from bintrades.config.loader import load_config
from bintrades.errors import ConfigError
from bintrades.journal.reader import NO_LIMIT, JournalReader
from bintrades.journal.rows import COLUMN
from bintrades.options.types import whole_number
from bintrades.reading.sources import JournalSource
from bintrades.util.durations import parse_duration
from bintrades.util.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bintrades.core.spans import Span
    from bintrades.journal.rows import Row

_DEFAULT_LIMIT = 60
_PAGE_ROWS = 1_000
_REACH = 4
"""How many times as far back as before it is looked where too few intervals had trades."""

_MOST_OPEN = 2  # of a symbol: the one that takes trades, and for a moment the one before
_IS_CLOSED = COLUMN["is_closed"]
_COUNTS = whole_number(1, NO_LIMIT)


def add_parser(commands: Any, summary: str) -> None:
    """Describe the command and its options."""
    parser = arguments.add_command(commands, "bars", summary)
    arguments.add_bars(parser)
    parser.add_argument(
        "--last",
        type=_duration_ms,
        metavar="DURATION",
        help="of each symbol the newest bar, and those that begin less than this before it: 90s,"
        " 10m, 2h, 1d",
    )
    parser.add_argument(
        "--limit",
        type=_count,
        metavar="N",
        help="at most the newest N of each symbol (default: 60, or no limit)",
    )
    arguments.add_interval(parser, "as they are stored")
    parser.add_argument(
        "--follow",
        action="store_true",
        help="then print bars as they close, and again when they are amended, until Ctrl-C",
    )
    parser.add_argument(
        "--format",
        choices=tuple(FORMS),
        default="table",
        help="table to read; csv, json, or ndjson (a JSON text on each line) with every field"
        " (default: %(default)s)",
    )
    parser.epilog = (
        "A * in the table marks a bar that is not proven to be whole (yet), a + one that is"
        " still open.\n\n" + EXIT_CODES
    )


def execute(options: argparse.Namespace) -> int:
    """Print the bars of each symbol, oldest first; and go on with what is written, if wanted."""
    _check(options)
    reader = JournalReader(load_config(options.config).journal.path)
    request = _Request(reader, options)
    forms: dict[str, Any] = {"is_longer": request.is_longer}
    if options.format == "table":
        forms["has_symbol"] = may_be_several(options.symbols)
        forms["marks_amended"] = options.follow
    form = partial(FORMS[options.format], **forms)
    if not options.follow:
        print_pieces(form(request.pages(), request.market, request.interval_ms))
        return OK
    try:
        followed = Follower(reader, fitting(options.symbols))
        pages = (
            followed.longer(request.pages(), request.interval_ms)
            if request.is_longer
            else followed.stored(request.pages())
        )
        print_pieces(form(pages, request.market, request.interval_ms))
    except KeyboardInterrupt:
        pass
    return OK


class _Request:
    """Which bars are to be printed first, and of which length all are."""

    def __init__(self, reader: JournalReader, options: argparse.Namespace) -> None:
        self._reader = reader
        self._is_closed_only = options.follow
        source = JournalSource(reader.path)
        self._bars = JournalBars(source, reader, with_open=not options.follow)
        self.market = source.market
        self.interval_ms = arguments.check_interval(options.interval, source.interval_ms)
        self._collected = reader.symbol_records() if options.follow else {}
        self._symbols = symbols_of(options.symbols, reader.symbols, self._check)
        self._last_ms: int | None = options.last
        self._span: Span | None = None
        if options.since is not None or options.until is not None:
            self._span = span_of(options.since, options.until, source.newest_ms)
        is_limited = options.last is None and options.since is None
        self._limit: int = options.limit or (_DEFAULT_LIMIT if is_limited else NO_LIMIT)

    @property
    def is_longer(self) -> bool:
        """Whether bars are sums of stored ones."""
        return self.interval_ms != self._bars.interval_ms

    def pages(self) -> Iterator[Sequence[Row]]:
        """Yield the bars as rows, each symbol's oldest first."""
        for symbol in self._symbols:
            newest_ms = self._newest_ms(symbol)
            if newest_ms is not None:
                span = self._span_before(newest_ms)
                yield from (self._longer if self.is_longer else self._stored)(symbol, *span)

    def _check(self, symbol: str) -> None:
        """Raise BintradesError if there is nothing to print of *symbol*, and nothing to come."""
        is_there = self._reader.newest_open_time_ms(symbol) is not None
        if not (is_there or symbol in self._collected):
            raise no_bars_of(symbol, self._reader.symbols())

    def _newest_ms(self, symbol: str) -> int | None:
        """Return when the newest bar opens that may be printed, if there is one."""
        if self._is_closed_only and not self.is_longer:
            newest = self._reader.newest_bars([symbol], _MOST_OPEN + 1).get(symbol, [])
            closed = [bar.open_time_ms for bar in newest if bar.is_closed]
            if closed:
                return closed[-1]
        return self._reader.newest_open_time_ms(symbol)

    def _span_before(self, newest_ms: int) -> Span:
        newest_ms -= newest_ms % self.interval_ms
        if self._last_ms is not None:
            return max(0, newest_ms - self._last_ms) + 1, newest_ms + 1
        since_ms, until_ms = self._span or (0, newest_ms + 1)
        return since_ms, min(until_ms, newest_ms + 1)

    def _has_bars(self, symbol: str, since_ms: int, until_ms: int) -> bool:
        return since_ms < until_ms and any(self._reader.pages(symbol, since_ms, until_ms, 1))

    def _stored(self, symbol: str, since_ms: int, until_ms: int) -> Iterator[Sequence[Row]]:
        for page in self._reader.pages(symbol, since_ms, until_ms, self._limit):
            rows = [row for row in page if row[_IS_CLOSED]] if self._is_closed_only else page
            if rows:
                yield rows

    def _longer(self, symbol: str, since_ms: int, until_ms: int) -> Iterator[Sequence[Row]]:
        interval_ms = self.interval_ms
        if self._limit == NO_LIMIT:
            found = self._bars.longer(symbol, since_ms, until_ms, interval_ms)
            while page := [longer_row(each) for each in islice(found, _PAGE_ROWS)]:
                yield page
            return
        end_ms = until_ms + -until_ms % interval_ms
        reach_ms = self._limit * interval_ms
        while True:
            begin_ms = max(since_ms, end_ms - reach_ms)
            found = self._bars.longer(symbol, begin_ms, until_ms, interval_ms)
            newest = deque(found, maxlen=self._limit)
            reach_ms *= _REACH
            if len(newest) == self._limit or not self._has_bars(symbol, since_ms, begin_ms):
                yield [longer_row(each) for each in newest]
                return


def _check(options: argparse.Namespace) -> None:
    """Raise ConfigError with every combination of options that makes no sense."""
    problems = []
    if options.last is not None and (options.since is not None or options.until is not None):
        problems.append("--last and --since or --until: both say of which time; leave one out")
    if options.follow and options.until is not None:
        problems.append("--follow and --until: what is followed has no end; leave one out")
    if options.follow and options.format == "json":
        problems.append("--follow: json is one array, which would never end; --format ndjson does")
    if problems:
        raise ConfigError(*problems)


def _duration_ms(text: str) -> int:
    try:
        duration_ms = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if duration_ms == 0:
        raise argparse.ArgumentTypeError("must be above 0, or there is nothing to print")
    return duration_ms


def _count(text: str) -> int:
    try:
        return int(_COUNTS.parse(text))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{one_line(text, 40)!r} is not a whole number above 0, or too large a one"
        ) from None
