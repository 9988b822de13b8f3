"""Which share of the last hour and of the last day is covered, as the status shows it.

A share is of the time since a symbol is collected, within the window: time before that is no hole.
What was missed since then is one, whether the collector ran or not.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

from bintrades.model import utc

if TYPE_CHECKING:
    from bintrades.core.coverage import Coverage
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

    A share is None where no symbol was collected within the window. A symbol that has left is none
    of them. One of which nothing of the day is proven is counted apart, and new ones, of less than
    a day, are counted as well. Raises JournalError.
    """
    newest = reader.newest_proof_ms()
    if newest is None:
        return {"until": None, "symbols": 0, "unproven_symbols": 0, "new_symbols": 0}
    _, interval_ms = reader.scope()
    until = newest - BEHIND_MS
    until -= until % interval_ms  # what is covered are whole intervals
    windows = {
        name: _Window(until - max(length, interval_ms), until)
        for name, length in WINDOWS_MS.items()
    }
    day_began = until - max(WINDOWS_MS["day"], interval_ms)
    counted = unproven = new = 0
    records = reader.symbol_records()
    left = {symbol for symbol, record in records.items() if not record.is_collected}
    for each in reader.coverage_of_all(day_began):
        if each.symbol in left:
            continue
        if each.proven_ms <= day_began:
            unproven += 1
            continue
        counted += 1
        new += each.coverage.since_ms > day_began
        for window in windows.values():
            window.add(each)
    return {
        "until": utc(until).isoformat(timespec="milliseconds"),
        "symbols": counted,
        "unproven_symbols": unproven,
        "new_symbols": new,
        **{name: window.figures() for name, window in windows.items()},
    }


def collected_ms(coverage: Coverage, since_ms: int, until_ms: int) -> int:
    """Return for how much of a window a symbol was collected, by what is covered of it.

    It still is at *until_ms*: what is not proven up to then is time in which it was.
    """
    return max(0, until_ms - max(coverage.since_ms, since_ms))


class _Window:
    """A time, and how much of it is covered of each symbol, and how much is not."""

    def __init__(self, since_ms: int, until_ms: int) -> None:
        self._since_ms = since_ms
        self._until_ms = until_ms
        self._parts: list[tuple[int, str, int]] = []  # what is lacking, of what

    def add(self, each: SymbolCoverage) -> None:
        """Count a symbol, unless it was not collected within the window."""
        if whole := collected_ms(each.coverage, self._since_ms, self._until_ms):
            covered = each.coverage.within(self._since_ms, self._until_ms).covered_ms
            self._parts.append((whole - covered, each.symbol, whole))

    def figures(self) -> dict[str, Any]:
        """Return the share of all symbols, and of those that lack most."""
        whole = sum(whole for *_, whole in self._parts)
        lacking = sum(lacking for lacking, *_ in self._parts)
        worst = heapq.nsmallest(_WORST, self._parts, key=lambda part: (-part[0], part[1]))
        return {
            "share": _share(whole - lacking, whole) if whole else None,
            "worst": [
                {"symbol": symbol, "share": _share(of - lack, of)}
                for lack, symbol, of in worst
                if lack
            ],
        }


def _share(part: int, whole: int) -> float:
    """Return a share, rounded down: 1.0 is all of it."""
    return part * _MILLIONTHS // whole / _MILLIONTHS
