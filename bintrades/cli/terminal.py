"""A terminal whose keys are heard as they are pressed, and which is left as it was."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import sys
import termios
import tty
from contextlib import ExitStack, contextmanager, suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from bintrades.util.signals import handled

if TYPE_CHECKING:
    from collections.abc import Iterator

_USUAL_SIZE = (80, 24)
_SEQUENCE = re.compile(rb"\x1b[\[O][0-9;]*[A-Za-z~]|.", re.DOTALL)


class Event(StrEnum):
    """What a user or the system wants."""

    END = "end"
    RESIZED = "resized"
    SUSPEND = "suspend"
    UP = "up"
    DOWN = "down"
    PAGE_UP = "page up"
    PAGE_DOWN = "page down"
    FIRST = "first"
    LAST = "last"
    LONGER = "longer"
    SHORTER = "shorter"


_KEYS = {
    **dict.fromkeys((b"q", b"Q", b"\x03"), Event.END),
    **dict.fromkeys((b"\x1b[A", b"\x1bOA", b"k"), Event.UP),
    **dict.fromkeys((b"\x1b[B", b"\x1bOB", b"j"), Event.DOWN),
    **dict.fromkeys((b"\x1b[5~", b"b"), Event.PAGE_UP),
    **dict.fromkeys((b"\x1b[6~", b" "), Event.PAGE_DOWN),
    **dict.fromkeys((b"\x1b[H", b"\x1bOH", b"\x1b[1~", b"g"), Event.FIRST),
    **dict.fromkeys((b"\x1b[F", b"\x1bOF", b"\x1b[4~", b"G"), Event.LAST),
    **dict.fromkeys((b"\x1b[C", b"\x1bOC", b"+"), Event.LONGER),
    **dict.fromkeys((b"\x1b[D", b"\x1bOD", b"-"), Event.SHORTER),
}
_SIGNALS = {
    signal.SIGINT: Event.END,
    signal.SIGTERM: Event.END,
    signal.SIGHUP: Event.END,
    signal.SIGWINCH: Event.RESIZED,
    signal.SIGTSTP: Event.SUSPEND,
}


class Terminal:
    """The terminal of stdin and stdout, while the block lasts. Main thread.

    Signals that would end or stop the process are events meanwhile, so that nothing is cut short.
    """

    def __init__(self) -> None:
        self.ended_by: int | None = None
        """The signal, other than that of Ctrl-C, because of which to end; None: there was none."""
        self._keys = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
        self._is_heard = self._keys is not None
        self._before: list[Any] | None = None
        self._signals, self._put = socket.socketpair()
        self._until_exit = ExitStack()

    def __enter__(self) -> Terminal:
        with ExitStack() as entered:
            entered.callback(self._signals.close)
            entered.callback(self._put.close)
            entered.enter_context(self._hearing_signals())
            self._before = self._take()
            entered.callback(lambda: self._give_back(self._before))
            self._until_exit = entered.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._until_exit.close()

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows of stdout; of a terminal that does not say, the usual ones."""
        with suppress(OSError):
            columns, rows = os.get_terminal_size(sys.stdout.fileno())
            if columns > 0 and rows > 0:
                return columns, rows
        return _USUAL_SIZE

    def wait(self, timeout_s: float) -> list[Event]:
        """Return what has happened, as soon as something has; nothing after *timeout_s*."""
        sources: list[Any] = [self._signals, self._keys] if self._is_heard else [self._signals]
        ready, _, _ = select.select(sources, [], [], timeout_s)
        found = []
        if self._signals in ready:
            for number in self._signals.recv(1_024):
                event = _SIGNALS[signal.Signals(number)]
                if event is Event.END and number != signal.SIGINT:
                    self.ended_by = number
                found.append(event)
        if self._keys in ready and self._keys is not None:
            found += self._pressed(self._keys)
        return found

    def _pressed(self, keys: int) -> list[Event]:
        try:
            pressed = os.read(keys, 1_024)
        except OSError:
            pressed = b""
        if not pressed:
            self._is_heard = False  # nobody can press one any more
        return [_KEYS[key] for key in _SEQUENCE.findall(pressed) if key in _KEYS]

    def suspend(self) -> None:
        """Stop the process as Ctrl-Z does, with the terminal as it was; return once it goes on."""
        self._give_back(self._before)
        os.kill(os.getpid(), signal.SIGSTOP)
        self._before = self._take()

    def _take(self) -> list[Any] | None:
        """Have keys come one by one, and not be shown; return how it was before."""
        if self._keys is None:
            return None
        before = termios.tcgetattr(self._keys)
        tty.setcbreak(self._keys)
        return before

    def _give_back(self, before: list[Any] | None) -> None:
        if self._keys is not None and before is not None:
            with suppress(termios.error):  # the terminal is gone
                termios.tcsetattr(self._keys, termios.TCSADRAIN, before)

    @contextmanager
    def _hearing_signals(self) -> Iterator[None]:
        self._signals.setblocking(False)
        self._put.setblocking(False)
        descriptor_before = signal.set_wakeup_fd(self._put.fileno(), warn_on_full_buffer=False)
        try:
            with handled(_SIGNALS, _heard_elsewhere):
                yield
        finally:
            signal.set_wakeup_fd(descriptor_before)


def _heard_elsewhere(_number: int, _frame: object) -> None:
    """Do nothing: the number of the signal is in the socket already."""
