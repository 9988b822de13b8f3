"""Binance's COIN-M futures (docs: "COIN-M Futures"): quantities are contracts.

What a contract is worth is its contractSize, in the quote asset; so value is in the base asset.
"""

from __future__ import annotations

from bintrades.exchange.binance.aggregate_messages import decode_aggregates
from bintrades.exchange.binance.market import MILLISECOND, Endpoint, Klines, Market, Stream
from bintrades.exchange.binance.trade_messages import decode_futures_trades
from bintrades.exchange.binance.usdm import (
    FUTURES_DELISTED,
    FUTURES_HISTORY_MS,
    FUTURES_POOL,
    KLINE_ROWS,
    KLINE_WEIGHT,
    KLINE_WEIGHTS,
    make_history,
)
from bintrades.exchange.hosts import Hosts
from bintrades.model import IdLaw

COINM = Market(
    name="coinm",
    streams=(
        Stream("trade", "/stream", b'@trade","data":{"e":"trade",', decode_futures_trades),
        Stream("aggTrade", "/stream", b'@aggTrade","data":{"e":"aggTrade",', decode_aggregates),
    ),
    time_units=(MILLISECOND,),
    make_history=make_history,
    id_law=IdLaw.WITH_FILLERS,
    has_contracts=True,
    stream_url="wss://dstream.binance.com",
    rest_url="https://dapi.binance.com",
    hosts=(
        Hosts("live", frozenset({"dstream.binance.com"}), frozenset({"dapi.binance.com"})),
        Hosts(
            "testnet",
            frozenset({"dstream.binancefuture.com"}),
            frozenset({"testnet.binancefuture.com"}),
        ),
        Hosts(
            "demo",
            frozenset({"demo-dstream.binance.com", "dstream.binancefuture.com"}),
            frozenset({"demo-dapi.binance.com"}),
        ),
    ),
    added_paths=("ws", "stream", "dapi", "dapi/v1"),
    connection_life="24h",
    exchange_info=Endpoint("/dapi/v1/exchangeInfo", weight=1),
    delisted=FUTURES_DELISTED,
    historical_trades=Endpoint(
        "/dapi/v1/historicalTrades", weight=200, max_rows=500, needs_key=True
    ),
    aggregate_trades=Endpoint("/dapi/v1/aggTrades", weight=20, max_rows=1_000),
    recent_trades=Endpoint("/dapi/v1/trades", weight=5, max_rows=1_000),
    history_ms=FUTURES_HISTORY_MS,
    newest_ids=Endpoint("/dapi/v1/ticker/24hr", weight=40),
    newest_ids_weights=((1, 1),),
    newest_ids_take_one=True,
    weight_pool=FUTURES_POOL,
    weight_per_minute=2_400,
    klines=Klines(
        Endpoint("/dapi/v1/klines", weight=KLINE_WEIGHT, max_rows=KLINE_ROWS),
        {60_000: "1m"},
        KLINE_WEIGHTS,
    ),
)
