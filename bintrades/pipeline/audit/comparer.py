"""Compares what the journal has with what the exchange says. No thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bintrades.core.spans import clipped, has, union, whole
from bintrades.core.verification import are_same, compare, unit_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bintrades.core.spans import Span
    from bintrades.core.verification import Comparison
    from bintrades.journal.reader import JournalReader
    from bintrades.model import Bar, Kline
    from bintrades.pipeline.audit.reference import LimitedReference

_KLINES_OF_A_PAGE = 1_000
_ALL_BARS = 2**31


class Comparer:
    """Both sides of an audit. Belongs to one thread.

    *covered* returns in which spans an interval of a symbol without a bar had no trades, and
    *behind_ms* is how old a bar has to be.
    """

    def __init__(
        self,
        reader: JournalReader,
        reference: LimitedReference,
        covered: Callable[[str], Sequence[Span]],
        *,
        interval_ms: int,
        behind_ms: int,
    ) -> None:
        self.reader = reader
        self.reference = reference
        self.interval_ms = interval_ms
        self.unit_ms = unit_ms(interval_ms, reference.kline_ms)
        page = _KLINES_OF_A_PAGE * reference.kline_ms
        self.page_ms = max(self.unit_ms, page // self.unit_ms * self.unit_ms)
        """How much is compared at a time."""

        self.fine_kline_ms = self._choose_fine_klines()
        """The length of the klines that tell which bars of a unit differ; None: none do."""

        self.read_through = 0
        """The last number of the journal's sequence before bars were read last: whatever follows
        from them says nothing of newer ones."""

        self._covered = covered
        self._behind = behind_ms

    def comparable(self, symbol: str, clock: int) -> list[Span]:
        """Return the whole units that are covered, old enough, and of which all bars are kept.

        Raises JournalError.
        """
        pruned = self.reader.pruned_through(symbol)
        since = 0 if pruned is None else pruned + self.interval_ms
        covered = union(clipped(self._covered(symbol), since, clock - self._behind))
        return whole(covered, self.unit_ms)

    def compare(self, symbol: str, span: Span, covered: Sequence[Span]) -> list[Comparison]:
        """Return the outcome of each unit of *span* that is *covered*, as comparable() says.

        Raises BudgetSpent, ExchangeError and JournalError.
        """
        klines = self.reference.klines(symbol, self.reference.kline_ms, span)
        return self._compare(symbol, span, covered, self.reference.kline_ms, klines)

    def compare_finely(
        self, symbol: str, span: Span, covered: Sequence[Span]
    ) -> list[Comparison] | None:
        """Do the same, bar by bar, with the shortest klines that the exchange has.

        None: they do not add up to those of compare(), and tell nothing. They may have holes.
        """
        kline_ms = self.fine_kline_ms or self.reference.kline_ms
        klines = self.reference.klines(symbol, kline_ms, span)
        if not are_same(klines, self.reference.klines(symbol, self.reference.kline_ms, span)):
            return None
        return self._compare(symbol, span, covered, kline_ms, klines)

    def bars(self, symbol: str, span: Span) -> list[Bar]:
        """Return the bars of *span*, oldest first. Raises JournalError."""
        self.read_through = self.reader.last_sequence()
        return self.reader.bars(symbol, *span, _ALL_BARS)

    def surplus(self, symbol: str, span: Span) -> list[int]:
        """Return when bars of *span* open where the exchange has no trades. Raises JournalError."""
        return self.reader.surplus(symbol, *span)

    def _choose_fine_klines(self) -> int | None:
        """Return the shortest klines, where a unit has several bars and is one request of them.

        Otherwise the trades of all its bars are looked at: thousands of klines cost more.
        """
        fine = self.reference.fine_kline_ms
        is_one_bar = self.unit_ms == self.interval_ms
        if fine is None or is_one_bar or self.unit_ms > _KLINES_OF_A_PAGE * fine:
            return None
        return fine

    def _compare(
        self,
        symbol: str,
        span: Span,
        covered: Sequence[Span],
        kline_ms: int,
        klines: Sequence[Kline],
    ) -> list[Comparison]:
        # After the klines, so that they are of this moment. Where some have left meanwhile, what
        # seems to differ is not comparable any more when it is looked at again.
        bars = self.bars(symbol, span)
        comparisons = compare(
            symbol,
            bars,
            klines,
            *span,
            interval_ms=self.interval_ms,
            kline_ms=kline_ms,
            covered=covered,
            surplus=self.surplus(symbol, span),
        )
        return [each for each in comparisons if has(covered, _span_of(each))]


def _span_of(comparison: Comparison) -> Span:
    return comparison.open_time_ms, comparison.open_time_ms + comparison.interval_ms
