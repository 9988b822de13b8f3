"""Klines and trades of the exchange, to check bars by, as a simulated one has them."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from bintrades.exchange.binance.budget import Budget
from bintrades.exchange.binance.reference import Reference
from bintrades.exchange.binance.rest import RestClient, RestError
from bintrades.exchange.binance.spot import SPOT
from bintrades.model import Trade
from bintrades.testing.exchange_simulator import ExchangeSimulator
from tests.klines import MINUTE_MS, SECOND_MS, klines_of
from tests.networks import system_network

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bintrades.model import TradeRange

BTC, ETH = "BTCUSDT", "ETHUSDT"
START = 1_723_075_200_000
ROW = [START, "1", "2", "1", "2", "3", START + 59_999, "4", 5, "1", "1", "0"]


@pytest.fixture
def exchange() -> Iterator[ExchangeSimulator]:
    with ExchangeSimulator([BTC, ETH], first_trade_id=0) as simulator:
        yield simulator


@pytest.fixture
def budget() -> Budget:
    return Budget(SPOT.weight_per_minute, 50)


@pytest.fixture
def reference(exchange: ExchangeSimulator, budget: Budget) -> Iterator[Reference]:
    assert SPOT.klines is not None
    with RestClient(exchange.rest_url, SPOT, system_network()) as rest:
        yield Reference(rest, SPOT.klines, budget, lambda: 0)


def trade(exchange: ExchangeSimulator, count: int, *, every_ms: int = 1_700) -> list[Trade]:
    """Have the exchange trade; return what."""
    rng = random.Random(count)
    trades = []
    for number in range(count):
        price, quantity = f"{rng.randrange(1, 999)}.25", f"0.{rng.randrange(1, 10**8):08}"
        time, is_maker = START + number * every_ms, rng.random() < 0.5
        exchange.record(BTC, price, quantity, time_ms=time, buyer_is_maker=is_maker)
        trades.append(Trade(BTC, number, time, time, Decimal(price), Decimal(quantity), is_maker))
    return trades


def let_time_pass(exchange: ExchangeSimulator, until_ms: int) -> None:
    """Have the exchange's clock, which its trades show, be at *until_ms* at least."""
    exchange.record(ETH, "1", "1", time_ms=until_ms)


def asks_always(weight: int) -> bool:
    return weight > 0


def ids(ranges: Sequence[TradeRange] | None) -> list[int]:
    assert ranges is not None
    return [number for each in ranges for number in range(each.first_id, each.last_id + 1)]


@pytest.mark.parametrize("length", [MINUTE_MS, SECOND_MS])
def test_klines_are_the_sums_of_the_trades(
    exchange: ExchangeSimulator, reference: Reference, length: int
) -> None:
    trades = trade(exchange, 200)
    until = START + 5 * MINUTE_MS

    klines = reference.klines(BTC, length, START, until)

    assert klines == klines_of(trades, length, START, until)
    (request,) = exchange.rest_requests
    assert (request.path, request.query["limit"]) == ("/api/v3/klines", "1000")


def test_a_page_of_klines_has_the_first_thousand(
    exchange: ExchangeSimulator, reference: Reference
) -> None:
    trade(exchange, 1_000, every_ms=2_000)

    klines = reference.klines(BTC, SECOND_MS, START, START + 2_000_000)

    assert len(klines) == 1_000
    assert klines[-1].open_time_ms == START + 999_000


def test_before_the_first_trade_there_are_no_klines(
    exchange: ExchangeSimulator, reference: Reference
) -> None:
    trade(exchange, 1)

    assert reference.klines(BTC, MINUTE_MS, START - 600_000, START) == []


@pytest.mark.parametrize(
    "change",
    [
        {0: START + 1},
        {0: START - 60_000, 6: START - 1},
        {0: START + 60_000, 6: START + 119_999},
        {1: "one"},
        {5: "-3"},
        {6: START + 60_000},
        {8: -1},
        {8: "5"},
    ],
)
def test_a_kline_that_cannot_be_is_an_error(
    exchange: ExchangeSimulator, reference: Reference, change: dict[int, Any]
) -> None:
    row = [change.get(place, value) for place, value in enumerate(ROW)]
    exchange.rest_answer(200, body=json.dumps([row]).encode())

    with pytest.raises(RestError):
        reference.klines(BTC, MINUTE_MS, START, START + MINUTE_MS)


def test_klines_in_microseconds_are_klines(
    exchange: ExchangeSimulator, reference: Reference
) -> None:
    row = [START * 1_000, *ROW[1:6], (START + 60_000) * 1_000 - 1, *ROW[7:]]
    exchange.rest_answer(200, body=json.dumps([row]).encode())

    (kline,) = reference.klines(BTC, MINUTE_MS, START, START + MINUTE_MS)

    assert (kline.open_time_ms, kline.trade_count, kline.value) == (START, 5, Decimal(4))


def test_klines_that_come_twice_or_out_of_order_are_an_error(
    exchange: ExchangeSimulator, reference: Reference
) -> None:
    exchange.rest_answer(200, body=json.dumps([ROW, ROW]).encode())

    with pytest.raises(RestError):
        reference.klines(BTC, MINUTE_MS, START, START + MINUTE_MS)


@pytest.mark.parametrize(("count", "every_ms"), [(300, 1_700), (3_000, 40), (1, 1), (0, 1)])
def test_the_trades_of_a_span_are_all_that_there_were(
    exchange: ExchangeSimulator, reference: Reference, count: int, every_ms: int
) -> None:
    trades = trade(exchange, count, every_ms=every_ms)
    let_time_pass(exchange, START + 600_000)
    for since, until in ((START, START + 10_000), (START + 20_000, START + 80_000)):
        expected = [each.trade_id for each in trades if since <= each.time < until]

        assert ids(reference.trades_between(BTC, since, until, asks_always)) == expected


@pytest.mark.parametrize("hidden", [8, 12, 100, 300])
def test_trades_that_the_records_do_not_have_yet_are_not_taken_for_absent(
    exchange: ExchangeSimulator, reference: Reference, hidden: int
) -> None:
    trade(exchange, 300)
    exchange.rest_lag(hidden)

    with pytest.raises(RestError):
        reference.trades_between(BTC, START + 490_000, START + 500_000, asks_always)

    exchange.rest_lag(0)
    found = reference.trades_between(BTC, START + 490_000, START + 500_000, asks_always)
    assert ids(found) == list(range(289, 295))


def test_an_empty_answer_is_not_taken_for_absence(
    exchange: ExchangeSimulator, reference: Reference
) -> None:
    trade(exchange, 300)
    exchange.rest_answer(200, body=b"[]")

    with pytest.raises(RestError):
        reference.trades_between(BTC, START + 490_000, START + 500_000, asks_always)


def test_an_answer_that_leaves_trades_out_is_an_error(
    exchange: ExchangeSimulator, reference: Reference
) -> None:
    trades = trade(exchange, 300)
    for numbers in (range(284, 300), [*range(283, 291), *range(293, 300)]):
        rows = [
            {"a": each, "p": "1", "q": "1", "f": each, "l": each, "T": trades[each].time, "m": True}
            for each in numbers
        ]
        exchange.rest_answer(200, body=json.dumps(rows).encode())

    with pytest.raises(RestError, match="lacks aggregates"):
        reference.trades_between(BTC, START + 490_000, START + 500_000, asks_always)


def test_after_the_last_trade_there_are_none_once_the_exchange_can_know(
    exchange: ExchangeSimulator, reference: Reference
) -> None:
    trade(exchange, 3)
    let_time_pass(exchange, START + 72_000)
    with pytest.raises(RestError, match="may lag"):
        reference.trades_between(BTC, START + 60_000, START + 70_000, asks_always)

    let_time_pass(exchange, START + 80_000)
    found = reference.trades_between(BTC, START + 60_000, START + 70_000, asks_always)

    assert ids(found) == []


def test_a_symbol_that_has_not_traded_for_days_has_the_trades_of_long_ago(
    exchange: ExchangeSimulator, reference: Reference
) -> None:
    trade(exchange, 3)
    let_time_pass(exchange, START + 3 * 86_400_000)

    found = reference.trades_between(BTC, START, START + 10_000, asks_always)

    assert ids(found) == [0, 1, 2]


def test_trades_whose_times_fall_back_a_little_are_of_their_own_interval(
    exchange: ExchangeSimulator, reference: Reference
) -> None:
    for time in (0, 9_990, 10_100, 9_999, 20_050, 19_995, 30_000):
        exchange.record(BTC, str(time + 1), "1", time_ms=START + time)

    found = reference.trades_between(BTC, START + 10_000, START + 20_000, asks_always)

    assert ids(found) == [2, 5]


def test_a_trade_whose_time_falls_back_is_had_though_a_page_ends_before_it(
    exchange: ExchangeSimulator, reference: Reference
) -> None:
    """The first page has 1,000 rows, and its last one is of the next interval."""
    for time in (0, *(10_000 + number for number in range(998)), 20_000, 19_999, 40_000):
        exchange.record(BTC, str(time + 1), "1", time_ms=START + time)

    found = reference.trades_between(BTC, START + 10_000, START + 20_000, asks_always)

    assert ids(found) == [*range(1, 999), 1_000]


def test_where_no_more_may_be_asked_there_are_no_trades(
    exchange: ExchangeSimulator, reference: Reference
) -> None:
    trade(exchange, 300)
    for allowed in range(2):
        answers = [True] * allowed

        def may_ask(_weight: int, left: list[bool] = answers) -> bool:
            return bool(left and left.pop())

        assert reference.trades_between(BTC, START, START + 10_000, may_ask) is None
    assert len(exchange.rest_requests) == 1


def test_a_refusal_is_known_to_the_budget(
    exchange: ExchangeSimulator, reference: Reference, budget: Budget
) -> None:
    exchange.rest_answer(418, {"Retry-After": "600"})

    with pytest.raises(RestError):
        reference.klines(BTC, MINUTE_MS, START, START + MINUTE_MS)

    assert budget.banned_for(0) == 600_000


def test_what_was_used_of_the_weight_is_known_to_the_budget(
    exchange: ExchangeSimulator, reference: Reference, budget: Budget
) -> None:
    trade(exchange, 1)
    exchange.rest_answer(200, {"X-MBX-USED-WEIGHT-1M": "2999"}, body=b"[]")

    reference.klines(BTC, MINUTE_MS, START, START + MINUTE_MS)

    assert budget.wait_ms(2, 0) > 0
