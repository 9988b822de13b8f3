"""`bintrades rejected`: the bars that stores refused, and why."""

from __future__ import annotations

import csv
import io
import itertools
from typing import TYPE_CHECKING, Any

from bintrades.cli.arguments import add_command
from bintrades.cli.exit_status import OK
from bintrades.cli.output import array_pieces, print_pieces
from bintrades.cli.tables import table_pieces
from bintrades.config.loader import load_config
from bintrades.errors import ConfigError
from bintrades.journal.reader import JournalReader
from bintrades.model import utc
from bintrades.util.redaction import redact
from bintrades.util.text import did_you_mean, showable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Sequence

    from bintrades.journal.reader import RefusedBar

_FIELDS = ("store", "market", "symbol", "open_time", "reason", "refused_at", "is_to_be_resent")
_HEADERS = ("store", "market", "symbol", "open time (UTC)", "refused (UTC)", "reason")
_PAGE_ROWS = 1_000


def add_parser(commands: Any, summary: str) -> None:
    """Describe the command and its options."""
    parser = add_command(commands, "rejected", summary)
    parser.description = (
        "List the bars that stores refused, and why. They are kept until `bintrades resend STORE`"
        " has had them sent again and the store has taken them, or until they leave the journal."
        " A + marks one that is to be sent again."
    )
    parser.add_argument(
        "store", nargs="?", metavar="STORE", help="only of this store, such as mongodb"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="for programs")
    form.add_argument("--csv", action="store_true", help="for spreadsheets")


def execute(options: argparse.Namespace) -> int:
    """Print the bars that one store refused, or all of them."""
    config = load_config(options.config)
    reader = JournalReader(config.journal.path)
    stores = sorted({*config.stores.enabled, *reader.stores_known()})
    if options.store is not None:
        if options.store not in stores:
            hint = did_you_mean(options.store, stores)
            known = ", ".join(stores) or "none"
            raise ConfigError(f"{options.store}: is no store of this journal{hint}; known: {known}")
        stores = [options.store]
    rows = _rows(reader, stores)
    pieces = array_pieces if options.json else _csv_pieces if options.csv else _table
    print_pieces(pieces(rows))
    return OK


def _rows(reader: JournalReader, stores: Sequence[str]) -> Iterator[dict[str, Any]]:
    market, _ = reader.scope()
    for store in stores:
        for bar in reader.refused_bars(store):
            yield _row(bar, market)


def _row(bar: RefusedBar, market: str) -> dict[str, Any]:
    values = (
        bar.store,
        market,
        bar.symbol,
        utc(bar.open_time_ms).isoformat(),
        redact(bar.reason),
        utc(bar.refused_at_ms).isoformat(timespec="milliseconds"),
        bar.is_due,
    )
    return dict(zip(_FIELDS, values, strict=True))


def _csv_pieces(rows: Iterator[dict[str, Any]]) -> Iterator[str]:
    """Yield pieces of a CSV text with a header."""
    yield ",".join(_FIELDS) + "\n"
    for page in _pages(rows):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(row.values() for row in page)
        yield text.getvalue()


def _table(rows: Iterator[dict[str, Any]]) -> Iterator[str]:
    """Yield pieces of a table for people."""
    pages = ([_in_table(row) for row in page] for page in _pages(rows))
    first = next(pages, None)
    if first is None:
        yield "no store has refused a bar\n"
    else:
        yield from table_pieces(itertools.chain([first], pages), _HEADERS)


def _in_table(row: dict[str, Any]) -> list[str]:
    mark = "+" if row["is_to_be_resent"] else ""
    return [
        row["store"],
        row["market"],
        showable(row["symbol"]),
        f"{_moment(row['open_time'])}{mark}",
        _moment(row["refused_at"]),
        showable(row["reason"]),
    ]


def _moment(text: str) -> str:
    return text[:19].replace("T", " ")


def _pages(rows: Iterator[dict[str, Any]]) -> Iterator[Iterable[dict[str, Any]]]:
    while page := list(itertools.islice(rows, _PAGE_ROWS)):
        yield page
