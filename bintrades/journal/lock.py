"""Keeps two collectors from one journal, and says whether one is at work on it.

Two locks: one on a file beside the journal, which is there before the journal is and says whose it
is, and one on the journal itself, which nobody can take away by removing a file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import sys
import time
from contextlib import suppress
from pathlib import Path

from bintrades.errors import JournalError, JournalInUse
from bintrades.util.clocks import now_ms

_IS_APART_FROM_SQLITE = sys.platform == "linux"
"""Whether flock() and the locks of fcntl(), which are SQLite's, do not see each other."""

_MODE = 0o600
_held: set[tuple[int, int]] = set()
"""Journals that this process holds. To open and close one once more would drop SQLite's locks."""

_descriptors: set[int] = set()
"""The files that hold the locks of this process."""


def _let_go() -> None:
    """Have a copy of the process hold no lock: it may live longer than the collector.

    Plugins can fork, and so can the libraries that they use.
    """
    for descriptor in _descriptors:
        os.close(descriptor)
    _descriptors.clear()
    _held.clear()


os.register_at_fork(after_in_child=_let_go)


def is_in_use(path: Path) -> bool:
    """Whether a collector of this machine, perhaps in another container, has the journal open."""
    if _is_locked(_lock_file(path)):
        return True
    return _IS_APART_FROM_SQLITE and (identity(path) in _held or _is_locked(path))


def holder(path: Path) -> tuple[int | None, int]:
    """Return the number of the process that has, or last had, the journal, and since when.

    That is None and 0 where it is not on record; times are milliseconds, monotonic.
    """
    try:
        number, since, *_ = _lock_file(path).read_text(encoding="utf-8").split()
        return int(number), int(since)
    except (OSError, ValueError):
        return None, 0


def identity(path: Path) -> tuple[int, int]:
    """Return device and inode of a file; zeros where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return (0, 0)
    return found.st_dev, found.st_ino


def tighten(path: Path) -> None:
    """Take away what others than the owner may do with the journal and what belongs to it."""
    for file in (path, *path.parent.glob(f"{path.name}[-.]*")):
        with suppress(OSError):  # somebody else's, or gone by now
            mode = file.stat().st_mode & 0o777
            if mode & ~_MODE:
                file.chmod(mode & _MODE)


def lock_journal(path: Path) -> JournalLock:
    """Keep a second collector away from the journal for as long as this process lives.

    Raises JournalInUse, or JournalError where nothing can be made beside the journal.
    """
    try:
        return JournalLock(path)
    except OSError as error:
        raise JournalError(
            f"{path}: cannot be used: {error.strerror} ({error.filename});"
            f" {what_to_do(error, 'make the folder writable')}"
        ) from error


def what_to_do(error: BaseException | None, otherwise: str) -> str:
    """Return the advice that fits an error of the file system or of SQLite."""
    code = getattr(error, "sqlite_errorcode", 0) or 0
    number = getattr(error, "errno", 0)
    if number in (errno.ENOSPC, errno.EDQUOT) or code & 0xFF == sqlite3.SQLITE_FULL:
        advice = "make room on its disk"
    elif code & 0xFF == sqlite3.SQLITE_IOERR:
        advice = "make room on its disk, or look for its failure in the system's log"
    elif code & 0xFF == sqlite3.SQLITE_BUSY:
        advice = "end the program that holds its lock"
    elif code & 0xFF in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
        advice = "make the file and its folder writable"
    else:
        advice = otherwise
    return f"{advice}, or set [journal] path"


class JournalLock:
    """The locks of one journal, held from the beginning until close() or the end of the process.

    Making one takes the lock beside the journal; hold() that of the file itself. Both raise
    JournalInUse, and OSError where files cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._identity = (0, 0)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._beside: int | None = _opened_and_locked(_lock_file(path), path)
        _write_owner(self._beside)

    def hold(self) -> None:
        """Lock the file that has the journal's name now, and make it if there is none.

        Call it while no connection to that file is open: what it locked before is released.
        """
        if not _IS_APART_FROM_SQLITE:
            os.close(os.open(self._path, os.O_RDONLY | os.O_CREAT, _MODE))
        elif self._file is None or self._identity != identity(self._path):
            self._release()
            self._file = _opened_and_locked(self._path, self._path)
            found = os.fstat(self._file)
            self._identity = (found.st_dev, found.st_ino)
            _held.add(self._identity)

    def close(self) -> None:
        """Let others have the journal. Call it after the last connection was closed."""
        self._release()
        if self._beside is not None:
            _close(self._beside)
            self._beside = None

    def _release(self) -> None:
        if self._file is not None:
            _held.discard(self._identity)
            _close(self._file)
            self._file = None


def _close(descriptor: int) -> None:
    if descriptor in _descriptors:  # else this is a copy of the process that had it
        _descriptors.remove(descriptor)
        os.close(descriptor)


def _lock_file(path: Path) -> Path:
    path = path.resolve()  # by whatever name a journal is known, it has one lock
    return path.with_name(path.name + ".lock")


def _is_locked(file: Path) -> bool:
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _opened_and_locked(file: Path, journal: Path) -> int:
    for _ in range(3):
        descriptor = os.open(file, _flags(file, journal), _MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = os.fstat(descriptor)
            if identity(file) == (found.st_dev, found.st_ino):
                _descriptors.add(descriptor)
                return descriptor  # and not one that was removed in between
        except OSError:
            time.sleep(0.05)  # is_in_use holds it for a moment
        os.close(descriptor)
    raise JournalInUse(
        f"{journal}: is in use by another collector (process {_owner(file, journal)});"
        " stop that one, or set [journal] path to another file"
    )


def _flags(file: Path, journal: Path) -> int:
    return os.O_CREAT | (os.O_RDONLY if file == journal else os.O_RDWR)


def _write_owner(descriptor: int) -> None:
    with suppress(OSError):  # the number is only a courtesy to whoever is refused
        owner = f"{os.getpid()}\n{now_ms()}\n".encode()
        os.pwrite(descriptor, owner, 0)  # at once, so that no reader finds the file without one
        os.ftruncate(descriptor, len(owner))


def _owner(file: Path, journal: Path) -> str:
    """Return the number of the process that has the lock, if that can be found out."""
    with suppress(OSError, ValueError, IndexError):
        if file != journal:
            return file.read_text(encoding="utf-8").split()[0]
        number = str(identity(file)[1])
        for line in Path("/proc/locks").read_text(encoding="utf-8").splitlines():
            words = line.split()  # 1: FLOCK ADVISORY WRITE 4711 08:01:1234 0 EOF
            if words[1] == "FLOCK" and words[5].rpartition(":")[2] == number:
                return words[4]
    return "unknown"
