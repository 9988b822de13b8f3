"""Longer bars made of shorter ones: exact sums, and what of the longer interval is proven. Pure.

A longer bar is the bar that the same trades would have made: of each field MergeRule says how. What
it says beyond that is about the whole of its interval, which its parts may not cover.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from bintrades.core.spans import Span, minus
from bintrades.model import Bar
from bintrades.model.bar_fields import FUTURES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


class LongerBar(msgspec.Struct, frozen=True):
    """A bar of several intervals, and which of its time is not proven to be in it.

    Of *bar*: is_closed says that the interval is over and no part of it still takes trades;
    is_complete that every trade of the whole interval is in it, which is that nothing is missing.
    epoch and version are the sums of those of its parts, so that a later version of any of them
    makes one of a higher rank (Bar.rank), and updated_at_ms is that of the newest one.
    """

    bar: Bar
    missing: tuple[Span, ...] = ()
    """In order, apart from each other, in whole intervals of the shortest parts, milliseconds.

    Spans rather than a bit for each part: a day of 10-second bars has 8,640 of them, nearly always
    all proven, and the spans mean the same however often bars were made longer."""

    @property
    def covered_ms(self) -> int:
        """For how many milliseconds of its interval it is proven to have every trade."""
        return self.bar.interval_ms - sum(until - since for since, until in self.missing)


def part_of(bar: Bar) -> LongerBar:
    """Return a bar as the part of a longer one: proven if it is closed and complete."""
    is_proven = bar.is_closed and bar.is_complete
    return LongerBar(bar, () if is_proven else ((bar.open_time_ms, bar.end_time_ms),))


def resample(
    bars: Iterable[Bar | LongerBar],
    covered: Sequence[Span],
    interval_ms: int,
    ended_ms: int = 0,
) -> Iterator[LongerBar]:
    """Yield the bars of intervals of *interval_ms* milliseconds that *bars* add up to.

    *bars* are of one symbol and one interval, oldest first, and are taken one by one. The longer
    intervals are multiples since the epoch, so a day is one of UTC. The first and the last one are
    only as whole as what is given of them. An interval without bars has none, as ever. *covered*,
    in order and apart from each other, are the spans in which an interval without a bar had no
    trades. *ended_ms* is a time up to which intervals are known to be over even where nothing is
    covered.

    In two steps the result is the same as in one. Raises ValueError for an interval that is no
    multiple of that of the bars, and for bars that do not belong together.
    """
    if interval_ms <= 0:
        raise ValueError(f"an interval of {interval_ms} ms: it must be above 0")
    proof = _Proof(covered)
    total: _Total | None = None
    for each in bars:
        part = part_of(each) if isinstance(each, Bar) else each
        open_time_ms = part.bar.open_time_ms - part.bar.open_time_ms % interval_ms
        if total is not None and open_time_ms == total.open_time_ms:
            total.add(part)
            continue
        if total is not None:
            total.require_next(part.bar)
            yield total.longer_bar(is_over=True)
        total = _Total(part, open_time_ms, interval_ms, proof)
    if total is not None:
        end_ms = total.open_time_ms + interval_ms
        yield total.longer_bar(is_over=max(ended_ms, proof.until_ms) >= end_ms)


class _Proof:
    """The spans that are covered, asked for from the oldest on."""

    def __init__(self, covered: Sequence[Span]) -> None:
        self._covered = covered
        self._place = 0  # of the first span that may matter to what is asked next
        self.until_ms = covered[-1][1] if covered else 0

    def uncovered(self, since_ms: int, until_ms: int) -> list[Span]:
        """Return what of that time is not covered. Never ask for an earlier time again."""
        covered = self._covered
        while self._place < len(covered) and covered[self._place][1] <= since_ms:
            self._place += 1
        end = self._place
        while end < len(covered) and covered[end][0] < until_ms:
            end += 1
        return minus([(since_ms, until_ms)], covered[self._place : end])


class _Total:
    """The bar of what has come of one interval so far. Mutable, of one thread."""

    def __init__(
        self, first: LongerBar, open_time_ms: int, interval_ms: int, proof: _Proof
    ) -> None:
        part = first.bar
        if interval_ms % part.interval_ms:
            raise ValueError(
                f"bars of {part.interval_ms} ms do not add up to bars of {interval_ms} ms:"
                " that is no multiple"
            )
        self.open_time_ms = open_time_ms
        self._end_ms = open_time_ms + interval_ms
        self._interval_ms = interval_ms
        self._proof = proof
        self._last = part
        self._is_closed = part.is_closed
        self._epoch, self._version = part.epoch, part.version
        self._updated_at_ms = part.updated_at_ms
        self._excluded = part.excluded_count
        self._missing: list[Span] = []
        self._note_missing([*proof.uncovered(open_time_ms, part.open_time_ms), *first.missing])
        self._sum = self._stamped(part)

    def add(self, later: LongerBar) -> None:
        """Add the next part. Raises ValueError if it is not one."""
        part = later.bar
        self.require_next(part)
        if self._last.end_time_ms < part.open_time_ms:
            self._note_missing(self._proof.uncovered(self._last.end_time_ms, part.open_time_ms))
        self._note_missing(later.missing)
        self._excluded += part.excluded_count + self._excluded_before(part)
        self._is_closed = self._is_closed and part.is_closed
        self._epoch += part.epoch
        self._version += part.version
        self._updated_at_ms = max(self._updated_at_ms, part.updated_at_ms)
        self._sum = self._sum.merge(self._stamped(part))
        self._last = part

    def require_next(self, part: Bar) -> None:
        """Raise ValueError unless *part* may come after what has come so far."""
        last = self._last
        is_alike = (last.symbol, last.market, last.interval_ms, last.contract_size) == (
            *(part.symbol, part.market, part.interval_ms, part.contract_size),
        )
        if not is_alike or part.open_time_ms < last.end_time_ms:
            raise ValueError(
                f"bars of one series are added up, oldest first: {_named(part)} came after"
                f" {_named(last)}"
            )

    def longer_bar(self, *, is_over: bool) -> LongerBar:
        """Return the bar of all parts; nothing can be added after this."""
        if self._last.end_time_ms < self._end_ms:
            self._note_missing(self._proof.uncovered(self._last.end_time_ms, self._end_ms))
        bar = replace(
            self._sum,
            is_closed=is_over and self._is_closed,
            is_complete=not self._missing,
            epoch=self._epoch,
            version=self._version,
            updated_at_ms=self._updated_at_ms,
            excluded_count=self._excluded,
        )
        return LongerBar(bar, tuple(self._missing))

    def _stamped(self, part: Bar) -> Bar:
        """Return *part* as if it were of the longer interval, which Bar.merge asks for."""
        return replace(part, open_time_ms=self.open_time_ms, interval_ms=self._interval_ms, epoch=0)

    def _note_missing(self, spans: Iterable[Span]) -> None:
        for since, until in spans:
            if self._missing and self._missing[-1][1] == since:
                self._missing[-1] = (self._missing[-1][0], until)
            else:
                self._missing.append((since, until))

    def _excluded_before(self, part: Bar) -> int:
        """Return how many ids between those of the last part and of *part* are no fills.

        All of them, unless trades may be missing there: the ids of those are no excluded ones.
        """
        between = part.first_trade_id - self._sum.last_trade_id - 1
        if between <= 0 or part.market not in FUTURES:
            return 0
        since, until = self._sum.last_trade_time_ms, part.first_trade_time_ms
        for first, end in reversed(self._missing):
            if end <= since:
                break
            if first <= until:
                return 0
        return between


def _named(bar: Bar) -> str:
    size = "" if bar.contract_size is None else f" in contracts of {bar.contract_size}"
    return f"{bar.market} {bar.symbol} {bar.open_time.isoformat()} of {bar.interval_ms} ms{size}"
