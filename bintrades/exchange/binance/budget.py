"""How much may be asked of the exchange's REST side, and when. Pure: time is an input.

Limits are per IP address and counted by the exchange in UTC minutes; every answer says how much of
the minute is used, by whomever (docs: "Limits", headers X-MBX-USED-WEIGHT-1M and Retry-After).

The local wall clock decides nothing here, since it may leap: waits run on the monotonic clock, and
when a minute ends is learned from the exchange's answers.
"""

from __future__ import annotations

from bintrades.core.ban import LONGEST_MS

MINUTE_MS = 60_000
_FALLBACK_WAIT_MS = 120_000  # the shortest ban, where a refusal does not say how long it lasts
_SHORTEST_WAIT_MS = 1_000

_FIRST_BLOCK_MS = 300_000
_LONGEST_BLOCK_MS = {403: 3_600_000, 451: 6 * 3_600_000}  # a firewall; a region that is not served

BANS = {418, 429}
"""Answers by which the exchange asks this address to wait; a new process has to wait as well."""


class Budget:
    """One for the process. *now* is milliseconds on the monotonic clock.

    *banned_for* is how much is left, now, of the ban of an earlier process.
    """

    def __init__(
        self, weight_per_minute: int, share_percent: int, banned_for: int = 0, now: int = 0
    ) -> None:
        self._share_percent = share_percent
        self._allowed = weight_per_minute * share_percent // 100
        self._used = 0  # of the present minute
        self._minute_ends: int | None = None  # or has ended, None: begins with the next request
        self._is_minute_known = False  # by the exchange's clock; else our own, from a request on
        self._block_count = 0  # refusals in a row that name no end
        self._banned_until = self._blocked_until = now + banned_for
        self.last_error: str | None = None  # None: the last request was answered
        self._failing_since: int | None = None  # the first request that failed after an answer

    @property
    def allowed(self) -> int:
        """What all requests together may weigh in a minute, as far as is known now."""
        return self._allowed

    def used(self, now: int) -> int:
        """Return what is used of this minute, by whomever on this address as far as is known."""
        ends = self._minute_ends
        return 0 if ends is None or now >= ends else self._used

    def banned_for(self, now: int) -> int:
        """Return how long a new process would have to wait; 0: it may ask."""
        return max(0, self._banned_until - now)

    def failing_for(self, now: int) -> int:
        """Return since when every request has failed, milliseconds; 0: the last was answered."""
        return 0 if self._failing_since is None else max(1, now - self._failing_since)

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
        minute_ends = self._roll_over(now)
        # The first request of a minute may go whatever it weighs, or it never could.
        if self._used and self._used + weight > self._allowed:
            return minute_ends - now
        self._used += weight
        return 0

    def give_back(self, weight: int) -> None:
        """Undo the spend of a request that is not made after all."""
        self._used = max(0, self._used - weight)

    def record_limit(self, weight_per_minute: int) -> None:
        """Take over what the exchange says that one address may ask in a minute."""
        self._allowed = weight_per_minute * self._share_percent // 100

    def record_weight(self, weight: int, now: int, minute_left: int | None = None) -> None:
        """Take over what the exchange counts for this address in this minute.

        *minute_left* is how long at most its minute lasts, by its own clock, None if not known.
        """
        ends = self._roll_over(now)
        if minute_left is not None:
            reported_end = now + minute_left
            if not self._is_minute_known:
                self._is_minute_known = True
            elif reported_end - ends > MINUTE_MS // 2:  # a new one, a little earlier than expected
                self._used = 0
            elif ends - reported_end > MINUTE_MS // 2:  # the answer was under way as it ended
                return
            self._minute_ends = reported_end
        self._used = max(self._used, weight)

    def record_answer(self, now: int) -> None:
        """Record that a request was answered well."""
        self._failing_since = None
        if not self.blocked_for(now):  # or another thread has been refused meanwhile
            self._block_count = 0
            self.last_error = None

    def record_failure(
        self, error: str, now: int, status: int | None = None, retry_after_s: int | None = None
    ) -> None:
        """Record that a request failed, and stop asking if the answer concerns every request.

        That is for as long as the exchange says. A firewall (403) and a region that is not served
        (451) block for some minutes at least, and for longer each time.
        """
        self.last_error = error
        if self._failing_since is None:
            self._failing_since = now
        if status in BANS:
            wait = _FALLBACK_WAIT_MS if retry_after_s is None else retry_after_s * 1000
            until = self._block(now, max(wait, _SHORTEST_WAIT_MS))
            self._banned_until = max(self._banned_until, until)
        elif status in _LONGEST_BLOCK_MS:
            wait = min(_FIRST_BLOCK_MS * 2**self._block_count, _LONGEST_BLOCK_MS[status])
            self._block_count = min(self._block_count + 1, 20)
            self._block(now, max(wait, (retry_after_s or 0) * 1000))

    def _block(self, now: int, wait: int) -> int:
        until = now + min(wait, LONGEST_MS)
        self._blocked_until = max(self._blocked_until, until)
        return until

    def _roll_over(self, now: int) -> int:
        """Begin another minute if the present one has ended; return when the present one ends."""
        ends = self._minute_ends
        if ends is None or (now >= ends and not self._is_minute_known):
            ends, self._used = now + MINUTE_MS, 0
        elif now >= ends:
            ends, self._used = ends + ((now - ends) // MINUTE_MS + 1) * MINUTE_MS, 0
        self._minute_ends = ends
        return ends
