"""How many bars a store gets at once: as many as it stores in a few seconds, whatever its speed."""

from __future__ import annotations

FIRST = 100
"""Bars of the first batch, when nothing is known of a store: few for a quick one, and soon more."""

TARGET_S = 2.0
"""What a batch may take: short beside any time limit, long beside what each batch costs."""


SURELY_A_TIMEOUT_S = 10.0
"""A failure that took so long is a timeout, whatever it is called."""


def is_timeout(error: Exception, seconds: float) -> bool:
    """Whether a store was too slow; errors of pymongo say so in an attribute of this name."""
    is_said = isinstance(error, TimeoutError) or getattr(error, "timeout", False) is True
    return is_said or seconds >= SURELY_A_TIMEOUT_S


class BatchSize:
    """The size of the next batch, learnt from what became of those before.

    Full batches that are quick let it double, slow ones cut it down to what the store does in
    TARGET_S. After a timeout it is halved, and comes near the size that was too large in small
    steps only. Belongs to one thread.
    """

    def __init__(self, largest: int, *, first: int = FIRST, target_s: float = TARGET_S) -> None:
        self.limit = min(first, largest)
        self._largest = largest
        self._target_s = target_s
        self._too_large: int | None = None

    def took(self, bars: int, seconds: float) -> None:
        """Note that the store has stored *bars* in *seconds*."""
        is_quick = seconds * self._largest <= bars * self._target_s
        in_time = self._largest if is_quick else int(bars * self._target_s / seconds)
        if in_time < bars:
            self.limit = max(1, min(self.limit, in_time))
        elif bars >= self.limit:
            self._grow(in_time)

    def timed_out(self, bars: int) -> None:
        """Note that *bars* were more than the store could take in time."""
        self._too_large = bars
        self.limit = max(1, min(self.limit, bars // 2))

    def _grow(self, in_time: int) -> None:
        if self._too_large is not None and self.limit >= self._too_large:
            self._too_large = None
        larger = 2 * self.limit
        if self._too_large is not None and larger >= self._too_large:
            larger = self.limit + max(1, self.limit // 20)
        self.limit = max(self.limit, min(larger, in_time, self._largest))
