"""`bintrades symbols`: what is collected, since when and why, and what has left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bintrades.cli import arguments
from bintrades.cli.exit_status import OK
from bintrades.cli.output import print_pieces
from bintrades.cli.symbols_text import symbol_pieces, symbol_rows, symbol_table
from bintrades.config.loader import load_config
from bintrades.journal.reader import JournalReader
from bintrades.util.text import showable

if TYPE_CHECKING:
    import argparse


def add_parser(commands: Any, summary: str) -> None:
    """Describe the command and its options."""
    shape = arguments.add_command(commands, "symbols", summary).add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="for programs")
    shape.add_argument("--names", action="store_true", help="only the names, each on a line")


def execute(options: argparse.Namespace) -> int:
    """Print every symbol that is or was collected, from the journal."""
    reader = JournalReader(load_config(options.config).journal.path)
    rows = symbol_rows(reader.symbol_records())
    if options.names:
        print_pieces(f"{showable(row['symbol'])}\n" for row in rows)
    else:
        print_pieces(symbol_pieces(rows) if options.json else symbol_table(rows))
    return OK
