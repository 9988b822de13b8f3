"""What is on record of a symbol: since when and why it is collected, and when it has left."""

from __future__ import annotations

from enum import StrEnum

import msgspec


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
