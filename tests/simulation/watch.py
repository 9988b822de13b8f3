"""What is checked as soon as it is written: what is called complete is, what is proven is known.

Each version that a store or a journal is given is compared with the exchange's list of trades, if
it says that it is closed and complete. After each commit no trade is missing, but for those in a
gap on record, from before the time that is proven; and each interval that is covered for the first
time has in its bar what happened, or nothing happened in it. It costs what is new, not what there
is.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from bintrades.journal.damage import UnreadableRow
from bintrades.journal.rows import BAR_COLUMNS, bar_from_row
from bintrades.journal.writer import Journal
from bintrades.model import GapOutcome
from tests.simulation.market import WIPED_IDS, by_interval, differences, fills_of
from tests.simulation.schedule import START_MS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from decimal import Decimal
    from pathlib import Path

    from bintrades.core.write_batch import Checkpoint, WriteBatch
    from bintrades.journal.state import JournalState
    from bintrades.model import Bar, Trade
    from tests.simulation.world import World

_EARLIEST_MS = 100 * 3_600_000  # a clock that is wrong may have trades be wanted since long before
_NEW_ROWS = f"SELECT {BAR_COLUMNS} FROM bars WHERE sequence > ?"  # noqa: S608 - constants
_ROW = f"SELECT {BAR_COLUMNS} FROM bars WHERE symbol = ? AND open_time = ?"  # noqa: S608
_LATE = f"SELECT since, until FROM past_gaps WHERE symbol = ? AND outcome = '{GapOutcome.LATE}'"  # noqa: S608


class History:
    """The exchange's list of the trades of one symbol, in the order of their happening.

    Of what is *shown* some may be no fills: those are no trades, but their times are known as well.
    """

    def __init__(
        self, shown: Sequence[Trade], interval: int, contract_size: Decimal | None = None
    ) -> None:
        self._trades = trades = fills_of(shown)
        self._interval = interval
        self._contract_size = contract_size
        self._ids = [trade.trade_id for trade in trades]
        self._old = sum(1 for trade_id in self._ids if trade_id >= WIPED_IDS)
        self._by_interval = by_interval(trades, interval)
        ids = [each.trade_id for each in shown]
        newest = accumulate((each.time for each in shown), max)
        # The newest `T` before each trade: `T` of some falls back, which no rule foresees.
        self._before = dict(zip(ids, [0, *newest], strict=False))

    def between(self, since: int, until: int) -> Iterator[Trade]:
        """Yield the trades with since <= T < until."""
        return (trade for trade in self._trades if since <= trade.time < until)

    def of(self, open_time: int) -> list[Trade]:
        """Return the trades of an interval."""
        return self._by_interval.get(open_time, [])

    def first_from(self, next_id: int, *, is_wiped: bool) -> Trade | None:
        """Return the first trade from *next_id* on whose `T` does not fall back."""
        if not is_wiped:
            place = bisect_left(self._ids, next_id)
        elif next_id > WIPED_IDS:
            place = bisect_left(self._ids, next_id, 0, self._old)
        else:
            place = bisect_left(self._ids, next_id, self._old)
        while place < len(self._trades):
            trade = self._trades[place]
            if trade.time >= self._before[trade.trade_id]:
                return trade
            place += 1
        return None

    def wrong(self, open_time: int, bar: Bar | None) -> str:
        """Return what *bar* says otherwise than the trades of its interval; "" if nothing.

        It may lack the last ones if `T` of theirs fell back from beyond the interval's end.
        """
        trades = self.of(open_time)
        found = self._differences(bar, trades)
        end = open_time + self._interval
        while found and trades and self._before[trades[-1].trade_id] >= end:
            trades = trades[:-1]
            if not self._differences(bar, trades):
                return ""
        return found

    def _differences(self, bar: Bar | None, trades: list[Trade]) -> str:
        if bar is None:
            return f"no bar for {len(trades)} trades" if trades else ""
        if not trades:
            return f"a bar of nothing: {bar}"
        return str(differences(bar, trades, self._contract_size) or "")


@dataclass(slots=True)
class _Uncovered:
    """Intervals of one symbol that were not covered yet, of those between two times."""

    since: int
    until: int
    open_times: list[int] = field(default_factory=list)

    def extend(self, since: int, until: int, interval: int) -> None:
        """Have it hold all between *since* and *until*."""
        self.open_times += range(since, self.since, interval)
        self.open_times += range(self.until, until, interval)
        self.since, self.until = min(since, self.since), max(until, self.until)


class Watch:
    """Watches one world; what is wrong goes to its errors."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._interval = world.schedule.interval
        self._histories = {
            symbol: History(shown, self._interval, world.schedule.kind.contract_size(symbol))
            for symbol, shown in world.shown.items()
        }

    def history(self, symbol: str) -> History:
        """Return what happened to *symbol*."""
        return self._histories[symbol]

    def look_at(self, bars: Iterable[Bar], where: str) -> None:
        """Compare what is called complete with the trades that happened."""
        for bar in bars:
            if wrong := self._miscounted(bar):
                self._report(where, bar.symbol, bar.open_time_ms, f"{wrong}: {bar}")
            if bar.is_closed and bar.is_complete and not self._is_unforeseeable(bar.symbol):
                wrong = self._histories[bar.symbol].wrong(bar.open_time_ms, bar)
                if wrong:
                    self._report(where, bar.symbol, bar.open_time_ms, f"complete, but {wrong}")

    def _miscounted(self, bar: Bar) -> str:
        """Return what *bar* says wrong of ids that are no fills, or of how it was made."""
        kind, harshness = self._world.schedule.kind, self._world.harshness
        if kind.is_approximate and (bar.is_complete or not bar.is_approximate):
            return "made of aggregates, and not called so"
        if not kind.has_fillers and (bar.excluded_count or bar.is_approximate):
            return "every id of this market is a fill"
        if bar.is_complete and bar.is_approximate:
            return "complete, and approximate"
        if harshness.wiped_at is not None or not kind.has_fillers:
            return ""
        fills = self._world.tapes[bar.symbol].between(bar.first_trade_id, bar.last_trade_id)
        excluded = bar.last_trade_id - bar.first_trade_id + 1 - len(fills)
        if bar.excluded_count > excluded:
            return "more ids are no fills than there are"
        # Where `T` falls back, fills of other intervals may lie between.
        if bar.is_complete and bar.excluded_count != excluded:
            return "complete, but it does not prove itself"
        return ""

    def look_at_excluded(self, batch: WriteBatch, where: str) -> None:
        """Look for trades among the ids that are put on record as no fills."""
        if self._world.harshness.wiped_at is not None:
            return
        for symbol, spans in batch.excluded.items():
            for first_id, last_id in spans:
                fills = self._world.tapes[symbol].between(first_id, last_id)
                if fills:
                    problem = f"{fills[0].trade_id} is a fill, and on record as none"
                    self._report(where, symbol, fills[0].time, problem)

    def look_at_cover(self, bars: Mapping[int, Bar | None], symbol: str, where: str) -> None:
        """Compare what is called covered with the trades that happened."""
        for open_time, bar in bars.items():
            if self._is_unforeseeable(symbol):
                continue
            wrong = self._histories[symbol].wrong(open_time, bar)
            if bar is not None and not (bar.is_closed and bar.is_complete):
                wrong = f"{bar}"
            if wrong:
                self._report(where, symbol, open_time, f"covered, but {wrong}")

    def look_at_proof(self, checkpoint: Checkpoint, symbol: str, where: str) -> None:
        """Look for a trade that is not known, nor in a gap, from before the time proven."""
        if checkpoint.proven_ms is None or self._is_unforeseeable(symbol):
            return
        history, next_id = self._histories[symbol], checkpoint.ledger.next_id
        is_wiped = self._world.harshness.wiped_at is not None
        if next_id is not None:
            missed = history.first_from(next_id, is_wiped=is_wiped)
        else:
            since = checkpoint.covered_since_ms or checkpoint.proven_ms
            if is_wiped:  # what was before that had ids of before; its bars are compared
                since = max(since, checkpoint.ledger.last_time or since)
            gaps = checkpoint.ledger.gaps  # without ids: others there are none
            missed = next(
                (
                    trade
                    for trade in history.between(since, checkpoint.proven_ms)
                    if not any(gap.since_ms <= trade.time <= gap.until_ms for gap in gaps)
                ),
                None,
            )
        if missed is not None and missed.time < checkpoint.proven_ms:
            behind = checkpoint.proven_ms - missed.time
            self._report(where, symbol, missed.time, f"not known, and proven {behind} ms later")

    def look_at_coverage(
        self,
        journal: WatchedJournal,
        symbol: str,
        checkpoint: Checkpoint,
        uncovered: dict[str, _Uncovered],
    ) -> None:
        """Compare the bars of intervals that are covered since a moment ago."""
        since, until = checkpoint.covered_since_ms, checkpoint.proven_ms
        if since is None or until is None or self._is_unforeseeable(symbol):
            return
        state, interval = journal._file.state, self._interval
        since, until = since + -since % interval, until - until % interval
        begun = START_MS - self._world.schedule.history - _EARLIEST_MS
        if not begun <= since <= until:
            if since < begun:  # there was no trade, and nobody has asked so far back
                self._report(journal.path.name, symbol, since, "covered since before the world")
            return
        new = uncovered.setdefault(symbol, _Uncovered(since, since))
        new.extend(since, until, interval)
        left = []
        for open_time in new.open_times:
            is_proven = open_time < until
            if not is_proven or not _is_whole(state, symbol, checkpoint, open_time, interval):
                left.append(open_time)
            elif wrong := self._wrong_in(journal, symbol, checkpoint, open_time):
                self._report(journal.path.name, symbol, open_time, f"covered, but {wrong}")
        new.open_times = left

    def _wrong_in(
        self, journal: WatchedJournal, symbol: str, checkpoint: Checkpoint, open_time: int
    ) -> str:
        state, history = journal._file.state, self._histories[symbol]
        open_bars = (each for each in checkpoint.open_bars if each.open_time_ms == open_time)
        bar = next(open_bars, None) or journal.bar_at(symbol, open_time)
        if bar is None and self._may_be_gone(state, symbol, open_time):
            return ""
        wrong = history.wrong(open_time, bar)
        return "" if wrong and journal.is_late(symbol, open_time, self._interval) else wrong

    def _may_be_gone(self, state: JournalState, symbol: str, open_time: int) -> bool:
        """Whether the bar has left the journal, or may be lost with a page, unnoticed so far."""
        pruned = open_time <= state.pruned_through.get(symbol, -1)
        return pruned or bool(self._world.harshness.damages)

    def _is_unforeseeable(self, symbol: str) -> bool:
        """Whether nobody can tell of other trades: all of before a wipe were unseen, or it was."""
        return symbol in self._world.unseen_by_any or self._world.has_missed_wipe(symbol)

    def _report(self, where: str, symbol: str, time: int, problem: str) -> None:
        at = self._world.clock.elapsed / 1000
        text = f"{where}: {symbol} {(time - START_MS) / 1000:g} s: {problem}, at {at:.3f} s"
        self._world.note(f"WRONG: {text}")
        self._world.errors.append(text)


class WatchedJournal(Journal):
    """A journal of which each commit is looked at."""

    def __init__(self, world: World, path: Path) -> None:
        kind = world.schedule.kind
        super().__init__(
            path,
            exchange="binance",
            market=kind.market,
            stream=kind.stream,
            interval_ms=world.schedule.interval,
            mark_every_ms=500,
        )
        self._watch = world.watch
        self._uncovered: dict[str, _Uncovered] = {}
        self._look()

    def write(
        self,
        batch: WriteBatch,
        now_ms: int,
        status: str | None = None,
        *,
        exchange_ms: int | None = None,
    ) -> bool:
        """Commit *batch*, and look at what that has changed."""
        before = self._file.state.last_sequence
        self._watch.look_at_excluded(batch, self.path.name)
        has_bars = super().write(batch, now_ms, status, exchange_ms=exchange_ms)
        if has_bars:
            self._watch.look_at(self._bars(_NEW_ROWS, before), self.path.name)
        self._look()
        return has_bars

    def bar_at(self, symbol: str, open_time: int) -> Bar | None:
        """Return the stored bar of an interval, if there is one that can be read."""
        return next(iter(self._bars(_ROW, symbol, open_time)), None)

    def is_late(self, symbol: str, open_time: int, interval_ms: int) -> bool:
        """Whether trades of an interval came when its bar had left."""
        return any(
            since < open_time + interval_ms and until >= open_time
            for since, until in self._rows(_LATE, symbol)
        )

    def _look(self) -> None:
        for symbol, checkpoint in self.checkpoints.items():
            if symbol in self._watch._histories:
                self._watch.look_at_proof(checkpoint, symbol, self.path.name)
                self._watch.look_at_coverage(self, symbol, checkpoint, self._uncovered)

    def _bars(self, select: str, *values: object) -> list[Bar]:
        bars = []
        for row in self._rows(select, *values):
            try:
                bars.append(bar_from_row(row, self._scope.market, self._scope.interval_ms))
            except UnreadableRow:
                continue  # a page is corrupt, which the collector is to find out
        return bars

    def _rows(self, select: str, *values: object) -> list[tuple[Any, ...]]:
        connection = self._file.connection
        connection.set_progress_handler(None, 0)  # that interrupts what the collector does
        try:
            return connection.execute(select, values).fetchall()
        except sqlite3.Error:
            return []


def _is_whole(
    state: JournalState, symbol: str, checkpoint: Checkpoint, open_time: int, interval: int
) -> bool:
    """Whether no gap on record touches an interval, and nothing of it was lost with a file."""
    return open_time > state.lost_through.get(symbol, -1) and not any(
        gap.touches(open_time, interval) for gap in checkpoint.ledger.gaps
    )
