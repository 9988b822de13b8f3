"""Why the collector stops: a signal, or the word of a worker that something has failed."""

from __future__ import annotations

import logging
import queue
import signal

log = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Reasons:
    """Why to stop: signals, and what failed. Making one takes over the signals.

    A signal handler may only put a word into a SimpleQueue: everything else may dead-lock
    against the code that it interrupts.
    """

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.bad_options: list[str] = []
        self._queue: queue.SimpleQueue[str] = queue.SimpleQueue()
        for number in STOP_SIGNALS:
            signal.signal(number, lambda got, _frame: self._queue.put(signal.Signals(got).name))

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for a reason; return whether there is one. Main thread."""
        try:
            reason = self._queue.get(timeout=timeout_s)
        except queue.Empty:
            return False
        log.info("stopping: %s", reason)
        return True

    def fail(self, failure: str) -> None:
        """Stop because of *failure*. Any thread."""
        self.failures.append(failure)
        self._queue.put(failure)

    def refuse(self, problem: str) -> None:
        """Stop because a store finds fault with its options. Any thread."""
        self.bad_options.append(problem)
        self._queue.put(problem)
