"""Which trade of each symbol is its newest, as the 24-hour ticker says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from bintrades.errors import NotOfferedError
from bintrades.exchange.binance.newest_trades import NewestTrades
from bintrades.exchange.binance.rest import RestClient, RestError
from bintrades.exchange.binance.spot import SPOT
from bintrades.testing.exchange_simulator import ExchangeSimulator
from tests.networks import system_network

if TYPE_CHECKING:
    from collections.abc import Iterator

BTC, ETH, UNICODE = "BTCUSDT", "ETHUSDT", "币安人生USDT"
NOON = 1_723_118_400_000
NOW = 77
DAY = 86_400_000


@pytest.fixture
def exchange() -> Iterator[ExchangeSimulator]:
    with ExchangeSimulator([BTC, ETH, UNICODE], first_trade_id=0) as simulator:
        yield simulator


@pytest.fixture
def newest(exchange: ExchangeSimulator) -> Iterator[NewestTrades]:
    with RestClient(exchange.rest_url, SPOT, system_network()) as rest:
        yield NewestTrades(rest, SPOT, lambda: NOW)


def test_one_answer_names_the_newest_trade_of_each_symbol_and_when_it_was_given(
    exchange: ExchangeSimulator, newest: NewestTrades
) -> None:
    exchange.record(UNICODE, "7", "1", time_ms=NOON - DAY - 60_000)
    exchange.record(BTC, "7", "1", time_ms=NOON - 1_000)
    exchange.record(BTC, "7", "1", time_ms=NOON)

    found = newest.ids([BTC, ETH, UNICODE])

    assert found.ids == {BTC: 1, ETH: None, UNICODE: None}
    assert NOON - 1_000 <= found.said_at <= NOON + 60_000
    assert found.said_at % 1_000 == 0
    assert found.answered_at == NOW
    (request,) = exchange.rest_requests
    assert json.loads(request.query["symbols"]) == [BTC, ETH, UNICODE]
    assert request.query["type"] == "MINI"


def test_of_more_symbols_than_can_be_named_all_are_asked_for(
    exchange: ExchangeSimulator, newest: NewestTrades
) -> None:
    found = newest.ids([BTC, *(f"X{number}USDT" for number in range(100))])

    assert found.ids == {BTC: None}
    assert "symbols" not in exchange.rest_requests[0].query


def test_after_an_unknown_name_has_failed_a_request_all_are_asked_for(
    exchange: ExchangeSimulator, newest: NewestTrades
) -> None:
    assert newest.weight(2) == 2
    with pytest.raises(RestError, match="Invalid symbol"):
        newest.ids([BTC, "GONEUSDT"])

    assert newest.weight(2) == 80
    assert newest.ids([BTC, "GONEUSDT"]).ids == {BTC: None}


def test_a_host_without_such_statistics_is_told_from_one_that_fails(
    exchange: ExchangeSimulator, newest: NewestTrades
) -> None:
    exchange.rest_answer(404)
    with pytest.raises(NotOfferedError):
        newest.ids([BTC])

    exchange.rest_answer(503)
    with pytest.raises(RestError):
        newest.ids([BTC])


def test_an_answer_that_does_not_say_when_it_was_given_proves_nothing(
    exchange: ExchangeSimulator, newest: NewestTrades
) -> None:
    exchange.rest_answer(200, {"Date": "soon"}, body="[]")

    with pytest.raises(RestError, match="does not say when"):
        newest.ids([BTC])


@pytest.mark.parametrize(
    "odd",
    [
        '{"symbol":"ETHUSDT"}',
        '{"symbol":"ETHUSDT","lastId":null}',
        '{"symbol":"ETHUSDT","lastId":7},{"symbol":"ETHUSDT","lastId":8}',
    ],
)
def test_what_cannot_be_read_of_one_symbol_leaves_that_one_out_and_is_said(
    exchange: ExchangeSimulator,
    newest: NewestTrades,
    caplog: pytest.LogCaptureFixture,
    odd: str,
) -> None:
    exchange.rest_answer(200, body=f'[{odd},{{"symbol":"BTCUSDT","lastId":7}}]')

    assert newest.ids([BTC, ETH]).ids == {BTC: 7}

    (record,) = caplog.records
    assert (record.event, record.symbols) == ("newest_id_rejected", ETH)  # type: ignore[attr-defined]
    assert record.error.startswith(f"{ETH}: ")  # type: ignore[attr-defined]


def test_after_any_refusal_of_named_symbols_all_are_asked_for(
    exchange: ExchangeSimulator, newest: NewestTrades
) -> None:
    exchange.rest_answer(400, body='{"code":-1100,"msg":"Illegal characters found."}')
    with pytest.raises(RestError, match="Illegal characters"):
        newest.ids([UNICODE])

    assert newest.ids([UNICODE]).ids == {UNICODE: None}
    assert "symbols" not in exchange.rest_requests[1].query


def test_what_cannot_be_read_of_a_symbol_that_was_not_asked_for_hurts_no_other(
    exchange: ExchangeSimulator, newest: NewestTrades
) -> None:
    exchange.rest_answer(
        200,
        body='[{"symbol":"NEWUSDT","lastId":null},{"symbol":"BTCUSDT","lastId":7},'
        '{"symbol":"ODDUSDT"}]',
    )

    assert newest.ids([BTC]).ids == {BTC: 7}


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{}",
        "null",
        '[{"symbol":"BTCUSDT"}]',
        '[{"symbol":"BTCUSDT","lastId":"7"}]',
        '[{"symbol":"BTCUSDT","lastId":-2}]',
        '[{"symbol":"BTCUSDT","lastId":7.5}]',
        f'[{{"symbol":"BTCUSDT","lastId":{2**63}}}]',
        '[{"symbol":1,"lastId":7}]',
        '[{"symbol":"BTCUSDT","lastId":7},{"symbol":"BTCUSDT","lastId":8}]',
    ],
)
def test_whatever_else_comes_is_an_error(
    exchange: ExchangeSimulator, newest: NewestTrades, body: str
) -> None:
    exchange.rest_answer(200, body=body)

    with pytest.raises(RestError):
        newest.ids([BTC])
