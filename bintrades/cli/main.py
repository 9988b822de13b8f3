"""The commands. Errors that a user can mend are a line each on stderr, never a traceback."""

from __future__ import annotations

import argparse
import io
import logging
import os
import shlex
import signal
import sys
import threading
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from bintrades.config.loader import Config, load_config
from bintrades.errors import BintradesError, ConfigError
from bintrades.options.types import symbols, whole_number
from bintrades.util.durations import parse_duration
from bintrades.util.text import as_json, did_you_mean, one_line, showable_input
from bintrades.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from bintrades.journal.reader import JournalReader

log = logging.getLogger(__name__)

_LEAVE_WITHIN_S = 5.0

DEFAULT_CONFIG = Path("etc/bintrades.ini")
_SYMBOLS = symbols(required=True)
_COUNTS = whole_number(1, 2**31)
_BAD_COMMAND_LINE = 2  # as argparse has it
_REFUSAL_WAIT = "BINTRADES_REFUSAL_WAIT"
_LONGEST_REFUSAL_WAIT_MS = 3_600_000

_ABOUT = """\
Records every trade of Binance symbols once and turns them into exact 10-second bars.

Start with these:
  bintrades example > bintrades.ini               a configuration to edit, with every option
  bintrades check --config etc/bintrades.ini      is the configuration right?
  bintrades run --config etc/bintrades.ini        collect until Ctrl-C or SIGTERM
  bintrades bars BTCUSDT --last 10m               look at what was collected
  bintrades status                                what is there, waits, and lacks"""

_EXIT_CODES = """\
exit status: 0 orderly stop; 1 a failure, said in the log; 2 bad configuration or command line"""

_EXIT_CODES_OF_CHECK = """\
exit status: 0 nothing is wrong; 1 bad configuration, each problem a line; 2 bad command line"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    _open_what_is_closed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # symbols go beyond what some can show
    try:
        options = _parse(sys.argv[1:] if arguments is None else arguments)
        return int(options.command(options))
    except ConfigError as error:
        _complain(error.problems)
        _outlast_the_start()
        return 2
    except SystemExit as end:
        if end.code == _BAD_COMMAND_LINE:
            _outlast_the_start()
        raise
    except BintradesError as error:
        _complain([str(error)])
        return 1
    except BrokenPipeError:
        return 0  # whoever read our output has seen enough
    except KeyboardInterrupt:
        return 128 + signal.SIGINT  # as shells have it
    finally:
        for stream in (sys.stdout, sys.stderr):
            _flush_or_forget(stream)


def _outlast_the_start() -> None:
    """Wait before status 2 for as long as $BINTRADES_REFUSAL_WAIT says; without it, not at all.

    supervisord heeds the status of a process only when that has lived for `startsecs`; what ends
    earlier it starts again, whatever the reason.
    """
    wait = os.environ.get(_REFUSAL_WAIT)
    if not wait:
        return
    try:
        wait_ms = parse_duration(wait)
    except ValueError as error:
        _complain([f"{_REFUSAL_WAIT}={wait}: {error}"])
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    time.sleep(min(wait_ms, _LONGEST_REFUSAL_WAIT_MS) / 1000)


def _open_what_is_closed() -> None:
    """Write into nothing for a closed stdout or stderr, lest a file of ours take its number."""
    sys.stdout = sys.stdout or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    sys.stderr = sys.stderr or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")


def _flush_or_forget(stream: TextIO) -> None:
    """Have Python not try again at the end, and fail, to write what nobody takes."""
    try:
        stream.flush()
    except OSError:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _say(text: str) -> None:
    """Print at once, while it can still be told that the output takes nothing."""
    _say_pieces([f"{text}\n"])


def _say_pieces(pieces: Iterable[str]) -> None:
    """Print pieces of a text as they come, however much it is in all."""
    for piece in pieces:
        try:
            sys.stdout.write(piece)
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise BintradesError(f"the output cannot be written: {error.strerror}") from error


def _complain(problems: Sequence[str]) -> None:
    """Tell each problem on a line of its own, whatever a plugin or a shell put into it."""
    with suppress(OSError):
        for problem in problems:
            print(f"bintrades: {showable_input(problem)}", file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    """Prints as _say() does, and complains in one line."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if file is sys.stdout:
            _say(message.removesuffix("\n"))
        else:
            super()._print_message(message, file)

    def option_names(self) -> list[str]:
        """Return every option as it is typed."""
        return [name for action in self._actions for name in action.option_strings]

    def error(self, message: str) -> NoReturn:
        super().error(showable_input(message))


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options; end with status 2 and the usage of the command that was meant."""
    parser, commands = _parser()
    options, unknown = parser.parse_known_args(_command_first(arguments, commands))
    if unknown:
        command = commands[options.name]
        known = [name for name in command.option_names() if name.startswith("--")]
        name = next((word for word in unknown if word.startswith("--")), "")
        hint = did_you_mean(name.partition("=")[0], known) if name else ""
        command.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    return options


def _command_first(arguments: Sequence[str], commands: Iterable[str]) -> list[str]:
    """Return *arguments* with the command before its options, wherever it stands."""
    words = list(arguments)
    place = 0
    while place < len(words) and words[place] not in commands:
        place += 2 if words[place] == "--config" else 1
    if place >= len(words) or "--version" in words[:place]:
        return words
    return [words[place], *words[:place], *words[place + 1 :]]


def _parser() -> tuple[argparse.ArgumentParser, Mapping[str, _Parser]]:
    """Return the parser of everything, and that of each command by its name."""
    parser = _Parser(
        prog="bintrades",
        description=_ABOUT,
        epilog=_EXIT_CODES,
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
    commands = parser.add_subparsers(
        title="commands", required=True, metavar="COMMAND", dest="name"
    )

    run = _command(commands, "run", _run, "collect until SIGTERM, SIGINT or SIGHUP")
    run.description = (
        "Collect until SIGTERM, SIGINT (Ctrl-C) or SIGHUP (a terminal that closes); a second one"
        " of the first two cuts waiting short."
    )

    example = commands.add_parser(
        "example",
        help="print a configuration with every option",
        description="Print a configuration: every option, what it means, its default.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    example.set_defaults(command=_example)

    check = _command(commands, "check", _check, "say every problem of the configuration")
    check.description = "Say every problem of the file and of its plugins; needs no network."
    check.epilog = _EXIT_CODES_OF_CHECK

    status = _command(commands, "status", _status, "what the collector has, waits for and lacks")
    shape = status.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="everything, for programs")
    shape.add_argument(
        "--check", action="store_true", help="one line; exit status 1 unless the collector is well"
    )

    _add_bars(_command(commands, "bars", _bars, "print bars from the journal"))

    gaps = _command(commands, "gaps", _gaps, "list the trades that were or are missing, and why")
    gaps.add_argument(
        "symbol", type=_symbol, nargs="?", metavar="SYMBOL", help="only of this symbol"
    )
    gaps.add_argument("--json", action="store_true", help="for programs")

    resend = _command(commands, "resend", _resend, "send bars to a store once more")
    resend.description = (
        "Send bars to a store once more: those that it refused, or, with --since, all that the"
        " journal still has. A running collector begins within 10 seconds."
    )
    resend.add_argument("store", metavar="STORE", help="name of the store, such as mongodb")
    resend.add_argument(
        "--since",
        type=_since,
        metavar="TIME",
        help="every bar that opened then or later: 2026-11-27T10:00 (UTC unless it says else), or"
        " a time before the newest bar: 90s, 10m, 2h, 1d",
    )

    _add_simulate(commands)
    return parser, commands.choices


def _command(commands: Any, name: str, function: Any, summary: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "--config",
        type=Path,
        default=DEFAULT_CONFIG,
        metavar="FILE",
        help="the configuration (default: %(default)s)",
    )
    command.set_defaults(command=function)
    return command


def _add_bars(bars: argparse.ArgumentParser) -> None:
    bars.add_argument(
        "symbol", type=_symbol, metavar="SYMBOL", help="as the exchange writes it: BTCUSDT"
    )
    bars.add_argument(
        "--last",
        type=_duration,
        metavar="DURATION",
        help="the newest bar, and those that begin less than this before it: 90s, 10m, 2h, 1d",
    )
    bars.add_argument(
        "--limit", type=_count, metavar="N", help="at most the newest N (default: 60, or no limit)"
    )
    bars.add_argument(
        "--format",
        choices=("table", "csv", "json"),
        default="table",
        help="table to read, csv or json with every field (default: %(default)s)",
    )
    bars.epilog = (
        "A * in the table marks a bar that lacks trades, a + one that is still open.\n\n"
        + _EXIT_CODES
    )


def _add_simulate(commands: Any) -> None:
    about = "be a small Binance on this machine, for trying things out"
    try:
        from bintrades.testing import simulate as simulator
    except ImportError as error:
        missing = error.name
        # Whatever options it is given, that it cannot run is what there is to say.
        simulate = commands.add_parser("simulate", help=about, prefix_chars="\0", add_help=False)
        simulate.add_argument("ignored", nargs="*")
        simulate.set_defaults(command=lambda _: _without_simulator(missing))
    else:
        simulate = commands.add_parser(
            "simulate",
            help=about,
            description="A simulated exchange on this machine (needs the extra: simulator).",
        )
        simulator.add_arguments(simulate)
        simulate.set_defaults(command=simulator.run)


def _without_simulator(missing: str | None) -> int:
    pip = f"{shlex.quote(sys.executable)} -m pip install"
    raise BintradesError(
        f"the simulator needs {missing}, which is not installed: {pip} {missing},"
        f" or in the checkout {pip} '.[simulator]'"
    )


def _since(text: str) -> int | datetime:
    """Return a moment, or a time before one, in milliseconds."""
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


def _resolve(since: int | datetime, reader: JournalReader) -> int:
    """Return the open time in milliseconds from which on bars are meant."""
    if isinstance(since, datetime):
        return max(0, (since - datetime.fromtimestamp(0, UTC)) // timedelta(milliseconds=1))
    newest = reader.newest_stored_open_time_ms()
    return 0 if newest is None else max(0, newest - since)


def _duration(text: str) -> int:
    try:
        duration_ms = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if duration_ms == 0:
        raise argparse.ArgumentTypeError("must be above 0, or there is nothing to print")
    return duration_ms


def _count(text: str) -> int:
    try:
        return int(_COUNTS.parse(text))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{one_line(text, 40)!r} is not a whole number above 0, or too large a one"
        ) from None


def _symbol(text: str) -> str:
    try:
        (symbol,) = _SYMBOLS.parse(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be a symbol") from None
    return str(symbol)


def _run(options: argparse.Namespace) -> int:
    from bintrades.app.shutdown import StopReasons

    reasons = StopReasons()  # before plugins are imported: from here on a signal is an orderly stop

    from bintrades.app import service
    from bintrades.app.preflight import prepare
    from bintrades.util.logs import log_what_python_would_print, set_up_logging

    try:
        config, stores = prepare(options.config, set_up_logging)
        log_what_python_would_print()
        return _leave(service.run(config, stores, reasons))
    except ConfigError as error:
        _leave(2, error.problems)
        _outlast_the_start()
        return 2
    except BintradesError as error:
        return _leave(1, [str(error)])
    except Exception:
        log.critical(
            "the collector failed, which is a bug",
            exc_info=True,
            extra={"event": "collector_failed"},
        )
        return _leave(1)


def _leave(status: int, problems: Sequence[str] = ()) -> int:
    """Say *problems* and return *status*; where nobody reads stdout or stderr, end with it."""

    def say() -> None:
        for handler in logging.getLogger().handlers:
            handler.flush()  # what led to the problems comes before them
        _complain(problems)
        for stream in (sys.stdout, sys.stderr):
            _flush_or_forget(stream)

    speaker = threading.Thread(target=say, daemon=True)
    speaker.start()
    speaker.join(_LEAVE_WITHIN_S)
    if speaker.is_alive():
        os._exit(status)
    return status


def _example(_options: argparse.Namespace) -> int:
    from bintrades.config.schema import example_text

    _say(example_text().removesuffix("\n"))
    return 0


def _check(options: argparse.Namespace) -> int:
    from bintrades.app.preflight import prepare
    from bintrades.util.logs import check_logging

    try:
        with _ended_by_ctrl_c():
            config, stores = prepare(options.config, check_logging)
    except ConfigError as error:
        _complain(error.problems)
        return 1
    names = ", ".join(store.name for store in stores) or "the journal only"
    _say(f"{options.config}: no problem found (stores: {names})")
    if not stores:
        _say(f"{options.config}: {config.when_bars_leave}")
    return 0


@contextmanager
def _ended_by_ctrl_c() -> Iterator[None]:
    """Let SIGINT end the process: a KeyboardInterrupt would be taken for one of a plugin."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _status(options: argparse.Namespace) -> int:
    from bintrades.app.status import format_health, read_status, tell

    config = load_config(options.config)
    status = read_status(config.journal.path, config.stores.enabled)
    if options.check:
        _say(format_health(status))
        return 1 if status["problems"] else 0
    _say(as_json(status, indent=2) if options.json else tell(status))
    return 0


def _gaps(options: argparse.Namespace) -> int:
    from bintrades.cli.gap_report import gap_pieces, gap_rows, gap_table
    from bintrades.journal.reader import JournalReader

    reader = JournalReader(load_config(options.config).journal.path)
    symbol = options.symbol
    known = reader.symbols()
    if symbol is not None and symbol not in known:
        names = ", ".join(known[:10]) or "none yet"
        raise BintradesError(f"{symbol}: no trade of it was ever seen; the journal has: {names}")
    rows = gap_rows(reader, symbol)
    _say_pieces(gap_pieces(rows) if options.json else gap_table(rows))
    return 0


def _resend(options: argparse.Namespace) -> int:
    from bintrades.journal.reader import JournalReader

    config: Config = load_config(options.config)
    if options.store not in config.stores.enabled:
        hint = did_you_mean(options.store, config.stores.enabled)
        known = ", ".join(config.stores.enabled) or "none"
        raise ConfigError(f"{options.store}: is not an enabled store{hint}; enabled: {known}")
    reader = JournalReader(config.journal.path)
    if options.since is None:
        count = reader.resend(options.store)
    else:
        count = reader.resend_since(options.store, _resolve(options.since, reader))
    _say(f"{count} {'bar' if count == 1 else 'bars'} will be sent to {options.store} again")
    return 0


def _bars(options: argparse.Namespace) -> int:
    from bintrades.cli.bar_text import FORMS
    from bintrades.journal.reader import JournalReader

    reader = JournalReader(load_config(options.config).journal.path)
    symbol = options.symbol
    newest = reader.newest_open_time_ms(symbol)
    if newest is None:
        known = ", ".join(reader.symbols()[:10]) or "none yet"
        raise BintradesError(f"{symbol}: the journal has no bars of it; it has: {known}")
    since = max(0, newest - options.last) if options.last is not None else 0
    limit = options.limit or (2**31 if options.last is not None else 60)
    span = (symbol, since + (options.last is not None), newest + 1, limit)
    _say_pieces(FORMS[options.format](reader.pages(*span), *reader.kind()))
    return 0
