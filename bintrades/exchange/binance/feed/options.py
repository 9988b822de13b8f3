"""What all connections of a feed have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bintrades.exchange.binance.feed.losses import ConnectionCounter
from bintrades.util.runtime import SYSTEM, Runtime

if TYPE_CHECKING:
    from bintrades.exchange.binance.market import Market, Stream
    from bintrades.net.network import Network


@dataclass(frozen=True, slots=True)
class FeedTiming:
    """How long connections are waited for."""

    first_retry_s: float = 0.5
    longest_retry_s: float = 30.0
    """Of the backoff between two attempts to connect."""
    receive_timeout_s: float = 0.25
    """How soon a reader with nothing to read notices that it is to stop."""
    answer_timeout_ms: int = 10_000
    """A connection on which a question is not answered for so long is dead."""
    overlap_ms: int = 5_000
    """How long a new connection delivers before the old one is closed."""
    idle_takeover_ms: int = 60_000
    """How long neither delivers before a new connection is as good as the old one."""


DEFAULT_TIMING = FeedTiming()


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """Where the streams are, and how their connections are kept."""

    stream_url: str
    market: Market
    stream: Stream
    network: Network
    coalesce_ms: int
    silence_timeout_ms: int
    timing: FeedTiming = DEFAULT_TIMING
    runtime: Runtime = SYSTEM
    is_in_microseconds: bool = False
    """Whether times are asked for in microseconds, not in the exchange's default."""
    counter: ConnectionCounter = field(default_factory=ConnectionCounter)

    @property
    def url(self) -> str:
        """Where a connection is opened that is subscribed to nothing yet."""
        url = self.stream_url.rstrip("/") + self.stream.path
        return f"{url}?timeUnit=MICROSECOND" if self.is_in_microseconds else url
