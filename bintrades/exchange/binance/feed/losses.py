"""Why connections are lost, and how many were: counted for all connections of a feed."""

from __future__ import annotations

import threading

from bintrades.errors import ProtocolError, StalledError
from bintrades.exchange.snapshots import ConnectionCounts, LossCause


class ConnectionCounter:
    """Counts what is opened and lost. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opened = 0
        self._lost = dict.fromkeys(LossCause, 0)

    def opened(self) -> None:
        """Count a connection."""
        with self._lock:
            self._opened += 1

    def lost(self, error: Exception, *, was_connected: bool) -> None:
        """Count one that is lost because of *error*, or that could not be opened."""
        cause = cause_of(error) if was_connected else LossCause.UNREACHABLE
        with self._lock:
            self._lost[cause] += 1

    def snapshot(self) -> ConnectionCounts:
        """Return the counts of this moment."""
        with self._lock:
            return ConnectionCounts(self._opened, dict(self._lost))


def cause_of(error: Exception) -> LossCause:
    """Return why a connection was lost that has failed with *error*."""
    if isinstance(error, StalledError):
        return LossCause.STALLED
    return LossCause.PROTOCOL if isinstance(error, ProtocolError) else LossCause.CLOSED
