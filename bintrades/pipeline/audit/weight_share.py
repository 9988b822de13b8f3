"""A share of the exchange's request weight, for what must not take all of it. No thread."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bintrades.exchange.port import RateBudget

WINDOW_MS = 60_000


class WeightShare:
    """A second limit upon a RateBudget: never more than *allowed* in any minute.

    What it lets through counts in the budget as well, which may refuse it by itself. *now* is
    milliseconds, monotonic. Belongs to one thread.
    """

    def __init__(self, budget: RateBudget, allowed: int) -> None:
        self._budget = budget
        self.allowed = allowed
        """Weight of a minute."""
        self._spent: deque[tuple[int, int]] = deque()  # when, how much: of the last minute
        self._used = 0

    def wait_ms(self, weight: int, now: int) -> int:
        """Spend *weight* and return 0, or return how long to wait before asking again."""
        while self._spent and self._spent[0][0] <= now - WINDOW_MS:
            self._used -= self._spent.popleft()[1]
        # The first request of a minute may go whatever it weighs, or it never could.
        if self._used and self._used + weight > self.allowed:
            return self._until_free(weight, now)
        if wait := self._budget.wait_ms(weight, now):
            return wait
        self._spent.append((now, weight))
        self._used += weight
        return 0

    def _until_free(self, weight: int, now: int) -> int:
        left = self._used
        for at, spent in self._spent:
            left -= spent
            if not left or left + weight <= self.allowed:
                return at + WINDOW_MS - now
        return WINDOW_MS
