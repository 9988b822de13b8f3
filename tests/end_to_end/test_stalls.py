"""A disk that hangs holds up the aggregator, never the connections: the exchange is innocent."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bintrades.testing.server_frames import encode_frame
from tests.end_to_end.machine.sitecustomize import HANGING_DISK
from tests.end_to_end.stage import let_pass, trade_requests
from tests.end_to_end.test_floods import flood

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.end_to_end.collector import Collector, Sections
    from tests.end_to_end.stage import Stage

HANGS_FOR_S = 5.0
WATCHFUL: Sections = {"binance": {"silence_timeout": "2s"}}


def test_a_disk_that_hangs_while_trades_flow_costs_nothing(stage: Stage, tmp_path: Path) -> None:
    hanging = tmp_path / "hanging"
    with untroubled(stage, hanging) as collector:
        hanging.touch()
        for _ in range(100):
            stage.send(10)
            let_pass(HANGS_FOR_S / 100, collector)
        hanging.unlink()


def test_a_disk_that_hangs_until_the_inbox_is_full_costs_nothing(
    stage: Stage, tmp_path: Path
) -> None:
    hanging = tmp_path / "hanging"
    with untroubled(stage, hanging) as collector:
        flooding = threading.Thread(target=flood, args=(stage,), kwargs={"times": 9})
        hanging.touch()
        stage.send(1_000)
        flooding.start()
        collector.wait_for_log("inbox_full")
        let_pass(HANGS_FOR_S, collector)
        hanging.unlink()
        flooding.join(60)
        assert not flooding.is_alive()


@contextmanager
def untroubled(stage: Stage, hanging: Path) -> Iterator[Collector]:
    """Have a collector listen, and assert that what happens costs no connection and no request."""
    with stage.collector(WATCHFUL, environ={HANGING_DISK: str(hanging)}) as collector:
        stage.start(collector)
        with trades_flowing(stage):
            stage.send(20_000)
            stage.wait_until_whole(collector)
            before = stage.exchange.connections
            requests = trade_requests(stage.exchange)
            gaps = collector.log.count("gap_opened")

            yield collector

            assert stage.exchange.connections == before
            stage.send_rest()
            stage.wait_until_seen(collector)
            stage.wait_until_whole(collector)
            assert stage.exchange.connections == before
            assert all(connection.is_open for connection in before)
            assert trade_requests(stage.exchange) == requests
            assert collector.log.count("gap_opened") == gaps
        assert collector.stop() == 0
    stage.assert_stored()


@contextmanager
def trades_flowing(stage: Stage) -> Iterator[None]:
    """Have an old trade come again and again, so that the connection is never without data."""
    frame = encode_frame(stage.frames[0][1])
    is_over = threading.Event()

    def send() -> None:
        while not is_over.wait(0.05):
            stage.exchange.send_encoded(frame)

    sending = threading.Thread(target=send)
    sending.start()
    try:
        yield
    finally:
        is_over.set()
        sending.join()
