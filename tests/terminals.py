"""Real terminals: a program runs in one, keys are pressed, and what it shows is read."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyte

from tests.checkout import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_WITHIN_S = 60
_WITH_A_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    " os.execvp(sys.argv[1], sys.argv[1:])"
)


class Window:
    """A window in which a program runs that has it as its controlling terminal."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int, size: Any) -> None:
        self.process = process
        self.written = b""
        """All that the program has written so far."""
        self._descriptor = descriptor
        self._screen = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self._screen)

    @property
    def is_closed(self) -> bool:
        """Whether it was taken away."""
        return self._descriptor < 0

    @property
    def lines(self) -> list[str]:
        """What can be seen."""
        return [line.rstrip() for line in self._screen.display]

    @property
    def modes(self) -> list[Any]:
        """How the terminal treats what is typed: its attributes but the speeds."""
        return termios.tcgetattr(self._descriptor)[:4]

    def press(self, keys: str) -> None:
        """Type something."""
        os.write(self._descriptor, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        """Have the window be of another size."""
        self._screen.resize(rows, columns)
        _set_size(self._descriptor, columns, rows)

    def wait(self, *texts: str, meanwhile: Callable[[], object] = lambda: None) -> list[str]:
        """Return the lines, once all of *texts* can be seen; call *meanwhile* again and again."""
        return self.until(
            lambda: all(any(text in line for line in self.lines) for text in texts), meanwhile
        )

    def until(
        self, is_there: Callable[[], bool], meanwhile: Callable[[], object] = lambda: None
    ) -> list[str]:
        """Return the lines, once *is_there* says so."""
        deadline = time.monotonic() + _WITHIN_S
        while not is_there():
            assert time.monotonic() < deadline, "\n".join(self.lines)
            meanwhile()
            assert self._read(0.2) or is_there(), "\n".join(["it has ended:", *self.lines])
        return self.lines

    def close(self) -> None:
        """Take the window away, as who closes it does, or a connection that breaks."""
        os.close(self._descriptor)
        self._descriptor = -1

    def ended(self) -> int:
        """Return the exit status, once it has ended and all that it wrote is read."""
        deadline = time.monotonic() + _WITHIN_S
        while not self.is_closed and self._read(0.2):
            assert time.monotonic() < deadline, "\n".join(self.lines)
        return self.process.wait(_WITHIN_S)

    def _read(self, timeout_s: float) -> bool:
        """Show what is written meanwhile; return whether there may come more."""
        if not select.select([self._descriptor], [], [], timeout_s)[0]:
            return self.process.poll() is None
        try:
            written = os.read(self._descriptor, 65_536)
        except OSError:  # as Linux says that all who had the other end have closed it
            return False
        self.written += written
        self._stream.feed(written)
        return bool(written)


@contextmanager
def window(
    command: Sequence[str], columns: int = 80, rows: int = 24, **environ: str
) -> Iterator[Window]:
    """Run *command* in a window, and end it where the test does not."""
    ours, its = os.openpty()
    _set_size(ours, columns, rows)
    inherited = {key: os.environ[key] for key in ("HOME", "PATH", "TMPDIR") if key in os.environ}
    with subprocess.Popen(
        [sys.executable, "-c", _WITH_A_TERMINAL, *command],
        env=inherited
        | {"TERM": "xterm-256color", "LANG": "C.UTF-8", "PYTHONPATH": str(REPOSITORY)}
        | environ,
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
    ) as process:
        os.close(its)
        found = Window(process, ours, (columns, rows))
        try:
            yield found
        finally:
            for number in (signal.SIGCONT, signal.SIGTERM):
                process.send_signal(number)
            if not found.is_closed:
                found.close()


def _set_size(descriptor: int, columns: int, rows: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
