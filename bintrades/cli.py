"""The commands. Errors that a user can mend are a line each on stderr, never a traceback."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bintrades.config import Config, load_config
from bintrades.durations import parse_duration
from bintrades.errors import BintradesError, ConfigError
from bintrades.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bintrades.model import Bar

_HEADERS = [
    "open time (UTC)",
    "open",
    "high",
    "low",
    "close",
    "quantity",
    "value",
    "trades",
    "buys",
    "trade ids",
]

DEFAULT_CONFIG = Path("etc/bintrades.ini")

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # symbols go beyond what some can show
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except ConfigError as error:
        _complain(error.problems)
        return int(options.bad_configuration)
    except BintradesError as error:
        _complain([str(error)])
        return 1
    except BrokenPipeError:
        _drop_output()
        return 0  # whoever read our output has seen enough


def _say(text: str) -> None:
    """Print at once, while it can still be told that the output takes nothing."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        _drop_output()
        raise BintradesError(f"the output cannot be written: {error.strerror}") from error


def _drop_output() -> None:
    """Lead what is left of the output nowhere: Python would stumble over it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(problems: Sequence[str]) -> None:
    for problem in problems:
        print(f"bintrades: {problem}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bintrades",
        description=_ABOUT,
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"bintrades {__version__}")
    parser.set_defaults(bad_configuration=2)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    run = _command(commands, "run", _run, "collect until SIGTERM or SIGINT")
    run.description = "Collect until SIGTERM or SIGINT (Ctrl-C); a second one cuts waiting short."

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
    check.set_defaults(bad_configuration=1)

    status = _command(commands, "status", _status, "what the collector has, waits for and lacks")
    status.add_argument("--json", action="store_true", help="everything, for programs")

    _add_bars(_command(commands, "bars", _bars, "print bars from the journal"))

    gaps = _command(commands, "gaps", _gaps, "list the trades that were or are missing, and why")
    gaps.add_argument("symbol", nargs="?", metavar="SYMBOL", help="only of this symbol")
    gaps.add_argument("--json", action="store_true", help="for programs")

    resend = _command(commands, "resend", _resend, "send bars that a store refused once more")
    resend.add_argument("store", metavar="STORE", help="name of the store, such as mongodb")

    _add_simulate(commands)
    return parser


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
    bars.add_argument("symbol", metavar="SYMBOL", help="as the exchange writes it: BTCUSDT")
    bars.add_argument(
        "--last",
        type=_duration,
        metavar="DURATION",
        help="bars of this time before the newest one: 90s, 10m, 2h, 1d",
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
    raise BintradesError(
        f"the simulator needs {missing}, which is not installed: pip install {missing},"
        " or in the checkout pip install '.[simulator]'"
    )


def _duration(text: str) -> int:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _symbol(text: str) -> str:
    return text.upper() if text.isascii() else text


def _run(options: argparse.Namespace) -> int:
    from bintrades import service
    from bintrades.logs import set_up_logging

    config = load_config(options.config)
    set_up_logging(config.logging)
    return service.run(config)


def _example(_options: argparse.Namespace) -> int:
    from bintrades.options import example_text

    _say(example_text().removesuffix("\n"))
    return 0


def _check(options: argparse.Namespace) -> int:
    from bintrades.plugins import load_stores
    from bintrades.service import check_stores

    config = load_config(options.config)
    check_stores(config, load_stores(config.stores.enabled, config.plugins.path))
    stores = ", ".join(config.stores.enabled) or "the journal only"
    _say(f"{options.config}: no problem found (stores: {stores})")
    return 0


def _status(options: argparse.Namespace) -> int:
    from bintrades.status import read_status, tell

    config = load_config(options.config)
    status = read_status(config.journal.path, config.stores.enabled)
    _say(json.dumps(status, indent=2, ensure_ascii=False) if options.json else tell(status))
    return 0


def _gaps(options: argparse.Namespace) -> int:
    from bintrades.gap_report import gap_rows, tell_gaps
    from bintrades.journal_reader import JournalReader

    reader = JournalReader(load_config(options.config).journal.path)
    symbol = _symbol(options.symbol) if options.symbol else None
    known = reader.symbols()
    if symbol is not None and symbol not in known:
        names = ", ".join(known[:10]) or "none yet"
        raise BintradesError(f"{symbol}: no trade of it was ever seen; the journal has: {names}")
    rows = gap_rows(reader, symbol)
    _say(json.dumps(rows, indent=1, ensure_ascii=False) if options.json else tell_gaps(rows))
    return 0


def _resend(options: argparse.Namespace) -> int:
    from bintrades.journal_reader import JournalReader

    config: Config = load_config(options.config)
    if options.store not in config.stores.enabled:
        known = ", ".join(config.stores.enabled) or "none"
        raise ConfigError(f"{options.store}: is not an enabled store; enabled: {known}")
    count = JournalReader(config.journal.path).resend(options.store)
    _say(f"{count} bars will be sent to {options.store} again")
    return 0


def _bars(options: argparse.Namespace) -> int:
    from bintrades.journal_reader import JournalReader

    reader = JournalReader(load_config(options.config).journal.path)
    symbol = _symbol(options.symbol)
    newest = reader.newest_open_time_ms(symbol)
    if newest is None:
        known = ", ".join(reader.symbols()[:10]) or "none yet"
        raise BintradesError(f"{symbol}: the journal has no bars of it; it has: {known}")
    since = newest - options.last if options.last is not None else 0
    limit = options.limit or (2**31 if options.last is not None else 60)
    _print_bars(reader.bars(symbol, since + (options.last is not None), newest + 1, limit), options)
    return 0


def _print_bars(bars: Sequence[Bar], options: argparse.Namespace) -> None:
    if options.format == "json":
        _say(json.dumps([_as_json(bar) for bar in bars], indent=1, ensure_ascii=False))
    elif options.format == "csv":
        _say(_csv([_as_json(bar) for bar in bars]))
    else:
        _say(_table(bars))


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0] if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().removesuffix("\n")


def _as_json(bar: Bar) -> dict[str, Any]:
    """Return the fields of *bar* with decimals and times as text, so that nothing is rounded."""
    return {
        name: value if isinstance(value, (bool, int, str)) else _text(value)
        for name, value in bar.as_dict().items()
    }


def _text(value: Any) -> str:
    return value.isoformat(timespec="milliseconds") if hasattr(value, "isoformat") else f"{value:f}"


def _table(bars: Sequence[Bar]) -> str:
    from tabulate import tabulate

    rows = []
    for bar in bars:
        fields = _as_json(bar)
        mark = ("" if bar.is_closed else "+") + (
            "" if bar.is_complete or not bar.is_closed else "*"
        )
        rows.append(
            [
                bar.open_time.strftime("%Y-%m-%d %H:%M:%S") + mark,
                *(fields[name] for name in ("open_price", "max_price", "min_price", "close_price")),
                fields["quantity"],
                fields["value"],
                bar.trade_count,
                bar.buy_count,
                f"{bar.first_trade_id}-{bar.last_trade_id}",
            ]
        )
    sides = ("left", *("right",) * 8, "left")
    return tabulate(rows, _HEADERS, tablefmt="simple", disable_numparse=True, colalign=sides)
