"""The streams of the simulated exchange and the network between it and the collector."""

from __future__ import annotations

import heapq
import json
from collections import deque
from typing import TYPE_CHECKING

from tests.simulation.market import payload, stream_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from random import Random

    from bintrades.model import Trade
    from tests.simulation.clock import Clock
    from tests.simulation.faults import Faults
    from tests.simulation.kinds import Kind

_JUNK = (
    b"Pong timeout",
    b"{}",
    b"[]",
    b'{"e":"trade"}',
    b'{"stream":"btcusdt@trade","data":{"e":"trade","t":-1}}',
    b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1723075200000,"s":"BTCUSDT","t":1,'
    b'"p":"NaN","q":"1","T":1723075200000,"m":true}}',
    b'{"stream":"btcusdt@depth","data":{"e":"depthUpdate","u":1}}',
    b'{"stream":"x","data":{"e":"trade","E":1723075200000,"s":"FOREIGN","t":1,"p":"1","q":"1",'
    b'"T":1723075200000,"m":true}}',
    b"\xff\xfe",
)
_AGGREGATE_JUNK = (
    b'{"stream":"btcusdt@aggTrade","data":{"e":"aggTrade","a":-1}}',
    b'{"stream":"btcusdt@aggTrade","data":{"e":"aggTrade","E":1723075200000,"s":"BTCUSDT",'
    b'"a":5,"p":"0","q":"0","f":-1,"l":-1,"T":1723075200000,"m":true}}',
    b'{"stream":"x","data":{"e":"aggTrade","E":1723075200000,"s":"FOREIGN","a":1,"p":"1","q":"1",'
    b'"f":1,"l":1,"T":1723075200000,"m":true}}',
)
_SHUTDOWN = b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}'


class Connection:
    """One WebSocket connection, both ends: what the session holds and what the exchange feeds."""

    def __init__(
        self, copy: int, delay: int, clock: Clock, faults: Faults, rng: Random, kind: Kind
    ) -> None:
        self.copy = copy
        self.symbols: set[str] = set()  # whose trades it brings
        self.is_closed = False
        self.closes_at: int | None = None
        self.abandoned_streams: set[str] = set()  # that it brought when the client let go of it
        self._delay = delay
        self._clock = clock
        self._faults = faults
        self._rng = rng
        self._kind = kind
        self._junk = _JUNK + _AGGREGATE_JUNK if kind.is_aggregated else _JUNK
        self._under_way: deque[tuple[int, bytes]] = deque()
        self._held: list[bytes] = []  # frames that others overtake
        self._is_half_open = False

    def receive(self) -> bytes | None:
        """Return what has arrived, cut anywhere; as the feed's Connection."""
        now = self._clock.now()
        if self._faults.active("stream", "half open", self.copy):
            self._is_half_open = True
        if self._faults.active("stream", "cut", self.copy) and self._rng.random() < 0.1:
            self._cut()
        if self.closes_at is not None and now >= self.closes_at:
            self._cut()
        if self._faults.active("stream", "outage", self.copy):
            self._cut()
        if self._is_half_open or self._faults.active("stream", "stall", self.copy):
            return None
        arrived = bytearray()
        while self._under_way and self._under_way[0][0] <= now:
            arrived += self._under_way.popleft()[1]
        if not arrived:
            if self.is_closed:
                raise ConnectionResetError("cut")
            return None
        if self._rng.random() < 0.2:
            size = self._rng.randint(1, len(arrived))
            if size < len(arrived):
                self._under_way.appendleft((now, bytes(arrived[size:])))
            return bytes(arrived[:size])
        return bytes(arrived)

    def send_text(self, text: str) -> None:
        """Take a control message of the client and answer it."""
        if self.is_closed:
            raise BrokenPipeError("cut")
        request = json.loads(text)
        if request["method"] == "SUBSCRIBE":
            for name in request["params"]:
                if not self._faults.strikes("stream", "mute", self.copy):
                    self.symbols.add(name)
        elif request["method"] == "UNSUBSCRIBE":
            self.symbols.difference_update(request["params"])
        answer = {"result": None, "id": request["id"]}
        self._push(json.dumps(answer).encode())

    @property
    def peer(self) -> str:
        """The address at the other end."""
        return "the simulated exchange"

    def pong(self, payload: bytes) -> None:
        """Take a pong."""

    def avoid(self) -> None:
        """Have another address tried: there is none."""

    def close(self) -> None:
        """Let go of it."""
        if not self.is_closed:
            self.abandoned_streams |= self.symbols
        self.is_closed = True

    def publish(self, trade: Trade) -> None:
        """Bring *trade* to the client, as well as the network does."""
        faults, copy = self._faults, self.copy
        if self.is_closed or faults.strikes("stream", "drop", copy):
            return
        text = payload(trade, self._kind)
        if faults.strikes("stream", "swap", copy):
            self._held.append(text)
            return
        self._push(text)
        if faults.strikes("stream", "duplicate", copy):
            self._push(text)
        if faults.strikes("stream", "junk", copy):
            self._push(self._rng.choice(self._junk))
        while self._held and self._rng.random() < 0.6:
            self._push(self._held.pop(self._rng.randrange(len(self._held))))

    def announce_shutdown(self, closes_at: int) -> None:
        """Say that the connection will be cut at *closes_at*."""
        if self.closes_at is None:
            self._push(_SHUTDOWN)
            self.closes_at = closes_at

    def _push(self, text: bytes) -> None:
        if len(text) < 126:
            header = bytes((0x81, len(text)))
        else:
            header = bytes((0x81, 126)) + len(text).to_bytes(2)
        arrival = self._clock.now() + self._delay + self._rng.randint(0, 20)
        if self._under_way:
            arrival = max(arrival, self._under_way[-1][0])  # TCP keeps the order
        self._under_way.append((arrival, header + text))

    def _cut(self) -> None:
        """Lose the connection, and what was under way from any byte on."""
        if not self.is_closed:
            self.is_closed = True
            everything = b"".join(data for _, data in self._under_way)
            kept = everything[: self._rng.randint(0, len(everything))]
            self._under_way = deque([(self._clock.now(), kept)])


class Streams:
    """All connections to the exchange; publishes the trades of the tapes when their time comes."""

    def __init__(
        self,
        tapes: Iterable[Sequence[Trade]],
        clock: Clock,
        faults: Faults,
        rng: Random,
        kind: Kind,
    ) -> None:
        self._trades = deque(heapq.merge(*tapes, key=lambda trade: trade.event_time))
        self._clock = clock
        self._faults = faults
        self._rng = rng
        self._kind = kind
        self._connections: list[Connection] = []
        self.abandoned: list[tuple[int, set[str]]] = []
        """Which streams a connection brought that the client has closed, and after how long."""

    @property
    def is_over(self) -> bool:
        """Whether every trade was published."""
        return not self._trades

    def connect(self, copy: int, delay: int) -> Connection:
        """Return a new connection; raises ConnectionError."""
        if self._faults.active("stream", "refuse", copy):
            raise ConnectionRefusedError("refused")
        connection = Connection(copy, delay, self._clock, self._faults, self._rng, self._kind)
        self._connections.append(connection)
        return connection

    def drop(self, connections: Collection[Connection]) -> None:
        """Forget connections: their client is dead."""
        self._connections = [each for each in self._connections if each not in connections]

    def advance(self) -> None:
        """Publish what is due."""
        now = self._clock.exchange()
        self.abandoned += [
            (self._clock.elapsed, each.abandoned_streams)
            for each in self._connections
            if each.is_closed
        ]
        self._connections = [each for each in self._connections if not each.is_closed]
        for connection in self._connections:
            if self._faults.active("stream", "shutdown", connection.copy):
                connection.announce_shutdown(self._clock.now() + self._rng.randint(1, 12_000))
        while self._trades and self._trades[0].event_time <= now:
            trade = self._trades.popleft()
            name = stream_name(trade.symbol, self._kind.stream)
            for connection in self._connections:
                if name in connection.symbols:
                    connection.publish(trade)
