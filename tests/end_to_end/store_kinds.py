"""Every store that comes with bintrades, at its real engine, for tests that run over all of them.

Whoever adds a store adds its engine to tests.store_engines, and a line to PLACES.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from bintrades.model import milliseconds
from bintrades.stores.loader import load_stores
from tests.checkout import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bintrades.journal.reader import JournalReader
    from bintrades.stores.store import Store

    Stored = dict[tuple[str, int], int]
    """How many trades there are in each bar, by symbol and open time in milliseconds."""

SYMBOLS = ("BTCUSDT", "ETHUSDT")
_EVER = 2**42
"""A time after that of all bars, milliseconds."""

PLACES = {
    "clickhouse": "table",
    "duckdb": "path",
    "jsonl": "path",
    "kafka": "topic",
    "mongodb": "collection",
    "parquet": "path",
    "postgresql": "table",
    "redis": "prefix",
}
"""By the name of each plugin, the option that says where among others its bars are."""


ONE_PROCESS = {"duckdb"}
"""Plugins whose places are locked against other processes while a collector writes there."""


class Kind:
    """A plugin with an engine of its own, which has any number of places for bars.

    It runs inside a `with` block, with what is on the disk under *folder*.
    """

    def __init__(self, plugin: str, folder: Path) -> None:
        self.plugin = plugin
        self._folder = folder
        self._running = ExitStack()
        self._options: dict[str, str] = {}
        self._readers: dict[str, Store] = {}

    def __enter__(self) -> Self:
        self._folder.mkdir()
        engine = import_module(f"tests.store_engines.{self.plugin}")
        options = getattr(engine, f"{self.plugin}_options")(self._folder)
        self._options = self._running.enter_context(options)
        return self

    def __exit__(self, *_error: object) -> None:
        for reader in self._readers.values():
            reader.close()
        self._running.close()

    def options(self, place: str) -> dict[str, str]:
        """Return the options of a store that writes to *place*, which is empty at first."""
        option = PLACES[self.plugin]
        if option == "path":
            path = Path(self._options[option])
            place = str(path.with_name(f"{path.stem}_{place}{path.suffix}"))
        return {**self._options, option: place}

    def stored(self, place: str) -> Stored:
        """Return what is there, as those read it who use the store.

        A collector may run, unless the plugin is one of ONE_PROCESS.
        """
        if self.plugin == "jsonl":
            return _best(_lines(Path(self.options(place)["path"])))
        if self.plugin == "kafka":
            return _best(self._records(place))
        if place not in self._readers:
            (reader,) = load_stores([self.plugin], REPOSITORY / "plugins")
            reader.open(self.options(place))
            self._readers[place] = reader
        reader = self._readers[place]
        stored = {
            (bar.symbol, bar.open_time_ms): bar.trade_count
            for symbol in SYMBOLS
            for bar in reader.read(symbol, 0, _EVER, "spot")
        }
        if self.plugin in ONE_PROCESS:
            self._readers.pop(place).close()
        return stored

    def has(self, bars: Stored, place: str, journal: JournalReader) -> bool:
        """Whether at least *bars* are in *place*, of a store of that name; a collector may run."""
        if self.plugin in ONE_PROCESS:
            state = journal.store(place)
            return state.waiting_bars == 0 and state.resending_from_ms is None
        return bars.items() <= self.stored(place).items()

    def _records(self, topic: str) -> Iterable[dict[str, Any]]:
        from tests.store_engines.kafka import values_of

        return map(json.loads, values_of(self._options["servers"], topic))


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    """Return the bars of a file, without half a line at its end."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return map(json.loads, text.split("\n")[:-1])


def _best(bars: Iterable[dict[str, Any]]) -> Stored:
    """Return the largest count of each bar of which there is every version."""
    counts: Stored = {}
    for bar in bars:
        key = bar["symbol"], milliseconds(datetime.fromisoformat(bar["open_time"]))
        counts[key] = max(counts.get(key, 0), bar["trade_count"])
    return counts
