"""The network as an exchange sees it. A simulation hands in one of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from bintrades.net.http_pool import HttpLimits, HttpPool
from bintrades.net.websocket import Connection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bintrades.net.dialing import Dialer


class StreamConnection(Protocol):
    """An open WebSocket. Belongs to one thread."""

    @property
    def peer(self) -> str:
        """The address at the other end."""

    def receive(self) -> bytes | None:
        """Return what has come, at least a byte, or None if nothing came in time.

        Raises ConnectionError when the other side has closed or reset the connection.
        """

    def send_text(self, text: str) -> None:
        """Send a control message."""

    def pong(self, payload: bytes) -> None:
        """Answer a ping with its own payload."""

    def avoid(self) -> None:
        """Have other addresses tried before this one: it has brought nothing."""

    def close(self) -> None:
        """Send a close frame without waiting for the answer."""


class HttpAnswer(Protocol):
    """The answer to a request, of which the head has come."""

    @property
    def status(self) -> int:
        """Its status."""

    @property
    def reason(self) -> str:
        """The words beside the status, if there are any."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Its headers, in any case."""

    def read(self) -> bytes:
        """Return the body. Raises OSError, or http_pool.AnswerTooLongError."""


class HttpClient(Protocol):
    """GET requests to one host. Callable from any thread."""

    def get(self, target: str) -> HttpAnswer:
        """Ask for *target*, a path with a query. Raises OSError, and ConfigError for a proxy."""

    def close(self) -> None:
        """Close the connections."""


class Network(Protocol):
    """The source of connections. Callable from any thread."""

    def open_stream(self, url: str, *, receive_timeout_s: float, copy: int) -> StreamConnection:
        """Connect to *url*; copies of one group of streams go to different addresses of its host.

        Raises whatever went wrong.
        """

    def open_http(self, url: str, headers: Mapping[str, str], limits: HttpLimits) -> HttpClient:
        """Return a client for the host of *url*; it connects when it is first asked."""


class SystemNetwork:
    """The network of this machine."""

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer

    def open_stream(self, url: str, *, receive_timeout_s: float, copy: int) -> StreamConnection:
        """Connect to *url*. Raises whatever went wrong."""
        return Connection(url, self._dialer, receive_timeout_s=receive_timeout_s, copy=copy)

    def open_http(self, url: str, headers: Mapping[str, str], limits: HttpLimits) -> HttpClient:
        """Return a client for the host of *url*; it connects when it is first asked."""
        return HttpPool(url, self._dialer, headers, limits)
