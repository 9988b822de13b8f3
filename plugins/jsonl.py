"""Appends every version of every bar as one line of JSON to a file: a storage plugin to copy.

    [stores]
    enabled = mongodb, jsonl

    [store:jsonl]
    path = var/bars.jsonl        ; relative to the configuration's folder

A line has the fields of Bar.as_dict(): numbers with a fraction are strings, so that no reader
makes floats of them, and times are ISO 8601 in UTC. Nothing is ever changed in place, so a bar
may have several lines. Reading rule: of all lines with the same market, symbol and open_time, the
bar is the one with the largest (epoch, trade_count, is_closed, is_complete, version), compared in
this order; a line without an epoch is of epoch 0; of equal ones the first.
"""

from __future__ import annotations

import fcntl
import json
import os
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from weakref import WeakSet

from bintrades import Bar, Option, OptionType, hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime


def _jsonl_path(text: str) -> Path:
    if not text.endswith(".jsonl"):
        raise ValueError("must end with .jsonl")  # what ends otherwise may not be ours to cut
    return Path(text)


class Store:
    """One file. A section [store:NAME] with `plugin = jsonl` is another one, of its own."""

    OPTIONS = (
        Option(
            "path",
            "var/bars.jsonl",
            "the file to append to",
            OptionType(_jsonl_path, "a path that ends with .jsonl"),
        ),
    )

    def __init__(self) -> None:
        self._file: BinaryIO | None = None

    @hookimpl
    def open_store(self, options: dict[str, str]) -> None:
        """Open the file for appending, and make it and its folder if they are not there."""
        self.close_store()
        path = Path(options["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab+", buffering=0)
        _locked.add(file)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held until the file is closed
        except BlockingIOError as error:
            file.close()
            raise OSError(f"another store or collector writes to {path}") from error
        self._file = file
        _drop_half_a_line(self._file)

    @hookimpl
    def store_bars(self, bars: Sequence[Bar]) -> None:
        """Append the bars and return once they are on the disk, not only on their way to it."""
        if self._file is None:
            raise RuntimeError("open_store comes before store_bars")
        rest = memoryview("".join(map(_line, bars)).encode())
        while rest:
            rest = rest[self._file.write(rest) :]
        os.fsync(self._file.fileno())

    @hookimpl
    def close_store(self) -> None:
        """Close the file; called at the end, and before it is opened again after a failure."""
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)  # in a copy of the process as well
            self._file.close()
            self._file = None


_locked: WeakSet[BinaryIO] = WeakSet()
"""The files whose locks this process holds."""


def _let_go() -> None:
    """Have a copy of the process hold no lock: another plugin may fork, and its copy live on."""
    for file in _locked:
        file.close()


os.register_at_fork(after_in_child=_let_go)


def _line(bar: Bar) -> str:
    return json.dumps(bar.as_dict(), default=_as_text, ensure_ascii=False) + "\n"


def _as_text(value: Decimal | datetime) -> str:
    return format(value, "f") if isinstance(value, Decimal) else value.isoformat()


def _drop_half_a_line(file: BinaryIO) -> None:
    """Cut off what a crash left after the last whole line: its bars come again."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 2**20))
    tail = file.read(2**20)
    file.truncate(size - len(tail) + tail.rfind(b"\n") + 1)
