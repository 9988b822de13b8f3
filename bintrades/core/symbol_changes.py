"""Which symbols are collected, as it changes while a collector runs. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bintrades.model import SeriesKey


class LeftBecause(StrEnum):
    """Why a symbol is collected no longer."""

    DELISTED = "delisted"
    """The exchange says by its status that it will not be traded again."""

    UNLISTED = "unlisted"
    """The exchange's list has it no longer."""

    DESELECTED = "deselected"
    """The configuration selects it no longer."""


class SymbolRecord(msgspec.Struct, frozen=True):
    """What the journal has on record of a symbol: since when and why it is collected.

    Times are milliseconds since the epoch, on the local clock.
    """

    since_ms: int
    """Since when it is collected: the first time of all."""

    why: str
    """The name or pattern of the configuration that selects it."""

    status: str | None = None
    """As the exchange spells it; None: its list was never had."""

    returned_ms: int | None = None
    """When it was last collected again, having left."""

    left_ms: int | None = None
    """When it was collected for the last time; None: it is collected."""

    left_because: LeftBecause | None = None

    @property
    def is_collected(self) -> bool:
        """Whether it is collected now."""
        return self.left_ms is None


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
