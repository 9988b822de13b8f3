"""In which spans an interval without a bar had no trades, as the journal knows it. No thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bintrades.core.spans import minus, whole
from bintrades.model import GapOutcome, GapState

if TYPE_CHECKING:
    from bintrades.core.spans import Span
    from bintrades.journal.reader import JournalReader

_LACKS_TRADES = (GapState.OPEN, GapState.ABANDONED, GapOutcome.LATE)


def covered_spans(reader: JournalReader, symbol: str, interval_ms: int) -> list[Span]:
    """Return the whole intervals that are proven and that no gap on record touches.

    Raises JournalError.
    """
    proof = reader.proof(symbol)  # before the gaps: of what is proven, no gap comes later
    if proof is None:
        return []
    holes = [
        (gap.since_ms - gap.since_ms % interval_ms, gap.until_ms + 1)
        for _, gap, state in reader.all_gaps(symbol)
        if state in _LACKS_TRADES
    ]
    return whole(minus([proof], holes), interval_ms)
