"""`bintrades bars`: bars from the journal, as a table, CSV or JSON."""

from __future__ import annotations

import argparse
from typing import Any

from bintrades.cli import arguments
from bintrades.cli.bar_text import FORMS
from bintrades.cli.exit_status import EXIT_CODES, OK
from bintrades.cli.output import print_pieces
from bintrades.config.loader import load_config
from bintrades.errors import BintradesError
from bintrades.journal.reader import JournalReader
from bintrades.options.types import whole_number
from bintrades.util.durations import parse_duration
from bintrades.util.text import one_line

_DEFAULT_LIMIT = 60
_NO_LIMIT = 2**31
_COUNTS = whole_number(1, _NO_LIMIT)


def add_parser(commands: Any, summary: str) -> None:
    """Describe the command and its options."""
    parser = arguments.add_command(commands, "bars", summary)
    parser.add_argument(
        "symbol", type=arguments.symbol, metavar="SYMBOL", help="as the exchange writes it: BTCUSDT"
    )
    parser.add_argument(
        "--last",
        type=_duration_ms,
        metavar="DURATION",
        help="the newest bar, and those that begin less than this before it: 90s, 10m, 2h, 1d",
    )
    parser.add_argument(
        "--limit", type=_count, metavar="N", help="at most the newest N (default: 60, or no limit)"
    )
    parser.add_argument(
        "--format",
        choices=("table", "csv", "json"),
        default="table",
        help="table to read, csv or json with every field (default: %(default)s)",
    )
    parser.epilog = (
        "A * in the table marks a bar that is not proven to be whole (yet), a + one that is"
        " still open.\n\n" + EXIT_CODES
    )


def execute(options: argparse.Namespace) -> int:
    """Print the bars of one symbol, oldest first."""
    reader = JournalReader(load_config(options.config).journal.path)
    symbol, last_ms = options.symbol, options.last
    newest_ms = reader.newest_open_time_ms(symbol)
    if newest_ms is None:
        known = ", ".join(reader.symbols()[:10]) or "none yet"
        raise BintradesError(f"{symbol}: the journal has no bars of it; it has: {known}")
    if last_ms is None:
        pages = reader.pages(symbol, 0, newest_ms + 1, options.limit or _DEFAULT_LIMIT)
    else:
        since_ms = max(0, newest_ms - last_ms) + 1
        pages = reader.pages(symbol, since_ms, newest_ms + 1, options.limit or _NO_LIMIT)
    print_pieces(FORMS[options.format](pages, *reader.scope()))
    return OK


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
