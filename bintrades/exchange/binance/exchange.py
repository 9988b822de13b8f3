"""One market of Binance, assembled: catalogue, feed, backfill and budget over one network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bintrades.exchange.binance.address_use import AddressUse
from bintrades.exchange.binance.catalog import Catalog
from bintrades.exchange.binance.feed.attempts import AttemptLimit
from bintrades.exchange.binance.feed.options import StreamOptions
from bintrades.exchange.binance.feed.pool import ConnectionPool
from bintrades.exchange.binance.feed.reader import Reader
from bintrades.exchange.binance.futures_reference import FuturesReference
from bintrades.exchange.binance.market import MICROSECOND
from bintrades.exchange.binance.markets import MARKETS
from bintrades.exchange.binance.reference import Reference as BinanceReference
from bintrades.exchange.binance.rest import RestClient
from bintrades.exchange.binance.shared_budget import SharedBudget
from bintrades.model import IdLaw, SeriesKey
from bintrades.util.clocks import now_ms
from bintrades.util.runtime import SYSTEM

if TYPE_CHECKING:
    import queue
    from collections.abc import Callable, Sequence
    from decimal import Decimal

    from bintrades.exchange.binance.budget import Budget
    from bintrades.exchange.binance.market import Market
    from bintrades.exchange.events import Event
    from bintrades.exchange.port import ExchangeOptions, History, Reference
    from bintrades.net.network import Network
    from bintrades.util.runtime import Runtime


class BinanceExchange:
    """An Exchange, see exchange.port."""

    def __init__(
        self,
        market: Market,
        options: ExchangeOptions,
        network: Network,
        budget: Budget,
        runtime: Runtime = SYSTEM,
        address: AddressUse | None = None,
    ) -> None:
        self.market = market
        self._stream = market.stream(options.stream)
        self.decode = self._stream.decode
        self.budget = budget
        self._options = options
        self._network = network
        self._runtime = runtime
        self._rests: list[RestClient] = []
        self._address = address
        self.catalog = Catalog(self._open_rest(), budget, runtime.now)

    def series(self, symbol: str, contract_size: Decimal | None = None) -> SeriesKey:
        """Return which series the trades of *symbol* are; contract_size is its SymbolInfo's."""
        market = self.market
        return SeriesKey(
            "binance", market.name, symbol, self._stream.name, market.id_law, contract_size
        )

    def close(self) -> None:
        """Close the connections of the REST side."""
        for rest in self._rests:
            rest.close()
        if self._address is not None:
            self._address.close()

    def make_feed(
        self, symbols: Sequence[str], inbox: queue.Queue[Event], on_failure: Callable[[str], None]
    ) -> ConnectionPool:
        """Return the streams of *symbols*, not started yet."""
        options = self._options
        attempts = AttemptLimit(self.market, self._address)
        stream_options = StreamOptions(
            stream_url=options.stream_url,
            market=self.market,
            stream=self._stream,
            network=self._network,
            coalesce_ms=options.coalesce_ms,
            silence_timeout_ms=options.silence_timeout_ms,
            runtime=self._runtime,
            is_in_microseconds=options.time_unit == MICROSECOND,
        )

        def make_reader(number: int, group: Sequence[str], copy: int) -> Reader:
            return Reader(
                number,
                group,
                inbox,
                stream_options,
                attempts,
                copy=copy,
                on_failure=on_failure,
            )

        return ConnectionPool(
            symbols,
            make_reader,
            group_size=options.streams_per_connection,
            redundancy=options.redundancy,
            rotate_after_ms=options.rotate_after_ms,
            rng=self._runtime.rng,
            counter=stream_options.counter,
        )

    def make_history(self, max_age_ms: int) -> History[Any]:
        """Return the past trades; those older than *max_age_ms* are not asked for."""
        market = self.market
        rest = self._open_rest()
        return market.make_history(
            market, self._stream, rest, self.budget, max_age_ms, self._runtime
        )

    def make_reference(self) -> Reference | None:
        """Return its own sums over its trades; None: it has none that bars can be checked by."""
        klines = self.market.klines
        if klines is None:
            return None
        is_dense = self.market.id_law is IdLaw.DENSE
        kind = BinanceReference if is_dense else FuturesReference
        return kind(self._open_rest(), klines, self.budget, self._runtime.now)

    def _open_rest(self) -> RestClient:
        """Return the REST side over connections of their own: each belongs to another thread."""
        rest = RestClient(
            self._options.rest_url, self.market, self._network, api_key=self._options.api_key
        )
        self._rests.append(rest)
        return rest


def open_exchange(
    options: ExchangeOptions, network: Network, *, weight_share: int, banned_for_ms: int
) -> BinanceExchange:
    """Assemble the market of *options*.

    *weight_share* is the percentage of the exchange's request weight that may be used, and
    *banned_for_ms* for how long an earlier process was asked to make no requests.
    """
    market = MARKETS[options.market]
    shared = options.shared_budget
    address = None if shared is None else AddressUse(shared, market.weight_pool)
    budget = SharedBudget(
        market.weight_per_minute, weight_share, banned_for_ms, now_ms(), address=address
    )
    return BinanceExchange(market, options, network, budget, address=address)
