"""Renumbering: an exchange has restarted the trade ids of a symbol, as test networks do. Pure.

While new ids are lower than those that were had, trades show it. Once they are higher, as after
days without a connection, only past trades do: of an id that was had there is a later trade.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, NamedTuple

from bintrades.core.gap_ranges import DISORDER_MS, first_id_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bintrades.core.unknown_ids import UnknownIds
    from bintrades.model import Gap, Trade, TradeRange

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

    def is_proven_by(self, trade: Trade, bars_end: int, last_id: int | None = None) -> bool:
        """Whether *trade*, newer than the ledger though its id was had, shows that ids restarted.

        *bars_end* is when the newest bar ends, *last_id* the last id of an aggregate.
        """
        if trade.trade_id != self._next_id:
            self._count, self.since = 0, trade.time
        self._next_id = (trade.trade_id if last_id is None else last_id) + 1
        if trade.time < bars_end:
            return False
        self._count += 1
        if self._count < _CONSECUTIVE_TRADES:
            return False
        self._count = 0
        return True


class KnownTrade(NamedTuple):
    """An id that was had, and by when its trade had happened."""

    trade_id: int
    time: int


def contradicted(gap: Gap, rows: Sequence[TradeRange], unknown: UnknownIds) -> KnownTrade | None:
    """Return what is known of the id before *gap*, if that before it in *rows* is a later trade.

    Ids may have restarted then, or the time was a guess: only the exchange's first trade of all
    can tell. None: *rows* are as they should be.
    """
    index = bisect_left(rows, gap.first_id, key=first_id_of) - 1
    if index < 0 or gap.is_start:
        return None
    if any(unknown.cover(each, each) for each in (rows[index].last_id, gap.first_id - 1)):
        return None  # it was never had, or known by the exchange's word alone: its time is a guess
    known = KnownTrade(gap.first_id - 1, gap.since_ms + DISORDER_MS)
    return known if rows[index].time > known.time + DISORDER_MS else None


def contradicted_in(
    gap: Gap, others: Sequence[Gap], rows: Sequence[TradeRange], unknown: UnknownIds
) -> KnownTrade | None:
    """Return what *rows*, the answer about *gap*, contradict: there, or at *others* they reach.

    *others* are in order. None: *rows* are as they should be.
    """
    if not rows:
        return None
    reached = bisect_right(others, rows[0].last_id, key=first_id_of)
    end = bisect_right(others, rows[-1].last_id, key=first_id_of)
    doubts = (contradicted(each, rows, unknown) for each in (gap, *others[reached:end]))
    return next((each for each in doubts if each is not None), None)
