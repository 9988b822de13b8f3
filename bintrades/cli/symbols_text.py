"""The symbols on record in a journal as rows: those that are collected first, then who has left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bintrades.cli.tables import table_pieces
from bintrades.model import utc
from bintrades.util.text import as_json, showable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from bintrades.model.symbol_record import SymbolRecord

_HEADERS = ("symbol", "state", "status", "since (UTC)", "why", "returned (UTC)", "left (UTC)")
_NO_STATUS = "unknown"


def symbol_rows(records: Mapping[str, SymbolRecord]) -> list[dict[str, Any]]:
    """Return a row for each symbol: by name, those that are collected before those that are not."""
    names = sorted(records, key=lambda symbol: (not records[symbol].is_collected, symbol))
    return [_row(symbol, records[symbol]) for symbol in names]


def symbol_pieces(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield pieces of one JSON array of *rows*, for programs."""
    before = "[\n"
    for row in rows:
        yield before + as_json([row], indent=1)[2:-2]
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def symbol_table(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield pieces of a table of *rows*, for people."""
    pages = [[_in_table(row) for row in rows]]
    if not pages[0]:
        yield "no symbols yet\n"
    else:
        yield from table_pieces(pages, _HEADERS)


def _in_table(row: dict[str, Any]) -> list[str]:
    state = "collected" if row["is_collected"] else f"left: {row['left_because']}"
    times = (row["since"], row["returned"], row["left"])
    since, returned, left = ("" if time is None else _moment(time) for time in times)
    status = row["status"] or _NO_STATUS
    return [showable(row["symbol"]), state, showable(status), since, row["why"], returned, left]


def _moment(text: str) -> str:
    return text[:19].replace("T", " ")


def _row(symbol: str, record: SymbolRecord) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "is_collected": record.is_collected,
        "status": record.status,
        "since": _time(record.since_ms),
        "why": record.why,
        "returned": _time(record.returned_ms),
        "left": _time(record.left_ms),
        "left_because": record.left_because,
    }


def _time(ms: int | None) -> str | None:
    return None if ms is None else utc(ms).isoformat(timespec="milliseconds")
