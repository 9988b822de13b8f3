"""What is dear to make, and is made once for all processes that run tests."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pytest


def folder_of_the_run(factory: pytest.TempPathFactory) -> Path:
    """Return a temporary folder that all workers of pytest-xdist have, or the only process."""
    own = factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@contextmanager
def shared(folder: Path, make: Callable[[Path], object]) -> Iterator[Path]:
    """Yield *folder*, which the first process that wants it makes, and the last one removes.

    *make* gets it empty; others wait meanwhile. What *make* raises, each process gets from a *make*
    of its own.
    """
    users = folder.with_name(f"{folder.name}.users")
    own = users / str(os.getpid())
    with _locked(folder):
        if not folder.exists():
            folder.mkdir()
            try:
                make(folder)
            except BaseException:
                shutil.rmtree(folder)
                raise
        users.mkdir(exist_ok=True)
        own.touch()
    try:
        yield folder
    finally:
        with _locked(folder):
            own.unlink()
            if not any(users.iterdir()):
                shutil.rmtree(folder)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
