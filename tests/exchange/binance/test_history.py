"""The plan's requests made over REST: what they cost, and what their failures mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bintrades.exchange.binance.backfill_plan import (
    AggregatesRequest,
    BackfillPlan,
    TradesRequest,
)
from bintrades.exchange.binance.budget import Budget
from bintrades.exchange.binance.history import History
from bintrades.exchange.binance.rest import RestClient, RestError
from bintrades.exchange.binance.spot import SPOT
from bintrades.model import Gap, GapCause, GapSet
from bintrades.testing.exchange_simulator import ExchangeSimulator
from bintrades.util.backoff import Backoff
from tests.networks import system_network

if TYPE_CHECKING:
    from collections.abc import Iterator

NOON = 1_723_118_400_000
BTC = "BTCUSDT"
GAP = Gap(5, 7, NOON, NOON + 1_000, GapCause.RESTART)
TRADES = TradesRequest(BTC, GAP, 4, 5)
LATER = 60_000
"""When every wait is over, and the gaps are old enough to be asked about."""


@pytest.fixture
def exchange() -> Iterator[ExchangeSimulator]:
    with ExchangeSimulator([BTC], first_trade_id=0) as simulator:
        yield simulator


@pytest.fixture
def history(exchange: ExchangeSimulator) -> Iterator[History]:
    plan = BackfillPlan(SPOT, 3_600_000, lambda: Backoff(1.0, 300.0))
    with RestClient(exchange.rest_url, SPOT, system_network()) as rest:
        yield History(rest, SPOT, plan, Budget(SPOT.weight_per_minute, 50), lambda: LATER)


def test_requests_cost_what_the_exchange_says(history: History) -> None:
    assert history.weight(TRADES) == 25
    assert history.weight(AggregatesRequest(BTC, GAP, 1, None)) == 4
    assert [history.newest_ids_weight(count) for count in (1, 20, 21, 100, 101, 3_000)] == [
        2,
        2,
        40,
        40,
        80,
        80,
    ]


def test_an_answer_is_what_the_plan_makes_of_it(
    exchange: ExchangeSimulator, history: History
) -> None:
    for number in range(9):
        exchange.record(BTC, "7", "1", time_ms=NOON + number)

    result = history.fetch(TRADES)

    assert (result.gap, [each.first_id for each in result.ranges]) == (GAP, [5, 6, 7])


@pytest.mark.parametrize(
    ("status", "body"), [(404, "{}"), (401, '{"code":-2014,"msg":"API-key format invalid."}')]
)
def test_a_host_that_refuses_single_trades_twice_is_asked_for_aggregates(
    exchange: ExchangeSimulator, history: History, status: int, body: str
) -> None:
    exchange.rest_answer(status, times=2, body=body)
    for _ in range(2):
        with pytest.raises(RestError):
            history.fetch(TRADES)
    history.plan.update(GapSet(BTC, (GAP,)), 0)

    assert isinstance(history.plan.next_request(LATER, NOON), AggregatesRequest)


def test_newest_trades_of_which_one_name_is_not_listed_are_asked_for_again_at_once(
    exchange: ExchangeSimulator, history: History
) -> None:
    exchange.record(BTC, "7", "1")

    assert history.newest_ids([BTC, "GONEUSDT"]).ids == {BTC: 0}

    named, of_all = exchange.rest_requests
    assert ("symbols" in named.query, "symbols" in of_all.query) == (True, False)


def test_that_is_done_once_whatever_the_exchange_says_then(
    exchange: ExchangeSimulator, history: History
) -> None:
    exchange.rest_answer(400, times=9, body='{"code":-1121,"msg":"Invalid symbol."}')
    for _ in range(2):
        with pytest.raises(RestError, match="Invalid symbol"):
            history.newest_ids([BTC])

    assert len(exchange.rest_requests) == 3


def test_it_is_not_done_where_the_minute_has_no_weight_left(
    exchange: ExchangeSimulator, history: History
) -> None:
    assert history._budget.wait_ms(2_950, LATER) == 0

    with pytest.raises(RestError, match="Invalid symbol"):
        history.newest_ids([BTC, "GONEUSDT"])

    assert len(exchange.rest_requests) == 1


def test_any_other_failure_says_nothing_about_what_the_host_has(
    exchange: ExchangeSimulator, history: History
) -> None:
    exchange.rest_answer(500, times=2)
    for _ in range(2):
        with pytest.raises(RestError):
            history.fetch(TRADES)
    history.plan.update(GapSet(BTC, (GAP,)), 0)

    assert isinstance(history.plan.next_request(LATER, NOON), TradesRequest)
