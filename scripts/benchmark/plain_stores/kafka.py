"""json.dumps and produce, with a flush for each batch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bintrades import Bar


def write_plain(options: dict[str, str], batches: Sequence[Sequence[Bar]]) -> None:
    """Produce each batch to a topic that is made for it."""
    servers: dict[str, Any] = {"bootstrap.servers": options["servers"]}
    topic = NewTopic(options["topic"], int(options["partitions"]))
    admin = AdminClient(servers)
    admin.create_topics([topic])[options["topic"]].result()
    producer = Producer(servers | {"enable.idempotence": True, "compression.type": "zstd"})
    failures: list[KafkaError] = []

    def on_delivery(error: KafkaError | None, _record: Message) -> None:
        if error is not None:
            failures.append(error)

    for batch in batches:
        for bar in batch:
            key = f"{bar.market}|{bar.symbol}|{bar.open_time.isoformat()}"
            value = json.dumps(bar.as_dict(), default=str)
            producer.produce(options["topic"], value, key, on_delivery=on_delivery)
        producer.flush()
    if failures:
        raise RuntimeError(failures[0])
