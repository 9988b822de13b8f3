"""`bintrades verify`: bars against the exchange's own klines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bintrades.app.verification import (
    Found,
    Progress,
    Result,
    VerifyRequest,
    VerifyRun,
    open_verification,
)
from bintrades.cli import arguments
from bintrades.cli.exit_status import FAILURE, OK
from bintrades.cli.output import print_pieces
from bintrades.cli.progress import ProgressBar
from bintrades.cli.tables import table_pieces
from bintrades.cli.verify_text import (
    HEADERS,
    difference_json,
    difference_line,
    json_end,
    result_row,
)
from bintrades.config.loader import load_config

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

_EXIT_CODES = """\
exit status: 0 nothing differs, or all that did was repaired; 1 a difference, or a failure, such as
an exchange that answers nothing; 2 bad configuration or command line"""


def add_parser(commands: Any, summary: str) -> None:
    """Describe the command and its options."""
    parser = arguments.add_command(commands, "verify", summary)
    parser.description = (
        "Compare bars with the exchange's own klines: trades, base and quote volume, those of taker"
        " buys, open, high, low, close. Only bars that are proven to be whole are compared, five"
        " minutes after their end at the earliest; a difference is asked for twice."
    )
    parser.epilog = _EXIT_CODES
    parser.add_argument(
        "symbols",
        type=arguments.symbol,
        nargs="*",
        metavar="SYMBOL",
        help="only of these (default: of all that the journal knows)",
    )
    parser.add_argument(
        "--since",
        type=arguments.moment,
        metavar="TIME",
        help="2026-11-27T10:00 (UTC unless it says else), or a time before the newest bar: 90s,"
        " 10m, 2h, 1d (default: 1d)",
    )
    parser.add_argument(
        "--until", type=arguments.moment, metavar="TIME", help="likewise (default: the newest bar)"
    )
    parser.add_argument(
        "--by-bar",
        action="store_true",
        help="compare each bar by itself, in klines of a second, for 60 times as many requests;"
        " without it, minutes are compared, and bars where a minute differs",
    )
    parser.add_argument("--store", metavar="NAME", help="the bars of this store, not the journal's")
    parser.add_argument(
        "--klines",
        type=_path,
        action="append",
        default=[],
        metavar="FILE",
        help="ask no exchange: a file in the form of its public dumps, such as"
        " BTCUSDT-1m-2024-08-08.zip or .csv; may be given more than once",
    )
    parser.add_argument(
        "--repair",
        action="store_true",
        help="fetch the trades of bars that differ, build them again and compare once more",
    )
    parser.add_argument("--json", action="store_true", help="for programs")


def execute(options: argparse.Namespace) -> int:
    """Print what differs and a table; return whether anything does."""
    request = VerifyRequest(
        symbols=tuple(dict.fromkeys(options.symbols)),
        since=options.since,
        until=options.until,
        store=options.store,
        kline_files=tuple(dict.fromkeys(options.klines)),
        by_bar=options.by_bar,
        is_repairing=options.repair,
    )
    total = Result("total")
    with open_verification(load_config(options.config), request) as run:
        print_pieces(_json(run, total) if options.json else _report(run, total))
    is_unanswered = total.tally.last_error is not None and not total.tally.checked_ms
    return FAILURE if is_unanswered or total.differences > total.repaired else OK


def _report(run: VerifyRun, total: Result) -> Iterator[str]:
    """Yield pieces of text for people: differences as they are found, then the table."""
    rows = []
    for each in _with_progress(run, total):
        if isinstance(each, Found):
            yield f"{difference_line(each)}\n"
        else:
            rows.append(result_row(each))
    yield from table_pieces([[*rows, result_row(total)]], HEADERS, right=range(1, 5))


def _json(run: VerifyRun, total: Result) -> Iterator[str]:
    """Yield pieces of one JSON object."""
    results = []
    before = '{"differences": ['
    for each in _with_progress(run, total):
        if isinstance(each, Found):
            yield f"{before}\n {difference_json(each)}"
            before = ","
        else:
            results.append(each)
    if before != ",":
        yield before
    yield json_end(results, total)


def _with_progress(run: VerifyRun, total: Result) -> Iterator[Found | Result]:
    """Yield what *run* finds, with a bar on a terminal; results are added to *total*."""
    bar = ProgressBar()
    try:
        for each in run.run():
            if isinstance(each, Progress):
                bar.show(each.done_ms, each.total_ms, each.symbol)
                continue
            if isinstance(each, Result):
                total.add(each)
            else:
                bar.clear()
            yield each
    finally:
        bar.clear()


def _path(text: str) -> Path:
    """Return an absolute path: the working directory changes where a store is opened."""
    return Path(text).absolute()
