"""The REST side of the exchange: the endpoints that repair needs, their weights, their errors."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Context, Decimal
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from bintrades.testing.rest_faults import KlineFaults, TickerFaults
from bintrades.testing.simulated_klines import KLINE_LENGTHS_MS, klines_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bintrades.testing.simulated_market import Aggregate, SimulatedMarket, SimulatedTrade

_MAX_ROWS = 1000
_DAY_MS = 86_400_000
_TICKER_WEIGHTS = ((1, 1), (20, 2), (100, 40))
_REQUESTS_ON_RECORD = 10_000
_QUOTES = ("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "BTC", "ETH", "BNB", "EUR", "TRY", "BRL")
_DIGITS = Context(prec=200, rounding=ROUND_DOWN)


class RestRequest(NamedTuple):
    """A request and the status it was answered with; time_s is time.monotonic() at its arrival.

    Status 0: the connection was cut instead.
    """

    time_s: float
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    status: int


@dataclass
class _Override:
    """What the next requests are answered instead of the truth."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    path: str
    times: int


@dataclass
class _Reply:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


class _RefusedError(Exception):
    """The exchange answers with an error body."""

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.reply = _Reply(status, _compact({"code": code, "msg": message}))


class RestServer:
    """Answers from a market, over HTTP with keep-alive; one thread per client connection.

    Every method may be called from any thread. `delay_s` postpones each answer; the newest
    `hidden_trades` of each symbol are not in the database yet, which all but /trades ask.
    `ticker_faults` and `kline_faults` are what these two get wrong.
    """

    def __init__(
        self,
        host: str,
        port: int,
        market: SimulatedMarket,
        now_ms: Callable[[], int],
        weight_limit: int,
    ) -> None:
        self.delay_s = 0.0
        self.hidden_trades = 0
        self.weight_limit = weight_limit
        self._market = market
        self._now_ms = now_ms
        self._lock = threading.Lock()
        self._minute = 0
        self._used_weight = 0
        self._overrides: list[_Override] = []
        self._newest_ms = 0  # event time of the newest trade, and when it was first seen
        self._newest_seen_at = 0.0
        self.next_trade_ms: int | None = None
        """When the next trade happens, where it is known: the clock does not get ahead of it."""
        self.clock_speed = 1
        """How many times as fast as real time the clock is carried forward."""
        self.ticker_faults = TickerFaults()
        self.kline_faults = KlineFaults()
        self._requests: deque[RestRequest] = deque(maxlen=_REQUESTS_ON_RECORD)
        self._request_count = 0
        self._stopped = threading.Event()
        self._endpoints: dict[str, tuple[int, Callable[[dict[str, str]], object]]] = {
            "/api/v3/ping": (1, lambda _query: {}),
            "/api/v3/time": (1, lambda _query: {"serverTime": now_ms()}),
            "/api/v3/exchangeInfo": (20, self._exchange_info),
            "/api/v3/trades": (25, self._newest_trades),
            "/api/v3/historicalTrades": (25, self._historical_trades),
            "/api/v3/aggTrades": (4, self._aggregate_trades),
            "/api/v3/klines": (2, self._klines),
            "/api/v3/ticker/24hr": (80, self._ticker),
        }
        self._server = _HttpServer((host, port), self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="simulator-rest", daemon=True
        )

    @property
    def url(self) -> str:
        """Return http:// with host and port, without a path."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    @property
    def requests(self) -> list[RestRequest]:
        """The newest 10,000 requests that were answered, in the order of the answers."""
        with self._lock:
            return list(self._requests)

    @property
    def request_count(self) -> int:
        """How many requests were answered since the start."""
        return self._request_count

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Cut all connections and close the port."""
        self._stopped.set()
        self._server.shutdown()
        self._server.cut_connections()
        self._server.server_close()
        self._thread.join()

    def answer_next(
        self, status: int, headers: Mapping[str, str], body: bytes, times: int, path: str
    ) -> None:
        """Answer the next *times* requests whose path ends with *path* like this.

        Status 0 cuts the connection instead.
        """
        with self._lock:
            self._overrides.append(_Override(status, headers, body, path, times))

    def reply(self, target: str, headers: dict[str, str]) -> _Reply:
        """Return the answer to a request; status 0 stands for none. Called by the HTTP threads."""
        arrived_at = time.monotonic()
        url = urlsplit(target)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        self._stopped.wait(self.delay_s)
        said_at = self.clock_ms()  # before the answer is made: it must not say that it is younger
        weight, endpoint = self._endpoints.get(url.path, (1, _no_endpoint))
        if url.path == "/api/v3/ticker/24hr":
            weight = _ticker_weight(query)
        with self._lock:
            used = self._use(weight)
            reply = self._overridden(url.path) or self._over_limit(used)
        if reply is None:
            try:
                reply = _Reply(200, _compact(endpoint(query)))
            except _RefusedError as error:
                reply = error.reply
        reply.headers.setdefault("Date", formatdate(said_at // 1000, usegmt=True))
        reply.headers.setdefault("X-MBX-USED-WEIGHT", str(used))
        reply.headers.setdefault("X-MBX-USED-WEIGHT-1M", str(used))
        with self._lock:
            self._request_count += 1
            self._requests.append(RestRequest(arrived_at, url.path, query, headers, reply.status))
        return reply

    def clock_ms(self) -> int:
        """Return the exchange's time: that of its newest trade, carried forward since it was seen.

        Trades that are played may be of years ago. Without any it is that of the machine.
        """
        newest = self._market.newest_event_ms
        with self._lock:
            if newest != self._newest_ms:
                self._newest_ms, self._newest_seen_at = newest, time.monotonic()
            passed_s = time.monotonic() - self._newest_seen_at
        if not newest:
            return self._now_ms()
        carried = newest + int(passed_s * 1000 * self.clock_speed)
        if self.next_trade_ms is not None:
            carried = min(carried, self.next_trade_ms)
        return max(newest, carried)

    def _use(self, weight: int) -> int:
        """Count weight, refused requests' too; the window is the clock's minute."""
        minute = self._now_ms() // 60_000
        if minute != self._minute:
            self._minute, self._used_weight = minute, 0
        self._used_weight += weight
        return self._used_weight

    def _overridden(self, path: str) -> _Reply | None:
        for override in self._overrides:
            if path.endswith(override.path):
                override.times -= 1
                if override.times <= 0:
                    self._overrides.remove(override)
                return _Reply(override.status, override.body, dict(override.headers))
        return None

    def _over_limit(self, used: int) -> _Reply | None:
        if used <= self.weight_limit:
            return None
        reply = _RefusedError(
            -1003,
            f"Too much request weight used; current limit is {self.weight_limit} request weight "
            "per 1 MINUTE. Please use WebSocket Streams for live updates to avoid polling the API.",
            429,
        ).reply
        reply.headers["Retry-After"] = str(60 - self._now_ms() // 1000 % 60)
        return reply

    def _exchange_info(self, query: dict[str, str]) -> object:
        statuses = self._market.statuses()
        for symbol in (wanted := _wanted_symbols(query)) or ():
            if symbol not in statuses:
                raise _RefusedError(-1121, "Invalid symbol.")
        if "symbolStatus" in query and wanted is not None:
            raise _RefusedError(-1128, "Combination of optional parameters invalid.")
        return {
            "timezone": "UTC",
            "serverTime": self._now_ms(),
            "rateLimits": [
                _rate_limit("REQUEST_WEIGHT", "MINUTE", 1, self.weight_limit),
                _rate_limit("RAW_REQUESTS", "MINUTE", 5, 300_000),
            ],
            "exchangeFilters": [],
            "symbols": [
                _listing(symbol, status)
                for symbol, status in statuses.items()
                if (wanted is None or symbol in wanted)
                and query.get("symbolStatus", status) == status
            ],
        }

    def _ticker(self, query: dict[str, str]) -> object:
        statuses = self._market.statuses()
        for symbol in (wanted := _wanted_symbols(query)) or ():
            if symbol not in statuses:
                raise _RefusedError(-1121, "Invalid symbol.")
        faults, now_ms = self.ticker_faults, self.clock_ms()
        if not faults.is_offered:
            _no_endpoint(query)
        since, until = now_ms - _DAY_MS, faults.knows_until(now_ms)
        asked = statuses if wanted is None else wanted
        rows = [
            self._ticker_row(symbol, since, until)
            for symbol in asked
            if symbol not in faults.without
        ]
        return rows[0] if "symbol" in query else rows

    def _ticker_row(self, symbol: str, since_ms: int, until_ms: int) -> dict[str, object]:
        trades = self._market.between(symbol, since_ms, until_ms)
        prices = [Decimal(trade.price) for trade in trades] or [Decimal(0)]
        quantity = value = Decimal(0)
        for trade in trades:
            quantity = _DIGITS.add(quantity, Decimal(trade.quantity))
            value = _DIGITS.add(value, _quote_quantity(trade))
        return {
            "symbol": symbol,
            "openPrice": f"{prices[0]:.8f}",
            "highPrice": f"{max(prices):.8f}",
            "lowPrice": f"{min(prices):.8f}",
            "lastPrice": f"{prices[-1]:.8f}",
            "volume": f"{quantity:.8f}",
            "quoteVolume": f"{value:.8f}",
            "openTime": since_ms,
            "closeTime": until_ms,
            "firstId": trades[0].trade_id if trades else -1,
            "lastId": trades[-1].trade_id if trades else -1,
            "count": len(trades),
        }

    def _newest_trades(self, query: dict[str, str]) -> object:
        symbol = self._symbol(query)
        return [_trade_row(each) for each in self._market.page(symbol, None, _limit(query))]

    def _historical_trades(self, query: dict[str, str]) -> object:
        symbol, from_id = self._symbol(query), _integer(query, "fromId")
        forgotten = self._market.forgotten(symbol)
        if forgotten and from_id is not None and from_id <= forgotten.trade_id:
            raise _forgotten(forgotten)
        page = self._market.page(symbol, from_id, _limit(query), self.hidden_trades)
        return [_trade_row(each) for each in page]

    def _aggregate_trades(self, query: dict[str, str]) -> object:
        symbol, limit = self._symbol(query), _limit(query)
        from_id, start, end = (_integer(query, name) for name in ("fromId", "startTime", "endTime"))
        if from_id is not None and (start is not None or end is not None):
            raise _RefusedError(-1128, "Combination of optional parameters invalid.")
        known = self._market.aggregates(symbol, self.hidden_trades)
        self._check_history(symbol, from_id, start, known)
        found = [
            each
            for each in known
            if (from_id is None or each.aggregate_id >= from_id)
            and (start is None or each.trades[0].time_ms >= start)
            and (end is None or each.trades[0].time_ms <= end)
        ]
        is_newest = from_id is None and start is None
        return [_aggregate_row(each) for each in (found[-limit:] if is_newest else found[:limit])]

    def _klines(self, query: dict[str, str]) -> object:
        symbol, limit = self._symbol(query), _limit(query)
        length = KLINE_LENGTHS_MS.get(query.get("interval", ""))
        if length is None:
            raise _RefusedError(-1120, "Invalid interval.")
        start, end = (_integer(query, name) for name in ("startTime", "endTime"))
        forgotten = self._market.forgotten(symbol)
        if forgotten and start is not None and start <= forgotten.time_ms:
            raise _forgotten(forgotten)
        with self._lock:
            faults = self.kline_faults
            self.kline_faults = faults.after_an_answer()
        hidden = max(self.hidden_trades, faults.late_trades)
        trades = self._market.page(symbol, 0, 2**62, hidden)
        end = min(self._now_ms(), self._now_ms() if end is None else end)
        rows = klines_of(trades, length, start, end, limit)
        return [row for row in rows if row[0] not in faults.without]

    def _check_history(
        self, symbol: str, from_id: int | None, start: int | None, known: list[Aggregate]
    ) -> None:
        """Refuse to answer from an aggregate or a time on that are not kept any more."""
        forgotten = self._market.forgotten(symbol)
        if forgotten is None or not known:
            return
        if from_id is not None and from_id < known[0].aggregate_id:
            raise _forgotten(forgotten)
        if start is not None and start <= forgotten.time_ms:
            raise _forgotten(forgotten)

    def _symbol(self, query: dict[str, str]) -> str:
        symbol = query.get("symbol", "")
        if not symbol:
            raise _RefusedError(
                -1102,
                "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.",
            )
        if not re.fullmatch(r"[^\Wa-z]([^\Wa-z]|[-.])*", symbol):
            raise _RefusedError(-1100, "Illegal characters found in parameter 'symbol'.")
        if symbol not in self._market.statuses():
            raise _RefusedError(-1121, "Invalid symbol.")
        return symbol


class _HttpServer(ThreadingHTTPServer):
    # Not daemons, so that server_close() waits for them.
    daemon_threads = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], rest: RestServer) -> None:
        super().__init__(address, _Handler)
        self.rest = rest
        self._open: set[Any] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self._open.discard(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client may go at any moment."""

    def cut_connections(self) -> None:
        for request in list(self._open):
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "bintrades-simulator"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _HttpServer

    def do_GET(self) -> None:
        reply = self.server.rest.reply(self.path, dict(self.headers.items()))
        if reply.status == 0:
            self.close_connection = True
            return
        names = {name.lower() for name in reply.headers}
        self.send_response_only(reply.status)
        self.send_header("Server", self.version_string())
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if "content-type" not in names:
            self.send_header("Content-Type", "application/json;charset=UTF-8")
        if "content-length" not in names:
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - inherited
        """Say nothing; requests are on record."""


def _compact(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _forgotten(newest: SimulatedTrade) -> _RefusedError:
    """Return what is said instead of an answer that would look like proof of absence."""
    return _RefusedError(
        -1000,
        f"The simulator has forgotten the trades of {newest.symbol} up to {newest.trade_id}; "
        "with a larger --history it remembers more.",
        503,
    )


def _no_endpoint(_query: dict[str, str]) -> object:
    raise _RefusedError(-1000, "Path not found.", 404)


def _ticker_weight(query: dict[str, str]) -> int:
    """Return what the ticker of so many named symbols costs, or of all."""
    count = 1 if "symbol" in query else query["symbols"].count(",") + 1 if "symbols" in query else 0
    return next((weight for most, weight in _TICKER_WEIGHTS if 0 < count <= most), 80)


def _integer(query: dict[str, str], name: str) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,20}", text):
        raise _RefusedError(
            -1100,
            f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'.",
        )
    return int(text)


def _limit(query: dict[str, str]) -> int:
    limit = _integer(query, "limit")
    if limit is None:
        return 500
    if not 1 <= limit <= _MAX_ROWS:
        raise _RefusedError(-1130, "Data sent for parameter 'limit' is not valid.")
    return limit


def _wanted_symbols(query: dict[str, str]) -> list[str] | None:
    if "symbol" in query:
        return [query["symbol"]]
    if "symbols" not in query:
        return None
    try:
        symbols = json.loads(query["symbols"])
    except ValueError:
        symbols = None
    if not isinstance(symbols, list) or not all(isinstance(each, str) for each in symbols):
        raise _RefusedError(-1100, "Illegal characters found in parameter 'symbols'.")
    if len(set(symbols)) < len(symbols):
        raise _RefusedError(-1151, "Symbol is present multiple times in the list.")
    return symbols


def _rate_limit(kind: str, interval: str, count: int, limit: int) -> dict[str, object]:
    return {"rateLimitType": kind, "interval": interval, "intervalNum": count, "limit": limit}


def _listing(symbol: str, status: str) -> dict[str, object]:
    quote = next((each for each in _QUOTES if symbol.endswith(each)), symbol[-3:])
    return {
        "symbol": symbol,
        "status": status,
        "baseAsset": symbol.removesuffix(quote),
        "baseAssetPrecision": 8,
        "quoteAsset": quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": "0.01000000",
                "maxPrice": "1000000.00000000",
                "tickSize": "0.01000000",
            },
            {
                "filterType": "LOT_SIZE",
                "minQty": "0.00001000",
                "maxQty": "9000.00000000",
                "stepSize": "0.00001000",
            },
        ],
        "permissions": [],
        "permissionSets": [["SPOT"]],
    }


def _quote_quantity(trade: SimulatedTrade) -> Decimal:
    value = _DIGITS.multiply(Decimal(trade.price), Decimal(trade.quantity))
    return value.quantize(Decimal("1e-8"), context=_DIGITS)


def _trade_row(trade: SimulatedTrade) -> dict[str, object]:
    return {
        "id": trade.trade_id,
        "price": trade.price,
        "qty": trade.quantity,
        "quoteQty": f"{_quote_quantity(trade):f}",
        "time": trade.time_ms,
        "isBuyerMaker": trade.buyer_is_maker,
        "isBestMatch": True,
    }


def _aggregate_row(aggregate: Aggregate) -> dict[str, object]:
    first, last = aggregate.trades[0], aggregate.trades[-1]
    quantity = Decimal(0)
    for trade in aggregate.trades:
        quantity = _DIGITS.add(quantity, Decimal(trade.quantity))
    return {
        "a": aggregate.aggregate_id,
        "p": first.price,
        "q": f"{quantity:f}",
        "f": first.trade_id,
        "l": last.trade_id,
        "T": first.time_ms,
        "m": first.buyer_is_maker,
        "M": True,
    }
