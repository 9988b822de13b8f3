"""Appends every version of every bar as one line of JSON to a file: a storage plugin to copy.

    [stores]
    enabled = mongodb, jsonl

    [store:jsonl]
    path = var/bars.jsonl        ; relative to the configuration's folder; must end with .jsonl

A line has the fields of Bar.as_dict(): numbers with a fraction are strings, so that no reader
makes floats of them, and times are ISO 8601 in UTC. Nothing is ever changed in place, so a bar
may have several lines. Reading rule: of all lines with the same symbol and open_time, the bar is
the one with the largest (epoch, trade_count, is_closed, is_complete, version), compared in this
order; a line without an epoch is of epoch 0; of equal ones the first.
"""

from __future__ import annotations

import json
import os
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from bintrades import Bar, ConfigError, hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

_file: BinaryIO | None = None


@hookimpl
def check_store(options: dict[str, str]) -> None:
    """Refuse what open_store could not use; no file is touched."""
    problems = [f"{name}: unknown option; allowed: path" for name in options if name != "path"]
    if not _path(options).name.endswith(".jsonl"):
        problems.append(f"path = {options['path']}: must end with .jsonl")
    if problems:
        raise ConfigError(*problems)


@hookimpl
def open_store(options: dict[str, str]) -> None:
    """Open the file for appending, and make it and its folder if they are not there."""
    global _file
    check_store(options)
    close_store()
    path = _path(options)
    path.parent.mkdir(parents=True, exist_ok=True)
    _file = path.open("ab+", buffering=0)
    _drop_half_a_line(_file)


@hookimpl
def store_bars(bars: Sequence[Bar]) -> None:
    """Append the bars and return once they are on the disk, not only on their way to it."""
    if _file is None:
        raise RuntimeError("open_store comes before store_bars")
    rest = memoryview("".join(map(_line, bars)).encode())
    while rest:
        rest = rest[_file.write(rest) :]
    os.fsync(_file.fileno())


@hookimpl
def close_store() -> None:
    """Close the file; called at the end, and before the file is opened again after a failure."""
    global _file
    if _file is not None:
        _file.close()
        _file = None


def _path(options: dict[str, str]) -> Path:
    return Path(options.get("path", "var/bars.jsonl"))


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
