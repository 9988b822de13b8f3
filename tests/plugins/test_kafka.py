"""The Kafka store keeps the promises of a store, for consumers that follow its reading rule."""

from __future__ import annotations

import json
import socket
import threading
import uuid
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from bintrades import BintradesError, ConfigError
from bintrades.model.bar_fields import FIELDS, FieldKind
from bintrades.stores.loader import load_stores
from bintrades.testing.bars import sample_bar, sample_bars, sample_span
from bintrades.testing.store_contract import StoreContract
from tests.checkout import REPOSITORY
from tests.engines import need_package
from tests.store_engines.kafka import Broker
from tests.store_pages import code_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bintrades.stores.store import Store

need_package("confluent_kafka", "confluent-kafka")

import jsonschema  # noqa: E402
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition  # noqa: E402
from confluent_kafka.admin import AdminClient  # noqa: E402

PLUGINS = REPOSITORY / "plugins"
SCHEMA = REPOSITORY / "docs" / "bar.schema.json"
RANK = ("epoch", "trade_count", "is_closed", "is_complete", "version")


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture(scope="session")
def mock_cluster() -> Iterator[str]:
    """Yield the servers of three brokers within this process, of the client library itself."""
    host = Producer({"test.mock.num.brokers": 3, "log_level": 0})
    brokers = host.list_topics(timeout=30).brokers.values()
    yield ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
    del host  # which has the brokers


def records(servers: str, topic: str) -> list[tuple[str, dict[str, Any]]]:
    """Return key and value of all records: partition by partition, each in its order."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "tests",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,
            "auto.offset.reset": "earliest",
            "log_level": 0,
        }
    )
    found = []
    try:
        partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        left = set(partitions)
        while left:
            record = consumer.poll(30)
            assert record is not None, "no answer"
            if (error := record.error()) is not None:
                assert error.code() == KafkaError._PARTITION_EOF, error
                left.discard(record.partition())
            else:
                found.append(((record.key() or b"").decode(), json.loads(record.value() or b"")))
    finally:
        consumer.close()
    return found


def latest(servers: str, topic: str) -> list[dict[str, Any]]:
    """Apply the reading rule of the plugin's docstring."""
    bars: dict[str, dict[str, Any]] = {}
    for key, bar in records(servers, topic):
        if key not in bars or rank(bar) > rank(bars[key]):
            bars[key] = bar
    return [typed(bar) for bar in bars.values()]


def rank(bar: dict[str, Any]) -> list[int]:
    return [bar[name] for name in RANK]


def typed(bar: dict[str, Any]) -> dict[str, Any]:
    """Turn the strings of a record into decimals and times again."""
    kinds: dict[FieldKind, Any] = {
        FieldKind.DECIMAL: Decimal,
        FieldKind.TIME: datetime.fromisoformat,
    }
    of_fields = {field.name: kinds.get(field.kind, lambda it: it) for field in FIELDS}
    return {name: of_fields[name](value) for name, value in bar.items()}


def covered(servers: str, topic: str) -> list[dict[str, Any]]:
    """Apply the reading rule of the coverage: the last record of each key has all of it."""
    last = dict(records(servers, f"{topic}_coverage"))
    return [
        {
            "symbol": told["symbol"],
            "market": told["market"],
            "since": datetime.fromisoformat(since),
            "until": datetime.fromisoformat(until),
            "interval_seconds": told["interval_seconds"],
        }
        for told in last.values()
        for since, until in told["spans"]
    ]


class TestTheContract(StoreContract):
    name = "kafka"
    folder = PLUGINS

    @pytest.fixture
    def options(self, broker: Broker) -> dict[str, str]:
        self.servers, self.topic = broker.address, f"bars_{uuid.uuid4().hex}"
        return {"servers": self.servers, "topic": self.topic, "partitions": "3"}

    def stored(self) -> list[dict[str, Any]]:
        return latest(self.servers, self.topic)

    def covered(self) -> list[dict[str, Any]]:
        return covered(self.servers, self.topic)

    def test_a_lesser_version_that_comes_later_loses_by_the_reading_rule(
        self, store: Store
    ) -> None:
        whole = sample_bar(trade_count=4)
        lesser = replace(whole, trade_count=3, version=9)

        store.write([whole])
        store.write([lesser])

        ((first, _), (second, _)) = records(self.servers, self.topic)
        assert first == second == "spot|BTCUSDT|2024-08-08T00:00:00+00:00"
        self.assert_stored(whole)

    def test_the_bars_of_a_symbol_are_in_one_partition_in_the_order_of_their_time(
        self, store: Store
    ) -> None:
        symbols = [f"S{number}USDT" for number in range(20)]
        bars = [bar for symbol in symbols for bar in sample_bars(20, symbol=symbol)]
        store.write(sorted(bars, key=lambda bar: bar.open_time_ms))

        found = records(self.servers, self.topic)
        of_symbols = {
            symbol: [bar for _, bar in found if bar["symbol"] == symbol] for symbol in symbols
        }
        for of_symbol in of_symbols.values():
            times = [bar["open_time"] for bar in of_symbol]
            assert len(times) == 20
            assert times == sorted(times)

    def test_two_stores_that_write_at_once_leave_the_best_of_each_bar(
        self, store: Store, options: dict[str, str]
    ) -> None:
        (other,) = load_stores(["other"], PLUGINS, {"other": "kafka"})
        other.open(options)
        bars = sample_bars(200)
        better = [replace(bar, trade_count=4) for bar in bars[::2]]

        def write_better() -> None:
            for bar in better:
                other.write([bar])

        writing = threading.Thread(target=write_better)
        writing.start()
        for bar in bars:
            store.write([bar])
        writing.join(60)
        other.close()

        self.assert_stored(*better, *bars[1::2])

    def test_what_is_covered_is_whole_in_the_last_record_of_a_symbol(self, store: Store) -> None:
        store.cover([sample_span(0, 3), sample_span(5, 6)])
        store.cover([sample_span(5, 9)])

        assert len(records(self.servers, f"{self.topic}_coverage")) == 2
        self.assert_covered(sample_span(0, 3), sample_span(5, 9))

    def test_a_symbol_with_a_hole_every_hour_for_years_is_covered_in_one_record(
        self, store: Store
    ) -> None:
        spans = [sample_span(360 * hour, 360 * hour + 359) for hour in range(30_000)]
        store.cover(spans)

        ((_, statement),) = records(self.servers, f"{self.topic}_coverage")
        assert len(statement["spans"]) == 30_000

    def test_coverage_that_was_not_taken_is_told_again_as_it_is(
        self, store: Store, options: dict[str, str]
    ) -> None:
        store.cover([sample_span(0, 3), sample_span(5, 6)])
        store.close()
        with pytest.raises(RuntimeError):
            store.cover([sample_span(2, 2), sample_span(7, 8)])
        store.open(options)
        store.cover([sample_span(2, 2), sample_span(7, 8)])

        self.assert_covered(sample_span(0, 2), sample_span(7, 8))

    def test_a_topic_that_is_there_is_used_as_it_is(
        self, store: Store, options: dict[str, str]
    ) -> None:
        store.close()
        store.open(options | {"partitions": "7"})
        store.write(sample_bars(3))

        self.assert_stored(*sample_bars(3))
        client = AdminClient({"bootstrap.servers": self.servers})
        assert len(client.list_topics(timeout=30).topics[self.topic].partitions) == 3

    def test_a_topic_of_other_records_is_refused_and_stays_as_it_is(
        self, store: Store, options: dict[str, str]
    ) -> None:
        store.close()
        producer = Producer({"bootstrap.servers": self.servers})
        producer.produce(self.topic, b"what another program wrote", b"its key", 0)
        assert producer.flush(60) == 0

        with pytest.raises(BintradesError, match=f"topic {self.topic} has other records than bars"):
            store.open(options)

    def test_a_topic_in_which_somebody_deleted_the_newest_bar_is_used(
        self, store: Store, options: dict[str, str]
    ) -> None:
        store.close()
        producer = Producer({"bootstrap.servers": self.servers})
        producer.produce(self.topic, None, b"spot|BTCUSDT|2024-08-08T00:00:00+00:00", 0)
        assert producer.flush(60) == 0

        store.open(options)

    def test_bars_of_every_market_are_exact_and_as_the_schema_says(self, store: Store) -> None:
        bars = [
            sample_bar(),
            sample_bar(market="us", symbol="币安人生USDT", min_price=Decimal("1E-8")),
            sample_bar(market="usdm", excluded_count=7, is_approximate=True),
            sample_bar(
                market="coinm",
                symbol="BTCUSD_PERP",
                contract_size=Decimal(100),
                value=Decimal("0.0000000001234567890123456789012345678901234"),
                buy_value=Decimal("1E-43"),
            ),
        ]
        store.write(bars)

        schema = json.loads(SCHEMA.read_text("utf-8"))
        for _, bar in records(self.servers, self.topic):
            jsonschema.validate(bar, schema)
        self.assert_stored(*bars)


def schema_of_a_bar() -> dict[str, Any]:
    """Return what docs/bar.schema.json has to be."""
    kinds: dict[FieldKind, dict[str, Any]] = {
        FieldKind.TEXT: {"type": "string"},
        FieldKind.TIME: {"type": "string", "format": "date-time"},
        FieldKind.INT: {"type": "integer"},
        FieldKind.LONG: {"type": "integer"},
        FieldKind.DECIMAL: {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?$"},
        FieldKind.FLAG: {"type": "boolean"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A bar of bintrades",
        "type": "object",
        "properties": {
            field.name: kinds[field.kind] | {"description": field.meaning} for field in FIELDS
        },
        "required": [field.name for field in FIELDS if field.markets is None],
    }


def test_the_published_schema_has_all_fields_of_a_bar() -> None:
    assert json.loads(SCHEMA.read_text("utf-8")) == schema_of_a_bar()


def test_what_brokers_do_not_acknowledge_in_time_comes_again(tmp_path: Path) -> None:
    (store,) = load_stores(["kafka"], PLUGINS)
    with Broker(tmp_path) as broker:
        options = {"servers": broker.address, "topic": "bars", "timeout": "10s"}
        first, second, third = sample_bars(3)
        store.open(options | {"timeout": "60s"})
        store.write([first])
        store.open(options)
        with broker.stopped(), pytest.raises(TimeoutError, match="2 records were not acknowledged"):
            store.write([second, third])

        store.open(options | {"timeout": "60s"})
        store.write([second, third])

        stored = latest(broker.address, options["topic"])
        assert sorted(bar["open_time"] for bar in stored) == [
            bar.open_time for bar in (first, second, third)
        ]
        store.close()


def test_a_broker_that_comes_back_without_its_topics_is_another_store(tmp_path: Path) -> None:
    (store,) = load_stores(["kafka"], PLUGINS)
    with Broker(tmp_path) as broker:
        options = {"servers": broker.address, "topic": "bars", "timeout": "10s"}
        store.open(options | {"timeout": "60s"})
        store.write(sample_bars(1))
        before = store.identity()
        store.open(options)
        broker.kill()
        with pytest.raises(TimeoutError):
            store.write(sample_bars(2))
        broker.start()

        store.open(options | {"timeout": "60s"})
        store.write(sample_bars(2))

        assert before is not None
        assert store.identity() not in (before, None)
        assert len(latest(broker.address, "bars")) == 2
        store.close()


def test_no_broker_at_all_is_another_try_later() -> None:
    (store,) = load_stores(["kafka"], PLUGINS)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    with pytest.raises(ConnectionError, match=f"no broker answers: .*127.0.0.1:{port}"):
        store.open({"servers": f"127.0.0.1:{port}", "timeout": "1s"})


def test_checking_options_reaches_no_broker() -> None:
    (store,) = load_stores(["kafka"], PLUGINS)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(1)
        store.check({"servers": f"127.0.0.1:{listener.getsockname()[1]}"})

        with pytest.raises(TimeoutError):
            listener.accept()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"servers": "kafka"}, "servers = kafka: is no list of HOST:PORT"),
        ({"topic": "my bars"}, "topic = my bars: is no name of a topic"),
        ({"username": "me"}, "username and password: must be given together"),
        ({"properties": "acks=0"}, "properties: acks cannot be set here"),
        ({"properties": "compression"}, "properties: is no list of NAME=VALUE"),
        ({"properties": "no.such.thing=1"}, 'No such configuration property: "no.such.thing"'),
        ({"properties": "linger.ms=soon"}, "Invalid value for configuration property"),
        ({"cleanup": "never"}, "cleanup = never: not one of these"),
        ({"timeout": "10ms"}, "timeout = 10ms: too short"),
    ],
)
def test_a_wrong_option_is_refused_with_the_reason(options: dict[str, str], problem: str) -> None:
    (store,) = load_stores(["kafka"], PLUGINS)

    with pytest.raises(ConfigError) as refused:
        store.check(options)

    assert problem in str(refused.value)


def test_passwords_are_never_shown() -> None:
    (store,) = load_stores(["kafka"], PLUGINS)
    options = {"password": "the password", "properties": "ssl.key.password=another one"}

    assert "password = ***" in store.shown(options)
    assert "another one" not in store.shown(options)


class TestOnThreeBrokers:
    """With the mock cluster of the client library, whose brokers make no topics on request."""

    @pytest.fixture
    def options(self, mock_cluster: str) -> dict[str, str]:
        topic = f"bars_{uuid.uuid4().hex}"
        client = AdminClient({"bootstrap.servers": mock_cluster})
        for name in (topic, f"{topic}_coverage"):
            client.list_topics(name, timeout=30)  # which has the cluster make it
        return {"servers": mock_cluster, "topic": topic}

    def test_bars_of_all_partitions_are_on_record_once_each(self, options: dict[str, str]) -> None:
        (store,) = load_stores(["kafka"], PLUGINS)
        bars = [bar for number in range(50) for bar in sample_bars(40, symbol=f"S{number}USDT")]
        store.open(options)
        for batch in range(0, len(bars), 500):
            store.write(bars[batch : batch + 500])
        store.close()

        found = records(options["servers"], options["topic"])
        assert len(found) == len(dict(found)) == 2_000

    def test_the_consumer_of_the_documentation_has_the_best_of_each_bar(
        self, options: dict[str, str]
    ) -> None:
        (store,) = load_stores(["kafka"], PLUGINS)
        store.open(options)
        bars = sample_bars(5)
        store.write(bars)
        store.write([replace(bars[0], trade_count=4), replace(bars[1], trade_count=2, version=2)])
        store.close()

        (code,) = code_of("kafka", "python")
        code = code.replace("127.0.0.1:9092", options["servers"])
        found: dict[str, Any] = {}
        exec(code.replace("bintrades_bars", options["topic"]), found)  # noqa: S102 - as users do

        best = [typed(bar) for bar in found["bars"].values()]
        best.sort(key=lambda bar: bar["open_time"])
        assert best == [bar.as_dict() for bar in (replace(bars[0], trade_count=4), *bars[1:])]

    def test_a_topic_that_cannot_be_made_is_said_with_what_it_should_be(
        self, options: dict[str, str]
    ) -> None:
        (store,) = load_stores(["kafka"], PLUGINS)

        with pytest.raises(
            BintradesError,
            match=r"topic another is not there and cannot be made: .*; have it made with 12"
            " partitions and cleanup.policy=compact",
        ):
            store.open(options | {"topic": "another", "timeout": "1s"})
        store.close()
