"""What an audit has found: on record in the journal, in the log, and in figures. No thread."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from bintrades.core.audit_result import BarRebuilt, BarsAudited
from bintrades.core.spans import has
from bintrades.model import DifferenceOutcome, RecordedDifference, utc
from bintrades.util.logs import LimitedLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bintrades.core.spans import Span
    from bintrades.exchange.events import Event
    from bintrades.journal.reader import JournalReader
    from bintrades.model import Bar

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FindingCounts:
    """What was found since the start."""

    verified_ms: int = 0  # length of what was equal
    different: int = 0  # bars or minutes that differed twice
    rebuilt: int = 0  # bars
    repaired: int = 0  # differences
    staying: int = 0


class Findings:
    """Puts on record what was found. Belongs to one thread, but for counts.

    *read_through* is the last number of the journal's sequence before the bars were read from which
    something follows: of bars that were written meanwhile nothing goes on record.
    """

    def __init__(self, reader: JournalReader, put: Callable[[Event], None]) -> None:
        self.counts = FindingCounts()
        self._reader = reader
        self._put = put
        self._limited = LimitedLog(log, every_s=60.0)

    def add_equal(self, symbol: str, spans: Sequence[Span], clock: int, read_through: int) -> None:
        """Put on record that *spans* are verified, and that what differed in them is repaired.

        They are oldest first, and apart from each other. Raises JournalError.
        """
        if not spans:
            return
        repaired = tuple(
            _with_outcome(each, DifferenceOutcome.REPAIRED, clock)
            for each in self._reader.differences(symbol, (spans[0][0], spans[-1][1]))
            if each.outcome is DifferenceOutcome.OPEN and has(spans, each.span)
        )
        for each in repaired:
            self._limited.info(
                "difference_repaired",
                "what differed from the exchange's klines was rebuilt, and agrees now",
                **_described(each),
            )
        self._put(BarsAudited(symbol, tuple(spans), repaired, read_through))
        counts = self.counts
        self.counts = replace(
            counts,
            verified_ms=counts.verified_ms + sum(until - since for since, until in spans),
            repaired=counts.repaired + len(repaired),
        )

    def add_rebuilt(
        self, symbol: str, bars: Iterable[Bar], differences: Sequence[RecordedDifference]
    ) -> None:
        """Have *bars* take the place of the stored ones, which differ."""
        bars = list(bars)
        # The record first: whoever finds the bar in its place finds that, too.
        self._put(BarsAudited(symbol, differences=tuple(differences)))
        for bar in bars:
            self._put(BarRebuilt(bar))
        for each in differences:
            self._limited.warning(
                "bar_differs",
                "a bar differs from the exchange's klines; it is made again of its trades",
                **_described(each),
            )
        counts = self.counts
        self.counts = replace(
            counts,
            different=counts.different + len(differences),
            rebuilt=counts.rebuilt + len(bars),
        )

    def add_staying(
        self,
        symbol: str,
        span: Span,
        differences: Sequence[RecordedDifference],
        clock: int,
        read_through: int,
    ) -> None:
        """Put on record what differs in *span* though the bars are those of the exchange's trades.

        What differed in it before, and does no longer, is repaired. Raises JournalError.
        """
        were_open = {
            _key(each): each
            for each in self._reader.differences(symbol, span)
            if each.outcome is DifferenceOutcome.OPEN and has([span], each.span)
        }
        kept = [
            msgspec.structs.replace(
                _with_outcome(each, DifferenceOutcome.STAYS, clock),
                found_at_ms=were_open.get(_key(each), each).found_at_ms,
            )
            for each in differences
        ]
        stay = set(map(_key, kept))
        repaired = [
            _with_outcome(each, DifferenceOutcome.REPAIRED, clock)
            for key, each in were_open.items()
            if key not in stay
        ]
        for each in kept:
            self._limited.warning(
                "difference_stays",
                "the exchange's klines contradict its trades or each other; both sides are on"
                " record",
                **_described(each),
            )
        found = (*kept, *repaired)
        self._put(BarsAudited(symbol, differences=found, read_through=read_through))
        counts = self.counts
        self.counts = replace(
            counts,
            different=counts.different + len(stay - were_open.keys()),
            repaired=counts.repaired + len(repaired),
            staying=counts.staying + len(kept),
        )


def span_of(difference: RecordedDifference) -> Span:
    """Return the time of a difference."""
    return difference.open_time_ms, difference.open_time_ms + difference.interval_ms


def is_within(span: Span, spans: Iterable[Span]) -> bool:
    """Whether one of *spans* has all of *span*."""
    return any(since <= span[0] and span[1] <= until for since, until in spans)


def _key(difference: RecordedDifference) -> tuple[int, int]:
    return difference.open_time_ms, difference.interval_ms


def _described(difference: RecordedDifference) -> dict[str, object]:
    """Return the fields of a line of the log about *difference*."""
    return {
        "symbol": difference.symbol,
        "open_time": utc(difference.open_time_ms).isoformat(),
        "interval_seconds": difference.interval_ms // 1000,
        "ours": difference.ours,
        "theirs": difference.theirs,
    }


def _with_outcome(
    difference: RecordedDifference, outcome: DifferenceOutcome, clock: int
) -> RecordedDifference:
    return msgspec.structs.replace(difference, outcome=outcome, changed_at_ms=clock)
