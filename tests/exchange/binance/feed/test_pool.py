"""Connections are spread, doubled and replaced without a trade falling between them."""

from __future__ import annotations

import json
import queue
import random
import socket
import ssl
import threading
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from bintrades.core.ledger import Ledger
from bintrades.exchange.binance.feed.attempts import AttemptLimit
from bintrades.exchange.binance.feed.options import FeedTiming, StreamOptions
from bintrades.exchange.binance.feed.pool import ConnectionPool
from bintrades.exchange.binance.feed.reader import Reader
from bintrades.exchange.binance.markets import MARKETS
from bintrades.exchange.binance.trade_messages import decode_trades as decode
from bintrades.exchange.events import (
    Connected,
    Disconnected,
    Event,
    Payloads,
    StreamsAdded,
    StreamsRemoved,
)
from bintrades.net.dialing import Dialer
from bintrades.net.network import SystemNetwork
from bintrades.net.websocket import Connection
from bintrades.pipeline.inbox import MAX_INBOX_BYTES, Inbox
from bintrades.testing.exchange_simulator import ExchangeSimulator
from bintrades.util.clocks import now_ms
from tests.servers import name_addresses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Self

SPOT = MARKETS["spot"]
QUICK = FeedTiming(first_retry_s=0.02, receive_timeout_s=0.05, overlap_ms=100, idle_takeover_ms=300)
WAIT_S = 120.0
NAMES = tuple(f"S{number}USDT" for number in range(6))


@pytest.fixture
def exchange() -> Iterator[ExchangeSimulator]:
    with ExchangeSimulator(NAMES) as simulator:
        yield simulator


class Rig:
    """Connections, looked at often, whose trades go through one ledger for each symbol."""

    def __init__(
        self,
        url: str,
        symbols: Sequence[str] = ("S0USDT",),
        *,
        group_size: int = 400,
        redundancy: int = 1,
        rotate_after_ms: int = 3_600_000,
        silence_timeout_ms: int = 30_000,
        inbox_bytes: int = MAX_INBOX_BYTES,
        timing: FeedTiming = QUICK,
    ) -> None:
        self.failures: list[str] = []
        self.copies: list[tuple[int, tuple[str, ...], int]] = []
        self.counted: Counter[str] = Counter()
        self.duplicates = 0
        self.lost = 0
        self.connected = 0
        self.ledgers = {symbol: Ledger() for symbol in {*symbols, *NAMES}}
        self.changes: list[tuple[str, str]] = []
        self.inbox = Inbox(inbox_bytes)
        self.is_taking = threading.Event()
        self.is_taking.set()
        self._options = StreamOptions(
            url,
            SPOT,
            SPOT.streams[0],
            SystemNetwork(Dialer(ssl.create_default_context)),
            coalesce_ms=1,
            silence_timeout_ms=silence_timeout_ms,
            timing=timing,
        )
        self._attempts = AttemptLimit(SPOT)
        self.connections = ConnectionPool(
            symbols,
            self._make_reader,
            group_size=group_size,
            redundancy=redundancy,
            rotate_after_ms=rotate_after_ms,
            timing=timing,
            rng=random.Random(1),
        )
        self._is_ended = threading.Event()
        self._taking = threading.Thread(target=self._take)
        self._looking = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self.connections.start()
        self._taking.start()
        self._looking.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._is_ended.set()
        self._looking.join()
        readers = self.connections.readers
        for reader in readers:
            reader.stop()
        for reader in readers:
            assert reader.join(WAIT_S)
        self._taking.join()
        assert self.failures == []

    @property
    def places(self) -> list[Any]:
        """Where connections are, and what is to take over there."""
        return list(self.connections._places)

    @property
    def is_whole(self) -> bool:
        """Whether no id is missing; while two connections deliver, one may be a moment ahead."""
        return not any(ledger.gaps for ledger in self.ledgers.values())

    def until(self, holds: Callable[[], object]) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + WAIT_S
        while not holds():
            assert time.monotonic() < deadline, "it never came true"
            threading.Event().wait(0.01)

    def until_subscribed(self, count: int) -> None:
        """Wait until *count* connections were subscribed since the start."""
        self.until(lambda: self.connected >= count)

    def _make_reader(self, number: int, symbols: Sequence[str], copy: int) -> Reader:
        self.copies.append((number, tuple(symbols), copy))
        return Reader(
            number,
            symbols,
            self.inbox,
            self._options,
            self._attempts,
            copy=copy,
            on_failure=self.failures.append,
        )

    def _look(self) -> None:
        while not self._is_ended.wait(0.01):
            self.connections.maintain(now_ms())

    def _take(self) -> None:
        while not (
            self._is_ended.is_set() and not any(each.is_alive for each in self.connections.readers)
        ):
            self.is_taking.wait()
            try:
                self._hear(self.inbox.get(timeout=0.05))
            except queue.Empty:
                continue

    def _hear(self, event: Event) -> None:
        if isinstance(event, Connected):
            self.connected += 1
        elif isinstance(event, Disconnected):
            self.lost += 1
        elif isinstance(event, StreamsAdded | StreamsRemoved):
            kind = "added" if isinstance(event, StreamsAdded) else "removed"
            self.changes += [(kind, symbol) for symbol in event.symbols]
        elif isinstance(event, Payloads):
            decoded = decode(event.batch)
            for trade in decoded.trades:
                ledger = self.ledgers[trade.symbol]
                if ledger.admit(trade.trade_id, trade.time):
                    self.counted[trade.symbol] += 1
                else:
                    self.duplicates += 1


class Market:
    """Trades all the time, on a thread of its own."""

    def __init__(self, exchange: ExchangeSimulator, *symbols: str) -> None:
        self.count = 0
        self._exchange = exchange
        self._symbols = symbols
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._trade)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._is_closed.set()
        self._thread.join()

    def _trade(self) -> None:
        while not self._is_closed.wait(0.002):
            for symbol in self._symbols:
                self._exchange.publish(symbol, "1", "1")
            self.count += 1


def test_symbols_are_spread_over_groups_as_equal_as_can_be() -> None:
    rig = Rig("ws://127.0.0.1:9", NAMES, group_size=4)

    assert [len(symbols) for _, symbols, _ in rig.copies] == [3, 3]
    assert sorted(name for _, symbols, _ in rig.copies for name in symbols) == sorted(NAMES)
    assert [copy for *_, copy in rig.copies] == [0, 0]


def test_each_group_has_as_many_connections_as_the_redundancy_says() -> None:
    rig = Rig("ws://127.0.0.1:9", NAMES, group_size=3, redundancy=2)

    copies = [(symbols, copy) for _, symbols, copy in rig.copies]
    assert len(set(copies)) == len(copies) == 4
    assert Counter(symbols for symbols, _ in copies) == dict.fromkeys({s for s, _ in copies}, 2)


def test_a_rotation_loses_no_trade(
    exchange: ExchangeSimulator,
) -> None:
    with Rig(exchange.stream_url, rotate_after_ms=700) as rig:
        rig.until_subscribed(1)
        with Market(exchange, "S0USDT") as market:
            rig.until(lambda: rig.lost >= 3)
        rig.until(lambda: rig.counted["S0USDT"] == market.count)

        rig.until(lambda: rig.is_whole)
        assert rig.duplicates > 0, "both delivered for a while"
        rig.until(lambda: len(exchange.connections) <= 2)


def test_a_rotation_loses_no_trade_while_the_inbox_is_full(exchange: ExchangeSimulator) -> None:
    """What the old connection has got waits in its socket, unread."""
    with Rig(exchange.stream_url, rotate_after_ms=1_000, inbox_bytes=5_000) as rig:
        rig.until_subscribed(1)
        with Market(exchange, "S0USDT") as market:
            rig.until(lambda: rig.counted["S0USDT"] > 20)
            rig.is_taking.clear()
            rig.until(lambda: any(place.successor for place in rig.places))
            threading.Event().wait(1.0)
            old = [place.reader for place in rig.places]
            rig.is_taking.set()
            rig.until(lambda: not any(reader.is_alive for reader in old))
        rig.until(lambda: rig.counted["S0USDT"] == market.count)

        rig.until(lambda: rig.is_whole)


def test_a_stream_is_asked_for_again_on_every_connection_that_has_it(
    exchange: ExchangeSimulator,
) -> None:
    with Rig(exchange.stream_url, NAMES, group_size=3, redundancy=2) as rig:
        rig.until_subscribed(4)
        before = len(exchange.received)
        rig.connections.resubscribe("S1USDT")
        rig.until(lambda: len(exchange.received) == before + 4)

    asked = [json.loads(message.payload) for message in exchange.received[before : before + 4]]
    assert all(message["params"] == ["s1usdt@trade"] for message in asked)
    assert Counter(message["method"] for message in asked) == {"SUBSCRIBE": 2, "UNSUBSCRIBE": 2}


def test_the_old_connection_stays_until_the_new_one_has_delivered(
    exchange: ExchangeSimulator,
) -> None:
    timing = replace(QUICK, idle_takeover_ms=600_000)
    with Rig(exchange.stream_url, rotate_after_ms=300, timing=timing) as rig:
        rig.until_subscribed(2)
        threading.Event().wait(0.5)
        assert rig.lost == 0, "nothing proves that the new one delivers"

        exchange.publish("S0USDT", "1", "1")
        rig.until(lambda: rig.lost == 1)
        rig.until(lambda: rig.counted["S0USDT"] == 1)


def test_both_connections_run_for_a_while_after_the_new_one_has_begun_to_deliver(
    exchange: ExchangeSimulator,
) -> None:
    timing = replace(QUICK, overlap_ms=600_000)
    with Rig(exchange.stream_url, rotate_after_ms=300, timing=timing) as rig:
        rig.until_subscribed(2)
        with Market(exchange, "S0USDT"):
            rig.until(lambda: rig.duplicates > 100)

        assert rig.lost == 0


def test_a_new_connection_that_stays_mute_while_the_old_one_delivers_does_not_take_over(
    exchange: ExchangeSimulator,
) -> None:
    with Rig(exchange.stream_url, rotate_after_ms=400) as rig:
        rig.until_subscribed(1)
        (old,) = exchange.connections
        exchange.wait_until(lambda: len(exchange.connections) == 2, WAIT_S)
        rig.until_subscribed(2)
        exchange.connections[1].stall()
        with Market(exchange, "S0USDT"):
            threading.Event().wait(1.0)

        assert old.is_open
        assert rig.lost == 0


def test_where_nothing_is_traded_a_quiet_connection_takes_over_from_a_quiet_one(
    exchange: ExchangeSimulator,
) -> None:
    with Rig(exchange.stream_url, rotate_after_ms=300) as rig:
        rig.until(lambda: rig.lost >= 1)

        assert rig.connected >= 2


def test_planned_rotations_come_one_after_the_other(exchange: ExchangeSimulator) -> None:
    with Rig(exchange.stream_url, NAMES, group_size=2, rotate_after_ms=500) as rig:
        rig.until_subscribed(3)
        most = 0
        with Market(exchange, *NAMES):
            deadline = time.monotonic() + WAIT_S
            while rig.lost < 6:
                most = max(most, sum(place.successor is not None for place in rig.places))
                assert time.monotonic() < deadline
                threading.Event().wait(0.002)
        assert most == 1
        rig.until(lambda: rig.is_whole)


def test_connections_of_one_moment_are_not_replaced_at_one_moment() -> None:
    rig = Rig("ws://127.0.0.1:9", NAMES, group_size=1)

    shares = [place.share for place in rig.places]

    assert len(set(shares)) == len(NAMES)
    assert all(0.9 <= share <= 1 for share in shares)


def test_an_announced_shutdown_replaces_every_connection_at_once(
    exchange: ExchangeSimulator,
) -> None:
    timing = replace(QUICK, overlap_ms=2_000)
    with (
        Rig(exchange.stream_url, NAMES, group_size=2, timing=timing) as rig,
        Market(exchange, *NAMES) as market,
    ):
        rig.until_subscribed(3)
        rig.until(lambda: len(rig.counted) == len(NAMES))
        old = exchange.connections
        exchange.server_shutdown()
        rig.until(lambda: sum(place.successor is not None for place in rig.places) == 3)
        rig.until(lambda: rig.lost == 3)

        rig.until(lambda: not any(connection.is_open for connection in old))
        rig.until(lambda: rig.is_whole)
        assert market.count


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("accident", ["cut", "reset", "close"])
def test_losing_either_of_two_connections_loses_nothing(
    exchange: ExchangeSimulator, victim: int, accident: str
) -> None:
    end: dict[str, Callable[[Any], None]] = {
        "cut": lambda connection: connection.cut(),
        "reset": lambda connection: connection.reset(),
        "close": lambda connection: connection.close(1001),
    }
    with Rig(exchange.stream_url, redundancy=2) as rig:
        rig.until_subscribed(2)
        with Market(exchange, "S0USDT") as market:
            rig.until(lambda: rig.counted["S0USDT"] > 20)
            end[accident](exchange.connections[victim])
            rig.until(lambda: rig.connected == 3)
            rig.until(lambda: rig.counted["S0USDT"] > 100)
        rig.until(lambda: rig.counted["S0USDT"] == market.count)

        rig.until(lambda: rig.is_whole)
        assert exchange.rest_requests == []


ADDRESSES = ["127.0.0.1", "127.0.0.2"]


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the name exchange.test have several addresses, named in another order each time."""
    found = list(ADDRESSES)
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        if host != "exchange.test":
            return real(host, port, *args, **options)
        found.append(found.pop(0))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return found


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the addresses that connections were made to."""
    addresses: list[str] = []
    real = Connection.__init__

    def note(self: Connection, *args: Any, **options: Any) -> None:
        real(self, *args, **options)
        addresses.append(self.peer.partition(" ")[0])

    monkeypatch.setattr(Connection, "__init__", note)
    return addresses


def port_of(exchange: ExchangeSimulator) -> int:
    return int(exchange.stream_url.rpartition(":")[2])


def url_of(exchange: ExchangeSimulator) -> str:
    return "ws://exchange.test:" + exchange.stream_url.rpartition(":")[2]


@pytest.mark.usefixtures("resolved")
def test_the_copies_of_a_group_go_to_different_addresses(reached: list[str]) -> None:
    with (
        ExchangeSimulator(NAMES, host="0.0.0.0") as exchange,
        Rig(url_of(exchange), redundancy=2) as rig,
    ):
        rig.until_subscribed(2)
        assert sorted(reached) == ADDRESSES
        exchange.cut_all()
        rig.until_subscribed(4)
        assert sorted(reached) == sorted(ADDRESSES * 2)


def test_an_address_that_lets_in_and_brings_nothing_is_left_for_another(
    reached: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name_addresses(monkeypatch, ADDRESSES)
    with (
        ExchangeSimulator(NAMES, host="127.0.0.1") as mute,
        ExchangeSimulator(NAMES, host="127.0.0.2", stream_port=port_of(mute)) as exchange,
        Rig(url_of(mute), silence_timeout_ms=300) as rig,
        Market(exchange, "S0USDT"),
    ):
        rig.until(lambda: rig.counted["S0USDT"] > 20)
    assert reached[:2] == ADDRESSES


def test_an_address_that_cannot_be_reached_is_passed_over(
    resolved: list[str], reached: list[str]
) -> None:
    with ExchangeSimulator(NAMES) as exchange, Rig(url_of(exchange), redundancy=2) as rig:
        rig.until_subscribed(2)  # only the first address has somebody listening

        assert reached == ["127.0.0.1"] * 2
        assert len(resolved) == 2


def test_a_symbol_that_is_added_is_carried_by_the_connection_that_there_is(
    exchange: ExchangeSimulator,
) -> None:
    with Rig(exchange.stream_url, NAMES[:2]) as rig:
        rig.until_subscribed(1)
        with Market(exchange, *NAMES[:2]) as market:
            rig.connections.add(["S2USDT"])
            rig.until(lambda: rig.changes == [("added", "S2USDT")])
            exchange.publish("S2USDT", "1", "1")
        rig.until(lambda: rig.counted == dict.fromkeys(NAMES[:2], market.count) | {"S2USDT": 1})

        assert (rig.connected, rig.lost, len(exchange.connections)) == (1, 0, 1)
        assert rig.is_whole


def test_a_symbol_that_is_removed_is_given_up_and_nothing_of_it_comes_thereafter(
    exchange: ExchangeSimulator,
) -> None:
    with Rig(exchange.stream_url, NAMES[:2]) as rig:
        rig.until_subscribed(1)
        with Market(exchange, *NAMES[:2]) as market:
            rig.until(lambda: rig.counted["S1USDT"] > 5)
            rig.connections.remove(["S1USDT"])
            rig.until(lambda: rig.changes == [("removed", "S1USDT")])
            counted = rig.counted["S1USDT"]
            rig.until(lambda: rig.counted["S0USDT"] > counted + 50)
        rig.until(lambda: rig.counted["S0USDT"] == market.count)

        assert rig.counted["S1USDT"] == counted
        assert (rig.connected, rig.lost) == (1, 0)
        assert rig.is_whole


@pytest.mark.parametrize("redundancy", [1, 2])
def test_what_has_no_room_gets_connections_of_its_own(
    exchange: ExchangeSimulator, redundancy: int
) -> None:
    with Rig(exchange.stream_url, NAMES[:2], group_size=3, redundancy=redundancy) as rig:
        rig.until_subscribed(redundancy)
        rig.connections.add(NAMES)
        rig.until(lambda: rig.connected == 2 * redundancy)
        rig.until(lambda: len(rig.changes) == redundancy)
        carried = Counter(tuple(sorted(each.streams)) for each in exchange.connections)

        assert [len(names) for names in carried] == [3, 3]
        assert set(carried.values()) == {redundancy}
        assert rig.lost == 0


def test_a_connection_of_which_every_symbol_has_left_is_closed(
    exchange: ExchangeSimulator,
) -> None:
    with Rig(exchange.stream_url, NAMES, group_size=3) as rig:
        rig.until_subscribed(2)
        (_, first, _), _ = rig.copies
        rig.connections.remove(first)
        rig.until(lambda: rig.lost == 1)
        exchange.wait_until(lambda: len(exchange.connections) == 1, WAIT_S)
        rig.connections.add(first)
        rig.until(lambda: rig.connected == 3)

        assert len(exchange.connections) == 2


def test_symbols_come_and_go_while_connections_are_replaced_and_no_other_loses_a_trade(
    exchange: ExchangeSimulator,
) -> None:
    stay, change = NAMES[:2], NAMES[2:]
    with Rig(exchange.stream_url, stay, rotate_after_ms=500) as rig:
        rig.until_subscribed(1)
        with Market(exchange, *stay) as market:
            deadline = time.monotonic() + WAIT_S
            while rig.lost < 4:
                rig.connections.add(change)
                threading.Event().wait(0.05)
                rig.connections.remove(change)
                assert time.monotonic() < deadline
        rig.until(lambda: all(rig.counted[name] == market.count for name in stay))

        rig.until(lambda: rig.is_whole)
        rig.connections.add(change)
        exchange.wait_until(
            lambda: all(len(each.streams) == len(NAMES) for each in exchange.connections), WAIT_S
        )


def test_a_connection_of_halted_symbols_alone_is_not_taken_for_dead(
    exchange: ExchangeSimulator,
) -> None:
    rig = Rig(exchange.stream_url, NAMES[:2], group_size=1, silence_timeout_ms=300)
    rig.connections.expect_no_data(frozenset(NAMES[:1]))
    with rig:
        halted, traded = sorted(rig.connections.readers, key=lambda each: list(each.symbols))
        rig.until(lambda: traded.connection_count >= 3)

        assert halted.connection_count == 1, halted.last_error

        rig.connections.expect_no_data(frozenset())
        rig.until(lambda: halted.connection_count > 1)


def test_after_the_end_no_connection_is_opened(exchange: ExchangeSimulator) -> None:
    with Rig(exchange.stream_url, NAMES[:1], group_size=1) as rig:
        rig.until_subscribed(1)
        rig.connections.close()
        rig.connections.add(NAMES)

        assert sum(reader.is_alive for reader in rig.connections.readers) == 1
