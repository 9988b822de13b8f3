"""In which spans an interval without a bar had no trades, as the journal knows it. No thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bintrades.core.spans import Span
    from bintrades.journal.reader import JournalReader


def covered_spans(reader: JournalReader, symbol: str) -> list[Span]:
    """Return the whole intervals that are proven and that no gap on record touches.

    Raises JournalError.
    """
    found = reader.coverage(symbol)
    return [] if found is None else found.coverage.spans
