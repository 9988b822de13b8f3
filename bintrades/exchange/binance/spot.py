"""Binance's spot market (docs: "General API Information", "WebSocket Streams", "Limits")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bintrades.core.gap_queue import FIRST_RETRY_S, LONGEST_RETRY_S
from bintrades.exchange.binance.aggregate_messages import decode_aggregates
from bintrades.exchange.binance.backfill_plan import BackfillPlan
from bintrades.exchange.binance.market import (
    MICROSECOND,
    MILLISECOND,
    Endpoint,
    Klines,
    Market,
    Stream,
)
from bintrades.exchange.binance.trade_messages import decode_trades
from bintrades.exchange.hosts import Hosts
from bintrades.model import IdLaw
from bintrades.util.backoff import Backoff

if TYPE_CHECKING:
    from bintrades.exchange.binance.budget import Budget
    from bintrades.exchange.binance.history import History
    from bintrades.exchange.binance.rest import RestClient
    from bintrades.util.runtime import Runtime

TRADES = Stream("trade", "/stream", b'@trade","data":{"e":"trade",', decode_trades)
AGGREGATES = Stream("aggTrade", "/stream", b'@aggTrade","data":{"e":"aggTrade",', decode_aggregates)


def make_history(
    market: Market,
    stream: Stream,  # noqa: ARG001 - single trades are had, whatever the stream brings
    rest: RestClient,
    budget: Budget,
    max_age_ms: int,
    runtime: Runtime,
) -> History:
    """Return the past trades of a market whose endpoints answer as spot's do."""
    from bintrades.exchange.binance.history import History

    plan = BackfillPlan(
        market,
        max_age_ms,
        lambda: Backoff(FIRST_RETRY_S, LONGEST_RETRY_S, runtime.rng),
        has_key=rest.has_key,
    )
    return History(rest, market, plan, budget, runtime.now)


SPOT = Market(
    name="spot",
    streams=(TRADES, AGGREGATES),
    time_units=(MILLISECOND, MICROSECOND),
    make_history=make_history,
    id_law=IdLaw.DENSE,  # documented as consecutive per symbol
    stream_url="wss://stream.binance.com:9443",
    rest_url="https://api.binance.com",
    hosts=(
        Hosts(
            "live",
            frozenset({"stream.binance.com", "data-stream.binance.vision"}),
            frozenset(
                {"api.binance.com", "api-gcp.binance.com", "data-api.binance.vision"}
                | {f"api{number}.binance.com" for number in range(1, 5)}
            ),
        ),
        Hosts(
            "testnet",
            frozenset({"stream.testnet.binance.vision"}),
            frozenset({"testnet.binance.vision", "api1.testnet.binance.vision"}),
        ),
        Hosts("demo", frozenset({"demo-stream.binance.com"}), frozenset({"demo-api.binance.com"})),
    ),
    added_paths=("ws", "stream", "api", "api/v3"),
    connection_life="24h",
    exchange_info=Endpoint(
        "/api/v3/exchangeInfo", weight=20, params=(("showPermissionSets", "false"),)
    ),
    delisted=frozenset({"BREAK"}),
    historical_trades=Endpoint("/api/v3/historicalTrades", weight=25, max_rows=1_000),
    aggregate_trades=Endpoint("/api/v3/aggTrades", weight=4, max_rows=1_000),
    recent_trades=Endpoint("/api/v3/trades", weight=25, max_rows=1_000),
    newest_ids=Endpoint("/api/v3/ticker/24hr", weight=80, params=(("type", "MINI"),)),
    newest_ids_weights=((20, 2), (100, 40)),
    weight_pool="spot",
    weight_per_minute=6_000,
    klines=Klines(
        Endpoint("/api/v3/klines", weight=2, max_rows=1_000), {60_000: "1m", 1_000: "1s"}
    ),
    open_rest_url="https://data-api.binance.vision",
    open_stream_url="wss://data-stream.binance.vision",
)
