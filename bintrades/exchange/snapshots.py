"""Snapshots of an exchange's connections. Values: they go from thread to thread."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ConnectionState(StrEnum):
    """The state of a connection, as it is shown."""

    DISCONNECTED = "disconnected"

    CONNECTED = "connected"
    """Open, but not every stream that was asked for has been answered yet."""

    SUBSCRIBED = "subscribed"
    """The exchange has answered for every stream."""


@dataclass(frozen=True, slots=True)
class ConnectionSnapshot:
    """The state of one connection."""

    name: str
    state: ConnectionState
    symbols: int
    connection_count: int  # since the start
    error: str | None  # why the last one ended; None: connected
    down_ms: int  # for how long there have been no subscribed streams
