"""A bar or a minute on which a journal and the exchange do not agree. A value."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class DifferenceOutcome(StrEnum):
    """What has become of a difference."""

    OPEN = "open"
    """It was found twice; its bars are being made again."""

    REPAIRED = "repaired"
    """The bars were made again from the exchange's trades, and agree now."""

    STAYS = "stays"
    """The exchange's trades and its own klines do not agree: nothing that is ours can mend it."""


class RecordedDifference(msgspec.Struct, frozen=True):
    """What each side says of open_time_ms <= T < open_time_ms + interval_ms of one symbol.

    Both texts hold what differs, as people are shown it. found_at_ms and changed_at_ms are
    milliseconds since the epoch on the exchange's clock.
    """

    symbol: str
    open_time_ms: int
    interval_ms: int
    ours: str
    theirs: str
    found_at_ms: int
    changed_at_ms: int
    outcome: DifferenceOutcome = DifferenceOutcome.OPEN

    @property
    def span(self) -> tuple[int, int]:
        """Its first millisecond, and the first one thereafter."""
        return self.open_time_ms, self.open_time_ms + self.interval_ms
