"""What a market of Binance is: where it is, and what it lets one do."""

from __future__ import annotations

from dataclasses import dataclass

_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A REST request: its path, its share of the minute's weight, the most rows it answers."""

    path: str
    weight: int
    max_rows: int = 1


@dataclass(frozen=True, slots=True)
class Market:
    """Addresses and limits of one market; a limit is the exchange's unless it says otherwise."""

    name: str
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
