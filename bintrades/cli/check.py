"""`bintrades check`: every problem of the configuration and of its plugins, without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bintrades.app.preflight import prepare, settings
from bintrades.cli.arguments import add_command
from bintrades.cli.exit_status import FAILURE, OK
from bintrades.cli.interrupts import ended_by_ctrl_c
from bintrades.cli.output import print_problems, print_text
from bintrades.errors import ConfigError
from bintrades.util.logs import check_logging
from bintrades.util.redaction import redact

if TYPE_CHECKING:
    import argparse

_EXIT_CODES = """\
exit status: 0 nothing is wrong; 1 bad configuration, each problem a line; 2 bad command line"""


def add_parser(commands: Any, summary: str) -> None:
    """Describe the command."""
    parser = add_command(commands, "check", summary)
    parser.description = (
        "Say every problem of the file and of its plugins, or else which options differ from their"
        " defaults; needs no network."
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="every option, with its value and where that comes from",
    )
    parser.epilog = _EXIT_CODES


def execute(options: argparse.Namespace) -> int:
    """Print the problems, or that there is none."""
    try:
        with ended_by_ctrl_c():
            config, stores = prepare(options.config, check_logging)
    except ConfigError as error:
        print_problems(error.problems)
        return FAILURE
    for remark in config.remarks:
        print_text(f"{options.config}: [{config.exchange}] {remark}")
    if config.remark_on_journal:
        print_text(f"{options.config}: [journal] {config.remark_on_journal}")
    for store in stores:
        if shown := store.shown(config.store_options[store.name]):
            print_text(f"{options.config}: [store:{store.name}] {redact(shown)}")
    names = ", ".join(store.name for store in stores) or "the journal only"
    print_text(f"{options.config}: no problem found (stores: {names})")
    if not stores:
        print_text(f"{options.config}: {config.when_bars_leave}")
    for line in settings(config, stores, all_of_them=options.all):
        print_text(f"  {redact(line)}")
    return OK
