"""When it is believed that trade ids do not exist. Pure.

That is believed slowly, since a database may lag, or leave out for minutes what it has: all
endpoints must agree, and all of them must confirm it a minute and ten minutes later.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Absence:
    """How far it is believed that the ids of one gap do not exist."""

    first_id: int
    """Of the gap when this began: once a part of the gap has filled, everything starts over."""
    due: int = 0
    """When the next round of confirmations begins; what is said before that does not count."""
    confirmed_by: set[str] = field(default_factory=set)
    """The endpoints that have confirmed it in this round."""
    time_before_ms: int = 0
    """When the trade before the gap happened, or the one after it if that was earlier."""
    _first_at: int | None = None
    _rounds: int = 0

    def confirm(
        self, endpoint: str, endpoints: frozenset[str], again_after_ms: tuple[int, ...], now: int
    ) -> bool:
        """Record that *endpoint* says so, not before `due`; return whether it is believed now.

        A round is over when all of *endpoints* have said so; the others follow at *again_after_ms*,
        counted from the end of the first.
        """
        self.confirmed_by.add(endpoint)
        if self.confirmed_by != endpoints:
            return False
        self.confirmed_by.clear()
        self._rounds += 1
        if self._first_at is None:
            self._first_at = now
        if self._rounds > len(again_after_ms):
            return True
        self.due = self._first_at + again_after_ms[self._rounds - 1]
        return False
