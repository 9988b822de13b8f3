"""In which spans an interval without a bar had no trades, as the journal knows it. No thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bintrades.core.coverage import SURPLUS
from bintrades.core.spans import union

if TYPE_CHECKING:
    from bintrades.core.spans import Span
    from bintrades.journal.reader import JournalReader


def covered_spans(reader: JournalReader, symbol: str) -> list[Span]:
    """Return the whole intervals that are proven and that no gap on record touches.

    Those are among them which are holes only since the exchange has no trades where there is a bar:
    it may say something else by now. Raises JournalError.
    """
    found = reader.coverage(symbol)
    if found is None:
        return []
    surplus = [
        (hole.since_ms, hole.until_ms) for hole in found.coverage.holes if hole.causes == (SURPLUS,)
    ]
    return union([*found.coverage.spans, *surplus])
