"""Stores bars in an SQLite file: a package to copy for a store of your own.

A row is a bar. What the bar is known by, and what its rank is made of, are columns; all of it is
JSON in the last one, with numbers that have a fraction as strings, so that nobody rounds them.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from bintrades import Option, hookimpl, option_types

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bintrades import Bar

_SCHEMA = """
CREATE TABLE IF NOT EXISTS bars (
    market TEXT, symbol TEXT, open_time TEXT,
    epoch INTEGER, trade_count INTEGER, is_closed INTEGER, is_complete INTEGER, version INTEGER,
    bar TEXT,
    PRIMARY KEY (market, symbol, open_time)
) WITHOUT ROWID
"""
_UPSERT = """
INSERT INTO bars VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET
    epoch = excluded.epoch, trade_count = excluded.trade_count, is_closed = excluded.is_closed,
    is_complete = excluded.is_complete, version = excluded.version, bar = excluded.bar
WHERE (excluded.epoch, excluded.trade_count, excluded.is_closed, excluded.is_complete,
        excluded.version)
    > (bars.epoch, bars.trade_count, bars.is_closed, bars.is_complete, bars.version)
"""


class Store:
    """One file. A section [store:NAME] with `plugin = sqlite` is another one, of its own."""

    OPTIONS = (Option("path", "var/bars.sqlite", "the file of the bars", option_types.path()),)

    def __init__(self) -> None:
        self._connection: sqlite3.Connection | None = None

    @hookimpl
    def open_store(self, options: dict[str, str]) -> None:
        """Open the file, and make it, its table and its folder if they are not there."""
        self.close_store()
        path = Path(options["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")  # durable when a commit returns
        self._connection.execute(_SCHEMA)

    @hookimpl
    def store_bars(self, bars: Sequence[Bar]) -> None:
        """Store those that are better than what is there, in one transaction."""
        if self._connection is None:
            raise RuntimeError("open_store comes before store_bars")
        with self._connection:
            self._connection.executemany(_UPSERT, map(_row, bars))

    @hookimpl
    def close_store(self) -> None:
        """Close the file; called at the end, and before it is opened again after a failure."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _row(bar: Bar) -> tuple[object, ...]:
    text = json.dumps(bar.as_dict(), default=str, ensure_ascii=False)
    return (bar.market, bar.symbol, bar.open_time.isoformat(), *bar.rank, text)
