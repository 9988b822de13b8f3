"""The simulated clocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.schedule import START_MS

if TYPE_CHECKING:
    from collections.abc import Sequence

_MONOTONIC_START = 5_000_000


class Clock:
    """Virtual time: it moves when the world says so."""

    def __init__(self, phase: int, skew: int, steps: Sequence[tuple[int, int]] = ()) -> None:
        self.elapsed = 0
        """Milliseconds since the start of the world."""
        self._start = START_MS + phase
        self._skews = sorted([(0, skew), *((at, skew + wrong) for at, wrong in steps)])

    def now(self) -> int:
        """Return the monotonic clock of the collector's machine."""
        return _MONOTONIC_START + self.elapsed

    def exchange(self) -> int:
        """Return the true time, which is the exchange's."""
        return self._start + self.elapsed

    def utc(self) -> int:
        """Return what the collector's machine believes the time to be."""
        skew = next(skew for at, skew in reversed(self._skews) if at <= self.elapsed)
        return self._start + self.elapsed + skew
