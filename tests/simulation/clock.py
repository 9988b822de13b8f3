"""The simulated clocks."""

from __future__ import annotations

from tests.simulation.schedule import START_MS

_MONOTONIC_START = 5_000_000


class Clock:
    """Virtual time: it moves when the world says so."""

    def __init__(self, phase: int, skew: int) -> None:
        self.elapsed = 0
        """Milliseconds since the start of the world."""
        self._start = START_MS + phase
        self._skew = skew

    def now(self) -> int:
        """Return the monotonic clock of the collector's machine."""
        return _MONOTONIC_START + self.elapsed

    def exchange(self) -> int:
        """Return the true time, which is the exchange's."""
        return self._start + self.elapsed

    def utc(self) -> int:
        """Return what the collector's machine believes the time to be."""
        return self._start + self.elapsed + self._skew
