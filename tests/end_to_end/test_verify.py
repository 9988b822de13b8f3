"""`bintrades verify` as users run it, while the collector goes on."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from bintrades.core.spans import has
from bintrades.model import utc
from bintrades.testing.bars import OPEN_TIME_MS
from bintrades.util.clocks import utc_ms
from tests.end_to_end.collector import Collector
from tests.end_to_end.small_market import MINUTE, SYMBOLS, SmallMarket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from subprocess import CompletedProcess
    from typing import Any

    from pymongo.database import Database

    from bintrades.testing.exchange_simulator import ExchangeSimulator
    from tests.end_to_end.stage import Stage

BTC = "BTCUSDT"
MIDNIGHT = OPEN_TIME_MS + 86_400_000
SPAN = ("--since", "2024-08-08T23:55", "--until", "2024-08-09T00:05")
WHOLE = (MIDNIGHT - 5 * MINUTE, MIDNIGHT + 5 * MINUTE)
WRONG = MIDNIGHT - 100_000
"""2024-08-08 23:58:20."""


def verify(collector: Collector, *arguments: str) -> CompletedProcess[str]:
    """Run the command beside the collector."""
    return collector.command("verify", *SPAN, *arguments)


def is_covered(collector: Collector) -> bool:
    """Whether all of both symbols is proven."""
    found = [collector.journal.coverage(symbol) for symbol in SYMBOLS]
    return all(each is not None and has(each.coverage.spans, WHOLE) for each in found)


@pytest.fixture
def market(exchange: ExchangeSimulator) -> SmallMarket:
    """Return one of this hour: of its klines, those of the last minutes may be revised."""
    return SmallMarket(exchange, utc_ms() // MINUTE * MINUTE - 30 * MINUTE)


@pytest.fixture
def collected(market: SmallMarket, tmp_path: Path) -> Iterator[Collector]:
    """Return a collector that has all of the small market, and has stopped."""
    sections = {"repair": {"enabled": "yes"}, "audit": {"enabled": "no"}}
    with Collector(tmp_path, market.exchange, sections) as collector:
        market.have_collected(collector)
        yield collector


def verify_ten_minutes(collector: Collector, market: SmallMarket) -> tuple[int, dict[str, Any]]:
    """Return the exit status, and all that is said of ten minutes of both symbols."""
    span = [utc(market.minute(number)).isoformat() for number in (0, 10)]
    done = collector.command("verify", "--json", "--since", span[0], "--until", span[1])
    return done.returncode, json.loads(done.stdout)


def test_of_klines_that_are_late_revised_or_missing_nothing_untrue_is_said(
    collected: Collector, market: SmallMarket
) -> None:
    exchange = market.exchange
    exchange.kline_faults(without=range(market.minute(9), market.minute(60), MINUTE))
    late = verify_ten_minutes(collected, market)
    exchange.kline_faults(
        without={market.minute(3)}, late_trades=market.trades_from(8), late_answers=1
    )
    revised = verify_ten_minutes(collected, market)

    for (status, said), equal, not_checked in (
        (late, 3, {"too recent": 7}),  # with the newest klines five minutes have passed, no more
        (revised, 9, {"no kline": 1}),
    ):
        assert status == 0
        assert said["differences"] == []
        for each in said["symbols"]:
            assert (each["equal_seconds"], each["different_seconds"]) == (60 * equal, 0)
            assert each["not_checked_seconds"] == {
                reason: 60 * minutes for reason, minutes in not_checked.items()
            }


def test_where_klines_are_in_error_nothing_is_compared_which_is_a_failure_where_all_of_it_is(
    collected: Collector, market: SmallMarket
) -> None:
    odd = f'[[{market.minute(0)},"1","1","1","1","1",1,"1",1,"1","1","0"]]'
    for status, body in [(500, "oops"), (200, "[[1723161600000,"), (200, odd), (0, "")]:
        market.exchange.rest_answer(status, {}, body, path="klines")
    some = verify_ten_minutes(collected, market)
    market.exchange.rest_answer(503, {}, "oops", 100, path="klines")
    none = verify_ten_minutes(collected, market)

    silence = {"no answer": 600}
    for (status, said), expected, compared in ((some, 0, [0, 600]), (none, 1, [0, 0])):
        assert status == expected
        assert said["differences"] == []
        assert [each["equal_seconds"] for each in said["symbols"]] == compared
        for each in said["symbols"]:
            assert each["different_seconds"] == 0
            assert each["not_checked_seconds"] == ({} if each["equal_seconds"] else silence)
    assert "503" in none[1]["total"]["last_error"]


def test_a_wrong_bar_is_found_and_repaired_while_the_collector_runs(
    stage: Stage, mongodb_database: Database[dict[str, Any]]
) -> None:
    with stage.collector({"audit": {"enabled": "no"}}) as collector:
        stage.start(collector)
        stage.send_rest()
        stage.wait_until_whole(collector)
        collector.wait_until(
            lambda: is_covered(collector), lambda: collector.command("coverage").stdout
        )
        equal = verify(collector, "--json")
        assert equal.returncode == 0
        assert json.loads(equal.stdout)["total"]["equal_seconds"] == 2 * 600
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
