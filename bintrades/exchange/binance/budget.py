"""How much may be asked of the exchange's REST side, and when. Pure: time is an input.

Limits are per IP address and counted by the exchange in UTC minutes; every answer says how much of
the minute is used, by whomever (docs: "Limits", headers X-MBX-USED-WEIGHT-1M and Retry-After).

The local wall clock decides nothing here, since it may leap: waits run on the monotonic clock, and
when a minute ends is learned from the exchange's answers.
"""

from __future__ import annotations

from bintrades.exchange.ban import LONGEST_MS

MINUTE_MS = 60_000
_FALLBACK_WAIT_MS = 120_000  # the shortest ban, where a refusal does not say how long it lasts
_SHORTEST_WAIT_MS = 1_000

_FIRST_CLOSED_MS = 300_000
_LONGEST_CLOSED_MS = {403: 3_600_000, 451: 6 * 3_600_000}  # a firewall; a forbidden place

BANS = {418, 429}
"""Answers by which the exchange tells this address to wait; a new process has to wait as well."""


class Budget:
    """One for the process. *now* is milliseconds on the monotonic clock.

    *banned_for* is how much is left, now, of what an earlier process was told.
    """

    def __init__(
        self, weight_per_minute: int, share_percent: int, banned_for: int = 0, now: int = 0
    ) -> None:
        self._allowed = weight_per_minute * share_percent // 100
        self._used = 0  # of the present minute
        self._minute_ends: int | None = None  # or has ended, None: begins with the next request
        self._is_minute_known = False  # by the exchange's clock; else our own, from a request on
        self._closed_count = 0  # refusals in a row that name no end
        self._banned_until = self._blocked_until = now + banned_for
        self.last_error: str | None = None  # None: the last request was answered

    def banned_for(self, now: int) -> int:
        """Return how long a new process would have to wait; 0: it may ask."""
        return max(0, self._banned_until - now)

    def blocked_for(self, now: int) -> int:
        """Return how long nothing may be asked, whatever the refusal was."""
        return max(0, self._blocked_until - now)

    def wait_ms(self, weight: int, now: int) -> int:
        """Return how long to wait before a request of *weight*; 0 means go, and spends it.

        A request that is refused has cost its weight all the same.
        """
        if blocked_for := self.blocked_for(now):
            # Without an error it was an earlier process that was refused.
            self.last_error = self.last_error or "the exchange had said so before the restart"
            return blocked_for
        minute_ends = self._turn(now)
        # The first request of a minute may go whatever it weighs, or it never could.
        if self._used and self._used + weight > self._allowed:
            return minute_ends - now
        self._used += weight
        return 0

    def record_weight(self, weight: int, now: int, minute_left: int | None = None) -> None:
        """Take over what the exchange counts for this address in this minute.

        *minute_left* is how long at most its minute lasts, by its own clock, None if not known.
        """
        ends = self._turn(now)
        if minute_left is not None:
            said = now + minute_left
            if not self._is_minute_known:
                self._is_minute_known = True
            elif said - ends > MINUTE_MS // 2:  # it has turned, a little earlier than we thought
                self._used = 0
            elif ends - said > MINUTE_MS // 2:  # the answer was under way while it turned
                return
            self._minute_ends = said
        self._used = max(self._used, weight)

    def record_answer(self, now: int) -> None:
        """Note that a request was answered well."""
        if not self.blocked_for(now):  # or another thread has been refused meanwhile
            self._closed_count = 0
            self.last_error = None

    def record_failure(
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
            self._banned_until = max(self._banned_until, until)
        elif status in _LONGEST_CLOSED_MS:
            closed = min(_FIRST_CLOSED_MS * 2**self._closed_count, _LONGEST_CLOSED_MS[status])
            self._closed_count = min(self._closed_count + 1, 20)
            self._block(now, max(closed, (retry_after_s or 0) * 1000))

    def _block(self, now: int, wait: int) -> int:
        until = now + min(wait, LONGEST_MS)
        self._blocked_until = max(self._blocked_until, until)
        return until

    def _turn(self, now: int) -> int:
        """Begin another minute if the present one has ended; return when the present one ends."""
        ends = self._minute_ends
        if ends is None or (now >= ends and not self._is_minute_known):
            ends, self._used = now + MINUTE_MS, 0
        elif now >= ends:
            ends, self._used = ends + ((now - ends) // MINUTE_MS + 1) * MINUTE_MS, 0
        self._minute_ends = ends
        return ends
