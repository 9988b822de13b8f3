"""Binance's spot market (docs: "General API Information", "WebSocket Streams", "Limits")."""

from __future__ import annotations

from bintrades.exchange.binance.backfill_plan import BackfillPlan
from bintrades.exchange.binance.market import Endpoint, Market
from bintrades.exchange.binance.messages import decode
from bintrades.model import IdLaw, TimeUnit

SPOT = Market(
    name="spot",
    decode=decode,
    make_plan=BackfillPlan,
    id_law=IdLaw.DENSE,  # documented as consecutive per symbol
    time_unit=TimeUnit.MILLISECONDS,  # unless microseconds are asked for
    stream_url="wss://stream.binance.com:9443",
    rest_url="https://api.binance.com",
    added_paths=("ws", "stream", "api", "api/v3"),
    connection_life="24h",
    exchange_info=Endpoint("/api/v3/exchangeInfo", weight=20),
    historical_trades=Endpoint("/api/v3/historicalTrades", weight=25, max_rows=1_000),
    aggregate_trades=Endpoint("/api/v3/aggTrades", weight=4, max_rows=1_000),
    weight_per_minute=6_000,
    max_streams=1_024,
    max_subscribe_names=200,
    max_subscribe_bytes=3_900,
    control_spacing_ms=500,
    max_attempts=300,
    attempts_window_ms=300_000,
)
