"""What of a symbol's coverage somebody has to be told who knows how it was before. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bintrades.core.spans import Span


def changed_from(before: Sequence[Span], after: Sequence[Span]) -> list[Span]:
    """Return what to tell of *after* to somebody who knows *before*; nothing if they are equal.

    That is every span from the first difference on. Where a span began earlier than they do and is
    no more, an empty one comes first, of that time.
    """
    same = 0
    while same < min(len(before), len(after)) and before[same] == after[same]:
        same += 1
    old, new = before[same:], list(after[same:])
    if old and (not new or old[0][0] < new[0][0]):
        new.insert(0, (old[0][0], old[0][0]))
    return new
