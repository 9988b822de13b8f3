"""Opening one WebSocket and reading it in bulk."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import ssl
import threading
import tracemalloc
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trustme
import websocket

from bintrades.net.dialing import Dialer
from bintrades.net.websocket import CONNECT_WITHIN_S, Connection
from bintrades.testing.exchange_simulator import ExchangeSimulator
from bintrades.testing.server_frames import encode_frame
from bintrades.version import __version__
from tests.servers import HttpProxy, SocksProxy, dripping, flooding, say_nothing, server

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECTION_ERRORS = (OSError, websocket.WebSocketException)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """Return a context that trusts the authority, and nobody else."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
def exchange() -> Iterator[ExchangeSimulator]:
    with ExchangeSimulator() as simulator:
        yield simulator


@pytest.fixture
def secure_exchange(authority: trustme.CA) -> Iterator[ExchangeSimulator]:
    """Run an exchange whose certificate is for stream.binance.test and for localhost."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("stream.binance.test", "localhost").configure_cert(tls)
    with ExchangeSimulator(tls=tls) as simulator:
        yield simulator


def connect(
    url: str, tls: ssl.SSLContext | None = None, *, within_s: float = CONNECT_WITHIN_S
) -> Connection:
    """Connect, trusting nobody unless *tls* does."""
    dialer = Dialer(lambda: tls or ssl.create_default_context())
    return Connection(url, dialer, receive_timeout_s=0.2, connect_within_s=within_s)


@contextmanager
def opened(url: str, tls: ssl.SSLContext | None = None) -> Iterator[Connection]:
    connection = connect(url, tls)
    try:
        yield connection
    finally:
        connection.close()


def port_of(exchange: ExchangeSimulator) -> int:
    return int(exchange.stream_url.rpartition(":")[2])


def receive(connection: Connection, size: int) -> bytes:
    """Return the next *size* bytes, or more."""
    received = b""
    while len(received) < size:
        received += connection.receive() or b""
    return received


def test_it_introduces_itself_and_claims_no_origin() -> None:
    requests: list[bytes] = []

    with (
        server(lambda accepted: requests.append(accepted.recv(65_536))) as port,
        pytest.raises(CONNECTION_ERRORS),
    ):
        connect(f"ws://127.0.0.1:{port}/stream")

    (request,) = requests
    assert request.startswith(b"GET /stream HTTP/1.1\r\n")
    assert f"User-Agent: bintrades/{__version__}\r\n".encode() in request
    assert b"origin:" not in request.lower()
    assert b"permessage-deflate" not in request


def test_many_frames_come_with_one_read(exchange: ExchangeSimulator) -> None:
    frames = [encode_frame(b"x" * 150)] * 1_000
    with opened(exchange.stream_url + "/stream") as connection:
        exchange.wait_for_connections(1)
        exchange.send_encoded(b"".join(frames))
        size = sum(map(len, frames))

        assert len(connection.receive() or b"") > 16_384
        exchange.send_encoded(*frames)
        receive(connection, size)


def test_nothing_in_time_is_none(exchange: ExchangeSimulator) -> None:
    with opened(exchange.stream_url + "/stream") as connection:
        assert connection.receive() is None


@pytest.mark.parametrize("is_encrypted", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("end", ["cut_all", "reset_all"])
def test_the_end_of_the_socket_is_a_connection_error(
    end: str,
    is_encrypted: bool,
    exchange: ExchangeSimulator,
    secure_exchange: ExchangeSimulator,
    trusting: ssl.SSLContext,
) -> None:
    server = secure_exchange if is_encrypted else exchange
    host = "localhost" if is_encrypted else "127.0.0.1"
    scheme = "wss" if is_encrypted else "ws"
    with opened(f"{scheme}://{host}:{port_of(server)}/stream", trusting) as connection:
        server.wait_for_connections(1)
        getattr(server, end)()
        with pytest.raises(ConnectionError):
            receive(connection, 1)


def test_closing_says_goodbye_and_lets_go_of_the_socket_at_once(
    secure_exchange: ExchangeSimulator, trusting: ssl.SSLContext
) -> None:
    url = f"wss://localhost:{port_of(secure_exchange)}/stream"
    connection = connect(url, trusting)
    secure_exchange.wait_for_connections(1)
    (client,) = secure_exchange.connections
    connection.close()
    connection.close()

    client.join(1)
    assert client.has_ended
    assert [(each.kind, each.payload) for each in secure_exchange.received] == [("close", b"1000")]


def test_what_was_sent_before_the_end_is_received(
    secure_exchange: ExchangeSimulator, trusting: ssl.SSLContext
) -> None:
    with opened(f"wss://localhost:{port_of(secure_exchange)}/stream", trusting) as connection:
        secure_exchange.wait_for_connections(1)
        secure_exchange.send_encoded(*[b"y" * 1_000] * 100)
        secure_exchange.cut_all()

        assert receive(connection, 100_000) == b"y" * 100_000
        with pytest.raises(ConnectionError):
            receive(connection, 1)


def test_many_records_come_with_one_read(
    secure_exchange: ExchangeSimulator, trusting: ssl.SSLContext
) -> None:
    with opened(f"wss://localhost:{port_of(secure_exchange)}/stream", trusting) as connection:
        secure_exchange.wait_for_connections(1)
        secure_exchange.send_encoded(*[b"z" * 100] * 400)
        secure_exchange.send_ping(b"after them")
        reads = [connection.receive() or b""]
        while b"after them" not in reads[-1]:
            reads.append(connection.receive() or b"")

        assert b"".join(reads).startswith(b"z" * 40_000)
        assert len(reads) < 40


def test_a_certificate_of_an_unknown_authority_is_refused(
    secure_exchange: ExchangeSimulator,
) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(f"wss://localhost:{port_of(secure_exchange)}/")


def test_a_certificate_for_another_host_is_refused(
    secure_exchange: ExchangeSimulator, trusting: ssl.SSLContext
) -> None:
    url = f"wss://127.0.0.1:{port_of(secure_exchange)}/stream"
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
        connect(url, trusting)


@pytest.mark.parametrize("status", [400, 403, 404, 418, 429, 451, 500, 503])
def test_a_refused_handshake_names_the_status(status: int, exchange: ExchangeSimulator) -> None:
    exchange.handshake_status(status)
    with pytest.raises(websocket.WebSocketException, match=str(status)):
        connect(exchange.stream_url + "/stream")


def test_a_refused_connection_is_an_error(exchange: ExchangeSimulator) -> None:
    exchange.refuse()
    with pytest.raises(ConnectionRefusedError):
        connect(exchange.stream_url + "/stream")


def test_an_unknown_host_is_an_error() -> None:
    with pytest.raises(CONNECTION_ERRORS):
        connect("ws://no-such-host.invalid/stream")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
    ],
)
def test_a_server_that_is_no_websocket_server_is_an_error(answer: bytes) -> None:
    def serve(accepted: socket.socket) -> None:
        accepted.recv(65_536)
        accepted.sendall(answer)

    with server(serve) as port, pytest.raises(CONNECTION_ERRORS):
        connect(f"ws://127.0.0.1:{port}/stream")


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_a_server_that_never_answers_is_given_up(scheme: str) -> None:
    with (
        server(say_nothing) as port,
        pytest.raises(CONNECTION_ERRORS, match="timed out"),
    ):
        connect(f"{scheme}://127.0.0.1:{port}/stream", within_s=0.2)


def test_an_encrypted_connection_goes_through_the_proxy_of_the_environment(
    secure_exchange: ExchangeSimulator, trusting: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = HttpProxy(port_of(secure_exchange))
    with server(proxy.serve) as port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        with opened("wss://stream.binance.test:9443/stream", trusting) as connection:
            secure_exchange.wait_for_connections(1)
            secure_exchange.send_text("through the proxy")
            assert receive(connection, 19).endswith(b"through the proxy")

    assert proxy.requests == ["CONNECT stream.binance.test:9443 HTTP/1.1"]


def test_a_plain_connection_goes_through_the_proxy_of_the_environment(
    exchange: ExchangeSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = HttpProxy(port_of(exchange))
    with server(proxy.serve) as port:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        with opened("ws://stream.binance.test/stream"):
            exchange.wait_for_connections(1)

    assert proxy.requests == ["CONNECT stream.binance.test:80 HTTP/1.1"]


def test_a_proxy_is_not_used_for_hosts_that_the_environment_excepts(
    exchange: ExchangeSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = HttpProxy(port_of(exchange))
    with server(proxy.serve) as port:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with opened(exchange.stream_url + "/stream"):
            exchange.wait_for_connections(1)

    assert proxy.requests == []


def test_a_proxy_that_refuses_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = HttpProxy(0, status="407 Proxy Authentication Required")
    with server(proxy.serve) as port:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        with pytest.raises(CONNECTION_ERRORS, match="407"):
            connect("ws://stream.binance.test/stream")


def test_user_and_password_of_the_proxy_are_said_to_it_alone(
    exchange: ExchangeSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = HttpProxy(port_of(exchange))
    with server(proxy.serve) as port:
        monkeypatch.setenv("ALL_PROXY", f"http://me:sec%3Aret@127.0.0.1:{port}")
        with opened("ws://stream.binance.test/stream"):
            exchange.wait_for_connections(1)

    assert "Proxy-Authorization: Basic bWU6c2VjOnJldA==\r\n" in proxy.heads[0]


def test_the_way_to_the_proxy_may_be_encrypted_as_well(
    secure_exchange: ExchangeSimulator,
    authority: trustme.CA,
    trusting: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    proxy = HttpProxy(port_of(secure_exchange), tls=tls)
    with server(proxy.serve) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"https://127.0.0.1:{port}")
        with opened("wss://stream.binance.test:9443/stream", trusting) as connection:
            secure_exchange.wait_for_connections(1)
            secure_exchange.send_text("through both")
            assert receive(connection, 14).endswith(b"through both")

    assert proxy.requests == ["CONNECT stream.binance.test:9443 HTTP/1.1"]


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
@pytest.mark.parametrize("is_secret", [False, True])
def test_a_connection_goes_through_a_socks_proxy(
    scheme: str,
    is_secret: bool,
    secure_exchange: ExchangeSimulator,
    trusting: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy = SocksProxy(port_of(secure_exchange), ("me", "sec:ret") if is_secret else None)
    with server(proxy.serve) as port:
        user = "me:sec%3Aret@" if is_secret else ""
        monkeypatch.setenv("ALL_PROXY", f"{scheme}://{user}127.0.0.1:{port}")
        with opened("wss://stream.binance.test:9443/stream", trusting) as connection:
            secure_exchange.wait_for_connections(1)
            secure_exchange.send_text("through the proxy")
            assert receive(connection, 19).endswith(b"through the proxy")

    assert proxy.requests == [("stream.binance.test", 9443)]


@pytest.mark.parametrize("host", ["127.0.0.9", "[2001:db8::7]"])
def test_a_socks_proxy_is_given_addresses_as_they_are(
    host: str, exchange: ExchangeSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = SocksProxy(port_of(exchange))
    with server(proxy.serve) as port:
        monkeypatch.setenv("ALL_PROXY", f"socks5://127.0.0.1:{port}")
        with opened(f"ws://{host}:7/stream"):
            exchange.wait_for_connections(1)

    assert proxy.requests == [(host.strip("[]"), 7)]


@pytest.mark.parametrize(
    ("user", "reply", "reason"),
    [
        ("", 0, "refuses: put its user and password into the address"),
        ("me:wrong@", 0, "refuses user or password"),
        ("me:right@", 2, "refuses a way to stream.binance.test:80: not allowed by its rules"),
        ("me:right@", 77, "refuses a way to stream.binance.test:80: error 77"),
    ],
)
def test_a_socks_proxy_that_refuses_is_an_error(
    user: str, reply: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = SocksProxy(0, ("me", "right"))
    proxy.reply = reply
    with server(proxy.serve) as port:
        monkeypatch.setenv("ALL_PROXY", f"socks5://{user}127.0.0.1:{port}")
        with pytest.raises(
            ConnectionError, match=rf"^socks5://127.0.0.1:{port} \(ALL_PROXY\) {reason}"
        ):
            connect("ws://stream.binance.test/stream")


def test_a_proxy_that_refuses_an_unusual_port_leads_to_the_usual_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with server(HttpProxy(0, "403 Forbidden").serve) as port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        with pytest.raises(ConnectionError, match=r"9443: 403 Forbidden; .*stream.binance.com:443"):
            connect("wss://stream.binance.com:9443/stream")


@pytest.mark.parametrize("proxy", ["http", "socks5"])
@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.2\r\n\r\n"])
def test_what_is_no_proxy_is_an_error(
    proxy: str, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def serve(accepted: socket.socket) -> None:
        accepted.recv(65_536)
        accepted.sendall(answer)

    with server(serve) as port:
        monkeypatch.setenv("ALL_PROXY", f"{proxy}://127.0.0.1:{port}")
        with pytest.raises(ConnectionError, match=r"\(ALL_PROXY\) (answers as no|closed)"):
            connect("ws://stream.binance.test/stream")


TLS_RECORD = b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc"  # in which a ServerHello of 16 KiB begins


@pytest.mark.parametrize(
    ("scheme", "proxy", "first"),
    [
        ("ws", "", b"HTTP/1.1 "),
        ("ws", "", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: "),
        ("ws", "", b"HTTP/1.1 403 Forbidden\r\nContent-Length: 1000000\r\n\r\n"),
        ("wss", "", TLS_RECORD),
        ("wss", "http", b"HTTP/1.1 200 OK\r\nVia: "),
        ("wss", "socks5", b"\x05\x00\x05\x00\x00\x03\xff"),
    ],
    ids=["status", "header", "refusal", "TLS", "HTTP proxy", "SOCKS proxy"],
)
def test_a_handshake_that_comes_drop_by_drop_is_given_up(
    scheme: str, proxy: str, first: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each drop comes in time; only all of them together do not."""
    with server(dripping(first)) as port:
        monkeypatch.setenv("ALL_PROXY", f"{proxy}://127.0.0.1:{port}" if proxy else "")
        with pytest.raises(CONNECTION_ERRORS, match="timed out"):
            connect(f"{scheme}://127.0.0.1:{port}/stream", within_s=0.5)


@pytest.mark.parametrize(
    "first",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nX-Endless: ",
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 1000000000\r\n\r\n",
    ],
    ids=["header", "refusal"],
)
def test_a_handshake_without_end_takes_no_memory(first: bytes) -> None:
    sent: list[int] = []
    with server(flooding(first, b"x" * 65_536, sent)) as port:
        tracemalloc.start()
        try:
            with pytest.raises(ConnectionError, match="more than 65536 bytes came"):
                connect(f"ws://127.0.0.1:{port}/stream", within_s=120)
            assert tracemalloc.get_traced_memory()[1] < 20_000_000
        finally:
            tracemalloc.stop()
    assert sum(sent) < 20_000_000


def test_records_of_tls_that_come_drop_by_drop_hold_nobody(
    authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    """The reader must see that it is to stop, and that no data comes, while bytes come."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    is_over = threading.Event()

    def serve(accepted: socket.socket) -> None:
        encrypted = tls.wrap_socket(accepted, server_side=True)
        request = b""
        while b"\r\n\r\n" not in request:
            request += encrypted.recv(65_536)
        encrypted.sendall(accepting(request))
        raw = encrypted.detach()
        with socket.socket(fileno=raw) as bare:
            bare.sendall(b"\x17\x03\x03\x40\x00")  # a record of 16 KiB begins
            while not is_over.wait(0.02):
                bare.sendall(b"x")

    with server(serve) as port, opened(f"wss://127.0.0.1:{port}/stream", trusting) as connection:
        for _ in range(3):
            assert connection.receive() is None
        is_over.set()


@pytest.mark.parametrize("is_encrypted", [False, True], ids=["plain", "TLS"])
def test_what_nobody_takes_is_not_sent_for_ever(
    is_encrypted: bool, authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    is_over = threading.Event()

    def serve(accepted: socket.socket) -> None:
        client = tls.wrap_socket(accepted, server_side=True) if is_encrypted else accepted
        client.sendall(accepting(client.recv(65_536)))
        is_over.wait(30)
        client.close()

    scheme = "wss" if is_encrypted else "ws"
    with server(serve) as port, opened(f"{scheme}://127.0.0.1:{port}/", trusting) as connection:
        with pytest.raises(CONNECTION_ERRORS):
            connection.send_text("x" * 64_000_000)
        is_over.set()


def accepting(request: bytes) -> bytes:
    """Return what a WebSocket server says when it accepts."""
    (key,) = re.findall(rb"Sec-WebSocket-Key: (\S+)\r\n", request)
    key += b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    digest = hashlib.sha1(key, usedforsecurity=False).digest()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
    )


def test_a_frame_that_comes_with_the_answer_to_the_handshake_is_not_lost() -> None:
    """websocket-client reads the answer byte by byte; what follows is left to be read in bulk."""
    frames = encode_frame(b"one") + encode_frame(b"two")

    def serve(accepted: socket.socket) -> None:
        accepted.sendall(accepting(accepted.recv(65_536)) + frames)
        say_nothing(accepted)

    with server(serve) as port, opened(f"ws://127.0.0.1:{port}/stream") as connection:
        assert receive(connection, len(frames)) == frames


def test_websocket_client_opens_no_connection_of_its_own() -> None:
    """Not even for a redirect: it would obey other rules of proxies, time and trust."""
    visits: list[bytes] = []

    def serve(accepted: socket.socket) -> None:
        visits.append(accepted.recv(65_536))
        port = accepted.getsockname()[1]
        accepted.sendall(
            f"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:{port}/login\r\n\r\n".encode()
        )

    with (
        server(serve) as port,
        pytest.raises(ConnectionError, match=r"redirected to ws://.*/login"),
    ):
        connect(f"ws://127.0.0.1:{port}/stream")
    assert len(visits) == 1


def test_what_is_sent_is_masked_and_whole(exchange: ExchangeSimulator) -> None:
    with opened(exchange.stream_url + "/stream") as connection:
        exchange.wait_for_connections(1)
        connection.send_text("币安")
        connection.pong(b"payload")
        exchange.wait_until(lambda: len(exchange.received) == 2)

    assert [(each.kind, each.payload) for each in exchange.received[:2]] == [
        ("message", "币安".encode()),
        ("pong", b"payload"),
    ]
