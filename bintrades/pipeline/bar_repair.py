"""Bars that differ from the exchange's klines, made again of the exchange's trades. No thread."""

from __future__ import annotations

import logging
from enum import StrEnum
from typing import TYPE_CHECKING

from bintrades.core.rebuild import rebuilt_bars
from bintrades.core.verification import Outcome
from bintrades.errors import ExchangeError, NotToldError
from bintrades.pipeline.verification import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from bintrades.core.verification import Difference
    from bintrades.model import Bar, SeriesKey
    from bintrades.pipeline.verification import Verification
    from bintrades.pipeline.verification_sources import BarSource, ExchangeKlines


log = logging.getLogger(__name__)

_LONGEST_RUN = 60  # bars made again at once


class RepairOutcome(StrEnum):
    """What has become of a difference."""

    REPAIRED = "repaired"
    """The bars were made again, and do not differ any more."""

    REBUILT = "rebuilt"
    """The bars were made again, and cannot be compared yet: the store is still to get them."""

    CONFIRMED = "the exchange's trades say what we say"
    """The bars are those of the exchange's trades, which its klines are not."""

    NO_TRADES = "the exchange has no trades there"
    """A bar that should not be there cannot be taken out of stores: it is stored again, and says
    that it is not complete. Other bars were made again."""

    REFUSED = "the journal did not take the bar"
    """Trades of it are missing, or it was not yet taken over."""

    UNANSWERED = "the exchange did not answer"
    """It gave no trades, or no klines to compare the bars that were made again with."""

    NOT_TOLD = "the exchange does not tell its trades any more, or only with an api_key"
    """Single trades of the time are needed."""

    STAYS = "stays different"


_EQUAL_SUMS = (Outcome.SURPLUS, Outcome.SUSPECT)
"""What a unit is that equals its klines as a whole, beside EQUAL: the bars that were made again are
of the exchange's own trades, so what contradicts itself is another one, or ids were left out."""


class BarRepair:
    """Makes bars again, hands them to the journal by *put*, and verifies them again.

    *stored* are the bars to look at, and *journal* those of the journal, which may be the same;
    *put* returns those that did not take their place, and *verification* has found them. *series*
    says which series the trades of a symbol are.
    """

    def __init__(
        self,
        stored: BarSource,
        journal: BarSource,
        exchange: ExchangeKlines,
        put: Callable[[Sequence[Bar]], Sequence[Bar]],
        verification: Verification,
        *,
        series: Callable[[str], SeriesKey],
        interval_ms: int,
    ) -> None:
        self._stored = stored
        self._journal = journal
        self._exchange = exchange
        self._put = put
        self._verification = verification
        self._series = series
        self._interval_ms = interval_ms

    def repair(self, differences: Sequence[Difference]) -> list[RepairOutcome]:
        """Return what has become of each of *differences*. Raises BintradesError."""
        outcomes: list[RepairOutcome | None] = []
        rebuilt: list[list[Bar]] = []
        for each in differences:
            bars, outcome = self._rebuild(each)
            rebuilt.append(bars)
            outcomes.append(outcome)
        refused = {
            (bar.symbol, bar.open_time_ms)
            for bar in self._put([bar for bars in rebuilt for bar in bars])
        }
        return [
            outcome or self._outcome(difference, bars, refused)
            for difference, bars, outcome in zip(differences, rebuilt, outcomes, strict=True)
        ]

    def replace_approximations(self, symbol: str, since_ms: int, until_ms: int) -> int:
        """Make bars of that time again in which aggregates stand in for trades; return how many.

        What the exchange does not have singly stays as it is, and so does all where the stream is
        one of aggregates. Raises BintradesError.
        """
        key = self._series(symbol)
        if key.is_approximate:
            return 0
        stored = self._journal.bars(symbol, since_ms, until_ms)
        approximate = [bar for bar in stored if bar.is_approximate and bar.is_closed]
        made: list[Bar] = []
        for run in _runs(approximate):
            since, until = run[0].open_time_ms, run[-1].end_time_ms
            try:
                trades = self._exchange.trades(symbol, since, until)
            except ExchangeError as error:
                log.warning(
                    "bars stay approximate: their trades cannot be had singly",
                    extra={
                        "event": "bars_stay_approximate",
                        "symbol": symbol,
                        "since": since,
                        "error": str(error),
                    },
                )
                break  # nor can those of the others
            made += rebuilt_bars(
                run,
                trades,
                range(since, until, self._interval_ms),
                key=key,
                interval_ms=self._interval_ms,
                others=self._stored.bars(symbol, since, until),
            )
        return len(made) - len(self._put(made)) if made else 0

    def _rebuild(self, difference: Difference) -> tuple[list[Bar], RepairOutcome | None]:
        """Return the bars to put in the place of others; with an outcome where there are none."""
        symbol, since_ms = difference.symbol, difference.open_time_ms
        until_ms = since_ms + difference.interval_ms
        try:
            trades = self._exchange.trades(symbol, since_ms, until_ms)
        except NotToldError:
            return [], RepairOutcome.NOT_TOLD
        except ExchangeError:
            return [], RepairOutcome.UNANSWERED
        bars = rebuilt_bars(
            self._stored.bars(symbol, since_ms, until_ms),
            trades,
            range(since_ms, until_ms, self._interval_ms),
            key=self._series(symbol),
            interval_ms=self._interval_ms,
            others=self._journal.bars(symbol, since_ms, until_ms),
        )
        return bars, None if bars else RepairOutcome.CONFIRMED

    def _outcome(
        self, difference: Difference, bars: Sequence[Bar], refused: set[tuple[str, int]]
    ) -> RepairOutcome:
        if any((bar.symbol, bar.open_time_ms) in refused for bar in bars):
            return RepairOutcome.REFUSED
        unit = self._verification.unit_ms(difference.symbol)
        since_ms = difference.open_time_ms // unit * unit
        until_ms = since_ms + max(unit, difference.interval_ms)
        tally = Tally()
        again = [
            each
            for page in self._verification.verify(difference.symbol, since_ms, until_ms, tally)
            for each in page
        ]
        if any(_touch(difference, each) for each in again):
            return RepairOutcome.STAYS
        if not all(bar.is_complete for bar in bars):
            return RepairOutcome.NO_TRADES
        if tally.checked_ms or any(tally.not_checked_ms[each] for each in _EQUAL_SUMS):
            return RepairOutcome.REPAIRED
        if self._is_to_come(difference.symbol, bars):
            return RepairOutcome.REBUILT
        if tally.not_checked_ms[Outcome.INCOMPLETE] and self._is_equal_by_bar(difference):
            return RepairOutcome.REPAIRED  # another bar of its unit is not complete
        return RepairOutcome.UNANSWERED

    def _is_to_come(self, symbol: str, bars: Sequence[Bar]) -> bool:
        """Whether the journal has got *bars*, and a store that is read is still to get one."""
        if self._stored is self._journal:
            return False
        until_ms = bars[-1].end_time_ms
        stored = {
            bar.open_time_ms: bar
            for bar in self._stored.bars(symbol, bars[0].open_time_ms, until_ms)
            if bar.is_complete  # one that is still to come says that it is not
        }
        return any(
            bar.open_time_ms not in stored or stored[bar.open_time_ms].epoch < bar.epoch
            for bar in bars
        )

    def _is_equal_by_bar(self, difference: Difference) -> bool:
        """Whether each bar of *difference* is compared by itself and equal."""
        tally = Tally()
        since_ms, until_ms = (
            difference.open_time_ms,
            difference.open_time_ms + difference.interval_ms,
        )
        pages = self._verification.bar_by_bar().verify(difference.symbol, since_ms, until_ms, tally)
        return not any(pages) and tally.equal_ms == difference.interval_ms


def _runs(bars: Iterable[Bar]) -> Iterator[list[Bar]]:
    """Yield bars of neighbouring intervals together: there are no trades between those."""
    run: list[Bar] = []
    for bar in bars:
        if run and (run[-1].end_time_ms != bar.open_time_ms or len(run) == _LONGEST_RUN):
            yield run
            run = []
        run.append(bar)
    if run:
        yield run


def _touch(one: Difference, other: Difference) -> bool:
    return (
        one.open_time_ms < other.open_time_ms + other.interval_ms
        and other.open_time_ms < one.open_time_ms + one.interval_ms
    )
