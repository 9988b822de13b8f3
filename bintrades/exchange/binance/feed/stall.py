"""Detection of a stalled connection: one that is open and has been without data for too long. Pure.

A fixed limit would replace a connection of rarely traded symbols again and again, so the limit
grows with the idle times that ended by themselves, and with every new connection that brings
nothing from its beginning: then the market is idle, or a new connection does not help.
"""

from __future__ import annotations

_MAX_LIMIT_MS = 3_600_000


class StallDetector:
    """What the connections of one reader have taught. Times: milliseconds, monotonic.

    Only time during which the reader found nothing to read counts as idle: while the reader itself
    is held up, data may wait in its socket.
    """

    def __init__(self, timeout_ms: int, now: int) -> None:
        self.last_data_at = now
        self._timeout_ms = timeout_ms
        self._typical_idle_ms = 0  # the longest idle time of late that ended by itself
        self.empty_connections = 0  # in a row that brought nothing at all
        self._opened_at = now
        self._idle_until = now
        self.is_data_expected = True
        """Whether any of its symbols is traded at all."""

    def expect_data(self, *, is_expected: bool, now: int) -> None:
        """Have data be expected, from now on, or not: a symbol that is halted has none."""
        if is_expected and not self.is_data_expected:
            self._opened_at = now
        self.is_data_expected = is_expected

    @property
    def limit_ms(self) -> int:
        """The longest time a working connection is idle."""
        wanted = max(self._timeout_ms, 2 * self._typical_idle_ms)
        return min(wanted << min(self.empty_connections, 20), max(self._timeout_ms, _MAX_LIMIT_MS))

    @property
    def idle_ms(self) -> int:
        """How long the present connection has been idle, 0 if it is not."""
        return max(0, self._idle_until - max(self.last_data_at, self._opened_at))

    def on_opened(self, now: int) -> None:
        """Record a new connection: the time without one was no idle time."""
        self._opened_at = now

    def on_nothing(self, now: int) -> None:
        """Record that all that came until *now* is read."""
        self._idle_until = now

    def on_data(self, now: int) -> None:
        """Record data. A long idle time before it becomes typical; that fades."""
        if self._idle_until > self.last_data_at and self.is_data_expected:
            self._end_idle_time()
        self.empty_connections = 0
        self.last_data_at = now

    def _end_idle_time(self) -> None:
        idle_ms = self.idle_ms
        if 2 * idle_ms >= self._timeout_ms:
            self._typical_idle_ms = max(idle_ms, self._typical_idle_ms // 2)

    def on_stalled(self) -> None:
        """Record that the present connection is given up."""
        is_empty = self.last_data_at < self._opened_at
        self.empty_connections = self.empty_connections + 1 if is_empty else 0
