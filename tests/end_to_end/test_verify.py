"""`bintrades verify` as users run it, while the collector goes on."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from bintrades.testing.bars import OPEN_TIME_MS

if TYPE_CHECKING:
    from subprocess import CompletedProcess
    from typing import Any

    from pymongo.database import Database

    from tests.end_to_end.collector import Collector
    from tests.end_to_end.stage import Stage

BTC = "BTCUSDT"
SPAN = ("--since", "2024-08-08T23:55", "--until", "2024-08-09T00:05")
WRONG = OPEN_TIME_MS + 86_400_000 - 100_000
"""2024-08-08 23:58:20."""


def verify(collector: Collector, *arguments: str) -> CompletedProcess[str]:
    """Run the command beside the collector."""
    return collector.command("verify", *SPAN, *arguments)


def equal_seconds(collector: Collector) -> int:
    """Return how much of both symbols equals the exchange's klines."""
    return int(json.loads(verify(collector, "--json").stdout)["total"]["equal_seconds"])


def test_a_wrong_bar_is_found_and_repaired_while_the_collector_runs(
    stage: Stage, mongodb_database: Database[dict[str, Any]]
) -> None:
    with stage.collector({"audit": {"enabled": "no"}}) as collector:
        stage.start(collector)
        stage.send_rest()
        stage.wait_until_whole(collector)
        collector.wait_until(
            lambda: equal_seconds(collector) == 2 * 600, lambda: verify(collector).stdout
        )
        assert verify(collector).returncode == 0
        right = collector.bars()[BTC, WRONG]

        with closing(sqlite3.connect(collector.journal.path)) as connection, connection:
            connection.execute(
                "UPDATE bars SET trade_count = trade_count - 1, quantity = '1', sequence = sequence"
                " WHERE symbol = ? AND open_time = ?",
                (BTC, WRONG),
            )
        found = verify(collector)
        repaired = verify(collector, "--repair")
        again = verify(collector)

        assert (found.returncode, repaired.returncode, again.returncode) == (1, 0, 0), repaired
        assert (
            f"{BTC} 2024-08-08 23:58:20, 10 s: trade_count {right.trade_count - 1}" in found.stdout
        )
        assert "(repaired)" in repaired.stdout
        bar = collector.bars()[BTC, WRONG]
        assert (bar.epoch, bar.trade_count, bar.quantity) == (1, right.trade_count, right.quantity)
        assert bar.is_complete
        collector.wait_until(
            lambda: mongodb_database["bars"].count_documents({"epoch": 1}) == 1,
            lambda: "MongoDB has not got the bar that was made again",
        )
        assert verify(collector, "--store", "mongodb").returncode == 0
        assert collector.stop() == 0
