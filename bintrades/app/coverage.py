"""Which share of the last hour and of the last day is covered, as the status shows it."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

from bintrades.model import utc

if TYPE_CHECKING:
    from bintrades.journal.coverage import SymbolCoverage
    from bintrades.journal.reader import JournalReader

BEHIND_MS = 150_000
"""How long before the newest proof of any symbol the hour and the day end, at least: quiet symbols
are proven once a minute, by an answer that lags some seconds, and what is proven of them is saved
within another minute."""

WINDOWS_MS = {"hour": 3_600_000, "day": 86_400_000}
_WORST = 5
_MILLIONTHS = 1_000_000


def coverage_figures(reader: JournalReader) -> dict[str, Any]:
    """Return the share of each window that is covered, of all symbols and of the worst.

    A symbol that has left is none of them. One of which nothing of the day is proven is counted
    apart. Raises JournalError.
    """
    newest = reader.newest_proof_ms()
    if newest is None:
        return {"until": None, "symbols": 0, "unproven_symbols": 0}
    _, interval_ms = reader.scope()
    until = newest - BEHIND_MS
    until -= until % interval_ms  # what is covered are whole intervals
    windows = {
        name: _Window(until - max(length, interval_ms), until)
        for name, length in WINDOWS_MS.items()
    }
    day_began = until - max(WINDOWS_MS["day"], interval_ms)
    counted = unproven = 0
    records = reader.symbol_records()
    left = {symbol for symbol, record in records.items() if not record.is_collected}
    for each in reader.coverage_of_all(day_began):
        if each.symbol in left:
            continue
        if each.proven_ms <= day_began:
            unproven += 1
            continue
        counted += 1
        for window in windows.values():
            window.add(each)
    return {
        "until": utc(until).isoformat(timespec="milliseconds"),
        "symbols": counted,
        "unproven_symbols": unproven,
        **{name: window.figures() for name, window in windows.items()},
    }


class _Window:
    """A time, and how much of it is covered of each symbol."""

    def __init__(self, since_ms: int, until_ms: int) -> None:
        self._since_ms = since_ms
        self._until_ms = until_ms
        self._covered: list[tuple[int, str]] = []

    def add(self, each: SymbolCoverage) -> None:
        """Count a symbol."""
        covered_ms = each.coverage.within(self._since_ms, self._until_ms).covered_ms
        self._covered.append((covered_ms, each.symbol))

    def figures(self) -> dict[str, Any]:
        """Return the share of all symbols, and of those that lack most."""
        length = self._until_ms - self._since_ms
        total = sum(covered for covered, _ in self._covered)
        return {
            "share": _share(total, length * len(self._covered)),
            "worst": [
                {"symbol": symbol, "share": _share(covered, length)}
                for covered, symbol in heapq.nsmallest(_WORST, self._covered)
                if covered < length
            ],
        }


def _share(part: int, whole: int) -> float:
    """Return a share, rounded down: 1.0 is all of it."""
    return part * _MILLIONTHS // whole / _MILLIONTHS if whole else 0.0
