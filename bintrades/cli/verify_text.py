"""What a verification found, as lines and a table for people, and as JSON."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from bintrades.model import plain, utc
from bintrades.util.text import as_json, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bintrades.app.verification import Found, Result

HEADERS = ("symbol", "minutes", "equal", "different", "not checked", "differences", "why")
"""Of the table; the last says why something was not checked."""

_MINUTE_MS = 60_000


def difference_line(found: Found) -> str:
    """Return one difference as a line: where, ours, theirs, and what a repair made of it."""
    difference = found.difference
    opens = utc(difference.open_time_ms).isoformat(sep=" ").removesuffix("+00:00")
    fields = "; ".join(
        f"{name} {_text(ours)}, exchange {_text(theirs)}"
        for name, (ours, theirs) in difference.fields.items()
    )
    repair = f" ({found.repair})" if found.repair else ""
    return f"{difference.symbol} {opens}, {difference.interval_ms // 1_000} s: {fields}{repair}"


def result_row(result: Result) -> list[str]:
    """Return one row of the table, in the order of HEADERS."""
    tally = result.tally
    differences = str(result.differences)
    if result.repaired:
        differences += f", {result.repaired} repaired"
    if result.replaced:
        differences += f", {result.replaced} approximate bars replaced"
    return [
        result.symbol,
        *map(_minutes, (tally.total_ms, tally.equal_ms, tally.different_ms)),
        _minutes(tally.not_checked_ms.total()),
        differences,
        _reasons(result),
    ]


def difference_json(found: Found) -> str:
    """Return one difference as JSON; numbers with a fraction are text, as they are in bars."""
    difference = found.difference
    value: dict[str, Any] = {
        "symbol": difference.symbol,
        "open_time": utc(difference.open_time_ms).isoformat(timespec="milliseconds"),
        "interval_seconds": difference.interval_ms // 1_000,
        "fields": {
            name: {"ours": _value(ours), "theirs": _value(theirs)}
            for name, (ours, theirs) in difference.fields.items()
        },
    }
    if found.repair is not None:
        value["repair"] = found.repair.value
    return as_json(value)


def result_json(result: Result) -> dict[str, Any]:
    """Return what came of a symbol, for programs: times in seconds."""
    tally = result.tally
    return {
        "symbol": result.symbol,
        "seconds": tally.total_ms // 1_000,
        "equal_seconds": tally.equal_ms // 1_000,
        "different_seconds": tally.different_ms // 1_000,
        "not_checked_seconds": {
            reason: duration_ms // 1_000
            for reason, duration_ms in sorted(tally.not_checked_ms.items())
        },
        "differences": result.differences,
        "repaired": result.repaired,
        "replaced": result.replaced,
        "last_error": tally.last_error,
    }


def json_end(results: Sequence[Result], total: Result) -> str:
    """Return the rest of the JSON text after the differences."""
    symbols = ",\n ".join(as_json(result_json(result)) for result in results)
    summary = result_json(total)
    del summary["symbol"]
    return f'],\n"symbols": [\n {symbols}\n],\n"total": {as_json(summary)}\n}}\n'


def _reasons(result: Result) -> str:
    reasons = ", ".join(
        f"{_minutes(duration_ms)} {reason}"
        for reason, duration_ms in result.tally.not_checked_ms.most_common()
    )
    error = result.tally.last_error
    return f"{reasons} ({one_line(error, 100)})" if error else reasons


def _minutes(duration_ms: int) -> str:
    minutes = Decimal(duration_ms) / _MINUTE_MS
    return f"{minutes:.1f}" if duration_ms % _MINUTE_MS else f"{minutes:.0f}"


def _text(value: int | Decimal | None) -> str:
    return "none" if value is None else str(_value(value))


def _value(value: int | Decimal | None) -> int | str | None:
    return f"{plain(value):f}" if isinstance(value, Decimal) else value
