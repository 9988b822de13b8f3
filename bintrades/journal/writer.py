"""The writer of the journal. One SQLite file in WAL mode: bars, gaps, and what each store has.

A bar is one row per (symbol, open_time). Each version takes the next number of a sequence, and a
store's cursor is the last number it took: an amended bar is thereby delivered again, and after an
outage a store gets only the newest version of each bar. Bars that still take trades are saved apart
from those, in one short row per symbol: it is written every second, and a row beside thousands
of older bars would cost a whole page of the file each time.
"""

from __future__ import annotations

import dataclasses
import logging
import sqlite3
from bisect import bisect_left
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from bintrades.core.gap_changes import changed_part, changed_spans
from bintrades.core.ledger import without_approximations
from bintrades.core.write_batch import IdsRestart, IdsTakenBack, WriteBatch
from bintrades.errors import ConfigError, JournalError
from bintrades.journal import gaps as gap_tables
from bintrades.journal import meta
from bintrades.journal.audit import look_again, put_audited
from bintrades.journal.bars import PUT_BAR, after_newest_complete, pages, read_bar
from bintrades.journal.checkpoints import put_checkpoints
from bintrades.journal.connection import transaction
from bintrades.journal.excluded import (
    count_excluded,
    numbered_since,
    put_excluded,
    put_restart,
    take_back,
)
from bintrades.journal.meta import JournalScope
from bintrades.journal.pruning import MARK_EVERY_MS, Pruned, mark, prune
from bintrades.journal.rebuilt import delete_rebuilt, read_rebuilt, refusal, settled_ids
from bintrades.journal.recovery import RecoverableFile
from bintrades.journal.rows import bar_row
from bintrades.journal.spare import SpareKeeper
from bintrades.journal.surplus import delete_surplus, put_surplus
from bintrades.journal.wal import WalLimit
from bintrades.model import Gap, GapCause, GapOutcome, id_ranges
from bintrades.model.bar_fields import FUTURES
from bintrades.util.logs import LimitedLog

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from bintrades.core.ban import Ban
    from bintrades.core.write_batch import Checkpoint, IdRange, Key
    from bintrades.model import Bar
    from bintrades.model.symbol_record import SymbolRecord

    ChangedGaps = Mapping[str, tuple[list[Gap], list[Gap]]]
    """Gaps that were on record and are no more, and new ones, by symbol."""

_T = TypeVar("_T")

log = logging.getLogger(__name__)

_LIMITED_EVERY_S = 60.0
_END = 2**62


class Journal:
    """The one writer of the journal. Belongs to one thread at a time.

    Opening raises ConfigError for a file that is not ours, is of another market or interval or of
    a newer version, JournalInUse when another collector uses it, and JournalError when the disk
    refuses. What can be read of a damaged file is salvaged into a new one, and the damaged one
    quarantined, never deleted. Trades that are lost with it are missing again.
    """

    def __init__(
        self,
        path: Path,
        *,
        market: str,
        interval_ms: int,
        exchange: str,
        stream: str,
        mark_every_ms: int = MARK_EVERY_MS,
    ) -> None:
        self.path = path
        self._settled: dict[str, list[IdRange]] = {}  # since they were taken
        self.has_more_to_prune = False  # whether the last prune() left bars that it can delete
        self._scope = JournalScope(market, interval_ms, exchange, stream)
        self._mark_every = mark_every_ms
        self._file = RecoverableFile(path, self._scope)
        self._wal_limit = WalLimit(path)
        self._spare = SpareKeeper(path, self._scope)
        self._is_leaked = False
        self._limited = LimitedLog(log, every_s=_LIMITED_EVERY_S)

    @property
    def checkpoints(self) -> dict[str, Checkpoint]:
        """Where each symbol was when it was last written."""
        return self._file.state.checkpoints

    def close(self) -> None:
        """Close the file; what was written stays."""
        if self._is_leaked:
            return
        if self._file.is_open:
            self._spare.save(self.checkpoints, self._bar_at)
        self._file.close()

    def leak(self) -> None:
        """Leave closing to the end of the process: a thread that hangs still uses the file."""
        self._is_leaked = True

    def flush_removed_symbols(self, selected: Collection[str], now_ms: int) -> None:
        """Give the stores the open bars of symbols that are not *selected* any more, as they are.

        Nobody continues them now, but they stay open for the day on which somebody does. After a
        file was lost, *selected* begin with a gap of unknown size. Raises JournalError.
        """
        self._file.with_recovery(lambda: self._file.begin_with_gaps(selected))
        bars = {
            (bar.symbol, bar.open_time_ms): bar
            for symbol, checkpoint in self.checkpoints.items()
            if symbol not in selected
            for bar in checkpoint.open_bars
        }
        left = self._file.with_recovery(lambda: self._beyond_stored(bars))
        if left:
            self.write(WriteBatch(finished=left), now_ms)

    def write(
        self,
        batch: WriteBatch,
        now_ms: int,
        status: str | None = None,
        *,
        exchange_ms: int | None = None,
    ) -> bool:
        """Commit *batch*, all or nothing; *now_ms* becomes the updated_at of what is new.

        Return whether there are bars for the stores: new ones, or new versions of stored ones.

        From *exchange_ms*, the exchange's clock, the age of bars is counted (the same, if it is
        not given; 0: it is not known yet). Raises JournalError when the disk refuses: write the
        same batch again later.
        """
        at = now_ms if exchange_ms is None else exchange_ms
        has_bars = self._file.with_recovery(lambda: self._write(batch, now_ms, status, at))
        self._wal_limit.truncate_if_long(self._file.connection)
        self._spare.save_if_due(self.checkpoints, self._bar_at)
        return has_bars

    def take_lost(self) -> dict[str, list[Gap]]:
        """Return what of each symbol was had and is missing again since the last call.

        It is on record; whoever builds bars has to want it again.
        """
        lost, self._file.lost = self._file.lost, {}
        return lost

    def take_settled(self) -> Mapping[str, Sequence[IdRange]]:
        """Return for which ids no aggregates have to stand in any more, since this was called.

        To be called after each write, before more is collected of the ledgers.
        """
        settled, self._settled = self._settled, {}
        return settled

    def save_readable(self, reason: str, file: tuple[int, int]) -> None:
        """Salvage the file, unless it is another one than *file* by now.

        A reader has found it damaged. Raises JournalError while it goes on.
        """
        self._file.salvage(reason, file)

    def lose_unreadable(self, keys: Iterable[Key]) -> None:
        """Have the trades of bars that a reader could not read be missing again.

        Unless their rows can be read, or are gone, by now. Raises JournalError.
        """
        for key in keys:
            self._file.with_recovery(partial(self._file.get, key))

    def prune(
        self,
        stores: Iterable[str],
        before_ms: int,
        had_for_a_while: Callable[[int], int] = lambda sequence: sequence,
    ) -> int:
        """Delete bars last written before *before_ms* that each of *stores* has; return how many.

        The local clock has no say in it: *before_ms* is a time of the exchange's clock. Bars that
        are not closed stay; those that one of *stores* refused or was to get again, until they are
        sent; those that a gap on record touches; and a symbol's newest bar, which the next gap
        would touch, until there is a newer one. *had_for_a_while* is given up to which number of
        the sequence all stores have everything, and returns which may be deleted.
        Raises JournalError.
        """
        names = list(stores)

        def delete() -> Pruned:
            connection, state = self._file.connection, self._file.state
            interval_ms = self._scope.interval_ms
            return prune(connection, state, interval_ms, names, before_ms, had_for_a_while)

        count, self.has_more_to_prune = self._file.with_recovery(delete)
        return count

    def keep_environment(self, environment: str) -> None:
        """Keep for what the exchange's hosts are (live, testnet, ...) that the trades come from.

        Raises ConfigError where those of others are in here, JournalError.
        """
        try:
            self._with_metadata(partial(meta.keep_environment, environment=environment))
        except ConfigError as error:
            raise ConfigError(f"{self.path}: {error}") from error

    def get_ban(self) -> Ban:
        """Return for how long the exchange wants no requests, as was last kept.

        Raises JournalError.
        """
        return self._with_metadata(meta.read_ban)

    def set_ban(self, ban: Ban) -> None:
        """Keep for how long the exchange wants no requests. Raises JournalError."""
        self._with_metadata(partial(meta.put_ban, ban=ban))

    def get_symbol_list(self) -> str | None:
        """Return the exchange's list of symbols, as was last kept. Raises JournalError."""
        return self._with_metadata(meta.read_symbol_list)

    def set_symbol_list(self, text: str) -> None:
        """Keep the exchange's list of symbols. Raises JournalError."""
        self._with_metadata(partial(meta.put_symbol_list, text=text))

    def get_symbol_records(self) -> dict[str, SymbolRecord]:
        """Return what is on record of each symbol. Raises JournalError."""
        return self._with_metadata(meta.read_symbol_records)

    def set_symbols(self, records: Mapping[str, SymbolRecord], listing: str | None) -> None:
        """Keep what is on record of *records*' symbols, and the exchange's list if it is given.

        For before anything is collected: thereafter write() takes them. Raises JournalError.
        """

        def put(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                meta.put_symbol_records(connection, records)
                if listing is not None:
                    meta.put_symbol_list(connection, listing)

        self._with_metadata(put)

    def get_delivered(self) -> str | None:
        """Return up to where all stores were when, as was last kept. Raises JournalError."""
        return self._with_metadata(meta.read_delivered)

    def set_delivered(self, text: str) -> None:
        """Keep up to where all stores were when. Raises JournalError."""
        self._with_metadata(partial(meta.put_delivered, text=text))

    def set_status(self, text: str) -> None:
        """Keep what the collector says of itself. Raises JournalError."""
        self._with_metadata(partial(meta.put_status, text=text))

    def _with_metadata(self, use: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            return use(self._file.connection)
        except sqlite3.Error as error:
            raise JournalError(f"{self.path}: {error}") from error

    def _write(self, batch: WriteBatch, now_ms: int, status: str | None, at: int) -> bool:
        """The transaction of a batch. *at* is a time of the exchange's clock, or 0.

        All is decided from the state of the last commit, which moves on when this one has
        succeeded. A row that cannot be read raises UnreadableRow: with_recovery() deletes it, and
        tries all of this again.
        """
        connection, state = self._file.connection, self._file.state

        # What was lost with rows of the file since the batch was made is missing in the batch, too.
        for symbol, gaps in self._file.lost.items():
            batch.lose(symbol, gaps)
        checkpoints = state.checkpoints | batch.checkpoints

        self._wal_limit.prepare(connection, is_at_rest=not (batch.finished or batch.amendments))
        with transaction(connection):
            # Finished bars go in as they are. What an orderly stop writes of an open bar is no
            # news where as much of it is stored.
            closed = {key: bar for key, bar in batch.finished.items() if bar.is_closed}
            half = {key: bar for key, bar in batch.finished.items() if not bar.is_closed}
            bars = closed | self._beyond_stored(half)

            # Bars that were made again take the place of theirs, those included which another
            # process has left here.
            left_here = read_rebuilt(connection)
            offered = {key: bar for key, bar in left_here.items() if bar is not None}
            rebuilt = self._admitted(offered | batch.rebuilt, checkpoints)
            bars |= rebuilt

            # Aggregates that stood in for trades of those bars do so no longer, whatever the batch
            # says: its ledgers hear of it from take_settled().
            settled = settled_ids(rebuilt, self._file.get, self._scope.interval_ms)
            batch = _without_settled(batch, checkpoints, settled)
            checkpoints |= batch.checkpoints
            surplus = state.surplus
            if rebuilt:
                no_trades = {key for key, bar in rebuilt.items() if not bar.is_complete}
                surplus = surplus - rebuilt.keys() | no_trades

            # Late trades join their stored bar, or are its first. Where that has left they are kept
            # on record: in a bar of their own they would be taken for all of it.
            late: list[Bar] = []
            for key, part in batch.amendments.items():
                stored = rebuilt.get(key) or self._file.get(key)
                if stored is None and self._may_have_left(key):
                    late.append(part)
                elif stored is not None and stored.epoch > part.epoch:
                    self._log_refused(part, stored)  # a rebuilt bar has all of its trades
                else:
                    bars[key] = part if stored is None else stored.merge(part)

            # Gaps that came or went change the completeness of stored bars, and so does proof that
            # all trades before their end are known: a new version says so.
            changed = self._changed_gaps(batch)
            for stored in chain(self._touched_bars(changed), self._proven_bars(batch)):
                key = (stored.symbol, stored.open_time_ms)
                new = bars.get(key)
                if new is not None and not _is_refused(new, stored):
                    continue  # says so itself
                if stored.is_complete != state.is_complete(stored, checkpoints, surplus):
                    if new is not None:
                        self._log_refused(new, stored)
                    bars[key] = _continued(stored, checkpoints)

            # All of them get the next numbers of the sequence, by which stores find them. A number
            # is given once, even if this transaction fails.
            self._put_excluded(batch, bars)
            ordered = sorted(bars.values(), key=lambda bar: (bar.open_time_ms, bar.symbol))
            rows = []
            for number, bar in enumerate(
                map(self._with_excluded, ordered), state.last_sequence + 1
            ):
                is_complete = state.is_complete(bar, checkpoints, surplus)
                rows.append((*bar_row(bar, now_ms, is_complete=is_complete), number))
            state.last_sequence += len(rows)
            if connection.executemany(PUT_BAR, rows).rowcount < len(rows):
                self._log_all_refused(ordered)

            # What is missing no longer goes on record with how it ended; one range of ids that was
            # held to be absent, or no fills, may be missing again.
            outcomes = [*batch.resolved, *self._record_late(late, at or now_ms)]
            reopened_ids = self._reopened_ids(batch, changed, checkpoints)
            for symbol, (before, after) in changed.items():
                reopened = [gap for name, gap in batch.reopened if name == symbol]
                gap_tables.delete_disproven(connection, symbol, reopened)
                missing = sorted((*before, *reopened), key=lambda gap: gap.first_id)
                gap_tables.record_past_gaps(
                    connection,
                    symbol,
                    gap_tables.with_attempts(symbol, missing, batch.attempts),
                    after,
                    [(low, high, how) for name, low, high, how in outcomes if name == symbol],
                    at or now_ms,
                )
                gap_tables.put_gaps(connection, symbol, before, after)

            # The checkpoints, with what does not exist of their symbols.
            for symbol, checkpoint in batch.checkpoints.items():
                absent = state.absent_of(symbol), checkpoint.ledger.absent
                if any(absent):
                    gap_tables.put_absent(connection, symbol, *changed_part(*absent))
            put_checkpoints(connection, batch.checkpoints, now_ms, state.checkpoints)

            # What the audit has found, but of no bar that has changed since: nothing was late then.
            interval_ms = self._scope.interval_ms
            put_audited(connection, batch.audited, interval_ms)
            for symbol, open_time in (*batch.amendments, *rebuilt):
                look_again(connection, symbol, (open_time, open_time + interval_ms), interval_ms)
            delete_rebuilt(connection, left_here)
            if surplus != state.surplus:
                put_surplus(connection, surplus - state.surplus)
                delete_surplus(connection, state.surplus - surplus)

            # Metadata, and now and then a mark by which the age of bars is known.
            meta.put_sequence(connection, state.last_sequence)
            if reopened_ids != state.reopened:
                meta.put_reopened(connection, reopened_ids)
            if batch.ban is not None:
                meta.put_ban(connection, batch.ban)
            meta.put_symbol_records(connection, batch.symbols)
            if batch.listing is not None:
                meta.put_symbol_list(connection, batch.listing)
            if status is not None:
                meta.put_status(connection, status)
            is_mark_due = at > 0 and not 0 <= at - state.marked_at < self._mark_every
            if is_mark_due:
                mark(connection, at, state.last_sequence)

        for symbol, ranges in settled.items():
            self._settled.setdefault(symbol, []).extend(ranges)
        self._note_unproven(batch, ordered, checkpoints)
        state.checkpoints = checkpoints
        state.reopened = reopened_ids
        state.surplus = surplus
        if is_mark_due:
            state.marked_at = at
        return bool(rows)

    def _put_excluded(self, batch: WriteBatch, bars: dict[Key, Bar]) -> None:
        """Record ids that are no fills. Of *bars*, those of before ids began again are counted."""
        connection = self._file.connection
        for symbol, changes in batch.excluded.items():
            for change in changes:
                if isinstance(change, IdsTakenBack):
                    take_back(connection, symbol, change.first_id, change.last_id)
                    continue
                if not isinstance(change, IdsRestart):
                    put_excluded(connection, symbol, [change])
                    continue
                for key, bar in bars.items():
                    if bar.symbol == symbol:
                        bars[key] = self._with_excluded(bar)
                put_restart(connection, symbol, change)

    def _with_excluded(self, bar: Bar) -> Bar:
        """Return *bar* with the ids between its first and last that are on record as no fills.

        A rebuilt bar has been counted by what it was made of, and one of before ids began again
        when it was written.
        """
        if self._scope.market not in FUTURES or bar.epoch:
            return bar
        connection = self._file.connection
        if bar.open_time_ms < numbered_since(connection, bar.symbol):
            return bar
        count = count_excluded(connection, bar.symbol, bar.first_trade_id, bar.last_trade_id)
        return bar if count == bar.excluded_count else replace(bar, excluded_count=count)

    def _beyond_stored(self, bars: Mapping[Key, Bar]) -> dict[Key, Bar]:
        """Return the bars that have come further than their rows, which an orderly stop wrote."""
        stored = {key: self._file.get(key) for key in bars}
        return {
            key: bar
            for key, bar in bars.items()
            if (row := stored[key]) is None or _progress(row) < _progress(bar)
        }

    def _admitted(
        self, bars: Mapping[Key, Bar], checkpoints: dict[str, Checkpoint]
    ) -> dict[Key, Bar]:
        """Return those of the rebuilt *bars* that may take the place of the stored ones."""
        state, admitted = self._file.state, {}
        of_trades = {
            symbol: replace(checkpoints[symbol], ledger=without_approximations(known.ledger))
            for symbol in {bar.symbol for bar in bars.values()}
            if (known := checkpoints.get(symbol)) is not None
        }
        for key, bar in bars.items():
            reason = refusal(
                bar,
                self._file.get(key),
                checkpoints.get(bar.symbol),
                is_proven=state.is_complete(bar, of_trades, surplus=()),
            )
            if reason is None:
                admitted[key] = bar
            else:
                self._limited.warning(
                    "rebuilt_bar_refused",
                    "a bar that was made again is refused; it stays as it is",
                    symbol=bar.symbol,
                    open_time=bar.open_time_ms,
                    epoch=bar.epoch,
                    reason=reason,
                )
        return admitted

    def _may_have_left(self, key: Key) -> bool:
        """Whether the bar of *key*, which is not there, may have been pruned.

        What a gap touches is not pruned: where one does, there has been no bar yet. That says
        nothing where the ids of the gap were held to be absent for a while: the bar may have left
        then.
        """
        symbol, open_time = key
        state, interval = self._file.state, self._scope.interval_ms
        if open_time > state.pruned_through.get(symbol, -1):
            return False
        checkpoint = state.checkpoints.get(symbol)
        if checkpoint is None or not state.has_gap_in(symbol, checkpoint, open_time, interval):
            return True
        reopened = state.reopened.get(symbol)
        return reopened is not None and all(
            any(first <= gap.first_id and gap.last_id <= last for first, last in reopened)
            for gap in checkpoint.ledger.gaps
            if gap.touches(open_time, interval)
        )

    def _changed_gaps(self, batch: WriteBatch) -> ChangedGaps:
        """Return what a batch changes of the gaps.

        Where nothing can be backfilled there may be thousands that stay as they are.
        """
        changed = {}
        reopened = {symbol for symbol, _ in batch.reopened}
        for symbol, checkpoint in batch.checkpoints.items():
            before, after = changed_part(self._file.state.gaps_of(symbol), checkpoint.ledger.gaps)
            if before or after or symbol in reopened:
                changed[symbol] = (before, after)
        return changed

    def _touched_bars(self, changed: ChangedGaps) -> Iterator[Bar]:
        """Yield the stored bars whose completeness may differ now that gaps came or went."""
        for symbol, (before, after) in changed.items():
            for since, until in changed_spans(before, after):
                first = since - self._scope.interval_ms + 1
                for page in pages(self._file.connection, symbol, first, until + 1):
                    for row in page:
                        yield read_bar(row, self._scope)

    def _proven_bars(self, batch: WriteBatch) -> Iterator[Bar]:
        """Yield the stored bars that were not proven before *batch*, and are now."""
        interval = self._scope.interval_ms
        for symbol, checkpoint in batch.checkpoints.items():
            for open_time in self._unproven_of(symbol):
                if checkpoint.proves(open_time + interval):
                    stored = self._file.get((symbol, open_time))
                    if stored is not None:
                        yield stored

    def _unproven_of(self, symbol: str) -> set[int]:
        """Return the open times of the stored bars that end later than is proven."""
        state, interval = self._file.state, self._scope.interval_ms
        if symbol not in state.unproven:
            connection, checkpoint = self._file.connection, state.checkpoints.get(symbol)
            proven = None if checkpoint is None else checkpoint.proven_ms
            if proven is None:  # what was proven before that was given up is complete
                found = set(after_newest_complete(connection, symbol))
            else:
                newer = pages(connection, symbol, proven - interval + 1, _END)
                found = {row[1] for rows in newer for row in rows}
            state.unproven[symbol] = found
        return state.unproven[symbol]

    def _note_unproven(
        self, batch: WriteBatch, written: Iterable[Bar], checkpoints: Mapping[str, Checkpoint]
    ) -> None:
        """Remember which bars end later than is proven, now that *batch* is committed."""
        unproven, interval = self._file.state.unproven, self._scope.interval_ms
        for bar in written:
            if bar.symbol in unproven:  # else they are looked for when it is asked
                unproven[bar.symbol].add(bar.open_time_ms)
        for symbol in {*batch.checkpoints, *(bar.symbol for bar in written)} & unproven.keys():
            checkpoint = checkpoints[symbol]
            unproven[symbol] = {
                at for at in unproven[symbol] if not checkpoint.proves(at + interval)
            }

    def _record_late(self, late: Sequence[Bar], at: int) -> list[tuple[str, int, int, GapOutcome]]:
        """Keep on record what came too late for its bar; return how its gap ends."""
        for part in late:
            first_id, last_id = part.first_trade_id, part.last_trade_id
            gaps = self._file.state.gaps_of(part.symbol)
            cause = next(
                (g.cause for g in gaps if g.first_id <= first_id <= g.last_id), GapCause.SKIPPED
            )
            since, until = sorted((part.first_trade_time_ms, part.last_trade_time_ms))
            gap = Gap(first_id, last_id, since, until, cause)
            gap_tables.put_past_gap(self._file.connection, part.symbol, gap, GapOutcome.LATE, at)
            self._limited.warning(
                "late_trades_recorded",
                "trades came when their bar had left the journal: they are in no bar, but on record"
                " as late",
                symbol=part.symbol,
                first_id=first_id,
                last_id=last_id,
            )
        return [
            (part.symbol, part.first_trade_id, part.last_trade_id, GapOutcome.LATE) for part in late
        ]

    def _reopened_ids(
        self,
        batch: WriteBatch,
        changed: Collection[str],
        checkpoints: Mapping[str, Checkpoint],
    ) -> dict[str, list[IdRange]]:
        """Return which ids were absent, or no fills, while bars of theirs may have left.

        For as long as one of them is missing.
        """
        state = self._file.state
        ranges = {symbol: list(known) for symbol, known in state.reopened.items()}
        for symbol, gap in batch.reopened:
            if gap.since_ms < state.pruned_through.get(symbol, -1) + self._scope.interval_ms:
                ranges.setdefault(symbol, []).append((gap.first_id, gap.last_id))
        for symbol in ranges.keys() & changed:
            gaps = id_ranges(checkpoints[symbol].ledger.gaps)
            ranges[symbol] = [each for each in ranges[symbol] if _is_any_within(gaps, *each)]
        return {symbol: known for symbol, known in ranges.items() if known}

    def _bar_at(self, symbol: str, open_time: int) -> Bar | None:
        try:
            return self._file.get((symbol, open_time))
        except sqlite3.Error:
            return None

    def _log_all_refused(self, bars: Iterable[Bar]) -> None:
        """Log which of *bars*, just written, were not taken."""
        for bar in bars:
            stored = self._file.get((bar.symbol, bar.open_time_ms))
            if stored is not None and _is_refused(bar, stored):
                self._log_refused(bar, stored)

    def _log_refused(self, bar: Bar, stored: Bar) -> None:
        self._limited.warning(
            "bar_refused",
            "a version of a bar is refused: the journal has one that ranks above it",
            symbol=bar.symbol,
            open_time=bar.open_time_ms,
            epoch=bar.epoch,
            trade_count=bar.trade_count,
            stored_epoch=stored.epoch,
            stored_trade_count=stored.trade_count,
        )


def _without_settled(
    batch: WriteBatch,
    checkpoints: Mapping[str, Checkpoint],
    settled: Mapping[str, Iterable[IdRange]],
) -> WriteBatch:
    """Return *batch* with checkpoints that say of no settled ids that aggregates stand in."""
    changed = {}
    for symbol, ids in settled.items():
        checkpoint = checkpoints.get(symbol)
        if checkpoint is not None:
            ledger = without_approximations(checkpoint.ledger, ids)
            if ledger is not checkpoint.ledger:
                changed[symbol] = replace(checkpoint, ledger=ledger)
    if not changed:
        return batch
    return dataclasses.replace(batch, checkpoints=batch.checkpoints | changed)


def _progress(bar: Bar) -> tuple[int, int]:
    """Return how far a version of a bar has come."""
    return bar.epoch, bar.trade_count


def _is_refused(bar: Bar, stored: Bar) -> bool:
    """Whether PUT_BAR keeps *stored*. Completeness decides nothing there: it is given anew."""
    return bar.rank[:3] < stored.rank[:3]


def _continued(stored: Bar, checkpoints: Mapping[str, Checkpoint]) -> Bar:
    """Return what there is of a bar that goes on after a shutdown, or *stored* if it does not."""
    for bar in checkpoints[stored.symbol].open_bars:
        if bar.open_time_ms == stored.open_time_ms and not _is_refused(bar, stored):
            return bar
    return stored


def _is_any_within(gaps: Sequence[Gap], first_id: int, last_id: int) -> bool:
    """Whether one of *gaps*, lowest first, has no other ids than these."""
    index = bisect_left(gaps, first_id, key=lambda gap: gap.first_id)
    return index < len(gaps) and gaps[index].last_id <= last_id
