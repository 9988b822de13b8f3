"""Silent streams: idle far longer than usual, or dead. Pure."""

from __future__ import annotations

_SUSPECT_AFTER_MS, _SUSPECT_FACTOR = 60_000, 4  # silence that is checked: at least, and times usual
_DELIVERED_WITHIN_MS = 5_000  # a trade that is younger may still be on its way

SURE_WITHIN_MS = _SUSPECT_AFTER_MS
"""Within which a symbol that has never traded is looked at."""


class IdleDetector:
    """Whether the stream of one symbol should be checked against REST, and what REST shows.

    Times called *now* are milliseconds on any clock that never goes back.
    """

    __slots__ = (
        "_awaited_at",
        "_awaited_id",
        "_idle_ms",
        "_listened_ms",
        "_suspect_after_ms",
        "_usual_idle_ms",
        "listening_since",
    )

    def __init__(self) -> None:
        self._idle_ms = 0  # at the last look, times without a connection included
        self._listened_ms = 0  # those left out
        self._usual_idle_ms = 0  # the longest of late
        self._suspect_after_ms = _SUSPECT_AFTER_MS
        # A trade that REST has had since _awaited_at, but the stream has not brought.
        self._awaited_id: int | None = None
        self._awaited_at = 0
        self.listening_since: int | None = None
        """When it was connected, on the exchange's clock; None: not known yet."""

    def is_suspect(self, idle_ms: int, connected_ms: int, exchange_time: int) -> bool:
        """Whether a connected stream, idle for so long, is to be checked now.

        Call it every few seconds: what is usual is learned from one call to the next. It is true
        again only when the stream has been idle for twice as long.
        """
        if self.listening_since is None and exchange_time:
            self.listening_since = exchange_time
        if idle_ms < self._idle_ms:  # it has traded since the last look
            self._usual_idle_ms = max(self._listened_ms, self._usual_idle_ms // 2)
            self._suspect_after_ms = self._patience_ms
        self._idle_ms = idle_ms
        self._listened_ms = min(idle_ms, connected_ms)
        if idle_ms < self._suspect_after_ms:
            return False
        self._suspect_after_ms = 2 * idle_ms
        return True

    def suspect(self) -> None:
        """Have the stream be checked at the next look."""
        self._suspect_after_ms = 0

    def may_still_come(self, trade_id: int, next_id: int | None, age_ms: int, now: int) -> bool:
        """Whether a trade that REST has, and the stream has not brought, may be on its way.

        *next_id* is the one that the stream is to bring next; None: it has never brought any.
        Then the stream is checked again soon; it is not on its way any longer if that same trade
        has not come meanwhile.
        """
        awaited = self._awaited_id
        is_awaiting = awaited is not None and (next_id is None or awaited >= next_id)
        is_overdue = is_awaiting and now - self._awaited_at >= _DELIVERED_WITHIN_MS
        if age_ms >= _DELIVERED_WITHIN_MS or is_overdue:
            return False
        if not is_awaiting:
            self._awaited_id, self._awaited_at = trade_id, now
        self.suspect()
        return True

    def is_dead(self, time: int) -> bool:
        """Whether the stream is, a trade of *time* being missing: it was listened to by then.

        It is checked again only after as long as is usual.
        """
        self._suspect_after_ms = self._idle_ms + self._patience_ms
        return self.listening_since is None or time >= self.listening_since

    @property
    def _patience_ms(self) -> int:
        return max(_SUSPECT_AFTER_MS, _SUSPECT_FACTOR * self._usual_idle_ms)
