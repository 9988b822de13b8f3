"""`bintrades man`: the manual page, made of what --help shows of each command."""

from __future__ import annotations

import argparse
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bintrades.cli.dispatch import whole_parser
from bintrades.cli.exit_status import EXIT_CODES, OK
from bintrades.cli.extras import lacking
from bintrades.cli.output import print_text
from bintrades.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

_HOW = """\
Print the manual page, as it is put into share/man/man1 (needs the extra: terminal).

  bintrades man | man -l -       read it
  bintrades man > bintrades.1    keep it"""

_DATA = {
    "project_name": "bintrades",
    "version": __version__,
    "description": "every Binance trade once, as exact 10-second bars",
    "manual_title": "User Commands",
}


def add_parser(commands: Any, summary: str) -> None:
    """Describe the command."""
    commands.add_parser(
        "man",
        help=summary,
        description=_HOW,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def execute(options: argparse.Namespace) -> int:  # noqa: ARG001 - there are none
    """Print the page, in roff. Raises BintradesError without the extra."""
    try:
        from argparse_manpage.manpage import Manpage
    except ImportError as error:
        raise lacking("man", "argparse-manpage", "terminal") from error
    with _columns(80):
        page = Manpage(whole_parser(), _DATA, format="single-commands-section")
        title, _, rest = str(page).rstrip("\n").partition("\n")
    # A date is a date only without the mark that keeps a hyphen from being typeset as another sign.
    print_text("\n".join([title.replace(r"\-", "-"), rest]))
    return OK


@contextmanager
def _columns(count: int) -> Iterator[None]:
    """Have argparse lay out usages for so many columns, whatever the terminal has."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(count)
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before
