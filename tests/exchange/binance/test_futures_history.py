"""Past trades of futures over REST: keys, what is too old, what requests weigh, recorded bodies."""

from __future__ import annotations

import json
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from bintrades.exchange.binance.backfill_plan import (
    AggregatesRequest,
    RecentRequest,
    TradesRequest,
)
from bintrades.exchange.binance.budget import Budget
from bintrades.exchange.binance.coinm import COINM
from bintrades.exchange.binance.past_trades import PastTrades
from bintrades.exchange.binance.rest import RestClient, RestError
from bintrades.exchange.binance.us import US
from bintrades.exchange.binance.usdm import USDM
from bintrades.model import Gap, GapCause, GapSet
from bintrades.util.runtime import SYSTEM
from tests.canned_rest import canned_rest
from tests.networks import system_network
from tests.recordings import sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bintrades.exchange.binance.history import History
    from bintrades.exchange.binance.market import Market
    from tests.canned_rest import CannedRest

NOON = 1_723_118_400_000
BTC = "BTCUSDT"
GAP = Gap(5, 7, NOON, NOON + 1_000, GapCause.RECONNECT)
RECENT = RecentRequest(BTC, GAP)
TRADES = TradesRequest(BTC, GAP, 0, 500)
AGGREGATES = AggregatesRequest(BTC, GAP, None, NOON)
TOO_OLD = '{"code":-4166,"msg":"Search window is restricted to recent 2 days only."}'
NO_KEY = '{"code":-2014,"msg":"API-key format invalid."}'


@pytest.fixture
def exchange() -> Iterator[CannedRest]:
    with canned_rest() as canned:
        yield canned


@contextmanager
def history_of(
    exchange: CannedRest, market: Market = USDM, *, api_key: str = "", stream: str = "trade"
) -> Iterator[History]:
    network = system_network()
    with RestClient(exchange.url, market, network, api_key=api_key) as rest:
        budget = Budget(market.weight_per_minute, 50)
        stream_of = market.stream(stream)
        history = market.make_history(market, stream_of, rest, budget, 10**9, SYSTEM)
        history.plan.update(GapSet(BTC, (GAP,)), 0)
        history.plan.next_request(10**12, NOON)
        yield history  # type: ignore[misc]


def row(trade_id: int) -> dict[str, object]:
    return {
        "id": trade_id,
        "price": "1.5",
        "qty": "2",
        "quoteQty": "3",
        "time": NOON,
        "isBuyerMaker": False,
    }


@pytest.mark.parametrize(
    ("market", "weights"),
    [(USDM, (5, 200, 20)), (COINM, (5, 200, 20)), (US, (1, 5, 1))],
    ids=lambda value: getattr(value, "name", ""),
)
def test_requests_weigh_what_the_exchange_says(
    exchange: CannedRest, market: Market, weights: tuple[int, int, int]
) -> None:
    with history_of(exchange, market) as history:
        asked = (RECENT, TRADES, AGGREGATES)
        assert tuple(history.weight(request) for request in asked) == weights


def test_the_newest_trades_are_asked_for_without_the_key_and_the_old_ones_with_it(
    exchange: CannedRest,
) -> None:
    exchange.serve("/fapi/v1/trades", lambda _: [row(8)])
    exchange.serve("/fapi/v1/historicalTrades", lambda _: [row(4), row(6), row(8)])
    with history_of(exchange, api_key="secret") as history:
        history.fetch(RECENT)
        result = history.fetch(TRADES)

    assert [each.first_id for each in result.ranges] == [6]
    assert list(result.excluded) == [(5, 5), (7, 7)]
    newest, old = exchange.asked
    assert (newest.headers.get("X-MBX-APIKEY"), old.headers.get("X-MBX-APIKEY")) == (None, "secret")
    assert newest.params == {"symbol": BTC, "limit": "1000"}
    assert old.params == {"symbol": BTC, "fromId": "0", "limit": "500"}


def test_times_and_numbers_of_aggregates_are_never_asked_for_together(
    exchange: CannedRest,
) -> None:
    exchange.serve("/fapi/v1/aggTrades", lambda _: [])
    with history_of(exchange) as history:
        history.fetch(AGGREGATES)
        history.fetch(AggregatesRequest(BTC, GAP, 7, None))

    assert [sorted(asked.params) for asked in exchange.asked] == [
        ["limit", "startTime", "symbol"],
        ["fromId", "limit", "symbol"],
    ]


def test_what_the_exchange_calls_too_old_is_an_answer_and_no_failure(exchange: CannedRest) -> None:
    exchange.put("/fapi/v1/aggTrades", TOO_OLD, 400)
    with history_of(exchange) as history:
        result = history.fetch(AGGREGATES)

    assert result.abandoned_through == GAP.last_id
    assert result.error == "the exchange tells no trades of then any more: they are too old"


@pytest.mark.parametrize("market", [USDM, US], ids=lambda market: market.name)
def test_a_refused_key_is_said_once_in_the_log(
    exchange: CannedRest, market: Market, caplog: pytest.LogCaptureFixture
) -> None:
    exchange.put(market.historical_trades.path, NO_KEY, 401)
    with history_of(exchange, market, api_key="wrong") as history, caplog.at_level(logging.WARNING):
        for _ in range(2):
            with pytest.raises(RestError, match="-2014"):
                history.fetch(TRADES)

    said = [record for record in caplog.records if "cannot be had singly" in record.message]
    assert len(said) == 1
    assert "wrong" not in caplog.text


def test_a_stream_of_aggregates_asks_for_aggregates_at_once(exchange: CannedRest) -> None:
    with history_of(exchange, stream="aggTrade") as history:
        history.plan.put_back(AGGREGATES)

        assert isinstance(history.plan.next_request(10**12, NOON), AggregatesRequest)


def test_recorded_old_trades_of_usdm_go_around_the_ids_that_are_no_fills(
    exchange: CannedRest,
) -> None:
    body = sample("usdm_rest_historicalTrades_20260916_holes.json").read_text()
    exchange.put("/fapi/v1/historicalTrades", body)
    first, last = (json.loads(body)[place]["id"] for place in (0, -1))
    gap = Gap(first, last, NOON, NOON + 1_000, GapCause.RECONNECT)
    with history_of(exchange, api_key="any") as history:
        history.plan.update(GapSet(BTC, (gap,), (), 9), 0)
        result = history.fetch(TradesRequest(BTC, gap, first, 500))

    had = {each.first_id for each in result.ranges}
    excluded = {i for low, high in result.excluded for i in range(low, high + 1)}
    assert had == {each["id"] for each in json.loads(body)}
    assert had | excluded == set(range(first, last + 1))
    assert 8_086_998_619 in excluded


def test_recorded_aggregates_of_usdm_are_numbered_without_a_hole(exchange: CannedRest) -> None:
    body = sample("usdm_rest_aggtrades_20260917.json").read_text()
    exchange.put("/fapi/v1/aggTrades", body)
    with RestClient(exchange.url, USDM, system_network()) as rest:
        page = PastTrades(rest, USDM).page_from(BTC, start_ms=0)

    assert [each.id for each in page] == list(range(page[0].id, page[0].id + len(page)))
    assert len(page) == len(json.loads(body))
    assert all(each.trades is not None for each in page)


def test_recorded_newest_trades_of_coinm_are_read(exchange: CannedRest) -> None:
    (body, *_) = json.loads(sample("coinm_rest_trades_btcusd_perp.json").read_text())
    exchange.put("/dapi/v1/trades", json.dumps(body))
    with RestClient(exchange.url, COINM, system_network()) as rest:
        trades = PastTrades(rest, COINM).recent("BTCUSD_PERP")

    assert [each.first_id for each in trades] == sorted(each["id"] for each in body)
    assert str(trades[0].quantity) == body[0]["qty"]


def test_the_recorded_refusal_of_coinm_without_a_key_is_understood(exchange: CannedRest) -> None:
    body = sample("coinm_rest_historicalTrades_without_key.json").read_text()
    exchange.put("/dapi/v1/historicalTrades", body, 401)
    with history_of(exchange, COINM, api_key="any") as history:
        with pytest.raises(RestError, match="API-key format invalid"):
            history.fetch(TRADES)

        assert history.plan.key_problem is not None
