"""Opening one WebSocket and reading it in bulk."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trustme
import websocket

from bintrades.binance import connection as connection_module
from bintrades.binance.connection import Connection
from bintrades.testing.exchange import ExchangeSimulator
from bintrades.testing.frames import encode_frame
from bintrades.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CONNECTION_ERRORS = (OSError, websocket.WebSocketException)
UNUSED = ssl.create_default_context()


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


@contextmanager
def opened(url: str, tls: ssl.SSLContext = UNUSED) -> Iterator[Connection]:
    connection = Connection(url, tls, receive_timeout_s=0.2)
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


@contextmanager
def server(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Hand every connection to *serve*, one after the other, until the end; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    accepted, _ = listener.accept()
                except OSError:
                    return
                with accepted:
                    serve(accepted)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def test_it_introduces_itself_and_claims_no_origin() -> None:
    requests: list[bytes] = []

    with (
        server(lambda accepted: requests.append(accepted.recv(65_536))) as port,
        pytest.raises(CONNECTION_ERRORS),
    ):
        Connection(f"ws://127.0.0.1:{port}/stream", UNUSED, receive_timeout_s=0.2)

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
    connection = Connection(url, trusting, receive_timeout_s=0.2)
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
        Connection(f"wss://localhost:{port_of(secure_exchange)}/", UNUSED, receive_timeout_s=0.2)


def test_a_certificate_for_another_host_is_refused(
    secure_exchange: ExchangeSimulator, trusting: ssl.SSLContext
) -> None:
    url = f"wss://127.0.0.1:{port_of(secure_exchange)}/stream"
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
        Connection(url, trusting, receive_timeout_s=0.2)


@pytest.mark.parametrize("status", [400, 403, 404, 418, 429, 451, 500, 503])
def test_a_refused_handshake_names_the_status(status: int, exchange: ExchangeSimulator) -> None:
    exchange.handshake_status(status)
    with pytest.raises(websocket.WebSocketException, match=str(status)):
        Connection(exchange.stream_url + "/stream", UNUSED, receive_timeout_s=0.2)


def test_a_refused_connection_is_an_error(exchange: ExchangeSimulator) -> None:
    exchange.refuse()
    with pytest.raises(ConnectionRefusedError):
        Connection(exchange.stream_url + "/stream", UNUSED, receive_timeout_s=0.2)


def test_an_unknown_host_is_an_error() -> None:
    with pytest.raises(CONNECTION_ERRORS):
        Connection("ws://no-such-host.invalid/stream", UNUSED, receive_timeout_s=0.2)


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
        Connection(f"ws://127.0.0.1:{port}/stream", UNUSED, receive_timeout_s=0.2)


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_a_server_that_never_answers_is_given_up(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "_CONNECT_TIMEOUT_S", 0.2)
    with (
        server(_wait_for_the_end) as port,
        pytest.raises(CONNECTION_ERRORS, match="timed out"),
    ):
        Connection(f"{scheme}://127.0.0.1:{port}/stream", UNUSED, receive_timeout_s=0.2)


def _wait_for_the_end(accepted: socket.socket) -> None:
    while accepted.recv(65_536):
        pass


class Proxy:
    """An HTTP proxy that knows CONNECT, and leads every host to one port of this machine."""

    def __init__(self, target_port: int, status: str = "200 Connection established") -> None:
        self.requests: list[bytes] = []
        self._target_port = target_port
        self._status = status

    def serve(self, accepted: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += accepted.recv(65_536)
        self.requests.append(request.partition(b"\r\n")[0])
        accepted.sendall(f"HTTP/1.1 {self._status}\r\n\r\n".encode())
        if not self._status.startswith("200"):
            return
        with socket.create_connection(("127.0.0.1", self._target_port)) as target:
            back = threading.Thread(target=_carry, args=(target, accepted))
            back.start()
            _carry(accepted, target)
            back.join(10)


def _carry(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def test_an_encrypted_connection_goes_through_the_proxy_of_the_environment(
    secure_exchange: ExchangeSimulator, trusting: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy(port_of(secure_exchange))
    with server(proxy.serve) as port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        with opened("wss://stream.binance.test:9443/stream", trusting) as connection:
            secure_exchange.wait_for_connections(1)
            secure_exchange.send_text("through the proxy")
            assert receive(connection, 19).endswith(b"through the proxy")

    assert proxy.requests == [b"CONNECT stream.binance.test:9443 HTTP/1.1"]


def test_a_plain_connection_goes_through_the_proxy_of_the_environment(
    exchange: ExchangeSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy(port_of(exchange))
    with server(proxy.serve) as port:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        with opened("ws://stream.binance.test/stream"):
            exchange.wait_for_connections(1)

    assert proxy.requests == [b"CONNECT stream.binance.test:80 HTTP/1.1"]


def test_a_proxy_is_not_used_for_hosts_that_the_environment_excepts(
    exchange: ExchangeSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy(port_of(exchange))
    with server(proxy.serve) as port:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with opened(exchange.stream_url + "/stream"):
            exchange.wait_for_connections(1)

    assert proxy.requests == []


def test_a_proxy_that_refuses_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Proxy(0, status="407 Proxy Authentication Required")
    with server(proxy.serve) as port:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        with pytest.raises(CONNECTION_ERRORS, match="407"):
            Connection("ws://stream.binance.test/stream", UNUSED, receive_timeout_s=0.2)
