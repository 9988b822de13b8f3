"""How much may be asked of the exchange's REST side, and when. Pure: time is an input.

Limits are per IP address and counted by the exchange in UTC minutes; every answer says how much of
the minute is used, by whomever (docs: "Limits", headers X-MBX-USED-WEIGHT-1M and Retry-After).
"""

from __future__ import annotations

_MINUTE_MS = 60_000
_FALLBACK_WAIT_MS = 120_000  # the shortest ban, where a refusal does not say how long it lasts
_SHORTEST_WAITS_MS = {403: 3_600_000, 451: 6 * 3_600_000}  # a firewall; a forbidden place
_SHORTEST_WAIT_MS = 1_000
_LONGEST_WAIT_MS = 3 * 86_400_000  # the longest ban

BLOCKED = {403, 418, 429, 451}
"""Answers that concern every request, not only the one that got it."""


BLOCKED_UNTIL = "rest_blocked_until"
"""Name of the fact that the exchange wants no requests before then, milliseconds UTC."""


class Budget:
    """One for the process. *now* is milliseconds of UTC as far as this machine knows it."""

    def __init__(self, weight_per_minute: int, share_percent: int, blocked_until: int = 0) -> None:
        self._allowed = weight_per_minute * share_percent // 100
        self._minute = 0
        self._used = 0
        self.blocked_until = blocked_until

    def wait_ms(self, weight: int, now: int) -> int:
        """Return how long to wait before a request of *weight*; 0 means go, and spends it.

        A request that is refused has cost its weight all the same.
        """
        # A wrong clock, or a wrong answer, must not keep us from asking for years.
        self.blocked_until = min(self.blocked_until, now + _LONGEST_WAIT_MS)
        if now < self.blocked_until:
            return self.blocked_until - now
        self._turn(now)
        # The first request of a minute may go whatever it weighs, or it never could.
        if self._used and self._used + weight > self._allowed:
            return (self._minute + 1) * _MINUTE_MS - now
        self._used += weight
        return 0

    def note_used(self, weight: int, now: int) -> None:
        """Take over what the exchange counts for this address in this minute."""
        self._turn(now)
        self._used = max(self._used, weight)

    def note_refusal(self, status: int, retry_after_s: int | None, now: int) -> None:
        """Stop asking for as long as the exchange says, or as is wise."""
        said = _FALLBACK_WAIT_MS if retry_after_s is None else retry_after_s * 1000
        wait = max(said, _SHORTEST_WAITS_MS.get(status, _SHORTEST_WAIT_MS))
        self.blocked_until = max(self.blocked_until, now + min(wait, _LONGEST_WAIT_MS))

    def _turn(self, now: int) -> None:
        minute = now // _MINUTE_MS
        if minute != self._minute:
            self._minute, self._used = minute, 0
