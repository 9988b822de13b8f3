"""What the simulated exchange's statistics and klines get wrong when a test asks for it. Values."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection


@dataclass(frozen=True, slots=True)
class TickerFaults:
    """How the 24-hour ticker differs from the truth; the default is the truth."""

    lag_ms: int = 0
    """How much older than the streams its answers are."""

    stale_since: int | None = None
    """The exchange's time, milliseconds, after which it knows of no trade, whatever its `Date`."""

    is_offered: bool = True
    """Whether the host has it; one that has not answers 404."""

    without: Collection[str] = ()
    """Symbols whose row an answer lacks."""

    def knows_until(self, now_ms: int) -> int:
        """Return the time up to which an answer at *now_ms* has the trades."""
        until = now_ms - self.lag_ms
        return until if self.stale_since is None else min(until, self.stale_since)


@dataclass(frozen=True, slots=True)
class KlineFaults:
    """How klines differ from the truth; the default is the truth."""

    without: Collection[int] = field(default_factory=tuple)
    """Opening times, milliseconds, of klines that an answer lacks, whatever their length."""

    late_trades: int = 0
    """How many of the newest trades of each symbol they lack: they are revised when it is fewer."""

    late_answers: int | None = None
    """How many answers lack these trades; None: all."""

    def after_an_answer(self) -> KlineFaults:
        """Return the faults of the next answer."""
        if self.late_answers is None:
            return self
        if self.late_answers > 1:
            return replace(self, late_answers=self.late_answers - 1)
        return KlineFaults(self.without)
