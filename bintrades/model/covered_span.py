"""Covered spans: in which time all trades of a symbol are in bars. Immutable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from bintrades.model.bar import utc

if TYPE_CHECKING:
    from datetime import datetime


class CoveredSpan(msgspec.Struct, frozen=True, gc=False):
    """A time in which every trade of a symbol is in a bar, and without a bar there was no trade.

    It begins and ends with an interval. Times are milliseconds since the epoch on the exchange's
    clock. An empty one (since is until) says only that there is nothing else from then on.
    """

    symbol: str
    market: str
    since_ms: int
    until_ms: int  # the first millisecond after it
    interval_ms: int

    @property
    def since(self) -> datetime:
        """When it begins, UTC."""
        return utc(self.since_ms)

    @property
    def until(self) -> datetime:
        """When it ends, UTC: the first bar that opens then is not covered any more."""
        return utc(self.until_ms)

    @property
    def interval_seconds(self) -> int:
        """Length of a bar's interval."""
        return self.interval_ms // 1000

    @property
    def is_empty(self) -> bool:
        """Whether it is not to be stored."""
        return self.since_ms == self.until_ms

    def as_dict(self) -> dict[str, Any]:
        """Return the fields of a stored span; times are aware datetimes."""
        return {
            "symbol": self.symbol,
            "market": self.market,
            "since": self.since,
            "until": self.until,
            "interval_seconds": self.interval_seconds,
        }
