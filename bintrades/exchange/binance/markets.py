"""Every market of Binance that can be collected."""

from __future__ import annotations

from bintrades.exchange.binance.coinm import COINM
from bintrades.exchange.binance.spot import SPOT
from bintrades.exchange.binance.us import US
from bintrades.exchange.binance.usdm import USDM

MARKETS = {market.name: market for market in (SPOT, USDM, COINM, US)}
"""By the name in the configuration; the first is the default."""
