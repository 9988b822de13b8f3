"""What differs between the gaps of a symbol before and after a change. Pure.

Where nothing can be repaired a symbol has thousands of gaps, of which a few change at a time.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bintrades.model import Gap

_STEP = 256  # gaps compared at once


def changed_part(before: tuple[Gap, ...], after: tuple[Gap, ...]) -> tuple[list[Gap], list[Gap]]:
    """Return the gaps of each of the two that are not gaps of the other, in their order.

    Those that stay are the same objects, so they are told apart at the price of copying the list.
    """
    if before is after:
        return [], []
    start = _common_beginning(before, after)
    end = _common_end(before, after, start)
    before, after = before[start : len(before) - end], after[start : len(after) - end]
    known, kept = set(map(id, before)), set(map(id, after))
    return (
        [gap for gap in before if id(gap) not in kept],
        [gap for gap in after if id(gap) not in known],
    )


def changed_spans(before: Iterable[Gap], after: Iterable[Gap]) -> Iterator[tuple[int, int]]:
    """Yield the spans of time, ends included, that gaps touch in one of the two but not in both.

    A gap of hours that is filled from its front, page by page, is not looked at whole each time.
    """
    old = {gap.last_id: gap for gap in before}
    new = {gap.last_id: gap for gap in after}
    for last_id in old.keys() ^ new.keys():
        gap = old.get(last_id) or new[last_id]
        yield gap.since_ms, gap.until_ms
    for last_id in old.keys() & new.keys():
        one, other = old[last_id], new[last_id]
        if one.since_ms != other.since_ms:
            yield min(one.since_ms, other.since_ms), max(one.since_ms, other.since_ms)
        if one.until_ms != other.until_ms:
            yield min(one.until_ms, other.until_ms), max(one.until_ms, other.until_ms)


def no_longer_missing(before: Iterable[Gap], after: Iterable[Gap]) -> Iterator[Gap]:
    """Yield the parts of the gaps in *before* whose ids are in no gap of *after*.

    All of them have ids, and both are in the order of those.
    """
    remaining = deque(after)
    for gap in before:
        start = gap.first_id
        while remaining and remaining[0].first_id <= gap.last_id:
            other = remaining[0]
            if other.first_id > start:
                yield gap.part(start, other.first_id - 1)
            start = max(start, other.last_id + 1)
            if other.last_id > gap.last_id:
                break  # it may reach into the next one as well
            remaining.popleft()
        if start <= gap.last_id:
            yield gap.part(start, gap.last_id)


def _common_beginning(one: tuple[Gap, ...], other: tuple[Gap, ...]) -> int:
    """Return with how many equal gaps both begin, many of them compared at once."""
    length = min(len(one), len(other))
    count = 0
    while count < length and one[count : count + _STEP] == other[count : count + _STEP]:
        count += _STEP
    while count < length and one[count] == other[count]:
        count += 1
    return min(count, length)


def _common_end(one: tuple[Gap, ...], other: tuple[Gap, ...], start: int) -> int:
    """Return with how many equal gaps what comes after *start* ends in both."""
    length = min(len(one), len(other)) - start
    low, high = len(one), len(other)
    count = 0
    while count + _STEP <= length and (
        one[low - count - _STEP : low - count] == other[high - count - _STEP : high - count]
    ):
        count += _STEP
    while count < length and one[low - count - 1] == other[high - count - 1]:
        count += 1
    return count
