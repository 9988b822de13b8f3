"""What the audit puts on record of a difference, and how it tells two versions apart. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bintrades.core.verification import Figures, figures
from bintrades.model import RecordedDifference

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bintrades.core.verification import Comparison, Figure
    from bintrades.model import Bar


def records_of(
    comparisons: Iterable[Comparison], found_at_ms: int
) -> tuple[RecordedDifference, ...]:
    """Return what differs of *comparisons*, as it goes on record."""
    return tuple(
        RecordedDifference(
            each.difference.symbol,
            each.open_time_ms,
            each.interval_ms,
            *_both_sides(each.difference.fields),
            found_at_ms,
            found_at_ms,
        )
        for each in comparisons
        if each.difference is not None
    )


def record_of(stored: Bar | None, rebuilt: Bar, found_at_ms: int) -> RecordedDifference:
    """Return what differs between a bar and the one of the exchange's trades.

    Where it has none the rebuilt bar is the stored one, as not complete.
    """
    ours = figures([stored] if stored else [])
    theirs = figures([rebuilt] if rebuilt.is_complete else [])
    fields: dict[str, tuple[Figure, Figure]] = {
        name: (mine, other)
        for name, mine, other in zip(Figures._fields, ours, theirs, strict=True)
        if mine != other
    }
    return RecordedDifference(
        rebuilt.symbol,
        rebuilt.open_time_ms,
        rebuilt.interval_ms,
        *_both_sides(fields),
        found_at_ms,
        found_at_ms,
    )


def _both_sides(fields: Mapping[str, tuple[Figure, Figure]]) -> tuple[str, str]:
    return (
        ", ".join(f"{name} {_text(mine)}" for name, (mine, _) in fields.items()),
        ", ".join(f"{name} {_text(other)}" for name, (_, other) in fields.items()),
    )


def _text(figure: Figure) -> str:
    if figure is None:
        return "none"
    return str(figure) if isinstance(figure, int) else f"{figure:f}"
