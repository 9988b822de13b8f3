"""Ctrl-C while the code of plugins runs on the main thread."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def ended_by_ctrl_c() -> Iterator[None]:
    """Let SIGINT end the process: a KeyboardInterrupt would be taken for one of a plugin."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
