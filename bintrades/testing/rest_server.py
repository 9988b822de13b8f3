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

from bintrades.testing.market_messages import aggregate_row, listing, quote_quantity, trade_row
from bintrades.testing.rest_faults import KlineFaults, TickerFaults
from bintrades.testing.simulated_klines import klines_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bintrades.testing.market_rules import MarketRules
    from bintrades.testing.simulated_market import Aggregate, SimulatedMarket, SimulatedTrade

_MAX_ROWS = 1000
_DAY_MS = 86_400_000
_REQUESTS_ON_RECORD = 10_000
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
    `hidden_trades` of each symbol are not in the database yet, which all but /trades ask, and
    `stale_trades` are not in the memory that /trades answers from.
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
        self.stale_trades = 0
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
        self._rules = market.rules
        endpoints: dict[str, Callable[[dict[str, str]], object]] = {
            "ping": lambda _query: {},
            "time": lambda _query: {"serverTime": now_ms()},
            "exchangeInfo": self._exchange_info,
            "trades": self._newest_trades,
            "historicalTrades": self._historical_trades,
            "aggTrades": self._aggregate_trades,
            "klines": self._klines,
            "ticker/24hr": self._ticker,
        }
        self._endpoints = {f"{self._rules.api}/{name}": each for name, each in endpoints.items()}
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
        endpoint = self._endpoints.get(url.path, _no_endpoint)
        with self._lock:
            used = self._use(self._weight(url.path, query))
            reply = self._overridden(url.path) or self._over_limit(used)
        if reply is None:
            try:
                self._check_key(url.path, headers)
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

    def _weight(self, path: str, query: dict[str, str]) -> int:
        """Return what a request weighs; one that cannot be answered weighs too."""
        name = path.rpartition("/")[2]
        if name == "24hr":
            return _ticker_weight(query, self._rules)
        if name == "klines" and self._rules.kline_weights and query.get("limit", "").isdigit():
            limit = int(query["limit"])
            weights = self._rules.kline_weights
            return next((weight for most, weight in weights if limit <= most), weights[-1][1])
        return self._rules.weights.get(name, 1)

    def _check_key(self, path: str, headers: Mapping[str, str]) -> None:
        needs_key = self._rules.needs_key and path.endswith("/historicalTrades")
        names = {name.lower() for name, value in headers.items() if value}
        if needs_key and "x-mbx-apikey" not in names:
            raise _RefusedError(-2014, "API-key format invalid.", 401)

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
        if self._rules.is_futures:
            query = {}  # it names none there
        for symbol in (wanted := _wanted_symbols(query)) or ():
            if symbol not in statuses:
                raise _RefusedError(-1121, "Invalid symbol.")
        if "symbolStatus" in query and wanted is not None:
            raise _RefusedError(-1128, "Combination of optional parameters invalid.")
        other = _rate_limit("RAW_REQUESTS", "MINUTE", 5, 300_000)
        if self._rules.is_futures:
            other = _rate_limit("ORDERS", "MINUTE", 1, 1_200)
        return {
            "timezone": "UTC",
            "serverTime": self._now_ms(),
            "rateLimits": [
                _rate_limit("REQUEST_WEIGHT", "MINUTE", 1, self.weight_limit),
                other,
            ],
            "exchangeFilters": [],
            "symbols": [
                listing(symbol, status, self._rules, self._market.contract_size(symbol))
                for symbol, status in statuses.items()
                if (wanted is None or symbol in wanted)
                and query.get("symbolStatus", status) == status
            ],
        }

    def _ticker(self, query: dict[str, str]) -> object:
        statuses = self._market.statuses()
        if self._rules.is_futures:
            query = {name: value for name, value in query.items() if name != "symbols"}
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
        is_bare = "symbol" in query and not self._rules.has_contracts  # those always have a list
        return rows[0] if is_bare else rows

    def _ticker_row(self, symbol: str, since_ms: int, until_ms: int) -> dict[str, object]:
        trades = self._market.between(symbol, since_ms, until_ms)
        prices = [Decimal(trade.price) for trade in trades] or [Decimal(0)]
        quantity = value = Decimal(0)
        for trade in trades:
            quantity = _DIGITS.add(quantity, Decimal(trade.quantity))
            value = _DIGITS.add(value, quote_quantity(trade))
        return {
            "symbol": symbol,
            "openPrice": f"{prices[0]:.8f}",
            "highPrice": f"{max(prices):.8f}",
            "lowPrice": f"{min(prices):.8f}",
            "lastPrice": f"{prices[-1]:.8f}",
            "volume": f"{quantity:.8f}",
            "baseVolume" if self._rules.has_contracts else "quoteVolume": f"{value:.8f}",
            "openTime": since_ms,
            "closeTime": until_ms,
            "firstId": trades[0].trade_id if trades else -1,
            "lastId": trades[-1].trade_id if trades else -1,
            "count": len(trades),
        }

    def _newest_trades(self, query: dict[str, str]) -> object:
        symbol = self._symbol(query)
        limit = _limit(query)
        return self._trade_rows(self._market.page(symbol, None, limit, self.stale_trades))

    def _historical_trades(self, query: dict[str, str]) -> object:
        symbol, from_id = self._symbol(query), _integer(query, "fromId")
        default, most = self._rules.historical_limits
        limit = min(most, _limit(query, default))
        forgotten = self._market.forgotten(symbol)
        if forgotten and from_id is not None and from_id <= forgotten.trade_id:
            raise _forgotten(forgotten)
        if from_id is None or not self._rules.is_futures:
            page = self._market.page(symbol, from_id, limit, self.hidden_trades)
        else:
            self._check_age(self._market.page(symbol, from_id, 1, self.hidden_trades))
            page = self._market.page_of_ids(symbol, from_id, limit, self.hidden_trades)
        return self._trade_rows(page)

    def _trade_rows(self, trades: list[SimulatedTrade]) -> list[dict[str, object]]:
        return [
            trade_row(trade, self._rules, self._market.contract_size(trade.symbol))
            for trade in trades
        ]

    def _aggregate_trades(self, query: dict[str, str]) -> object:
        symbol, limit = self._symbol(query), _limit(query)
        from_id, start, end = (_integer(query, name) for name in ("fromId", "startTime", "endTime"))
        if from_id is not None and (start is not None or end is not None):
            raise _RefusedError(-1128, "Combination of optional parameters invalid.")
        if start is not None:
            self._check_time(start)
        known = self._market.aggregates(symbol, self.hidden_trades)
        self._check_history(symbol, from_id, start, known)
        found = [
            each
            for each in known
            if (from_id is None or each.aggregate_id >= from_id)
            and (start is None or each.trades[0].time_ms >= start)
            and (end is None or each.trades[0].time_ms <= end)
        ]
        if from_id is not None and found:
            self._check_age(found[0].trades)
        is_newest = from_id is None and start is None
        rows = found[-limit:] if is_newest else found[:limit]
        return [aggregate_row(each, self._rules) for each in rows]

    def _check_age(self, trades: Sequence[SimulatedTrade]) -> None:
        """Refuse to answer from a trade on that is too old."""
        if trades:
            self._check_time(trades[0].time_ms)

    def _check_time(self, time_ms: int) -> None:
        history_ms = self._rules.history_ms
        if history_ms is not None and time_ms < self.clock_ms() - history_ms:
            raise _RefusedError(-4166, "Search window is restricted to recent 2 days only.")

    def _klines(self, query: dict[str, str]) -> object:
        symbol, limit = self._symbol(query), _limit(query, most=self._rules.most_klines)
        length = self._rules.intervals.get(query.get("interval", ""))
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
        size = self._market.contract_size(symbol) if self._rules.has_contracts else None
        rows = klines_of(trades, length, start, end, limit, size)
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


def _ticker_weight(query: dict[str, str], rules: MarketRules) -> int:
    """Return what the ticker of so many named symbols costs, or of all."""
    count = 1 if "symbol" in query else query["symbols"].count(",") + 1 if "symbols" in query else 0
    named = (weight for most, weight in rules.ticker_weights if 0 < count <= most)
    return next(named, rules.weights["24hr"])


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


def _limit(query: dict[str, str], default: int = 500, most: int = _MAX_ROWS) -> int:
    limit = _integer(query, "limit")
    if limit is None:
        return default
    if not 1 <= limit <= most:
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
