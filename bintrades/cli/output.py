"""Output of the commands: flushed, escaped, and without a traceback when the reader is gone."""

from __future__ import annotations

import io
import os
import select
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from bintrades.errors import BintradesError
from bintrades.util.text import as_json, showable_input

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence


def prepare_output() -> None:
    """Make stdout and stderr accept any text, and reopen closed ones on /dev/null.

    Otherwise a file of ours could get descriptor 0 to 2, and be written to as stdout or stderr.
    """
    sys.stdout = sys.stdout or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    sys.stderr = sys.stderr or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # symbols go beyond what some can show


def print_text(text: str) -> None:
    """Print a text and flush it. Raises BintradesError where that fails."""
    print_pieces([f"{text}\n"])


def print_pieces(pieces: Iterable[str]) -> None:
    """Print and flush pieces of a text as they come, however many. Raises BintradesError."""
    for piece in pieces:
        try:
            sys.stdout.write(piece)
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise BintradesError(f"the output cannot be written: {error.strerror}") from error


def array_pieces(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield pieces of one JSON array of *rows*, for programs."""
    before = "[\n"
    for row in rows:
        yield before + as_json([row], indent=1)[2:-2]
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def wait_for(seconds: float) -> None:
    """Wait, but only while somebody can read stdout: else raise BrokenPipeError at once."""
    try:
        output = sys.stdout.fileno()
    except (OSError, ValueError):
        time.sleep(seconds)
        return
    poll = select.poll()
    poll.register(output, 0)  # what is gone is told unasked
    told = poll.poll(seconds * 1_000)
    if any(events & (select.POLLERR | select.POLLHUP) for _, events in told):
        raise BrokenPipeError
    if told:
        time.sleep(seconds)  # it cannot be asked


def print_problems(problems: Sequence[str]) -> None:
    """Print each problem on a line of stderr, whatever a plugin or a shell put into it."""
    with suppress(OSError, ValueError):  # closed, as plugins can do
        for problem in problems:
            print(f"bintrades: {showable_input(problem)}", file=sys.stderr)


def print_note(text: str) -> None:
    """Print a line on stderr that is no problem, such as what was done."""
    with suppress(OSError):
        print(showable_input(text), file=sys.stderr)


def flush_output() -> None:
    """Flush stdout and stderr; discard unread output, so that Python's exit does not fail."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None or stream.closed:
            continue  # by a plugin
        try:
            stream.flush()
        except OSError:
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
