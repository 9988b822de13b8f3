"""Lost trades are fetched over REST, however badly that side behaves; what is not is on record."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tests.end_to_end.machine.sitecustomize import SPEED
from tests.end_to_end.market import assert_same_bars, documents, in_the_trades
from tests.end_to_end.stage import STREAMS, missing, trade_requests

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pymongo.database import Database

    from bintrades.model import Gap
    from bintrades.testing.exchange_simulator import ExchangeSimulator
    from tests.end_to_end.collector import Collector
    from tests.end_to_end.stage import Stage

FAR_AWAY = (
    b'[{"id":9000000000,"price":"1.0","qty":"1.0","quoteQty":"1.0","time":1723161255343,'
    b'"isBuyerMaker":true,"isBestMatch":true}]'
)
BAD_ANSWERS: list[tuple[int, dict[str, str], bytes]] = [
    (500, {}, b"<html>oops</html>"),
    (502, {"Content-Type": "text/html"}, b""),
    (503, {}, b'{"code":-1008,"msg":"Server is currently overloaded."}'),
    (400, {}, b'{"code":-1121,"msg":"Invalid symbol."}'),
    (404, {}, b""),
    (302, {"Location": "/elsewhere"}, b""),
    (200, {}, b""),
    (200, {}, b"["),
    (200, {}, b"null"),
    (200, {}, b'{"code":0}'),
    (200, {}, b"\xff\xfe\x00"),
    (200, {}, b'[{"id":"x"}]'),
    (200, {}, b"[]"),
    (200, {}, FAR_AWAY),
    (0, {}, b""),
]


def test_no_bad_answer_keeps_lost_trades_from_being_fetched(stage: Stage) -> None:
    for status, headers, body in BAD_ANSWERS:
        stage.exchange.rest_answer(status, headers, body, path="Trades")
    with stage.collector() as collector:
        stage.start(collector)
        for _ in range(15):
            stage.send(1_700)
            stage.lose(300)
        stage.send_rest()
        stage.wait_until_whole(collector)
        statuses = [request.status for request in trade_requests(stage.exchange)]
        assert collector.stop() == 0
        assert collector.messages("ERROR") == []

    assert statuses[: len(BAD_ANSWERS)] == [status for status, _, _ in BAD_ANSWERS]
    stage.assert_stored()


def test_refusals_are_obeyed_for_as_long_as_the_exchange_says_across_a_restart(
    stage: Stage,
) -> None:
    stage.exchange.rest_answer(429, {"Retry-After": "2"}, b'{"code":-1003}', path="Trades")
    stage.exchange.rest_answer(418, {"Retry-After": "3"}, b'{"code":-1003}', path="Trades")
    with stage.collector() as collector:
        stage.start(collector)
        stage.send(10_000)
        stage.lose(10_000)
        stage.send(10_000)
        collector.wait_until(
            lambda: len(trade_requests(stage.exchange)) == 2, lambda: "not asked again"
        )
        assert collector.stop() == 0
        stage.start(collector)
        stage.send_rest()
        stage.wait_until_whole(collector)
        assert collector.stop() == 0

    slow_down, banned, answered = trade_requests(stage.exchange)[:3]
    assert [slow_down.status, banned.status, answered.status] == [429, 418, 200]
    assert banned.time_s - slow_down.time_s >= 2
    assert answered.time_s - banned.time_s >= 3
    stage.assert_stored()


@pytest.mark.parametrize("status", [403, 451])
def test_where_rest_is_closed_bars_are_incomplete_until_a_start_finds_it_open(
    status: int, stage: Stage, mongodb_database: Database[dict[str, Any]]
) -> None:
    stage.exchange.rest_answer(status, {}, b"<html>no</html>", path="Trades")
    with stage.collector() as collector:
        stage.start(collector)
        stage.send(10_000)
        stage.lose(300)
        stage.send(20_000)
        stage.wait_until_seen(collector)
        collector.wait_until(
            lambda: any(gap.attempts for gap in missing(collector)), lambda: "no gap was asked for"
        )
        assert collector.stop() == 0
        assert [request.status for request in trade_requests(stage.exchange)] == [status]
        assert_only_bars_with_gaps_are_incomplete(stage, mongodb_database, collector)
        assert f"{status} " in collector.command("gaps").stdout
        page = collector.command("status").stdout
        assert re.search(rf"\nrepair .*; no requests until .* UTC: GET .*: {status} ", page)

        stage.start(collector)
        stage.send_rest()
        stage.wait_until_whole(collector)
        assert collector.stop() == 0
        states = {row["state"] for row in json.loads(collector.command("gaps", "--json").stdout)}

    stage.assert_stored()
    assert states == {"repaired"}


def assert_only_bars_with_gaps_are_incomplete(
    stage: Stage, database: Database[dict[str, Any]], collector: Collector
) -> None:
    gaps = collector.journal.gaps()
    assert {gap.cause for gap in missing(collector)} == {"start", "skipped"}
    assert_only_these_are_incomplete(documents(database), gaps)


def assert_only_these_are_incomplete(
    stored: list[dict[str, Any]], gaps: Mapping[str, Sequence[Gap]]
) -> None:
    """Assert that all bars are complete but those with a gap, and the last ones: no later trade."""
    last = {bar["symbol"]: bar["open_time"] for bar in stored}
    for bar in stored:
        has_gap = any(touches(gap, bar) for gap in gaps[bar["symbol"]])
        is_last = bar["open_time"] == last[bar["symbol"]]
        assert bar["is_complete"] is not (has_gap or is_last), bar


def touches(gap: Gap, bar: dict[str, Any]) -> bool:
    """Whether an id of the gap may be a trade of the bar."""
    open_ms = int(bar["open_time"].timestamp() * 1000)
    return gap.since_ms < open_ms + 10_000 and gap.until_ms >= open_ms


def test_trades_that_rest_does_not_have_yet_are_waited_for(stage: Stage) -> None:
    with stage.collector() as collector:
        stage.start(collector)
        stage.send(30_000)
        stage.exchange.rest_lag(3_000)
        stage.lose(1_000)
        stage.send_rest()
        collector.wait_until(
            lambda: any(gap.attempts > 1 for gap in missing(collector)), lambda: "not asked again"
        )
        stage.exchange.rest_lag(0)
        stage.wait_until_whole(collector)
        assert collector.stop() == 0

    stage.assert_stored()


def test_a_slow_rest_side_delays_no_live_bar(stage: Stage) -> None:
    stage.exchange.rest_delay(3.0)
    with stage.collector() as collector:
        collector.start()
        stage.exchange.wait_for_subscription(*STREAMS)
        stage.send(20_000)
        stage.lose(100)
        stage.send(10_000)
        stage.wait_until_seen(collector)
        assert trade_requests(stage.exchange) == []
        stage.exchange.rest_delay(0.2)
        stage.send_rest()
        stage.wait_until_whole(collector)
        assert collector.stop() == 0

    stage.assert_stored()


def test_ids_that_the_exchange_never_gave_to_a_trade_leave_the_bar_complete(
    exchange: ExchangeSimulator, stage: Stage, mongodb_database: Database[dict[str, Any]]
) -> None:
    exchange.list_symbol("BNBUSDT")
    start_ms = 1_723_248_000_000  # after the recorded trades: the exchange has one clock
    with stage.collector({"symbols": {"include": "BNBUSDT"}}, environ={SPEED: "240"}) as collector:
        collector.start()
        exchange.wait_for_subscription("bnbusdt@trade")
        exchange.publish("BNBUSDT", "500", "1", time_ms=start_ms)
        exchange.skip_ids("BNBUSDT", 3)
        exchange.publish("BNBUSDT", "501", "1", time_ms=start_ms + 1)
        exchange.publish("BNBUSDT", "502", "1", time_ms=start_ms + 10_000)  # proves the bar before
        collector.wait_until(
            lambda: bool(collector.bars()) and not missing(collector),
            lambda: f"gaps {missing(collector)}",
        )
        assert collector.stop() == 0
        (absent,) = collector.journal.past_gaps("BNBUSDT")

    bar, _ = documents(mongodb_database)
    assert (absent.outcome, absent.gap.size) == ("absent", 3)
    assert (bar["trade_count"], bar["is_complete"]) == (2, True)
    assert bar["quantity"] == Decimal(2)


def test_what_is_older_than_the_configured_age_is_given_up_on_record(
    stage: Stage, mongodb_database: Database[dict[str, Any]]
) -> None:
    with stage.collector({"repair": {"max_age": "2m"}}) as collector:
        stage.start(collector)
        stage.send(5_000)
        stage.wait_until_seen(collector)
        assert collector.stop() == 0
        stage.lose(24_000)
        stage.start(collector)
        stage.send_rest()
        stage.wait_until_seen(collector)
        collector.wait_until(
            lambda: all(gap.is_abandoned for gap in missing(collector)),
            lambda: f"gaps {missing(collector)}",
        )
        assert collector.stop() == 0
        gaps = collector.journal.gaps()

    assert {gap.cause for gap in gaps["BTCUSDT"]} == {"start", "restart"}
    stored = documents(mongodb_database)
    assert_only_these_are_incomplete(stored, gaps)
    complete = in_the_trades(bar for bar in stored if bar["is_complete"])
    end = max(open_time for _, open_time in stage.bars)
    recent = {key for key in stage.bars if timedelta(0) < end - key[1] < timedelta(minutes=2)}
    assert complete.keys() >= recent
    assert_same_bars(complete, {key: stage.bars[key] for key in complete})
    assert len(stored) < len(stage.bars)
