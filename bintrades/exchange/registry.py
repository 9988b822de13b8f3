"""Every exchange that can be collected from: the only module that imports a certain one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from bintrades.exchange.binance.markets import MARKETS as BINANCE_MARKETS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from bintrades.exchange.port import Exchange, ExchangeOptions, MarketFacts
    from bintrades.model import Kline
    from bintrades.net.network import Network


class KlineFiles(Protocol):
    """Files with klines of one symbol and one length, as a source of klines."""

    symbol: str
    interval_ms: int
    may_be_revised: bool

    @property
    def spans(self) -> list[tuple[int, int]]:
        """What times the files are of, milliseconds, oldest first."""

    def intervals_ms(self, symbol: str) -> Sequence[int]:
        """Return the one length there is."""

    def klines(self, symbol: str, interval_ms: int, since_ms: int, until_ms: int) -> list[Kline]:
        """Return the klines of that time, oldest first. Raises BintradesError."""


class OpenKlineFiles(Protocol):
    """Opens files in the form of an exchange's public dumps."""

    def __call__(self, paths: Iterable[Path]) -> Sequence[KlineFiles]:
        """Return them by symbol and length. Raises ConfigError for a name that says too little.

        What is in them is read, and refused, as it is asked for.
        """


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
    open_kline_files: OpenKlineFiles


def _open_binance(
    options: ExchangeOptions, network: Network, *, weight_share: int, banned_for_ms: int
) -> Exchange:
    # Imported when opened: commands that only read the configuration need no network client.
    from bintrades.exchange.binance.exchange import open_exchange

    return open_exchange(options, network, weight_share=weight_share, banned_for_ms=banned_for_ms)


def _open_binance_kline_files(paths: Iterable[Path]) -> Sequence[KlineFiles]:
    from bintrades.exchange.binance.kline_dump import open_dumps

    return open_dumps(paths)


EXCHANGES: dict[str, ExchangeKind] = {
    "binance": ExchangeKind(BINANCE_MARKETS, _open_binance, _open_binance_kline_files)
}
"""By the name of its section in the configuration; the first is the one where there is none."""
