"""Notices workers that hang, which is worse than one that fails: everything looks alive. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Watchdog:
    """Counts for how long workers have not moved, in time that the process itself has run.

    One that was stopped as a whole, or whose machine was asleep, finds all of them where they were,
    and none of them hangs: between two looks no more than twice *look_every_ms* counts.
    """

    def __init__(self, limit_ms: int, look_every_ms: int) -> None:
        self._limit_ms = limit_ms
        self._longest_step_ms = 2 * look_every_ms
        self._looked_at: int | None = None
        self._moved_at: dict[str, int] = {}
        self._idle_ms: dict[str, int] = {}

    def look(self, moved_at: Mapping[str, int], now: int) -> list[str]:
        """Return the names of the workers that hang.

        *moved_at* is when each one last moved; that and *now* are monotonic, milliseconds.
        """
        passed = 0 if self._looked_at is None else now - self._looked_at
        step = min(passed, self._longest_step_ms)
        idle = {
            name: self._idle_ms.get(name, 0) + step if self._moved_at.get(name) == moved else 0
            for name, moved in moved_at.items()
        }
        self._looked_at, self._moved_at, self._idle_ms = now, dict(moved_at), idle
        return [name for name, idle_ms in idle.items() if idle_ms >= self._limit_ms]
