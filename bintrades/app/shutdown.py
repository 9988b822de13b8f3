"""Why the collector stops: a signal, or the failure of a worker; and when it reads its file again.

SIGHUP asks for the latter. A terminal that closes sends it as well: whoever has begun with one, and
has none by then, stops.
"""

from __future__ import annotations

import logging
import math
import os
import queue
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_RELOAD = signal.SIGHUP.name
_TERMINAL = "/dev/tty"  # the one of whoever opens it

_POLL_EVERY_S = 0.5
"""Python handles a signal when the main thread runs. One that the kernel gives to another thread,
or that comes just before the main thread begins to wait, does not wake it: it has to look itself.
"""


class StopReasons:
    """Why to stop: signals, and what failed. Making one takes over the signals.

    *on_alive* is called again and again while somebody waits: the main thread goes on.

    A signal handler may only put into a SimpleQueue: everything else may dead-lock
    against the code that it interrupts.
    """

    def __init__(self, on_alive: Callable[[], None] = lambda: None) -> None:
        self._on_alive = on_alive
        self.failures: list[str] = []
        self.bad_options: list[str] = []
        self._queue: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._is_known = False  # that there is a reason
        self._had_terminal = _has_terminal()
        self._reload: Callable[[], None] | None = None
        self._is_reload_wanted = False  # by a signal, while nobody could do it
        for number in STOP_SIGNALS:
            signal.signal(number, self._handle)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as it is under nohup
            signal.signal(signal.SIGHUP, self._handle_hangup)

    def on_reload(self, reload: Callable[[], None]) -> None:
        """Have *reload* called for each SIGHUP; at once, if one has come. Main thread."""
        self._reload = reload
        if self._is_reload_wanted:
            reload()

    def _handle(self, number: int, _frame: object) -> None:
        """Note a signal; one more than needed cuts waiting short."""
        self._give(signal.Signals(number).name)

    def _handle_hangup(self, _number: int, _frame: object) -> None:
        self._queue.put(_RELOAD)

    def _give(self, reason: str) -> None:
        self._is_known = True
        self._queue.put(reason)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for a reason; return whether there is one. Main thread."""
        until_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while True:
            self._on_alive()
            left_s = until_s - time.monotonic()
            try:
                reason = self._queue.get(timeout=max(0.0, min(left_s, _POLL_EVERY_S)))
            except queue.Empty:
                if left_s <= _POLL_EVERY_S:
                    return False
            else:
                if reason == _RELOAD and not self._is_terminal_gone():
                    continue
                log.info("stopping: %s", reason, extra={"event": "shutdown_requested"})
                return True

    def _is_terminal_gone(self) -> bool:
        """Do what SIGHUP asks for; return whether that is to stop.

        It may come twice when a terminal closes, from the shell and the kernel: no haste is meant.
        """
        if self._is_known:
            return False
        if self._had_terminal and not _has_terminal():
            self._is_known = True
            return True
        if self._reload is None:
            self._is_reload_wanted = True
        else:
            self._reload()
        return False

    def fail(self, failure: str) -> None:
        """Stop because of *failure*. Any thread."""
        self.failures.append(failure)
        self._give(failure)

    def refuse(self, problem: str) -> None:
        """Stop because a store finds fault with its options. Any thread."""
        self.bad_options.append(problem)
        self._give(problem)


def _has_terminal() -> bool:
    """Whether the process has a terminal that controls it."""
    try:
        os.close(os.open(_TERMINAL, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError:
        return False
    return True
