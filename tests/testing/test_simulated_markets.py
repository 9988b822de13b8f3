"""Each simulated market keeps to its own paths, fields, weights and refusals."""

from __future__ import annotations

import json
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import urllib3
import websocket

from bintrades.testing.exchange_simulator import ExchangeSimulator
from bintrades.testing.market_rules import MARKETS
from bintrades.testing.simulated_market import SimulatedTrade

if TYPE_CHECKING:
    from collections.abc import Iterator


MINUTE = 60_000
HOUR = 60 * MINUTE
NOW = 1_790_000_040_000
"""The beginning of a minute."""
SYMBOLS = {"spot": "BTCUSDT", "usdm": "BTCUSDT", "coinm": "BTCUSD_PERP", "us": "BTCUSD"}
KEY = {"X-MBX-APIKEY": "any"}


@contextmanager
def simulated(market: str, **options: Any) -> Iterator[ExchangeSimulator]:
    with ExchangeSimulator(
        (SYMBOLS[market],), market=market, messages_per_second=None, **options
    ) as exchange:
        yield exchange


@contextmanager
def listening(exchange: ExchangeSimulator, path: str, *kinds: str) -> Iterator[Any]:
    """Yield a client, subscribed to these streams of the exchange's symbol and told so."""
    symbol = SYMBOLS[exchange.market.rules.name].lower()
    ws: Any = websocket.create_connection(exchange.stream_url + path, timeout=10)
    try:
        names = [f"{symbol}@{kind}" for kind in kinds]
        ws.send(json.dumps({"method": "SUBSCRIBE", "params": names, "id": 1}))
        assert json.loads(ws.recv()) == {"result": None, "id": 1}
        yield ws
    finally:
        ws.shutdown()


def get(
    exchange: ExchangeSimulator, name: str, headers: dict[str, str] | None = None, **params: Any
) -> tuple[int, Any]:
    """Return status and body of a request for the exchange's symbol."""
    rules = exchange.market.rules
    fields = {"symbol": SYMBOLS[rules.name], **params}
    with urllib3.PoolManager(retries=False) as pool:
        response = pool.request(
            "GET", f"{exchange.rest_url}{rules.api}/{name}", fields=fields, headers=headers
        )
    return response.status, json.loads(response.data)


def trade(
    market: str,
    trade_id: int,
    time_ms: int = NOW,
    price: str = "100",
    quantity: str = "2",
    *,
    is_sell: bool = False,
    kind: str = "",
) -> SimulatedTrade:
    symbol = SYMBOLS[market]
    return SimulatedTrade(symbol, trade_id, price, quantity, time_ms, time_ms, is_sell, kind)


def heard(ws: Any, count: int) -> list[Any]:
    return [json.loads(ws.recv())["data"] for _ in range(count)]


@pytest.mark.parametrize(
    ("path", "event"),
    [
        ("/public/stream", "trade"),
        ("/market/stream", "aggTrade"),
        ("/stream", "trade"),
    ],
)
def test_usdm_acknowledges_both_streams_on_each_path_and_sends_one(path: str, event: str) -> None:
    with simulated("usdm") as exchange, listening(exchange, path, "trade", "aggTrade") as ws:
        for _ in range(3):
            exchange.publish("BTCUSDT", 100, 1, time_ms=NOW)
        exchange.send_text('{"stream":"end","data":{"e":"end"}}')

        assert [each["e"] for each in heard(ws, 4)] == [event] * 3 + ["end"]


@pytest.mark.parametrize("market", ["spot", "coinm", "us"])
def test_other_markets_send_both_on_one_path_and_know_no_other(market: str) -> None:
    with simulated(market) as exchange:
        with listening(exchange, "/stream", "trade", "aggTrade") as ws:
            exchange.publish(SYMBOLS[market], 100, 1, time_ms=NOW)
            assert [each["e"] for each in heard(ws, 2)] == ["trade", "aggTrade"]
        with pytest.raises(websocket.WebSocketBadStatusException, match="404"):
            websocket.create_connection(exchange.stream_url + "/public/stream", timeout=10)


@pytest.mark.parametrize(
    ("market", "single", "aggregate"),
    [
        ("spot", "e E s t p q T m M", "e E s a p q f l T m M"),
        ("usdm", "e E T s t p q X m st", "e E s a p q nq f l T m st"),
        ("coinm", "e E T s t p q X m st", "e E s a p q f l T m st"),
        ("us", "e E s t p q b a T m M", "e E s a p q f l T m M"),
    ],
)
def test_messages_have_the_fields_of_their_market(market: str, single: str, aggregate: str) -> None:
    paths = ("/public/stream", "/market/stream") if market == "usdm" else ("/stream", "/stream")
    with (
        simulated(market) as exchange,
        listening(exchange, paths[0], "trade") as singles,
        listening(exchange, paths[1], "aggTrade") as aggregates,
    ):
        exchange.publish(SYMBOLS[market], "100.5", "3", time_ms=NOW)

        (one,), (several,) = heard(singles, 1), heard(aggregates, 1)
        assert list(one) == single.split()
        assert list(several) == aggregate.split()
        assert one.get("st") == several.get("st") == {"usdm": 1, "coinm": 2}.get(market)


def test_microseconds_are_told_where_the_address_asks_for_them_and_only_on_spot() -> None:
    for market, told in (("spot", NOW * 1000 + 137), ("us", NOW)):
        with (
            simulated(market) as exchange,
            listening(exchange, "/stream?timeUnit=MICROSECOND", "trade", "aggTrade") as fine,
            listening(exchange, "/stream", "trade") as coarse,
        ):
            exchange.publish(SYMBOLS[market], 100, 1, time_ms=NOW)

            assert [(each["T"], each["E"]) for each in heard(fine, 2)] == [(told, told)] * 2
            assert heard(coarse, 1)[0]["T"] == NOW


@pytest.mark.parametrize("kind", ["NA", "INSURANCE_FUND", "ADL", "SOMETHING_NEW"])
def test_what_is_no_fill_uses_up_an_id_of_which_only_the_stream_tells(kind: str) -> None:
    with simulated("usdm") as exchange, listening(exchange, "/public/stream", "trade") as ws:
        exchange.publish("BTCUSDT", 100, 1, time_ms=NOW)
        if kind == "NA":
            exchange.publish_filler("BTCUSDT", time_ms=NOW)
        else:
            exchange.publish("BTCUSDT", 90, 5, time_ms=NOW, kind=kind)
        exchange.publish("BTCUSDT", 101, 1, time_ms=NOW, kind="RPI")
        before_the_end = get(exchange, "ticker/24hr")[1]["lastId"]
        exchange.publish_filler("BTCUSDT", time_ms=NOW)

        said = heard(ws, 4)
        assert [(each["t"], each["X"]) for each in said] == [
            (1, "MARKET"),
            (2, kind),
            (3, "RPI"),
            (4, "NA"),
        ]
        assert (said[3]["p"], said[3]["q"]) == ("0", "0")
        assert before_the_end == get(exchange, "ticker/24hr")[1]["lastId"] == 3
        rows = get(exchange, "trades")[1]
        assert [(row["id"], row["isRPITrade"]) for row in rows] == [(1, False), (3, True)]
        assert get(exchange, "klines", interval="1m", startTime=NOW)[1][0][8] == 2


def test_futures_pages_are_ranges_of_ids_and_those_of_spot_are_rows() -> None:
    for market, expected in (("usdm", [[1, 3, 4], [5]]), ("spot", [[1, 3, 4, 5], [5]])):
        with simulated(market) as exchange:
            exchange.add_trades([trade(market, each) for each in (1, 3, 4, 5)])
            pages = [
                get(exchange, "historicalTrades", KEY, fromId=start, limit=4)[1] for start in (1, 5)
            ]
            assert [[row["id"] for row in page] for page in pages] == expected


@pytest.mark.parametrize(("market", "is_refused"), [(m, m != "spot") for m in MARKETS])
def test_historical_trades_need_a_key_but_on_spot(market: str, is_refused: bool) -> None:
    with simulated(market) as exchange:
        exchange.add_trades([trade(market, 1)])
        refusal = (401, {"code": -2014, "msg": "API-key format invalid."})

        assert (get(exchange, "historicalTrades") == refusal) is is_refused
        assert get(exchange, "historicalTrades", KEY)[1][0]["id"] == 1


def test_futures_tell_nothing_older_than_two_days() -> None:
    with simulated("usdm") as exchange:
        times = {1: NOW - 49 * HOUR, 2: NOW - 47 * HOUR, 3: NOW}
        exchange.add_trades([trade("usdm", *each) for each in times.items()])
        for name, params in (
            ("aggTrades", {"fromId": 1}),
            ("aggTrades", {"startTime": times[1]}),
            ("historicalTrades", {"fromId": 1}),
        ):
            status, body = get(exchange, name, KEY, **params)
            assert (status, body["code"]) == (400, -4166), name
        assert [row["a"] for row in get(exchange, "aggTrades", fromId=2)[1]] == [2, 3]
        assert [row["id"] for row in get(exchange, "historicalTrades", KEY, fromId=2)[1]] == [2, 3]


def test_futures_aggregate_over_a_tenth_of_a_second_and_over_fillers() -> None:
    with simulated("usdm") as exchange:
        exchange.add_trades(
            [
                trade("usdm", 1, NOW),
                trade("usdm", 2, NOW, "0", "0", kind="NA"),
                trade("usdm", 3, NOW + 60, quantity="0.5", kind="RPI"),
                trade("usdm", 4, NOW + 100),
                trade("usdm", 5, NOW + 100, is_sell=True),
            ]
        )

        rows = get(exchange, "aggTrades")[1]
        assert [(row["a"], row["f"], row["l"], row["T"] - NOW) for row in rows] == [
            (1, 1, 3, 0),
            (2, 4, 4, 100),
            (3, 5, 5, 100),
        ]
        assert (rows[0]["q"], rows[0]["nq"]) == ("2.5", "2")


@pytest.mark.parametrize("market", MARKETS)
def test_aggregates_on_the_stream_are_those_that_rest_tells(market: str) -> None:
    path = "/market/stream" if market == "usdm" else "/stream"
    with simulated(market) as exchange:
        exchange.add_trades([trade(market, 1)])
        with listening(exchange, path, "aggTrade") as ws:
            exchange.publish_trades([trade(market, each) for each in (2, 3, 4)])
            exchange.publish_trades([trade(market, 5)])
            said = heard(ws, 2)

        told = get(exchange, "aggTrades")[1]
        assert [(row["a"], row["f"], row["l"]) for row in told] == [(1, 1, 1), (2, 2, 4), (3, 5, 5)]
        common = set(told[0])
        assert [{name: each[name] for name in common} for each in said] == told[1:]


def test_what_contracts_are_worth_is_told_and_summed_before_it_is_rounded() -> None:
    with simulated("coinm") as exchange:
        prices = ("30001.1", "30002.7", "30003.1")
        exchange.add_trades(
            [trade("coinm", number, NOW, price, "7") for number, price in enumerate(prices, 1)]
        )

        row = get(exchange, "klines", interval="1m", startTime=NOW)[1][0]
        exact = sum((Decimal(700) / Decimal(price) for price in prices), Decimal(0))
        assert row[5] == "21"
        assert Decimal(row[7]) == round(exact, 8)
        assert (
            get(exchange, "trades")[1][0]["baseQty"] == f"{Decimal(700) / Decimal(prices[0]):.8f}"
        )
        (listed,) = get(exchange, "exchangeInfo")[1]["symbols"]
        assert (listed["contractStatus"], listed["contractSize"]) == ("TRADING", 100)
        assert "status" not in listed
        assert [each["lastId"] for each in get(exchange, "ticker/24hr")[1]] == [3]


@pytest.mark.parametrize("market", MARKETS)
def test_exchange_info_says_the_limit_and_changes_with_the_symbols(market: str) -> None:
    with simulated(market) as exchange:
        exchange.list_symbol("NEWUSDT", "HALT")
        exchange.unlist_symbol(SYMBOLS[market])
        with urllib3.PoolManager() as pool:
            answer = pool.request(
                "GET", f"{exchange.rest_url}{exchange.market.rules.api}/exchangeInfo"
            ).json()

        assert [
            (each["symbol"], each[exchange.market.rules.status_key]) for each in answer["symbols"]
        ] == [("NEWUSDT", "HALT")]
        assert answer["rateLimits"][0]["limit"] == exchange.rest.weight_limit
        assert exchange.rest.weight_limit == {"spot": 6000, "us": 1200}.get(market, 2400)
        assert get(exchange, "trades") == (400, {"code": -1121, "msg": "Invalid symbol."})


@pytest.mark.parametrize(
    ("market", "name", "params", "weight"),
    [
        ("spot", "aggTrades", {}, 4),
        ("usdm", "trades", {}, 5),
        ("usdm", "historicalTrades", {}, 200),
        ("usdm", "aggTrades", {}, 20),
        ("usdm", "klines", {"interval": "1m", "limit": 100}, 1),
        ("coinm", "klines", {"interval": "1m", "limit": 500}, 2),
        ("usdm", "klines", {"interval": "1m", "limit": 1500}, 10),
        ("usdm", "klines", {"interval": "1m"}, 5),
        ("coinm", "ticker/24hr", {}, 1),
        ("us", "historicalTrades", {}, 5),
        ("us", "trades", {}, 1),
    ],
)
def test_requests_weigh_what_they_weigh_on_their_market(
    market: str, name: str, params: dict[str, Any], weight: int
) -> None:
    with simulated(market, weight_limit=weight - 1) as exchange:
        assert get(exchange, name, KEY, **params)[0] == 429
    with simulated(market, weight_limit=weight) as exchange:
        assert get(exchange, name, KEY, **params)[0] == 200


@pytest.mark.parametrize("market", MARKETS)
def test_klines_of_a_second_are_those_of_spot_alone(market: str) -> None:
    with simulated(market) as exchange:
        status, _ = get(exchange, "klines", interval="1s")
        assert (status == 200) is (market == "spot")
        assert get(exchange, "klines", interval="1m")[0] == 200


def test_memory_of_the_newest_trades_is_stale_when_told() -> None:
    with simulated("usdm") as exchange:
        exchange.add_trades([trade("usdm", each) for each in range(1, 6)])
        exchange.recent_trades_lag(2)
        assert [row["id"] for row in get(exchange, "trades")[1]] == [1, 2, 3]
        exchange.recent_trades_lag(0)
        assert get(exchange, "trades")[1][-1]["id"] == 5
