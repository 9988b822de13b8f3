"""What the exchange answered about a gap. A value: from the backfill to the ledger and the bars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bintrades.model import Gap, TradeRange


@dataclass(frozen=True, slots=True)
class BackfillResult:
    """One answer, or why there is none."""

    symbol: str
    gap: Gap  # that was asked about
    ranges: Sequence[TradeRange] = ()
    absent: Sequence[tuple[int, int]] = ()  # ids that do not exist, first and last of each range
    excluded: Sequence[tuple[int, int]] = ()  # ids that are no fills: IdLaw.WITH_FILLERS only
    approximations: Sequence[TradeRange] = ()
    """Aggregates of ids that cannot be had singly: their time is only that of their first trade."""
    unwanted: Sequence[tuple[int, int]] = ()  # ids of no trade since the beginning
    absent_at: int = 0  # when the exchange had confirmed that often enough, on its clock
    begins_at: int | None = None  # of a start gap: the first id that is wanted
    has_older: bool = False  # a trade from before that was seen
    abandoned_through: int | None = None  # ids up to here are older than anyone wants
    abandoned_before_ms: int = 0
    abandoned_from: int = 0  # or only those from here on: others may still be had
    abandoned_because: str | None = None  # None: for no other reason than their age
    restarted_at: int | None = None
    """`T` of the first trade that the exchange has, where ids have restarted since others came."""

    error: str | None = None
