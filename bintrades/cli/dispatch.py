"""The command line: finds the command that is meant, runs it, and turns errors into a status.

Each command is a module of this package, imported only when it is the one: add_parser() describes
its options, execute() runs it. Errors that a user can mend are a line each on stderr.
"""

from __future__ import annotations

import argparse
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from bintrades.cli.arguments import Parser, heed_shard
from bintrades.cli.exit_status import BAD_USAGE, EXIT_CODES, FAILURE, OK, wait_before_refusal
from bintrades.cli.output import flush_output, prepare_output, print_problems
from bintrades.errors import BintradesError, ConfigError
from bintrades.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_ABOUT = """\
Records every trade of Binance symbols once and turns them into exact 10-second bars.

Start with these:
  bintrades demo                       see it work here, without Binance
  bintrades example > bintrades.ini    a configuration with every option
  bintrades check --config FILE        is the configuration right?
  bintrades run --config FILE          collect until Ctrl-C or SIGTERM
  bintrades bars BTCUSDT --last 10m    look at what was collected
  bintrades status                     what is there, waits, and lacks"""

COMMANDS = {
    "demo": "show all of it on this machine, without Binance",
    "run": "collect until SIGTERM or SIGINT",
    "example": "print a configuration with every option",
    "check": "say every problem of the configuration",
    "plugins": "list the storage plugins that there are, and their options",
    "status": "what the collector has, waits for and lacks",
    "bars": "print bars from the journal",
    "export": "write bars into a file: Parquet, CSV, JSON by lines",
    "plot": "draw candles, volume by side and what is proven",
    "symbols": "list what is collected, since when and why, and what has left",
    "gaps": "list the trades that were or are missing, and why",
    "coverage": "list since when and up to when nothing is missing, and the holes",
    "rejected": "list the bars that stores refused, and why",
    "resend": "send bars to a store once more",
    "verify": "compare bars with the exchange's own klines",
    "differences": "list where bars and the exchange's klines did not agree",
    "simulate": "be a small Binance on this machine, for trying things out",
    "completion": "print what has a shell complete commands, options and symbols",
    "man": "print the manual page",
}
"""The commands, which are modules of this package, with a line about each for --help."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    prepare_output()
    try:
        options = _parse(sys.argv[1:] if arguments is None else arguments)
        heed_shard(options)
        return int(_module(options.name).execute(options))
    except ConfigError as error:
        print_problems(error.problems)
        wait_before_refusal()
        return BAD_USAGE
    except SystemExit as end:
        if end.code == BAD_USAGE:
            wait_before_refusal()
        raise
    except BintradesError as error:
        print_problems([str(error)])
        return FAILURE
    except BrokenPipeError:
        return OK  # the reader of our output has closed it
    except KeyboardInterrupt:
        return 128 + signal.SIGINT  # as shells have it
    finally:
        flush_output()


def _module(name: str) -> Any:
    return import_module(f"bintrades.cli.{name}")


def whole_parser() -> Parser:
    """Return the parser of the command line with all options of all commands."""
    parser = _parser()
    commands = _commands(parser)
    for name, summary in COMMANDS.items():
        _module(name).add_parser(commands, summary)
    return parser


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options; end with status 2 and the usage of the command that was meant."""
    words = _command_first(arguments)
    parser = _parser()
    commands = _commands(parser)
    for name, summary in COMMANDS.items():
        if words[:1] == [name]:
            _module(name).add_parser(commands, summary)
        else:
            commands.add_parser(name, help=summary)
    options, unknown = parser.parse_known_args(words)
    if unknown:
        commands.choices[options.name].refuse(unknown)
    return options


def _commands(parser: Parser) -> Any:
    return parser.add_subparsers(title="commands", required=True, metavar="COMMAND", dest="name")


def _command_first(arguments: Sequence[str]) -> list[str]:
    """Return *arguments* with the command before its options, wherever it stands."""
    words = list(arguments)
    place = 0
    while place < len(words) and words[place] not in COMMANDS:
        place += 2 if words[place] == "--config" else 1
    if place >= len(words) or "--version" in words[:place]:
        return words
    return [words[place], *words[:place], *words[place + 1 :]]


def _parser() -> Parser:
    """Return the parser of what stands before the command."""
    parser = Parser(
        prog="bintrades",
        description=_ABOUT,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"bintrades {__version__}")
    parser.add_argument(
        "--config",
        type=Path,
        default=argparse.SUPPRESS,
        metavar="FILE",
        help="the configuration; options may stand before or after the command",
    )
    return parser
