"""`bintrades differences`: where bars and the exchange's klines did not agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bintrades.cli import arguments
from bintrades.cli.exit_status import OK
from bintrades.cli.output import print_text
from bintrades.cli.tables import table_pieces
from bintrades.config.loader import load_config
from bintrades.journal.reader import JournalReader
from bintrades.model import utc
from bintrades.util.text import as_json, showable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from bintrades.model import RecordedDifference

_HEADERS = ("outcome", "symbol", "open time (UTC)", "seconds", "ours", "the exchange's")


def add_parser(commands: Any, summary: str) -> None:
    """Describe the command and its options."""
    parser = arguments.add_command(commands, "differences", summary)
    parser.description = (
        "List what the audit has found: bars, or whole minutes, that differed from the exchange's"
        " own klines when they were looked at twice. open: made again of the exchange's trades, and"
        " to be compared again; repaired: agrees now; stays: the exchange contradicts itself."
    )
    parser.add_argument(
        "symbol", type=arguments.symbol, nargs="?", metavar="SYMBOL", help="only of this symbol"
    )
    parser.add_argument("--json", action="store_true", help="for programs")


def execute(options: argparse.Namespace) -> int:
    """Print the differences of one symbol or of all."""
    reader = JournalReader(load_config(options.config).journal.path)
    found = reader.differences(options.symbol)
    if options.json:
        print_text(as_json(list(map(_row, found)), indent=1))
    elif found:
        print_text("".join(_table(found)).rstrip("\n"))
    else:
        print_text("no differences")
    return OK


def _row(difference: RecordedDifference) -> dict[str, Any]:
    return {
        "outcome": difference.outcome,
        "symbol": difference.symbol,
        "open_time": utc(difference.open_time_ms).isoformat(),
        "interval_seconds": difference.interval_ms // 1000,
        "ours": difference.ours,
        "theirs": difference.theirs,
        "found_at": utc(difference.found_at_ms).isoformat(timespec="milliseconds"),
        "changed_at": utc(difference.changed_at_ms).isoformat(timespec="milliseconds"),
    }


def _table(found: Sequence[RecordedDifference]) -> list[str]:
    rows = [
        [
            each.outcome.value,
            showable(each.symbol),
            f"{utc(each.open_time_ms):%Y-%m-%d %H:%M:%S}",
            str(each.interval_ms // 1000),
            showable(each.ours),
            showable(each.theirs),
        ]
        for each in found
    ]
    return list(table_pieces([rows], _HEADERS))
