"""`bintrades gaps`: which trades were or are missing, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bintrades.cli import arguments
from bintrades.cli.exit_status import OK
from bintrades.cli.gap_report import gap_rows, gap_table
from bintrades.cli.output import array_pieces, print_pieces
from bintrades.config.loader import load_config
from bintrades.errors import BintradesError
from bintrades.journal.reader import JournalReader

if TYPE_CHECKING:
    import argparse


def add_parser(commands: Any, summary: str) -> None:
    """Describe the command and its options."""
    parser = arguments.add_command(commands, "gaps", summary)
    parser.add_argument(
        "symbol", type=arguments.symbol, nargs="?", metavar="SYMBOL", help="only of this symbol"
    )
    parser.add_argument("--json", action="store_true", help="for programs")


def execute(options: argparse.Namespace) -> int:
    """Print the gaps of one symbol or of all."""
    reader = JournalReader(load_config(options.config).journal.path)
    symbol = options.symbol
    known = reader.symbols_known()
    if symbol is not None and symbol not in known:
        names = ", ".join(known[:10]) or "none yet"
        raise BintradesError(f"{symbol}: no trade of it was ever seen; the journal has: {names}")
    rows = gap_rows(reader, symbol)
    print_pieces(array_pieces(rows) if options.json else gap_table(rows))
    return OK
