"""What is known of an exchange's connections at a moment. Values: they go from thread to thread."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConnectionSnapshot:
    """The state of one connection."""

    name: str
    state: str  # disconnected, connected or subscribed
    symbols: int
    connection_count: int  # since the start
    error: str | None  # why the last one ended; None: connected
    down_ms: int  # for how long there have been no subscribed streams
