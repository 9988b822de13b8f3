"""Requests to the exchange's REST side, each with its limits and its failures said exactly."""

from __future__ import annotations

import email.utils
import re
from datetime import UTC
from decimal import Decimal
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec

from bintrades.errors import ConfigError, ExchangeError
from bintrades.exchange.binance.budget import MINUTE_MS
from bintrades.exchange.symbols import TRADING, SymbolInfo
from bintrades.net.http_pool import AnswerTooLongError, HttpLimits
from bintrades.util.clocks import utc_ms
from bintrades.util.text import one_line
from bintrades.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bintrades.exchange.binance.market import Endpoint, Market
    from bintrades.net.network import HttpAnswer, HttpClient, Network

T = TypeVar("T")

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""Longest answer that is read; the list of all symbols has some 10 MiB."""

_KEY_HEADER = "X-MBX-APIKEY"
_SHOWN_BYTES = 200
_REDIRECTS = {301, 302, 303, 307, 308}
_BANNED = re.compile(r"banned until ([0-9]{13})\b")  # milliseconds UTC
_ADVICE = {
    403: "its firewall refused the request; wait some minutes, and ask less often",
    418: "this address is banned for asking too much",
    429: "this address asks too much",
    451: "this address is in a place that the exchange does not serve",
}
_TOO_OLD = -4166
_KEY_REFUSALS = (-2008, -2014, -2015)
_ADVICE_BY_CODE = {
    -2008: "the API key is not valid: set another [binance] api_key",
    -2014: "this takes an API key: set [binance] api_key",
    -2015: "the API key is not valid, or not for this address: set another [binance] api_key",
    _TOO_OLD: "the exchange tells of the last two days only",
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

    @property
    def is_for_the_key(self) -> bool:
        """Whether it was refused for the API key, or because there was none."""
        return self.code in _KEY_REFUSALS

    @property
    def is_final(self) -> bool:
        """Whether it was refused for its age or for the key, so that to ask again is of no use."""
        return self.is_for_the_key or self.code == _TOO_OLD


class _Refusal(msgspec.Struct):
    code: int | None = None
    msg: str = ""


class _Symbol(msgspec.Struct):
    symbol: str
    status: str | None = None
    contract_status: str | None = msgspec.field(name="contractStatus", default=None)
    contract_size: msgspec.Raw = msgspec.field(name="contractSize", default=msgspec.Raw())


class _ExchangeInfo(msgspec.Struct):
    symbols: list[_Symbol]
    rate_limits: msgspec.Raw = msgspec.field(name="rateLimits", default=msgspec.Raw(b"[]"))
    """Decoded by itself: the symbols are of use whatever stands here."""


class _RateLimit(msgspec.Struct):
    type: str = msgspec.field(name="rateLimitType")
    interval: str
    interval_count: int = msgspec.field(name="intervalNum")
    limit: Annotated[int, msgspec.Meta(gt=0)]


class RestClient:
    """The REST side of one market, over connections that are kept open between requests.

    Asked by one thread at a time, since what it says of the last answer is said beside it; close()
    may come from any. Every failure of a request is a RestError. A request fails when
    nothing comes for timeout_s, when no connection is made in that time, or when its answer is not
    whole after answer_timeout_s in all.
    """

    def __init__(
        self,
        rest_url: str,
        market: Market,
        network: Network,
        *,
        timeout_s: float = 10.0,
        answer_timeout_s: float = 60.0,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        api_key: str = "",
    ) -> None:
        self._rest_url = rest_url.rstrip("/")
        self.market = market
        self.used_weight: int | None = None  # of this minute, as the exchange last counted it
        self.minute_left_ms: int | None = None  # at most, as the exchange last said
        self.said_at: int | None = None
        """When the last answer was given, by the exchange's clock; None: it did not say."""
        self.weight_per_minute: int | None = None  # as exchange_symbols() was last told
        self.has_key = bool(api_key)
        headers = {"User-Agent": f"bintrades/{__version__}", "Accept-Encoding": "gzip"}
        limits = HttpLimits(timeout_s, answer_timeout_s, max_answer_bytes)
        self._http = network.open_http(rest_url, headers, limits)
        # Connections of their own, so that no other request can send the key.
        self._http_with_key = (
            network.open_http(rest_url, {**headers, _KEY_HEADER: api_key}, limits)
            if api_key
            else self._http
        )

    def __enter__(self) -> RestClient:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; a request under way in another thread ends by itself."""
        self._http.close()
        self._http_with_key.close()

    def exchange_symbols(self) -> list[SymbolInfo]:
        """Return every symbol that the market lists, delisted ones included."""
        answer = self.get(self.market.exchange_info, {}, _ExchangeInfo)
        self.weight_per_minute = _weight_per_minute(answer.rate_limits)
        return [_symbol_info(row, self.market) for row in answer.symbols]

    def get(self, endpoint: Endpoint, params: Mapping[str, str | int], answer: type[T]) -> T:
        """Ask *endpoint* and return what came as the type *answer*; other fields are ignored."""
        query = urlencode({**dict(endpoint.params), **params})
        url = self._rest_url + endpoint.path + (f"?{query}" if query else "")
        body = self._fetch(url, self._http_with_key if endpoint.needs_key else self._http)
        try:
            return msgspec.json.decode(body, type=answer)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise RestError(
                f"GET {url}: not the expected answer: {error}: {_start(body)}", status=200
            ) from error

    def _fetch(self, url: str, http: HttpClient) -> bytes:
        parts = urlsplit(url)
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        try:
            answer = http.get(target)
            self.said_at = _said_at(answer.headers)
            self._record_weight(answer.headers)
            body = answer.read()
        except AnswerTooLongError as error:
            raise RestError(f"GET {url}: {error}") from error
        except (OSError, ConfigError) as error:
            raise RestError(f"GET {url}: no answer: {one_line(str(error), 500)}") from error
        if answer.status != HTTPStatus.OK:
            raise _refused(url, answer, body, self.market)
        return body

    def _record_weight(self, headers: Mapping[str, str]) -> None:
        used = headers.get("X-MBX-USED-WEIGHT-1M", "")
        if used.isdecimal():
            said_at = self.said_at
            self.minute_left_ms = None if said_at is None else MINUTE_MS - said_at % MINUTE_MS
            self.used_weight = int(used[:9])


def _symbol_info(row: _Symbol, market: Market) -> SymbolInfo:
    status = row.status or row.contract_status or TRADING
    contract_size = _contract_size(row.contract_size) if market.has_contracts else None
    return SymbolInfo(row.symbol, status in market.delisted, status, contract_size)


def _contract_size(text: msgspec.Raw) -> Decimal | None:
    """Return what a contract is worth, None where the exchange says nothing that could be that."""
    try:
        size = msgspec.json.decode(text, type=Decimal)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return size if size.is_finite() and size > 0 else None


def _weight_per_minute(text: msgspec.Raw) -> int | None:
    """Return the weight that one address has in a minute, None where it is not among the limits."""
    try:
        limits = msgspec.json.decode(text, type=list[_RateLimit])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    wanted = ("REQUEST_WEIGHT", "MINUTE", 1)
    return next(
        (
            each.limit
            for each in limits
            if (each.type, each.interval, each.interval_count) == wanted
        ),
        None,
    )


def _refused(url: str, answer: HttpAnswer, body: bytes, market: Market) -> RestError:
    """Make the error for an answer that is not 200: what was asked, what came, what to do."""
    status = answer.status
    try:
        refusal = msgspec.json.decode(body, type=_Refusal)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        refusal = _Refusal()
    said = _start(body)
    if refusal.code is not None:
        said = f"code {refusal.code}: {_start(refusal.msg.encode())}"
    if status in _REDIRECTS and (location := answer.headers.get("Location")):
        said = f"it points to {_start(location.encode())}"
    retry_after_s = _retry_after_s(answer.headers, refusal.msg)
    reason = _start(answer.reason.encode())
    advice = _ADVICE_BY_CODE.get(refusal.code or 0) or _ADVICE.get(status)
    parts = [f"GET {url}: {status} {reason}".rstrip(), said, advice]
    if status == HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS and market.open_rest_url:
        parts.append(
            f"set [binance] rest_url = {market.open_rest_url}"
            f" and stream_url = {market.open_stream_url}"
        )
    if retry_after_s is not None:
        parts.append(f"wait {retry_after_s} s")
    return RestError(
        "; ".join(part for part in parts if part),
        status=status,
        code=refusal.code,
        retry_after_s=retry_after_s,
    )


def _retry_after_s(headers: Mapping[str, str], message: str) -> int | None:
    """Return how long to wait, as the header says or, where it is missing, a ban's message."""
    header = headers.get("Retry-After", "")
    if header.isdecimal() and len(header) < 10:
        return int(header)
    banned = _BANNED.search(message)
    if banned is None:
        return None
    said_at = _said_at(headers)
    return max(0, -(((utc_ms() if said_at is None else said_at) - int(banned[1])) // 1000))


def _said_at(headers: Mapping[str, str]) -> int | None:
    """Return when the exchange answered, by its own clock: milliseconds UTC, of whole seconds."""
    try:
        said_at = email.utils.parsedate_to_datetime(headers.get("Date", ""))
        return int(said_at.replace(tzinfo=said_at.tzinfo or UTC).timestamp()) * 1000
    except (ValueError, OverflowError):
        return None


def _start(body: bytes) -> str:
    """The start of *body* on one line, as a message can show it."""
    text = " ".join(body[:_SHOWN_BYTES].decode("utf-8", "replace").split())
    return "".join(char if char.isprintable() else "?" for char in text)
