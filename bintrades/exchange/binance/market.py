"""What a market of Binance is: its facts, its messages and its plan of backfill."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from bintrades.core.gap_queue import Backoff
    from bintrades.exchange.batch import Batch, Decoded
    from bintrades.exchange.binance.backfill_plan import BackfillPlan
    from bintrades.model import IdLaw, TimeUnit

_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A REST request: its path, its share of the minute's weight, the most rows it answers."""

    path: str
    weight: int
    max_rows: int = 1


@dataclass(frozen=True, slots=True)
class Market:
    """All that distinguishes one market from another.

    A limit is the exchange's unless it says otherwise.
    """

    name: str
    decode: Callable[[Batch], Decoded]
    """Decodes what its streams bring; never raises for what messages contain."""
    make_plan: Callable[[Market, int, Callable[[], Backoff]], BackfillPlan]
    """Makes the plan of its backfill, given itself, the greatest age and what makes a backoff."""
    id_law: IdLaw
    time_unit: TimeUnit
    stream_url: str
    rest_url: str
    added_paths: tuple[str, ...]
    """What comes after either address, and is no part of it."""
    connection_life: str
    """After how long the exchange cuts a connection, as a duration."""
    exchange_info: Endpoint
    historical_trades: Endpoint
    aggregate_trades: Endpoint
    weight_per_minute: int
    """REST weight of one IP address in a UTC minute."""
    max_streams: int
    """Streams of one connection."""
    max_subscribe_names: int
    """Names in one SUBSCRIBE. Ours: longer messages have vanished without an answer."""
    max_subscribe_bytes: int
    """Length of one SUBSCRIBE in UTF-8. Ours, for the same reason."""
    control_spacing_ms: int
    """Rest between two messages to the server. Ours: leaves room for pongs within 5 a second."""
    max_attempts: int
    """Attempts to connect from one IP address within attempts_window_ms."""
    attempts_window_ms: int


def stream_name(symbol: str) -> str:
    """Return the name of the trade stream of *symbol*: 币安人生USDT has 币安人生usdt@trade.

    Only ASCII letters are lowered: lower-casing others could make a name that does not exist.
    """
    return symbol.translate(_ASCII_LOWER) + "@trade"
