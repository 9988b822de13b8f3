"""Trades in, bars out. Pure: the same batches at the same times give the same bars.

`T` alone decides a trade's interval; the open and close price go by trade id. A bar closes when
the exchange's clock, as seen from its symbol, has passed its end by the grace period; a trade
that comes later still is not lost but amends the bar.
"""

from __future__ import annotations

import decimal
from bisect import bisect_right
from heapq import heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

from bintrades.core.bucket import Bucket
from bintrades.core.ledger import Ledger
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.model import (
    EXACT,
    GapCause,
    GapOutcome,
    GapSet,
    Trade,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence, Set

    from bintrades.core.backfill_result import BackfillResult
    from bintrades.model import Gap, TradeRange

_NEVER = 2**63
_DRIFT_DIVISOR = 1_000  # more than a clock may be wrong, which is some 500 millionths
_SUSPECT_AFTER_MS, _SUSPECT_FACTOR = 60_000, 4  # silence that is checked: at least, and times habit
_RENUMBERED_TRADES = 3  # in a row show that ids have begun anew
_MAX_CLOCK_JUMP_MS = 60_000  # that the clock makes only if two trades say so
_NEAR = 100_000  # more ids than these ahead are not believed of a message that cannot be used
_WRONG_AFTER_MS = 60_000  # that no trade has agreed with the clock: it is ahead, and set back
_DELIVERED_WITHIN_MS = 5_000  # a trade that is younger may still be on its way
_HUSH_MS = 100  # who spoke so recently may be about to say more of the bar that is due
_JITTER_MS = 50  # by which a symbol seems to be behind because trades are read a few at a time
_CLOSED_AT_ONCE = 250  # so that the first of thousands need not wait for the last
_LOOK_AGAIN_MS = 1_000  # at a symbol whose clock is behind the others', which may change
_SAVE_AFTER_TRADES, _SAVE_WITHIN_MS = 500, 60_000  # what a crash makes fetch again, at most


class _Witness(NamedTuple):
    """A trade that says what time it is."""

    symbol: str
    trade_id: int
    time: int

    def is_joined_by(self, other: _Witness) -> bool:
        """Whether *other* is another trade that says about the same."""
        return self[:2] != other[:2] and abs(self.time - other.time) <= _MAX_CLOCK_JUMP_MS


class _Series:
    """One symbol: its ledger, its open buckets and its view of the exchange's clock."""

    __slots__ = (
        "answers",
        "awaited_at",
        "awaited_id",
        "buckets",
        "closed_through",
        "connected_at",
        "connections",
        "current",
        "due",
        "event_time",
        "gap_cause",
        "heard_at",
        "ledger",
        "listened",
        "listening_since",
        "market_time",
        "quiet",
        "save_by",
        "saved",
        "saves_later",
        "stale_count",
        "stale_id",
        "stale_since",
        "suspect_after",
        "symbol",
        "unwanted_before",
        "usual_idle_ms",
        "wakes_at",
    )

    def __init__(self, symbol: str, ledger: Ledger, closed_through: int) -> None:
        self.symbol = symbol
        self.ledger = ledger
        self.answers = 0  # results of the backfill so far
        self.saved = ledger.state  # as last collected; None: its open bars are other ones now
        self.save_by = 0  # when what is not saved must be; monotonic; 0: nobody has asked yet
        self.saves_later = 0  # by how much than other symbols, which changed at the same moment
        self.buckets: dict[int, Bucket] = {}
        # The bucket of the last trade, most often the next one's. None when all is saved, so that
        # the first trade thereafter goes the long way, which notes that there is something to save.
        self.current: Bucket | None = None
        self.closed_through = closed_through  # newest open time of which a bar may be stored
        self.due = _NEVER  # the clock at which the first of the open buckets closes
        self.wakes_at = _NEVER  # the market's clock at which it is looked at whether one is due
        self.event_time = 0  # newest `E` of this symbol; 0: none since the start
        self.market_time = 0  # the market's clock at that moment
        self.heard_at = 0  # when its last trade came, or listening began; monotonic
        self.connected_at = 0  # since when without a break a connection has carried it
        self.connections = 0  # that carry this symbol now
        self.gap_cause: GapCause = GapCause.SKIPPED  # of a gap before the next trade
        self.unwanted_before = 0  # when the first interval opens, once REST has told its first id
        self.stale_id = -2  # of the last trade that is newer than the ledger, but whose id was had
        self.stale_since = 0  # `T` of the first one of those with ids in a row
        self.stale_count = 0  # how many of them are newer than all bars
        self.quiet = 0  # silence at the last look, times without a connection included
        self.listened = self.usual_idle_ms = 0  # those left out; and the longest usual one
        self.suspect_after = _SUSPECT_AFTER_MS
        self.listening_since = 0  # when it was connected, on the exchange's clock; 0: not known yet
        self.awaited_id = -1  # a trade that REST has had since awaited_at, but the stream not
        self.awaited_at = 0

    def must_be_saved(self, now: int) -> bool:
        """Whether a crash would lose more than a bit, of which the exchange would tell again."""
        saved, ledger = self.saved, self.ledger
        if saved is None or saved.next_id is None or ledger.next_id is None:
            return True
        if ledger.next_id - saved.next_id >= _SAVE_AFTER_TRADES or ledger.gaps is not saved.gaps:
            return True
        if ledger.absent != saved.absent:
            return True
        if not self.save_by:
            self.save_by = now + _SAVE_WITHIN_MS // 2 + self.saves_later
        return now >= self.save_by


class Aggregator:
    """Builds the bars of all symbols. Every call comes from one thread.

    Times called *now* are milliseconds on any clock that never goes back; all others are
    milliseconds since the epoch on the exchange's clock.
    """

    def __init__(
        self, symbols: Iterable[str], *, market: str, interval_ms: int, grace_ms: int
    ) -> None:
        self._market = market
        self._interval = interval_ms
        self._grace = grace_ms
        self._series = {symbol: _Series(symbol, Ledger(), -1) for symbol in symbols}
        self._spread_saves()
        self._unsaved: dict[str, _Series] = {}  # with trades or gaps that were not collected yet
        self._wakes: list[tuple[int, str]] = []  # a heap: when which symbol may have a bar due
        self._changes = WriteBatch()
        self._collected_through = ""  # the last symbol of whose bars only some were collected
        self._market_time = 0  # newest `E` of any symbol
        self._market_at = 0  # when it came
        self._leap: _Witness | None = None  # the last trade from far ahead of the clock
        self._lag: _Witness | None = None  # the last one from far behind, while none agrees
        self._only_witness: tuple[str, int] | None = None  # whose time is the clock's, so far
        self._agreed_at = 0  # when a trade last agreed with the clock
        self._has_begun = False  # whether a trade has come since the start
        self.has_just_begun = False  # and nothing was collected since
        self._connections = 0
        self.trade_count = 0
        self.duplicate_count = 0
        self.repaired_count = 0
        self.foreign_count = 0  # trades of symbols that nobody asked for
        self.renumbered: list[str] = []  # symbols whose ids began anew, for whoever tells of it
        self.bar_count = 0

    @property
    def symbols(self) -> Set[str]:
        """What bars are built of."""
        return self._series.keys()

    @property
    def waiting_bar_count(self) -> int:
        """Bars for the stores that were not collected yet."""
        return len(self._changes.finished) + len(self._changes.amendments)

    @property
    def open_bar_count(self) -> int:
        """Bars that still take trades."""
        return sum(len(series.buckets) for series in self._series.values())

    def resume(self, checkpoints: Mapping[str, Checkpoint]) -> None:
        """Continue where the journal ends; call it before the first trade."""
        for symbol in checkpoints.keys() & self._series.keys():
            checkpoint = checkpoints[symbol]
            series = _Series(symbol, Ledger(checkpoint.ledger), checkpoint.closed_through)
            series.gap_cause = GapCause.RESTART
            for bar in checkpoint.open_bars:
                series.buckets[bar.open_time_ms] = Bucket.reopened(bar)
            self._series[symbol] = series
            self._reschedule(series)
        self._spread_saves()

    def _spread_saves(self) -> None:
        """Have symbols that are saved because time has passed not all be saved in one moment."""
        for number, series in enumerate(self._series.values()):
            series.saves_later = number * (_SAVE_WITHIN_MS // 2) // len(self._series)

    def connected(self, symbols: Iterable[str], now: int) -> None:
        """Note that a connection carries *symbols*: their clocks run from here on."""
        if not self._connections:
            self._market_at = now
        self._connections += 1
        for symbol in symbols:
            series = self._series[symbol]
            series.connections += 1
            series.heard_at = series.heard_at or now
            if series.connections == 1:
                series.connected_at = now
                series.listening_since = 0
                if series.event_time:
                    series.gap_cause = GapCause.RECONNECT
            self._wake(series, series.due)

    def disconnected(self, symbols: Iterable[str], now: int) -> None:
        """Note that such a connection is gone: without one, a clock stands still."""
        if self._connections == 1:
            self._market_time = self.clock(now)
        self._connections -= 1
        for symbol in symbols:
            series = self._series[symbol]
            series.connections -= 1

    def clock(self, now: int) -> int:
        """Return the exchange's clock: the newest `E`, carried forward while connected.

        It is 0 before the first. It is carried a little slowly, so that a local clock that runs
        fast never gets ahead of the exchange's; what the exchange says next sets it right.
        """
        if not self._connections or not self._market_time:
            return self._market_time
        passed = now - self._market_at
        return self._market_time + passed - passed // _DRIFT_DIVISOR

    def confirmed_clock(self, now: int) -> int:
        """Return the clock for what cannot be undone: 0 as long as only one trade tells it.

        The newest trade that REST knows of a halted symbol may be days old, and a first message
        may be of any time: until the stream agrees, bars must not grow old by either.
        """
        return 0 if self._only_witness is not None else self.clock(now)

    def add(self, trades: Sequence[Trade], now: int) -> None:
        """Take trades in the order in which they came, received at *now*."""
        if not trades:
            return
        market_time = self._clock_before(trades, now)
        if not self._has_begun:
            self._begin(market_time)
        series_of = self._series.get
        counted = 0
        with decimal.localcontext(EXACT):
            for trade in trades:
                series = series_of(trade.symbol)
                if series is None:
                    self.foreign_count += 1
                    continue
                event_time = trade.event_time
                if event_time > market_time:
                    if event_time > market_time + _MAX_CLOCK_JUMP_MS:
                        witness = _Witness(trade.symbol, trade.trade_id, event_time)
                        event_time = self._confirmed(witness, market_time)
                    market_time = event_time
                if event_time > series.event_time:
                    series.event_time = event_time
                    series.market_time = market_time
                series.heard_at = now
                bucket = series.current
                if (
                    bucket is not None
                    and bucket.open_time <= trade.time < bucket.end_time
                    and event_time < series.due
                    and series.ledger.admit_next(trade.trade_id, trade.time)
                ):
                    bucket.add(trade)  # as nearly every trade: the next one, for the same bar
                    counted += 1
                else:
                    self._add(series, trade, event_time)
        self.trade_count += counted
        if market_time > self.clock(now):
            self._market_time = market_time
            self._market_at = now

    def _clock_before(self, trades: Sequence[Trade], now: int) -> int:
        """Return the clock, judged by the last of *trades*; the first trade of all sets it.

        A single trade may be wrong: until another one agrees, whatever contradicts it is believed.
        """
        clock, first, last = self.clock(now), trades[0], trades[-1]
        if not clock:
            clock = min(first.event_time, first.time + _MAX_CLOCK_JUMP_MS)
            self._set_clock(clock, now, (first.symbol, first.trade_id))
        if last.event_time < clock - _MAX_CLOCK_JUMP_MS:
            witness = _Witness(last.symbol, last.trade_id, last.event_time)
            return self._set_back(witness, clock, now)
        if last.event_time <= clock + _MAX_CLOCK_JUMP_MS:
            self._agreed_at = now
            if self._only_witness != (last.symbol, last.trade_id):
                self._only_witness = None
        return clock

    def _set_clock(self, clock: int, now: int, only_witness: tuple[str, int] | None) -> None:
        self._market_time, self._market_at = clock, now
        self._only_witness = only_witness
        self._agreed_at = now

    def _set_back(self, witness: _Witness, clock: int, now: int) -> int:
        """Return the clock after a trade from far behind it, which is late or proves it wrong.

        It is wrong if only one trade has ever said so, or if none has agreed for a while and two
        say otherwise. What was done by it that would last is done again: which symbols are wanted
        since when, and which gaps are too old to be asked for.
        """
        if self._only_witness is None:
            lag, self._lag = self._lag, witness
            is_late = now - self._agreed_at < _WRONG_AFTER_MS
            if is_late or lag is None or not lag.is_joined_by(witness):
                return clock
        self._set_clock(witness.time, now, witness[:2])
        for series in self._series.values():
            series.ledger.reconsider()
            series.ledger.want_no_later(self._open_time(witness.time))
            if series.event_time > witness.time:
                series.event_time = series.market_time = witness.time
            series.wakes_at = _NEVER  # it was to be looked at by the wrong clock
            self._wake(series, series.due)
            self._unsaved[series.symbol] = series
        return witness.time

    def _confirmed(self, witness: _Witness, clock: int) -> int:
        """Return the clock after a trade from far ahead of it: only another one confirms that.

        It may have been a long time without a connection, or a bad message: from the time that
        this would bring, the clock would not come back for a while. Where two disagree it is at
        least what both say.
        """
        leap, self._leap = self._leap, witness
        if leap is None or leap[:2] == witness[:2] or leap.time <= clock:
            return clock
        return witness.time if leap.is_joined_by(witness) else min(leap.time, witness.time)

    def _open_time(self, time: int) -> int:
        return time - time % self._interval

    def _begin(self, event_time: int) -> None:
        """Want all trades since the current interval began, of symbols that have not traded yet.

        Their first trades may be lost on the way; that they are wanted must outlast a crash.
        """
        self._has_begun = self.has_just_begun = True
        for series in self._series.values():
            if not series.ledger.last_time:
                series.ledger.want_since(self._open_time(event_time))
                self._unsaved[series.symbol] = series

    def repair(self, repaired: BackfillResult) -> None:
        """Take what the exchange answered about a gap: trades, ids that do not exist, or an error.

        Old trades say nothing about the exchange's clock.
        """
        series = self._series[repaired.symbol]
        series.answers += 1
        series.ledger.gaps_changed = True
        if repaired.gap.last_id >= (series.ledger.next_id or 0):
            return  # asked before the ids began anew: nothing of it concerns the new ones
        self._unsaved[series.symbol] = series
        ledger = series.ledger
        gap = ledger.record_attempt(repaired.gap.first_id, repaired.error)
        if gap is not None:
            self._changes.attempts[series.symbol, gap.last_id] = gap.attempts
        # While it was asked about, an earlier trade may have come that moved the beginning.
        if repaired.begins_at is not None and repaired.gap.since_ms <= ledger.beginning:
            series.unwanted_before = ledger.beginning
            if repaired.has_older:
                ledger.on_older()
            ledger.forget_below(repaired.begins_at)
            last_id = min(repaired.begins_at - 1, repaired.gap.last_id)
            self._changes.resolved.append((series.symbol, 0, last_id, GapOutcome.UNWANTED))
        if repaired.abandoned_through is not None:
            ledger.abandon(repaired.abandoned_through, repaired.abandoned_before_ms)
        with decimal.localcontext(EXACT):
            for run in repaired.runs:
                is_too_early = ledger.is_too_early(run.first_id, run.time)
                if ledger.admit_run(run.first_id, run.last_id, run.time):
                    self.repaired_count += run.count
                    if not is_too_early:
                        self._add_run(series, run)
        for first_id, last_id in repaired.absent:
            ledger.close_absent(first_id, last_id, repaired.absent_at)
            self._changes.resolved.append((series.symbol, first_id, last_id, GapOutcome.ABSENT))
        self._record_reopened(series)

    def lose(self, symbol: str, gaps: Sequence[Gap]) -> None:
        """Note that bars of *symbol* were lost which had the trades in *gaps*: they are wanted."""
        self._changes.lose(symbol, gaps)
        series = self._series.get(symbol)
        if series is not None:
            series.ledger.lose(gaps)
            series.saved = None  # the journal has them as missing, whatever was collected last
            self._unsaved[symbol] = series

    def on_latest_trade(self, symbol: str, trade_id: int, time: int, now: int) -> bool:
        """Note the newest trade that REST knows; return whether its stream is dead.

        A trade of this moment may still be on its way: then the symbol is suspected again soon,
        and the stream is dead if that same trade has not come meanwhile.
        """
        self._hear_newest(_Witness(symbol, trade_id, time), now)
        series = self._series[symbol]
        self._unsaved[symbol] = series
        next_id = series.ledger.next_id
        if next_id is not None and trade_id < next_id:
            return False
        if next_id is None and time < (wanted_since := series.ledger.last_time):
            # There was none until a moment ago: its first one need not be looked for before.
            sure = self.clock(now) - _SUSPECT_AFTER_MS
            series.ledger.want_since(max(wanted_since, self._open_time(sure)))
            return False
        if next_id is None and not self._has_begun:
            return False
        if self.clock(now) - time < _DELIVERED_WITHIN_MS and not self._is_overdue(series, now):
            if series.awaited_id < (next_id or 0):
                series.awaited_id, series.awaited_at = trade_id, now
            series.suspect_after = 0
            return False
        is_dead = time >= series.listening_since
        cause = series.gap_cause
        if is_dead or cause == GapCause.SKIPPED:
            cause = GapCause.SILENT_STREAM
        series.ledger.on_latest_trade(trade_id, time, cause)
        series.suspect_after = series.quiet + max(
            _SUSPECT_AFTER_MS, _SUSPECT_FACTOR * series.usual_idle_ms
        )
        return is_dead

    def on_unusable(self, symbol: str, trade_id: int | None, now: int) -> None:
        """Note that the stream of *symbol* has brought a trade in a message of no use.

        It is missing at once if its id can be told and believed; otherwise the symbol is suspected.
        """
        series = self._series.get(symbol)
        if series is None:
            return
        next_id, clock = series.ledger.next_id, self.clock(now)
        if trade_id is None or next_id is None or not clock or trade_id - next_id > _NEAR:
            series.suspect_after = 0
        else:
            series.ledger.on_latest_trade(trade_id, clock, GapCause.UNUSABLE)
            self._unsaved[symbol] = series

    def _hear_newest(self, witness: _Witness, now: int) -> None:
        """Have the exchange's clock be at least where REST's newest trade is."""
        clock = self.clock(now)
        if not clock:
            self._set_clock(witness.time, now, witness[:2])
        elif witness.time > clock:
            is_leap = witness.time > clock + _MAX_CLOCK_JUMP_MS
            self._market_time = self._confirmed(witness, clock) if is_leap else witness.time
            self._market_at = now

    def _is_overdue(self, series: _Series, now: int) -> bool:
        is_missing = series.awaited_id >= (series.ledger.next_id or 0)
        return is_missing and now - series.awaited_at >= _DELIVERED_WITHIN_MS

    def idle_symbols(self, now: int) -> list[str]:
        """Return the connected symbols that have been silent for far longer than is their habit.

        Call it every few seconds: habits are learned from one call to the next. A symbol is
        returned again only when it has been silent for twice as long.
        """
        idle_symbols = []
        clock = self.clock(now)
        for series in self._series.values():
            if not series.connections:
                continue
            if not series.listening_since:
                series.listening_since = clock
            quiet = now - series.heard_at
            if quiet < series.quiet:  # it has traded since the last look
                series.usual_idle_ms = max(series.listened, series.usual_idle_ms // 2)
                series.suspect_after = max(
                    _SUSPECT_AFTER_MS, _SUSPECT_FACTOR * series.usual_idle_ms
                )
            series.quiet = quiet
            series.listened = min(quiet, now - series.connected_at)
            if quiet >= series.suspect_after:
                series.suspect_after = 2 * quiet
                idle_symbols.append(series.symbol)
        return idle_symbols

    def gaps(self, symbol: str) -> tuple[Gap, ...]:
        """Return what is missing of *symbol* now."""
        return self._series[symbol].ledger.gaps

    def gap_set(self, symbol: str) -> GapSet:
        """Return what is missing of *symbol*, and which ids are absent."""
        series = self._series[symbol]
        return GapSet(symbol, series.ledger.gaps, series.ledger.absent, series.answers)

    def take_gap_set(self, symbol: str) -> GapSet | None:
        """Return what is missing of *symbol* if it has changed since this was called; else None."""
        ledger = self._series[symbol].ledger
        if not ledger.gaps_changed:
            return None
        ledger.gaps_changed = False
        return self.gap_set(symbol)

    def absent(self, symbol: str) -> tuple[Gap, ...]:
        """Return which ids of *symbol* the exchange does not have."""
        return self._series[symbol].ledger.absent

    def advance(self, now: int) -> None:
        """Close the bars of symbols that have nothing to say, once their time has passed.

        It costs what there is to close, not what there are symbols: call it as often as you like,
        and again at once when next_look_in is 0, since one call closes only so many.
        """
        market_time = self.clock(now)
        enough = self.bar_count + _CLOSED_AT_ONCE
        while self._wakes and self._wakes[0][0] <= market_time and self.bar_count < enough:
            wakes_at, symbol = heappop(self._wakes)
            series = self._series[symbol]
            if wakes_at == series.wakes_at:  # otherwise it was to be looked at earlier, and was
                series.wakes_at = _NEVER
                self._look_at(series, market_time, now)

    def next_look_in(self, now: int) -> int:
        """Return in how many milliseconds advance may have something to do, trades aside."""
        if not self._wakes or not self._connections:
            return _NEVER
        left = max(0, self._wakes[0][0] - self.clock(now))
        return left + left // _DRIFT_DIVISOR + 1 if left else 0

    def _look_at(self, series: _Series, market_time: int, now: int) -> None:
        """Close what is due of a symbol, or have it looked at again.

        A symbol without a connection is looked at when it gets one, one without bars when it
        gets one of those. No symbol's clock is ahead of the market's, which is the newest of all.
        """
        if not series.buckets or not series.connections:
            return
        if series.due > market_time:  # those that were due closed by trades of its own
            self._wake(series, series.due)
            return
        hush = min(_HUSH_MS, self._grace)
        wait = max(series.heard_at + hush, series.connected_at + self._grace) - now
        if wait <= 0:
            clock = market_time
            behind = series.market_time - series.event_time  # the others, which remains
            if series.event_time and behind > _JITTER_MS:
                clock -= behind
            if clock >= series.due:
                self._close_due(series, clock)
                return
            wait = min(series.due - clock, _LOOK_AGAIN_MS)
        self._wake(series, market_time + wait)

    def _wake(self, series: _Series, at: int) -> None:
        """Have a symbol looked at when the market's clock is at *at*, unless it is earlier."""
        if at < series.wakes_at:
            series.wakes_at = at
            heappush(self._wakes, (at, series.symbol))

    def collect(self, *, is_last: bool = False) -> WriteBatch:
        """Return everything that changed since it was last collected.

        What concerns one symbol always comes together, here and below: its bars for the stores
        and its checkpoint. One without the other would count trades twice after a restart, or
        lose them. The last call finishes the open bars as well.
        """
        self.has_just_begun = False
        if not is_last:
            return self._collect({**self._unsaved, **self._with_news()})
        for series in self._series.values():
            for bucket in series.buckets.values():
                self._finish(series, bucket, is_closed=False)
        return self._collect(self._series)

    def collect_due(self, now: int) -> WriteBatch:
        """Return what must be saved now: all that is news, and what has grown for long enough.

        A trade that is in no bar yet may wait, since a crash loses nothing that cannot be had
        again. A symbol is due when a bar of it has finished or was amended, when what is missing
        of it has changed, after 500 trades or within a minute.
        """
        due = {name: each for name, each in self._unsaved.items() if each.must_be_saved(now)}
        return self._collect({**due, **self._with_news()})

    def collect_bars(self, limit: int | None = None) -> WriteBatch:
        """Return the bars for the stores, with the checkpoints of their symbols.

        Those of at most *limit* symbols come at once: in the order of their names, each time from
        where the last ones ended, round and round. The journal's rows lie in that order, and each
        commit writes every page of which it has changed a row.
        """
        names = sorted({key[0] for key in (*self._changes.finished, *self._changes.amendments)})
        if limit is not None and len(names) > limit:
            start = bisect_right(names, self._collected_through)
            names = [*names[start:], *names[:start]][:limit]
            self._collected_through = names[-1]
        return self._collect({symbol: self._series[symbol] for symbol in names})

    def _with_news(self) -> dict[str, _Series]:
        """Return the symbols of whose checkpoints there is something to tell beside them."""
        changes = self._changes
        names = [key[0] for key in (*changes.finished, *changes.amendments, *changes.attempts)]
        names += [each[0] for each in changes.resolved]
        names += [symbol for symbol, _ in changes.reopened]
        return {symbol: self._series[symbol] for symbol in names}

    def _collect(self, chosen: Mapping[str, _Series]) -> WriteBatch:
        for series in chosen.values():
            self._checkpoint(series)
        # How ids ceased to be missing is told together with the ledger that lacks them no longer.
        return self._changes.take(chosen)

    def _checkpoint(self, series: _Series) -> None:
        self._unsaved.pop(series.symbol, None)
        series.current = None
        series.save_by = 0
        state = series.ledger.state
        if state is None or state == series.saved:
            return  # a trade that changes a bar changes the ledger, too
        series.saved = state
        open_bars = tuple(
            bucket.bar(series.symbol, self._market, is_closed=False)
            for bucket in series.buckets.values()
        )
        self._changes.checkpoints[series.symbol] = Checkpoint(
            state, open_bars, series.closed_through
        )

    def _add(self, series: _Series, trade: Trade, event_time: int) -> None:
        time = trade.time
        if not series.ledger.admit(trade.trade_id, time, series.gap_cause):
            self.duplicate_count += 1
            self._look_at_duplicate(series, trade)
            return
        self._unsaved[series.symbol] = series
        self._record_reopened(series)
        series.gap_cause = GapCause.SKIPPED
        if time < series.unwanted_before:
            return  # ids and times disagree: the rest of its interval will not come
        self.trade_count += 1
        bucket = series.current
        if bucket is not None and bucket.open_time <= time < bucket.end_time:
            bucket.add(trade)
        else:
            open_time = time - time % self._interval
            series.ledger.want_earlier(open_time)
            self._add_to(series, open_time, trade)
        if event_time >= series.due:
            self._close_due(series, event_time)

    def _record_reopened(self, series: _Series) -> None:
        while series.ledger.reopened:
            self._changes.reopened.append((series.symbol, series.ledger.reopened.pop()))

    def _look_at_duplicate(self, series: _Series, trade: Trade) -> None:
        """Begin anew if the exchange has done so: no duplicate is newer than all bars.

        Binance wipes its test networks about once a month, and ids restart. The interval in which
        that happened takes no more trades: ids of two numberings do not mix.
        """
        begun = max(series.buckets, default=series.closed_through) + self._interval
        if trade.time < series.ledger.last_time:
            return
        if trade.trade_id != series.stale_id + 1:
            series.stale_count, series.stale_since = 0, trade.time
        series.stale_id = trade.trade_id
        if trade.time < begun:
            return
        series.stale_count += 1
        if series.stale_count < _RENUMBERED_TRADES:
            return  # a single one is but a bad message
        self.renumbered.append(series.symbol)
        known = series.ledger.next_id or 0
        self._changes.resolved.append((series.symbol, 0, known, GapOutcome.RENUMBERED))
        series.ledger = Ledger.renumbered(series.ledger, begun, series.stale_since)
        series.unwanted_before = begun
        series.stale_count = 0
        self._add(series, trade, trade.time)

    def _add_run(self, series: _Series, run: TradeRange) -> None:
        """Put a run of trades into its bar, as if they had come one by one."""
        if run.time < series.unwanted_before:
            return
        first = Trade(
            symbol=series.symbol,
            trade_id=run.first_id,
            time=run.time,
            event_time=0,
            price=run.price,
            quantity=run.quantity,
            is_buyer_maker=run.is_buyer_maker,
        )
        open_time = run.time - run.time % self._interval
        bucket = series.buckets.get(open_time)
        if bucket is not None:
            bucket.add_run(first, run)
            return
        bucket = Bucket(open_time, open_time + self._interval, first)
        bucket.add_run(first, run)
        self._keep(series, bucket)

    def _add_to(self, series: _Series, open_time: int, trade: Trade) -> None:
        """Put *trade* into the bucket of *open_time*, which is not the current one."""
        bucket = series.buckets.get(open_time)
        if bucket is not None:
            bucket.add(trade)
            series.current = bucket
            return
        bucket = Bucket(open_time, open_time + self._interval, trade)
        bucket.add(trade)
        if self._keep(series, bucket):
            series.current = bucket

    def _keep(self, series: _Series, bucket: Bucket) -> bool:
        """Keep a new bucket open, unless its bar may be stored already: then amend that one."""
        if bucket.open_time <= series.closed_through:
            bar = bucket.bar(series.symbol, self._market, is_closed=True)
            self._changes.amend((series.symbol, bucket.open_time), bar)
            return False
        series.buckets[bucket.open_time] = bucket
        self._reschedule(series)
        return True

    def _close_due(self, series: _Series, clock: int) -> None:
        for open_time in sorted(series.buckets):
            bucket = series.buckets[open_time]
            if bucket.end_time + self._grace > clock:
                break
            self._finish(series, bucket, is_closed=True)
            del series.buckets[open_time]
            series.closed_through = max(series.closed_through, open_time)
            series.saved = None
        series.current = None
        self._reschedule(series)

    def _finish(self, series: _Series, bucket: Bucket, *, is_closed: bool) -> None:
        bar = bucket.bar(series.symbol, self._market, is_closed=is_closed)
        self._changes.finished[series.symbol, bucket.open_time] = bar
        self.bar_count += 1

    def _reschedule(self, series: _Series) -> None:
        first = min(series.buckets, default=None)
        series.due = _NEVER if first is None else series.buckets[first].end_time + self._grace
        self._wake(series, series.due)
