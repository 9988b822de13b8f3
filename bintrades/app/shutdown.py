"""Why the collector stops: a signal, or the failure of a worker."""

from __future__ import annotations

import logging
import math
import queue
import signal
import time

log = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""The last when the terminal closes. Where it is ignored, as under nohup, it stays so."""


_POLL_EVERY_S = 0.5
"""Python handles a signal when the main thread runs. One that the kernel gives to another thread,
or that comes just before the main thread begins to wait, does not wake it: it has to look itself.
"""


class StopReasons:
    """Why to stop: signals, and what failed. Making one takes over the signals.

    A signal handler may only put into a SimpleQueue: everything else may dead-lock
    against the code that it interrupts.
    """

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.bad_options: list[str] = []
        self._queue: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._is_known = False  # that there is a reason
        for number in STOP_SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._handle)

    def _handle(self, number: int, _frame: object) -> None:
        """Note a signal; one more than needed cuts waiting short, except for SIGHUP.

        It may come twice when a terminal closes, from the shell and the kernel: no haste is meant.
        """
        if number != signal.SIGHUP or not self._is_known:
            self._give(signal.Signals(number).name)

    def _give(self, reason: str) -> None:
        self._is_known = True
        self._queue.put(reason)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for a reason; return whether there is one. Main thread."""
        until_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left_s = until_s - time.monotonic()
            try:
                reason = self._queue.get(timeout=max(0.0, min(left_s, _POLL_EVERY_S)))
            except queue.Empty:
                if left_s <= _POLL_EVERY_S:
                    return False
            else:
                log.info("stopping: %s", reason, extra={"event": "shutdown_requested"})
                return True

    def fail(self, failure: str) -> None:
        """Stop because of *failure*. Any thread."""
        self.failures.append(failure)
        self._give(failure)

    def refuse(self, problem: str) -> None:
        """Stop because a store finds fault with its options. Any thread."""
        self.bad_options.append(problem)
        self._give(problem)
