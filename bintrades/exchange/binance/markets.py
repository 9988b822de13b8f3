"""Every market of Binance that can be collected."""

from __future__ import annotations

from bintrades.exchange.binance.spot import SPOT

MARKETS = {market.name: market for market in (SPOT,)}
"""By the name in the configuration; the first is the default."""
