"""One market of Binance, assembled: catalogue, feed, backfill and budget over one network."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from bintrades.core.gap_queue import FIRST_RETRY_S, LONGEST_RETRY_S
from bintrades.exchange.binance.backfill_plan import BackfillPlan
from bintrades.exchange.binance.budget import Budget
from bintrades.exchange.binance.catalog import Catalog
from bintrades.exchange.binance.feed.pool import ConnectionPool
from bintrades.exchange.binance.feed.reader import AttemptLimit, Reader, StreamOptions, connector
from bintrades.exchange.binance.history import History
from bintrades.exchange.binance.markets import MARKETS
from bintrades.exchange.binance.messages import decode
from bintrades.exchange.binance.rest import RestClient
from bintrades.net.network import SystemNetwork
from bintrades.util.backoff import Backoff
from bintrades.util.clocks import now_ms

if TYPE_CHECKING:
    import queue
    from collections.abc import Callable, Sequence

    from bintrades.exchange.events import Event
    from bintrades.exchange.port import ExchangeOptions
    from bintrades.net.dialing import Dialer


class BinanceExchange:
    """An Exchange, see exchange.port.

    *weight_share* is the percentage of the exchange's request weight that may be used, and
    *banned_for_ms* for how long an earlier process was told to make no requests. Raises
    ConfigError for certificates that cannot be read.
    """

    decode = staticmethod(decode)

    def __init__(
        self, options: ExchangeOptions, dialer: Dialer, *, weight_share: int, banned_for_ms: int
    ) -> None:
        self.market = MARKETS[options.market]
        weight = self.market.weight_per_minute
        self.budget = Budget(weight, weight_share, banned_for_ms, now_ms())
        self._options = options
        self._dialer = dialer
        self._rest = RestClient(options.rest_url, self.market, SystemNetwork(dialer))
        self.catalog = Catalog(self._rest, self.budget)

    def close(self) -> None:
        """Close the connections of the REST side."""
        self._rest.close()

    def make_feed(
        self, symbols: Sequence[str], inbox: queue.Queue[Event], on_failure: Callable[[str], None]
    ) -> ConnectionPool:
        """Return the streams of *symbols*, not started yet."""
        options = self._options
        attempts = AttemptLimit(self.market)
        stream_options = StreamOptions(
            stream_url=options.stream_url,
            market=self.market,
            connect=connector(options.stream_url, self._dialer),
            coalesce_ms=options.coalesce_ms,
            silence_timeout_ms=options.silence_timeout_ms,
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
        )

    def make_history(self, max_age_ms: int) -> History:
        """Return the past trades; those older than *max_age_ms* are not asked for."""
        rng = random.Random()  # noqa: S311 - spreads attempts, keeps no secret
        plan = BackfillPlan(
            self.market, max_age_ms, lambda: Backoff(FIRST_RETRY_S, LONGEST_RETRY_S, rng)
        )
        return History(self._rest, self.market, plan, self.budget)
