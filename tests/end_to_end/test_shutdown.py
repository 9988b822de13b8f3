"""How the collector ends: what was read is stored, and nothing can keep it from ending."""

from __future__ import annotations

import time
from signal import SIGHUP, SIGINT, SIGTERM
from typing import TYPE_CHECKING, Any

import pytest

from tests.end_to_end.collector import Collector, to_mongodb
from tests.end_to_end.market import documents
from tests.pipes import full_pipe

if TYPE_CHECKING:
    from pathlib import Path
    from signal import Signals

    from pymongo.database import Database

    from bintrades.testing.exchange_simulator import ExchangeSimulator
    from tests.end_to_end.collector import Sections

HANGING = """\
import threading
from bintrades import hookimpl

@hookimpl
def store_bars(bars):
    threading.Event().wait()
"""
START_MS = 1_720_000_000_000


def collect_one_trade(
    collector: Collector, exchange: ExchangeSimulator, *, on_terminal: bool = False
) -> None:
    """Start, and have one trade in an open bar."""
    collector.start(on_terminal=on_terminal)
    exchange.wait_for_subscription("btcusdt@trade")
    exchange.publish("BTCUSDT", "60000.1", "0.5", time_ms=START_MS)
    collector.wait_for_trades(1)


@pytest.mark.parametrize("number", [SIGTERM, SIGINT])
def test_a_signal_stores_the_open_bar_and_ends_with_0(
    number: Signals,
    exchange: ExchangeSimulator,
    mongodb_database: Database[dict[str, Any]],
    mongodb_uri: str,
    tmp_path: Path,
) -> None:
    with Collector(tmp_path, exchange, to_mongodb(mongodb_uri, mongodb_database.name)) as collector:
        collect_one_trade(collector, exchange)

        assert collector.stop(number) == 0

        (bar,) = documents(mongodb_database)
        assert (bar["trade_count"], bar["is_closed"], bar["version"]) == (1, False, 1)
        assert collector.messages("ERROR") == []
        assert collector.messages("WARNING") == []


def test_a_cut_bar_is_stored_again_when_it_is_whole(
    exchange: ExchangeSimulator,
    mongodb_database: Database[dict[str, Any]],
    mongodb_uri: str,
    tmp_path: Path,
) -> None:
    with Collector(tmp_path, exchange, to_mongodb(mongodb_uri, mongodb_database.name)) as collector:
        collect_one_trade(collector, exchange)
        assert collector.stop() == 0
        collector.start()
        exchange.wait_for_subscription("btcusdt@trade")
        exchange.publish("BTCUSDT", "60000.2", "0.5", time_ms=START_MS + 1)
        exchange.publish("BTCUSDT", "60000.3", "0.5", time_ms=START_MS + 10_500)
        collector.wait_until(
            lambda: any(bar["is_closed"] for bar in documents(mongodb_database)),
            lambda: f"MongoDB has {documents(mongodb_database)}",
        )
        assert collector.stop() == 0

    whole, _ = documents(mongodb_database)
    assert (whole["trade_count"], whole["is_closed"], whole["version"]) == (2, True, 2)


def test_a_stop_without_a_trade_is_clean(
    exchange: ExchangeSimulator,
    mongodb_database: Database[dict[str, Any]],
    mongodb_uri: str,
    tmp_path: Path,
) -> None:
    with Collector(tmp_path, exchange, to_mongodb(mongodb_uri, mongodb_database.name)) as collector:
        collector.start()
        exchange.wait_for_subscription("btcusdt@trade")

        assert collector.stop() == 0

        assert documents(mongodb_database) == []
        assert collector.messages("ERROR") == []
        assert collector.messages("WARNING") == []


def test_the_connection_is_closed_with_a_word(exchange: ExchangeSimulator, tmp_path: Path) -> None:
    with Collector(tmp_path, exchange) as collector:
        collector.start()
        exchange.wait_for_subscription("btcusdt@trade")

        assert collector.stop() == 0

    exchange.wait_for_connections(0)
    closes = [received.payload for received in exchange.received if received.kind == "close"]
    assert closes == [b"1000"]


def test_it_stops_while_the_exchange_cannot_be_reached(
    exchange: ExchangeSimulator, tmp_path: Path
) -> None:
    exchange.refuse()
    with Collector(tmp_path, exchange) as collector:
        collector.start()
        collector.wait_for_log("next attempt")

        assert collector.stop() == 0


def test_patterns_that_leave_no_symbol_end_it_with_2_and_the_option_s_place(
    exchange: ExchangeSimulator, tmp_path: Path
) -> None:
    none: Sections = {"symbols": {"include": "NOTHING*"}}
    with Collector(tmp_path, exchange, none) as collector:
        collector.start()

        assert collector.wait() == 2

    last = collector.log.splitlines()[-1]
    assert last.startswith(f"bintrades: {collector.ini}: [symbols] include, exclude: no symbol")
    assert "; allowed: " in last


def test_it_collects_and_stops_without_its_log_and_writes_it_again_when_it_can(
    exchange: ExchangeSimulator, tmp_path: Path
) -> None:
    folder = tmp_path / "logs"
    logging: Sections = {"logging": {"file": folder / "bintrades.log"}}
    with Collector(tmp_path, exchange, logging) as collector:
        collect_one_trade(collector, exchange)
        folder.rename(tmp_path / "old")
        folder.write_text("a file where the folder was")
        exchange.cut_all()
        collector.wait_for_log("the log cannot be written")
        exchange.wait_for_subscription("btcusdt@trade")
        exchange.publish("BTCUSDT", "60000.1", "0.5", time_ms=START_MS + 1)
        collector.wait_for_trades(2)
        folder.unlink()

        assert collector.stop() == 0

    assert "stopped" in (folder / "bintrades.log").read_text(encoding="utf-8")
    assert "Traceback" not in collector.log


TALKING = """\
from bintrades import hookimpl

@hookimpl
def store_bars(bars):
    print("bars:", len(bars), flush=True)
"""


@pytest.mark.parametrize("store", ["", "talking"])
def test_bars_are_made_and_a_signal_is_heeded_though_nobody_reads_what_it_says(
    store: str, exchange: ExchangeSimulator, tmp_path: Path
) -> None:
    sections: Sections = {"stores": {"enabled": store, "shutdown_timeout": "1s"}}
    with full_pipe() as unread, Collector(tmp_path, exchange, sections) as collector:
        (collector.plugins / "talking.py").write_text(TALKING)
        collector.start(output=unread)
        exchange.wait_for_subscription("btcusdt@trade")
        for second in range(30):
            exchange.publish("BTCUSDT", "60000.1", "0.5", time_ms=START_MS + second * 1_000)
        collector.wait_until(
            lambda: sum(bar.is_closed for bar in collector.bars().values()) == 2,
            lambda: f"the journal has {collector.bars()}",
        )

        began_at = time.monotonic()
        assert collector.stop() == 0

        assert time.monotonic() - began_at < 20
        assert collector.trade_count() == 30


def test_a_second_signal_hurries_past_a_store_that_hangs(
    exchange: ExchangeSimulator, tmp_path: Path
) -> None:
    patient: Sections = {"stores": {"enabled": "hanging", "shutdown_timeout": "10m"}}
    with Collector(tmp_path, exchange, patient) as collector:
        (collector.plugins / "hanging.py").write_text(HANGING)
        collect_one_trade(collector, exchange)
        collector.send_signal(SIGTERM)
        collector.wait_for_log("stopping")
        began_at = time.monotonic()
        assert collector.stop(SIGTERM) == 0
        assert time.monotonic() - began_at < 5

        assert collector.trade_count() == 1
        assert "what it lacks stays in the journal" in collector.log


def test_a_terminal_that_closes_and_says_so_twice_leaves_a_store_its_time(
    exchange: ExchangeSimulator, tmp_path: Path
) -> None:
    patient: Sections = {"stores": {"enabled": "hanging", "shutdown_timeout": "3s"}}
    with Collector(tmp_path, exchange, patient) as collector:
        (collector.plugins / "hanging.py").write_text(HANGING)
        collect_one_trade(collector, exchange, on_terminal=True)
        began_at = time.monotonic()
        collector.close_terminal()
        collector.wait_for_log("stopping")

        assert collector.stop(SIGHUP) == 0

        assert time.monotonic() - began_at >= 3
        assert collector.trade_count() == 1


def test_without_a_second_signal_a_hanging_store_has_the_time_it_was_given(
    exchange: ExchangeSimulator, tmp_path: Path
) -> None:
    impatient: Sections = {"stores": {"enabled": "hanging", "shutdown_timeout": "500ms"}}
    with Collector(tmp_path, exchange, impatient) as collector:
        (collector.plugins / "hanging.py").write_text(HANGING)
        collect_one_trade(collector, exchange)

        assert collector.stop() == 0

        assert collector.trade_count() == 1
        assert "what it lacks stays in the journal" in collector.log


NEVER_OPEN = """\
import threading
from bintrades import hookimpl

@hookimpl
def open_store(options):
    threading.Event().wait()

@hookimpl
def store_bars(bars):
    raise AssertionError("it was never open")
"""


def test_a_stop_before_any_trade_warns_of_no_bars(
    exchange: ExchangeSimulator, tmp_path: Path
) -> None:
    stores: Sections = {"stores": {"enabled": "never", "shutdown_timeout": "300ms"}}
    with Collector(tmp_path, exchange, stores) as collector:
        (collector.plugins / "never.py").write_text(NEVER_OPEN, encoding="utf-8")
        collector.start()
        exchange.wait_for_subscription("btcusdt@trade")

        assert collector.stop() == 0

        assert collector.messages("WARNING") == []


def test_a_stop_with_bars_that_a_store_has_not_taken_says_so(
    exchange: ExchangeSimulator, tmp_path: Path
) -> None:
    stores: Sections = {"stores": {"enabled": "never", "shutdown_timeout": "300ms"}}
    with Collector(tmp_path, exchange, stores) as collector:
        (collector.plugins / "never.py").write_text(NEVER_OPEN, encoding="utf-8")
        collect_one_trade(collector, exchange)

        assert collector.stop() == 0

        assert "store never has not taken all bars" in collector.log
