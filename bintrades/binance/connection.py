"""One WebSocket: websocket-client shakes hands and talks, we read the socket in bulk.

websocket-client reads a few bytes at a time and frame by frame; here one system call brings
whatever has gathered. For TLS the raw socket is read in bulk and decrypted through memory, since
SSLSocket.recv gives no more than one record a call.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import websocket

from bintrades.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RECEIVE_BYTES = 256 * 1024
_RECORD_BYTES = 16 * 1024  # a TLS record holds no more
_CONNECT_TIMEOUT_S = 10.0


class Connection:
    """An open stream connection. Belongs to one thread.

    Making one connects: proxies come from the environment, the host is resolved afresh, TLS is
    verified by *tls*. Of several addresses of the host the one number *address* is taken, counted
    round, or one that follows if it cannot be reached; 0 leaves the choice to the system. Raises
    OSError or websocket.WebSocketException, whatever went wrong.
    """

    def __init__(
        self, url: str, tls: ssl.SSLContext, *, receive_timeout_s: float, address: int = 0
    ) -> None:
        make: Any = websocket.WebSocket  # not all of it has type hints
        self._websocket = make(sslopt={"context": _InMemoryTls(tls)}, enable_multithread=False)
        self._websocket.connect(
            url,
            timeout=_CONNECT_TIMEOUT_S,
            suppress_origin=True,
            header=[f"User-Agent: bintrades/{__version__}"],
            socket=_socket_to(url, tls, address) if address else None,
        )
        self._socket: socket.socket | TlsSocket = self._websocket.sock
        self._socket.settimeout(receive_timeout_s)
        self._receive: Callable[[], bytes] = (
            self._socket.receive_all
            if isinstance(self._socket, TlsSocket)
            else _BulkReceiver(self._socket)
        )

    def receive(self) -> bytes | None:
        """Return what has come, at least a byte, or None if nothing came in time.

        Raises ConnectionError when the other side has closed or reset the connection.
        """
        try:
            received = self._receive()
        except TimeoutError:
            return None
        if not received:
            raise ConnectionError("the exchange closed the connection without a close frame")
        return received

    def send_text(self, text: str) -> None:
        """Send a control message. Raises OSError or websocket.WebSocketException."""
        self._websocket.send_text(text)

    def pong(self, payload: bytes) -> None:
        """Answer a ping with its own payload."""
        self._websocket.pong(payload)

    def close(self, code: int = websocket.STATUS_NORMAL) -> None:
        """Say goodbye without waiting for the answer, and let go of the socket."""
        try:
            self._websocket.send_close(code)
        except (OSError, websocket.WebSocketException):
            pass  # there is nobody left to say it to
        finally:
            self._websocket.shutdown()
            self._socket.close()  # websocket-client closes no socket that is not of Python's own


def _socket_to(url: str, tls: ssl.SSLContext, address: int) -> socket.socket | TlsSocket | None:
    """Connect to the address number *address* of the host; None if there is no choice."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    is_secure = parts.scheme == "wss"
    if _is_behind_proxy(host, is_secure=is_secure):
        return None  # the proxy resolves the name
    port = parts.port or (443 if is_secure else 80)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # In an order of our own: a name server may turn round its own with each answer.
    hosts = [each for _, each in sorted({(family, str(at[0])) for family, *_, at in found})]
    if len(hosts) < 2:
        return None
    first = address % len(hosts)
    raw = _reach_one([*hosts[first:], *hosts[:first]], port)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    try:
        return TlsSocket(raw, tls, host) if is_secure else raw
    except BaseException:
        raw.close()
        raise


def _reach_one(hosts: Sequence[str], port: int) -> socket.socket:
    """Connect to the first of *hosts* that lets us; some may be of a network that is not here."""
    for host in hosts[:-1]:
        with suppress(OSError):
            return socket.create_connection((host, port), _CONNECT_TIMEOUT_S)
    return socket.create_connection((hosts[-1], port), _CONNECT_TIMEOUT_S)


def _is_behind_proxy(host: str, *, is_secure: bool) -> bool:
    scheme = "https" if is_secure else "http"
    return scheme in getproxies() and not proxy_bypass(host)


class _BulkReceiver:
    """Reads a plain socket into one buffer that is used again and again."""

    def __init__(self, plain: socket.socket) -> None:
        self._socket = plain
        self._view = memoryview(bytearray(RECEIVE_BYTES))

    def __call__(self) -> bytes:
        return bytes(self._view[: self._socket.recv_into(self._view)])


class _InMemoryTls:
    """Stands in for the ssl.SSLContext that websocket-client would wrap its socket with."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context

    def wrap_socket(self, raw: socket.socket, *, server_hostname: str, **_: object) -> TlsSocket:
        return TlsSocket(raw, self._context, server_hostname)


class TlsSocket:
    """A client's TLS over a raw socket, with the part of the socket interface that is needed.

    Making one shakes hands; raises ssl.SSLError (ssl.SSLCertVerificationError) or OSError.
    """

    def __init__(self, raw: socket.socket, context: ssl.SSLContext, server_hostname: str) -> None:
        self._raw = raw
        self._encrypted = memoryview(bytearray(RECEIVE_BYTES))
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_hostname=server_hostname
        )
        self._until_done(self._tls.do_handshake)

    def recv(self, size: int) -> bytes:
        """Return up to *size* bytes, none at the end; as socket.recv."""
        try:
            received: bytes = self._until_done(lambda: self._tls.read(size))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""
        return received

    def receive_all(self) -> bytes:
        """Return everything that has come, waiting until there is something; none at the end."""
        while True:
            received, is_at_end = self._decrypt()
            if received or is_at_end:
                return received
            self._fill()

    def send(self, data: bytes) -> int:
        """Send all of *data*; return its length, as socket.send may."""
        self._until_done(lambda: self._tls.write(data))
        return len(data)

    def settimeout(self, timeout_s: float | None) -> None:
        """As socket.settimeout."""
        self._raw.settimeout(timeout_s)

    def gettimeout(self) -> float | None:
        """As socket.gettimeout."""
        return self._raw.gettimeout()

    def fileno(self) -> int:
        """As socket.fileno."""
        return self._raw.fileno()

    def shutdown(self, how: int) -> None:
        """As socket.shutdown."""
        self._raw.shutdown(how)

    def close(self) -> None:
        """As socket.close."""
        self._raw.close()

    def _decrypt(self) -> tuple[bytes, bool]:
        """Return what can be decrypted now, and whether the other side has ended."""
        parts: list[bytes] = []
        read = self._tls.read
        try:
            while part := read(_RECORD_BYTES):
                parts.append(part)
        except ssl.SSLWantReadError:
            self._flush()
            return b"".join(parts), False
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            pass
        return b"".join(parts), True

    def _until_done(self, step: Callable[[], Any]) -> Any:
        """Repeat *step*, carrying bytes between it and the raw socket, until it is through."""
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
            else:
                self._flush()
                return result

    def _fill(self) -> None:
        size = self._raw.recv_into(self._encrypted)
        if size:
            self._incoming.write(self._encrypted[:size])
        else:
            self._incoming.write_eof()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._raw.sendall(self._outgoing.read())
