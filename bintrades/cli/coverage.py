"""`bintrades coverage`: when every trade of a symbol is in a bar, and the holes between."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from bintrades.cli import arguments
from bintrades.cli.coverage_text import Shown, coverage_pieces, coverage_table
from bintrades.cli.exit_status import OK
from bintrades.cli.output import print_pieces
from bintrades.config.loader import load_config
from bintrades.errors import BintradesError, ConfigError
from bintrades.journal.reader import JournalReader
from bintrades.model import milliseconds

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

_END = 2**62


def add_parser(commands: Any, summary: str) -> None:
    """Describe the command and its options."""
    parser = arguments.add_command(commands, "coverage", summary)
    parser.description = (
        "List since when and up to when every trade of a symbol is in a bar: there, an interval"
        " without a bar had no trades. Between these spans are holes, with their causes; what comes"
        " after the last one is not proven yet. verified: the part of a span of which the audit"
        " found the bars to be what the exchange has."
    )
    parser.add_argument(
        "symbol", type=arguments.symbol, nargs="?", metavar="SYMBOL", help="only of this symbol"
    )
    parser.add_argument(
        "--since",
        type=arguments.moment,
        metavar="TIME",
        help="2026-11-27T10:00 (UTC unless it says else), or a time before the newest proof: 90s,"
        " 10m, 2h, 1d (default: the beginning)",
    )
    parser.add_argument(
        "--until", type=arguments.moment, metavar="TIME", help="likewise (default: the end)"
    )
    parser.add_argument("--json", action="store_true", help="for programs")


def execute(options: argparse.Namespace) -> int:
    """Print the coverage of one symbol or of all."""
    reader = JournalReader(load_config(options.config).journal.path)
    known = reader.symbols_known()
    if options.symbol is not None and options.symbol not in known:
        names = ", ".join(known[:10]) or "none yet"
        raise BintradesError(
            f"{options.symbol}: no trade of it was ever seen; the journal has: {names}"
        )
    newest = reader.newest_proof_ms() or 0
    since, until = _time(options.since, newest, 0), _time(options.until, newest, _END)
    if since >= until:
        raise ConfigError("--since must be before --until")
    symbols = known if options.symbol is None else [options.symbol]
    shown = _shown(reader, symbols, since, until)
    print_pieces(coverage_pieces(shown) if options.json else coverage_table(shown))
    return OK


def _shown(
    reader: JournalReader, symbols: Sequence[str], since: int, until: int
) -> Iterator[Shown]:
    """Yield what is to be shown of each of *symbols*; in between, the journal is not open."""
    for symbol in symbols:
        found = reader.coverage(symbol)
        if found is not None:
            yield Shown(found, since, until)


def _time(given: int | datetime | None, newest: int, otherwise: int) -> int:
    if given is None:
        return otherwise
    return milliseconds(given) if isinstance(given, datetime) else newest - given
