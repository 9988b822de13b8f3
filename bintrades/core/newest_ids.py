"""The exchange's word on which trade of each symbol is its newest. A value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

NEWEST_WITHIN_MS = 86_400_000
"""How far back the exchange looks for the newest trade of a symbol."""


@dataclass(frozen=True, slots=True)
class NewestIds:
    """One answer, for all symbols that were asked about and that it names."""

    ids: Mapping[str, int | None]
    """Id of the newest trade; None: it had none within NEWEST_WITHIN_MS."""

    said_at: int
    """When the exchange answered: milliseconds on its own clock, at most a second too early."""

    answered_at: int
    """When the answer came: milliseconds, monotonic."""
