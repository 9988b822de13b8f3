"""What a test may change of the machine that a collector runs on: name service, clock and disk.

Python imports this module by itself at the start of a process that has its folder on PYTHONPATH.
"""

from __future__ import annotations

import datetime
import functools
import os
import socket
import sqlite3
import time
from pathlib import Path
from typing import Any

HOSTS = "BINTRADES_TEST_HOSTS"
"""Names a file of the host names that can be resolved now, all to this machine."""

SPEED = "BINTRADES_TEST_SPEED"
"""How many times as fast as real time the collector's monotonic clock goes."""

CLOCK = "BINTRADES_TEST_CLOCK"
"""Names a file of the seconds by which this machine's clock is wrong now."""

HANGING_DISK = "BINTRADES_TEST_HANGING_DISK"
"""Names a file; while it is there, no commit of SQLite comes to its end."""

_LOOPBACK = "127.0.0.1"
_getaddrinfo = socket.getaddrinfo
_monotonic_ns = time.monotonic_ns
_time_ns = time.time_ns
_speed = int(os.environ.get(SPEED, "1"))


def getaddrinfo(host: Any, *args: Any, **options: Any) -> Any:
    """Resolve what the file of hosts has, and addresses."""
    name = host.decode() if isinstance(host, bytes) else host
    if name != _LOOPBACK:
        if name not in Path(os.environ[HOSTS]).read_text(encoding="utf-8").split():
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        host = _LOOPBACK
    return _getaddrinfo(host, *args, **options)


class WrongDatetime(datetime.datetime):
    """Shows the time of a clock that is wrong."""

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        """Return the local time."""
        return cls.fromtimestamp(time.time(), tz)


def time_ns() -> int:
    """Return the time since the epoch as that clock has it."""
    while not (wrong_by := Path(os.environ[CLOCK]).read_text(encoding="utf-8")):
        pass  # it is just being written
    return _time_ns() + int(wrong_by) * 10**9


class ConnectionToHangingDisk(sqlite3.Connection):
    """Commits when the disk takes something again."""

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        """Execute a statement."""
        while sql == "COMMIT" and Path(os.environ[HANGING_DISK]).exists():
            time.sleep(0.01)
        return super().execute(sql, *args)


if HANGING_DISK in os.environ:
    sqlite3.connect = functools.partial(sqlite3.connect, factory=ConnectionToHangingDisk)  # type: ignore[assignment]
if CLOCK in os.environ:
    time.time_ns = time_ns
    time.time = lambda: time_ns() / 1e9
    datetime.datetime = WrongDatetime  # type: ignore[misc]
if HOSTS in os.environ:
    socket.getaddrinfo = getaddrinfo
time.monotonic_ns = lambda: _speed * _monotonic_ns()
