"""Requests to a REST server on loopback, and how each failure is told."""

from __future__ import annotations

import gzip
import json
import re
import ssl
import threading
import time
import tracemalloc
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
import trustme

from bintrades.errors import ExchangeError
from bintrades.exchange.binance.market import Endpoint
from bintrades.exchange.binance.markets import MARKETS
from bintrades.exchange.binance.rest import RestClient, RestError
from bintrades.exchange.symbols import SymbolInfo
from bintrades.net.dialing import Dialer
from bintrades.net.network import SystemNetwork
from bintrades.util.clocks import utc_ms
from tests.networks import system_network
from tests.servers import HttpProxy, SocksProxy, dripping, flooding, say_nothing, server

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

SPOT = MARKETS["spot"]


@dataclass
class Exchange:
    """Answers every request with what a test put here, and keeps what was asked."""

    url: str = ""
    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    is_silent: bool = False
    drip: threading.Event = field(default_factory=threading.Event)
    skew_s: int = 0
    paths: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    connections: set[int] = field(default_factory=set)
    released: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serve(exchange: Exchange, tls: ssl.SSLContext | None = None) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            exchange.paths.append(self.path)
            exchange.hosts.add(self.headers["Host"])
            exchange.connections.add(self.client_address[1])
            if exchange.is_silent:
                exchange.released.wait(30)
                self.close_connection = True
                return
            self.send_response(exchange.status)
            for name, value in {
                "Content-Length": str(len(exchange.body)),
                **exchange.headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            if not exchange.drip.is_set():
                self.wfile.write(exchange.body)
                return
            self.close_connection = True
            while not exchange.released.wait(0.02):
                self.wfile.write(b" ")

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string((timestamp or time.time()) + exchange.skew_s)

        def log_message(self, *_args: object) -> None:
            """Keep the test's output clean."""

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:
                return  # a client that had enough

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        exchange.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
        yield
        exchange.released.set()
        server.shutdown()
        thread.join(10)


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    exchange = Exchange()
    with serve(exchange):
        yield exchange


@pytest.fixture
def client(exchange: Exchange) -> Iterator[RestClient]:
    with RestClient(exchange.url, SPOT, system_network()) as client:
        yield client


def failure(client: RestClient) -> RestError:
    """The error of a request for the list of symbols."""
    with pytest.raises(RestError) as raised:
        client.exchange_symbols()
    assert str(raised.value).isprintable()
    return raised.value


def test_a_symbol_of_the_exchange_is_delisted_once_its_status_is_break(
    exchange: Exchange, client: RestClient
) -> None:
    rows = [
        {"symbol": "BTCUSDT", "status": "TRADING", "filters": [{"tickSize": "0.01"}]},
        {"symbol": "币安人生USDT", "status": "BREAK"},
        {"symbol": "NEWUSDT", "status": "SOMETHING_NEW"},
    ]
    exchange.body = json.dumps({"timezone": "UTC", "symbols": rows}).encode()

    assert client.exchange_symbols() == [
        SymbolInfo("BTCUSDT"),
        SymbolInfo("币安人生USDT", is_delisted=True, status="BREAK"),
        SymbolInfo("NEWUSDT", status="SOMETHING_NEW"),
    ]
    assert exchange.paths == ["/api/v3/exchangeInfo?showPermissionSets=false"]


def test_a_connection_is_used_again(exchange: Exchange, client: RestClient) -> None:
    exchange.body = b'{"symbols": []}'

    client.exchange_symbols()
    client.exchange_symbols()

    assert len(exchange.paths) == 2
    assert len(exchange.connections) == 1


def test_an_encrypted_connection_is_used_again() -> None:
    authority = trustme.CA()
    theirs, ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(theirs)
    authority.configure_trust(ours)
    exchange = Exchange(body=json.dumps({"symbols": [{"symbol": "x" * 300_000}]}).encode())
    with (
        serve(exchange, theirs),
        RestClient(exchange.url, SPOT, SystemNetwork(Dialer(lambda: ours))) as client,
    ):
        for _ in range(3):
            assert len(client.exchange_symbols()[0].symbol) == 300_000

    assert len(exchange.connections) == 1


def test_a_request_is_typed_and_its_parameters_are_encoded(
    exchange: Exchange, client: RestClient
) -> None:
    exchange.body = b'{"serverTime": 1700000000000}'

    answer = client.get(
        Endpoint("/api/v3/time", 1), {"symbol": "币USDT", "limit": 5}, dict[str, int]
    )

    assert answer == {"serverTime": 1_700_000_000_000}
    assert exchange.paths == ["/api/v3/time?symbol=%E5%B8%81USDT&limit=5"]


def test_the_address_may_have_a_path(exchange: Exchange) -> None:
    exchange.body = b'{"symbols": []}'
    with RestClient(exchange.url + "/binance/", SPOT, system_network()) as client:
        client.exchange_symbols()

    assert exchange.paths == ["/binance/api/v3/exchangeInfo?showPermissionSets=false"]


def test_a_refusal_tells_what_was_asked_and_what_the_exchange_said(
    exchange: Exchange, client: RestClient
) -> None:
    exchange.status = 400
    exchange.body = b'{"code": -1121, "msg": "Invalid symbol."}'

    error = failure(client)

    assert str(error) == (
        f"GET {exchange.url}/api/v3/exchangeInfo?showPermissionSets=false: 400 Bad Request; "
        "code -1121: Invalid symbol."
    )
    assert (error.status, error.code, error.retry_after_s) == (400, -1121, None)
    assert isinstance(error, ExchangeError)


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (403, "its firewall refused the request; wait some minutes"),
        (418, "this address is banned for asking too much; wait 120 s"),
        (429, "this address asks too much; wait 120 s"),
        (451, "set [binance] rest_url = https://data-api.binance.vision"),
    ],
)
def test_a_refusal_tells_what_to_do(
    exchange: Exchange, client: RestClient, status: int, advice: str
) -> None:
    exchange.status = status
    exchange.body = b'{"code": 0, "msg": "Service unavailable from a restricted location"}'
    exchange.headers = {"Retry-After": "120"}

    error = failure(client)

    assert advice in str(error)
    assert "code 0: Service unavailable from a restricted location" in str(error)
    assert error.retry_after_s == 120


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"<html>\n<b>busy</b>\x1b[31m</html>", "<html> <b>busy</b>?[31m</html>"),
        (b"[1, 2]", "[1, 2]"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"", "503 Service Unavailable"),
        (b'{"x":' + b"[" * 100_000, '{"x":' + "[" * 195),
        (b"x" * 10_000, "x" * 200),
    ],
)
def test_an_answer_that_is_not_json_is_shown_from_its_start(
    exchange: Exchange, client: RestClient, body: bytes, shown: str
) -> None:
    exchange.status = 503
    exchange.body = body

    message = str(failure(client))

    assert message.endswith(shown)
    assert len(message) < 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"<html>",
        b'{"symbols": [{"status": 1}]}',
        b"\xff",
        b'{"x":' + b"[" * 100_000,
    ],
)
def test_an_answer_of_another_shape_is_a_failure(
    exchange: Exchange, client: RestClient, body: bytes
) -> None:
    exchange.body = body

    assert "not the expected answer: " in str(failure(client))


def test_a_redirect_is_not_followed(exchange: Exchange, client: RestClient) -> None:
    exchange.status = 302
    exchange.headers = {"Location": f"{exchange.url}/login"}

    assert f"302 Found; it points to {exchange.url}/login" in str(failure(client))
    assert len(exchange.paths) == 1


@pytest.mark.parametrize(
    ("headers", "until_s", "expected_s"),
    [({}, 90, 90), ({}, -90, 0), ({"Retry-After": "7"}, 90, 7)],
)
def test_where_the_header_is_missing_the_message_of_a_ban_says_how_long(
    exchange: Exchange,
    client: RestClient,
    headers: dict[str, str],
    until_s: int,
    expected_s: int,
) -> None:
    exchange.status = 418
    exchange.headers = headers
    until = utc_ms() + until_s * 1000
    text = f"Way too much request weight used; IP banned until {until}. Please use WebSocket"
    exchange.body = json.dumps({"code": -1003, "msg": text}).encode()

    # The exchange's own clock decides, whose Date has whole seconds.
    assert failure(client).retry_after_s in (max(0, expected_s - 1), expected_s, expected_s + 1)


def test_a_strange_retry_after_is_left_out(exchange: Exchange, client: RestClient) -> None:
    exchange.status = 429
    exchange.headers = {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}

    assert failure(client).retry_after_s is None


def test_an_endless_answer_is_cut_off(exchange: Exchange) -> None:
    exchange.body = gzip.compress(b" " * 10_000_000)
    exchange.headers = {"Content-Encoding": "gzip"}
    with RestClient(exchange.url, SPOT, system_network(), max_answer_bytes=1_000) as client:
        assert str(failure(client)).endswith("more than 1000 bytes came")


def test_an_answer_that_comes_drop_by_drop_is_cut_off(exchange: Exchange) -> None:
    exchange.headers = {"Content-Length": "1000000"}
    exchange.drip.set()
    with RestClient(exchange.url, SPOT, system_network(), answer_timeout_s=0.2) as client:
        assert "not whole after 0.2 s" in str(failure(client))


def test_a_silent_server_is_a_failure_in_time(exchange: Exchange) -> None:
    exchange.is_silent = True
    with RestClient(exchange.url, SPOT, system_network(), timeout_s=0.1) as client:
        assert "no answer: timed out" in str(failure(client))


def test_an_answer_cut_short_and_a_broken_encoding_are_failures(
    exchange: Exchange, client: RestClient
) -> None:
    exchange.headers = {"Content-Encoding": "gzip"}
    exchange.body = b"not gzip"
    assert "no answer: " in str(failure(client))

    exchange.headers = {"Content-Length": "1000", "Connection": "close"}
    assert "no answer: " in str(failure(client))


def test_nobody_listening_is_a_failure() -> None:
    exchange = Exchange()
    with serve(exchange):
        pass
    with RestClient(exchange.url, SPOT, system_network()) as client:
        assert "no answer: " in str(failure(client))


def test_a_closed_client_fails_like_any_other(client: RestClient) -> None:
    client.close()

    assert "no answer: " in str(failure(client))


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
def test_the_proxy_of_the_environment_is_used(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    exchange.body = b'{"symbols": []}'
    proxy = HttpProxy(int(exchange.url.rpartition(":")[2]))

    with server(proxy.serve) as port:
        monkeypatch.setenv(variable, f"http://me:secret@127.0.0.1:{port}")
        with RestClient("http://exchange.example", SPOT, system_network()) as client:
            assert client.exchange_symbols() == []
            assert client.exchange_symbols() == []

    assert proxy.requests == ["CONNECT exchange.example:80 HTTP/1.1"]
    assert "Proxy-Authorization: Basic bWU6c2VjcmV0\r\n" in proxy.heads[0]
    assert exchange.paths == ["/api/v3/exchangeInfo?showPermissionSets=false"] * 2
    assert exchange.hosts == {"exchange.example"}


def test_a_socks_proxy_of_the_environment_is_used(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange.body = b'{"symbols": []}'
    proxy = SocksProxy(int(exchange.url.rpartition(":")[2]))

    with server(proxy.serve) as port:
        monkeypatch.setenv("ALL_PROXY", f"socks5://127.0.0.1:{port}")
        with RestClient("http://exchange.example", SPOT, system_network()) as client:
            assert client.exchange_symbols() == []

    assert proxy.requests == [("exchange.example", 80)]


def test_a_proxy_that_cannot_be_used_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "carrier-pigeon://x")

    with RestClient("http://exchange.example", SPOT, system_network()) as client:
        assert "no answer: ALL_PROXY=carrier-pigeon://x: no proxy of the kind" in str(
            failure(client)
        )


def test_a_proxy_that_refuses_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(HttpProxy(0, "407 Proxy Authentication Required").serve) as port:
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{port}")
        with RestClient("http://exchange.example", SPOT, system_network()) as client:
            assert str(failure(client)).endswith(
                f"no answer: http://127.0.0.1:{port} (ALL_PROXY) refuses a way to "
                "exchange.example:80: 407 Proxy Authentication Required; put its user and "
                "password into the address"
            )


@pytest.mark.parametrize("skew_s", [-172_800, 172_800])
def test_how_long_a_ban_lasts_is_told_by_the_exchanges_clock(
    exchange: Exchange, client: RestClient, skew_s: int
) -> None:
    exchange.status = 418
    exchange.skew_s = skew_s
    until = utc_ms() + (skew_s + 90) * 1000
    exchange.body = json.dumps({"code": -1003, "msg": f"IP banned until {until}"}).encode()

    assert failure(client).retry_after_s in (89, 90, 91)


def test_an_answer_before_the_answer_does_not_keep_it_waiting_for_ever(exchange: Exchange) -> None:
    sent: list[int] = []
    with server(flooding(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000, sent)) as port:
        url = f"http://127.0.0.1:{port}"
        with RestClient(url, SPOT, system_network(), max_answer_bytes=100_000) as client:
            # Newer Pythons count them, and end it before we do by the bytes.
            ends = r"no answer: (more than 1248576 bytes came|got more than 100 interim responses)$"
            assert re.search(ends, str(failure(client)))
    assert sum(sent) < 20_000_000


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nX-Slow: ",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n",
    ],
    ids=["status", "headers", "chunk size", "body"],
)
@pytest.mark.parametrize("is_encrypted", [False, True], ids=["plain", "TLS"])
def test_whatever_comes_drop_by_drop_is_cut_off(is_encrypted: bool, first: bytes) -> None:
    """Each drop comes in time; only all of them together do not."""
    authority = trustme.CA()
    theirs, ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(theirs)
    authority.configure_trust(ours)
    drip = dripping(first, b"1")

    def serve(accepted: socket.socket) -> None:
        if is_encrypted:
            with theirs.wrap_socket(accepted, server_side=True) as encrypted:
                drip(encrypted)
        else:
            drip(accepted)

    with server(serve) as port:
        scheme = "https" if is_encrypted else "http"
        with RestClient(
            f"{scheme}://127.0.0.1:{port}",
            SPOT,
            SystemNetwork(Dialer(lambda: ours)),
            timeout_s=5.0,
            answer_timeout_s=1.5,
        ) as client:
            assert "no answer: timed out: not whole after 1." in str(failure(client))


def test_a_handshake_of_tls_that_comes_drop_by_drop_is_cut_off() -> None:
    record = b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc"  # a ServerHello of 16 KiB begins
    with (
        server(dripping(record)) as port,
        RestClient(f"https://127.0.0.1:{port}", SPOT, system_network(), timeout_s=0.5) as client,
    ):
        assert "no answer: timed out: not whole after 0.5 s" in str(failure(client))


def test_a_small_answer_that_unpacks_without_end_takes_no_memory(exchange: Exchange) -> None:
    exchange.body = gzip.compress(b" " * 200_000_000)
    exchange.headers = {"Content-Encoding": "gzip"}
    with RestClient(exchange.url, SPOT, system_network(), max_answer_bytes=1_000_000) as client:
        tracemalloc.start()
        try:
            assert str(failure(client)).endswith("more than 1000000 bytes came")
            assert tracemalloc.get_traced_memory()[1] < 10_000_000
        finally:
            tracemalloc.stop()


def test_an_answer_that_announces_its_end_is_whole(exchange: Exchange, client: RestClient) -> None:
    exchange.body = json.dumps({"symbols": [{"symbol": "x" * 1_000_000}]}).encode()
    exchange.headers = {"Connection": "close"}

    assert len(client.exchange_symbols()[0].symbol) == 1_000_000
    assert len(client.exchange_symbols()[0].symbol) == 1_000_000
    assert len(exchange.connections) == 2


def test_a_failed_request_leaves_a_client_that_works(
    exchange: Exchange, client: RestClient
) -> None:
    exchange.headers = {"Content-Length": "1000", "Connection": "close"}
    assert "no answer: " in str(failure(client))

    exchange.headers = {}
    exchange.body = b'{"symbols": []}'
    assert client.exchange_symbols() == []


def test_each_request_has_a_deadline_of_its_own(exchange: Exchange) -> None:
    exchange.body = b'{"symbols": []}'
    with RestClient(exchange.url, SPOT, system_network(), answer_timeout_s=2.0) as client:
        for _ in range(2):
            assert client.exchange_symbols() == []
            threading.Event().wait(2.1)
        exchange.headers = {"Content-Length": "1000000"}
        exchange.drip.set()
        assert "timed out: not whole after 2 s" in str(failure(client))
    assert len(exchange.connections) == 1


def test_after_an_answer_that_was_too_long_the_next_one_is_read_from_its_beginning() -> None:
    bodies = [(1_000_000, b" " * 65_536), (15, b'{"symbols": []}')]

    def serve(accepted: socket.socket) -> None:
        accepted.recv(65_536)
        length, body = bodies.pop(0)
        accepted.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length + body)
        say_nothing(accepted)

    with (
        server(serve) as port,
        RestClient(
            f"http://127.0.0.1:{port}", SPOT, system_network(), max_answer_bytes=1_000
        ) as client,
    ):
        assert "more than 1000 bytes came" in str(failure(client))
        assert client.exchange_symbols() == []


@pytest.mark.parametrize("host", ["[::1]", "localhost"])
def test_the_host_is_said_as_the_address_has_it(host: str) -> None:
    heads: list[str] = []

    def serve(accepted: socket.socket) -> None:
        heads.append(accepted.recv(65_536).decode())

    listens_on = "::1" if host == "[::1]" else "127.0.0.1"
    try:
        with (
            server(serve, listens_on) as port,
            RestClient(f"http://{host}:{port}", SPOT, system_network()) as client,
        ):
            assert "Remote end closed connection" in str(failure(client))
    except OSError:
        pytest.skip("this machine has no ::1")

    assert f"\r\nHost: {host}:{port}\r\n" in heads[0]


def test_a_host_beyond_ascii_is_said_as_name_services_have_it() -> None:
    with RestClient("http://börse.invalid", SPOT, system_network()) as client:
        assert "no answer: " in str(failure(client))


def test_certificates_are_verified() -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)

    with (
        server(lambda accepted: tls.wrap_socket(accepted, server_side=True).close()) as port,
        RestClient(f"https://127.0.0.1:{port}", SPOT, system_network()) as client,
    ):
        assert "no answer: [SSL: CERTIFICATE_VERIFY_FAILED]" in str(failure(client))
