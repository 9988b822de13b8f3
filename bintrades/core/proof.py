"""The exchange's word on the newest trade of a symbol, and what is awaited because of it. Pure.

Until when the trades of a symbol are known is proven by two things only: a trade with the next id,
since no later one has an earlier `T`; or the exchange's word that the newest id is the one that was
seen last. Silence, an acknowledgement or other symbols' trades prove nothing.
"""

from __future__ import annotations

from typing import NamedTuple

LAG_MS = 5_000
"""How old the exchange's word may be when it answers, and how long a trade may be on its way."""


class NewestId(NamedTuple):
    """The exchange's word: up to *proves* there was no trade with a higher id."""

    trade_id: int
    proves: int
    """Milliseconds on the exchange's clock."""
    said_at: int
    """When it said so, on its clock: the trade was not later."""
    answered_at: int
    """When the answer came: milliseconds, monotonic."""

    def is_overdue(self, now: int) -> bool:
        """Whether the trade should have come by *now*."""
        return now - self.answered_at >= LAG_MS
