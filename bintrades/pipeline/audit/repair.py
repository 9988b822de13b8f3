"""What becomes of a unit that differs from the exchange's klines, stage by stage. No thread.

Each call makes one request, or the few of one page of trades.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bintrades.core.audit_records import record_of, records_of
from bintrades.core.audit_schedule import Stage
from bintrades.core.rebuild import rebuilt_bars
from bintrades.core.spans import has
from bintrades.core.verification import Outcome
from bintrades.errors import NotToldError
from bintrades.pipeline.audit.reference import TooManyTrades

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bintrades.core.audit_schedule import AuditSchedule, AuditTimes, Suspect
    from bintrades.core.spans import Span
    from bintrades.core.verification import Comparison
    from bintrades.model import RecordedDifference, SeriesKey
    from bintrades.pipeline.audit.comparer import Comparer
    from bintrades.pipeline.audit.findings import Findings

MAX_EPOCH = 3
"""A bar that was made again so often and differs still is left as it is."""

_AGREEING = frozenset({Outcome.EQUAL, Outcome.SURPLUS})
_EQUAL_SUMS = _AGREEING | {Outcome.SUSPECT}


class Repair:
    """Takes each suspect to its next stage. Every call comes from one thread.

    *clock* is the exchange's time and *now* milliseconds, monotonic. All calls may raise
    BudgetSpent, ExchangeError and JournalError; the suspect is as it was then.
    """

    def __init__(
        self,
        comparer: Comparer,
        findings: Findings,
        schedule: AuditSchedule,
        times: AuditTimes,
        series: Callable[[str], SeriesKey],
    ) -> None:
        self._comparer = comparer
        self._findings = findings
        self._schedule = schedule
        self._times = times
        self._series = series

    def take(self, suspect: Suspect, clock: int, now: int) -> None:
        """Do what the stage of *suspect* is about."""
        match suspect.stage:
            case Stage.LOOK_AGAIN | Stage.CONFIRM:
                self._compare_again(suspect, clock, now)
            case Stage.NARROW:
                self._narrow(suspect, clock, now)
            case Stage.REBUILD:
                self._rebuild(suspect, clock, now)

    def _compare_again(self, suspect: Suspect, clock: int, now: int) -> None:
        if not self._is_in_place(suspect):
            self._give_up(suspect, now)  # the journal has refused it, or took nothing for minutes
            return
        looked = self._comparer.compare(
            suspect.symbol, suspect.span, self._comparable(suspect, clock)
        )
        outcomes = {each.outcome for each in looked}
        is_last = suspect.stage is Stage.CONFIRM
        if _agrees(suspect, looked):
            self._conclude_equal(suspect, clock, now)
        elif outcomes & {Outcome.DIFFERENT, Outcome.SUSPECT}:
            differences = records_of(looked, clock)
            if self._comparer.fine_kline_ms is not None:
                self._go_on(suspect, Stage.NARROW, now, differences)
            elif is_last:
                self._conclude_staying(suspect, differences, looked, clock, now)
            else:
                self._go_on(suspect, Stage.REBUILD, now, differences)
        else:
            self._give_up(suspect, now)

    def _narrow(self, suspect: Suspect, clock: int, now: int) -> None:
        """Find out which bars of a unit have to be made again, those that are proven left out."""
        comparable = self._comparable(suspect, clock)
        looked = self._comparer.compare_finely(suspect.symbol, suspect.span, comparable)
        if looked is not None and not looked:
            self._give_up(suspect, now)  # it is not covered any more
            return
        differences = records_of(looked or (), clock) or suspect.differences
        interval = self._comparer.interval_ms
        bars = [
            open_time
            for each in looked or ()
            if each.outcome not in _AGREEING
            for open_time in range(
                each.open_time_ms, each.open_time_ms + each.interval_ms, interval
            )
        ]
        if not bars and (looked is None or differences):
            # It cannot be told which: the klines do not agree with each other.
            bars = list(range(*suspect.span, interval))
        if suspect.is_too_large:
            is_equal = looked is not None and {each.outcome for each in looked} <= _EQUAL_SUMS
            if is_equal and not differences:
                self._conclude_equal(suspect, clock, now)  # klines of both lengths say so
            else:
                self._confirm_staying(suspect, differences, clock, now)
        elif left := tuple(time for time in bars if time not in suspect.proven):
            self._go_on(suspect, Stage.REBUILD, now, differences, left)
        elif bars:
            self._confirm_staying(suspect, differences, clock, now)
        else:
            self._conclude_equal(suspect, clock, now)  # it has changed meanwhile

    def _rebuild(self, suspect: Suspect, clock: int, now: int) -> None:
        """Make bars again of the exchange's trades, where these say something else."""
        bars = suspect.bars or tuple(range(*suspect.span, self._comparer.interval_ms))
        span = bars[0], bars[-1] + self._comparer.interval_ms
        try:
            trades = self._comparer.reference.trades_between(suspect.symbol, *span)
        except (TooManyTrades, NotToldError):
            suspect = replace(suspect, stage=Stage.CONFIRM, is_too_large=True)
            self._schedule.add_suspect(suspect, now + self._times.again_ms)
            return
        stored = {bar.open_time_ms: bar for bar in self._comparer.bars(suspect.symbol, span)}
        made = rebuilt_bars(
            stored.values(),
            trades,
            bars,
            key=self._series(suspect.symbol),
            interval_ms=self._comparer.interval_ms,
        )
        rebuilt = [bar for bar in made if bar.epoch <= MAX_EPOCH or not bar.is_complete]
        left = {bar.open_time_ms for bar in made if bar not in rebuilt}
        proven = (*suspect.proven, *(open_time for open_time in bars if open_time not in left))
        suspect = replace(suspect, proven=proven)
        found = list(suspect.differences)
        for bar in made:
            if not any(has([each.span], (bar.open_time_ms, bar.end_time_ms)) for each in found):
                found.append(record_of(stored.get(bar.open_time_ms), bar, clock))
        if rebuilt:
            self._findings.add_rebuilt(suspect.symbol, rebuilt, found)
            epochs = (*suspect.rebuilt, *((bar.open_time_ms, bar.epoch) for bar in rebuilt))
            suspect = replace(suspect, stage=Stage.CONFIRM, differences=(), rebuilt=epochs)
            self._schedule.add_suspect(suspect, now + self._times.again_ms)
        elif found:
            self._confirm_staying(suspect, found, clock, now)
        else:
            self._conclude_equal(suspect, clock, now)

    def _is_in_place(self, suspect: Suspect) -> bool:
        """Whether the journal has taken the bars that were rebuilt."""
        if not suspect.rebuilt:
            return True
        stored = {
            bar.open_time_ms: bar for bar in self._comparer.bars(suspect.symbol, suspect.span)
        }
        return all(
            open_time in stored and stored[open_time].epoch >= epoch
            for open_time, epoch in suspect.rebuilt
        )

    def _comparable(self, suspect: Suspect, clock: int) -> list[Span]:
        return self._comparer.comparable(suspect.symbol, clock)

    def _go_on(
        self,
        suspect: Suspect,
        stage: Stage,
        now: int,
        differences: tuple[RecordedDifference, ...],
        bars: tuple[int, ...] = (),
    ) -> None:
        suspect = replace(suspect, stage=stage, differences=differences, bars=bars)
        self._schedule.add_suspect(suspect, now)

    def _conclude_equal(self, suspect: Suspect, clock: int, now: int) -> None:
        has_surplus = bool(self._comparer.surplus(suspect.symbol, suspect.span))
        spans = [suspect.span]
        self._findings.add_equal(
            suspect.symbol,
            [] if has_surplus else spans,
            clock,
            self._comparer.read_through,
            but_for_surplus=spans if has_surplus else [],
        )
        self._settle(suspect, now)

    def _settle(self, suspect: Suspect, now: int) -> None:
        """Have a unit be as any other; one with a bar that is surplus is left out for a while."""
        if self._comparer.surplus(suspect.symbol, suspect.span):
            self._give_up(suspect, now)
        else:
            self._schedule.settle(suspect)

    def _confirm_staying(
        self,
        suspect: Suspect,
        differences: Sequence[RecordedDifference],
        clock: int,
        now: int,
    ) -> None:
        """Conclude that *differences* stay, unless bars have changed since they were found."""
        comparable = self._comparable(suspect, clock)
        looked = self._comparer.compare(suspect.symbol, suspect.span, comparable)
        self._conclude_staying(suspect, differences, looked, clock, now)

    def _conclude_staying(
        self,
        suspect: Suspect,
        differences: Sequence[RecordedDifference],
        looked: Sequence[Comparison],
        clock: int,
        now: int,
    ) -> None:
        """Conclude from a unit, as *looked* at last, that *differences* stay."""
        outcomes = {each.outcome for each in looked}
        if _agrees(suspect, looked):
            self._conclude_equal(suspect, clock, now)
        elif differences and outcomes & {Outcome.DIFFERENT, Outcome.SUSPECT}:
            read_through = self._comparer.read_through
            self._findings.add_staying(
                suspect.symbol, suspect.span, differences, clock, read_through
            )
            self._settle(suspect, now)
        else:
            self._give_up(suspect, now)

    def _give_up(self, suspect: Suspect, now: int) -> None:
        """Leave it for a later turn: nothing can be told now."""
        self._schedule.give_up(suspect, now)


def _agrees(suspect: Suspect, looked: Sequence[Comparison]) -> bool:
    """Whether a unit is equal, and each bar in it that contradicts itself is proven to be right.

    Ids that the exchange has left out make a bar of its own trades contradict itself.
    """
    return bool(looked) and all(
        each.outcome in _AGREEING
        or (each.outcome is Outcome.SUSPECT and set(each.contradicting) <= set(suspect.proven))
        for each in looked
    )
