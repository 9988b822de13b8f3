"""What systemd is told of a service with Type=notify; see sd_notify(3). Nothing elsewhere."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress

_ALIVE_EVERY_S = 5.0


class ServiceManager:
    """The one that has started this process, if it wants to be told. Main thread.

    Nothing raises, and nothing waits. What it does not take is told again soon.
    """

    def __init__(self, address: str | None = None) -> None:
        address = os.environ.pop("NOTIFY_SOCKET", "") if address is None else address
        self._address = address.replace("@", "\0", 1) if address.startswith("@") else address
        self._alive_at = -_ALIVE_EVERY_S

    def ready(self) -> None:
        """Say that the service has started."""
        self._tell("READY=1")

    def alive(self) -> None:
        """Say that it goes on, for WatchdogSec=; call it as often as you like."""
        if time.monotonic() - self._alive_at >= _ALIVE_EVERY_S:
            self._alive_at = time.monotonic()
            self._tell("WATCHDOG=1")

    def _tell(self, word: str) -> None:
        if not self._address:
            return
        with (
            suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager,
        ):
            manager.setblocking(False)
            manager.sendto(word.encode(), self._address)
