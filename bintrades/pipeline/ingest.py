"""Events into the aggregator, its bars into the journal. No thread, no clock: time is an input.

What the journal does not take now is kept and written later, together with what came since.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING

from bintrades.core.audit_result import BarRebuilt, BarsAudited
from bintrades.core.backfill_result import BackfillResult
from bintrades.core.newest_ids import NewestIds
from bintrades.core.proof import LAG_MS
from bintrades.core.symbol_changes import SymbolsChanged
from bintrades.core.write_batch import WriteBatch
from bintrades.errors import JournalError
from bintrades.exchange.events import (
    Connected,
    Disconnected,
    Event,
    Payloads,
    RateLimited,
    StreamsAdded,
    StreamsRemoved,
)
from bintrades.model import id_ranges
from bintrades.pipeline.commit_schedule import Commit, CommitSchedule, bars_per_commit
from bintrades.pipeline.symbol_changes import NO_SYMBOL_HOOKS, SymbolChanges, SymbolHooks
from bintrades.pipeline.trade_kinds import TradeKinds
from bintrades.util.logs import LimitedLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from bintrades.core.aggregator import Aggregator
    from bintrades.core.write_batch import Checkpoint, Key
    from bintrades.exchange.batch import Batch, Decoded
    from bintrades.journal.writer import Journal
    from bintrades.model import GapSet
    from bintrades.pipeline.proof_schedule import ProofSchedule
    from bintrades.pipeline.pruning import Pruning

log = logging.getLogger(__name__)

MAX_WAITING_BARS = 100_000
"""Bars kept while the journal takes none: some 100 MiB."""

_MAX_WAITING_AUDITED = 10_000
"""What an audit has found, while the journal takes nothing: what is left out is found again."""

_LOOK_FOR_UNPROVEN_EVERY_MS = 1_000
_MARK_NEWEST_EVERY_MS = 3_000
_PROOF_OF_LAST_BARS_EVERY_MS = 5_000
_SHOWN_BYTES = 200
_SHOWN_SYMBOLS = 5

_first_id = attrgetter("first_id")


@dataclass(frozen=True, slots=True)
class IngestSnapshot:
    """What is known of the trades and bars of a collector; counts are since the start."""

    trade_count: int
    duplicate_count: int
    excluded_count: int
    repaired_count: int
    foreign_count: int
    bad_count: int
    unknown_count: int
    invalid_count: int
    """Aggregates that the exchange has marked as none."""

    kinds: Mapping[str, int]
    """Trades of futures by what the exchange calls them."""

    bar_count: int
    amended_count: int
    """Bars that trades came to after they had closed."""

    open_bar_count: int
    unproven_count: int
    """Symbols of which a closed bar is not proven to have all of its trades."""

    is_word_stale: bool
    """Whether what the exchange said last of its newest trades lacks some that it has sent."""

    lag_ms: int
    delay_ms: int
    journal_error: str | None


@dataclass(frozen=True, slots=True)
class IngestHooks:
    """What an Ingest calls, on its thread."""

    status: Callable[[IngestSnapshot], str]
    """Returns what is written beside the bars."""

    on_bars: Callable[[], None]
    """A commit holds bars for the stores."""

    on_gaps: Callable[[GapSet], None]
    """What is missing of a symbol has changed, or an answer about it was counted."""

    on_unproven: Callable[[Sequence[str]], None]
    """The exchange is to be asked for the newest trades of these symbols."""

    on_dead_stream: Callable[[str], None]
    """The stream of this symbol is dead."""

    symbols: SymbolHooks = NO_SYMBOL_HOOKS
    """What changes of symbols call."""


class Ingest:
    """Records events. Every call comes from one thread; *now* is milliseconds, monotonic.

    decode() is the exchange's, utc() the local time for the updated_at of bars.

    Every checkpoint_every_ms all that changed is saved or, where *is_sparing*, only what has
    changed enough: with many symbols that is most of the cost, and a crash makes each of them ask
    the exchange for a page of trades anyway. Without *pruning*, no bar leaves the journal.
    """

    def __init__(
        self,
        aggregator: Aggregator,
        journal: Journal,
        hooks: IngestHooks,
        *,
        decode: Callable[[Batch], Decoded],
        checkpoint_every_ms: int,
        proof: ProofSchedule,
        is_sparing: bool = False,
        now: int,
        utc: Callable[[], int],
        pruning: Pruning | None = None,
        is_repairing: bool = True,
    ) -> None:
        self.bad_count = 0
        self.unknown_count = 0
        self.invalid_count = 0
        self.kinds = TradeKinds()
        self.lag_ms = 0  # local clock minus `E` of the newest trade, both clocks' errors included
        self.delay_ms = 0  # for which the oldest event that is known of has waited to be handled
        self.journal_error: str | None = None  # None: it can be written
        self._aggregator = aggregator
        self._journal = journal
        self._decode = decode
        self._utc = utc
        self._hooks = hooks
        self._pruning = pruning
        self._pending = WriteBatch()
        # The last id of the newest gap of each symbol with gaps in the log; None: it has no ids.
        self._newest_gaps: dict[str, int | None] = {}
        self._heard_at = self._looked_at = self._marked_at = now
        self._proof = proof
        proof.prompt(now)
        self._is_word_stale = False  # what the exchange said last of its newest trades
        self._schedule = CommitSchedule(
            now, checkpoint_every_ms=checkpoint_every_ms, is_sparing=is_sparing
        )
        self._damage: tuple[str, tuple[int, int]] | None = None  # that a reader has found
        self._unreadable: deque[Key] = deque()  # bars of which a reader has found corrupt rows
        self._limited = LimitedLog(log)
        self._symbols = SymbolChanges(
            aggregator,
            hooks.symbols,
            checkpoint_of=self._checkpoint_of,
            utc=utc,
            is_repairing=is_repairing,
        )
        self._publish_gaps(aggregator.symbols)

    @property
    def waiting_bars(self) -> int:
        """Bars that the journal has not taken yet."""
        pending = self._pending
        return len(pending.finished) + len(pending.amendments) + len(pending.rebuilt)

    @property
    def is_full(self) -> bool:
        """Whether too many bars wait for any more to be made."""
        return self.waiting_bars > MAX_WAITING_BARS

    def snapshot(self) -> IngestSnapshot:
        """Return the figures of this moment."""
        aggregator = self._aggregator
        return IngestSnapshot(
            trade_count=aggregator.trade_count,
            duplicate_count=aggregator.duplicate_count,
            excluded_count=aggregator.excluded_count,
            repaired_count=aggregator.repaired_count,
            foreign_count=aggregator.foreign_count,
            bad_count=self.bad_count,
            unknown_count=self.unknown_count,
            invalid_count=self.invalid_count,
            kinds=dict(self.kinds.counts),
            bar_count=aggregator.bar_count,
            amended_count=aggregator.amended_count,
            open_bar_count=aggregator.open_bar_count,
            unproven_count=aggregator.unproven_count,
            is_word_stale=self._is_word_stale,
            lag_ms=self.lag_ms,
            delay_ms=self.delay_ms,
            journal_error=self.journal_error,
        )

    def save_sparingly(self, *, is_sparing: bool) -> None:
        """Save all that changed, or what has changed enough. On its thread."""
        self._schedule.is_sparing = is_sparing

    def save_readable(self, reason: str, file: tuple[int, int]) -> None:
        """Have what can be read of a damaged journal saved at the next write. Any thread.

        *file* is the one that was found damaged: the journal may be another one by now.
        """
        self._damage = (reason, file)

    def lose_unreadable(self, keys: Sequence[Key]) -> None:
        """Have bars that a reader could not read be missing again at the next write. Any thread."""
        self._unreadable.extend(keys)

    def handle(self, event: Event) -> None:
        """Apply an event of the feed, of the backfill or of the audit."""
        match event:
            case Payloads():
                self._take_payloads(event)
            case Connected():
                self._symbols.connected(event)
                self._proof.prompt(event.at)
            case Disconnected(connection, at):
                self._symbols.disconnected(connection, at)
            case StreamsAdded():
                self._symbols.streams_added(event)
                self._proof.prompt(event.at)
            case StreamsRemoved():
                self._symbols.streams_removed(event)
            case SymbolsChanged():
                self._change_symbols(event)
            case BackfillResult(symbol):
                self._aggregator.fill(event)
                self._log_renumbered()
                self._publish_gaps([symbol])
            case NewestIds():
                self._take_newest_ids(event)
            case RateLimited(ban):
                self._pending.ban = ban
            case BarRebuilt(bar):
                self._pending.rebuilt[bar.symbol, bar.open_time_ms] = bar
            case BarsAudited():
                if len(self._pending.audited) < _MAX_WAITING_AUDITED:
                    self._pending.audited.append(event)

    def tick(self, now: int, *, is_caught_up: bool) -> None:
        """Close what is due, write what is due; call it after events and several times a second.

        While events wait, time is what it was when they came: a symbol whose trades are among
        them is not silent.
        """
        passed = now if is_caught_up else self._heard_at
        self.delay_ms = max(0, now - passed)
        self._aggregator.advance(passed)
        self._resubscribe_dead_streams(passed)
        self._have_proven(passed)
        self._end_symbols(passed)
        self._write_if_due(now, is_caught_up=is_caught_up)

    def idle_ms(self, now: int) -> int:
        """Return for how long nothing is to be closed or committed, should no event come."""
        aggregator = self._aggregator
        next_close_ms = aggregator.next_look_in(now)
        return self._schedule.idle_ms(now, aggregator.waiting_bar_count, next_close_ms)

    def finish(self, now: int) -> bool:
        """Write the open bars as well; return whether nothing waits. May be called again."""
        return self._write(now, self._aggregator.collect(is_last=True), is_last=True)

    def _change_symbols(self, event: SymbolsChanged) -> None:
        """Begin and end series; all that is to be written of it is written with the next bars."""
        self._pending.update(self._symbols.change(event))
        self._publish_gaps(new.key.symbol for new in event.added)
        self._proof.prompt(event.at)

    def _end_symbols(self, now: int) -> None:
        """End the series of symbols that leave, once they are whole."""
        if (changes := self._symbols.tick(now)) is not None:
            self._pending.update(changes)
            for symbol in changes.checkpoints:
                self._newest_gaps.pop(symbol, None)
        if self._symbols.is_waiting_for_proof:
            self._proof.prompt(now + _PROOF_OF_LAST_BARS_EVERY_MS)

    def _checkpoint_of(self, symbol: str) -> Checkpoint | None:
        """Return where a symbol was when it was last collected, whether that is written or not."""
        return self._pending.checkpoints.get(symbol) or self._journal.checkpoints.get(symbol)

    def _take_payloads(self, event: Payloads) -> None:
        decoded = self._decode(event.batch)
        self._heard_at = event.received_at  # whatever it was: time has come as far as that
        if decoded.trades:
            self._aggregator.add(decoded.trades, event.received_at)
            self.lag_ms = self._utc() - decoded.trades[-1].event_time
            self._log_renumbered()
        if decoded.kinds:
            self.kinds.take(decoded)
        self.invalid_count += decoded.invalid_count
        for symbol, trade_id in decoded.unusable:
            if not self._aggregator.on_unusable(symbol, trade_id, event.received_at):
                self._proof.prompt(event.received_at + LAG_MS)
        for payload, reason in decoded.bad:
            self.bad_count += 1
            self._limited.warning(
                "message_rejected",
                "a message cannot be used and is skipped",
                connection=event.connection,
                reason=reason,
                start=payload[:_SHOWN_BYTES].decode(errors="replace"),
            )
        for payload in decoded.unknown:
            self.unknown_count += 1
            self._limited.warning(
                "message_ignored",
                "a message of an unknown kind is ignored",
                connection=event.connection,
                start=payload[:_SHOWN_BYTES].decode(errors="replace"),
            )

    def _log_renumbered(self) -> None:
        while self._aggregator.renumbered:
            log.error(
                "the exchange has restarted the trade ids of a symbol, as its test networks do;"
                " bars around that moment are incomplete for good",
                extra={"event": "trade_ids_restarted", "symbol": self._aggregator.renumbered.pop()},
            )

    def _take_newest_ids(self, newest: NewestIds) -> None:
        """Take the exchange's word on its newest trades."""
        aggregator = self._aggregator
        was_stale, self._is_word_stale = self._is_word_stale, not aggregator.on_newest_ids(newest)
        if self._is_word_stale:
            self._limited.warning(
                "newest_ids_stale",
                "the exchange's newest ids lack trades that its streams have sent; they prove"
                " nothing, and are asked for again",
                symbols=len(newest.ids),
                lacking=", ".join(islice(aggregator.suspects, _SHOWN_SYMBOLS)),
            )
            if not was_stale:  # else it would be asked without a rest for as long as that lasts
                self._proof.prompt(newest.answered_at)
        if aggregator.lagging:
            self._limited.warning(
                "newest_ids_lagging",
                "the exchange's newest ids lag for some symbols only; they prove nothing of those",
                symbols=", ".join(aggregator.lagging),
            )
            aggregator.lagging.clear()

    def _resubscribe_dead_streams(self, now: int) -> None:
        """Have streams subscribed again that failed to bring a trade."""
        while self._aggregator.dead_streams:
            symbol = self._aggregator.dead_streams.pop()
            self._limited.warning(
                "stream_stalled",
                "a stream is dead: the exchange has trades that it did not send; asking for it"
                " again",
                symbol=symbol,
            )
            self._hooks.on_dead_stream(symbol)
            self._proof.prompt(now + LAG_MS)

    def _have_proven(self, now: int) -> None:
        """Have the exchange asked for newest trades, when it is time and a symbol needs it."""
        if now - self._looked_at < _LOOK_FOR_UNPROVEN_EVERY_MS:
            return
        self._looked_at = now
        if now - self._marked_at >= _MARK_NEWEST_EVERY_MS:
            self._marked_at = now
            self._aggregator.mark_newest()
        is_prompted = self._proof.is_prompted(now)
        if not (is_prompted or self._proof.is_due(now)):
            return
        older_than = LAG_MS if is_prompted else self._proof.every_ms
        unproven = self._aggregator.unproven(now, older_than)
        if symbols := [each for each in unproven if each not in self._symbols.unlisted]:
            others = self._aggregator.mark_witnesses(now)
            self._hooks.on_unproven([*dict.fromkeys([*symbols, *others])])
        self._proof.asked(now, self._aggregator.clock(now))

    def _publish_gaps(self, symbols: Iterable[str]) -> None:
        """Hand on the gaps of *symbols* that have changed since they were handed on."""
        for symbol in symbols:
            series = self._aggregator.series.get(symbol)
            gaps = None if series is None else series.take_gap_set()
            if gaps is not None:
                self._log_gaps(gaps)
                self._hooks.on_gaps(gaps)

    def _log_gaps(self, gaps: GapSet) -> None:
        """Log gaps beyond the newest one in the log, and when the last one has closed."""
        symbol, new, ranges = gaps.symbol, gaps.missing, id_ranges(gaps.missing)
        had_gaps = symbol in self._newest_gaps
        newest = self._newest_gaps.pop(symbol, None)
        if had_gaps and not gaps.missing:
            self._limited.info(
                "gap_closed", "gap closed: no trade of the symbol is missing", symbol=symbol
            )
        if had_gaps:
            new = (
                ranges if newest is None else ranges[bisect_right(ranges, newest, key=_first_id) :]
            )
        for gap in new:
            self._limited.info(
                "gap_opened",
                "gap opened: trades are missing",
                symbol=symbol,
                first_id=gap.first_id,
                last_id=gap.last_id,
                cause=gap.cause,
            )
        if gaps.missing:
            self._newest_gaps[symbol] = ranges[-1].last_id if ranges else None

    def _write_if_due(self, now: int, *, is_caught_up: bool) -> None:
        """Commit what the schedule says."""
        aggregator = self._aggregator
        waiting_bars = aggregator.waiting_bar_count
        match self._schedule.next_commit(
            now,
            waiting_bars,
            aggregator.next_look_in(now),
            has_just_begun=aggregator.has_just_begun,
            is_caught_up=is_caught_up,
        ):
            case Commit.ALL_CHANGES:
                self._write(now, aggregator.collect())
            case Commit.DUE_CHANGES:
                self._write(now, aggregator.collect_due(now))
            case Commit.BARS:
                self._write(now, aggregator.collect_bars(bars_per_commit(waiting_bars)))
            case Commit.STATUS:
                self._write(now, WriteBatch())

    def _write(self, now: int, changes: WriteBatch, *, is_last: bool = False) -> bool:
        """Commit *changes* and what waits; return whether nothing waits any longer.

        Where there is nothing, the status is written if it is old, or the last one.
        """
        self._publish_gaps(changes.checkpoints)
        for symbol, gap in changes.reopened:
            self._limited.info(
                "gap_reopened",
                "a trade came of ids that are none, the exchange had said; they are asked for",
                symbol=symbol,
                first_id=gap.first_id,
                last_id=gap.last_id,
            )
        self._pending.update(changes)
        damage, self._damage = self._damage, None
        unreadable = tuple(self._unreadable)
        has_news = self._pending or damage is not None or bool(unreadable) or is_last
        if not has_news and not self._schedule.is_status_due(now):
            return True
        updated_at = self._utc()
        try:
            if damage is not None:
                self._journal.save_readable(*damage)
            self._journal.lose_unreadable(dict.fromkeys(unreadable))
            for _ in unreadable:
                self._unreadable.popleft()
            with_status = is_last or self._schedule.may_write_status(now)
            exchange_ms = self._aggregator.confirmed_clock(now)
            has_bars = self._journal.write(
                self._pending,
                updated_at,
                self._hooks.status(self.snapshot()) if with_status else None,
                exchange_ms=exchange_ms,
            )
            self._pending = WriteBatch()
            self._schedule.committed(now, with_status=with_status)
            if has_bars:
                self._hooks.on_bars()
            self._prune(exchange_ms, now)
        except JournalError as error:
            self._record_failure(now, error)
        else:
            self._record_success()
        self._take_back()
        return not self._pending

    def _take_back(self) -> None:
        """Take over what the journal alone knows of the ids.

        That is, which trades are wanted again since their bars were lost with a damaged file, and
        for which no aggregates stand in any more.
        """
        for symbol, gaps in self._journal.take_lost().items():
            self._pending.lose(symbol, gaps)
            self._aggregator.lose(symbol, gaps)
        for symbol, ranges in self._journal.take_settled().items():
            for first_id, last_id in ranges:
                self._aggregator.settle_approximated(symbol, first_id, last_id)

    def _prune(self, exchange_ms: int, now: int) -> None:
        if self._pruning is None or self._aggregator.waiting_bar_count:
            return  # of thousands that close at one moment the last should not wait for it
        if count := self._pruning.prune_if_due(exchange_ms, now):
            self._limited.info("bars_pruned", "old bars have left the journal", bars=count)

    def _record_success(self) -> None:
        if self.journal_error is not None:
            log.info("the journal can be written again", extra={"event": "journal_recovered"})
            self.journal_error = None

    def _record_failure(self, now: int, error: JournalError) -> None:
        self.journal_error = str(error)
        self._schedule.failed(now)
        self._limited.warning(
            "journal_failed",
            "the journal cannot be written; collecting goes on, its bars wait in memory",
            error=str(error),
            waiting_bars=self.waiting_bars,
        )
