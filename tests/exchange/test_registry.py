"""What the registry says of each exchange, and how one is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import pytest

from bintrades.config.loader import ExchangeConfig
from bintrades.core.ledger import Ledger
from bintrades.exchange.registry import EXCHANGES
from bintrades.model import SeriesKey

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bintrades.net.http_pool import HttpLimits

EVERY_MARKET = [(name, market) for name, kind in EXCHANGES.items() for market in kind.markets]


class NoAnswer:
    """An HTTP client that nobody asks."""

    def __init__(self) -> None:
        self.is_closed = False

    def get(self, target: str) -> NoReturn:
        """Fail the test."""
        pytest.fail(f"asked for {target}")

    def close(self) -> None:
        """Note that it is closed."""
        self.is_closed = True


class NoNetwork:
    """A network over which nothing goes."""

    def __init__(self) -> None:
        self.http = NoAnswer()

    def open_stream(self, url: str, *, receive_timeout_s: float, copy: int) -> NoReturn:  # noqa: ARG002
        """Fail the test."""
        pytest.fail(f"connects to {url}")

    def open_http(self, _url: str, _headers: Mapping[str, str], _limits: HttpLimits) -> NoAnswer:
        """Return a client that nobody asks."""
        return self.http


@pytest.mark.parametrize(("exchange", "market"), EVERY_MARKET)
def test_an_exchange_opens_each_of_its_markets_and_asks_nothing(exchange: str, market: str) -> None:
    network = NoNetwork()
    options = ExchangeConfig(market=market)

    opened = EXCHANGES[exchange].open(options, network, weight_share=50, banned_for_ms=7_000)

    assert opened.market is EXCHANGES[exchange].markets[market]
    assert opened.market.name == market
    assert opened.budget.banned_for(0) > 6_000 or opened.budget.last_error is None
    opened.close()
    assert network.http.is_closed


@pytest.mark.parametrize(("exchange", "market"), EVERY_MARKET)
def test_the_trade_ids_of_each_market_follow_a_law_that_the_ledger_counts_by(
    exchange: str, market: str
) -> None:
    assert EXCHANGES[exchange].markets[market].id_law in Ledger.LAWS


@pytest.mark.parametrize(("exchange", "market"), EVERY_MARKET)
def test_a_series_is_named_by_its_exchange_market_symbol_and_stream(
    exchange: str, market: str
) -> None:
    options = ExchangeConfig(market=market)
    opened = EXCHANGES[exchange].open(options, NoNetwork(), weight_share=50, banned_for_ms=0)

    law = EXCHANGES[exchange].markets[market].id_law
    assert opened.series("BTCUSDT") == SeriesKey(exchange, market, "BTCUSDT", options.stream, law)
    opened.close()
