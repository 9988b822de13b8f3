"""The markets of the exchange: where each is, and what it lets one do."""

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
    exchange_info: Endpoint
    time: Endpoint
    historical_trades: Endpoint
    aggregate_trades: Endpoint
    klines: Endpoint
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
    ping_every_ms: int
    pong_deadline_ms: int
    connection_life_ms: int
    max_attempts: int
    """Attempts to connect from one IP address within attempts_window_ms."""
    attempts_window_ms: int


MARKETS = {
    "spot": Market(
        name="spot",
        stream_url="wss://stream.binance.com:9443",
        rest_url="https://api.binance.com",
        exchange_info=Endpoint("/api/v3/exchangeInfo", weight=20),
        time=Endpoint("/api/v3/time", weight=1),
        historical_trades=Endpoint("/api/v3/historicalTrades", weight=25, max_rows=1_000),
        aggregate_trades=Endpoint("/api/v3/aggTrades", weight=4, max_rows=1_000),
        klines=Endpoint("/api/v3/klines", weight=2, max_rows=1_000),
        weight_per_minute=6_000,
        max_streams=1_024,
        max_subscribe_names=200,
        max_subscribe_bytes=3_900,
        control_spacing_ms=500,
        ping_every_ms=20_000,
        pong_deadline_ms=60_000,
        connection_life_ms=86_400_000,
        max_attempts=300,
        attempts_window_ms=300_000,
    ),
}
"""Every market that can be collected, by the name in the configuration."""


def stream_name(symbol: str) -> str:
    """Return the name of the trade stream of *symbol*: 币安人生USDT has 币安人生usdt@trade.

    Only ASCII letters are lowered: lower-casing others could make a name that does not exist.
    """
    return symbol.translate(_ASCII_LOWER) + "@trade"
