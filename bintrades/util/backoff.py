"""Full-jitter exponential backoff: waits between attempts.

Every wait is drawn between nothing and a ceiling that doubles, so that many clients that failed
together do not come back together (M. Brooker, "Exponential Backoff And Jitter", AWS, 2015).
"""

from __future__ import annotations

import random


class Backoff:
    """The waits of one thing that is tried again for ever."""

    def __init__(self, first_s: float, longest_s: float, rng: random.Random | None = None) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._rng = rng or random.Random()  # noqa: S311 - spreads attempts, keeps no secret
        self.failures = 0

    def next_wait_s(self) -> float:
        """Count a failure and return how long to wait after it."""
        ceiling_s = min(self._longest_s, self._first_s * 2 ** min(self.failures, 60))
        self.failures += 1
        return self._rng.uniform(0, ceiling_s)

    def reset(self) -> None:
        """Forget the failures, after a success."""
        self.failures = 0
