"""How long a connection may be without data before it is held to be dead. Pure.

A fixed limit would replace a connection of rarely traded symbols again and again, so the limit
grows with the longest silence that ended by itself, or by a new connection.
"""

from __future__ import annotations

_LONGEST_MS = 3_600_000


class Silence:
    """What the connections of one group of symbols have taught. Times: milliseconds, monotonic."""

    def __init__(self, timeout_ms: int, now: int) -> None:
        self._timeout = timeout_ms
        self._habit = 0
        self.since = now  # when data last came

    @property
    def limit(self) -> int:
        """A silence that lasts longer means that the connection is dead, milliseconds."""
        return min(max(self._timeout, 2 * self._habit), max(self._timeout, _LONGEST_MS))

    def note_data(self, now: int) -> None:
        """Note that data came: a long silence before it becomes a habit, which fades."""
        quiet = now - self.since
        if 2 * quiet >= self._timeout:
            self._habit = max(quiet, self._habit // 2)
        self.since = now
