"""Sends every version of every bar to a Kafka topic: the way to Spark, Flink and whatever follows.

    [stores]
    enabled = mongodb, kafka

    [store:kafka]
    servers = broker-1:9092, broker-2:9092
    topic = bintrades_bars

A record has the key MARKET|SYMBOL|OPEN_TIME and the fields of Bar.as_dict() as JSON for its value:
numbers with a fraction are strings, so that no reader makes floats of them, and times are ISO 8601
in UTC. All records of a symbol are in one partition, in the order in which they were sent. Nothing
is changed in place, so a bar may have several records. Reading rule: of all records with the same
key, the bar is the one with the largest (epoch, trade_count, is_closed, is_complete, version),
compared in this order; of equal ones the first.

What is covered is in the topic TOPIC_coverage, with the key MARKET|SYMBOL: a record there says
which spans there are from its `since` on. The last record of a symbol has all of them.
"""

from __future__ import annotations

import json
import logging
import re
import time
from bisect import bisect_left
from decimal import Decimal
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar
from zlib import crc32

from msgspec.structs import replace

from bintrades import (
    BintradesError,
    ConfigError,
    Option,
    OptionType,
    hookimpl,
    option_types,
    require_library,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from confluent_kafka import KafkaError, Message, Producer
    from confluent_kafka.admin import AdminClient

    from bintrades import Bar, CoveredSpan

    Record = tuple[str, str, str]
    """Of which series it is (all of one are in one partition), its key and its value."""

log = logging.getLogger(__name__)
Client = TypeVar("Client")

_LONGEST_WAIT_S = 10.0  # for the answer to whatever is asked when the store is opened
_WITHIN = option_types.duration("1s", "5m")
_OURS = {  # what keeps the promises of a store, and what has an option of its own
    *("bootstrap.servers", "metadata.broker.list", "sasl.username", "sasl.password"),
    *("acks", "request.required.acks", "enable.idempotence", "transactional.id"),
    *("message.timeout.ms", "delivery.timeout.ms"),
}


def _topic(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,240}", text) or text in (".", ".."):
        raise ValueError("is no name of a topic")
    return text


def _servers(text: str) -> str:
    servers = text.replace(",", " ").split()
    if not servers or not all(re.fullmatch(r"(\[[^]]+\]|[^\s:/@]+):\d{1,5}", it) for it in servers):
        raise ValueError("is no list of HOST:PORT")
    return ",".join(servers)


def _properties(text: str) -> dict[str, str]:
    """Return what stands as NAME=VALUE, with commas, spaces or lines between."""
    pairs = re.split(r"[\s,]+(?=[a-z][a-z0-9._]*=)", text.strip()) if text.strip() else []
    found = {name: value for name, _, value in (pair.partition("=") for pair in pairs)}
    for name in found:
        if not re.fullmatch(r"[a-z][a-z0-9._]*", name) or f"{name}=" not in text:
            raise ValueError("is no list of NAME=VALUE")
        if name in _OURS:
            raise ValueError(f"{name} cannot be set here")
    return found


class Store:
    """One topic. A section [store:NAME] with `plugin = kafka` is another one, of its own."""

    OPTIONS = (
        Option(
            "servers",
            "127.0.0.1:9092",
            "some of the brokers: they name the others",
            OptionType(_servers, "HOST:PORT, with commas between several"),
        ),
        Option(
            "topic",
            "bintrades_bars",
            "the topic of the bars; made if it is not there, as TOPIC_coverage is",
            OptionType(_topic, "1 to 240 letters, digits and . _ -"),
        ),
        Option("username", "", "the user; with one, SASL_SSL and SCRAM-SHA-512 are the defaults"),
        Option("password", "", "the user's password", is_secret=True),
        Option(
            "properties",
            "",
            "other properties of librdkafka, such as security.protocol=SSL",
            OptionType(_properties, "NAME=VALUE, with commas or lines between several"),
            is_secret=True,  # a password of a key may stand in it
        ),
        Option(
            "partitions",
            "12",
            "partitions of the topic, if it is made",
            option_types.whole_number(1, 10_000),
        ),
        Option(
            "replicas",
            "0",
            "brokers that have each record, if the topic is made; 0: as they are set up",
            option_types.whole_number(0, 100),
        ),
        Option(
            "cleanup",
            "compact",
            "what becomes of old records, if the topic is made: compact keeps the last of each key",
            option_types.choice("compact", "delete"),
        ),
        Option(
            "timeout", "30s", "how long the brokers may take to have a batch on record", _WITHIN
        ),
    )

    def __init__(self) -> None:
        self._producer: Producer | None = None
        self._admin: AdminClient | None = None
        self._topic = ""
        self._timeout_s = self._wait_s = 0.0
        self._partitions: dict[str, int] = {}  # of each topic
        self._trouble = ""  # what the client said last of the brokers
        self._spans: dict[str, list[CoveredSpan]] = {}  # by symbol: all that was told, in order

    @hookimpl
    def check_store(self, options: dict[str, str]) -> None:
        """Refuse what the client library would not take; nothing is sent."""
        require_library("confluent_kafka", package="confluent-kafka", extra="kafka")
        if bool(options["username"]) != bool(options["password"]):
            raise ConfigError("username and password: must be given together, or not at all")
        from confluent_kafka import Producer
        from confluent_kafka.admin import AdminClient

        nowhere = {"bootstrap.servers": "", "log_level": 0}  # else they connect at once
        _client(AdminClient, _connection(options) | nowhere)
        _client(Producer, _producing(options) | nowhere)

    @hookimpl
    def open_store(self, options: dict[str, str]) -> None:
        """Connect, and make the topics if they are not there."""
        self.check_store(options)
        self.close_store()
        from confluent_kafka import Producer
        from confluent_kafka.admin import AdminClient

        self._topic = options["topic"]
        self._timeout_s = _WITHIN.parse(options["timeout"]) / 1_000
        self._wait_s = min(self._timeout_s, _LONGEST_WAIT_S)
        self._trouble = ""
        told = {"error_cb": self._note, "logger": log}
        self._admin = _client(AdminClient, _connection(options) | told)
        self._producer = _client(Producer, _producing(options) | told)
        topics = self._list_topics()
        if self._topic in topics:
            self._check_newest(topics[self._topic], _connection(options))
        else:
            self._spans.clear()
        bars = (self._topic, int(options["partitions"]), options["cleanup"].lower())
        for topic, partitions, cleanup in (bars, (self._coverage, 1, "compact")):
            if topic not in topics:
                self._make_topic(topic, partitions, int(options["replicas"]) or -1, cleanup)
            self._partitions[topic] = topics.get(topic, partitions)

    @hookimpl
    def store_bars(self, bars: Sequence[Bar]) -> None:
        """Send the bars and return once the brokers have said that they are on record."""
        self._send(self._topic, map(_record, bars))

    @hookimpl
    def store_coverage(self, spans: Sequence[CoveredSpan]) -> None:
        """Send for each symbol all spans that are known of it since the start."""
        records = []
        for series, told in groupby(spans, key=_series):
            new = list(told)
            known = self._spans.setdefault(series, [])
            del known[bisect_left(known, new[0].since_ms, key=attrgetter("since_ms")) :]
            if known and known[-1].until_ms > new[0].since_ms:
                known[-1] = replace(known[-1], until_ms=new[0].since_ms)
            known.extend(new)
            records.append((series, series, _statement(known)))
        self._send(self._coverage, records)
        for known in self._spans.values():
            known[1:] = [span for span in known[1:] if not span.is_empty]

    @hookimpl
    def identify_store(self) -> str | None:
        """Return the id that the brokers gave the topic when it was made, if they give one."""
        from confluent_kafka import TopicCollection

        assert self._admin is not None  # noqa: S101 - called after open_store
        asked = self._admin.describe_topics(
            TopicCollection([self._topic]), request_timeout=self._wait_s
        )
        identity = str(asked[self._topic].result().topic_id)
        return identity if identity.strip("A=") else None  # all zeros: brokers of before 2.8

    @hookimpl
    def close_store(self) -> None:
        """Let go of the connections, and of what was not acknowledged: that comes again."""
        if self._producer is not None:
            self._producer.purge()
            self._producer.flush(1.0)
        self._producer = self._admin = None

    @property
    def _coverage(self) -> str:
        return f"{self._topic}_coverage"

    def _note(self, error: KafkaError) -> None:
        self._trouble = error.str()

    def _list_topics(self) -> dict[str, int]:
        """Return how many partitions each topic has."""
        from confluent_kafka import KafkaException

        assert self._producer is not None  # noqa: S101
        try:
            topics = self._producer.list_topics(timeout=self._wait_s).topics
        except KafkaException as error:
            self._producer.poll(0)  # has the client say what the matter is
            why = self._trouble or error.args[0].str()
            raise ConnectionError(f"no broker answers: {why}") from error
        return {name: len(topic.partitions) for name, topic in topics.items()}

    def _check_newest(self, partitions: int, connection: dict[str, Any]) -> None:
        """Raise BintradesError if the newest record of the topic is no bar.

        One record tells enough: a topic has records of one kind. Who may not read, may write.
        """
        from confluent_kafka import Consumer, KafkaException, TopicPartition

        consumer = Consumer(
            connection | {"group.id": "bintrades", "enable.auto.commit": False, "log_level": 3}
        )
        try:
            for number in range(partitions):
                place = TopicPartition(self._topic, number)
                lowest, end = consumer.get_watermark_offsets(place, timeout=self._wait_s)
                if end > lowest:
                    consumer.assign([TopicPartition(self._topic, number, end - 1)])
                    newest = consumer.poll(self._wait_s)
                    if newest is not None and not newest.error() and not _is_bar(newest):
                        raise BintradesError(
                            f"topic {self._topic} has other records than bars, which stay as they"
                            " are: name another topic, and it is made"
                        )
                    return
        except KafkaException:
            return
        finally:
            consumer.close()

    def _make_topic(self, topic: str, partitions: int, replicas: int, cleanup: str) -> None:
        from confluent_kafka import KafkaError, KafkaException
        from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

        assert self._admin is not None  # noqa: S101
        new = NewTopic(topic, partitions, replicas, config={"cleanup.policy": cleanup})
        made = self._admin.create_topics([new], request_timeout=self._wait_s)
        try:
            made[topic].result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # another one was quicker
                raise BintradesError(
                    f"topic {topic} is not there and cannot be made: {error.args[0].str()}; have it"
                    f" made with {partitions} partitions and cleanup.policy={cleanup}"
                ) from error

    def _send(self, topic: str, records: Iterable[Record]) -> None:
        """Send *records*; return once all are acknowledged, or raise."""
        if self._producer is None:
            raise RuntimeError("open_store comes before all others")
        self._trouble = ""
        deadline = time.monotonic() + self._timeout_s
        failures: list[KafkaError] = []

        def on_delivery(error: KafkaError | None, _record: Message) -> None:
            if error is not None:
                failures.append(error)

        for series, key, value in records:
            partition = crc32(series.encode()) % self._partitions[topic]
            while True:
                try:
                    self._producer.produce(topic, value, key, partition, on_delivery)
                    break
                except BufferError:  # more than the client keeps: some must be on record first
                    if time.monotonic() > deadline:
                        raise TimeoutError(self._late(len(self._producer))) from None
                    self._producer.poll(0.1)
        waiting = self._producer.flush(max(0.0, deadline - time.monotonic()) + 1.0)
        if waiting or (failures and all(map(_is_late, failures))):
            raise TimeoutError(self._late(waiting + len(failures)))
        if failures:
            why = next(error for error in failures if not _is_late(error))
            raise BintradesError(f"{topic} did not take {len(failures)} records: {why.str()}")

    def _late(self, count: int) -> str:
        late = f"{count} records were not acknowledged within {self._timeout_s:g} s"
        return f"{late}: {self._trouble}" if self._trouble else late


def _record(bar: Bar) -> Record:
    fields = bar.as_dict()
    series = f"{bar.market}|{bar.symbol}"
    return series, f"{series}|{fields['open_time'].isoformat()}", _json(fields)


def _as_text(value: Decimal | datetime) -> str:
    return format(value, "f") if isinstance(value, Decimal) else value.isoformat()


def _json(fields: dict[str, Any]) -> str:
    return json.dumps(fields, default=_as_text, ensure_ascii=False, separators=(",", ":"))


def _series(span: CoveredSpan) -> str:
    return f"{span.market}|{span.symbol}"


def _statement(spans: Sequence[CoveredSpan]) -> str:
    """Return the value of a record that says: from the first one's `since` on, these are all."""
    first = spans[0].as_dict()
    names = ("market", "symbol", "since", "interval_seconds")
    fields: dict[str, Any] = {name: first[name] for name in names}
    fields["spans"] = [[span.since, span.until] for span in spans if not span.is_empty]
    return _json(fields)


def _connection(options: dict[str, str]) -> dict[str, Any]:
    """Return the properties that all clients need."""
    sasl = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": options["username"],
        "sasl.password": options["password"],
    }
    return {
        "bootstrap.servers": _servers(options["servers"]),
        "client.id": "bintrades",
        "log_level": 4,  # warnings: brokers close connections that are idle, which is no news
        "socket.timeout.ms": 10_000,
        **(sasl if options["username"] else {}),
        **_properties(options["properties"]),
    }


def _producing(options: dict[str, str]) -> dict[str, Any]:
    return {
        "compression.type": "zstd",
        "linger.ms": 5,
        "message.max.bytes": 8_000_000,  # before zstd: the coverage of one symbol after years
        **_connection(options),
        "acks": "all",
        "enable.idempotence": True,
        "message.timeout.ms": _WITHIN.parse(options["timeout"]),
    }


def _client(kind: Callable[[dict[str, Any]], Client], properties: dict[str, Any]) -> Client:
    """Return a client; raise ConfigError for what the library does not take."""
    from confluent_kafka import KafkaException

    try:
        return kind(properties)
    except KafkaException as error:
        raise ConfigError(f"properties: {error.args[0].str()}") from None


def _is_bar(record: Message) -> bool:
    if (value := record.value()) is None:
        return True  # the record of somebody who deletes a key, which may have been a bar
    try:
        fields = json.loads(value)
        parts = fields["market"], fields["symbol"], fields["open_time"]
        return (record.key() or b"").decode() == "|".join(parts)
    except (ValueError, TypeError, KeyError):
        return False


def _is_late(error: KafkaError) -> bool:
    from confluent_kafka import KafkaError

    return error.code() == KafkaError._MSG_TIMED_OUT  # noqa: SLF001 - so it is documented
