"""In what the simulated exchange's markets differ, written down apart from what is tested with it.

Values; of the fields and weights that the exchange documents or was seen to use.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_HOURS_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class MarketRules:
    """One market: where it is asked, what a request weighs, what it tells and what it refuses."""

    name: str
    api: str
    """What the path of each endpoint begins with."""
    weight_limit: int
    weights: Mapping[str, int]
    """Of a request, by the last part of its path; of tickers that of all symbols."""
    ticker_weights: tuple[tuple[int, int], ...]
    """Of a request that names up to so many symbols: number and weight."""
    intervals: Mapping[str, int]
    """Lengths of klines, milliseconds, by the names that the exchange has for them."""
    messages_per_second: int = 5
    kline_weights: tuple[tuple[int, int], ...] = ()
    """What klines weigh up to a limit, where that matters."""
    most_klines: int = 1_000
    needs_key: bool = False
    """Whether historicalTrades are told to those only who send a key."""
    is_futures: bool = False
    """Whether ids are used up by what is no fill, and aggregates span a tenth of a second."""
    has_contracts: bool = False
    """Whether quantities are contracts, and values in the base asset."""
    is_routed: bool = False
    """Whether @trade comes on the public path only, and @aggTrade on that of the market only."""
    has_microseconds: bool = False
    history_ms: int | None = None
    """Older trades and aggregates are refused."""
    historical_limits: tuple[int, int] = (500, 1_000)
    """Of historicalTrades: rows without a limit, and with the largest."""

    @property
    def status_key(self) -> str:
        """What exchangeInfo calls the status of a symbol."""
        return "contractStatus" if self.has_contracts else "status"

    @property
    def settlement(self) -> int:
        """Which kind of futures a message is of, its field st."""
        return 2 if self.has_contracts else 1

    def carries(self, target: str, stream: str) -> bool:
        """Whether a connection to *target* gets what it subscribed to; it is told that it does."""
        if not self.is_routed:
            return True
        is_public = stream.endswith(("@trade", "@bookTicker")) or "@depth" in stream
        return is_public != target.startswith("/market/")


_MINUTES = {"1m": 60_000}
_SECONDS_AND_MINUTES = {"1s": 1_000, "1m": 60_000}
_FUTURES_WEIGHTS = {
    "ping": 1,
    "time": 1,
    "exchangeInfo": 1,
    "trades": 5,
    "historicalTrades": 200,
    "aggTrades": 20,
    "klines": 5,
    "24hr": 40,
}
_FUTURES_KLINES = ((100, 1), (500, 2), (1_000, 5), (1_500, 10))

SPOT = MarketRules(
    name="spot",
    api="/api/v3",
    weight_limit=6_000,
    weights={
        "ping": 1,
        "time": 1,
        "exchangeInfo": 20,
        "trades": 25,
        "historicalTrades": 25,
        "aggTrades": 4,
        "klines": 2,
        "24hr": 80,
    },
    ticker_weights=((1, 1), (20, 2), (100, 40)),
    intervals=_SECONDS_AND_MINUTES,
    has_microseconds=True,
)

USDM = MarketRules(
    name="usdm",
    api="/fapi/v1",
    weight_limit=2_400,
    weights=_FUTURES_WEIGHTS,
    ticker_weights=((1, 1),),
    intervals=_MINUTES,
    messages_per_second=10,
    kline_weights=_FUTURES_KLINES,
    most_klines=1_500,
    needs_key=True,
    is_futures=True,
    is_routed=True,
    history_ms=48 * _HOURS_MS,
    historical_limits=(100, 500),
)

COINM = replace(USDM, name="coinm", api="/dapi/v1", has_contracts=True, is_routed=False)

US = MarketRules(
    name="us",
    api="/api/v3",
    weight_limit=1_200,
    weights={
        "ping": 1,
        "time": 1,
        "exchangeInfo": 10,
        "trades": 1,
        "historicalTrades": 5,
        "aggTrades": 1,
        "klines": 1,
        "24hr": 40,
    },
    ticker_weights=((20, 1), (100, 20)),
    intervals=_MINUTES,
    needs_key=True,
)

MARKETS = {rules.name: rules for rules in (SPOT, USDM, COINM, US)}
