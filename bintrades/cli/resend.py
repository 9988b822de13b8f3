"""`bintrades resend`: send bars to a store once more."""

from __future__ import annotations

import argparse
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from bintrades.cli.arguments import add_command
from bintrades.cli.exit_status import OK
from bintrades.cli.output import print_text
from bintrades.config.loader import load_config
from bintrades.errors import ConfigError
from bintrades.journal.reader import JournalReader
from bintrades.util.durations import parse_duration
from bintrades.util.text import did_you_mean, one_line

if TYPE_CHECKING:
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
        type=_since,
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


def _since(text: str) -> int | datetime:
    """Return a moment, or a duration in milliseconds. Raises argparse.ArgumentTypeError."""
    with suppress(ValueError):
        return parse_duration(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{one_line(text, 40)!r} is neither a time, such as 2026-11-27T10:00, nor a duration,"
            " such as 2h"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _open_time_ms(since: int | datetime, reader: JournalReader) -> int:
    """Return the open time from which on bars are meant; a duration counts from the newest bar."""
    if isinstance(since, datetime):
        return max(0, (since - datetime.fromtimestamp(0, UTC)) // timedelta(milliseconds=1))
    newest = reader.newest_stored_open_time_ms()
    return 0 if newest is None else max(0, newest - since)
