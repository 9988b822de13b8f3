"""Series of trades of which some ids are no fills of the order book, as on futures. Pure.

On the stream each of those comes as an ExcludedId, so that the line of ids has no holes. It is
counted by the ledger and put on record, but is in no bar.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bintrades.core.series import EXCLUDED, Series, Taken
from bintrades.model import ExcludedId, GapCause

if TYPE_CHECKING:
    from bintrades.core.ledger import Ledger
    from bintrades.core.write_batch import Checkpoint
    from bintrades.model import Trade, TradeRange

_NONE = -1


class SeriesWithFillers(Series):
    """One symbol of a stream that brings ids which are no fills as well.

    The exchange's word names the newest fill, so that is known apart from the newest id.
    """

    __slots__ = ("_excluded_time", "_fill_id", "_fill_time")

    def _set_up(self, checkpoint: Checkpoint | None) -> None:
        super()._set_up(checkpoint)
        ledger = self._ledger
        self._fill_id = _NONE if ledger.next_id is None else ledger.next_id - 1
        self._fill_time = ledger.last_time  # no later than that
        self._excluded_time = 0  # newest `T` of what was no fill, since the start
        if checkpoint is not None and checkpoint.newest_fill_id is not None:
            self._fill_id = checkpoint.newest_fill_id

    def take(self, trade: Trade, event_time: int, market_time: int, now: int) -> Taken:
        """Take a trade, or an ExcludedId, as Series.take takes a trade."""
        if type(trade) is not ExcludedId:
            taken = super().take(trade, event_time, market_time, now)
            self._know_fill(trade.trade_id, trade.time)
            return taken
        if event_time > self._event_time:
            self._event_time = event_time
            self._market_time = market_time
        self._heard_at = now
        return self._take_other(trade, event_time)

    def _count(self, trade: Trade) -> Taken:
        if type(trade) is not ExcludedId:
            return super()._count(trade)
        self._excluded_time = max(self._excluded_time, trade.time)
        self._changes.exclude(self.symbol, trade.trade_id, trade.trade_id)
        return EXCLUDED

    def _admit(self, trade: Trade) -> bool:
        return super()._admit(trade) or self._admit_excluded(trade)

    def _admit_excluded(self, trade: Trade) -> bool:
        """Record a fill whose id past trades went around: those were told before it was."""
        if type(trade) is ExcludedId:
            return False
        gap = self._ledger.reopen_excluded(trade.trade_id, trade.time)
        if gap is None:
            return False
        self._changes.take_back(self.symbol, gap)
        return super()._admit(trade)

    def _have_ids_restarted(self, duplicate: Trade) -> bool:
        # A second copy of what is in no bar is not older than the newest bar, as one of a fill is.
        known_until = max(self._excluded_time, self._ledger.last_time)
        if type(duplicate) is ExcludedId and duplicate.time <= known_until:
            return False
        return super()._have_ids_restarted(duplicate)

    def _fill_range(self, trades: TradeRange) -> int:
        count = super()._fill_range(trades)
        if count:
            self._know_fill(trades.last_id, trades.time)
        return count

    def _approximate(self, aggregate: TradeRange) -> int:
        count = super()._approximate(aggregate)
        if count:
            self._know_fill(aggregate.last_id, aggregate.time)
        return count

    def _begin_numbering(self, ledger: Ledger, begun: int, last_id: int) -> None:
        if self._fill_id <= last_id:
            self._fill_id = _NONE
        super()._begin_numbering(ledger, begun, last_id)

    @property
    def _newest(self) -> tuple[tuple[int, int], ...]:
        return () if self._fill_id == _NONE else ((self._fill_id, self._fill_time),)

    @property
    def _known_fill_id(self) -> int | None:
        return None if self._fill_id + 1 == self._ledger.next_id else self._fill_id

    def _is_newest(self, trade_id: int, next_id: int) -> bool:
        # What lies between is missing, on record, or no fill.
        return self._fill_id <= trade_id < next_id

    def _lack_through(self, trade_id: int, until: int, cause: GapCause, proves: int) -> None:
        super()._lack_through(trade_id, until, cause, proves)
        self._know_fill(trade_id, self._ledger.last_time)

    def _know_fill(self, trade_id: int, time: int) -> None:
        if trade_id > self._fill_id:
            self._fill_id, self._fill_time = trade_id, time
