"""A bar on a terminal that shows how far a command is; nothing where stderr is no terminal."""

from __future__ import annotations

import sys
import time
from contextlib import suppress

_WIDTH = 30
_EVERY_S = 0.1


class ProgressBar:
    """One line of stderr, drawn again and again."""

    def __init__(self, *, after_s: float = 0.0) -> None:
        """Draw nothing until *after_s* seconds from now: what is done by then needs none."""
        self._is_shown = sys.stderr.isatty()
        self._is_drawn = False
        self._not_before = time.monotonic() + after_s

    def show(self, done: int, total: int, label: str) -> None:
        """Draw how much of *total* is done, some times a second at most."""
        now = time.monotonic()
        if not self._is_shown or now < self._not_before:
            return
        self._not_before = now + _EVERY_S
        self._is_drawn = True
        part = min(done, total) * _WIDTH // total if total else _WIDTH
        percent = min(done, total) * 100 // total if total else 100
        self._write(f"\r\x1b[K[{'#' * part}{'.' * (_WIDTH - part)}] {percent:3} %  {label}")

    def clear(self) -> None:
        """Take the line away, so that something else can be printed."""
        if self._is_drawn:
            self._is_drawn = False
            self._write("\r\x1b[K")

    @staticmethod
    def _write(text: str) -> None:
        with suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()
