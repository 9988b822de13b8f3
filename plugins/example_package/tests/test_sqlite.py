"""The store keeps the promises of a store; the package is installed, as users have it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from bintrades.testing.bars import sample_bar
from bintrades.testing.store_contract import StoreContract

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class TestTheContract(StoreContract):
    """Every test of StoreContract, with this store."""

    name = "sqlite"

    @pytest.fixture
    def options(self, tmp_path: Path) -> dict[str, str]:
        """Return the options of a store with a new file."""
        self.path = tmp_path / "bars.sqlite"
        return {"path": str(self.path)}

    def stored(self) -> list[dict[str, Any]]:
        """Return what the file has."""
        with closing(sqlite3.connect(self.path)) as connection:
            return [typed(json.loads(bar)) for (bar,) in connection.execute("SELECT bar FROM bars")]


def typed(bar: dict[str, Any]) -> dict[str, Any]:
    """Turn the strings of a bar into decimals and times again."""
    kinds: dict[type, Callable[[str], Any]] = {Decimal: Decimal, datetime: datetime.fromisoformat}
    like = sample_bar().as_dict()
    return {name: kinds.get(type(like[name]), type(like[name]))(bar[name]) for name in bar}
