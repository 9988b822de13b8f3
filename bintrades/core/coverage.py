"""Coverage: in which spans every trade of a symbol is in a bar, and the holes between them. Pure.

It is derived from what is on record and never stored: from when trades are collected up to when
they are proven, without what is missing. Times are milliseconds on the exchange's clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bintrades.core.spans import clipped, minus

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bintrades.core.spans import Span


class HoleCause(NamedTuple):
    """Why bars of a span are not whole."""

    state: str
    """What becomes of the trades: a GapState, GapOutcome.LATE, or what a store made of bars."""
    cause: str
    """A GapCause, or likewise."""


NOT_CLOSED = HoleCause("open", "bar not closed yet")
SURPLUS = HoleCause("surplus", "bar where the exchange has no trades")
"""No trade is missing, but there is a bar that should not be."""


class Missing(NamedTuple):
    """A record that trades from since_ms to until_ms, both included, may be in no bar."""

    since_ms: int
    until_ms: int
    why: HoleCause


class Hole(NamedTuple):
    """Whole intervals that are not covered, with covered ones, or the ends, on both sides."""

    since_ms: int
    until_ms: int
    causes: tuple[HoleCause, ...]
    """Each once, in the order in which they begin."""


class Collected(NamedTuple):
    """What is on record of one symbol at one commit."""

    since_ms: int
    """Since when its trades are collected."""
    proven_ms: int
    """Every trade before that was had, or is missing."""
    open_times: Sequence[int] = ()
    """When the bars open that still take trades, and so are not stored as closed."""
    missing: Sequence[Missing] = ()


class Coverage(NamedTuple):
    """What of a symbol is covered: inside a span an interval without a bar had no trades."""

    since_ms: int
    until_ms: int
    """What comes later is not proven yet, or in a bar that is still open."""
    spans: list[Span]
    holes: list[Hole]

    @property
    def covered_ms(self) -> int:
        """For how long the spans last together."""
        return sum(until - since for since, until in self.spans)

    def within(self, since_ms: int, until_ms: int) -> Coverage:
        """Return the part of it between two times."""
        since, until = max(self.since_ms, since_ms), min(self.until_ms, until_ms)
        holes = [
            Hole(max(hole.since_ms, since), min(hole.until_ms, until), hole.causes)
            for hole in self.holes
            if hole.since_ms < until and hole.until_ms > since
        ]
        return Coverage(since, max(since, until), clipped(self.spans, since, until), holes)


def coverage_of(collected: Collected, interval_ms: int) -> Coverage:
    """Return the whole intervals that are covered, and the holes between them.

    A hole has every interval that something missing touches. Costs as much as sorting does.
    """
    since = collected.since_ms + -collected.since_ms % interval_ms
    until = max(since, collected.proven_ms - collected.proven_ms % interval_ms)
    still_open = set(collected.open_times)
    while until > since and until - interval_ms in still_open:
        until -= interval_ms  # it has just ended, and is about to be closed
    open_bars = [Missing(time, time, NOT_CLOSED) for time in still_open]
    holes = _holes([*collected.missing, *open_bars], since, until, interval_ms)
    uncovered = [(hole.since_ms, hole.until_ms) for hole in holes]
    return Coverage(since, until, minus([(since, until)], uncovered), holes)


def _holes(missing: Iterable[Missing], since: int, until: int, interval_ms: int) -> list[Hole]:
    """Return what is *missing* as whole intervals, neighbours joined."""
    holes: list[Hole] = []
    for each in sorted(missing):
        first = max(since, each.since_ms - each.since_ms % interval_ms)
        end = min(until, each.until_ms - each.until_ms % interval_ms + interval_ms)
        if first >= end:
            continue
        if holes and first <= holes[-1].until_ms:
            last = holes[-1]
            causes = last.causes if each.why in last.causes else (*last.causes, each.why)
            holes[-1] = Hole(last.since_ms, max(last.until_ms, end), causes)
        else:
            holes.append(Hole(first, end, (each.why,)))
    return holes
