"""`bintrades example`: print a configuration with every option."""

from __future__ import annotations

import argparse
from typing import Any

from bintrades.cli.exit_status import EXIT_CODES, OK
from bintrades.cli.output import print_text
from bintrades.config.example import example_text


def add_parser(commands: Any, summary: str) -> None:
    """Describe the command; it has no options."""
    commands.add_parser(
        "example",
        help=summary,
        description="Print a configuration: every option, what it means, its default.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def execute(_options: argparse.Namespace) -> int:
    """Print the example."""
    print_text(example_text().removesuffix("\n"))
    return OK
