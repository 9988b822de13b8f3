"""Renumbering: an exchange has restarted the trade ids of a symbol, as test networks do. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bintrades.model import Trade

_CONSECUTIVE_TRADES = 3  # newer than all bars; a single one is but a bad message


class RenumberingDetector:
    """Tells duplicates from trades of a new numbering: no duplicate is newer than all bars."""

    __slots__ = ("_count", "_next_id", "since")

    def __init__(self) -> None:
        # The one after that of the last trade that is newer than the ledger though its id was had.
        self._next_id: int | None = None
        self._count = 0  # how many of those with ids in a row are newer than all bars
        self.since = 0
        """`T` of the first of those with ids in a row."""

    def is_proven_by(self, trade: Trade, bars_end: int) -> bool:
        """Whether *trade*, newer than the ledger though its id was had, shows that ids restarted.

        *bars_end* is when the newest bar ends.
        """
        if trade.trade_id != self._next_id:
            self._count, self.since = 0, trade.time
        self._next_id = trade.trade_id + 1
        if trade.time < bars_end:
            return False
        self._count += 1
        if self._count < _CONSECUTIVE_TRADES:
            return False
        self._count = 0
        return True
