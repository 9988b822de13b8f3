"""`bintrades symbols`: what is collected, since when and why, and what has left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bintrades.cli import arguments
from bintrades.cli.exit_status import OK
from bintrades.cli.output import print_pieces
from bintrades.cli.symbols_text import symbol_pieces, symbol_rows, symbol_table
from bintrades.config.loader import load_config
from bintrades.journal.reader import JournalReader

if TYPE_CHECKING:
    import argparse


def add_parser(commands: Any, summary: str) -> None:
    """Describe the command and its options."""
    parser = arguments.add_command(commands, "symbols", summary)
    parser.add_argument("--json", action="store_true", help="for programs")


def execute(options: argparse.Namespace) -> int:
    """Print every symbol that is or was collected, from the journal."""
    reader = JournalReader(load_config(options.config).journal.path)
    rows = symbol_rows(reader.symbol_records())
    print_pieces(symbol_pieces(rows) if options.json else symbol_table(rows))
    return OK
