"""Spans of time: joined, cut and rounded. Pure.

A span is its first millisecond and the first one thereafter. Results are in order, apart from each
other, and none of them is empty.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Span = tuple[int, int]


def union(spans: Iterable[Span]) -> list[Span]:
    """Return what is in one of *spans*; neighbours join."""
    joined: list[Span] = []
    for since, until in sorted(spans):
        if since >= until:
            continue
        if joined and since <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], until))
        else:
            joined.append((since, until))
    return joined


def minus(spans: Iterable[Span], others: Iterable[Span]) -> list[Span]:
    """Return what is in one of *spans* and in none of *others*."""
    left: list[Span] = []
    holes = union(others)
    place = 0
    for span_since, until in union(spans):
        since = span_since
        while place < len(holes) and holes[place][1] <= since:
            place += 1
        index = place
        while index < len(holes) and holes[index][0] < until:
            if since < holes[index][0]:
                left.append((since, holes[index][0]))
            since = max(since, holes[index][1])
            index += 1
        if since < until:
            left.append((since, until))
    return left


def whole(spans: Iterable[Span], unit: int) -> list[Span]:
    """Return the whole units, multiples of *unit*, inside of each of *spans*."""
    rounded = ((since + -since % unit, until - until % unit) for since, until in spans)
    return [(since, until) for since, until in rounded if since < until]


def clipped(spans: Iterable[Span], since: int, until: int) -> list[Span]:
    """Return what of each of *spans* is not before *since*, and before *until*."""
    cut = ((max(first, since), min(last, until)) for first, last in spans)
    return [(first, last) for first, last in cut if first < last]


def has(spans: Sequence[Span], part: Span) -> bool:
    """Whether one of *spans*, in order and apart from each other, has all of *part*."""
    place = bisect_right(spans, part[0], key=lambda span: span[0]) - 1
    return place >= 0 and part[1] <= spans[place][1]
