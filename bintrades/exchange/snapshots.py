"""Snapshots of an exchange's connections. Values: they go from thread to thread."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


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
    empty_connections: int  # the last ones in a row that were given up since they brought nothing


class LossCause(StrEnum):
    """Why a connection was lost, or there was none."""

    CLOSED = "closed"
    """The exchange, or what lies between, has ended it."""

    STALLED = "stalled"
    """It was open, but brought nothing, or no answer."""

    PROTOCOL = "protocol"
    """What came cannot be read as a WebSocket."""

    UNREACHABLE = "unreachable"
    """It could not be opened."""


@dataclass(frozen=True, slots=True)
class ConnectionCounts:
    """Connections since the start."""

    opened: int
    lost: Mapping[LossCause, int]
