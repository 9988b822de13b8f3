"""What an audit has found: on record in the journal, in the log, and in figures. No thread."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from bintrades.core.audit_result import BarRebuilt, BarsAudited
from bintrades.core.spans import has, union
from bintrades.model import DifferenceOutcome, RecordedDifference, utc
from bintrades.util.logs import LimitedLog

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

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

    def add_equal(
        self,
        symbol: str,
        spans: Sequence[Span],
        clock: int,
        read_through: int,
        *,
        but_for_surplus: Sequence[Span] = (),
    ) -> None:
        """Put on record that *spans* are verified, and what has become of differences in them.

        In *but_for_surplus*, which is not verified, there is nothing else that differs than bars
        where the exchange has no trades. Both are oldest first, and apart from each other. Raises
        JournalError.
        """
        if not (spans or but_for_surplus):
            return
        ended = self._end_open(symbol, union([*spans, *but_for_surplus]), clock)
        if spans or ended:
            self._put(BarsAudited(symbol, tuple(spans), ended, read_through))
        verified_ms = sum(until - since for since, until in spans)
        self.counts = replace(self.counts, verified_ms=self.counts.verified_ms + verified_ms)

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
        were_open = {_key(each): each for each in self._open_within(symbol, [span])}
        kept = tuple(
            msgspec.structs.replace(
                _with_outcome(each, DifferenceOutcome.STAYS, clock),
                found_at_ms=were_open.get(_key(each), each).found_at_ms,
            )
            for each in differences
        )
        stay = set(map(_key, kept))
        for each in kept:
            self._limited.warning(
                "difference_stays",
                "the exchange's klines contradict its trades or each other; both sides are on"
                " record",
                **_described(each),
            )
        ended = self._end_open(symbol, [span], clock, but_for=stay)
        found = (*kept, *ended)
        self._put(BarsAudited(symbol, differences=found, read_through=read_through))
        counts = self.counts
        self.counts = replace(
            counts,
            different=counts.different + len(stay - were_open.keys()),
            staying=counts.staying + len(kept),
        )

    def _open_within(self, symbol: str, spans: Sequence[Span]) -> list[RecordedDifference]:
        within = (spans[0][0], spans[-1][1])
        return [
            each
            for each in self._reader.differences(symbol, within)
            if each.outcome is DifferenceOutcome.OPEN and has(spans, each.span)
        ]

    def _end_open(
        self,
        symbol: str,
        spans: Sequence[Span],
        clock: int,
        *,
        but_for: Collection[tuple[int, int]] = (),
    ) -> tuple[RecordedDifference, ...]:
        """Return the open differences in *spans*, where nothing differs now, as they go on record.

        They are repaired, unless they are of a bar where the exchange has no trades: that is still
        there.
        """
        ending = [each for each in self._open_within(symbol, spans) if _key(each) not in but_for]
        if not ending:
            return ()
        surplus = self._reader.surplus(symbol, spans[0][0], spans[-1][1])
        ended = []
        for each in ending:
            since, until = each.span
            if any(since <= opens < until for opens in surplus):
                outcome = DifferenceOutcome.STAYS
                self._limited.warning(
                    "surplus_bar_stays",
                    "the exchange has no trades where there is a bar; stores cannot forget it, so"
                    " it is stored as not complete",
                    **_described(each),
                )
            else:
                outcome = DifferenceOutcome.REPAIRED
                self._limited.info(
                    "difference_repaired",
                    "what differed from the exchange's klines was rebuilt, and agrees now",
                    **_described(each),
                )
            ended.append(_with_outcome(each, outcome, clock))
        repaired = sum(each.outcome is DifferenceOutcome.REPAIRED for each in ended)
        self.counts = replace(
            self.counts,
            repaired=self.counts.repaired + repaired,
            staying=self.counts.staying + len(ended) - repaired,
        )
        return tuple(ended)


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
