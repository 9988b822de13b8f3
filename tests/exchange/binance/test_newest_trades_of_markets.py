"""How each market is asked for its newest trades: by how many names, and what that weighs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from bintrades.exchange.binance.markets import MARKETS
from bintrades.exchange.binance.newest_trades import NewestTrades, RefusedNamesError
from bintrades.exchange.binance.rest import RestClient
from tests.canned_rest import CannedRest, canned_rest
from tests.networks import system_network

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS = [{"symbol": "A", "lastId": 5, "pair": "A"}, {"symbol": "B", "lastId": -1}]
FUTURES = ["usdm", "coinm"]


@pytest.fixture
def exchange() -> Iterator[CannedRest]:
    with canned_rest() as canned:
        yield canned


def newest_of(market: str, exchange: CannedRest, body: object) -> NewestTrades:
    """Return what asks a market whose answer is *body*."""
    facts = MARKETS[market]
    exchange.put(facts.newest_ids.path, json.dumps(body))
    return NewestTrades(RestClient(exchange.url, facts, system_network()), facts, lambda: 0)


@pytest.mark.parametrize("market", MARKETS)
def test_all_are_asked_for_at_once(exchange: CannedRest, market: str) -> None:
    newest = newest_of(market, exchange, ROWS)

    assert newest.ids([*"ABC", *map(str, range(100))]).ids == {"A": 5, "B": None}
    (asked,) = exchange.asked
    assert not asked.params.keys() & {"symbol", "symbols"}


@pytest.mark.parametrize("market", FUTURES)
@pytest.mark.parametrize("body", [ROWS[:1], ROWS[0]])
def test_futures_are_named_one_at_a_time_and_answer_with_it_or_a_list(
    exchange: CannedRest, market: str, body: object
) -> None:
    newest = newest_of(market, exchange, body)

    assert newest.ids(["A"]).ids == {"A": 5}
    assert exchange.asked[0].params == {"symbol": "A"}
    assert newest.weight(1) == 1
    assert newest.weight(2) == 40


@pytest.mark.parametrize("market", FUTURES)
def test_once_a_name_was_refused_all_are_asked_for(exchange: CannedRest, market: str) -> None:
    newest = newest_of(market, exchange, ROWS)
    exchange.put(MARKETS[market].newest_ids.path, '{"code":-1121,"msg":"Invalid."}', status=400)
    with pytest.raises(RefusedNamesError):
        newest.ids(["GONE"])
    exchange.put(MARKETS[market].newest_ids.path, json.dumps(ROWS))

    assert newest.weight(1) == 40
    assert newest.ids(["GONE"]).ids == {}
    assert exchange.asked[-1].params == {}


def test_binance_us_takes_a_list_of_names(exchange: CannedRest) -> None:
    newest = newest_of("us", exchange, ROWS)

    newest.ids(["A", "B"])

    assert exchange.asked[0].params == {"symbols": '["A","B"]'}
    assert [newest.weight(count) for count in (1, 20, 21, 100, 101)] == [1, 1, 20, 20, 40]
