"""Requests to the exchange's REST side, each with its limits and its failures said exactly."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, TypeVar

import httpx
import msgspec

from bintrades.binance.symbols import SymbolInfo
from bintrades.clocks import utc_ms
from bintrades.errors import ExchangeError
from bintrades.tls import tls_context
from bintrades.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bintrades.binance.markets import Endpoint, Market

T = TypeVar("T")

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""Longest answer that is read; the list of all symbols has some 10 MiB."""

_SHOWN_BYTES = 200
_BANNED = re.compile(r"banned until ([0-9]{13})\b")  # milliseconds UTC
_ADVICE = {
    403: "its firewall refused the request; wait some minutes, and ask less often",
    418: "this address is banned for asking too much",
    429: "this address asks too much",
    451: (
        "this address is in a place that the exchange does not serve; set [binance] rest_url = "
        "https://data-api.binance.vision and stream_url = wss://data-stream.binance.vision"
    ),
}


class RestError(ExchangeError):
    """A request failed. What the exchange said of it, where it did:

    status is that of HTTP, code Binance's own (such as -1121 for an unknown symbol), and
    retry_after_s the seconds to wait before any other request.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: int | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s


class _Refusal(msgspec.Struct):
    code: int | None = None
    msg: str = ""


class _Symbol(msgspec.Struct):
    symbol: str
    status: str = "TRADING"


class _ExchangeInfo(msgspec.Struct):
    symbols: list[_Symbol]


class RestClient:
    """The REST side of one market, over connections that are kept open between requests.

    Callable from any thread. Proxies are those of the environment (HTTPS_PROXY, NO_PROXY, ...).
    Making one raises ConfigError for certificates that cannot be read; every other failure is a
    RestError. A request fails when nothing comes for timeout_s, or when its answer is not whole
    after answer_timeout_s.
    """

    def __init__(
        self,
        rest_url: str,
        market: Market,
        *,
        timeout_s: float = 10.0,
        answer_timeout_s: float = 60.0,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        self._rest_url = rest_url.rstrip("/")
        self.market = market
        self._answer_timeout_s = answer_timeout_s
        self._max_answer_bytes = max_answer_bytes
        self.used_weight: int | None = None  # of this minute, as the exchange last counted it
        try:
            httpx.URL(rest_url)
            self._client = httpx.Client(
                verify=tls_context(),
                timeout=timeout_s,
                follow_redirects=False,
                headers={"User-Agent": f"bintrades/{__version__}"},
            )
        except (ImportError, ValueError, httpx.InvalidURL) as error:
            raise RestError(
                f"{rest_url}: this address, or a proxy of the environment, is unusable: {error}"
            ) from error

    def __enter__(self) -> RestClient:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; a request under way in another thread fails."""
        self._client.close()

    def exchange_symbols(self) -> list[SymbolInfo]:
        """Return every symbol that the market lists, delisted ones (BREAK) included."""
        params = {"showPermissionSets": "false"}
        answer = self.get(self.market.exchange_info, params, _ExchangeInfo)
        return [SymbolInfo(row.symbol, row.status) for row in answer.symbols]

    def get(self, endpoint: Endpoint, params: Mapping[str, str | int], answer: type[T]) -> T:
        """Ask *endpoint* and return what came as the type *answer*; other fields are ignored."""
        url = str(httpx.URL(self._rest_url + endpoint.path, params=dict(params)))
        body = self._fetch(url)
        try:
            return msgspec.json.decode(body, type=answer)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise RestError(
                f"GET {url}: not the expected answer: {error}: {_start(body)}", status=200
            ) from error

    def _fetch(self, url: str) -> bytes:
        try:
            with self._client.stream("GET", url) as response:
                self._note_weight(response.headers.get("X-MBX-USED-WEIGHT-1M", ""))
                body = self._read(url, response)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, RuntimeError) as error:
            reason = str(error) or type(error).__name__
            raise RestError(f"GET {url}: no answer: {reason}") from error
        if response.status_code != httpx.codes.OK:
            raise _refused(url, response, body)
        return body

    def _note_weight(self, header: str) -> None:
        if header.isdecimal():
            self.used_weight = int(header[:9])

    def _read(self, url: str, response: httpx.Response) -> bytes:
        deadline_s = time.monotonic() + self._answer_timeout_s
        body = bytearray()
        for part in response.iter_bytes():
            body += part
            if len(body) > self._max_answer_bytes:
                raise RestError(f"GET {url}: more than {self._max_answer_bytes} bytes came")
            if time.monotonic() > deadline_s:
                raise RestError(
                    f"GET {url}: not whole after {self._answer_timeout_s:g} s: {len(body)} bytes"
                )
        return bytes(body)


def _refused(url: str, response: httpx.Response, body: bytes) -> RestError:
    """Make the error for an answer that is not 200: what was asked, what came, what to do."""
    status = response.status_code
    try:
        refusal = msgspec.json.decode(body, type=_Refusal)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        refusal = _Refusal()
    said = _start(body)
    if refusal.code is not None:
        said = f"code {refusal.code}: {_start(refusal.msg.encode())}"
    if response.is_redirect:
        said = f"it points to {_start(response.headers['Location'].encode())}"
    retry_after_s = _retry_after_s(response.headers.get("Retry-After", ""), refusal.msg)
    parts = [f"GET {url}: {status} {response.reason_phrase}".rstrip(), said, _ADVICE.get(status)]
    if retry_after_s is not None:
        parts.append(f"wait {retry_after_s} s")
    return RestError(
        "; ".join(part for part in parts if part),
        status=status,
        code=refusal.code,
        retry_after_s=retry_after_s,
    )


def _retry_after_s(header: str, message: str) -> int | None:
    """Return how long to wait, as the header says or, where it is missing, a ban's message."""
    if header.isdecimal() and len(header) < 10:
        return int(header)
    banned = _BANNED.search(message)
    return max(0, -((utc_ms() - int(banned[1])) // 1000)) if banned else None


def _start(body: bytes) -> str:
    """The start of *body* on one line, as a message can show it."""
    text = " ".join(body[:_SHOWN_BYTES].decode("utf-8", "replace").split())
    return "".join(char if char.isprintable() else "?" for char in text)
