"""When to ask the exchange for the newest trades of quiet symbols. Pure: time is an input."""

from __future__ import annotations

from bintrades.core.proof import LAG_MS

_AFTER_END_MS = LAG_MS + 2_000  # of a bar: what an answer proves then lies a second behind its end
_SHORTEST_REST_MS = 5_000  # however often connections come and go


class ProofSchedule:
    """Every so often, some seconds after a bar's end, and at once when there is reason to.

    *now* is milliseconds, monotonic, *clock* the exchange's time, 0 while it is not known.
    """

    def __init__(self, every_ms: int, interval_ms: int) -> None:
        self.every_ms = every_ms
        self._interval = interval_ms
        self._prompt_at: int | None = None
        self._asked_at: int | None = None  # None: never
        self._due_at: int | None = None

    def prompt(self, at: int) -> None:
        """Have the exchange be asked at *at*, or as soon as may be thereafter."""
        self._prompt_at = at if self._prompt_at is None else min(at, self._prompt_at)

    def is_prompted(self, now: int) -> bool:
        """Whether there is reason to ask at once, and the last time was not a moment ago."""
        if self._prompt_at is None or now < self._prompt_at:
            return False
        return self._asked_at is None or now - self._asked_at >= _SHORTEST_REST_MS

    def is_due(self, now: int) -> bool:
        """Whether it is time to ask again."""
        return self._due_at is None or now >= self._due_at

    def asked(self, now: int, clock: int) -> None:
        """Record that the exchange is asked, or that there was nothing to ask."""
        self._asked_at = now
        if self._prompt_at is not None and now >= self._prompt_at:
            self._prompt_at = None
        self._due_at = now + self._rest_ms(clock)

    def _rest_ms(self, clock: int) -> int:
        """Return how long to rest: about every_ms, until some seconds after the end of a bar.

        Of bars that are longer than that, until the next end at most.
        """
        if not clock:
            return self.every_ms
        rest = self.every_ms - (clock + self.every_ms - _AFTER_END_MS) % self._interval
        while rest < _SHORTEST_REST_MS:
            rest += self._interval
        return min(rest, self.every_ms) if self._interval > self.every_ms else rest
