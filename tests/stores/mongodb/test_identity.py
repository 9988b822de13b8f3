"""By what a collection is known: another one of the same name has none of its bars."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from bintrades.errors import BintradesError
from bintrades.stores.mongodb.store import MongoStore
from bintrades.testing.bars import sample_bar
from tests.stores.mongodb.test_store import failing, opened, replica_set

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymongo.database import Database

    from bintrades.testing.mongod import Mongod

__all__ = ["replica_set"]

Document = dict[str, Any]


@pytest.fixture
def store(mongodb_uri: str, mongodb_database: Database[Document]) -> Iterator[MongoStore]:
    store = opened(mongodb_uri, database=mongodb_database.name)
    yield store
    store.close_store()


@contextmanager
def closing_store(store: MongoStore) -> Iterator[None]:
    """Have *store* closed at the end."""
    try:
        yield
    finally:
        store.close_store()


@pytest.mark.parametrize("form", ["", "?uuidRepresentation=standard"])
def test_a_collection_stays_the_same_one(
    store: MongoStore, mongodb_uri: str, mongodb_database: Database[Document], form: str
) -> None:
    identity = store.identify_store()
    store.store_bars([sample_bar()])

    again = opened(f"{mongodb_uri.rstrip('/')}/{form}", database=mongodb_database.name)
    with closing_store(again):
        assert again.identify_store() == identity
    assert identity
    assert len(identity) == 32


def test_a_collection_that_was_dropped_is_another_one_at_once(
    store: MongoStore, mongodb_database: Database[Document]
) -> None:
    before = store.identify_store()

    mongodb_database.drop_collection("bars")

    dropped = store.identify_store()
    assert dropped not in (None, before)
    store.store_bars([sample_bar()])
    assert store.identify_store() == dropped


def test_another_collection_is_another_one(
    store: MongoStore, mongodb_uri: str, mongodb_database: Database[Document]
) -> None:
    other = opened(mongodb_uri, database=mongodb_database.name, collection="others")
    with closing_store(other):
        assert other.identify_store() not in (None, store.identify_store())


def test_a_user_who_may_not_see_it_has_a_store_nevertheless(replica_set: Mongod) -> None:
    store = opened(replica_set.uri)
    with closing_store(store), failing(replica_set, errorCode=13, failCommands=["listCollections"]):
        assert store.identify_store() is None


def test_a_store_that_is_not_open_is_not_known() -> None:
    with pytest.raises(BintradesError, match="open_store comes before"):
        MongoStore().identify_store()
