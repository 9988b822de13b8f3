"""A bar is called complete only once it is proven, whatever happens before, and says so till then.

The exchange's word is worth something only for what is five seconds older, and it is asked for
every ten: here these pass more quickly, on the clocks of both sides.
"""

from __future__ import annotations

from signal import SIGKILL, SIGTERM
from typing import TYPE_CHECKING, Any

import pytest

from tests.end_to_end.machine.sitecustomize import SPEED
from tests.end_to_end.market import BAR_COUNT, assert_same_bars, documents, in_the_trades
from tests.end_to_end.stage import let_pass

if TYPE_CHECKING:
    from collections.abc import Callable
    from signal import Signals

    from pymongo.database import Database

    from bintrades.testing.exchange_simulator import ExchangeSimulator
    from tests.end_to_end.collector import Collector
    from tests.end_to_end.market import Fields
    from tests.end_to_end.stage import Stage

LOST = 300
SYMBOLS = ("BTCUSDT", "ETHUSDT")
FASTER = 10
FAST = {SPEED: str(FASTER)}
STALL_S = 8.0 / FASTER


@pytest.fixture(autouse=True)
def fast_exchange(exchange: ExchangeSimulator) -> None:
    exchange.rest.clock_speed = FASTER


def last_bars(database: Database[Fields]) -> dict[str, Fields]:
    """Return the newest bar of each symbol that MongoDB has."""
    return {bar["symbol"]: bar for bar in documents(database)}


def wait_for_last_bars(
    collector: Collector, database: Database[Fields], holds: Callable[[Fields], bool]
) -> None:
    """Wait until MongoDB has the last bar of both symbols, and this is true of either."""
    collector.wait_until(
        lambda: len(bars := last_bars(database)) == 2 and all(map(holds, bars.values())),
        lambda: f"the last bars are {last_bars(database)}",
    )


def wait_for_proofs(collector: Collector, database: Database[Fields]) -> None:
    """Wait until MongoDB has every bar of the recording, all of them proven."""
    collector.wait_until(
        lambda: sum(map(is_proven, documents(database))) == BAR_COUNT,
        lambda: f"the last bars are {last_bars(database)}",
    )


def is_unproven(bar: Fields) -> bool:
    return bool(bar["is_closed"]) and not bar["is_complete"]


def is_proven(bar: Fields) -> bool:
    return bool(bar["is_closed"] and bar["is_complete"])


def assert_all_proven(stage: Stage, database: Database[Fields]) -> None:
    """Assert that every bar is closed, complete and exact."""
    stored = documents(database)
    assert_same_bars(in_the_trades(stored), stage.bars)
    assert [bar for bar in stored if not is_proven(bar)] == []


@pytest.mark.parametrize("ending", [None, SIGTERM, SIGKILL])
def test_the_last_trades_that_happen_while_nothing_can_connect_are_found_in_the_silence_after(
    ending: Signals | None, stage: Stage, mongodb_database: Database[dict[str, Any]]
) -> None:
    exchange = stage.exchange
    with stage.collector(environ=FAST) as collector:
        stage.start(collector)
        stage.send(len(stage.frames) - stage.played - LOST)
        stage.wait_until_whole(collector)
        exchange.refuse()
        exchange.cut_all()
        stage.lose(LOST)
        exchange.ticker_faults(without=SYMBOLS)
        exchange.accept()
        wait_for_last_bars(collector, mongodb_database, is_unproven)
        before = last_bars(mongodb_database)
        assert sum(bar["trade_count"] for bar in before.values()) < sum(
            stage.bars[symbol, bar["open_time"]]["trade_count"] for symbol, bar in before.items()
        )

        exchange.ticker_faults()
        if ending is not None:
            collector.send_signal(ending)
            assert collector.wait() == (0 if ending is SIGTERM else -SIGKILL)
            stage.start(collector)
        wait_for_proofs(collector, mongodb_database)
        stage.wait_until_whole(collector)
        assert collector.stop() == 0

    assert_all_proven(stage, mongodb_database)
    for symbol, bar in last_bars(mongodb_database).items():
        if bar["open_time"] == before[symbol]["open_time"]:
            assert bar["version"] > before[symbol]["version"]


def test_a_server_that_stalls_and_goes_on_has_no_bar_called_complete_too_early(
    stage: Stage, mongodb_database: Database[dict[str, Any]]
) -> None:
    """The clock carried forward closes the bars; the watcher looks at what they say meanwhile."""
    exchange = stage.exchange
    exchange.ticker_faults(without=SYMBOLS)
    with stage.collector(environ=FAST) as collector:
        stage.start(collector)
        stage.send(len(stage.frames) - stage.played - LOST)
        stage.wait_until_seen(collector)
        exchange.stall()
        late = stage.frames[stage.played :]
        stage.lose(LOST)
        let_pass(STALL_S, collector)
        wait_for_last_bars(collector, mongodb_database, is_unproven)
        exchange.resume()
        exchange.play(late)
        stage.wait_until_whole(collector)
        exchange.ticker_faults()
        wait_for_proofs(collector, mongodb_database)
        assert collector.stop() == 0

    assert_all_proven(stage, mongodb_database)


def test_a_host_without_a_ticker_leaves_the_bars_of_quiet_symbols_unproven_and_this_is_said(
    stage: Stage, mongodb_database: Database[dict[str, Any]]
) -> None:
    stage.exchange.ticker_faults(is_offered=False)
    with stage.collector(environ=FAST) as collector:
        stage.start(collector)
        stage.send_rest()
        collector.wait_for_log("newest_ids_failed")
        stage.wait_until_whole(collector)
        wait_for_last_bars(collector, mongodb_database, is_unproven)
        collector.wait_until(
            lambda: "404" in (collector.status()["repair"]["proof_error"] or ""),
            lambda: f"the status is {collector.status()}",
        )
        assert collector.status()["unproven_symbols"] == 2
        page = collector.command("status").stdout
        assert "2 symbols have a closed bar that is not proven to be whole yet" in page
        assert "the exchange does not say which trades are its newest: GET " in page
        assert collector.stop() == 0

    last = last_bars(mongodb_database)
    for bar in documents(mongodb_database):
        assert bar["is_complete"] is (bar["open_time"] != last[bar["symbol"]]["open_time"])
