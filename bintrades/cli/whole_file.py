"""Files that are there when they are whole, and not before."""

from __future__ import annotations

import os
import signal
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from bintrades.errors import BintradesError
from bintrades.util.signals import handled

if TYPE_CHECKING:
    from collections.abc import Iterator

_ENDING = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def whole_file(path: Path, *, replaces: bool) -> Iterator[BinaryIO]:
    """Yield a file beside *path* that becomes *path* once the block has ended, durable by then.

    If it ends otherwise, by Ctrl-C and by SIGTERM or SIGHUP as well, nothing is left behind (by
    `kill -9` a hidden file that ends with .part). Raises BintradesError for what is in the way:
    something that is there, unless *replaces*, and whatever the system has against it. Main thread.
    """
    _check(path, replaces=replaces)
    try:
        descriptor, name = tempfile.mkstemp(".part", f".{path.name}.", path.parent)
    except OSError as error:
        raise _cannot(path, error) from error
    part = Path(name)
    try:
        with _ending_in_order():
            try:
                with os.fdopen(descriptor, "wb") as file:
                    yield file
                    file.flush()
                    os.fchmod(file.fileno(), 0o666 & ~_umask())
                    os.fsync(file.fileno())
                _name(part, path, replaces=replaces)
            except OSError as error:
                raise _cannot(path, error) from error
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


def _check(path: Path, *, replaces: bool) -> None:
    if path.exists() and not path.is_file():
        raise BintradesError(f"{path}: is not a file that can be replaced; name another one")
    if path.exists() and not replaces:
        raise _is_there(path)


def _name(part: Path, path: Path, *, replaces: bool) -> None:
    """Give the file its name; that of another one only if it *replaces* it."""
    if not replaces:
        try:
            path.hardlink_to(part)  # fails where rename would replace
        except FileExistsError:
            raise _is_there(path) from None
        except OSError:  # a file system without links
            _check(path, replaces=False)
            part.replace(path)
    else:
        part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _is_there(path: Path) -> BintradesError:
    return BintradesError(f"{path}: is there already; --force replaces it")


def _cannot(path: Path, error: OSError) -> BintradesError:
    return BintradesError(f"{path}: cannot be written: {error.strerror or error}")


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """Have signals that would end the process raise SystemExit, so that it tidies up."""

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    with handled(_ENDING, end):
        yield
