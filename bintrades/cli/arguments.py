"""Shared by the commands: their parsers, common options and types of values."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from bintrades.cli.exit_status import EXIT_CODES
from bintrades.cli.output import print_text
from bintrades.config.types import SHARD_VARIABLE, shard, symbols
from bintrades.errors import ConfigError
from bintrades.options.types import whole_number
from bintrades.reading.moments import LONGEST_INTERVAL_MS
from bintrades.util.durations import format_duration, parse_duration
from bintrades.util.text import did_you_mean, one_line, showable_input

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DEFAULT_CONFIG = Path("etc/bintrades.ini")
TODAY = "today"
_SYMBOLS = symbols(required=True)


class Parser(argparse.ArgumentParser):
    """Prints as print_text() does, and complains in one line, where anybody can hear it."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if file is sys.stdout:
            print_text(message.removesuffix("\n"))
        else:
            # In the first releases of 3.11 argparse lets this through, and the status would be 1.
            with suppress(OSError):
                super()._print_message(message, file)

    def error(self, message: str) -> NoReturn:
        """End with the usage, *message* and status 2."""
        super().error(showable_input(message))

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """End with status 2 because of *unknown* arguments, and the option that is nearest."""
        options = [name for action in self._actions for name in action.option_strings]
        known = [name for name in options if name.startswith("--")]
        name = next((word for word in unknown if word.startswith("--")), "")
        hint = did_you_mean(name.partition("=")[0], known) if name else ""
        self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")


def add_command(commands: Any, name: str, summary: str) -> argparse.ArgumentParser:
    """Return the parser of a command that reads the configuration."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=DEFAULT_CONFIG,
        metavar="FILE",
        help="the configuration (default: %(default)s)",
    )
    parser.add_argument(
        "--shard",
        type=_shard,
        metavar="NUMBER/COUNT",
        help="which of several collectors that share the symbols, such as 2/5",
    )
    return parser


def _shard(text: str) -> str:
    """Return a shard as it is written, "" for none. Raises argparse.ArgumentTypeError."""
    try:
        given = shard().parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{one_line(text, 40)!r} is {error}") from None
    return "" if given is None else str(given)


def add_bars(parser: argparse.ArgumentParser) -> None:
    """Add what says which bars are meant: symbols, and the time in which they open."""
    parser.add_argument(
        "symbols",
        type=symbol,
        nargs="+",
        metavar="SYMBOL",
        help="as the exchange writes it: BTCUSDT; or a pattern: '*USDT'",
    )
    add_span(parser)


def add_span(parser: argparse.ArgumentParser, default: str = "") -> None:
    """Add what says in which time bars open; *default* is what is said of its beginning."""
    parser.add_argument(
        "--since",
        type=moment,
        metavar="TIME",
        help="2026-11-27T10:00 (UTC unless it says else), today, or how long before the end of the"
        " newest bar of the journal: 90s, 10m, 2h, 1d"
        + (f" (default: {default})" if default else ""),
    )
    parser.add_argument(
        "--until",
        type=moment,
        metavar="TIME",
        help="likewise: bars that open before then (default: the newest one, too)",
    )


def add_interval(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the length of the bars that are wanted; *default* is what is said of it."""
    parser.add_argument(
        "--interval",
        type=interval_ms,
        metavar="DURATION",
        help="longer bars, exact sums of those that are stored: 1m, 5m, 1h, 1d"
        f" (default: {default})",
    )


def interval_ms(text: str) -> int:
    """Return the length of longer bars in milliseconds. Raises argparse.ArgumentTypeError."""
    try:
        found = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{one_line(text, 40)!r} is {error}") from None
    if not 1_000 <= found <= LONGEST_INTERVAL_MS or found % 1_000:
        raise argparse.ArgumentTypeError(
            f"{one_line(text, 40)!r} is not one of whole seconds, from 1s to"
            f" {format_duration(LONGEST_INTERVAL_MS)}"
        )
    return found


def check_interval(wanted_ms: int | None, stored_ms: int) -> int:
    """Return the length of bars that is wanted, by default that of the stored ones.

    Raises ConfigError where stored bars do not add up to it.
    """
    if wanted_ms is None:
        return stored_ms
    if wanted_ms % stored_ms:
        stored, wanted = map(format_duration, (stored_ms, wanted_ms))
        raise ConfigError(f"--interval: {wanted} is no multiple of {stored}, as the bars are")
    return wanted_ms


def heed_shard(options: argparse.Namespace) -> None:
    """Have the configuration be read for the shard that *options* name, if they name one."""
    if given := getattr(options, "shard", None):
        os.environ[SHARD_VARIABLE] = given


def number(lowest: int, highest: int) -> Callable[[str], int]:
    """Return a type for argparse: whole numbers within bounds, which belong to it."""
    allowed = whole_number(lowest, highest)

    def parse(text: str) -> int:
        try:
            return int(allowed.parse(text))
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{one_line(text, 40)!r} is not a whole number from {allowed.allowed}"
            ) from None

    return parse


def symbol(text: str) -> str:
    """Return the symbol that *text* means, in capitals. Raises argparse.ArgumentTypeError."""
    try:
        (found,) = _SYMBOLS.parse(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be a symbol") from None
    return str(found)


def moment(text: str) -> int | datetime:
    """Return a moment, or a duration in milliseconds. Raises argparse.ArgumentTypeError.

    `today` is when the day began, in UTC and by the clock of this machine.
    """
    if text == TODAY:
        return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    with suppress(ValueError):
        return parse_duration(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{one_line(text, 40)!r} is neither a time, such as 2026-11-27T10:00, nor a duration,"
            f" such as 2h, nor {TODAY!r}"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
