"""`bintrades status`: what the collector has, waits for and lacks, running or stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bintrades.app.status import read_status
from bintrades.cli.arguments import add_command, number
from bintrades.cli.exit_status import FAILURE, OK
from bintrades.cli.output import print_text
from bintrades.cli.status_text import format_health, format_status
from bintrades.config.loader import load_config
from bintrades.util.text import as_json

if TYPE_CHECKING:
    import argparse


def add_parser(commands: Any, summary: str) -> None:
    """Describe the command and its options."""
    shape = add_command(commands, "status", summary).add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="everything, for programs")
    shape.add_argument(
        "--watch",
        type=number(1, 3_600),
        nargs="?",
        const=1,
        metavar="SECONDS",
        help="show it, and all symbols, on this terminal and again every second or every SECONDS,"
        " until q or Ctrl-C (needs the extra: terminal); in a pipe, print the status every SECONDS",
    )
    shape.add_argument(
        "--check",
        action="store_true",
        help="one line; exit status 1 unless the collector is healthy",
    )


def execute(options: argparse.Namespace) -> int:
    """Print the status as a page, as JSON or, with --check, as one line and the exit status.

    With --watch, show it until somebody ends it.
    """
    config = load_config(options.config)
    if options.watch:
        from bintrades.cli.watch import watch

        return watch(config, options.watch)
    status = read_status(config.journal.path, config.stores.enabled, config.symbols.shard_name)
    if options.check:
        print_text(format_health(status))
        return FAILURE if status["problems"] else OK
    print_text(as_json(status, indent=2) if options.json else format_status(status))
    return OK
