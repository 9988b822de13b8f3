"""A plugin for tests: another one, which misbehaves while there is no file `well`.

It is copied into the folder of plugins; the environment variable KIND names the other plugin.
"""

from __future__ import annotations

import inspect
import os
import sys
import threading
import time
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bintrades import Option, hookimpl, option_types

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bintrades import Bar

FOLDER = Path(os.environ.get("UNRULY_FOLDER", "."))
(POINT,) = {
    point.value: point
    for point in entry_points(group="bintrades")
    if point.name == os.environ.get("KIND", "jsonl")
}.values()
KIND: Any = POINT.load()
REAL: Any = getattr(KIND, "Store", KIND)


class OddError(BaseException):
    """What `except Exception` does not catch."""


class SilentError(Exception):
    """One that cannot even be logged."""

    def __str__(self) -> str:
        """Raise: there is no text."""
        raise ValueError("no text")

    __repr__ = __str__


class NothingError(Exception):
    """Have the hook return without doing its work."""


def _raise(error: BaseException) -> None:
    raise error


def _leak_threads() -> None:
    for _ in range(20):
        threading.Thread(target=threading.Event().wait).start()  # and the process waits for them


def _close_stdout() -> None:
    for stream in (sys.stdout, sys.stderr):
        if not stream.closed:
            os.close(stream.fileno())
            stream.close()


def _fork() -> None:
    """Return from the hook once more, in another process."""
    if os.fork() == 0:
        raise NothingError


def _fork_and_stay() -> None:
    """Leave a process behind, which outlives this one."""
    if os.fork() == 0:
        until = time.monotonic() + 120
        while not (FOLDER / "end").exists() and time.monotonic() < until:
            time.sleep(0.05)
        os._exit(0)


FAULTS: dict[str, Callable[[], object]] = {
    "raises": lambda: _raise(OSError("the disk is full")),
    "raises_what_nobody_catches": lambda: _raise(OddError("odd")),
    "raises_what_has_no_text": lambda: _raise(SilentError()),
    "exits": lambda: sys.exit(3),
    "interrupts": lambda: _raise(KeyboardInterrupt()),
    "hangs": lambda: threading.Event().wait(),
    "returns_early": lambda: _raise(NothingError()),
    "is_slow": lambda: time.sleep(3),
    "leaks_threads": _leak_threads,
    "closes_stdout": _close_stdout,
    "forks": _fork,
    "forks_and_stays": _fork_and_stay,
}


class Store(REAL):  # type: ignore[misc]
    """The other plugin, and one option more."""

    OPTIONS = (
        *REAL.OPTIONS,
        Option(
            "fault", "raises", "what it does in the place of storing", option_types.choice(*FAULTS)
        ),
    )

    @hookimpl
    def check_store(self, options: dict[str, str]) -> None:
        """Check what is the other's."""
        check = getattr(super(), "check_store", None)
        if check is not None:  # which may leave the argument out
            check(*[_others(options)] * len(inspect.signature(check).parameters))

    @hookimpl
    def open_store(self, options: dict[str, str]) -> None:
        """Open it as ever."""
        self.fault = options["fault"]
        super().open_store(_others(options))

    @hookimpl
    def store_bars(self, bars: Sequence[Bar]) -> None:
        """Misbehave, and then store them where that ends."""
        if not (FOLDER / "well").exists():
            try:
                FAULTS[self.fault]()
            except NothingError:
                return
        super().store_bars(bars)


def _others(options: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in options.items() if name != "fault"}
