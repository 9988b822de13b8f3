"""Writes log lines from a thread of its own.

A thread that logs never waits, neither for an unread pipe nor for a hung disk. Lines that cannot
be written in time are dropped and counted.
"""

from __future__ import annotations

import logging
import os
import queue
import select
import sys
import tempfile
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from bintrades.util.text import showable

if TYPE_CHECKING:
    from pathlib import Path

MOST_WAITING_BYTES = 4 * 2**20
"""Lines that wait beyond this are dropped."""

FLUSH_WITHIN_S = 2.0
"""The time that the end of the process waits for unwritten lines."""

_COMPLAIN_EVERY_S = 10.0
_MOST_OF_A_REASON = 200
_STDERR = 2


class Sink(Protocol):
    """The destination of lines. Every call comes from one thread, and may take for ever."""

    def write(self, lines: bytes) -> None:
        """Write all of *lines*, or raise OSError."""

    def close(self) -> None:
        """Let go of it."""


class StderrSink:
    """Stderr, as it was at the start: whatever becomes of it, no other file takes its place."""

    def __init__(self) -> None:
        self._descriptor = _stderr()

    def write(self, lines: bytes) -> None:
        """Write all of *lines*; blocks while the pipe is unread. Raises OSError."""
        _write_all(self._descriptor, lines)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._descriptor)


class FileSink:
    """A file that is opened again whenever its name leads to another one, or to none.

    So it may be renamed while in use, as logrotate does. Of *rotate_at_bytes* (0: never) it is
    renamed here, to NAME.1, and what was NAME.1 to NAME.2; *keep* of those are kept. Only its owner
    may read it.
    """

    def __init__(self, path: Path, *, rotate_at_bytes: int = 0, keep: int = 0) -> None:
        self._path = path
        self._rotate_at_bytes = rotate_at_bytes
        self._keep = keep
        self._is_cut = False  # the file ends with a part of a line
        self._descriptor = self._open()

    def write(self, lines: bytes) -> None:
        """Write all of *lines*, or raise OSError."""
        self._follow_its_name()
        if self._rotate_at_bytes:
            self._rotate()
        self._is_cut, was_cut = True, self._is_cut
        _write_all(self._descriptor, b"\n" + lines if was_cut else lines)
        self._is_cut = False

    def close(self) -> None:
        """Let go of it."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    @staticmethod
    def probe(path: Path) -> None:
        """Raise OSError if no such file can be opened now; leave nothing behind.

        A named pipe is left alone: its reader would take our closing it for the end of the log.
        """
        if path.is_fifo():
            return
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK))
        except FileNotFoundError:
            place = path.resolve().parent  # the file may be a link to one that is not there yet
            while not place.exists():
                place = place.parent
            tempfile.TemporaryFile(dir=place).close()

    def _open(self) -> int:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Non-blocking: a named pipe without a reader must not block us; a file ignores it.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        return os.open(self._path, flags, 0o600)

    def _follow_its_name(self) -> None:
        if self._descriptor >= 0 and not self._is_current():
            self.close()
        if self._descriptor < 0:
            self._descriptor = self._open()
            self._is_cut = False

    def _rotate(self) -> None:
        """Begin another file if this one is large; where that fails, this one grows on."""
        size = os.fstat(self._descriptor).st_size  # of all who write to it
        if size < self._rotate_at_bytes or not self._path.is_file():
            return
        with suppress(OSError):
            for number in range(self._keep - 1, 0, -1):
                if (older := self._aside(number)).exists():
                    older.rename(self._aside(number + 1))
            if self._keep:
                self._path.rename(self._aside(1))
            else:
                self._path.unlink()
            self._follow_its_name()

    def _aside(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._descriptor))
        except FileNotFoundError:
            return False


class QueueingHandler(logging.Handler):
    """Formats lines and has them written by a thread of its own. Nothing here raises or waits.

    What is lost is counted, and reported in the line before the next one that gets through; that a
    line cannot be written at all, on stderr, at most once in ten seconds.
    """

    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self._sink = sink
        self._queue: queue.SimpleQueue[bytes | threading.Event | None] = queue.SimpleQueue()
        self._counting = threading.RLock()  # for those who log; a destructor may do so at any time
        self._put_bytes = self._dropped = 0
        self._taken_bytes = self._failed = 0  # counted by the thread that writes
        self._reported = 0
        self._silent_until = 0.0
        self._stderr = _stderr()
        self._thread = threading.Thread(target=self._write, name="log-writer", daemon=True)
        self._thread.start()

    @property
    def lost_lines(self) -> int:
        """Lines dropped or failed. Any thread."""
        return self._dropped + self._failed

    def handle(self, record: logging.LogRecord) -> bool:
        """Have a line written, without logging's lock: formatting may take long."""
        if not self.filter(record):
            return False
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Have a line written, unless too many wait."""
        try:
            line = _encoded(self.format(record))
        except Exception as error:
            with self._counting:
                self._dropped += 1
            self._complain(error)
            return
        with self._counting:
            if self._put_bytes - self._taken_bytes + len(line) > MOST_WAITING_BYTES:
                self._dropped += 1
                return
            self._put_bytes += len(line)
        self._queue.put(line)

    def flush(self) -> None:
        """Wait until everything so far is written, but not for long. Any thread."""
        written = threading.Event()
        self._queue.put(written)
        if self._thread.is_alive():
            written.wait(FLUSH_WITHIN_S)

    def close(self) -> None:
        """Let the thread end when it has written what waits."""
        self._queue.put(None)
        super().close()

    def _write(self) -> None:
        while (item := self._queue.get()) is not None:
            if isinstance(item, threading.Event):
                item.set()
                continue
            try:
                self._write_line(item)
            except Exception as error:
                self._failed += 1
                self._complain(error)
            self._taken_bytes += len(item)
        with suppress(OSError):  # what a full disk did not take is lost
            self._sink.close()
        stderr, self._stderr = self._stderr, -1
        os.close(stderr)

    def _write_line(self, line: bytes) -> None:
        lost = self.lost_lines
        if lost > self._reported:
            line = self._word_of_loss(lost - self._reported) + line
        self._sink.write(line)
        self._reported = max(self._reported, lost)

    def _word_of_loss(self, count: int) -> bytes:
        record = logging.LogRecord(
            __name__, logging.WARNING, __file__, 0, "lines of the log were lost: %d", (count,), None
        )
        record.event = "log_lines_lost"
        return _encoded(self.format(record))

    def _complain(self, error: Exception) -> None:
        """Report on stderr, if that takes it at once, that a line cannot be written."""
        if time.monotonic() < self._silent_until:
            return
        self._silent_until = time.monotonic() + _COMPLAIN_EVERY_S
        reason = showable(str(error))[:_MOST_OF_A_REASON]
        words = f"bintrades: the log cannot be written: {reason}; lines left out: {self.lost_lines}"
        with suppress(
            OSError, ValueError
        ):  # there is nowhere left to report that stderr fails, too
            if _takes_a_line(self._stderr):
                os.write(self._stderr, _encoded(words))


def lost_lines() -> int:
    """Return how many lines of the log were lost since it was set up. Any thread."""
    handlers = logging.getLogger().handlers
    return sum(each.lost_lines for each in handlers if isinstance(each, QueueingHandler))


def _stderr() -> int:
    """Return a descriptor of our own for stderr; where it was closed at the start, for nothing."""
    if sys.__stderr__ is None:  # its number may be that of any other file by now
        return os.open(os.devnull, os.O_WRONLY)
    return os.dup(_STDERR)


def _encoded(line: str) -> bytes:
    return f"{line}\n".encode(errors="backslashreplace")


def _write_all(descriptor: int, data: bytes) -> None:
    """Write all of *data*, also to a descriptor that was made non-blocking."""
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:
            _wait_until_writable(descriptor, None)


def _takes_a_line(descriptor: int) -> bool:
    """Whether a line can be written without waiting: a pipe says so with room for a whole page."""
    return _wait_until_writable(descriptor, 0)


def _wait_until_writable(descriptor: int, timeout_ms: int | None) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(timeout_ms))
