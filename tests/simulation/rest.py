"""The REST side of the simulated exchange, in the place of an HTTP client."""

from __future__ import annotations

import json
from bisect import bisect_left
from dataclasses import dataclass
from email.utils import formatdate
from itertools import filterfalse, islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from tests.simulation.kinds import SPOT_TRADES
from tests.simulation.klines import klines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from random import Random

    from bintrades.exchange.binance.market import Endpoint, Market
    from bintrades.model import Trade
    from tests.simulation.clock import Clock
    from tests.simulation.faults import Faults
    from tests.simulation.kinds import Kind
    from tests.simulation.market import Aggregate, Tape
    from tests.simulation.schedule import Fault

_LAG_MS = 30  # the database is always a little behind the streams
_BAN_MS = 120_000
_PATCHES = 3  # one trade in so many is late in a patchy database
_LEFT_OUT = 7  # ids in a row
TICKER = "/api/v3/ticker/24hr"
_DAY_MS = 86_400_000
_TICKER_LAG_MS = 300  # at most, as long as all is well
_ALL = -1  # the number of no symbol
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
KEY_HEADER = "X-MBX-APIKEY"
_NO_SYMBOL = b'{"code":-1121,"msg":"Invalid symbol."}'
_TOO_OLD = b'{"code":-4166,"msg":"Search window is restricted to recent 2 days only."}'
_GARBAGE = (b"", b"<html>", b"{}", b"[[1]]", b'[{"id":"x"}]', b'[{"a":1}]')


@dataclass(frozen=True)
class Answer:
    """In the place of an answer of HTTP."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    reason: str = ""

    def read(self) -> bytes:
        """Return the body."""
        return self.body


class Rest:
    """Answers from the tapes, and counts weight as Binance does."""

    def __init__(
        self,
        tapes: list[Tape],
        market: Market,
        clock: Clock,
        faults: Faults,
        rng: Random,
        *,
        is_forbidden: bool,
        has_ticker: bool = True,
        note: Callable[[str], None],
        shows_stale: Callable[[Mapping[str, int]], bool],
        is_shared: bool = False,
        kind: Kind = SPOT_TRADES,
    ) -> None:
        self.request_count = 0
        self.blocked_until = 0  # by the monotonic clock of the collector's machine
        self._tapes = {tape.symbol: tape for tape in tapes}
        self._market = market
        self._kind = kind
        endpoints = (market.historical_trades, market.aggregate_trades, market.recent_trades)
        self._endpoints = {endpoint.path: endpoint for endpoint in endpoints if endpoint}
        self._clock = clock
        self._faults = faults
        self._rng = rng
        self._is_forbidden = is_forbidden
        self._has_ticker = has_ticker
        self._shows_stale = shows_stale  # whether the collector can see that such ids are old ones
        self._note = note
        self._is_shared = is_shared  # by another collector, which is refused without the other
        self._minute = 0
        self._weight = 0
        self.statuses: Callable[[], Mapping[str, str]] = lambda: dict.fromkeys(
            self._tapes, "TRADING"
        )
        """What the exchange lists, and as what."""

    def serve(self, tapes: list[Tape]) -> None:
        """Answer from *tapes* from now on, and know nothing of what was before."""
        self._tapes = {tape.symbol: tape for tape in tapes}

    def forget_blocks(self) -> None:
        """A new process may ask, if it does not know of the refusal."""
        self.blocked_until = 0

    def close(self) -> None:
        """Close nothing."""

    def get(self, target: str, headers: Mapping[str, str] = _NO_HEADERS) -> Answer:
        """Answer a request as the exchange does. Raises OSError where there is no answer."""
        self.request_count += 1
        parts = urlsplit(target)
        params = dict(parse_qsl(parts.query))
        market = self._market
        if parts.path == market.newest_ids.path:
            answer = self._answer(self._ticker_weight(params), lambda: self._ticker(params))
        elif parts.path == market.exchange_info.path:
            answer = self._answer(market.exchange_info.weight, self._exchange_info)
        elif market.klines is not None and parts.path == market.klines.endpoint.path:
            weight = market.klines.weight(int(params["limit"]))
            answer = self._answer(weight, lambda: self._klines(params))
        else:
            endpoint = self._endpoints[parts.path]
            is_known = KEY_HEADER in headers
            answer = self._answer(
                endpoint.weight, lambda: self._page(endpoint, params, is_known=is_known)
            )
        said = answer.body[:400].decode(errors="replace")
        self._note(f"REST {parts.path.rpartition('/')[2]} {params}: {answer.status} {said}")
        return answer

    def _answer(self, weight: int, answer: Callable[[], tuple[int, bytes]]) -> Answer:
        self._count(weight)
        headers = {
            "X-MBX-USED-WEIGHT-1M": str(self._weight),
            "Date": formatdate(self._clock.exchange() // 1000, usegmt=True),
        }
        refusal = self._refusal()
        if refusal is None:
            status, body = answer()
            return Answer(status, headers, body)
        status, retry_after = refusal
        if retry_after is not None:
            headers["Retry-After"] = str(retry_after)
        return Answer(status, headers, b"{}")

    def _count(self, weight: int) -> None:
        now = self._clock.now()
        if now < self.blocked_until and not self._is_shared:
            raise AssertionError(f"asked {self.blocked_until - now} ms before the refusal ends")
        minute = self._clock.exchange() // 60_000
        if minute != self._minute:
            self._minute, self._weight = minute, 0
        self._weight += weight

    def _refusal(self) -> tuple[int, int | None] | None:
        """Return the status of a refusal, and after how many seconds to come back, if it says so.

        Raises ConnectionError where there is no answer.
        """
        if self._is_forbidden:
            return self._refused(451, None)
        if self._weight > self._market.weight_per_minute:
            return self._refused(429, 60)
        for status in (429, 418, 403, 451):
            if self._faults.strikes("rest", str(status)):
                return self._refused(status, self._rng.choice([None, 1, 5, 30]))
        if self._faults.strikes("rest", "error"):
            error = self._rng.choice([None, 400, 500, 503])
            if error is None:
                self._note("REST: no answer")
                raise ConnectionError("no answer")
            return error, None
        return None

    def _refused(self, status: int, retry_after: int | None) -> tuple[int, int | None]:
        wait = _BAN_MS if retry_after is None else retry_after * 1000
        self.blocked_until = self._clock.now() + wait
        return status, retry_after

    def _page(
        self, endpoint: Endpoint, params: Mapping[str, str], *, is_known: bool
    ) -> tuple[int, bytes]:
        """Return status and body of a page of past trades; *is_known*: with an API key."""
        if self._faults.strikes("rest", "garbage"):
            return 200, self._rng.choice(_GARBAGE)
        is_of_old = endpoint is self._market.historical_trades
        if endpoint.needs_key and not is_known:
            return 401, b'{"code":-2014,"msg":"API-key format invalid."}'
        if params["symbol"] not in self.statuses():
            return 400, _NO_SYMBOL
        tape = self._tapes[params["symbol"]]
        lag = self._faults.active("rest", "lag")
        visible = self._clock.exchange() - (int(lag.amount) if lag else _LAG_MS)
        end = bisect_left(tape.trades, visible, key=lambda trade: trade.event_time)
        limit = min(int(params["limit"]), endpoint.max_rows)
        is_newest = self._faults.strikes("rest", "newest")  # it does not look at what was asked
        if endpoint is self._market.recent_trades:
            rows = list(map(_trade_row, self._recent(tape, end)[-limit:]))
        elif not is_newest and self._is_too_old(tape, params, is_of_aggregates=not is_of_old):
            return 400, _TOO_OLD
        elif is_of_old:
            rows = list(map(_trade_row, self._old(tape, params, end, limit, is_newest=is_newest)))
        else:
            found = self._aggregates(tape, {} if is_newest else params, end, limit)
            found = [row for row in found if self._is_visible(row.trades[-1])]
            rows = list(map(_aggregate_row, found))
        if self._faults.strikes("rest", "empty"):
            rows = []
        if rows and self._faults.strikes("rest", "short"):
            rows = rows[: self._rng.randrange(len(rows))]
        return 200, json.dumps(rows).encode()

    def _old(
        self, tape: Tape, params: Mapping[str, str], end: int, limit: int, *, is_newest: bool
    ) -> Iterable[Trade]:
        """Return a page of historicalTrades: on futures so many ids, elsewhere so many rows."""
        from_id = int(params["fromId"])
        start = bisect_left(tape.ids, from_id)
        if self._kind.has_fillers and not is_newest:
            end = min(end, bisect_left(tape.ids, from_id + limit))
        asked = tape.trades[max(0, end - limit) if is_newest else start : end]
        there = filterfalse(self._is_left_out, filter(self._is_visible, asked))
        return islice(there, limit)

    def _recent(self, tape: Tape, end: int) -> list[Trade]:
        """Return what /trades has: the newest ones, or those of a while ago, or nothing."""
        if self._faults.strikes("rest", "recent empty"):
            return []
        stale = self._faults.active("rest", "recent stale")
        if stale is not None:
            since = self._clock.exchange() - stale.amount
            end = min(end, bisect_left(tape.trades, since, key=lambda trade: trade.event_time))
        return tape.trades[max(0, end - self._kind.recent_rows) : end]

    def _is_too_old(self, tape: Tape, params: Mapping[str, str], *, is_of_aggregates: bool) -> bool:
        """Whether the exchange refuses to look so far back."""
        reach = self._kind.reach
        if reach is None:
            return False
        oldest = self._clock.exchange() - reach
        if "startTime" in params:
            return int(params["startTime"]) < oldest
        if "fromId" not in params or not tape.trades:
            return False
        from_id = int(params["fromId"])
        if is_of_aggregates:
            place = bisect_left(tape.aggregates, from_id, key=lambda row: row.id)
            return place < len(tape.aggregates) and tape.aggregates[place].trades[0].time < oldest
        place = bisect_left(tape.ids, from_id)
        return place < len(tape.ids) and tape.trades[place].time < oldest

    def _klines(self, params: Mapping[str, str]) -> tuple[int, bytes]:
        """Return status and body of a page of klines."""
        if self._faults.strikes("rest", "garbage"):
            return 200, self._rng.choice(_GARBAGE)
        if params["symbol"] not in self.statuses():
            return 400, _NO_SYMBOL
        span = int(params["startTime"]), int(params["endTime"])
        rows = klines(
            self._tapes[params["symbol"]],
            self._kind,
            params["interval"],
            span,
            self._clock.exchange(),
            int(params["limit"]),
        )
        return 200, json.dumps(rows).encode()

    def _exchange_info(self) -> tuple[int, bytes]:
        """Return status and body of the list of symbols."""
        if self._faults.strikes("rest", "garbage"):
            return 200, self._rng.choice(_GARBAGE)
        key = "contractStatus" if self._kind.market == "coinm" else "status"
        rows = []
        for symbol, status in self.statuses().items():
            row: dict[str, Any] = {"symbol": symbol, key: status}
            if (size := self._kind.contract_size(symbol)) is not None:
                row["contractSize"] = int(size)
            rows.append(row)
        return 200, json.dumps({"symbols": rows}, ensure_ascii=False).encode()

    def _ticker(self, params: Mapping[str, str]) -> tuple[int, bytes]:
        """Return status and body of the 24-hour ticker: from memory, and so never patchy."""
        if not self._has_ticker:
            return 404, b"<html>"
        if self._faults.strikes("rest", "garbage"):
            return 200, self._rng.choice(_GARBAGE)
        listed = self.statuses()
        symbols = _named(params) or [symbol for symbol in self._tapes if symbol in listed]
        if not listed.keys() >= set(symbols):
            return 400, _NO_SYMBOL
        kept = [each for each in symbols if not self._faults.strikes("rest", "ticker rows")]
        now = self._clock.exchange()
        lagging = self._faults.active("rest", "ticker lag")
        until = now - self._rng.randint(0, int(lagging.amount) if lagging else _TICKER_LAG_MS)
        stale = self._faults.active("rest", "stale ticker")
        if stale is not None and self._shows_stale(self._newest_ids(kept, now - stale.amount)):
            until = now - int(stale.amount)
        still = self._faults.active("rest", "ticker stands still", _ALL)
        if still is not None and self._shows_stale(self._newest_ids(kept, self._time_of(still))):
            until = min(until, self._time_of(still))
        rows = [self._ticker_row(symbol, self._lagging(symbol, until)) for symbol in kept]
        if not _named(params):
            rows.append({"symbol": "FOREIGNUSDT", "firstId": 1, "lastId": 7, "count": 7})
        is_one = "symbol" in params and rows
        return 200, json.dumps(rows[0] if is_one else rows, ensure_ascii=False).encode()

    def _ticker_weight(self, params: Mapping[str, str]) -> int:
        """Return what the ticker costs: for the symbols that are named, or for all."""
        named = _named(params)
        weights = self._market.newest_ids_weights if named else ()
        return next(
            (weight for most, weight in weights if len(named) <= most),
            self._market.newest_ids.weight,
        )

    def _lagging(self, symbol: str, until: int) -> int:
        """Return as of when the row of *symbol* is where the others are as of *until*."""
        number = [*self._tapes].index(symbol)
        fault = self._faults.active("rest", "ticker stands still", number)
        if fault is None or fault.target is None:
            return until
        is_shown = self._shows_stale(self._newest_ids([symbol], self._time_of(fault)))
        return min(until, self._time_of(fault)) if is_shown else until

    def _time_of(self, fault: Fault) -> int:
        """Return when *fault* began, by the exchange's clock."""
        return self._clock.exchange() - (self._clock.elapsed - fault.since)

    def _newest_ids(self, symbols: Iterable[str], until: float) -> dict[str, int]:
        return {symbol: self._ticker_row(symbol, until)["lastId"] for symbol in symbols}

    def _ticker_row(self, symbol: str, until: float) -> dict[str, Any]:
        """Return the row of *symbol* as it was at *until*, in the format of type MINI."""
        trades = self._tapes[symbol].trades
        end = bisect_left(trades, until, key=lambda trade: trade.event_time)
        start = bisect_left(trades, until - _DAY_MS, key=lambda trade: trade.event_time)
        if start == end:
            ids = {"firstId": -1, "lastId": -1, "count": 0}
        else:
            first, last = trades[start], trades[end - 1]
            count = last.trade_id - first.trade_id + 1
            ids = {"firstId": first.trade_id, "lastId": last.trade_id, "count": count}
        return {"symbol": symbol, "closeTime": int(until), **ids}

    def _is_visible(self, trade: Trade) -> bool:
        """Whether *trade* is there yet: some come into the database later than their neighbours."""
        patchy = self._faults.active("rest", "patchy")
        if patchy is None or trade.trade_id % _PATCHES:
            return True
        if trade.trade_id == self._tapes[trade.symbol].ids[0]:
            return True  # that the very first one of all is left out, nothing could show
        return trade.event_time + patchy.amount < self._clock.exchange()

    def _is_left_out(self, trade: Trade) -> bool:
        """Whether historicalTrades lacks *trade* for a while, though not those around a few."""
        left_out = self._faults.active("rest", "left out")
        if left_out is None or trade.trade_id // _LEFT_OUT % 2:
            return False
        return trade.event_time + left_out.amount >= self._clock.exchange()

    @staticmethod
    def _aggregates(tape: Tape, params: Mapping[str, str], end: int, limit: int) -> list[Aggregate]:
        newest = tape.ids[end - 1] if end else -1
        last = bisect_left(tape.aggregates, newest + 1, key=lambda row: row.trades[-1].trade_id)
        if "fromId" in params:
            first = bisect_left(tape.aggregates, int(params["fromId"]), key=lambda row: row.id)
        elif "startTime" in params:
            first = next(
                (
                    number
                    for number, row in enumerate(tape.aggregates)
                    if row.trades[0].time >= int(params["startTime"])
                ),
                last,
            )
        else:
            first = max(0, last - limit)
        return tape.aggregates[first : min(last, first + limit)]


def _named(params: Mapping[str, str]) -> list[str]:
    """Return the symbols that a request for the ticker names; none: it is about all."""
    if "symbols" in params:
        return list(json.loads(params["symbols"]))
    return [params["symbol"]] if "symbol" in params else []


def _trade_row(trade: Trade) -> dict[str, Any]:
    return {
        "id": trade.trade_id,
        "price": f"{trade.price:f}",
        "qty": f"{trade.quantity:f}",
        "quoteQty": "0",
        "time": trade.time,
        "isBuyerMaker": trade.is_buyer_maker,
        "isBestMatch": True,
    }


def _aggregate_row(aggregate: Aggregate) -> dict[str, Any]:
    first = aggregate.trades[0]
    return {
        "a": aggregate.id,
        "p": f"{first.price:f}",
        "q": f"{aggregate.quantity:f}",
        "f": first.trade_id,
        "l": aggregate.trades[-1].trade_id,
        "T": first.time,
        "m": first.is_buyer_maker,
        "M": True,
    }
