"""Every exchange that can be collected from: the only module that imports a certain one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bintrades.exchange.binance.markets import MARKETS as BINANCE_MARKETS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bintrades.exchange.port import MarketFacts

MARKETS: Mapping[str, Mapping[str, MarketFacts]] = {"binance": BINANCE_MARKETS}
"""The markets of each exchange, by the names in the configuration."""
