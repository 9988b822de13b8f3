"""Workers: named threads that start, stop and report failures."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from bintrades.util.runtime import SYSTEM, Runtime

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)


class Worker(ABC):
    """A named thread that runs until it is asked to stop.

    It is a daemon thread: whatever hangs inside it cannot keep the process from ending.
    """

    def __init__(
        self, name: str, on_failure: Callable[[str], None], runtime: Runtime = SYSTEM
    ) -> None:
        self.name = name
        self._runtime = runtime
        self.moved_at_ms = runtime.now()  # monotonic: when its loop last came round
        self._on_failure = on_failure
        self._thread = runtime.make_thread(self._run, name)

    @abstractmethod
    def run(self) -> None:
        """Do the work, on the worker's own thread; return soon after stop() was called."""

    @abstractmethod
    def stop(self) -> None:
        """Ask run() to return. Callable from any thread, any number of times."""

    def beat(self) -> None:
        """Say that the work goes on; run() calls it each time that its loop comes round."""
        self.moved_at_ms = self._runtime.now()

    def start(self) -> None:
        """Begin."""
        self.beat()
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether run() has started and not yet ended."""
        return self._thread.is_alive()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; return whether it came in time."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self.run()
        except BaseException:  # SystemExit as well: threading would swallow it silently
            try:
                log.exception("%s failed", self.name, extra={"event": "worker_failed"})
            finally:  # not even a log that fails may keep this from stopping the process
                self._on_failure(f"{self.name} failed")
