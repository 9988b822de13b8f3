"""How long bars take to their store, as a histogram. Written by one thread, read by any."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bintrades.model import Bar

BOUNDS_MS = (1_000, 1_500, 2_000, 3_000, 5_000, 10_000, 30_000, 60_000, 300_000, 3_600_000)
"""The most that a bar of each bucket has taken; those of the last bucket have taken longer."""


@dataclass(frozen=True, slots=True)
class LatencySnapshot:
    """A histogram at a moment."""

    counts: Sequence[int]
    """Bars of each bucket."""

    sum_ms: int
    """What all took together."""


NO_LATENCY = LatencySnapshot((0,) * (len(BOUNDS_MS) + 1), 0)
"""Of no bars."""


class LatencyHistogram:
    """From the end of a bar's interval until its store has it, on the exchange's clock."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_MS) + 1)
        self._sum_ms = 0

    def add(self, bars: Iterable[Bar], stored_at: int) -> None:
        """Count *bars* that a store has had since *stored_at*, as far as they are the first.

        A later version of a bar says when its trades were had, not how long it took.
        """
        for bar in bars:
            if bar.version == 1:
                taken_ms = max(0, stored_at - bar.end_time_ms)
                self._counts[bisect_left(BOUNDS_MS, taken_ms)] += 1
                self._sum_ms += taken_ms

    def snapshot(self) -> LatencySnapshot:
        """Return the histogram of this moment. Any thread."""
        return LatencySnapshot(tuple(self._counts), self._sum_ms)
