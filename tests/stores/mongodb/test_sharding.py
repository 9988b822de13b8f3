"""Ready to be sharded by symbol and open_time: nothing that a router would refuse, or broadcast.

A router needs the whole shard key, as equalities, in each update that may insert; and a unique
index must begin with that key. No router is at hand, so this looks at what a server was told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bintrades.stores.mongodb.store import INDEX
from bintrades.testing.bars import sample_bars, sample_span
from tests.stores.mongodb.test_store import opened

if TYPE_CHECKING:
    from pymongo.database import Database

Document = dict[str, Any]

SHARD_KEY = ("symbol", "open_time")


@pytest.fixture
def told(mongodb_uri: str, mongodb_database: Database[Document]) -> list[Document]:
    """Return what the server was told to do with bars: new, the same again, better, and read."""
    store = opened(mongodb_uri, database=mongodb_database.name)
    mongodb_database.command("profile", 2)
    for count in (3, 3, 4):
        store.store_bars(sample_bars(5, trade_count=count, version=1 + count // 4))
    (first, *_) = sample_bars(1)
    store.store_coverage([sample_span(0, 3)])
    assert list(store.read_bars("BTCUSDT", first.open_time, first.open_time, "spot")) == []
    mongodb_database.command("profile", 0)
    store.close_store()
    return list(mongodb_database["system.profile"].find({"ns": f"{mongodb_database.name}.bars"}))


def test_each_upsert_of_a_bar_has_the_shard_key_and_changes_one_document(
    told: list[Document],
) -> None:
    updates = [each["command"] for each in told if each["op"] == "update"]

    assert len(updates) == 10
    for update in updates:
        assert not update["multi"]
        assert not [name for name in SHARD_KEY if isinstance(update["q"][name], dict)]


def test_bars_are_found_by_the_shard_key_and_none_is_deleted(told: list[Document]) -> None:
    (query,) = (each["command"] for each in told if each["op"] == "query")

    assert query["filter"]["symbol"] == "BTCUSDT"
    assert "open_time" in query["filter"]
    assert "remove" not in {each["op"] for each in told}


def test_the_unique_index_begins_with_the_shard_key(
    told: list[Document], mongodb_database: Database[Document]
) -> None:
    indexes = mongodb_database["bars"].index_information().values()
    unique = [index["key"] for index in indexes if index.get("unique")]

    assert unique == [[(field, 1) for field in INDEX.fields]]
    assert INDEX.fields[: len(SHARD_KEY)] == SHARD_KEY
