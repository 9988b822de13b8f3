"""How long a connection may be without data before it is held to be dead. Pure.

A fixed limit would replace a connection of rarely traded symbols again and again, so the limit
grows with the silences that ended by themselves, and with every new connection that stays mute
from its beginning: then it is the market that is quiet, or nothing that we do helps.
"""

from __future__ import annotations

_LONGEST_MS = 3_600_000


class StallDetector:
    """What the connections of one reader have taught. Times: milliseconds, monotonic."""

    def __init__(self, timeout_ms: int, now: int) -> None:
        self._timeout = timeout_ms
        self._habit = 0  # the longest silence of late that ended by itself
        self._mute_count = 0  # connections in a row that brought nothing at all
        self._opened_at = now
        self.since = now  # when data last came

    @property
    def limit(self) -> int:
        """A silence that lasts longer means that the connection is dead, milliseconds."""
        wanted = max(self._timeout, 2 * self._habit) << min(self._mute_count, 20)
        return min(wanted, max(self._timeout, _LONGEST_MS))

    def quiet_for(self, now: int) -> int:
        """Return how long the present connection has been without data."""
        return now - max(self.since, self._opened_at)

    def on_opened(self, now: int) -> None:
        """Note a new connection: the time without one was no silence."""
        self._opened_at = now

    def on_data(self, now: int) -> None:
        """Note that data came: a long silence before it becomes a habit, which fades."""
        quiet = self.quiet_for(now)
        if 2 * quiet >= self._timeout:
            self._habit = max(quiet, self._habit // 2)
        self._mute_count = 0
        self.since = now

    def mark_dead(self) -> None:
        """Note that the present connection was given up."""
        self._mute_count = self._mute_count + 1 if self.since < self._opened_at else 0
