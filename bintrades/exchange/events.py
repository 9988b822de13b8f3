"""What comes through the inbox: from connections and from the repairer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from bintrades.core.backfill_result import BackfillResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bintrades.exchange.ban import Ban
    from bintrades.exchange.binance.messages import Answer, Batch


class Source(Protocol):
    """A connection, as whoever decodes its messages sees it."""

    @property
    def symbols(self) -> Sequence[str]:
        """What it carries."""

    def take_answers(self, answers: Sequence[Answer]) -> None:
        """Hand over answers found among the payloads."""

    def on_data(self, at: int) -> None:
        """Note that trades came at *at*, milliseconds, monotonic."""

    def on_shutdown(self) -> None:
        """Note that the exchange is about to close the connection."""

    def subscribe_again(self, symbol: str) -> None:
        """Ask for the stream of *symbol* once more: it is dead."""


@dataclass(frozen=True, slots=True)
class Payloads:
    """Text messages as they came."""

    source: Source
    batch: Batch
    received_at: int  # milliseconds, monotonic


@dataclass(frozen=True, slots=True)
class Connected:
    """Every stream of the connection was asked for and answered."""

    source: Source
    at: int


@dataclass(frozen=True, slots=True)
class Disconnected:
    """A connection that was Connected is gone."""

    source: Source
    at: int


@dataclass(frozen=True, slots=True)
class LatestTrade:
    """The newest trade of a symbol that was suspiciously quiet, as REST has it."""

    symbol: str
    trade_id: int
    time: int
    at: int  # when REST said so, milliseconds, monotonic


@dataclass(frozen=True, slots=True)
class RateLimited:
    """The exchange wants no requests from this address for a while."""

    ban: Ban


Event = Payloads | Connected | Disconnected | BackfillResult | LatestTrade | RateLimited
