"""Binance.US, a spot market of its own (docs: binance-us-api-docs).

Its protocol is spot's of some years ago: pings every 3 minutes, older trades only with a key.
"""

from __future__ import annotations

from bintrades.exchange.binance.market import MILLISECOND, Endpoint, Klines, Market
from bintrades.exchange.binance.spot import AGGREGATES, TRADES, make_history
from bintrades.exchange.hosts import Hosts
from bintrades.model import IdLaw

US = Market(
    name="us",
    streams=(TRADES, AGGREGATES),
    time_units=(MILLISECOND,),
    make_history=make_history,
    id_law=IdLaw.DENSE,
    stream_url="wss://stream.binance.us:9443",
    rest_url="https://api.binance.us",
    hosts=(Hosts("live", frozenset({"stream.binance.us"}), frozenset({"api.binance.us"})),),
    added_paths=("ws", "stream", "api", "api/v3"),
    connection_life="24h",
    exchange_info=Endpoint("/api/v3/exchangeInfo", weight=10),
    delisted=frozenset({"BREAK"}),
    historical_trades=Endpoint(
        "/api/v3/historicalTrades", weight=5, max_rows=1_000, needs_key=True
    ),
    aggregate_trades=Endpoint("/api/v3/aggTrades", weight=1, max_rows=1_000),
    recent_trades=Endpoint("/api/v3/trades", weight=1, max_rows=1_000),
    newest_ids=Endpoint("/api/v3/ticker/24hr", weight=40),
    newest_ids_weights=((20, 1), (100, 20)),
    weight_pool="us",
    weight_per_minute=1_200,
    klines=Klines(Endpoint("/api/v3/klines", weight=1, max_rows=1_000), {60_000: "1m"}),
)
