"""Durations as people write them, 500ms 10s 5m 23h 7d, and as whole milliseconds inside."""

from __future__ import annotations

import re

UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
"""Milliseconds of each unit, the smallest first."""

_DURATION = re.compile(r"([0-9]{1,15})(ms|s|m|h|d)")


def parse_duration(text: str) -> int:
    """Return the milliseconds of *text*; raise ValueError if it is no number with a unit."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("not a whole number with a unit (ms, s, m, h, d), such as 10s")
    return int(match[1]) * UNITS_MS[match[2]]


def format_duration(duration_ms: int) -> str:
    """Return the shortest text that parse_duration reads as *duration_ms*: 90000 is 90s."""
    if duration_ms == 0:
        return "0ms"
    for unit, unit_ms in reversed(UNITS_MS.items()):
        if duration_ms % unit_ms == 0:
            return f"{duration_ms // unit_ms}{unit}"
    raise AssertionError("every whole number is a multiple of 1 ms")
