"""An exchange on loopback for tests and demonstrations: real sockets, faults by method call."""

from __future__ import annotations

import threading
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

import msgspec

from bintrades.testing.market_messages import aggregate_payload
from bintrades.testing.market_rules import MARKETS
from bintrades.testing.rest_faults import KlineFaults, TickerFaults
from bintrades.testing.rest_server import RestRequest, RestServer
from bintrades.testing.simulated_market import (
    SimulatedMarket,
    SimulatedTrade,
    stream_name,
    trade_payload,
)
from bintrades.testing.stream_connection import Rules, StreamMessage
from bintrades.testing.stream_server import StreamServer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Collection, Iterable, Mapping
    from types import TracebackType
    from typing import Self

    from bintrades.testing.stream_control import ErrorShape

_BATCH = 256


class _Wrapped(msgspec.Struct):
    stream: str
    data: msgspec.Raw


class _Trade(msgspec.Struct, tag_field="e", tag="trade"):
    event_time_ms: int = msgspec.field(name="E")
    symbol: str = msgspec.field(name="s")
    trade_id: int = msgspec.field(name="t")
    price: str = msgspec.field(name="p")
    quantity: str = msgspec.field(name="q")
    time_ms: int = msgspec.field(name="T")
    buyer_is_maker: bool = msgspec.field(name="m")
    kind: str = msgspec.field(name="X", default="")


_decode_wrapped = msgspec.json.Decoder(_Wrapped).decode
_decode_trade = msgspec.json.Decoder(_Trade).decode


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class ExchangeSimulator(StreamServer):
    """A market's streams and REST on two ports of loopback, while the with block runs.

    *market* is spot, usdm, coinm or us: its paths, fields, weights, limits and refusals are those
    of Binance. The pings are spot's. Whoever subscribes to @aggTrade gets aggregates of what is
    published at once; REST tells the same ones.

    What is published or played becomes part of the market, from which REST answers, and is sent to
    those who subscribed to its stream. Publishing from several threads keeps the order of ids on
    the wire; it blocks while a subscriber does not read (see StreamServer).

    *symbols* may map each symbol to its status. *tls* encrypts the streams, never REST.
    *now_ms* is the exchange's clock. None switches pings or the message limit off. *history* bounds
    how many trades of all symbols REST answers from; what is forgotten it says it does not have.
    *contract_sizes* are those of COIN-M symbols that are not worth 10 in the quote asset (100 where
    the name begins with BTC).
    The event `ended` is set when the with block ends.
    """

    def __init__(
        self,
        symbols: Iterable[str] | Mapping[str, str] = ("BTCUSDT", "ETHUSDT"),
        *,
        host: str = "127.0.0.1",
        stream_port: int = 0,
        rest_port: int = 0,
        tls: ssl.SSLContext | None = None,
        ping_every_s: float | None = 20.0,
        pong_deadline_s: float = 60.0,
        messages_per_second: int | Literal["as documented"] | None = "as documented",
        error_shape: ErrorShape = "nested",
        slow_client_s: float = 30.0,
        first_trade_id: int = 1,
        weight_limit: int | None = None,
        history: int | None = None,
        now_ms: Callable[[], int] = _now_ms,
        market: str = "spot",
        contract_sizes: Mapping[str, int] | None = None,
    ) -> None:
        facts = MARKETS[market]
        if messages_per_second == "as documented":
            messages_per_second = facts.messages_per_second
        rules = Rules(
            ping_every_s=ping_every_s,
            pong_deadline_s=pong_deadline_s,
            messages_per_second=messages_per_second,
            error_shape=error_shape,
            slow_client_s=slow_client_s,
            now_ms=now_ms,
            market=facts,
        )
        super().__init__(host, stream_port, tls, rules)
        self.market = SimulatedMarket(
            symbols, first_trade_id, history=history, rules=facts, contract_sizes=contract_sizes
        )
        limit = facts.weight_limit if weight_limit is None else weight_limit
        try:
            self.rest = RestServer(host, rest_port, self.market, now_ms, limit)
        except OSError:
            self.stop()
            raise
        self._publishing = threading.Lock()
        self.ended = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        self.rest.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.ended.set()
        self.record_change()
        self.stop()
        self.rest.stop()

    @property
    def stream_url(self) -> str:
        """What `[binance] stream_url` must be: ws:// or wss://, without a path."""
        return self.url

    @property
    def rest_url(self) -> str:
        """What `[binance] rest_url` must be."""
        return self.rest.url

    @property
    def rest_requests(self) -> list[RestRequest]:
        """The newest 10,000 REST requests."""
        return self.rest.requests

    def publish(
        self,
        symbol: str,
        price: str | Decimal | int,
        quantity: str | Decimal | int,
        *,
        time_ms: int | None = None,
        event_time_ms: int | None = None,
        buyer_is_maker: bool = False,
        kind: str = "",
    ) -> SimulatedTrade:
        """Trade once, under the symbol's next id: now, unless a time is given.

        *kind* is what futures say in X: one of NA, INSURANCE_FUND, ADL or an unknown one uses up an
        id of which REST, klines and aggregates know nothing.
        """
        with self._publishing:
            aggregating = self._aggregating([symbol])
            trade = self.record(
                symbol,
                price,
                quantity,
                time_ms=time_ms,
                event_time_ms=event_time_ms,
                buyer_is_maker=buyer_is_maker,
                kind=kind,
            )
            self.deliver([self._message(trade), *self._new_aggregates(aggregating)])
            return trade

    def publish_filler(self, symbol: str, *, time_ms: int | None = None) -> SimulatedTrade:
        """Use up an id as futures do, by a message without a price that is no trade."""
        return self.publish(symbol, 0, 0, time_ms=time_ms, buyer_is_maker=True, kind="NA")

    def record(
        self,
        symbol: str,
        price: str | Decimal | int,
        quantity: str | Decimal | int,
        *,
        time_ms: int | None = None,
        event_time_ms: int | None = None,
        buyer_is_maker: bool = False,
        kind: str = "",
    ) -> SimulatedTrade:
        """Trade like publish() but send nothing: a hole on the wire that REST can fill."""
        time_ms = self.rules.now_ms() if time_ms is None else time_ms
        event_time_ms = time_ms if event_time_ms is None else event_time_ms
        return self.market.new_trade(
            symbol, _text(price), _text(quantity), time_ms, event_time_ms, buyer_is_maker, kind
        )

    def publish_trades(self, trades: Iterable[SimulatedTrade]) -> None:
        """Record trades that have their ids, and send them in this order."""
        with self._publishing:
            trades = list(trades)
            aggregating = self._aggregating(dict.fromkeys(trade.symbol for trade in trades))
            self.add_trades(trades)
            messages = [self._message(trade) for trade in trades]
            self.deliver([*messages, *self._new_aggregates(aggregating)])

    def add_trades(self, trades: Iterable[SimulatedTrade]) -> None:
        """Record trades that have their ids, and send nothing."""
        for trade in trades:
            self.market.record(trade)

    def skip_ids(self, symbol: str, count: int) -> None:
        """Use up ids that no trade will ever have: a hole that REST confirms."""
        self.market.skip_ids(symbol, count)

    def list_symbol(self, symbol: str, status: str = "TRADING") -> None:
        """List a symbol in exchangeInfo, or change its status there."""
        self.market.list_symbol(symbol, status)

    def unlist_symbol(self, symbol: str) -> None:
        """Have exchangeInfo lack a symbol; whoever is subscribed gets its trades still."""
        self.market.unlist_symbol(symbol)

    def play(
        self,
        frames: Iterable[tuple[int, bytes]],
        speed: float | None = None,
        *,
        to_everybody: bool = False,
    ) -> None:
        """Send recorded (receive time in ns, payload) frames; return when all are sent.

        Speed 1 keeps the times between them, 60 shortens them to a sixtieth, None to nothing. A
        frame goes to the subscribers of its stream, or to all clients if it has none or if
        *to_everybody*; trades become part of the market. Ends early with the simulator.
        """
        batch: list[StreamMessage] = []
        began_at = time.monotonic()
        first_ns = None
        for time_ns, payload in frames:
            first_ns = time_ns if first_ns is None else first_ns
            if speed is not None:
                wait_s = began_at + (time_ns - first_ns) / 1e9 / speed - time.monotonic()
                if wait_s > 0:
                    self._send_played(batch)
                    self.ended.wait(wait_s)
            if self.ended.is_set():
                return
            batch.append(self._as_played(payload, to_everybody))
            if len(batch) == _BATCH:
                self._send_played(batch)
        self._send_played(batch)

    def rest_answer(
        self,
        status: int,
        headers: Mapping[str, str] | None = None,
        body: str | bytes = b"{}",
        times: int = 1,
        *,
        path: str = "",
    ) -> None:
        """Answer the next *times* REST requests, whose path ends with *path*, like this."""
        body = body.encode() if isinstance(body, str) else body
        self.rest.answer_next(status, headers or {}, body, times, path)

    def rest_cut(self, times: int = 1, *, path: str = "") -> None:
        """Close the connection instead of answering the next REST requests."""
        self.rest.answer_next(0, {}, b"", times, path)

    def rest_delay(self, seconds: float) -> None:
        """Answer every REST request so much later."""
        self.rest.delay_s = seconds

    def rest_lag(self, trades: int) -> None:
        """Keep the newest trades of each symbol from historicalTrades and aggTrades."""
        self.rest.hidden_trades = trades

    def recent_trades_lag(self, trades: int) -> None:
        """Keep the newest trades of each symbol from /trades, as its memory is stale at times."""
        self.rest.stale_trades = trades

    def ticker_faults(
        self,
        *,
        lag_ms: int = 0,
        is_stale: bool = False,
        is_offered: bool = True,
        without: Collection[str] = (),
    ) -> None:
        """Have the 24-hour ticker err from now on like this only; without arguments not at all.

        Its answers lack the trades of the last *lag_ms*, or, stale, all that happen from now on
        though their `Date` goes on; the host has none (404); rows of symbols are left out.
        """
        stale_since = self.rest.clock_ms() if is_stale else None
        self.rest.ticker_faults = TickerFaults(lag_ms, stale_since, is_offered, without)

    def kline_faults(
        self,
        *,
        without: Collection[int] = (),
        late_trades: int = 0,
        late_answers: int | None = None,
    ) -> None:
        """Have klines err from now on like this only; without arguments not at all.

        Answers lack the klines that open at these times, and each symbol's newest *late_trades*:
        with fewer of them, klines are revised, as they are after *late_answers* answers. Errors
        instead of answers: rest_answer().
        """
        self.rest.kline_faults = KlineFaults(without, late_trades, late_answers)

    def _message(self, trade: SimulatedTrade) -> StreamMessage:
        stream, raw = stream_name(trade.symbol), trade_payload(trade, self.market.rules)
        return StreamMessage(stream, _wrapped(stream, raw), raw)

    def _aggregating(self, symbols: Iterable[str]) -> dict[str, int]:
        """Return the next aggregate of those symbols whose aggregates somebody is subscribed to.

        Nothing that is recorded from now on belongs to an earlier one, since that has been sent.
        """
        clients = self.connections
        return {
            symbol: self.market.close_aggregates(symbol)
            for symbol in symbols
            if any(client.is_subscribed(stream_name(symbol, "aggTrade")) for client in clients)
        }

    def _new_aggregates(self, aggregating: Mapping[str, int]) -> list[StreamMessage]:
        messages = []
        for symbol, next_id in aggregating.items():
            stream = stream_name(symbol, "aggTrade")
            for aggregate in self.market.aggregates(symbol, from_id=next_id):
                event_time_ms = aggregate.trades[-1].event_time_ms
                raw = aggregate_payload(aggregate, event_time_ms, self.market.rules)
                messages.append(StreamMessage(stream, _wrapped(stream, raw), raw))
            self.market.close_aggregates(symbol)
        return messages

    def _as_played(self, payload: bytes, to_everybody: bool) -> StreamMessage:
        try:
            wrapped = _decode_wrapped(payload)
        except msgspec.MsgspecError:
            return StreamMessage(None, payload, payload)
        raw = bytes(wrapped.data)
        try:
            trade = _decode_trade(raw)
        except msgspec.MsgspecError:
            pass
        else:
            self.market.record(
                SimulatedTrade(
                    trade.symbol,
                    trade.trade_id,
                    trade.price,
                    trade.quantity,
                    trade.time_ms,
                    trade.event_time_ms,
                    trade.buyer_is_maker,
                    trade.kind,
                )
            )
        return StreamMessage(None if to_everybody else wrapped.stream, payload, raw)

    def _send_played(self, batch: list[StreamMessage]) -> None:
        with self._publishing:
            self.deliver(batch)
        batch.clear()


def combined_payload(trade: SimulatedTrade, market: str = "spot") -> bytes:
    """Return the trade as the combined stream sends it."""
    return _wrapped(stream_name(trade.symbol), trade_payload(trade, MARKETS[market]))


def _wrapped(stream: str, raw: bytes) -> bytes:
    return b'{"stream":"%b","data":%b}' % (stream.encode(), raw)


def _text(number: str | Decimal | int) -> str:
    return f"{number:f}" if isinstance(number, Decimal) else str(number)
