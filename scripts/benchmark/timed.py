"""A storage plugin that notes when each bar was stored; copied into the collector's folder.

Options: file, which gets a line for each closed bar in its first version with the end of its
interval and the moment at which it was durable, milliseconds; the others are those of MongoDB,
which is behind it. Without a uri nothing is: a bar counts as stored when it is handed over.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TextIO

from bintrades import hookimpl
from bintrades.stores.mongodb.store import MongoStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bintrades import Bar


class TimedStore:
    """MongoDB, or nothing, and a note of the time."""

    def __init__(self) -> None:
        self._store = MongoStore()
        self._has_database = False
        self._file: TextIO | None = None

    @hookimpl
    def open_store(self, options: dict[str, str]) -> None:
        """Open the file and the database."""
        self.close_store()
        rest = dict(options)
        self._file = open(rest.pop("file"), "a", encoding="utf-8")  # noqa: PTH123, SIM115
        self._has_database = "uri" in rest
        if self._has_database:
            self._store.open_store(rest)

    @hookimpl
    def store_bars(self, bars: Sequence[Bar]) -> None:
        """Have the bars stored, and note when they were."""
        assert self._file is not None
        if self._has_database:
            self._store.store_bars(bars)
        now_ms = time.time_ns() // 1_000_000
        self._file.writelines(
            f"{bar.end_time_ms} {now_ms}\n" for bar in bars if bar.is_closed and bar.version == 1
        )

    @hookimpl
    def close_store(self) -> None:
        """Write what was noted."""
        self._store.close_store()
        if self._file is not None:
            self._file.close()
            self._file = None


_store = TimedStore()
open_store = _store.open_store
store_bars = _store.store_bars
close_store = _store.close_store
