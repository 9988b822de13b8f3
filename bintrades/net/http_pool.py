"""urllib3's connections for one host, opened by a Dialer and bounded in time and size.

urllib3 bounds single reads and no whole answer; here everything of a request, from the name of the
host to the last byte of the answer, is under one Allowance. What is replaced is the documented
connect() of its connection, and the socket that it makes.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection
from urllib3.exceptions import NewConnectionError

from bintrades.errors import ConfigError
from bintrades.net.sockets import Allowance, Socket
from bintrades.util.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bintrades.net.dialing import Dialer
    from bintrades.net.network import HttpAnswer

_PART_BYTES = 64 * 1024
_MAX_HEAD_BYTES = 1024 * 1024
_KEPT_CONNECTIONS = 4  # more threads than ever ask at once


class AnswerTooLongError(Exception):
    """An answer has more bytes than wanted."""


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """The limits of a request: seconds without a byte, seconds in all, bytes of the answer.

    Making a connection may take timeout_s as well. Compressed, an answer may have no more bytes
    than max_bytes either, and what stands around it some.
    """

    timeout_s: float
    answer_timeout_s: float
    max_bytes: int


class HttpPool:
    """GET requests to one host, http:// or https://. Callable from any thread."""

    def __init__(
        self, url: str, dialer: Dialer, headers: Mapping[str, str], limits: HttpLimits
    ) -> None:
        parts = urlsplit(url)
        self._limits = limits
        self._pool = _Pool(
            parts.hostname or "",
            parts.port,
            maxsize=_KEPT_CONNECTIONS,
            timeout=urllib3.Timeout(connect=None, read=limits.timeout_s),
            headers={"Host": _host(url), **headers},
            dialer=dialer,
            url=url,
            connect_within_s=limits.timeout_s,
            answer_within_s=limits.answer_timeout_s,
            max_bytes=2 * limits.max_bytes + _MAX_HEAD_BYTES,
        )

    def get(self, target: str) -> HttpAnswer:
        """Ask for *target*, a path with a query; return the head of the answer.

        It has to be read. Raises OSError with the reason if there is no answer.
        """
        with _plain_errors():
            response = self._pool.urlopen(
                "GET", target, redirect=False, retries=False, preload_content=False
            )
        return _Answer(response, self._limits.max_bytes)

    def close(self) -> None:
        """Close the connections; a request under way in another thread ends by itself."""
        self._pool.close()


class _Answer:
    """The head of an answer, and its body once read() is called."""

    def __init__(self, response: urllib3.BaseHTTPResponse, max_bytes: int) -> None:
        self.status = response.status
        self.reason = response.reason or ""
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._max_bytes = max_bytes

    def read(self) -> bytes:
        """Return the body. Raises OSError, or AnswerTooLongError."""
        body = bytearray()
        try:
            with _plain_errors():
                for part in self._response.stream(_PART_BYTES):
                    body += part
                    if len(body) > self._max_bytes:
                        raise AnswerTooLongError(f"more than {self._max_bytes} bytes came")
        except BaseException:
            self._response.close()
            raise
        finally:
            self._response.release_conn()
        return bytes(body)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Raise OSError for what urllib3 raises, which packs errors into its own."""
    try:
        yield
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise ConnectionError(_reason(error)) from error


def _reason(error: BaseException) -> str:
    while isinstance(error, urllib3.exceptions.HTTPError):
        packed = [each for each in error.args if isinstance(each, Exception)]
        inner = error.__cause__ or next(iter(packed), None)
        if inner is None:
            break
        error = inner
    return one_line(str(error), 500) or type(error).__name__


def _host(url: str) -> str:
    """Return the header Host: what the address has, in the letters of name services."""
    place = urlsplit(url).netloc.rpartition("@")[2]
    return place if place.isascii() else place.encode("idna").decode()


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
