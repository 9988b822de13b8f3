"""The network as an exchange sees it. A simulation hands in one of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from bintrades.net.http_pool import HttpLimits, HttpPool

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bintrades.net.dialing import Dialer


class HttpAnswer(Protocol):
    """The answer to a request, of which the head has come."""

    status: int
    reason: str
    headers: Mapping[str, str]

    def read(self) -> bytes:
        """Return the body. Raises OSError, or http_pool.AnswerTooLongError."""


class HttpClient(Protocol):
    """GET requests to one host. Callable from any thread."""

    def get(self, target: str) -> HttpAnswer:
        """Ask for *target*, a path with a query. Raises OSError, and ConfigError for a proxy."""

    def close(self) -> None:
        """Close the connections."""


class Network(Protocol):
    """Where connections come from. Callable from any thread."""

    def open_http(self, url: str, headers: Mapping[str, str], limits: HttpLimits) -> HttpClient:
        """Return a client for the host of *url*; it connects when it is first asked."""


class SystemNetwork:
    """The network of this machine."""

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer

    def open_http(self, url: str, headers: Mapping[str, str], limits: HttpLimits) -> HttpClient:
        """Return a client for the host of *url*; it connects when it is first asked."""
        return HttpPool(url, self._dialer, headers, limits)
