"""What the audit hands to whoever writes the journal. Values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bintrades.core.spans import Span
    from bintrades.model import Bar, RecordedDifference


@dataclass(frozen=True, slots=True)
class BarRebuilt:
    """A bar made again of the exchange's own trades, in the epoch after that of the stored one.

    One that is not complete is surplus: the exchange has no trades there.
    """

    bar: Bar


@dataclass(frozen=True, slots=True)
class BarsAudited:
    """What a comparison of the bars of *symbol* with the exchange's klines has shown."""

    symbol: str
    verified: tuple[Span, ...] = ()
    """In these the bars that are stored, and only those, are what the exchange has."""

    differences: tuple[RecordedDifference, ...] = ()
    """New ones, and those that something has become of."""

    read_through: int | None = None
    """The last number of the journal's sequence before the bars were read: of no unit with a newer
    bar anything is known, but that a difference is open. None: it is of bars as they are."""
