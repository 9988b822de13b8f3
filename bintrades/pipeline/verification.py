"""Bars compared with klines, page by page: what differs is asked for again, and looked at closely.

No thread. Memory is that of one page, whatever the time, the length of klines and the symbols.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

from bintrades.core.verification import Outcome, are_same, compare, unit_ms
from bintrades.errors import ExchangeError
from bintrades.model import Bar, Kline
from bintrades.util.clocks import utc_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from bintrades.core.spans import Span
    from bintrades.core.verification import Comparison, Difference
    from bintrades.pipeline.verification_sources import BarSource, KlineSource

PartT = TypeVar("PartT", Bar, Kline)

SETTLED_AFTER_MS = 5 * 60_000
"""How long after its end an interval is compared at the earliest: klines are revised till then."""

_PAGE_KLINES = 990  # of one request, and those by which the exchange shows how late it is
_PAGE_BARS = 10_000  # unless a single kline has more
_PRESENT_MS = 86_400_000  # how far a local clock may be ahead

TOO_RECENT = "too recent"
NO_ANSWER = "no answer"


@dataclass(slots=True)
class Tally:
    """How much of a symbol's time was compared, in milliseconds."""

    equal_ms: int = 0
    different_ms: int = 0
    not_checked_ms: Counter[str] = field(default_factory=Counter)
    """By reason."""

    last_error: str | None = None
    """Why the exchange did not answer, the last time."""

    @property
    def checked_ms(self) -> int:
        """What was compared."""
        return self.equal_ms + self.different_ms

    @property
    def total_ms(self) -> int:
        """What was to be compared."""
        return self.checked_ms + self.not_checked_ms.total()

    def add(self, other: Tally) -> None:
        """Count what *other* has counted."""
        self.equal_ms += other.equal_ms
        self.different_ms += other.different_ms
        self.not_checked_ms.update(other.not_checked_ms)
        self.last_error = other.last_error or self.last_error


class Verification:
    """Compares bars of *interval_ms* with klines.

    With *by_bar*, each bar by itself, in the shortest klines there are. Without, in the longest,
    which takes the fewest requests: then a price of a bar within its minute is not seen, where it
    is neither the first, the last, the lowest nor the highest of the minute.
    """

    def __init__(
        self,
        bars: BarSource,
        klines: KlineSource,
        interval_ms: int,
        *,
        by_bar: bool = False,
        utc: Callable[[], int] = utc_ms,
    ) -> None:
        self._bars = bars
        self._klines = klines
        self._interval_ms = interval_ms
        self._by_bar = by_bar
        self._utc = utc

    def bar_by_bar(self) -> Verification:
        """Return one of the same that compares each bar by itself."""
        return Verification(self._bars, self._klines, self._interval_ms, by_bar=True, utc=self._utc)

    def unit_ms(self, symbol: str) -> int:
        """Return the length of what is compared at once. Raises BintradesError."""
        return unit_ms(self._interval_ms, self._lengths(symbol)[0])

    def verify(
        self, symbol: str, since_ms: int, until_ms: int, tally: Tally
    ) -> Iterator[list[Difference]]:
        """Compare the whole units within that time, counted in *tally*.

        Yields after each page what differs in it: bars, or units of several where no klines are
        fine enough to tell which. Raises BintradesError where the bars cannot be read; what the
        exchange does not answer is counted.
        """
        kline_ms = self._lengths(symbol)[0]
        unit = unit_ms(self._interval_ms, kline_ms)
        since_ms += -since_ms % unit
        until_ms = min(until_ms, self._utc())  # what is to come is not even too recent
        until_ms -= until_ms % unit
        settled_ms = self._settled_ms() // unit * unit
        if since_ms < until_ms and settled_ms < until_ms:
            tally.not_checked_ms[TOO_RECENT] += until_ms - max(since_ms, settled_ms)
            until_ms = settled_ms
        most_ms = min(_PAGE_KLINES * kline_ms, _PAGE_BARS * self._interval_ms)
        page_ms = max(unit, most_ms // unit * unit)
        starts = range(since_ms, until_ms, page_ms)
        for start, end in pairwise([*starts, until_ms] if starts else []):
            yield self._verify_page(symbol, kline_ms, start, end, tally)

    def _lengths(self, symbol: str) -> Sequence[int]:
        """Return the klines to use, those for the first look first."""
        lengths = self._klines.intervals_ms(symbol)
        return lengths[-1:] if self._by_bar else lengths

    def _settled_ms(self) -> int:
        if not self._klines.may_be_revised:
            return 2**62
        return self._utc() - SETTLED_AFTER_MS

    def _verify_page(
        self, symbol: str, kline_ms: int, start: int, end: int, tally: Tally
    ) -> list[Difference]:
        """Return what differs in a page."""
        bars = self._bars.bars(symbol, start, end)
        covered = self._bars.covered(symbol, start, end)
        surplus = self._bars.surplus(symbol, start, end)
        if not bars and not covered:
            tally.not_checked_ms[Outcome.INCOMPLETE] += end - start
            return []
        try:
            klines, settled_ms = self._ask(symbol, kline_ms, start, end)
        except ExchangeError as error:
            tally.not_checked_ms[NO_ANSWER] += end - start
            tally.last_error = str(error)
            return []
        doubtful: list[Comparison] = []
        for each in self._compare(symbol, bars, klines, (start, end), kline_ms, covered, surplus):
            if each.open_time_ms + each.interval_ms > settled_ms:
                tally.not_checked_ms[TOO_RECENT] += each.interval_ms
            elif each.outcome is Outcome.DIFFERENT or each.may_hide_more:
                doubtful.append(each)
            else:
                _count(tally, each.outcome, each.interval_ms)
        return self._look_again(symbol, kline_ms, doubtful, tally) if doubtful else []

    def _ask(self, symbol: str, kline_ms: int, start: int, end: int) -> tuple[list[Kline], int]:
        """Return the klines of that time, and up to when they are final.

        A local clock that is ahead must not make klines of this moment final: that some minutes
        have passed is shown by later klines of the exchange.
        """
        if not self._klines.may_be_revised or end <= self._utc() - _PRESENT_MS:
            return self._klines.klines(symbol, kline_ms, start, end), end
        later_ms = SETTLED_AFTER_MS + kline_ms
        klines = self._klines.klines(symbol, kline_ms, start, end + later_ms)
        newest_ms = klines[-1].open_time_ms if klines else end
        return [each for each in klines if each.open_time_ms < end], newest_ms - SETTLED_AFTER_MS

    def _compare(
        self,
        symbol: str,
        bars: Sequence[Bar],
        klines: Sequence[Kline],
        within: Span,
        kline_ms: int,
        covered: Sequence[Span],
        surplus: Collection[int],
    ) -> list[Comparison]:
        lengths = {"interval_ms": self._interval_ms, "kline_ms": kline_ms}
        return list(
            compare(symbol, bars, klines, *within, **lengths, covered=covered, surplus=surplus)
        )

    def _look_again(
        self, symbol: str, kline_ms: int, doubtful: Sequence[Comparison], tally: Tally
    ) -> list[Difference]:
        """Return what still differs of *doubtful*, bar by bar where that can be told."""
        found: list[Difference] = []
        if not self._klines.may_be_revised:
            for each in doubtful:
                _count(tally, each.outcome, each.interval_ms)
                found += [each.difference] if each.difference else []
            return found
        fine_ms = self._lengths(symbol)[-1]
        for within in _runs(doubtful, _PAGE_KLINES * fine_ms):
            try:
                found += self._look_closely(symbol, kline_ms, fine_ms, within, tally)
            except ExchangeError as error:
                tally.not_checked_ms[NO_ANSWER] += within[1] - within[0]
                tally.last_error = str(error)
        return found

    def _look_closely(
        self, symbol: str, kline_ms: int, fine_ms: int, within: Span, tally: Tally
    ) -> list[Difference]:
        """Ask for *within* a second time, and for its finest klines. Raises ExchangeError.

        Those are believed where they add up to the others: they are known to have had holes.
        """
        klines = self._klines.klines(symbol, kline_ms, *within)
        fine = self._klines.klines(symbol, fine_ms, *within) if fine_ms < kline_ms else []
        bars = self._bars.bars(symbol, *within)
        known = (self._bars.covered(symbol, *within), self._bars.surplus(symbol, *within))
        found: list[Difference] = []
        for each in self._compare(symbol, bars, klines, within, kline_ms, *known):
            span = (each.open_time_ms, each.open_time_ms + each.interval_ms)
            parts = _within(fine, span)
            outcome, differing = each.outcome, [each.difference] if each.difference else []
            if parts and are_same(parts, _within(klines, span)):
                own = _within(bars, span)
                located = self._compare(symbol, own, parts, span, fine_ms, *known)
                by_bar = [bar.difference for bar in located if bar.difference]
                outcomes = {bar.outcome for bar in located}
                if by_bar:
                    outcome, differing = Outcome.DIFFERENT, by_bar
                elif outcome is Outcome.SUSPECT and Outcome.NO_KLINE not in outcomes:
                    has_surplus = Outcome.SURPLUS in outcomes
                    outcome = Outcome.SURPLUS if has_surplus else Outcome.EQUAL
            _count(tally, outcome, each.interval_ms)
            found += differing
        return found


def _count(tally: Tally, outcome: Outcome, duration_ms: int) -> None:
    if outcome is Outcome.EQUAL:
        tally.equal_ms += duration_ms
    elif outcome is Outcome.DIFFERENT:
        tally.different_ms += duration_ms
    else:
        tally.not_checked_ms[outcome] += duration_ms


def _runs(units: Sequence[Comparison], longest_ms: int) -> Iterator[Span]:
    """Yield spans of neighbouring units, none longer than *longest_ms* but for a single one."""
    start, end = units[0].open_time_ms, units[0].open_time_ms
    for each in units:
        ends = each.open_time_ms + each.interval_ms
        if each.open_time_ms != end or ends - start > longest_ms:
            if start < end:
                yield start, end
            start = each.open_time_ms
        end = ends
    yield start, end


def _within(parts: Sequence[PartT], span: Span) -> list[PartT]:
    return [part for part in parts if span[0] <= part.open_time_ms < span[1]]
