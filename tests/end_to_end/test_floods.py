"""More comes than can be taken: memory stays bounded, and what is cut off is fetched."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bintrades.testing.server_frames import encode_frame
from tests.end_to_end.stage import wait_for_subscription_after

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.end_to_end.collector import Collector
    from tests.end_to_end.stage import Stage

HANGING = """\
import threading
from bintrades import hookimpl

@hookimpl
def store_bars(bars):
    threading.Event().wait()
"""
MORE_MIB = 80
"""By how much memory may grow: the inbox holds some 20 MiB, of a flood of 160."""


def test_a_flood_that_the_journal_and_a_store_hold_up_leaves_memory_bounded(stage: Stage) -> None:
    stage.exchange.rules.slow_client_s = 1.0
    stores = {"stores": {"enabled": "mongodb, hanging", "shutdown_timeout": "1s"}}
    with stage.collector(stores) as collector:
        (collector.plugins / "hanging.py").write_text(HANGING)
        stage.start(collector)
        stage.send(20_000)
        stage.wait_until_whole(collector)
        before = peak_mib(collector)
        (slow,) = stage.exchange.connections
        with nobody_can_write(collector.journal.path):
            stage.send(1_000)
            flood(stage, times=24)
            with stalled(collector):
                flood(stage, times=24)
                stage.exchange.wait_until(lambda: not slow.is_open, timeout_s=120)
                stage.lose(5_000)
        wait_for_subscription_after(stage.exchange, slow.number)
        stage.send_rest()
        stage.wait_until_whole(collector)
        assert peak_mib(collector) - before < MORE_MIB
        assert collector.status()["duplicates"] > 0
        assert collector.stop() == 0

    stage.assert_stored()


def flood(stage: Stage, times: int) -> None:
    """Send what was played again and again, as fast as the connection takes it."""
    frames = b"".join(encode_frame(frame) for _, frame in stage.frames[: stage.played])
    for _ in range(times):
        stage.exchange.send_encoded(frames)


@contextmanager
def stalled(collector: Collector) -> Iterator[None]:
    """Let the process stand still, as on a machine that has no time for it."""
    pid = collector.status()["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def nobody_can_write(journal: Path) -> Iterator[None]:
    """Hold the lock of the file that every writer needs."""
    with closing(sqlite3.connect(journal, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


def peak_mib(collector: Collector) -> int:
    """Return the most memory that the collector ever had."""
    status = Path(f"/proc/{collector.status()['pid']}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1024
