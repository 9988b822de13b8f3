"""The events of the inbox, from the feed, the backfill and the audit. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bintrades.core.audit_result import BarRebuilt, BarsAudited
from bintrades.core.backfill_result import BackfillResult
from bintrades.core.newest_ids import NewestIds
from bintrades.core.symbol_changes import SymbolsChanged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bintrades.core.ban import Ban
    from bintrades.exchange.batch import Batch


@dataclass(frozen=True, slots=True)
class Payloads:
    """Messages of a connection's streams, undecoded."""

    connection: str  # unique within the process, as in Connected
    batch: Batch
    received_at: int  # milliseconds, monotonic


@dataclass(frozen=True, slots=True)
class Connected:
    """A connection has asked for every stream and got every answer."""

    connection: str
    symbols: Sequence[str]
    at: int  # milliseconds, monotonic


@dataclass(frozen=True, slots=True)
class Disconnected:
    """A connection that was Connected is gone."""

    connection: str
    at: int  # milliseconds, monotonic


@dataclass(frozen=True, slots=True)
class StreamsAdded:
    """A connection that was Connected has asked for more streams, and got every answer."""

    connection: str
    symbols: Sequence[str]
    at: int  # milliseconds, monotonic


@dataclass(frozen=True, slots=True)
class StreamsRemoved:
    """A connection that was Connected brings nothing of these any more; it goes on."""

    connection: str
    symbols: Sequence[str]
    at: int  # milliseconds, monotonic


@dataclass(frozen=True, slots=True)
class RateLimited:
    """The exchange wants no requests from this address for a while."""

    ban: Ban


Event = (
    Payloads
    | Connected
    | Disconnected
    | StreamsAdded
    | StreamsRemoved
    | SymbolsChanged
    | BackfillResult
    | NewestIds
    | RateLimited
    | BarRebuilt
    | BarsAudited
)
