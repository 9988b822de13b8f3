"""The gaps of a journal as rows: open, abandoned, repaired and absent ranges of trade ids."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from bintrades.cli.tables import table_pieces
from bintrades.model import GapKind, utc
from bintrades.util.redaction import redact
from bintrades.util.text import showable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bintrades.journal.reader import JournalReader
    from bintrades.model import Gap

_HEADERS = (
    *("state", "symbol", "trade ids", "missing", "from (UTC)", "to (UTC)", "cause", "tries"),
    "last error",
)
_PAGE_ROWS = 1_000
_EPOCH = "1970-01-01 00:00:00.000"


def gap_rows(reader: JournalReader, symbol: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield every gap on record, of one symbol or of all, oldest first; raises JournalError."""
    for name, gap, state in reader.all_gaps(symbol):
        yield _row(name, gap, state)


def gap_table(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield pieces of a table of *rows* for people, the reason of a failure behind its gap."""
    pages = _pages(map(_in_table, rows))
    first = next(pages, None)
    if first is None:
        yield "no gaps\n"
    else:
        yield from table_pieces(itertools.chain([first], pages), _HEADERS)


def _pages(lines: Iterator[list[str]]) -> Iterator[list[list[str]]]:
    while page := list(itertools.islice(lines, _PAGE_ROWS)):
        yield page


def _in_table(row: dict[str, Any]) -> list[str]:
    kind = row["kind"]
    count = row["last_id"] - row["first_id"] + 1
    return [
        row["state"],
        showable(row["symbol"]),
        f"{row['first_id']}-{row['last_id']}" if kind != GapKind.UNNUMBERED else "unknown",
        str(count) if kind == GapKind.IDS else "unknown",
        _moment(row["since"]),
        _moment(row["until"]),
        row["cause"],
        str(row["attempts"]),
        showable(row["last_error"] or ""),
    ]


def _moment(text: str) -> str:
    """Return a time as people read it; the epoch of Unix stands for an unknown time."""
    moment = text[:23].replace("T", " ")
    return "unknown" if moment == _EPOCH else moment


def _row(symbol: str, gap: Gap, state: str) -> dict[str, Any]:
    return {
        "state": state,
        "symbol": symbol,
        "first_id": gap.first_id,
        "last_id": gap.last_id,
        "is_start": gap.is_start,
        "kind": gap.kind,
        "since": utc(gap.since_ms).isoformat(timespec="milliseconds"),
        "until": utc(gap.until_ms).isoformat(timespec="milliseconds"),
        "cause": gap.cause,
        "attempts": gap.attempts,
        "last_error": redact(gap.last_error) if gap.last_error else None,
    }
