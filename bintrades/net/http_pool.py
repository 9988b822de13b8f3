"""urllib3's connections for one host, opened by a Dialer and bounded in time and size.

urllib3 bounds single reads and no whole answer; here everything of a request, from the name of the
host to the last byte of the answer, is under one Allowance. What is replaced is the documented
connect() of its connection, and the socket that it makes.
"""

from __future__ import annotations

from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection
from urllib3.exceptions import NewConnectionError

from bintrades.errors import ConfigError
from bintrades.net.sockets import Allowance, Socket

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bintrades.net.dialing import Dialer

_KEPT_CONNECTIONS = 4  # more threads than ever ask at once


def http_pool(
    url: str,
    dialer: Dialer,
    *,
    headers: Mapping[str, str],
    timeout_s: float,
    answer_timeout_s: float,
    max_bytes: int,
) -> urllib3.HTTPConnectionPool:
    """Return a pool for requests to the host of *url*, http:// or https://.

    A read may wait for timeout_s, making a connection may take as long in all, and a request with
    its answer answer_timeout_s, of at most max_bytes on the wire.
    """
    parts = urlsplit(url)
    return _Pool(
        parts.hostname or "",
        parts.port,
        maxsize=_KEPT_CONNECTIONS,
        timeout=urllib3.Timeout(connect=None, read=timeout_s),
        headers=headers,
        dialer=dialer,
        url=url,
        connect_within_s=timeout_s,
        answer_within_s=answer_timeout_s,
        max_bytes=max_bytes,
    )


class _Connection(HTTPConnection):
    def __init__(
        self,
        *args: Any,
        dialer: Dialer,
        url: str,
        connect_within_s: float,
        answer_within_s: float,
        max_bytes: int,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self._dialer = dialer
        self._url = url
        self._connect_within_s = connect_within_s
        self._answer_within_s = answer_within_s
        self._max_bytes = max_bytes
        self._allowance = self._new_allowance()
        self._opened: Socket | None = None

    def connect(self) -> None:
        """Open the socket, encrypted where the address says so."""
        within_s = min(self._connect_within_s, self._allowance.left_s())
        try:
            self._opened = self._dialer.open(self._url, Allowance(within_s, self._max_bytes))
        except (OSError, ConfigError) as error:
            # Another OSError is for urllib3 one of an open connection.
            raise NewConnectionError(self, str(error)) from error
        self._opened.allowance = self._allowance
        self.sock = self._opened  # as much of a socket as is needed

    def request(self, *args: Any, **options: Any) -> None:
        """Send a request; from here on all of it is bounded."""
        self._allowance = self._new_allowance()
        if self._opened is not None:
            self._opened.allowance = self._allowance
        super().request(*args, **options)

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]  # as urllib3's own
        """Read the head of the answer; an address that gives none is avoided."""
        try:
            return super().getresponse()
        except (OSError, HTTPException):
            if self._opened is not None:
                self._dialer.give_up(self._opened)
            raise

    def close(self) -> None:
        """Close the socket, unless an answer is still being read from it."""
        self._opened = None
        super().close()

    def _new_allowance(self) -> Allowance:
        return Allowance(self._answer_within_s, self._max_bytes)


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection
