"""How much may be asked of the exchange's REST side, and when. Pure: time is an input.

Limits are per IP address and counted by the exchange in UTC minutes; every answer says how much of
the minute is used, by whomever (docs: "Limits", headers X-MBX-USED-WEIGHT-1M and Retry-After).
"""

from __future__ import annotations

_MINUTE_MS = 60_000
_FALLBACK_WAIT_MS = 120_000  # the shortest ban, where a refusal does not say how long it lasts
_SHORTEST_WAIT_MS = 1_000
_LONGEST_WAIT_MS = 3 * 86_400_000  # the longest ban

_FIRST_CLOSED_MS = 300_000
_LONGEST_CLOSED_MS = {403: 3_600_000, 451: 6 * 3_600_000}  # a firewall; a forbidden place

BANS = {418, 429}
"""Answers by which the exchange tells this address to wait; a new process has to wait as well."""

BLOCKED_UNTIL = "rest_blocked_until"
"""Name of the fact that the exchange wants no requests before then, milliseconds UTC."""


class Budget:
    """One for the process. *now* is milliseconds of UTC as far as this machine knows it.

    *banned_until* is what an earlier process was told.
    """

    def __init__(self, weight_per_minute: int, share_percent: int, banned_until: int = 0) -> None:
        self._allowed = weight_per_minute * share_percent // 100
        self._minute = 0
        self._used = 0
        self._closed_count = 0  # refusals in a row that name no end
        self.banned_until = banned_until
        self.blocked_until = banned_until  # by whatever refusal
        self.last_error: str | None = None  # None: the last request was answered

    def wait_ms(self, weight: int, now: int) -> int:
        """Return how long to wait before a request of *weight*; 0 means go, and spends it.

        A request that is refused has cost its weight all the same.
        """
        # A wrong clock, or a wrong answer, must not keep us from asking for years.
        self.blocked_until = min(self.blocked_until, now + _LONGEST_WAIT_MS)
        if now < self.blocked_until:
            # Without an error it was an earlier process that was refused.
            self.last_error = self.last_error or "the exchange had said so before the restart"
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

    def note_answer(self, now: int) -> None:
        """Note that a request was answered well."""
        if now >= self.blocked_until:  # or another thread has been refused meanwhile
            self._closed_count = 0
            self.last_error = None

    def note_failure(
        self, error: str, now: int, status: int | None = None, retry_after_s: int | None = None
    ) -> None:
        """Note that a request failed, and stop asking if the answer concerns every request.

        That is for as long as the exchange says; after a firewall's or a forbidden place's refusal
        for some minutes at least, and for longer each time, since that may be a mistake or mended.
        """
        self.last_error = error
        if status in BANS:
            said = _FALLBACK_WAIT_MS if retry_after_s is None else retry_after_s * 1000
            until = self._block(now, max(said, _SHORTEST_WAIT_MS))
            self.banned_until = max(self.banned_until, until)
        elif status in _LONGEST_CLOSED_MS:
            closed = min(_FIRST_CLOSED_MS * 2**self._closed_count, _LONGEST_CLOSED_MS[status])
            self._closed_count = min(self._closed_count + 1, 20)
            self._block(now, max(closed, (retry_after_s or 0) * 1000))

    def _block(self, now: int, wait: int) -> int:
        until = now + min(wait, _LONGEST_WAIT_MS)
        self.blocked_until = max(self.blocked_until, until)
        return until

    def _turn(self, now: int) -> None:
        minute = now // _MINUTE_MS
        if minute != self._minute:
            self._minute, self._used = minute, 0
