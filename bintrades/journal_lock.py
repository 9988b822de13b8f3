"""Keeps two collectors from one journal, and tells whether one is at work on it."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from bintrades.errors import JournalError

if TYPE_CHECKING:
    from pathlib import Path


def is_in_use(path: Path) -> bool:
    """Whether a collector of this machine, perhaps in another container, has the journal open."""
    try:
        with _lock_file(path).open(encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _lock_file(path: Path) -> Path:
    path = path.resolve()  # by whatever name a journal is known, it has one lock
    return path.with_name(path.name + ".lock")


def _acquire(lock: TextIO) -> bool:
    for _ in range(3):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(0.05)  # is_in_use holds it for a moment
        else:
            return True
    return False


def lock_journal(path: Path) -> TextIO:
    """Keep a second collector away from the journal for as long as this process lives."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock_file(path).open("a+", encoding="utf-8")
    except OSError as error:
        raise JournalError(
            f"{path}: cannot be used: {error.strerror} ({error.filename});"
            " make the folder writable, or set [journal] path"
        ) from error
    if not _acquire(lock):
        lock.seek(0)
        owner = lock.read().strip() or "unknown"
        lock.close()
        raise JournalError(
            f"{path}: is in use by another collector (process {owner});"
            " stop that one, or set [journal] path to another file"
        )
    with suppress(OSError):  # the number is only a courtesy to whoever is refused
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
    return lock
