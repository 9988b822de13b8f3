"""The journal's file is corrupt or removed: every trade is stored all the same, or on record."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from tests.end_to_end.stage import missing
from tests.journals import pages_of, spoil_pages

if TYPE_CHECKING:
    from pathlib import Path

    from bintrades.model import Gap
    from tests.end_to_end.collector import Collector
    from tests.end_to_end.stage import Stage


def journal_of(collector: Collector) -> Path:
    return collector.journal.path


def asked_for(collector: Collector) -> list[Gap]:
    """Return what is missing and may still come."""
    return [gap for gap in missing(collector) if not gap.is_abandoned]


def test_pages_corrupt_while_the_collector_is_down_cost_no_trade(stage: Stage) -> None:
    with stage.collector() as collector:
        stage.start(collector)
        stage.send(12_000)
        stage.wait_until_seen(collector)
        collector.kill()
        path = journal_of(collector)
        pages = pages_of(path, "bars")
        spoil_pages(path, pages[len(pages) // 2 : -1] + pages_of(path, "checkpoints"))
        stage.lose(5_000)

        stage.start(collector)
        stage.send_rest()
        stage.wait_until_whole(collector)
        assert collector.stop() == 0

        assert "what could be read of the damaged journal was saved" in collector.log
        assert '"unreadable_bars": 0' not in collector.log
    stage.assert_stored()


def enable_mongodb(collector: Collector) -> None:
    """Have a store that is new to the journal take all that is there."""
    collector.configure({"stores": {"enabled": "mongodb"}})


def test_rows_that_only_a_store_finds_unreadable_are_fetched_and_stored(stage: Stage) -> None:
    with stage.collector({"stores": {"enabled": ""}}) as collector:
        stage.start(collector)
        stage.send(20_000)
        stage.wait_until_seen(collector)
        assert collector.stop() == 0
        with closing(sqlite3.connect(journal_of(collector))) as connection, connection:
            changed = connection.execute(
                "UPDATE bars SET quantity = '1.2.3' WHERE sequence % 5 = 1 AND is_closed"
            ).rowcount
        assert changed > 1
        enable_mongodb(collector)

        stage.start(collector)
        stage.send_rest()
        collector.wait_for_log("a bar of the journal cannot be read; its trades are missing again")
        stage.wait_until_whole(collector)
        assert collector.stop() == 0
    stage.assert_stored()


def test_a_corrupt_page_that_a_store_meets_does_not_hold_up_its_bars(stage: Stage) -> None:
    with stage.collector({"stores": {"enabled": ""}}) as collector:
        stage.start(collector)
        stage.send(20_000)
        stage.wait_until_seen(collector)
        assert collector.stop() == 0
        path = journal_of(collector)
        spoil_pages(path, pages_of(path, "bars")[1:2])
        enable_mongodb(collector)

        stage.start(collector)
        stage.send_rest()
        collector.wait_for_log("what could be read of the damaged journal was saved")
        stage.wait_until_whole(collector)
        assert collector.stop() == 0

        assert "deliver-mongodb cannot use the journal" in collector.log
    stage.assert_stored()


def test_a_journal_removed_while_the_collector_is_down_costs_no_trade_of_its_last_minute(
    stage: Stage,
) -> None:
    with stage.collector() as collector:
        stage.start(collector)
        stage.send(12_000)
        stage.wait_until_seen(collector)
        collector.kill()
        for suffix in ("", "-wal", "-shm"):
            journal_of(collector).with_name(journal_of(collector).name + suffix).unlink()
        stage.lose(5_000)

        stage.start(collector)
        stage.send_rest()
        stage.wait_until_seen(collector)
        collector.wait_until(lambda: not asked_for(collector), lambda: str(missing(collector)))
        assert collector.stop() == 0

        assert "the journal is lost; collecting goes on where" in collector.log
    stage.assert_stored()
