"""The clocks, threads and chance that workers live by: this machine's, or a simulation's."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from bintrades.util.clocks import now_ms, utc_ms

if TYPE_CHECKING:
    from collections.abc import Callable


class WorkerThread(Protocol):
    """As much of threading.Thread as a worker needs."""

    def start(self) -> None:
        """Begin."""

    def is_alive(self) -> bool:
        """Whether it has started and not yet ended."""

    def join(self, timeout: float | None = None) -> None:
        """Wait for the end, for no longer than *timeout* seconds."""


def daemon_thread(run: Callable[[], None], name: str) -> WorkerThread:
    """Return a thread that cannot keep the process from ending."""
    return threading.Thread(target=run, name=name, daemon=True)


@dataclass(frozen=True, slots=True)
class Runtime:
    """Clocks and randomness, which a simulation replaces.

    *now* is the monotonic, *utc* the local clock, in milliseconds.
    """

    now: Callable[[], int] = now_ms
    utc: Callable[[], int] = utc_ms
    make_thread: Callable[[Callable[[], None], str], WorkerThread] = daemon_thread
    rng: random.Random = field(default_factory=random.Random)
    """Spreads attempts and rotations; keeps no secret."""


SYSTEM = Runtime()
"""The clocks and the randomness of this machine."""
