"""The list of symbols of each market, and the limits that stand beside it."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from bintrades.errors import ExchangeError
from bintrades.exchange.binance.budget import Budget
from bintrades.exchange.binance.catalog import Catalog
from bintrades.exchange.binance.markets import MARKETS
from bintrades.exchange.binance.rest import RestClient, RestError
from bintrades.exchange.symbols import SymbolInfo
from tests.canned_rest import CannedRest, canned_rest
from tests.networks import system_network
from tests.recordings import recorded, sample

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "aKeyOfLetters123"


@pytest.fixture
def exchange() -> Iterator[CannedRest]:
    with canned_rest() as canned:
        yield canned


def catalog_of(market: str, exchange: CannedRest, body: bytes | str) -> tuple[Catalog, Budget]:
    """Return the catalogue of a market whose answer is *body*."""
    facts = MARKETS[market]
    exchange.put(facts.exchange_info.path, body)
    rest = RestClient(exchange.url, facts, system_network(), api_key=KEY)
    budget = Budget(facts.weight_per_minute, 50)
    return Catalog(rest, budget, lambda: 0), budget


def listed(market: str, exchange: CannedRest, body: bytes | str) -> dict[str, SymbolInfo]:
    """Return the symbols that *body* lists, by name."""
    catalog, _ = catalog_of(market, exchange, body)
    return {info.symbol: info for info in catalog.list_symbols()}


def info(*symbols: dict[str, Any], limits: object = ()) -> str:
    return json.dumps({"symbols": symbols, "rateLimits": limits}, ensure_ascii=False)


def test_a_status_is_read_under_either_name(exchange: CannedRest) -> None:
    rows = (
        {"symbol": "A", "status": "TRADING"},
        {"symbol": "B", "contractStatus": "TRADING"},
        {"symbol": "C", "contractStatus": "PENDING_TRADING"},
        {"symbol": "D", "status": "SETTLING"},
        {"symbol": "E", "contractStatus": "DELIVERED"},
        {"symbol": "F", "status": "CLOSE", "contractStatus": "CLOSE"},
        {"symbol": "G", "status": "PRE_SETTLE", "new": [{}]},
    )

    found = listed("coinm", exchange, info(*rows))

    assert [each.is_trading for each in found.values()] == [True, True, *[False] * 5]
    assert [name for name, each in found.items() if each.is_delisted] == ["D", "E", "F"]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("100", "100"),
        ("0.1", "0.1"),
        ('"10"', "10"),
        ("0", None),
        ("-1", None),
        ('"NaN"', None),
        ("null", None),
        ("[]", None),
    ],
)
def test_a_contract_is_worth_what_the_exchange_says(
    exchange: CannedRest, text: str, size: str | None
) -> None:
    body = f'{{"symbols":[{{"symbol":"A","contractSize":{text}}},{{"symbol":"B"}}]}}'

    found = listed("coinm", exchange, body)

    assert found["A"].contract_size == (None if size is None else Decimal(size))
    assert found["B"].contract_size is None
    assert listed("usdm", exchange, body)["A"].contract_size is None, "not counted in contracts"


def test_the_weight_that_the_exchange_allows_replaces_ours(exchange: CannedRest) -> None:
    limits = [
        {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": 7},
        {"rateLimitType": "REQUEST_WEIGHT", "interval": "HOUR", "intervalNum": 1, "limit": 8},
        {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 100},
    ]
    catalog, budget = catalog_of("usdm", exchange, info(limits=limits))
    before = budget.wait_ms(600, 0)

    catalog.list_symbols()

    assert before == 0, "of 1,200"
    assert budget.wait_ms(51, 60_000) == 0, "the first of a minute always may"
    assert budget.wait_ms(1, 60_000) > 0, "more than 50 percent of 100"


@pytest.mark.parametrize(
    "limits", [None, "none", [], [{"limit": 5}], [{"rateLimitType": "REQUEST_WEIGHT"}], 7]
)
def test_limits_that_cannot_be_read_leave_ours_as_it_is(
    exchange: CannedRest, limits: object
) -> None:
    catalog, budget = catalog_of("us", exchange, info({"symbol": "A"}, limits=limits))

    assert [each.symbol for each in catalog.list_symbols()] == ["A"]
    assert budget.wait_ms(500, 60_000) == 0
    assert budget.wait_ms(100, 60_000) == 0
    assert budget.wait_ms(1, 60_000) > 0


def test_the_key_goes_only_with_requests_that_need_it(exchange: CannedRest) -> None:
    facts = MARKETS["usdm"]
    exchange.put(facts.historical_trades.path, "[]")
    exchange.put(facts.aggregate_trades.path, "[]")

    with RestClient(exchange.url, facts, system_network(), api_key=KEY) as rest:
        for endpoint in (facts.aggregate_trades, facts.historical_trades, facts.aggregate_trades):
            rest.get(endpoint, {"symbol": "BTCUSDT"}, list[int])
        exchange.put(facts.historical_trades.path, '{"code":-2014,"msg":"bad"}', status=401)
        with pytest.raises(ExchangeError) as raised:
            rest.get(facts.historical_trades, {"symbol": "BTCUSDT"}, list[int])

    sent = [asked.headers["X-MBX-APIKEY"] for asked in exchange.asked]
    assert sent == [None, KEY, None, KEY]
    assert KEY not in str(raised.value)
    assert all(KEY not in str(asked.params) + asked.path for asked in exchange.asked)


def test_a_refusal_without_a_key_says_what_to_set(exchange: CannedRest) -> None:
    facts = MARKETS["coinm"]
    body = sample("coinm_rest_historicalTrades_without_key.json").read_bytes()
    exchange.put(facts.historical_trades.path, body, status=401)

    with (
        RestClient(exchange.url, facts, system_network()) as rest,
        pytest.raises(
            RestError, match=r"code -2014: .*; this takes .* set \[binance\] api_key"
        ) as it,
    ):
        rest.get(facts.historical_trades, {"symbol": "BTCUSD_PERP"}, list[int])

    assert it.value.is_final


def test_the_whole_list_of_the_spot_market_is_read(exchange: CannedRest) -> None:
    path = recorded("exchange_info/spot_api.binance.com_20211012.json.gz")

    found = listed("spot", exchange, gzip.decompress(path.read_bytes()))

    assert len(found) == 1_695
    assert Counter(each.status for each in found.values()) == {"TRADING": 1_262, "BREAK": 433}
    assert sum(each.is_delisted for each in found.values()) == 433
    assert found["BTCUSDT"] == SymbolInfo("BTCUSDT")


def test_the_whole_list_of_usdm_futures_is_read(exchange: CannedRest) -> None:
    path = recorded("exchange_info/usdm_fapi_20210721.json.gz")

    found = listed("usdm", exchange, gzip.decompress(path.read_bytes()))

    assert len(found) == 122
    assert found["BTCUSDT"] == SymbolInfo("BTCUSDT")


@pytest.mark.parametrize("market", ["usdm", "coinm"])
def test_lists_of_futures_of_today_are_read(exchange: CannedRest, market: str) -> None:
    path = sample(f"{market}_exchangeInfo_20250807_25symbols.json")

    catalog, budget = catalog_of(market, exchange, path.read_bytes())
    found = {each.symbol: each for each in catalog.list_symbols()}

    assert len(found) == 25
    if market == "coinm":
        assert found["BTCUSD_PERP"] == SymbolInfo("BTCUSD_PERP", contract_size=Decimal(100))
        assert Counter(each.contract_size for each in found.values()) == {100: 1, 10: 24}
    assert budget.wait_ms(1_200, 60_000) == 0
    assert budget.wait_ms(1, 60_000) > 0
