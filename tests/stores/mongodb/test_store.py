"""What MongoDB holds after a batch, whatever happens to the server in between."""

from __future__ import annotations

import itertools
import logging
import re
import threading
import time
import traceback
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

import pymongo
import pytest
from bson.decimal128 import Decimal128
from msgspec.structs import replace
from pymongo.collection import Collection
from pymongo.errors import (
    BulkWriteError,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
    WriteError,
)
from pymongo.write_concern import WriteConcern

from bintrades import BintradesError, ConfigError, RejectedBars
from bintrades.stores.mongodb import writes
from bintrades.stores.mongodb.bar_bson import document
from bintrades.stores.mongodb.durability import bounded, unsafe_on
from bintrades.stores.mongodb.store import INDEX, MongoStore
from bintrades.stores.mongodb.uri import client_of
from bintrades.stores.mongodb.writes import objections
from bintrades.testing.bars import sample_bar, sample_bars
from bintrades.testing.mongod import Mongod
from bintrades.testing.store_contract import StoreContract

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pymongo.database import Database

    from bintrades import Bar

Document = dict[str, Any]

USERS = ["us3r", "us3r@home", "us3r/home", "us3r%home", ""]
PASSWORDS = [
    "s3cr3t/w0rd",
    "s3cr3t@w0rd",
    "s3cr3t%w0rd",
    "s3cr3t:w0rd",
    "s3cr3t?w0rd",
    "s3cr3t",
    "",
]
RESTS = ["@db/", "@db:x/", "@db/?no=1", "@db/?no", "@db/a b", "@[db/", "@", ""]


class TestTheContract(StoreContract):
    name = "mongodb"

    @pytest.fixture
    def options(self, mongodb_uri: str, mongodb_database: Database[Document]) -> dict[str, str]:
        self.bars = mongodb_database["bars"]
        self.spans = mongodb_database["bars_coverage"]
        return {"uri": mongodb_uri, "database": mongodb_database.name}

    def stored(self) -> list[Document]:
        return [
            {name: _plain(value) for name, value in stored.items() if name != "_id"}
            for stored in self.bars.find()
        ]

    def covered(self) -> list[Document]:
        return list(self.spans.find({}, {"_id": False, "updated_at": False}))

    def forget_epochs(self) -> None:
        assert self.bars.update_many({}, {"$unset": {"epoch": True}}).modified_count


class TestTheContractWithALookAtWhatIsStored(TestTheContract):
    """However few bars seem to be stored already."""

    @pytest.fixture(autouse=True)
    def always_looks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(writes, "_WORTH_A_LOOK", 0)


def _plain(value: object) -> object:
    return value.to_decimal() if isinstance(value, Decimal128) else value


@pytest.fixture
def bars(mongodb_database: Database[Document]) -> Collection[Document]:
    return mongodb_database["bars"]


@pytest.fixture
def store(mongodb_uri: str, bars: Collection[Document]) -> Iterator[MongoStore]:
    store = MongoStore()
    store.open_store({"uri": mongodb_uri, "database": bars.database.name})
    yield store
    store.close_store()


@pytest.fixture(scope="module")
def replica_set(mongod_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    """Run a server of a replica set that fails on demand."""
    folder = tmp_path_factory.mktemp("replica_set")
    arguments = ["--setParameter=enableTestCommands=1"]
    with Mongod(mongod_binary, folder, replica_set="rs0", arguments=arguments) as server:
        yield server


@contextmanager
def failing(server: Mongod, **failure: object) -> Iterator[None]:
    """Let the server fail every write of a client in the way described."""
    with pymongo.MongoClient[Document](server.uri) as client:
        point = {"configureFailPoint": "failCommand"}
        failure = {"failCommands": ["insert", "update"], **failure}
        client.admin.command({**point, "mode": "alwaysOn", "data": failure})
        try:
            yield
        finally:
            client.admin.command({**point, "mode": "off"})


def opened(uri: str, **options: str) -> MongoStore:
    store = MongoStore()
    store.open_store({"uri": uri, **options})
    return store


def stored_in(server: Mongod) -> list[int]:
    with pymongo.MongoClient[Document](server.uri) as client:
        return counts(client["bintrades"]["bars"])


def counts(bars: Collection[Document]) -> list[int]:
    return [stored["trade_count"] for stored in bars.find().sort("open_time")]


def test_the_server_sees_the_published_types(store: MongoStore, bars: Collection[Document]) -> None:
    store.store_bars([sample_bar()])

    published = {"open_time": "date", "interval_seconds": "int", "trade_count": "long"}
    published |= {"value": "decimal", "is_closed": "bool", "first_trade_id": "long"}
    assert bars.count_documents({name: {"$type": kind} for name, kind in published.items()}) == 1
    assert bars.find_one({}, {"_id": 0, "open_time": 1}) == {
        "open_time": datetime(2024, 8, 8, tzinfo=UTC)
    }


def test_a_bar_that_is_no_document_is_refused_and_the_others_are_stored(
    store: MongoStore, bars: Collection[Document]
) -> None:
    first, long, huge, surrogate, last = sample_bars(5)
    long = replace(long, value=Decimal("1." + "1" * 34))
    huge = replace(huge, last_trade_id=2**63)
    surrogate = replace(surrogate, symbol="\ud800")

    with pytest.raises(RejectedBars) as refused:
        store.store_bars([first, long, huge, surrogate, last])

    reasons = {bar.open_time_ms: why for bar, why in refused.value.rejected}
    assert list(reasons) == [bar.open_time_ms for bar in (long, huge, surrogate)]
    assert "value has more than the 34 digits" in reasons[long.open_time_ms]
    assert "8-byte" in reasons[huge.open_time_ms]
    assert "surrogates" in reasons[surrogate.open_time_ms]
    assert counts(bars) == [3, 3]


def test_a_bar_that_a_validator_refuses_is_set_aside_with_its_reason(
    mongodb_database: Database[Document], store: MongoStore, bars: Collection[Document]
) -> None:
    schema = {"bsonType": "object", "properties": {"trade_count": {"maximum": 5}}}
    mongodb_database.command("collMod", "bars", validator={"$jsonSchema": schema})
    first, second, third = sample_bars(3)
    second = replace(second, trade_count=6)

    with pytest.raises(RejectedBars) as refused:
        store.store_bars([first, second, third])

    ((bar, reason),) = refused.value.rejected
    assert bar == second
    assert "failed validation" in reason
    assert "maximum" in reason
    assert counts(bars) == [3, 3]


def test_a_bar_that_an_index_of_the_user_refuses_is_set_aside_with_its_reason(
    store: MongoStore, bars: Collection[Document]
) -> None:
    bars.create_index("first_trade_id", unique=True, name="mine")
    first, second = sample_bars(2)

    with pytest.raises(RejectedBars, match="mine") as refused:
        store.store_bars([first, replace(second, first_trade_id=first.first_trade_id)])

    assert len(refused.value.rejected) == 1
    assert counts(bars) == [3]


def test_a_poorer_bar_is_no_failure_even_if_it_breaks_an_index_of_the_user(
    store: MongoStore, bars: Collection[Document]
) -> None:
    first, second = sample_bars(2)
    store.store_bars([first, second])
    bars.create_index("first_trade_id", unique=True, name="mine")

    poorer = replace(second, trade_count=2, first_trade_id=first.first_trade_id)
    store.store_bars([poorer])

    assert counts(bars) == [3, 3]


def test_a_foreign_document_in_place_of_a_bar_is_left_alone_and_named(
    store: MongoStore, bars: Collection[Document]
) -> None:
    bar = sample_bar()
    key = {"market": bar.market, "symbol": bar.symbol, "open_time": bar.open_time}
    bars.insert_one({**key, "note": "mine"})

    with pytest.raises(RejectedBars, match="has no trade_count"):
        store.store_bars([bar])

    assert [stored["note"] for stored in bars.find()] == ["mine"]


@pytest.mark.parametrize("trade_count", [2, 3])
def test_a_bar_of_a_later_epoch_is_never_replaced_by_one_without(
    store: MongoStore, bars: Collection[Document], trade_count: int
) -> None:
    stored = {"epoch": 1, "trade_count": trade_count, "is_closed": False}
    bars.insert_one(document(sample_bar()) | stored)

    store.store_bars([sample_bar(version=9)])

    assert counts(bars) == [trade_count]


def test_a_replaced_bar_stays_the_same_document(
    store: MongoStore, bars: Collection[Document]
) -> None:
    store.store_bars([sample_bar(symbol="$market")])
    (before,) = bars.find()

    store.store_bars([sample_bar(symbol="$market", version=2)])

    (after,) = bars.find()
    assert after == before | {"version": 2}
    assert list(after) == list(before)


def test_a_batch_of_which_a_part_was_stored_before_a_timeout_may_come_again(
    store: MongoStore, bars: Collection[Document]
) -> None:
    batch = sample_bars(10)
    store.store_bars(batch[3:7])
    before = list(bars.find({}, {"_id": 1}).sort("_id"))

    store.store_bars(batch)

    assert counts(bars) == [3] * 10
    assert list(bars.find({}, {"_id": 1}).sort("_id"))[:4] == before


def test_a_batch_of_several_parts_replaces_and_inserts_in_each(
    store: MongoStore, bars: Collection[Document]
) -> None:
    batch = sample_bars(4_100)
    store.store_bars([*batch[:100], *batch[1_700:1_800], *batch[4_000:]])

    store.store_bars([replace(bar, trade_count=4) for bar in batch])

    assert counts(bars) == [4] * 4_100


def test_a_part_of_a_batch_is_on_its_way_while_the_next_one_is_made_ready(
    store: MongoStore, bars: Collection[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    both_are_underway = threading.Barrier(2, timeout=20)
    insert_many = Collection.insert_many

    def insert_beside_another(*arguments: Any) -> object:
        both_are_underway.wait()
        return insert_many(*arguments)

    monkeypatch.setattr(Collection, "insert_many", insert_beside_another)

    store.store_bars(sample_bars(4_000))

    assert counts(bars) == [3] * 4_000


def test_no_part_of_a_batch_is_on_its_way_any_more_when_another_has_failed(
    replica_set: Mongod,
) -> None:
    store = opened(replica_set.uri, collection="underway")
    before = set(threading.enumerate())
    try:
        with failing(replica_set, errorCode=8, blockConnection=True, blockTimeMS=300):
            with pytest.raises(PyMongoError):
                store.store_bars(sample_bars(2_000))
            after = set(threading.enumerate()) - before
    finally:
        store.close_store()

    assert not [thread.name for thread in after if thread.name == "insert"]


def test_new_bars_are_inserted_and_only_what_is_there_already_is_updated(
    replica_set: Mongod,
) -> None:
    store = opened(replica_set.uri, collection="new")
    try:
        with pymongo.MongoClient[Document](replica_set.uri) as client:
            before = updates(client)
            store.store_bars(sample_bars(100))
            assert updates(client) == before
            store.store_bars([sample_bar(trade_count=4), *sample_bars(100)[1:]])
            assert updates(client) == before + 1
    finally:
        store.close_store()


def updates(client: pymongo.MongoClient[Document]) -> int:
    """Return how many update commands the server was sent."""
    executed = client.admin.command("serverStatus")["metrics"]["commands"]
    return int(executed["update"]["total"])


def test_writers_that_race_for_a_bar_end_with_the_most_trades_of_the_highest_epoch(
    mongodb_uri: str, bars: Collection[Document]
) -> None:
    versions = [sample_bars(50, trade_count=n, epoch=(8 - n) // 3) for n in range(1, 9)]
    start = threading.Barrier(len(versions))
    failures: list[BaseException] = []

    def write(version: list[Bar]) -> None:
        store = MongoStore()
        try:
            store.open_store({"uri": mongodb_uri, "database": bars.database.name})
            start.wait()
            for bar in version:
                store.store_bars([bar])
        except BaseException as error:
            failures.append(error)
            start.abort()
        finally:
            store.close_store()

    writers = [threading.Thread(target=write, args=(version,)) for version in versions]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    assert failures == []
    assert [(stored["epoch"], stored["trade_count"]) for stored in bars.find()] == [(2, 2)] * 50


FULL_DISK = [14031, 12501]  # OutOfDiskSpace, and what older servers call their quota
NOT_NOW = [1, 8, 16500, 50, 112, 10107, 11602, 262, 13, 64, 91, 146, 292, 8000, 99_999]


@pytest.mark.parametrize("code", FULL_DISK + NOT_NOW)
def test_an_error_of_the_server_raises_and_refuses_no_bar(replica_set: Mongod, code: int) -> None:
    store = opened(replica_set.uri, collection=f"code_{code}")
    try:
        with failing(replica_set, errorCode=code), pytest.raises(PyMongoError) as raised:
            store.store_bars(sample_bars(2))
        assert not isinstance(raised.value, RejectedBars)
        with failing(replica_set, errorCode=code), pytest.raises(PyMongoError):
            store.store_bars(sample_bars(2_200))

        store.store_bars(sample_bars(2))
    finally:
        store.close_store()


def refused_with(code: int, **details: object) -> BulkWriteError:
    """Return what pymongo raises when a server refuses the second document of a bulk."""
    problem = {"index": 1, "code": code, "errmsg": "so it is", "op": {"all": "of it"}, **details}
    return BulkWriteError({"writeErrors": [problem], "writeConcernErrors": []})


@pytest.mark.parametrize("code", FULL_DISK + NOT_NOW)
def test_a_code_within_a_bulk_that_says_not_now_sets_no_bar_aside(code: int) -> None:
    with pytest.raises(WriteError, match="so it is") as raised:
        objections(refused_with(code))

    assert raised.value.code == code
    assert "all" not in str(raised.value)


@pytest.mark.parametrize("code", [121, 11000, 10334, 17280, 2, 14, 22])
def test_a_code_within_a_bulk_that_speaks_of_the_document_is_an_objection(code: int) -> None:
    (objection,) = objections(refused_with(code))

    assert (objection["index"], objection["code"]) == (1, code)


def test_writes_that_the_administrator_blocks_are_no_fault_of_the_bars(
    replica_set: Mongod,
) -> None:
    store = opened(replica_set.uri, collection="blocked")
    try:
        with pymongo.MongoClient[Document](replica_set.uri) as client:
            client.admin.command({"setUserWriteBlockMode": 1, "global": True})
            try:
                with pytest.raises(PyMongoError, match="User writes blocked"):
                    store.store_bars(sample_bars(2))
            finally:
                client.admin.command({"setUserWriteBlockMode": 1, "global": False})

        store.store_bars(sample_bars(2))
    finally:
        store.close_store()


def test_many_bars_that_are_stored_already_in_a_better_version_cost_few_commands(
    replica_set: Mongod,
) -> None:
    store = opened(replica_set.uri, collection="many")
    bars = sample_bars(500)
    try:
        with pymongo.MongoClient[Document](replica_set.uri) as client:
            store.store_bars(bars)
            before = commands(client)
            store.store_bars([replace(bar, trade_count=2) for bar in bars])

            assert commands(client) - before <= 3
    finally:
        store.close_store()


def commands(client: pymongo.MongoClient[Document]) -> int:
    """Return how many commands that read or write bars the server was sent."""
    executed = client.admin.command("serverStatus")["metrics"]["commands"]
    return sum(int(executed[name]["total"]) for name in ("insert", "update", "find"))


def test_a_write_concern_that_was_not_met_raises(replica_set: Mongod) -> None:
    store = opened(replica_set.uri, collection="concern")
    unmet = {"code": 64, "errmsg": "waiting for replication timed out"}
    try:
        with (
            failing(replica_set, writeConcernError=unmet),
            pytest.raises(WriteConcernError, match="waiting for replication"),
        ):
            store.store_bars(sample_bars(2))
    finally:
        store.close_store()


def test_the_write_concern_of_the_uri_is_used(replica_set: Mongod) -> None:
    store = opened(f"{replica_set.uri}&w=majority", collection="majority")
    store.store_bars(sample_bars(1))
    store.close_store()

    with pytest.raises(WriteConcernError, match="Not enough data-bearing nodes"):
        opened(f"{replica_set.uri}&w=2", collection="two")


def test_after_a_kill_the_batch_raises_and_later_is_stored_by_the_same_store(
    mongod_binary: Path, tmp_path: Path
) -> None:
    first, second = sample_bars(2)
    with Mongod(mongod_binary, tmp_path) as server:
        store = opened(f"{server.uri}?serverSelectionTimeoutMS=500")
        store.store_bars([first])
        server.kill()

        with pytest.raises(PyMongoError):
            store.store_bars([second])
        with pytest.raises(BintradesError, match=r"no server answers: .* refused") as refused:
            store.open_store({"uri": f"{server.uri}?serverSelectionTimeoutMS=500"})
        assert len(str(refused.value)) < 250
        with pytest.raises(BintradesError, match="open_store comes before"):
            store.store_bars([second])

        server.start()
        store.open_store({"uri": server.uri})
        store.store_bars([first, second])
        store.close_store()
        assert stored_in(server) == [3, 3]


def test_a_wrong_password_is_not_a_bad_configuration_and_is_never_said(
    mongod_binary: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with Mongod(mongod_binary, tmp_path, auth=True) as server:
        store = opened(server.uri)
        store.store_bars([sample_bar()])
        with pytest.raises(OperationFailure, match="Authentication failed") as refused:
            store.open_store({"uri": f"mongodb://tester:s3cr3t@{server.address}/"})
        store.close_store()

        assert stored_in(server) == [3]
    said = caplog.text + str(refused.value)
    assert "s3cr3t" not in said
    assert server.password not in said
    assert quote_plus(server.password) not in said


def test_opening_again_leaves_no_connection_behind(replica_set: Mongod) -> None:
    options = {"uri": f"{replica_set.uri}&appName=opened_again"}
    store = MongoStore()
    for _ in range(5):
        store.open_store(options)
    with pytest.raises(PyMongoError):
        store.open_store({"uri": f"{options['uri']}&w=2"})
    store.close_store()

    deadline = time.monotonic() + 120
    with pymongo.MongoClient[Document](replica_set.uri) as client:
        while connections(client, "opened_again"):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def connections(client: pymongo.MongoClient[Document], appname: str) -> list[Document]:
    everything = {"$currentOp": {"idleConnections": True, "allUsers": True}}
    return list(client.admin.aggregate([everything, {"$match": {"appName": appname}}]))


@pytest.mark.parametrize(
    ("options", "warning"),
    [("w=1", "w=1 is unsafe on a replica set"), ("journal=false", "journal=false is unsafe")],
)
def test_a_write_concern_that_can_lose_bars_is_called_unsafe_by_check(
    caplog: pytest.LogCaptureFixture, options: str, warning: str
) -> None:
    MongoStore().check_store({"uri": f"mongodb://user:s3cr3t@db/?{options}"})

    assert warning in caplog.text
    assert "s3cr3t" not in caplog.text


@pytest.mark.parametrize("options", ["", "?w=majority", "?w=2", "?w=mine", "?journal=true"])
def test_a_write_concern_that_may_be_safe_is_not_warned_of(
    caplog: pytest.LogCaptureFixture, options: str
) -> None:
    MongoStore().check_store({"uri": f"mongodb://db/{options}"})

    assert caplog.text == ""


def test_a_server_that_stands_alone_takes_the_defaults_and_nothing_is_called_unsafe(
    mongodb_uri: str, bars: Collection[Document], caplog: pytest.LogCaptureFixture
) -> None:
    store = opened(
        f"{mongodb_uri}{'&' if '?' in mongodb_uri else '?'}w=1", database=bars.database.name
    )
    store.store_bars([sample_bar()])
    store.close_store()

    assert counts(bars) == [3]
    assert "unsafe" not in caplog.text


@pytest.mark.parametrize(
    ("hello", "w", "needed"),
    [
        ({"setName": "rs0", "hosts": ["a", "b", "c"]}, 1, 2),
        ({"setName": "rs0", "hosts": ["a", "b", "c", "d", "e"]}, 2, 3),
        ({"msg": "isdbgrid"}, 1, 2),
        ({"setName": "rs0", "hosts": ["a", "b", "c"]}, 2, None),
        ({"setName": "rs0", "hosts": ["a", "b", "c"]}, "majority", None),
        ({"setName": "rs0", "hosts": ["a", "b", "c"]}, "mine", None),
        ({}, 1, None),
    ],
)
def test_fewer_members_than_a_majority_are_unsafe(
    hello: Document, w: int | str, needed: int | None
) -> None:
    warning = unsafe_on(hello, WriteConcern(w))

    assert warning is None if needed is None else f"once {needed} members" in str(warning)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", {"w": "majority", "j": True, "wtimeout": 20_000}),
        ("?socketTimeoutMS=3000", {"w": "majority", "j": True, "wtimeout": 2_000}),
        ("?socketTimeoutMS=0", {"w": "majority", "j": True, "wtimeout": 20_000}),
        ("?w=2&journal=false&wTimeoutMS=7", {"w": 2, "j": False, "wtimeout": 7}),
    ],
)
def test_waiting_for_members_ends_before_waiting_for_the_server(
    options: str, expected: Document
) -> None:
    with client_of(f"mongodb://db/{options}") as client:
        assert bounded(client).document == expected


def test_the_unique_index_is_made_once_under_its_name(
    store: MongoStore, bars: Collection[Document]
) -> None:
    index = bars.index_information()[INDEX.name]

    assert index["key"] == [("symbol", 1), ("open_time", 1), ("market", 1)]
    assert index["unique"] is True
    assert sorted(bars.index_information()) == ["_id_", INDEX.name]


@pytest.mark.parametrize("loss", ["drop", "drop_indexes"])
def test_a_bar_never_enters_a_collection_without_its_unique_index(
    store: MongoStore, bars: Collection[Document], caplog: pytest.LogCaptureFixture, loss: str
) -> None:
    first, second = sample_bars(2)
    store.store_bars([first])

    getattr(bars, loss)()
    store.store_bars([second])

    assert bars.index_information()[INDEX.name]["unique"] is True
    assert f"{bars.full_name} has lost its unique index" in caplog.text


def test_a_unique_index_that_the_user_made_is_good_enough(
    mongodb_uri: str, bars: Collection[Document]
) -> None:
    bars.create_index([(field, 1) for field in INDEX.fields], unique=True, name="mine")

    opened(mongodb_uri, database=bars.database.name).close_store()

    assert sorted(bars.index_information()) == ["_id_", "mine"]


def test_an_index_that_lets_duplicates_in_is_named(
    mongodb_uri: str, bars: Collection[Document]
) -> None:
    bars.create_index([(field, 1) for field in INDEX.fields], name=INDEX.name)

    with pytest.raises(BintradesError, match=f"{bars.full_name} has an index .* drop it"):
        opened(mongodb_uri, database=bars.database.name)


def test_duplicates_that_are_there_already_are_named(
    mongodb_uri: str, bars: Collection[Document]
) -> None:
    bars.insert_many([document(sample_bar()), document(sample_bar())])

    with pytest.raises(BintradesError, match=f"{bars.full_name} .*BTCUSDT.*remove all but"):
        opened(mongodb_uri, database=bars.database.name)


def test_an_unknown_option_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="databse: unknown option; did you mean 'database'"):
        MongoStore().check_store({"databse": "x"})


def test_every_problem_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        MongoStore().check_store(
            {"uri": "http://x", "database": "a b", "collection": "$x", "colour": "red"}
        )

    assert [problem.split(":")[0] for problem in refused.value.problems] == [
        "colour",
        "uri",
        "database = a b",
        "collection = $x",
    ]
    assert all("; allowed: " in problem for problem in refused.value.problems[2:])


@pytest.mark.parametrize("name", ["", "d" * 64, "币" * 22, "a/b", "a.b", 'a"b', "a\\b", "a$", "\0"])
def test_a_database_that_no_server_takes_is_refused_at_once(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^database = .*: .*; allowed: 1 to 63 bytes"):
        MongoStore().check_store({"database": name})


@pytest.mark.parametrize("name", ["", "c" * 192, "a$b", ".a", "a.", "a..b", "\0"])
def test_a_collection_that_no_server_takes_is_refused_at_once(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^collection = .*: .*; allowed: 1 to 191 bytes"):
        MongoStore().check_store({"collection": name})


def test_a_server_takes_the_longest_names_that_are_allowed(
    mongodb_uri: str, mongodb_database: Database[Document]
) -> None:
    database = mongodb_database.name.ljust(63, "d")
    opened(mongodb_uri, database=database, collection="c" * 191).close_store()

    assert mongodb_database.client[database].list_collection_names() == ["c" * 191]
    mongodb_database.client.drop_database(database)


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://127.0.0.1",
        "mongodb://[::1]:27017,db1.example.com:27018/?replicaSet=rs0&w=majority",
        "mongodb+srv://user:p%40ss@cluster.example.invalid/?retryWrites=true",
        "mongodb://%2Ftmp%2Fmongodb-27017.sock/",
        "mongodb://CN%3Dme@db/?authMechanism=MONGODB-X509&tls=true",
        "mongodb://db/?journal=false",
        "mongodb://db/?fsync=true",
    ],
)
def test_a_good_uri_is_accepted_without_network(uri: str) -> None:
    MongoStore().check_store({"uri": uri})


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("", "must begin with"),
        ("127.0.0.1:27017", "must begin with"),
        ("mongodb://", "servers must be given"),
        ("mongodb://db:port/", "servers must be given"),
        ("mongodb://db:99999/", "Port must be"),
        ("mongodb://db1,,db2/", "servers must be given"),
        ("mongodb+srv://db:27017/", "must not include a port"),
        ("mongodb://db/?w=0", "w=0 is not allowed"),
        ("mongodb://db/?w=0&journal=true", "w=0 is not allowed"),
        ("mongodb://db/?conectTimeoutMS=5", "Unknown option: conecttimeoutms"),
        ("mongodb://db/?w=1&conectTimeoutMS=5", "Unknown option: conecttimeoutms"),
        ("mongodb://db/?tls=true&tlsCAFile=%2Fno%2Fsuch%2Ffile", "tlsCAFile=/no/such/file: No"),
        ("mongodb://db/?connectTimeoutMS=soon", "connecttimeoutms must be"),
        ("mongodb://db/?tls=true&tlsCAFile=/no/such/file", "/no/such/file"),
        ("mongodb://db/?tls", "key=value"),
    ],
)
def test_a_bad_uri_is_refused_with_its_reason(uri: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        MongoStore().check_store({"uri": uri})


def test_every_bad_option_of_a_uri_is_named_at_once() -> None:
    uri = "mongodb://db/?conectTimeoutMS=5&tls=true&tlsCAFile=/no/such/file"

    with pytest.raises(ConfigError) as caught:
        MongoStore().check_store({"uri": uri})

    wrong, missing = caught.value.problems
    assert "conecttimeoutms" in wrong
    assert "/no/such/file" in missing


@pytest.mark.parametrize("scheme", ["mongodb", "mongodb+srv", "mongo"])
def test_no_part_of_user_name_or_password_is_ever_said(scheme: str) -> None:
    said = set()
    for user, password, rest in itertools.product(USERS, PASSWORDS, RESTS):
        try:
            MongoStore().check_store({"uri": f"{scheme}://{user}:{password}{rest}"})
        except ConfigError as error:
            said.add("".join(traceback.format_exception(error)))

    assert not [line for line in said if re.search("us3r|home|s3cr3t|w0rd", line)]


@pytest.mark.parametrize("rest", ["@db", "@db/", "@db/?w=1", "@db/admin?w=1"])
@pytest.mark.parametrize("password", ["123/w0rd", "123?w0rd=1", "123@w0rd", "1:2", "12%3"])
def test_a_password_with_an_unescaped_sign_is_refused_even_if_a_host_could_be_read_from_it(
    password: str, rest: str
) -> None:
    with pytest.raises(ConfigError, match=r"escaped|encoded") as refused:
        MongoStore().check_store({"uri": f"mongodb://user:{password}{rest}"})

    assert "w0rd" not in str(refused.value)


def test_what_the_uri_says_wins_over_the_defaults() -> None:
    uri = "mongodb://db/?w=majority&journal=false&SOCKETTIMEOUTMS=7&appName=mine"
    with client_of(uri) as given, client_of("mongodb://db") as default:
        assert given.write_concern.document == {"w": "majority", "j": False}
        assert given.options.pool_options.socket_timeout == 0.007
        assert given.options.pool_options.appname == "mine"
        assert given.options.pool_options.connect_timeout == 5
        assert default.write_concern.document == {"w": "majority", "j": True}
        assert default.options.server_selection_timeout == 5
        assert default.options.pool_options.socket_timeout == 30
        assert default.options.pool_options.appname == "bintrades"
