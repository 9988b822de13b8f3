"""Series of aggregate streams: a message stands for trades of one taker at one price. Pure.

Where ids are dense, an aggregate says all that its trades say, so bars are those of the trades.
Where they are not, its ids are more than its trades, and those may have happened a little later
than it says: its bars are approximate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bintrades.core.series import NEXT, PARTLY_KNOWN, Series, Taken
from bintrades.model import GapCause

if TYPE_CHECKING:
    from bintrades.core.bucket import Bucket
    from bintrades.core.write_batch import Checkpoint
    from bintrades.model import AggregateTrade, Trade, TradeRange


_NONE = -2  # the number of no aggregate, nor of one before the first


class AggregateSeries(Series):
    """One symbol of an aggregate stream with dense ids: each of them is a trade.

    The trades that are given to it are AggregateTrade; what the exchange has of the past may be any
    ranges of trades. An aggregate of which only some trades are known counts for nothing, since
    nobody can say which part of its quantity those are: the others are missing, and asked for
    singly.
    """

    __slots__ = ()

    def take(self, trade: Trade, event_time: int, market_time: int, now: int) -> Taken:
        """Take an aggregate, as Series.take takes a trade."""
        if event_time > self._event_time:
            self._event_time = event_time
            self._market_time = market_time
        self._heard_at = now
        bucket = self._current
        if bucket is not None and event_time < self.due:
            time, ledger = trade.time, self._ledger
            if bucket.open_time <= time < bucket.end_time and trade.trade_id == ledger.next_id:
                ledger.next_id = _last_id(trade) + 1
                ledger.last_time = time
                self._put_in(bucket, trade)
                return NEXT
        return self._take_other(trade, event_time)

    def _take_other(self, trade: Trade, event_time: int) -> Taken:
        ledger, last_id = self._ledger, _last_id(trade)
        if ledger.next_id is None or not trade.trade_id < ledger.next_id <= last_id:
            return super()._take_other(trade, event_time)
        ledger.lack_through(last_id, trade.time, self._gap_cause, trade.time)
        self._gap_cause = GapCause.SKIPPED
        if event_time >= self.due:
            self._close(event_time)
        self._current = None  # the next one tells by when those happened
        return PARTLY_KNOWN

    def _admit(self, trade: Trade) -> bool:
        return self._ledger.admit_aggregate(
            trade.trade_id, _last_id(trade), trade.time, self._gap_cause
        )

    def _put_in(self, bucket: Bucket, trade: Trade) -> None:
        bucket.add_range(trade, _last_id(trade))

    def _have_ids_restarted(self, duplicate: Trade) -> bool:
        if duplicate.time < self._ledger.last_time:
            return False
        return self._renumbering.is_proven_by(duplicate, self._bars_end, _last_id(duplicate))


class ApproximateSeries(AggregateSeries):
    """One symbol of an aggregate stream whose ids are not all trades: its bars are approximate.

    A bar counts aggregates. Those are numbered without a hole: where none was left out, the ids
    between two of them are no fills; where one was, all ids between are missing.
    """

    __slots__ = ("_last_aggregate_id",)

    def _set_up(self, checkpoint: Checkpoint | None) -> None:
        super()._set_up(checkpoint)
        self._last_aggregate_id = _NONE  # the newest since the start

    def take(self, trade: Trade, event_time: int, market_time: int, now: int) -> Taken:
        """Take an aggregate, as Series.take takes a trade."""
        number, ledger = _number(trade), self._ledger
        if number > self._last_aggregate_id:
            is_next = number == self._last_aggregate_id + 1
            if is_next and ledger.next_id is not None and trade.trade_id > ledger.next_id:
                self._changes.exclude(self.symbol, ledger.next_id, trade.trade_id - 1)
                ledger.next_id = trade.trade_id
            self._last_aggregate_id = number
        return super().take(trade, event_time, market_time, now)

    def _restart_ids(self, seen_at: int) -> None:
        self._last_aggregate_id = _NONE
        super()._restart_ids(seen_at)

    def _put_in(self, bucket: Bucket, trade: Trade) -> None:
        bucket.add_aggregate(trade, _last_id(trade))

    def _approximate(self, aggregate: TradeRange) -> int:
        return self._fill_range(aggregate)  # it brings nothing else

    def _put_range_in(self, bucket: Bucket, first: Trade, last_id: int) -> None:
        bucket.add_aggregate(first, last_id)


def _last_id(trade: Trade) -> int:
    """Return the last id of an aggregate; of anything else, that it is one."""
    aggregate: AggregateTrade = trade  # type: ignore[assignment]
    return aggregate.last_trade_id


def _number(trade: Trade) -> int:
    aggregate: AggregateTrade = trade  # type: ignore[assignment]
    return aggregate.aggregate_id
