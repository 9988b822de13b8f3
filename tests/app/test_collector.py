"""The collector as it is assembled: what its figures are made of."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bintrades.exchange.batch import Batch
from bintrades.exchange.events import Connected, Payloads
from bintrades.util.clocks import now_ms
from tests.collectors import Stage
from tests.journals import journal_at
from tests.strategies import make_trade, raw_message

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONNECTION = "reader-1.1"
WAIT_S = 120.0


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_figures_hold_what_the_thread_that_ingests_has_published_last(path: Path) -> None:
    with journal_at(path) as journal:
        collector = Stage(path, journal).collector
        collector.ingest_thread.start()
        collector.inbox.put(Connected(CONNECTION, ["BTCUSDT"], now_ms()))
        collector.inbox.put(Payloads(CONNECTION, Batch([raw_message(make_trade(1))]), now_ms()))
        wait_until(lambda: collector.figures()["trades"] == 1)
        first, second = collector.snapshot().ingest, collector.snapshot().ingest
        collector.ingest_thread.stop()
        assert collector.ingest_thread.join(WAIT_S)

    assert first is second, "nobody but that thread looks into what it works on"
    assert collector.figures()["bars"] == 1, "that which was open at the end"


def test_a_collector_that_does_not_run_is_assembled_without_a_connection(path: Path) -> None:
    with journal_at(path) as journal:
        figures = Stage(path, journal).figures

    assert [each["state"] for each in figures["connections"]] == ["disconnected"]
    assert (figures["repair"]["requests"], figures["workers"]) == (0, [])
