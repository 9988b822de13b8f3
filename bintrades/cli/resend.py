"""`bintrades resend`: send bars to a store once more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from bintrades.cli.arguments import add_command, moment
from bintrades.cli.exit_status import OK
from bintrades.cli.output import print_text
from bintrades.config.loader import load_config
from bintrades.errors import ConfigError
from bintrades.journal.reader import JournalReader
from bintrades.util.text import did_you_mean

if TYPE_CHECKING:
    import argparse

    from bintrades.config.loader import Config


def add_parser(commands: Any, summary: str) -> None:
    """Describe the command and its options."""
    parser = add_command(commands, "resend", summary)
    parser.description = (
        "Send bars to a store once more: those that it refused, or, with --since, all that the"
        " journal still has. A running collector begins within 10 seconds."
    )
    parser.add_argument("store", metavar="STORE", help="name of the store, such as mongodb")
    parser.add_argument(
        "--since",
        type=moment,
        metavar="TIME",
        help="every bar that opened then or later: 2026-11-27T10:00 (UTC unless it says else), or"
        " a time before the newest bar: 90s, 10m, 2h, 1d",
    )


def execute(options: argparse.Namespace) -> int:
    """Leave the order in the journal, for the collector; print how many bars it means."""
    config: Config = load_config(options.config)
    if options.store not in config.stores.enabled:
        hint = did_you_mean(options.store, config.stores.enabled)
        known = ", ".join(config.stores.enabled) or "none"
        raise ConfigError(f"{options.store}: is not an enabled store{hint}; enabled: {known}")
    reader = JournalReader(config.journal.path)
    if options.since is None:
        count = reader.resend(options.store)
    else:
        count = reader.resend_since(options.store, _open_time_ms(options.since, reader))
    print_text(f"{count} {'bar' if count == 1 else 'bars'} will be sent to {options.store} again")
    return OK


def _open_time_ms(since: int | datetime, reader: JournalReader) -> int:
    """Return the open time from which on bars are meant; a duration counts from the newest bar."""
    if isinstance(since, datetime):
        return max(0, (since - datetime.fromtimestamp(0, UTC)) // timedelta(milliseconds=1))
    newest = reader.newest_stored_open_time_ms()
    return 0 if newest is None else max(0, newest - since)
