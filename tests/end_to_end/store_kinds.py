"""Every store that comes with bintrades, for tests that run over all of them.

Whoever adds a store adds a class here: how to lead it to a place of its own, and what is there.
A test says which are missing.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bintrades.model import milliseconds

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from pymongo.database import Database

    Stored = dict[tuple[str, int], int]
    """How many trades there are in each bar, by symbol and open time in milliseconds."""


class Kind(ABC):
    """A plugin, with any number of places.

    *folder* is for files, and *request* has the fixtures that a server needs.
    """

    plugin: str

    def __init__(self, folder: Path, request: pytest.FixtureRequest | None = None) -> None:
        self._folder = folder
        self._request = request

    def fixture(self, name: str) -> Any:
        """Return a fixture that the test need not name."""
        assert self._request is not None, f"{self.plugin} needs the request of a fixture"
        return self._request.getfixturevalue(name)

    @abstractmethod
    def options(self, place: str) -> dict[str, str]:
        """Return the options of a store that writes to *place*, which is empty at first."""

    @abstractmethod
    def stored(self, place: str) -> Stored:
        """Return what is there; a collector may run."""


class MongoDB(Kind):
    """Places are collections of one database."""

    plugin = "mongodb"

    @property
    def _database(self) -> Database[dict[str, object]]:
        database: Database[dict[str, object]] = self.fixture("mongodb_database")
        return database

    def options(self, place: str) -> dict[str, str]:
        """Return the options of a store with a collection of its own."""
        return {
            "uri": self.fixture("mongodb_uri"),
            "database": self._database.name,
            "collection": place,
        }

    def stored(self, place: str) -> Stored:
        """Return what the collection has."""
        return {
            (str(bar["symbol"]), milliseconds(bar["open_time"])): int(str(bar["trade_count"]))
            for bar in self._database[place].find()
            if isinstance(bar["open_time"], datetime)
        }


class Jsonl(Kind):
    """Places are files."""

    plugin = "jsonl"

    def options(self, place: str) -> dict[str, str]:
        """Return the options of a store with a file of its own."""
        return {"path": str(self._folder / f"{place}.jsonl")}

    def stored(self, place: str) -> Stored:
        """Return the largest count of each bar in the file, a half line left out."""
        path = self._folder / f"{place}.jsonl"
        lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
        counts: Stored = {}
        for bar in map(json.loads, lines):
            key = bar["symbol"], milliseconds(datetime.fromisoformat(bar["open_time"]))
            counts[key] = max(counts.get(key, 0), bar["trade_count"])
        return counts


KINDS: dict[str, type[Kind]] = {kind.plugin: kind for kind in (MongoDB, Jsonl)}
"""By the names of their plugins."""
