"""Which symbols are collected, as it changes while a collector runs. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bintrades.model import SeriesKey
    from bintrades.model.symbol_record import SymbolRecord


@dataclass(frozen=True, slots=True)
class NewSymbol:
    """A symbol to be collected from now on."""

    key: SeriesKey
    since: int | None = None
    """Since when its trades are wanted, on the exchange's clock; None: since the present interval.

    Of one that was collected before they are wanted since then, whatever stands here."""


@dataclass(frozen=True, slots=True)
class SymbolsChanged:
    """Symbols that come and go, and what is to be put on record of these and of others."""

    at: int  # milliseconds, monotonic
    added: Sequence[NewSymbol] = ()
    left: Sequence[str] = ()
    """They are collected until what there is of them is whole."""

    halted: frozenset[str] | None = None
    """All symbols of which no data is expected, though they are collected; None: as before."""

    records: Mapping[str, SymbolRecord] = field(default_factory=dict)
    """What changes of these; of those that leave, as it is when they have."""

    listing: str | None = None
    """The exchange's list, to be kept for a start at which it cannot be had; None: as before."""
