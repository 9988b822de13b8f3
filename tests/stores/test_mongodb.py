"""What MongoDB holds after a batch, whatever happens to the server in between."""

from __future__ import annotations

import itertools
import logging
import re
import threading
import time
import traceback
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

import pymongo
import pytest
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from pymongo.errors import OperationFailure, PyMongoError, WriteConcernError

from bintrades import BintradesError, ConfigError, RejectedBars
from bintrades.stores.mongodb import INDEX_NAME, MongoStore, document
from bintrades.stores.mongodb_uri import client_of
from bintrades.testing.bars import sample_bar, sample_bars
from bintrades.testing.mongod import Mongod
from bintrades.testing.store_contract import StoreContract

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pymongo.collection import Collection
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
        return {"uri": mongodb_uri, "database": mongodb_database.name}

    def stored(self) -> list[Document]:
        return [
            {name: _plain(value) for name, value in stored.items() if name != "_id"}
            for stored in self.bars.find()
        ]


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
    """Let the server fail every update of a client in the way described."""
    with pymongo.MongoClient[Document](server.uri) as client:
        point = {"configureFailPoint": "failCommand"}
        failure = {"failCommands": ["update"], **failure}
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


def test_every_field_has_its_published_bson_type() -> None:
    stored = document(sample_bar())

    types = {name: type(value) for name, value in stored.items()}

    dates = ["open_time", "first_trade_time", "last_trade_time", "updated_at"]
    longs = ["trade_count", "buy_count", "sell_count", "first_trade_id", "last_trade_id"]
    decimals = [
        *("quantity", "buy_quantity", "sell_quantity", "value", "buy_value", "sell_value"),
        *("open_price", "close_price", "min_price", "max_price", "average_price"),
    ]
    assert types == {
        "symbol": str,
        "market": str,
        "interval_seconds": int,
        "is_closed": bool,
        "is_complete": bool,
        "version": int,
        **dict.fromkeys(dates, datetime),
        **dict.fromkeys(longs, Int64),
        **dict.fromkeys(decimals, Decimal128),
    }


def test_the_server_sees_the_published_types(store: MongoStore, bars: Collection[Document]) -> None:
    store.store_bars([sample_bar()])

    published = {"open_time": "date", "interval_seconds": "int", "trade_count": "long"}
    published |= {"value": "decimal", "is_closed": "bool", "first_trade_id": "long"}
    assert bars.count_documents({name: {"$type": kind} for name, kind in published.items()}) == 1
    assert bars.find_one({}, {"_id": 0, "open_time": 1}) == {
        "open_time": datetime(2024, 8, 8, tzinfo=UTC)
    }


@given(st.integers(0, 10**36), st.integers(0, 20))
def test_a_decimal_is_stored_exactly_or_not_at_all(digits: int, places: int) -> None:
    value = Decimal((0, tuple(map(int, str(digits))), -places))
    bar = sample_bar(value=value, buy_value=Decimal(0), quantity=Decimal(1))
    fits = len(str(digits).rstrip("0")) <= 34

    with nullcontext() if fits else pytest.raises(ValueError, match="34 digits"):
        assert document(bar)["value"].to_decimal() == value


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
    bars.insert_one({"symbol": bar.symbol, "open_time": bar.open_time, "note": "mine"})

    with pytest.raises(RejectedBars, match="has no trade_count"):
        store.store_bars([bar])

    assert [stored["note"] for stored in bars.find()] == ["mine"]


def test_writers_that_race_for_a_bar_end_with_the_most_trades(
    mongodb_uri: str, bars: Collection[Document]
) -> None:
    versions = [[replace(bar, trade_count=n) for bar in sample_bars(50)] for n in range(1, 9)]
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
    assert counts(bars) == [8] * 50


@pytest.mark.parametrize("code", [10107, 11602, 262, 13, 14031])
def test_an_error_of_the_server_raises_and_refuses_no_bar(replica_set: Mongod, code: int) -> None:
    store = opened(replica_set.uri, collection=f"code_{code}")
    try:
        with failing(replica_set, errorCode=code), pytest.raises(PyMongoError) as raised:
            store.store_bars(sample_bars(2))
        assert not isinstance(raised.value, RejectedBars)

        store.store_bars(sample_bars(2))
    finally:
        store.close_store()


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
    """Return how many update and find commands the server was sent."""
    executed = client.admin.command("serverStatus")["metrics"]["commands"]
    return int(executed["update"]["total"] + executed["find"]["total"])


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

    deadline = time.monotonic() + 10
    with pymongo.MongoClient[Document](replica_set.uri) as client:
        while connections(client, "opened_again"):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def connections(client: pymongo.MongoClient[Document], appname: str) -> list[Document]:
    everything = {"$currentOp": {"idleConnections": True, "allUsers": True}}
    return list(client.admin.aggregate([everything, {"$match": {"appName": appname}}]))


def test_the_unique_index_is_made_once_under_its_name(
    store: MongoStore, bars: Collection[Document]
) -> None:
    index = bars.index_information()[INDEX_NAME]

    assert index["key"] == [("symbol", 1), ("open_time", 1)]
    assert index["unique"] is True


def test_a_unique_index_that_the_user_made_is_good_enough(
    mongodb_uri: str, bars: Collection[Document]
) -> None:
    bars.create_index([("symbol", 1), ("open_time", 1)], unique=True, name="mine")

    opened(mongodb_uri, database=bars.database.name).close_store()

    assert sorted(bars.index_information()) == ["_id_", "mine"]


def test_an_index_that_lets_duplicates_in_is_named(
    mongodb_uri: str, bars: Collection[Document]
) -> None:
    bars.create_index([("symbol", 1), ("open_time", 1)], name=INDEX_NAME)

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
        ("mongodb://db/?connectTimeoutMS=soon", "connecttimeoutms must be"),
        ("mongodb://db/?tls=true&tlsCAFile=/no/such/file", "/no/such/file"),
        ("mongodb://db/?tls", "key=value"),
    ],
)
def test_a_bad_uri_is_refused_with_its_reason(uri: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        MongoStore().check_store({"uri": uri})


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
        assert default.write_concern.document == {"j": True}
        assert default.options.server_selection_timeout == 5
        assert default.options.pool_options.socket_timeout == 30
        assert default.options.pool_options.appname == "bintrades"
