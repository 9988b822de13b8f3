"""One market of Binance, assembled: what its parts, each in a thread of its own, do not share."""

from __future__ import annotations

import email.utils
import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, NoReturn

import pytest

from bintrades.config.loader import load_config
from bintrades.exchange.binance.exchange import open_exchange
from bintrades.model import IdLaw, SeriesKey
from tests.networks import system_network

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bintrades.net.http_pool import HttpLimits
    from bintrades.net.network import HttpClient

GIVEN_S = 1_723_118_400
TICKER, CATALOG = b'[{"symbol":"BTCUSDT","lastId":7}]', b'{"symbols":[{"symbol":"BTCUSDT"}]}'


class SlowTicker(BaseHTTPRequestHandler):
    """Begins to answer about the newest trades at once, and ends when it is told to."""

    protocol_version = "HTTP/1.1"
    has_begun, may_end = threading.Event(), threading.Event()

    def do_GET(self) -> None:
        """Answer; what is not the ticker is the list of symbols, of eight seconds later."""
        is_ticker = "ticker" in self.path
        body, at = (TICKER, GIVEN_S) if is_ticker else (CATALOG, GIVEN_S + 8)
        self.send_response_only(200)
        self.send_header("Date", email.utils.formatdate(at, usegmt=True))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:5])
        if is_ticker:
            self.has_begun.set()
            self.may_end.wait(60)
        self.wfile.write(body[5:])

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


def test_another_answer_that_comes_meanwhile_does_not_say_how_old_the_newest_trades_are(
    tmp_path: Path,
) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), SlowTicker)
    path = tmp_path / "b.ini"
    path.write_text(f"[binance]\nrest_url = http://127.0.0.1:{server.server_port}\n")
    options = load_config(path, {}).exchange_options
    exchange = open_exchange(options, system_network(), weight_share=50, banned_for_ms=0)
    with closing(exchange), ThreadPoolExecutor(2) as threads:
        threads.submit(server.serve_forever)
        newest = threads.submit(exchange.make_history(1_000).newest_ids, ["BTCUSDT"])
        assert SlowTicker.has_begun.wait(60)
        exchange.catalog.list_symbols()
        SlowTicker.may_end.set()

        assert newest.result(60).said_at == GIVEN_S * 1000
        server.shutdown()
    server.server_close()


class Opened(Exception):  # noqa: N818 - no failure
    """A stream was opened."""


class UrlsOnly:
    """A network that tells which address a stream is opened at, and opens none."""

    def __init__(self) -> None:
        self.urls: queue.Queue[str] = queue.Queue()

    def open_stream(self, url: str, *, receive_timeout_s: float, copy: int) -> NoReturn:  # noqa: ARG002
        """Note the address."""
        self.urls.put(url)
        raise Opened

    def open_http(self, url: str, headers: Mapping[str, str], limits: HttpLimits) -> HttpClient:
        """Return a client of this machine's network: it connects when it is asked."""
        return system_network().open_http(url, headers, limits)


@pytest.mark.parametrize(
    ("options", "url"),
    [
        ("", "wss://stream.binance.com:9443/stream"),
        ("stream = aggTrade", "wss://stream.binance.com:9443/stream"),
        ("time_unit = microsecond", "wss://stream.binance.com:9443/stream?timeUnit=MICROSECOND"),
        ("market = usdm", "wss://fstream.binance.com/public/stream"),
        ("market = usdm\nstream = aggTrade", "wss://fstream.binance.com/market/stream"),
        ("market = coinm\nstream = aggTrade", "wss://dstream.binance.com/stream"),
        ("market = us", "wss://stream.binance.us:9443/stream"),
    ],
)
def test_a_stream_is_opened_where_its_market_has_it(tmp_path: Path, options: str, url: str) -> None:
    path = tmp_path / "b.ini"
    path.write_text(f"[binance]\n{options}\n")
    network = UrlsOnly()
    exchange = open_exchange(
        load_config(path, {}).exchange_options, network, weight_share=50, banned_for_ms=0
    )
    with closing(exchange):
        feed = exchange.make_feed(["BTCUSDT"], queue.Queue(), lambda _error: None)
        feed.start()
        try:
            assert network.urls.get(timeout=60) == url
        finally:
            for reader in feed.readers:
                reader.stop()
            for reader in feed.readers:
                assert reader.join(60)


@pytest.mark.parametrize("stream", ["trade", "aggTrade"])
def test_a_series_of_contracts_knows_what_one_is_worth(tmp_path: Path, stream: str) -> None:
    path = tmp_path / "b.ini"
    path.write_text(f"[binance]\nmarket = coinm\nstream = {stream}\n")
    options = load_config(path, {}).exchange_options
    exchange = open_exchange(options, system_network(), weight_share=50, banned_for_ms=0)
    with closing(exchange):
        key = exchange.series("BTCUSD_PERP", Decimal(100))

    assert key == SeriesKey(
        "binance", "coinm", "BTCUSD_PERP", stream, IdLaw.WITH_FILLERS, Decimal(100)
    )
