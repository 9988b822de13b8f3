"""Two collectors of one journal, as whoever starts them has it: the second one waits."""

from __future__ import annotations

from signal import SIGTERM
from typing import TYPE_CHECKING

from tests.end_to_end.collector import Collector

if TYPE_CHECKING:
    from pathlib import Path

    from bintrades.testing.exchange_simulator import ExchangeSimulator

START_MS = 1_720_000_000_000


def collectors(folder: Path, exchange: ExchangeSimulator) -> tuple[Collector, Collector]:
    """Return two collectors, not started yet, of the first one's journal."""
    for name in ("first", "second"):
        (folder / name).mkdir()
    first = Collector(folder / "first", exchange)
    second = Collector(folder / "second", exchange, {"journal": {"path": first.journal.path}})
    return first, second


def begin(first: Collector, second: Collector, exchange: ExchangeSimulator) -> None:
    """Have one of them collect a trade, and the other one wait."""
    first.start()
    exchange.wait_for_subscription("btcusdt@trade")
    exchange.publish("BTCUSDT", "60000.1", "0.5", time_ms=START_MS)
    first.wait_for_trades(1)
    second.start()
    second.wait_for_log("waiting for the journal")


def test_a_second_collector_waits_and_goes_on_when_the_first_one_has_ended(
    exchange: ExchangeSimulator, tmp_path: Path
) -> None:
    first, second = collectors(tmp_path, exchange)
    with first, second:
        begin(first, second, exchange)
        (line,) = (event for event in second.events if "waiting" in event["message"])
        owner = first.status()["pid"]
        assert f"in use by another collector (process {owner})" in line["error"]
        assert "stop that one, or set [journal] path to another file" in line["error"]

        first.kill()
        exchange.wait_for_connections(0)
        exchange.wait_for_subscription("btcusdt@trade")
        exchange.publish("BTCUSDT", "60000.2", "0.5", time_ms=START_MS + 5)

        second.wait_until(lambda: first.trade_count() == 2, lambda: "the second trade is missing")
        assert second.stop() == 0
        assert second.messages("ERROR") == []


def test_a_collector_that_waits_for_another_one_is_stopped_in_good_order(
    exchange: ExchangeSimulator, tmp_path: Path
) -> None:
    first, second = collectors(tmp_path, exchange)
    with first, second:
        begin(first, second, exchange)

        assert second.stop(SIGTERM) == 0

        exchange.publish("BTCUSDT", "60000.2", "0.5", time_ms=START_MS + 5)
        first.wait_for_trades(2)
        assert first.stop() == 0


def test_a_removed_lock_file_lets_no_second_collector_in_which_would_count_a_late_trade_twice(
    exchange: ExchangeSimulator, tmp_path: Path
) -> None:
    first, second = collectors(tmp_path, exchange)
    with first, second:
        first.start()
        exchange.wait_for_subscription("btcusdt@trade")
        exchange.publish("BTCUSDT", "60000.1", "0.5", time_ms=START_MS)
        first.wait_for_trades(1)
        (first.journal.path.parent / "bintrades.journal.lock").unlink()

        second.start()
        second.wait_for_log("waiting for the journal")

        assert f"(process {first.status()['pid']})" in second.log
        status = first.command("status", "--json")
        assert '"is_running": true' in status.stdout
        assert second.stop() == 0
        assert first.stop() == 0
