"""One WebSocket: websocket-client shakes hands and talks, we read the socket in bulk.

websocket-client reads a few bytes at a time and frame by frame; here one system call brings
whatever has gathered. It gets a socket that is open already and only its documented interface is
used; what is relied on besides is that it reads no byte after the head of the handshake's answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import websocket

from bintrades.net.sockets import Allowance
from bintrades.version import __version__

if TYPE_CHECKING:
    from bintrades.net.dialing import Dialer

CONNECT_WITHIN_S = 15.0
"""The time limit of names, addresses, proxy, TLS and the handshake together."""

_SEND_WITHIN_S = 2.0
_MAX_HANDSHAKE_BYTES = 64 * 1024  # a chain of certificates and an answer have some 10 KiB


class Connection:
    """An open stream connection. Belongs to one thread.

    Making one connects, see Dialer.open for what *copy* is. Raises OSError,
    websocket.WebSocketException, or ConfigError for an unusable proxy, whatever went wrong.
    """

    def __init__(
        self,
        url: str,
        dialer: Dialer,
        *,
        receive_timeout_s: float,
        connect_within_s: float = CONNECT_WITHIN_S,
        copy: int = 0,
    ) -> None:
        self._dialer = dialer
        self._copy = copy
        self._receive_timeout_s = receive_timeout_s
        allowance = Allowance(connect_within_s, _MAX_HANDSHAKE_BYTES)
        self._socket = dialer.open(url, allowance, copy)
        make: Any = websocket.WebSocket  # not all of it has type hints
        self._websocket = make(enable_multithread=False)
        try:
            self._websocket.connect(
                url,
                socket=self._socket,
                suppress_origin=True,
                header=[f"User-Agent: bintrades/{__version__}"],
                redirect_limit=0,
            )
        except BaseException as error:
            dialer.give_up(self._socket, copy)
            if location := (self._websocket.headers or {}).get("location"):
                raise ConnectionError(f"the handshake is redirected to {location}") from error
            raise

    @property
    def peer(self) -> str:
        """The address at the other end, that of the proxy where there is one."""
        return str(self._socket.peer)

    def receive(self) -> bytes | None:
        """Return what has come, at least a byte, or None if nothing came in time.

        Raises ConnectionError when the other side has closed or reset the connection.
        """
        self._socket.allowance = Allowance(self._receive_timeout_s)
        try:
            received = self._socket.receive_all()
        except TimeoutError:
            return None
        if not received:
            raise ConnectionError("the exchange closed the connection without a close frame")
        return received

    def send_text(self, text: str) -> None:
        """Send a control message. Raises OSError or websocket.WebSocketException."""
        self._socket.allowance = Allowance(_SEND_WITHIN_S)
        self._websocket.send_text(text)

    def pong(self, payload: bytes) -> None:
        """Answer a ping with its own payload."""
        self._socket.allowance = Allowance(_SEND_WITHIN_S)
        self._websocket.pong(payload)

    def avoid(self) -> None:
        """Have other addresses tried before this one: it has brought nothing."""
        self._dialer.avoid(self._socket, self._copy)

    def close(self, code: int = websocket.STATUS_NORMAL) -> None:
        """Send a close frame without waiting for the answer, and close the socket."""
        self._socket.allowance = Allowance(_SEND_WITHIN_S)
        try:
            self._websocket.send_close(code)
        except (OSError, websocket.WebSocketException):
            pass  # the other side is gone
        finally:
            self._socket.close()
