"""A collector that compares its bars with the exchange's klines while it collects.

It waits minutes before it looks, and again before it concludes anything. No option shortens that;
on a machine whose clock goes faster they are seconds.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from bintrades.core.spans import clipped, has
from bintrades.model import utc
from tests.end_to_end.collector import Collector, to_mongodb
from tests.end_to_end.machine.sitecustomize import SPEED
from tests.end_to_end.market import assert_same_bars, documents, in_the_trades
from tests.end_to_end.small_market import MINUTE, SYMBOLS, SmallMarket
from tests.end_to_end.stage import machine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pymongo.database import Database

    from bintrades.core.spans import Span
    from bintrades.testing.exchange_simulator import ExchangeSimulator
    from tests.end_to_end.collector import Sections
    from tests.end_to_end.market import Fields
    from tests.end_to_end.stage import Stage

BTC, ETH = SYMBOLS
MIDNIGHT = 1_723_161_600_000
FIRST, LAST = MIDNIGHT - 5 * MINUTE, MIDNIGHT + 4 * MINUTE
"""The recording has these minutes whole, the last of them with all that proves it."""

COMPARED = 10
"""Minutes of the small market that are looked at: old enough when the audit starts."""

FAST = machine({SPEED: "400"})
WITHOUT_AUDIT: Sections = {
    "audit": {"enabled": "no"},
    "proof": {"every": "1h"},
    "binance": {"silence_timeout": "1h"},
}
BAD_ANSWERS: list[tuple[int, bytes]] = [
    (500, b"<html>oops</html>"),
    (503, b'{"code":-1008,"msg":"Server is currently overloaded."}'),
    (200, b""),
    (200, b'[[1723161600000,"2000.5","2006.5"'),
    (200, b'{"code":0}'),
    (200, b"[[1]]"),
    (200, b'[[1,"1","1","1","1","1",60000,"1",1,"1","1","0"]]'),
    (200, b'[[1723161600000,"x","1","1","1","1",1723161659999,"1",1,"1","1","0"]]'),
    (0, b""),
]


@pytest.fixture
def market(exchange: ExchangeSimulator) -> SmallMarket:
    return SmallMarket(exchange, MIDNIGHT)


@pytest.fixture
def collector(
    market: SmallMarket,
    mongodb_uri: str,
    mongodb_database: Database[Fields],
    tmp_path: Path,
) -> Iterator[Collector]:
    """Return one that has collected the small market, has stopped, and would audit now."""
    store = to_mongodb(mongodb_uri, mongodb_database.name)
    repairing: Sections = {"repair": {"enabled": "yes"}}
    with Collector(tmp_path, market.exchange, store, repairing, WITHOUT_AUDIT) as collector:
        market.have_collected(collector)
        have_audited(collector)
        yield collector
        assert [bar for bar in documents(mongodb_database) if bar["epoch"]] == []


def have_audited(collector: Collector) -> None:
    """Have the next start audit, on a faster machine."""
    collector.configure({"audit": {"enabled": "yes"}}, environ=FAST)


def wait_for_verified(collector: Collector, market: SmallMarket, *minutes: Span) -> None:
    """Wait until exactly these minutes of either symbol are verified, as far as it is looked at."""
    expected = [(market.minute(first), market.minute(end)) for first, end in minutes]

    def verified() -> list[list[Span]]:
        within = market.since_ms, market.minute(COMPARED)
        return [clipped(collector.journal.verified(symbol), *within) for symbol in SYMBOLS]

    collector.wait_until(
        lambda: verified() == [expected] * 2, lambda: f"{verified()} instead of {expected}"
    )


def assert_nothing_untrue(collector: Collector, market: SmallMarket, verified_minutes: int) -> None:
    """Assert that the commands show so much verified, and nothing that is wrong or was rebuilt."""
    until = utc(market.minute(COMPARED)).isoformat()
    shown = json.loads(collector.command("coverage", "--json", "--until", until).stdout)
    assert [each["symbol"] for each in shown] == [*SYMBOLS]
    for each in shown:
        (span,) = each["spans"]
        assert span["verified_seconds"] == 60 * verified_minutes
    status = json.loads(collector.command("status", "--json").stdout)
    assert status["audit"]["differences"] == {"open": 0, "repaired": 0, "stays": 0}
    audit = status["collector"]["audit"]
    assert (audit["differences"], audit["rebuilt_bars"]) == (0, 0)
    assert collector.command("differences").stdout == "no differences\n"


def kline_requests(exchange: ExchangeSimulator) -> list[tuple[int, int, int]]:
    """Return the time that each request for klines was about, and its status."""
    return [
        (int(each.query["startTime"]), int(each.query["endTime"]) + 1, each.status)
        for each in exchange.rest_requests
        if each.path.endswith("klines")
    ]


def spoil(collector: Collector, statement: str, symbol: str, open_time: int) -> None:
    """Have a bar of the journal in use be wrong, as no writer would make it."""
    with closing(sqlite3.connect(collector.journal.path, timeout=30)) as connection, connection:
        key = {"symbol": symbol, "open_time": open_time}
        where = "WHERE symbol = :symbol AND open_time = :open_time"
        assert connection.execute(f"{statement} {where}", key).rowcount == 1


def test_bars_that_go_wrong_in_a_journal_in_use_are_found_rebuilt_and_delivered(
    stage: Stage, mongodb_database: Database[Fields]
) -> None:
    lose_trade = "UPDATE bars SET trade_count = trade_count - 1, last_trade_id = last_trade_id - 1"
    wrong = {
        (BTC, FIRST + 10_000): "UPDATE bars SET quantity = '0.5'",
        (BTC, MIDNIGHT): lose_trade,
        (BTC, MIDNIGHT + 30_000): "DELETE FROM bars",  # in the same minute
        (ETH, LAST - 10_000): "UPDATE bars SET max_price = '9999999'",
    }
    with stage.collector(WITHOUT_AUDIT) as collector:
        stage.start(collector)
        stage.send_rest()
        stage.wait_until_whole(collector)
        for (symbol, open_time), statement in wrong.items():
            spoil(collector, statement, symbol, open_time)
        assert collector.stop() == 0

        # Another symbol shows that it is late enough for all of these minutes.
        stage.exchange.list_symbol("BNBUSDT")
        stage.exchange.record("BNBUSDT", "500", "1", time_ms=LAST + 10 * MINUTE)
        have_audited(collector)
        collector.start()
        collector.wait_until(
            lambda: all(has(collector.journal.verified(each), (FIRST, LAST)) for each in SYMBOLS),
            lambda: f"verified: {[collector.journal.verified(each) for each in SYMBOLS]}",
        )
        collector.wait_until(
            lambda: mongodb_database["bars"].count_documents({"epoch": 1}) == len(wrong),
            lambda: "MongoDB has not got the bars that were made again",
        )
        found = json.loads(collector.command("differences", "--json").stdout)
        assert collector.stop() == 0
        assert collector.messages("ERROR") == []

    keys = {(symbol, utc(open_time)) for symbol, open_time in wrong}
    assert {(each["symbol"], datetime.fromisoformat(each["open_time"])) for each in found} == keys
    assert {each["outcome"] for each in found} == {"repaired"}
    again = [bar for bar in documents(mongodb_database) if bar["epoch"]]
    assert {(bar["epoch"], bar["is_closed"], bar["is_complete"]) for bar in again} == {
        (1, True, True)
    }
    assert_same_bars(in_the_trades(again), {key: stage.bars[key] for key in keys})
    assert_same_bars(in_the_trades(documents(mongodb_database)), stage.bars)


def test_of_klines_that_are_late_revised_or_missing_nothing_untrue_is_concluded(
    collector: Collector, market: SmallMarket
) -> None:
    exchange = market.exchange
    missing, late = market.minute(3), market.minute(5)
    exchange.kline_faults(
        without={missing, late}, late_trades=market.trades_from(8), late_answers=len(SYMBOLS)
    )

    collector.start()
    wait_for_verified(collector, market, (0, 3), (4, 5), (6, COMPARED))
    revised = (market.minute(8), market.minute(9), 200)
    assert kline_requests(exchange).count(revised) >= len(SYMBOLS), "they differed at first"
    assert_nothing_untrue(collector, market, COMPARED - 2)

    exchange.kline_faults(without={missing})
    wait_for_verified(collector, market, (0, 3), (4, COMPARED))
    assert_nothing_untrue(collector, market, COMPARED - 1)
    assert collector.stop() == 0


def test_of_bad_answers_nothing_is_concluded_and_bars_are_verified_after_them(
    collector: Collector, market: SmallMarket
) -> None:
    exchange = market.exchange
    for status, body in BAD_ANSWERS:
        exchange.rest_answer(status, {}, body, path="klines")

    collector.start()
    collector.wait_until(
        lambda: any(collector.journal.verified(symbol) for symbol in SYMBOLS),
        lambda: f"nothing is verified: {collector.status()}",
    )
    statuses = [status for _, _, status in kline_requests(exchange)]
    assert statuses[:-1][: len(BAD_ANSWERS)] == [status for status, _ in BAD_ANSWERS]
    assert "bars cannot be compared with the exchange's klines now" in collector.log
    wait_for_verified(collector, market, (0, COMPARED))
    assert_nothing_untrue(collector, market, COMPARED)
    assert collector.stop() == 0
