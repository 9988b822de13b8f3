"""The two local clocks. Neither decides what is in a bar."""

from __future__ import annotations

import time


def now_ms() -> int:
    """Return milliseconds on the monotonic clock, which never goes back."""
    return time.monotonic_ns() // 1_000_000


def utc_ms() -> int:
    """Return milliseconds since the epoch, as far as this machine knows."""
    return time.time_ns() // 1_000_000
