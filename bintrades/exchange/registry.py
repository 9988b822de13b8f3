"""Every exchange that can be collected from: the only module that imports a certain one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from bintrades.exchange.binance.markets import MARKETS as BINANCE_MARKETS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bintrades.exchange.port import Exchange, ExchangeOptions, MarketFacts
    from bintrades.net.network import Network


class OpenExchange(Protocol):
    """Assembles one market of an exchange."""

    def __call__(
        self, options: ExchangeOptions, network: Network, *, weight_share: int, banned_for_ms: int
    ) -> Exchange:
        """Return the market of *options*.

        *weight_share* is the percentage of the exchange's request weight that may be used, and
        *banned_for_ms* for how long an earlier process was asked to make no requests.
        """


@dataclass(frozen=True, slots=True)
class ExchangeKind:
    """An exchange: its markets, by the names in the configuration, and how one is opened.

    The first of the markets is the one that is collected where none is named.
    """

    markets: Mapping[str, MarketFacts]
    open: OpenExchange


def _open_binance(
    options: ExchangeOptions, network: Network, *, weight_share: int, banned_for_ms: int
) -> Exchange:
    # Imported when opened: commands that only read the configuration need no network client.
    from bintrades.exchange.binance.exchange import open_exchange

    return open_exchange(options, network, weight_share=weight_share, banned_for_ms=banned_for_ms)


EXCHANGES: dict[str, ExchangeKind] = {"binance": ExchangeKind(BINANCE_MARKETS, _open_binance)}
"""By the name of its section in the configuration; the first is the one where there is none."""
