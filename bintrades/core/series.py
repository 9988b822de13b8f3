"""One series: the trades of one symbol in, its bars and its checkpoints out. Pure.

`T` alone decides a trade's interval; the open and close price go by trade id. A bar closes when the
exchange's clock, as seen from its symbol, has passed its end by the grace period; a trade that
comes later still is not lost but amends the bar.
"""

from __future__ import annotations

import decimal
from enum import Enum
from typing import TYPE_CHECKING

from bintrades.core.bucket import Bucket, new_bucket, reopened_bucket
from bintrades.core.freshness import WITNESSED_WITHIN_MS
from bintrades.core.gap_ranges import DISORDER_MS
from bintrades.core.ledger import Ledger
from bintrades.core.newest_ids import NEWEST_WITHIN_MS
from bintrades.core.proof import LAG_MS, NewestId
from bintrades.core.renumbering import RenumberingDetector
from bintrades.core.write_batch import ALL_IDS, Checkpoint
from bintrades.model import EXACT, GapCause, GapOutcome, GapSet, IdLaw, Trade

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bintrades.core.backfill_result import BackfillResult
    from bintrades.core.write_batch import WriteBatch
    from bintrades.model import Gap, SeriesKey, TradeRange

NEVER = 2**63
"""A time that no clock reaches."""

SAVE_WITHIN_MS = 60_000
"""Within which a series that has grown is saved, and 500 trades at most are not."""

_NO_TRADE = (0, 0)  # by its id and `T`
_SAVE_AFTER_TRADES = 500  # what a crash makes fetch again, at most
_MAX_ID_JUMP = 100_000  # more ids ahead are not believed of a message that cannot be used
_SAID_WITHIN_MS = 1_000  # the exchange says in whole seconds when it answers
_KNOWN_WITHIN_MS = 60_000  # of trades so young, the exchange's word cannot be without all
_STILL_ACTIVE_MS = 100  # a symbol that traded so recently may trade again in the bar that is due
_JITTER_MS = 50  # by which a symbol seems to be behind because trades are read a few at a time
_RECHECK_AFTER_MS = 1_000  # of a symbol whose clock is behind the others', which may change


class Taken(Enum):
    """What became of a trade."""

    NEXT = "next"
    """Counted: the next id, in the open bar. Nothing else has changed; so it is with nearly all."""

    COUNTED = "counted"
    UNWANTED = "unwanted"
    """From before the beginning: no bar wants it."""

    DUPLICATE = "duplicate"
    PARTLY_KNOWN = "partly known"
    """Not counted: some trades of an aggregate were had, so that the others are missing now."""

    EXCLUDED = "excluded"
    """Its id is known now, but it is no fill of the order book: no bar has it."""

    RENUMBERED = "renumbered"
    """Counted as the first one of ids that restart."""


# Names of the module, since to take a member from its enum costs as much as a call.
NEXT, COUNTED, UNWANTED, DUPLICATE, PARTLY_KNOWN, EXCLUDED, RENUMBERED = Taken
_SKIPPED = GapCause.SKIPPED


class Awaited(Enum):
    """What became of a trade that the exchange has, and that was awaited."""

    STILL = "still"
    CAME = "came"
    MISSED = "missed"
    """It is missing: it happened while nobody listened."""

    NOT_SENT = "not sent"
    """It is missing, though its stream was listened to: that is dead."""


class Series:
    """One symbol: its ledger, its open buckets and its view of the exchange's clock.

    What is to be written down goes to *changes*, which all series share. Times called *now* are
    milliseconds on any clock that never goes back; all others are milliseconds since the epoch on
    the exchange's clock.
    """

    __slots__ = (
        "_agreed_at",
        "_asked_after",
        "_awaited",
        "_buckets",
        "_changes",
        "_closed_through",
        "_connected_at",
        "_connections",
        "_covered_since",
        "_current",
        "_event_time",
        "_gap_cause",
        "_gap_set",
        "_grace",
        "_heard_at",
        "_interval",
        "_ledger",
        "_market_time",
        "_marks",
        "_published",
        "_renumbering",
        "_save_by",
        "_saved",
        "_saved_proof",
        "_unwanted_before",
        "due",
        "key",
        "save_delay_ms",
        "symbol",
    )

    def __init__(
        self,
        key: SeriesKey,
        changes: WriteBatch,
        checkpoint: Checkpoint | None = None,
        *,
        interval_ms: int,
        grace_ms: int,
    ) -> None:
        self.key = key
        self.symbol = key.symbol
        self.due = NEVER
        """The clock at which the first of the open buckets closes."""
        self.save_delay_ms = 0
        """How much later it is saved than others, which changed at the same moment."""
        self._interval = interval_ms
        self._grace = grace_ms
        self._changes = changes
        self._ledger = (
            Ledger(checkpoint.ledger, checkpoint.proven_ms) if checkpoint else Ledger(None)
        )
        self._saved = self._ledger.state  # as last collected; None: its open bars are other ones
        self._covered_since = checkpoint.covered_since_ms if checkpoint else None
        if self._ledger.wanted_since is not None:
            self._cover_since(self._ledger.wanted_since)
        self._saved_proof = self._proof  # as last collected
        # When what is not saved must be; monotonic; None: nobody has asked yet.
        self._save_by: int | None = None
        self._buckets: dict[int, Bucket] = {}
        # The bucket of the last trade, most often the next one's. None when all is saved, so that
        # the first trade thereafter goes the long way: there is something to save again.
        self._current: Bucket | None = None
        # Newest open time of which a bar may be stored.
        self._closed_through = checkpoint.closed_through if checkpoint else None
        self._event_time = 0  # newest `E` of this symbol; 0: none since the start
        self._market_time = 0  # the market's clock at that moment
        self._heard_at = -1  # when its last trade came; monotonic
        self._connected_at = 0  # since when without a break a connection has carried it
        self._connections = 0  # that carry this symbol now
        self._gap_cause = GapCause.RESTART if checkpoint else GapCause.SKIPPED  # of the next gap
        self._unwanted_before = 0  # when the first interval opens, once its first id is known
        self._renumbering = RenumberingDetector()
        self._awaited: NewestId | None = None  # that the exchange has had, and no stream brought
        self._marks: tuple[tuple[int, int], ...] = ()  # newest trades of before, with their `T`
        self._asked_after = _NO_TRADE  # the newest one when it was to be a witness, likewise
        self._agreed_at = -1  # when it last knew of no trade that is not known here; monotonic
        self._gap_set = self._published = GapSet(self.symbol)  # the latter as last taken
        if checkpoint:
            for bar in checkpoint.open_bars:
                self._buckets[bar.open_time_ms] = reopened_bucket(key, bar)
            self._reschedule()
        self._set_up(checkpoint)

    def _set_up(self, checkpoint: Checkpoint | None) -> None:
        """Set up what a kind of series has besides, at the end of the constructor."""

    @property
    def open_bar_count(self) -> int:
        """Bars that still take trades."""
        return len(self._buckets)

    @property
    def is_carried(self) -> bool:
        """Whether a connection carries it."""
        return self._connections > 0

    @property
    def gap_set(self) -> GapSet:
        """What is missing now: the same object for as long as nothing of it changes."""
        known, ledger = self._gap_set, self._ledger
        if ledger.gaps is not known.missing or ledger.absent is not known.absent:
            known = GapSet(self.symbol, ledger.gaps, ledger.absent, known.answers)
            self._gap_set = known
        return known

    def take_gap_set(self) -> GapSet | None:
        """Return what is missing if it has changed since this was called; else None.

        An answer of the backfill is a change as well.
        """
        gaps = self.gap_set
        if gaps is self._published:
            return None
        self._published = gaps
        return gaps

    def connected(self, now: int) -> None:
        """Count a connection that carries this symbol: its clock runs from here on."""
        self._connections += 1
        if self._connections == 1:
            self._connected_at = now
            if self._event_time:
                self._gap_cause = GapCause.RECONNECT

    def disconnected(self) -> None:
        """Count one less: without any, no bar closes."""
        self._connections -= 1

    def take(self, trade: Trade, event_time: int, market_time: int, now: int) -> Taken:
        """Take a trade that came at *now*; *event_time* is its `E` as far as it is believed.

        *market_time* is the exchange's clock after it. The caller has set a decimal context that
        never rounds. Unless it is NEXT, there is something to save, and `due` may have changed.
        """
        if event_time > self._event_time:
            self._event_time = event_time
            self._market_time = market_time
        self._heard_at = now
        bucket = self._current
        if bucket is not None and event_time < self.due:
            time = trade.time
            if bucket.open_time <= time < bucket.end_time:
                ledger, trade_id = self._ledger, trade.trade_id
                if trade_id == ledger.next_id:  # Ledger.admit: a call would cost a tenth of it all
                    ledger.next_id = trade_id + 1
                    ledger.last_time = time
                    bucket.add(trade)
                    return NEXT
        return self._take_other(trade, event_time)

    def fill(self, result: BackfillResult) -> int:
        """Take what the exchange answered about a gap; return how many trades that adds.

        Trades, ids that do not exist, or an error. Old trades say nothing about the clock.
        """
        known = self._gap_set
        self._gap_set = GapSet(self.symbol, known.missing, known.absent, known.answers + 1)
        ledger = self._ledger
        if ledger.next_id is None or result.gap.last_id >= ledger.next_id:
            return 0  # asked before the ids restarted: nothing of it concerns the new ones
        gap = ledger.record_attempt(result.gap.first_id, result.error)
        if gap is not None:
            self._changes.attempts[self.symbol, gap.last_id] = gap.attempts
        # While it was asked about, an earlier trade may have come that moved the beginning.
        beginning = ledger.beginning
        if (
            result.begins_at is not None
            and beginning is not None
            and result.gap.since_ms <= beginning
        ):
            self._begin_at(result.begins_at, beginning, result)
        if result.abandoned_through is not None:
            ledger.abandon(
                result.abandoned_through,
                result.abandoned_before_ms,
                first_id=result.abandoned_from,
                reason=result.abandoned_because,
            )
        with decimal.localcontext(EXACT):
            count = sum(map(self._fill_range, result.ranges))
            count += sum(map(self._approximate, result.approximations))
        for first_id, last_id in result.excluded:
            self._exclude(first_id, last_id)
        for first_id, last_id in result.unwanted:
            ledger.forget(first_id, last_id)
            self._resolve(first_id, last_id, GapOutcome.UNWANTED)
        for first_id, last_id in result.absent:
            ledger.close_absent(first_id, last_id, result.absent_at)
            self._resolve(first_id, last_id, GapOutcome.ABSENT)
        self._record_reopened()
        return count

    def settle_approximated(self, first_id: int, last_id: int) -> None:
        """Have bars that were made again of trades no longer need what stood in for those."""
        self._ledger.settle_approximated(first_id, last_id)

    def restart_ids(self, first_at: int) -> bool:
        """Have ids have restarted, as past trades show; return whether that is news.

        *first_at* is when the first trade of all happened that the exchange has now. What was known
        before that is of the ids of before; what has come since is of the new ones.
        """
        ledger = self._ledger
        if ledger.next_id is None:
            return False
        if ledger.last_time < first_at:
            self._restart_ids(first_at)
            return True
        gap = ledger.last_gap_after(first_at)
        if gap is None:
            return False
        begun = self._open_time(gap.since_ms + DISORDER_MS) + self._interval  # behind bars of then
        self._resolve(0, gap.first_id - 1, GapOutcome.RENUMBERED)
        renumbered = Ledger.renumbered_within(ledger, gap, begun, first_at)
        self._begin_numbering(renumbered, begun, gap.last_id)
        return True

    def lose(self, gaps: Sequence[Gap]) -> None:
        """Have trades be missing again that were had: the bars that held them are lost."""
        self._ledger.lose(gaps)
        self._saved = None  # the journal has them as missing, whatever was collected last

    def want_since(self, time: int) -> bool:
        """Want all trades since the interval of *time* began; return whether that is news.

        It is where none was ever wanted: the first ones may be lost on the way.
        """
        if self._ledger.next_id is not None or self._ledger.wanted_since is not None:
            return False
        self._ledger.want_since(self._open_time(time))
        self._cover_since(self._open_time(time))
        return True

    def set_clock_back(self, time: int) -> None:
        """Undo what was done by a clock that was ahead: the exchange's time is *time*.

        That is, since when trades are wanted, and which gaps are too old to be asked for.
        """
        self._ledger.reconsider()
        self._ledger.want_no_later(self._open_time(time))
        if self._ledger.wanted_since is not None:
            self._cover_since(self._ledger.wanted_since)
        if self._ledger.proven is not None and self._ledger.proven > time:
            self._ledger.proven = None  # until the next trade, or word, proves all before it
        if self._event_time > time:
            self._event_time = self._market_time = time

    def take_newest_id(self, trade_id: int | None, proves: int, said_at: int, now: int) -> bool:
        """Take the id of its newest trade as the exchange has it; return whether one is awaited.

        None: it had none within NEWEST_WITHIN_MS. *said_at* is when the exchange said so, *now*
        when that came, and *proves* up to when nothing can be missing if no newer trade was
        known then. A lower id than the last one proves nothing: the word is older, or ids have
        restarted.
        """
        ledger = self._ledger
        if trade_id is None:
            known = ledger.wanted_since if ledger.proven is None else ledger.proven
            since = said_at - NEWEST_WITHIN_MS + LAG_MS
            had_none = ledger.next_id is None or ledger.last_time < since
            if had_none and known is not None and known >= since:
                self._agree(proves, said_at, now)
        elif ledger.next_id is None:
            if ledger.wanted_since is not None:
                self._fix_beginning()
                self._lack_through(trade_id, said_at + _SAID_WITHIN_MS, _SKIPPED, proves)
                self._agree(proves, said_at, now)
        elif self._is_newest(trade_id, ledger.next_id):
            self._agree(proves, said_at, now)
        elif trade_id >= ledger.next_id and not self._is_awaiting:
            self._awaited = NewestId(trade_id, proves, said_at, now)
        return self._is_awaiting

    def settle_awaited(self, now: int) -> Awaited:
        """Look whether the trade that is awaited has come; it is missing if it is overdue."""
        awaited = self._awaited
        if awaited is None:
            return Awaited.CAME
        if self._is_awaiting and not awaited.is_overdue(now):
            return Awaited.STILL
        self._awaited = None
        if self._ledger.next_id is None:
            return Awaited.CAME  # ids have restarted meanwhile
        if awaited.trade_id < self._ledger.next_id:
            self._agree(awaited.proves, awaited.said_at, now)
            return Awaited.CAME
        # A trade from before it was connected, and from before anything was known, was not sent.
        was_sent = self._connections > 0 and self._last_known_at >= self._connected_at
        cause = self._gap_cause
        if was_sent:
            cause = GapCause.SILENT_STREAM
        elif cause is _SKIPPED:
            cause = GapCause.RECONNECT
        until = awaited.said_at + _SAID_WITHIN_MS
        self._lack_through(awaited.trade_id, until, cause, awaited.proves)
        self._agree(awaited.proves, awaited.said_at, now)
        return Awaited.NOT_SENT if was_sent else Awaited.MISSED

    def lacked_by(self, trade_id: int | None, said_at: int) -> int | None:
        """Return the id of a trade of the last minute that the exchange's word should have known.

        None: it lacks none. It may be the newest one or, where that came a moment ago, one that was
        it before.
        """
        for known_id, time in (*self._newest, *self._marks):
            if (trade_id is None or trade_id < known_id) and (
                said_at - _KNOWN_WITHIN_MS <= time < said_at - LAG_MS
            ):
                return known_id
        return None

    def is_witness(self, trade_id: int | None, said_at: int) -> bool:
        """Whether the exchange's word has a trade of a moment ago, so that it is fresh.

        Only trades of the stream count, and their times: that of an id which is known by the
        exchange's word alone is a guess. A higher id than any known shows nothing, since ids may
        have restarted since it was given.
        """
        earliest, latest = said_at - WITNESSED_WITHIN_MS, said_at + _SAID_WITHIN_MS
        if self._event_time < earliest:  # so it is with nearly all
            return False
        next_id = self._ledger.next_id
        if trade_id is None or next_id is None or trade_id >= next_id:
            return False
        return any(
            known_id <= trade_id and earliest <= time <= latest
            for known_id, time in (self._last_sent, self._asked_after)
        )

    def mark_asked(self) -> None:
        """Remember which trade is the newest at the moment at which the exchange is asked."""
        self._asked_after = self._last_sent

    def remembered_time(self) -> int:
        """Return `T` of the oldest trade that is remembered to have been the newest; 0: none is."""
        return self._marks[0][1] if self._marks else 0

    def last_heard_at(self) -> int:
        """Return when its last trade came, monotonic; -1: none since the start."""
        return self._heard_at

    def mark_newest(self) -> None:
        """Remember which trade is the newest; call it every few seconds.

        Six are remembered, so that there is always one a little older than a word may lag.
        """
        self._marks = (*self._marks[-5:], *self._newest)

    def settle_proof(self) -> None:
        """Take over what the trades so far prove; call it while the market's clock is confirmed."""
        ledger = self._ledger
        if ledger.next_id is not None and self._event_time:
            ledger.prove(self._last_sent_time)
            if self._covered_since is None:  # nobody knew what time it was when it began
                self._covered_since = ledger.proven

    def needs_proof(self, clock: int, older_than_ms: int) -> bool:
        """Whether it has a bar that is not proven to be whole, or no proof of late."""
        proven = self._ledger.proven
        if proven is None or self.is_unproven:
            return True
        return not clock or clock - proven >= older_than_ms

    @property
    def is_unproven(self) -> bool:
        """Whether a closed bar is not proven to have all of its trades."""
        through, proven = self._closed_through, self._ledger.proven
        return through is not None and (proven is None or through + self._interval > proven)

    def is_proven(self, until: int) -> bool:
        """Whether all trades until then are known."""
        proven = self._ledger.proven
        return proven is not None and proven >= until and not self.is_unproven

    def observe_unusable(self, trade_id: int | None, clock: int) -> bool:
        """Record a trade in a message that cannot be used; return whether it is missing now.

        It is if its id is known and believed; otherwise only the exchange knows what it was.
        """
        next_id = self._ledger.next_id
        if trade_id is None or next_id is None or not clock or trade_id - next_id > _MAX_ID_JUMP:
            return False
        self._ledger.lack_through(trade_id, clock, GapCause.UNUSABLE)
        self._current = None  # the next trade tells by when it happened
        return True

    def close_due(self, market_time: int, now: int) -> int:
        """Close the bars that are due though no trade comes; return when to look again.

        Both times are the market's clock: no symbol's is ahead of it, which is the newest of all.
        Without a connection, or a bar, there is nothing to look at until there is one: NEVER.
        """
        if not self._buckets or not self._connections:
            return NEVER
        if self.due > market_time:  # those that were due closed by trades of its own
            return self.due
        wait = (
            max(
                self._heard_at + min(_STILL_ACTIVE_MS, self._grace),
                self._connected_at + self._grace,
            )
            - now
        )
        if wait <= 0:
            clock = market_time
            behind = self._market_time - self._event_time  # the others, which remains
            if self._event_time and behind > _JITTER_MS:
                clock -= behind
            if clock >= self.due:
                self._close(clock)
                return self.due
            wait = min(self.due - clock, _RECHECK_AFTER_MS)
        return market_time + wait

    def finish_open(self) -> None:
        """Hand out the open bars as well, unclosed: there will be no more trades."""
        for bucket in self._buckets.values():
            self._finish(bucket, is_closed=False)

    def give_up_since(self, until: int) -> None:
        """Be as if no trade of the open bars had come, where all of those are of *until* or later.

        Whoever goes on asks for them. Only where ids are consecutive, and of single trades.
        """
        ledger, buckets = self._ledger, self._buckets.values()
        opens = min(self._buckets, default=0)  # later than *until* where bars have closed meanwhile
        if ledger.next_id is None or opens < until:
            return
        first_id = min(bucket.first_id for bucket in buckets)
        count = sum(bucket.buy_count + bucket.sell_count for bucket in buckets)
        if ledger.next_id - first_id == count:  # else one of these ids is missing, or absent
            ledger.rewind(first_id, opens)
            self._buckets.clear()
            self._current = self._awaited = self._saved = None
            self._reschedule()

    def must_be_saved(self, now: int) -> bool:
        """Whether a crash would lose more than a little that the exchange would send again."""
        saved, ledger = self._saved, self._ledger
        if saved is None or saved.next_id is None or ledger.next_id is None:
            return True
        if ledger.next_id - saved.next_id >= _SAVE_AFTER_TRADES or ledger.gaps is not saved.gaps:
            return True
        if ledger.absent != saved.absent or (self._was_unproven and not self.is_unproven):
            return True
        if self._save_by is None:
            self._save_by = now + SAVE_WITHIN_MS // 2 + self.save_delay_ms
        return now >= self._save_by

    def checkpoint(self) -> None:
        """Hand out all that is needed to go on after a restart, if it has changed."""
        self._current = None
        self._save_by = None
        state = self._ledger.state
        proof = self._proof
        if state is None or (state == self._saved and proof == self._saved_proof):
            return  # a trade that changes a bar changes the ledger, too
        self._saved, self._saved_proof = state, proof
        open_bars = tuple(
            bucket.bar(self.symbol, self.key.market, is_closed=False)
            for bucket in self._buckets.values()
        )
        self._changes.checkpoints[self.symbol] = Checkpoint(
            state, open_bars, self._closed_through, *proof, self._known_fill_id
        )

    def _take_other(self, trade: Trade, event_time: int) -> Taken:
        """Take a trade that is not the next one of the current bar."""
        time = trade.time
        if self._ledger.next_id is None:
            self._fix_beginning(time)
        if not self._admit(trade):
            if not self._have_ids_restarted(trade):
                return DUPLICATE
            self._restart_ids(self._renumbering.since)
            self._take_other(trade, time)
            return RENUMBERED
        if self._ledger.reopened:
            self._record_reopened()
        self._gap_cause = _SKIPPED
        if time < self._unwanted_before:
            return UNWANTED  # ids and times disagree: the rest of its interval will not come
        taken = self._count(trade)
        if event_time >= self.due:
            self._close(event_time)
        return taken

    def _count(self, trade: Trade) -> Taken:
        """Put a trade with a new id where it belongs; return what became of it."""
        bucket = self._current
        if bucket is not None and bucket.open_time <= trade.time < bucket.end_time:
            self._put_in(bucket, trade)
        else:
            self._add_elsewhere(trade)
        return COUNTED

    def _admit(self, trade: Trade) -> bool:
        """Record the id of *trade*; return whether it is to be counted."""
        return self._ledger.admit(trade.trade_id, trade.time, self._gap_cause)

    def _put_in(self, bucket: Bucket, trade: Trade) -> None:
        """Count *trade*, which came on a stream."""
        bucket.add(trade)

    def _put_range_in(self, bucket: Bucket, first: Trade, last_id: int) -> None:
        """Count past trades up to *last_id*; *first* is the first with the quantity of all."""
        bucket.add_range(first, last_id)

    @property
    def _newest(self) -> tuple[tuple[int, int], ...]:
        """Id and `T` of the newest trade, if there is one."""
        ledger = self._ledger
        return () if ledger.next_id is None else ((ledger.next_id - 1, ledger.last_time),)

    @property
    def _known_fill_id(self) -> int | None:
        """The newest id that is known to be of a fill, unless that is the newest of all."""
        return None

    @property
    def _last_sent(self) -> tuple[int, int]:
        """Id of the newest trade, and its `T` as far as a stream has brought it."""
        if not self._newest:
            return _NO_TRADE
        ((trade_id, time),) = self._newest
        return trade_id, min(time, self._event_time)

    def _is_newest(self, trade_id: int, next_id: int) -> bool:
        """Whether no newer trade is known than *trade_id*; *next_id* comes next."""
        return trade_id == next_id - 1

    def _lack_through(self, trade_id: int, until: int, cause: GapCause, proves: int) -> None:
        """Have all trades up to one that the exchange has named exist: see the ledger."""
        self._ledger.lack_through(trade_id, until, cause, proves)

    @property
    def _last_sent_time(self) -> int:
        """`T` of the newest trade that a stream has brought, at most; 0: none since the start."""
        return min(self._ledger.last_time, self._event_time)

    @property
    def _proof(self) -> tuple[int | None, int | None]:
        return self._ledger.proven, self._covered_since

    @property
    def _was_unproven(self) -> bool:
        """Whether a closed bar was not proven when all was last collected."""
        through, proven = self._closed_through, self._saved_proof[0]
        return through is not None and (proven is None or through + self._interval > proven)

    @property
    def _is_awaiting(self) -> bool:
        """Whether the trade that was awaited has not come yet."""
        next_id, awaited = self._ledger.next_id, self._awaited
        return awaited is not None and next_id is not None and awaited.trade_id >= next_id

    @property
    def _last_known_at(self) -> int:
        """When it was last known that no trade is missing that is not on record; monotonic."""
        return max(self._heard_at, self._agreed_at)

    def _agree(self, proves: int, said_at: int, now: int) -> None:
        """Record the exchange's word that it has no trade but those that are known here."""
        self._ledger.end_unusable_by(said_at + _SAID_WITHIN_MS)
        self._ledger.prove(proves)
        self._agreed_at = now

    def _fix_beginning(self, time: int | None = None) -> None:
        """Have trades be wanted since the first interval of which any may have happened.

        Or since that of the first trade that comes, at *time*. Now that one is known, the beginning
        stays: a bar of before it is never complete.
        """
        ledger, since = self._ledger, self._ledger.wanted_since
        if since is None:
            return
        if time is not None:
            since = min(since, self._open_time(time))
        self._cover_since(since)
        if ledger.proven is not None:
            since = max(since, self._open_time(ledger.proven))
        ledger.want_since(since)

    def _cover_since(self, time: int) -> None:
        """Record that trades are collected since *time*, if not since earlier."""
        self._covered_since = min(time, self._covered_since or time)

    def _have_ids_restarted(self, duplicate: Trade) -> bool:
        """Whether an id that was had belongs to another numbering, as on a test network."""
        if duplicate.time < self._ledger.last_time:
            return False
        return self._renumbering.is_proven_by(duplicate, self._bars_end)

    def _open_time(self, time: int) -> int:
        return time - time % self._interval

    @property
    def _bars_end(self) -> int:
        """When the newest bar ends, or 0 if there was none."""
        newest = max(self._buckets, default=self._closed_through)
        return 0 if newest is None else newest + self._interval

    def _restart_ids(self, seen_at: int) -> None:
        """Begin another numbering behind all bars: ids of two numberings do not mix in one.

        The first of it that is known is of a trade at *seen_at*.
        """
        # Without a bar before: what is not wanted was no later than the first new id, and is lost.
        begun = self._bars_end or self._open_time(seen_at)
        self._resolve(0, self._ledger.next_id or 0, GapOutcome.RENUMBERED)
        self._awaited = None  # one of the ids of before
        self._marks, self._asked_after = (), _NO_TRADE
        self._begin_numbering(Ledger.renumbered(self._ledger, begun, seen_at), begun, ALL_IDS)

    def _begin_numbering(self, ledger: Ledger, begun: int, last_id: int) -> None:
        """Go on with the *ledger* of new ids: what was known up to *last_id* is of before them."""
        self._ledger = ledger
        self._unwanted_before = begun
        if self.key.id_law is IdLaw.WITH_FILLERS:
            self._changes.restart_ids(self.symbol, begun, last_id)

    def _begin_at(self, first_id: int, since: int, result: BackfillResult) -> None:
        """Have the first id since the beginning, at *since*, be known: lower ids were before it."""
        self._unwanted_before = since
        if result.has_older:
            self._ledger.on_older()
        self._ledger.forget_below(first_id)
        self._resolve(0, min(first_id - 1, result.gap.last_id), GapOutcome.UNWANTED)

    def _exclude(self, first_id: int, last_id: int) -> None:
        """Have those of these ids that are missing be no fills of the order book."""
        for first, last in self._ledger.close_excluded(first_id, last_id):
            self._changes.exclude(self.symbol, first, last)
            self._resolve(first, last, GapOutcome.EXCLUDED)

    def _resolve(self, first_id: int, last_id: int, outcome: GapOutcome) -> None:
        self._changes.resolved.append((self.symbol, first_id, last_id, outcome))

    def _record_reopened(self) -> None:
        while self._ledger.reopened:
            self._changes.reopened.append((self.symbol, self._ledger.reopened.pop()))

    def _fill_range(self, trades: TradeRange) -> int:
        """Put trades into their bar, as if they had come one by one; return how many are new."""
        if not self._ledger.admit_range(trades.first_id, trades.last_id, trades.time):
            return 0
        self._put_past(trades, self._put_range_in)
        return trades.count

    def _approximate(self, aggregate: TradeRange) -> int:
        """Have an aggregate stand in for missing trades; return whether it does, as a number."""
        if not self._ledger.approximate(aggregate.first_id, aggregate.last_id, aggregate.time):
            return 0
        self._put_past(aggregate, Bucket.add_aggregate)
        return 1

    def _put_past(self, trades: TradeRange, put: Callable[[Bucket, Trade, int], None]) -> None:
        """Put past trades into their bar, unless it is not wanted."""
        # Of before the beginning the exchange has trades, too, but not the rest of their interval.
        if trades.time < max(self._unwanted_before, self._open_time(self._covered_since or 0)):
            return
        first = Trade(
            symbol=self.symbol,
            trade_id=trades.first_id,
            time=trades.time,
            event_time=0,
            price=trades.price,
            quantity=trades.quantity,
            is_buyer_maker=trades.is_buyer_maker,
        )
        open_time = self._open_time(trades.time)
        bucket = self._buckets.get(open_time)
        is_new = bucket is None
        if bucket is None:
            bucket = new_bucket(self.key, open_time, open_time + self._interval, first)
        put(bucket, first, trades.last_id)
        if is_new:
            self._keep(bucket)

    def _add_elsewhere(self, trade: Trade) -> None:
        """Put *trade* into another bucket than the current one."""
        open_time = trade.time - trade.time % self._interval
        bucket = self._buckets.get(open_time)
        if bucket is not None:
            self._put_in(bucket, trade)
            self._current = bucket
            return
        bucket = new_bucket(self.key, open_time, open_time + self._interval, trade)
        self._put_in(bucket, trade)
        if self._keep(bucket):
            self._current = bucket

    def _keep(self, bucket: Bucket) -> bool:
        """Keep a new bucket open, unless its bar may be stored already: then amend that one."""
        if self._closed_through is not None and bucket.open_time <= self._closed_through:
            bar = bucket.bar(self.symbol, self.key.market, is_closed=True)
            self._changes.amend((self.symbol, bucket.open_time), bar)
            return False
        self._buckets[bucket.open_time] = bucket
        self.due = min(self.due, bucket.end_time + self._grace)
        return True

    def _close(self, clock: int) -> None:
        for open_time in sorted(self._buckets):
            bucket = self._buckets[open_time]
            if bucket.end_time + self._grace > clock:
                break
            self._finish(bucket, is_closed=True)
            del self._buckets[open_time]
            if self._closed_through is None or open_time > self._closed_through:
                self._closed_through = open_time
            self._saved = None
        self._current = None
        self._reschedule()

    def _finish(self, bucket: Bucket, *, is_closed: bool) -> None:
        bar = bucket.bar(self.symbol, self.key.market, is_closed=is_closed)
        self._changes.finished[self.symbol, bucket.open_time] = bar

    def _reschedule(self) -> None:
        first = min(self._buckets, default=None)
        self.due = NEVER if first is None else self._buckets[first].end_time + self._grace
