"""Binance's USD-M futures (docs: "USDⓈ-M Futures", "Change Log").

Of `@trade` the documentation says nothing; it has been there all the same, for years, and every id
of a symbol is on it: what is no fill of the order book says so in its field X.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bintrades.core.gap_queue import FIRST_RETRY_S, LONGEST_RETRY_S
from bintrades.exchange.binance.aggregate_messages import decode_aggregates
from bintrades.exchange.binance.futures_plan import FuturesPlan
from bintrades.exchange.binance.market import MILLISECOND, Endpoint, Klines, Market, Stream
from bintrades.exchange.binance.trade_messages import decode_futures_trades
from bintrades.exchange.hosts import Hosts
from bintrades.model import IdLaw
from bintrades.util.backoff import Backoff

if TYPE_CHECKING:
    from bintrades.exchange.binance.budget import Budget
    from bintrades.exchange.binance.history import History
    from bintrades.exchange.binance.rest import RestClient
    from bintrades.util.runtime import Runtime

FUTURES_DELISTED = frozenset({"SETTLING", "DELIVERED", "CLOSE"})
"""A contract that is about to start or to be delivered has another status yet."""

FUTURES_POOL = "futures"
"""USD-M and COIN-M count what one address asks together."""

FUTURES_HISTORY_MS = 48 * 3_600_000

KLINE_ROWS, KLINE_WEIGHT, KLINE_WEIGHTS = 499, 2, ((99, 1),)
"""More than 499 rows weigh 5 and 10: the more, the dearer is each. The documentation puts the edges
below 100 and 500, what was measured at them."""


def make_history(
    market: Market,
    stream: Stream,
    rest: RestClient,
    budget: Budget,
    max_age_ms: int,
    runtime: Runtime,
) -> History:
    """Return the past trades of a market whose endpoints answer as those of futures do."""
    from bintrades.exchange.binance.history import History

    plan = FuturesPlan(
        market,
        max_age_ms,
        lambda: Backoff(FIRST_RETRY_S, LONGEST_RETRY_S, runtime.rng),
        has_key=rest.has_key,
        is_of_aggregates=stream.name == "aggTrade",
        allowed=lambda: budget.allowed,
    )
    return History(rest, market, plan, budget, runtime.now)


USDM = Market(
    name="usdm",
    streams=(
        Stream("trade", "/public/stream", b'@trade","data":{"e":"trade",', decode_futures_trades),
        Stream(
            "aggTrade", "/market/stream", b'@aggTrade","data":{"e":"aggTrade",', decode_aggregates
        ),
    ),
    time_units=(MILLISECOND,),
    make_history=make_history,
    id_law=IdLaw.WITH_FILLERS,
    stream_url="wss://fstream.binance.com",
    rest_url="https://fapi.binance.com",
    hosts=(
        Hosts("live", frozenset({"fstream.binance.com"}), frozenset({"fapi.binance.com"})),
        Hosts(
            "testnet",
            frozenset({"fstream.binancefuture.com"}),
            frozenset({"testnet.binancefuture.com"}),
        ),
        Hosts(
            "demo",
            frozenset({"demo-fstream.binance.com", "fstream.binancefuture.com"}),
            frozenset({"demo-fapi.binance.com"}),
        ),
    ),
    added_paths=("ws", "stream", "public", "market", "private", "fapi", "fapi/v1"),
    connection_life="24h",
    exchange_info=Endpoint("/fapi/v1/exchangeInfo", weight=1),
    delisted=FUTURES_DELISTED,
    historical_trades=Endpoint(
        "/fapi/v1/historicalTrades", weight=200, max_rows=500, needs_key=True
    ),
    aggregate_trades=Endpoint("/fapi/v1/aggTrades", weight=20, max_rows=1_000),
    recent_trades=Endpoint("/fapi/v1/trades", weight=5, max_rows=1_000),
    history_ms=FUTURES_HISTORY_MS,
    newest_ids=Endpoint("/fapi/v1/ticker/24hr", weight=40),
    newest_ids_weights=((1, 1),),
    newest_ids_take_one=True,
    weight_pool=FUTURES_POOL,
    weight_per_minute=2_400,
    klines=Klines(
        Endpoint("/fapi/v1/klines", weight=KLINE_WEIGHT, max_rows=KLINE_ROWS),
        {60_000: "1m"},
        KLINE_WEIGHTS,
    ),
)
