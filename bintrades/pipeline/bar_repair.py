"""Bars that differ from the exchange's klines, made again of the exchange's trades. No thread."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from bintrades.core.rebuild import rebuilt_bars
from bintrades.errors import ExchangeError
from bintrades.pipeline.verification import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bintrades.core.verification import Difference
    from bintrades.model import Bar
    from bintrades.pipeline.verification import Verification
    from bintrades.pipeline.verification_sources import BarSource, ExchangeKlines


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
    STAYS = "stays different"


class BarRepair:
    """Makes bars again, hands them to the journal by *put*, and verifies them again.

    *stored* are the bars to look at, and *journal* those of the journal, which may be the same;
    *put* returns those that did not take their place, and *verification* has found them.
    """

    def __init__(
        self,
        stored: BarSource,
        journal: BarSource,
        exchange: ExchangeKlines,
        put: Callable[[Sequence[Bar]], Sequence[Bar]],
        verification: Verification,
        *,
        market: str,
        interval_ms: int,
    ) -> None:
        self._stored = stored
        self._journal = journal
        self._exchange = exchange
        self._put = put
        self._verification = verification
        self._market = market
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

    def _rebuild(self, difference: Difference) -> tuple[list[Bar], RepairOutcome | None]:
        """Return the bars to put in the place of others; with an outcome where there are none."""
        symbol, since_ms = difference.symbol, difference.open_time_ms
        until_ms = since_ms + difference.interval_ms
        try:
            trades = self._exchange.trades(symbol, since_ms, until_ms)
        except ExchangeError:
            return [], RepairOutcome.UNANSWERED
        bars = rebuilt_bars(
            self._stored.bars(symbol, since_ms, until_ms),
            trades,
            range(since_ms, until_ms, self._interval_ms),
            symbol=symbol,
            market=self._market,
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
        return RepairOutcome.REPAIRED if tally.checked_ms else RepairOutcome.REBUILT


def _touch(one: Difference, other: Difference) -> bool:
    return (
        one.open_time_ms < other.open_time_ms + other.interval_ms
        and other.open_time_ms < one.open_time_ms + one.interval_ms
    )
