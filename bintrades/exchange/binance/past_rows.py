"""What rows of past trades say of ids and times. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bintrades.core.gap_ranges import DISORDER_MS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from bintrades.model import TradeRange


def within(ranges: Iterable[TradeRange], first_id: int, last_id: int) -> list[TradeRange]:
    """Return those of *ranges* that lie between two ids, ends included."""
    return [each for each in ranges if first_id <= each.first_id and each.last_id <= last_id]


def last_before(ranges: Iterable[TradeRange], time: int) -> TradeRange | None:
    """Return the last range that is certain to be older than *time*, as are all before it.

    Since `T` may be in disorder, that takes one that is older by more than that, and from there on
    consecutive ids.
    """
    last = None
    for each in ranges:
        if each.time >= time:
            break
        is_first_of_all = each.first_id == 0
        is_next = last is not None and each.first_id == last.last_id + 1
        if each.time < time - DISORDER_MS or is_first_of_all or is_next:
            last = each
    return last


def holes(first_id: int, last_id: int, ranges: Sequence[TradeRange]) -> Iterator[tuple[int, int]]:
    """Yield the ranges of ids from *first_id* to *last_id* that none of *ranges* has."""
    expected = first_id
    for each in ranges:
        if each.first_id > expected:
            yield expected, each.first_id - 1
        expected = each.last_id + 1
    if expected <= last_id:
        yield expected, last_id
