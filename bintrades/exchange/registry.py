"""Every exchange that can be collected from: the only module that imports a certain one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from bintrades.exchange.binance.markets import MARKETS as BINANCE_MARKETS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bintrades.exchange.port import Exchange, ExchangeOptions, MarketFacts
    from bintrades.net.dialing import Dialer


class OpenExchange(Protocol):
    """Assembles one market of an exchange."""

    def __call__(
        self, options: ExchangeOptions, dialer: Dialer, *, weight_share: int, banned_for_ms: int
    ) -> Exchange:
        """Return the exchange; raises ConfigError for certificates that cannot be read."""


@dataclass(frozen=True, slots=True)
class ExchangeKind:
    """An exchange: its markets, by the names in the configuration, and how one is opened."""

    markets: Mapping[str, MarketFacts]
    open: OpenExchange


def _open_binance(
    options: ExchangeOptions, dialer: Dialer, *, weight_share: int, banned_for_ms: int
) -> Exchange:
    # Imported when opened: the commands that only read the configuration need none of it.
    from bintrades.exchange.binance.exchange import BinanceExchange

    return BinanceExchange(options, dialer, weight_share=weight_share, banned_for_ms=banned_for_ms)


EXCHANGES = {"binance": ExchangeKind(BINANCE_MARKETS, _open_binance)}
"""By the name of its section in the configuration."""
