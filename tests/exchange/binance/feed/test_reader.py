"""One reader and the simulated exchange: subscribing, listening, and never giving up."""

from __future__ import annotations

import itertools
import logging
import pickle
import queue
import ssl
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest

from bintrades.core.ledger import Ledger
from bintrades.exchange.binance.feed.attempts import AttemptLimit
from bintrades.exchange.binance.feed.options import FeedTiming, StreamOptions
from bintrades.exchange.binance.feed.reader import Reader
from bintrades.exchange.binance.markets import MARKETS
from bintrades.exchange.binance.trade_messages import decode_trades as decode
from bintrades.exchange.events import Connected, Disconnected, Event, Payloads
from bintrades.net.dialing import Dialer
from bintrades.net.network import SystemNetwork
from bintrades.pipeline.inbox import MAX_INBOX_BYTES, Inbox
from bintrades.testing.exchange_simulator import ExchangeSimulator, combined_payload
from bintrades.testing.server_frames import BINARY, CONTINUATION, PING, PONG, TEXT, encode_frame
from bintrades.util.clocks import now_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from bintrades.exchange.binance.market import Market
    from bintrades.model import Trade

START_MS = 1_720_000_000_000
STREAM = "btcusdt@trade"
SPOT = MARKETS["spot"]
QUICK = FeedTiming(first_retry_s=0.02, receive_timeout_s=0.05, answer_timeout_ms=400)


@pytest.fixture
def exchange() -> Iterator[ExchangeSimulator]:
    with ExchangeSimulator() as simulator:
        yield simulator


class Listening:
    """A running reader, whose events are taken as the aggregator's thread takes them."""

    def __init__(
        self,
        url: str,
        *symbols: str,
        silence_ms: int = 30_000,
        inbox_bytes: int = MAX_INBOX_BYTES,
        market: Market = SPOT,
    ) -> None:
        self.events: list[Event] = []
        self.trades: list[Trade] = []
        self.failures: list[str] = []
        self.inbox = Inbox(inbox_bytes)
        self.reader = Reader(
            1,
            symbols or ("BTCUSDT",),
            self.inbox,
            StreamOptions(
                url,
                market,
                market.streams[0],
                SystemNetwork(Dialer(ssl.create_default_context)),
                coalesce_ms=1,
                silence_timeout_ms=silence_ms,
                timing=QUICK,
            ),
            AttemptLimit(SPOT),
            on_failure=self.failures.append,
        )

    def __enter__(self) -> Self:
        self.reader.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.reader.stop()
        assert self.reader.join(5)
        assert self.failures == []

    @property
    def ids(self) -> list[int]:
        """The ids of all trades so far."""
        return [trade.trade_id for trade in self.trades]

    def until(self, is_met: Callable[[], bool], timeout_s: float = 120.0) -> None:
        """Take events until a condition holds."""
        deadline = time.monotonic() + timeout_s
        while not is_met():
            assert time.monotonic() < deadline, f"{self.trades} {self.reader.last_error}"
            try:
                event = self.inbox.get(timeout=0.01)
            except queue.Empty:
                continue
            self._take(event)

    def until_subscribed(self, times: int = 1) -> None:
        """Take events until so many connections were subscribed."""
        self.until(lambda: sum(isinstance(event, Connected) for event in self.events) >= times)

    def _take(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Payloads):
            decoded = decode(event.batch)
            self.trades += decoded.trades


def wait_until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def failures_in(caplog: pytest.LogCaptureFixture) -> list[int]:
    """Return the count of failures that each lost connection was logged with."""
    return [
        record.__dict__["failures"] for record in caplog.records if "failures" in record.__dict__
    ]


def messages_of(exchange: ExchangeSimulator) -> list[dict[str, object]]:
    return [
        msgspec.json.decode(received.payload)
        for received in exchange.received
        if received.kind == "message"
    ]


def test_symbols_beyond_ascii_are_subscribed_and_heard() -> None:
    symbols = ("币安人生USDT", "1000SATSUSDT", "ÄÖÜUSDT")
    with (
        ExchangeSimulator(symbols) as exchange,
        Listening(exchange.stream_url, *symbols) as listening,
    ):
        listening.until_subscribed()
        for symbol in symbols:
            exchange.publish(symbol, "1", "1")
        listening.until(lambda: len(listening.trades) == 3)

        assert [trade.symbol for trade in listening.trades] == list(symbols)
        assert exchange.connections[0].streams == (
            "币安人生usdt@trade",
            "1000satsusdt@trade",
            "ÄÖÜusdt@trade",
        )


def test_many_symbols_are_asked_for_in_paced_batches(exchange: ExchangeSimulator) -> None:
    symbols = [f"{'长' * 5}{number}USDT" for number in range(300)]
    with Listening(exchange.stream_url, *symbols) as listening:
        listening.until_subscribed()

        assert len(exchange.connections[0].streams) == 300
        asked = [received for received in exchange.received if received.kind == "message"]
        assert all(len(received.payload) <= 3_900 for received in asked)
        assert all(len(message["params"]) <= 200 for message in messages_of(exchange))  # type: ignore[arg-type]
        times = [received.time_s for received in asked]
        assert len(times) >= 3
        assert all(later - earlier > 0.49 for earlier, later in itertools.pairwise(times))


def test_events_report_the_life_of_a_connection(exchange: ExchangeSimulator) -> None:
    with Listening(exchange.stream_url) as listening:
        listening.until_subscribed()
        assert listening.reader.state == "subscribed"
        exchange.publish("BTCUSDT", "1", "1")
        listening.until(lambda: len(listening.trades) == 1)
        exchange.cut_all()
        listening.until_subscribed(2)

        kinds = [type(event) for event in listening.events if not isinstance(event, Payloads)]
        assert kinds == [Connected, Disconnected, Connected]
        assert listening.reader.connection_count == 2
        assert listening.reader.last_error is None


def test_events_are_values_that_could_go_to_another_process(exchange: ExchangeSimulator) -> None:
    with Listening(exchange.stream_url) as listening:
        listening.until_subscribed()
        exchange.publish("BTCUSDT", "1", "1")
        listening.until(lambda: len(listening.trades) == 1)
        exchange.cut_all()
        listening.until_subscribed(2)

    for event in listening.events:
        copy: Event = pickle.loads(pickle.dumps(event))  # noqa: S301 - our own
        assert type(copy) is type(event)
        if isinstance(event, Payloads) and isinstance(copy, Payloads):
            assert copy.batch.payloads == event.batch.payloads
            assert copy.connection == event.connection
        else:
            assert copy == event


def test_a_ping_in_a_flood_is_answered_with_its_payload(exchange: ExchangeSimulator) -> None:
    payload = b'{"stream":"x@depth","data":' + b"1" * 150 + b"}"
    flood = encode_frame(payload) * 1_000
    with Listening(exchange.stream_url) as listening:
        listening.until_subscribed()
        for number in range(4):
            exchange.send_encoded(flood * 3 + encode_frame(b"ping %d" % number, PING) + flood)
        listening.until(lambda: len(pongs(exchange)) == 4)

        assert pongs(exchange) == [b"ping %d" % number for number in range(4)]


def pongs(exchange: ExchangeSimulator) -> list[bytes]:
    return [received.payload for received in exchange.received if received.kind == "pong"]


def test_unasked_pongs_and_binary_messages_are_ignored(
    exchange: ExchangeSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    with Listening(exchange.stream_url) as listening:
        listening.until_subscribed()
        exchange.send_encoded(encode_frame(b"", PONG), encode_frame(b"\x00\x01sbe", BINARY))
        exchange.publish("BTCUSDT", "1", "1")
        listening.until(lambda: len(listening.trades) == 1)

        assert listening.reader.connection_count == 1
    (warning,) = (record for record in caplog.records if "binary" in record.message)
    assert warning.__dict__["start"] == "0001736265"


def test_fragments_make_one_message_even_with_a_ping_between(exchange: ExchangeSimulator) -> None:
    with Listening(exchange.stream_url) as listening:
        listening.until_subscribed()
        payload = combined_payload(exchange.record("BTCUSDT", "1", "1"))
        exchange.send_encoded(
            encode_frame(payload[:20], TEXT, fin=False),
            encode_frame(b"between", PING),
            encode_frame(payload[20:50], CONTINUATION, fin=False),
            encode_frame(payload[50:], CONTINUATION),
        )
        exchange.publish("BTCUSDT", "1", "1")
        listening.until(lambda: listening.ids == [1, 2] and pongs(exchange) == [b"between"])


@pytest.mark.parametrize("size", [125, 126, 65_535, 65_536, 1_000_000])
def test_messages_of_every_length_leave_the_next_one_whole(
    size: int, exchange: ExchangeSimulator
) -> None:
    with Listening(exchange.stream_url) as listening:
        listening.until_subscribed()
        exchange.send_text(b'"' + b"x" * (size - 2) + b'"')
        exchange.publish("BTCUSDT", "1", "1")
        listening.until(lambda: len(listening.trades) == 1)

        sizes = [
            len(payload)
            for event in listening.events
            if isinstance(event, Payloads)
            for payload in event.batch.payloads
        ]
        assert size in sizes
        assert listening.reader.connection_count == 1


@pytest.mark.parametrize("junk", [b"Pong timeout", b"", b"{", b"\xff", b"[]", b'{"id":7}'])
def test_junk_costs_no_connection(junk: bytes, exchange: ExchangeSimulator) -> None:
    with Listening(exchange.stream_url) as listening:
        listening.until_subscribed()
        exchange.send_text(junk)
        exchange.publish("BTCUSDT", "1", "1")
        listening.until(lambda: len(listening.trades) == 1)

        assert listening.reader.connection_count == 1


@pytest.mark.parametrize("code", [None, 1000, 1001, 1006, 1008, 1011, 1012, 4000])
def test_after_any_close_code_it_connects_again(
    code: int | None, exchange: ExchangeSimulator
) -> None:
    with Listening(exchange.stream_url) as listening:
        listening.until_subscribed()
        exchange.close_all(code, "whatever" if code else "")
        listening.until_subscribed(2)


@pytest.mark.parametrize(
    "frame",
    [
        b"\xc1\x00",  # a reserved bit
        b"\x81\x81abcd.",  # masked
        b"\x83\x00",  # an opcode that does not exist
        b"\x09\x00",  # a ping in fragments
        b"\x80\x00",  # the end of a message that never began
        b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff",  # more bytes than there are
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
)
def test_after_what_is_no_frame_it_connects_again(
    frame: bytes, exchange: ExchangeSimulator
) -> None:
    with Listening(exchange.stream_url) as listening:
        listening.until_subscribed()
        exchange.send_encoded(frame)
        listening.until_subscribed(2)


@pytest.mark.parametrize("status", [400, 404, 429, 451, 500, 503])
def test_after_refused_handshakes_it_connects_again(
    status: int, exchange: ExchangeSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    exchange.handshake_status(status, times=3)
    with Listening(exchange.stream_url) as listening:
        listening.until_subscribed()

    assert failures_in(caplog) == [1, 2, 3]
    assert f"Handshake status {status}" in caplog.records[0].__dict__["error"]


def test_after_refused_connections_it_connects_again(
    exchange: ExchangeSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    exchange.refuse()
    with Listening(exchange.stream_url) as listening:
        listening.until(lambda: len(failures_in(caplog)) >= 3)
        assert "ConnectionRefusedError" in (listening.reader.last_error or "")
        exchange.accept()
        listening.until_subscribed()


def test_a_name_that_cannot_be_resolved_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    with Listening("ws://no-such-host.invalid") as listening:
        listening.until(lambda: len(failures_in(caplog)) >= 3)

        assert listening.reader.state == "disconnected"


def test_the_wait_grows_until_trades_came(
    exchange: ExchangeSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a handshake nor an answer proves that a connection is good for anything."""
    exchange.handshake_status(503, times=2)
    with Listening(exchange.stream_url) as listening:
        listening.until_subscribed(1)
        exchange.cut_all()
        listening.until_subscribed(2)
        exchange.cut_all()
        listening.until_subscribed(3)
        assert failures_in(caplog) == [1, 2, 3, 4]

        exchange.publish("BTCUSDT", "1", "1")
        listening.until(lambda: len(listening.trades) == 1)
        exchange.cut_all()
        listening.until_subscribed(4)
        assert failures_in(caplog) == [1, 2, 3, 4, 1]


def test_a_stream_that_is_acknowledged_and_silent_is_asked_for_again(
    exchange: ExchangeSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    exchange.rules.messages_per_second = None
    exchange.mute(STREAM)
    with Listening(exchange.stream_url, silence_ms=300) as listening:
        listening.until_subscribed(3)
        assert listening.reader.snapshot(now_ms()).empty_connections >= 2
        exchange.mute()
        listening.until_subscribed(4)
        exchange.publish("BTCUSDT", "1", "1")
        listening.until(lambda: len(listening.trades) == 1)
        assert listening.reader.snapshot(now_ms()).empty_connections == 0

    errors = [record.__dict__["error"] for record in caplog.records if "error" in record.__dict__]
    assert len(errors) >= 3
    assert all("no data for" in error for error in errors)


@pytest.mark.parametrize("pings", [True, False], ids=["pings only", "half open"])
def test_a_connection_that_brings_nothing_is_replaced(
    pings: bool, exchange: ExchangeSimulator
) -> None:
    with Listening(exchange.stream_url, silence_ms=300) as listening:
        listening.until_subscribed()
        exchange.publish("BTCUSDT", "1", "1")
        listening.until(lambda: len(listening.trades) == 1)
        exchange.connections[0].stall(pings=pings)
        if pings:
            exchange.send_ping()
        listening.until_subscribed(2)
        exchange.publish("BTCUSDT", "1", "1")
        listening.until(lambda: listening.ids == [1, 2])


def test_a_quiet_connection_is_questioned_before_it_is_given_up(
    exchange: ExchangeSimulator,
) -> None:
    with Listening(exchange.stream_url, silence_ms=1_000) as listening:
        listening.until_subscribed()
        listening.until(lambda: len(messages_of(exchange)) == 2)

        assert messages_of(exchange)[1]["method"] == "LIST_SUBSCRIPTIONS"
        assert listening.reader.connection_count == 1


def test_without_an_answer_to_subscribe_it_connects_again(exchange: ExchangeSimulator) -> None:
    exchange.withhold_answers()
    with Listening(exchange.stream_url) as listening:
        listening.until(lambda: listening.reader.connection_count == 3)
        assert not any(isinstance(event, Connected) for event in listening.events)
        exchange.withhold_answers(False)
        listening.until_subscribed()


@pytest.mark.parametrize(
    ("is_nested", "has_id"), [(True, True), (False, False)], ids=["as seen", "as documented"]
)
def test_a_refused_stream_leaves_the_others(
    is_nested: bool, has_id: bool, exchange: ExchangeSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """A refused batch is asked for again in halves, until the culprit stands alone."""
    problem: dict[str, object] = {"code": 2, "msg": "Invalid request: invalid stream"}
    answered: list[dict[str, object]] = []
    exchange.rules.messages_per_second = None
    exchange.withhold_answers()
    symbols = ("BTCUSDT", "BADUSDT", "ETHUSDT")
    hasty = replace(SPOT, control_spacing_ms=20)
    with Listening(exchange.stream_url, *symbols, market=hasty) as listening:

        def answer_until_subscribed() -> bool:
            for message in messages_of(exchange)[len(answered) :]:
                answered.append(message)
                answer: dict[str, object] = {"result": None, "id": message["id"]}
                if "badusdt@trade" in message["params"]:  # type: ignore[operator]
                    request = {"id": message["id"]} if has_id else {}
                    answer = ({"error": problem} if is_nested else problem) | request
                exchange.send_text(msgspec.json.encode(answer))
            return any(isinstance(event, Connected) for event in listening.events)

        listening.until(answer_until_subscribed)
        exchange.publish("ETHUSDT", "1", "1")
        listening.until(lambda: len(listening.trades) == 1)

        assert listening.reader.connection_count == 1
    (refusal,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert refusal.__dict__["stream"] == "badusdt@trade"
    assert refusal.__dict__["error"] == "Invalid request: invalid stream (code 2)"


class Trading:
    """A trade every few milliseconds, on a thread of its own."""

    def __init__(self, exchange: ExchangeSimulator) -> None:
        self._exchange = exchange
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._trade)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _trade(self) -> None:
        while not self._is_over.wait(0.02):
            self._exchange.publish("BTCUSDT", "1", "1")


def test_what_concerns_the_connection_is_settled_though_nobody_takes_events(
    exchange: ExchangeSimulator,
) -> None:
    with Listening(exchange.stream_url) as listening:
        wait_until(lambda: listening.reader.state == "subscribed")
        exchange.publish("BTCUSDT", "1", "1")
        wait_until(lambda: listening.reader.first_data_at is not None)
        exchange.server_shutdown()
        wait_until(lambda: listening.reader.is_leaving)

        assert listening.events == []


@pytest.mark.parametrize("inbox_bytes", [MAX_INBOX_BYTES, 2_000], ids=["with room", "full"])
def test_events_that_nobody_takes_for_long_cost_no_connection(
    inbox_bytes: int, exchange: ExchangeSimulator
) -> None:
    """A journal on a bad disk holds up the aggregator: the exchange has nothing to do with it."""
    with Listening(exchange.stream_url, silence_ms=500, inbox_bytes=inbox_bytes) as listening:
        listening.until_subscribed()
        with Trading(exchange):
            listening.until(lambda: len(listening.trades) >= 5)
            threading.Event().wait(2.0)  # nobody takes anything, four times as long as may be
        held_up = listening.inbox.full()
        listening.until(lambda: listening.ids[-1] == exchange.market.recorded)

        assert held_up == (inbox_bytes < MAX_INBOX_BYTES)
        assert listening.ids == list(range(1, exchange.market.recorded + 1))
        assert listening.reader.connection_count == 1


def test_time_with_a_full_inbox_is_not_held_to_be_typical_of_the_market(
    exchange: ExchangeSimulator,
) -> None:
    """Else a connection that dies later is noticed later, up to an hour."""
    with Listening(exchange.stream_url, silence_ms=300, inbox_bytes=2_000) as listening:
        listening.until_subscribed()
        with Trading(exchange):
            wait_until(listening.inbox.full)
            threading.Event().wait(3.0)
            listening.until(lambda: listening.ids[-1:] == [exchange.market.recorded])
        exchange.connections[0].stall(pings=True)
        stalled_at = time.monotonic()
        listening.until_subscribed(2)

        assert time.monotonic() - stalled_at < 3.0, "not twice the time that the inbox was full"


def test_an_error_that_nobody_asked_for_is_logged_and_costs_no_connection(
    exchange: ExchangeSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    with Listening(exchange.stream_url) as listening:
        listening.until_subscribed()
        exchange.send_text(b'{"error":{"code":3,"msg":"Invalid JSON"}}')
        exchange.publish("BTCUSDT", "1", "1")
        listening.until(lambda: len(listening.trades) == 1)

        assert listening.reader.connection_count == 1
    (warning,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert warning.__dict__["event"] == "request_refused"
    assert warning.__dict__["error"] == "Invalid JSON (code 3)"


def test_a_reader_that_cannot_keep_up_waits_and_what_is_cut_off_is_a_gap() -> None:
    with (
        ExchangeSimulator(slow_client_s=0.3) as exchange,
        Listening(exchange.stream_url, inbox_bytes=400_000) as listening,
    ):
        listening.until_subscribed()
        flood = threading.Thread(target=flood_until_cut_off, args=(exchange,))
        flood.start()
        flood.join(60)  # meanwhile nobody takes anything from the inbox
        listening.until_subscribed(2)
        exchange.publish("BTCUSDT", "1", "1")
        listening.until(lambda: listening.ids[-1] == exchange.market.recorded)

        ledger = Ledger()
        assert all(ledger.admit(trade.trade_id, trade.time) for trade in listening.trades)
        assert ledger.state is not None
        (gap,) = ledger.state.gaps
        assert gap.size + len(listening.trades) == exchange.market.recorded


def flood_until_cut_off(exchange: ExchangeSimulator) -> None:
    (client,) = exchange.connections
    while client.is_open:
        batch = [exchange.record("BTCUSDT", "1", "1") for _ in range(5_000)]
        exchange.send_encoded(*(encode_frame(combined_payload(trade)) for trade in batch))


@pytest.mark.parametrize("condition", ["subscribed", "refused", "full inbox"])
def test_stopping_is_quick(condition: str, exchange: ExchangeSimulator) -> None:
    if condition == "refused":
        exchange.refuse()
    listening = Listening(exchange.stream_url, inbox_bytes=1)
    with listening:
        if condition == "subscribed":
            listening.until_subscribed()
        elif condition == "refused":
            listening.until(lambda: listening.reader.last_error is not None)
        else:
            listening.until_subscribed()
            for _ in range(3):
                exchange.publish("BTCUSDT", "1", "1")
                time.sleep(0.02)  # so that each is a batch of its own
        began_at = time.monotonic()
        listening.reader.stop()
        assert listening.reader.join(5)

        assert time.monotonic() - began_at < 1


def test_a_reader_that_is_stopped_at_a_full_inbox_still_says_that_it_is_gone(
    exchange: ExchangeSimulator,
) -> None:
    listening = Listening(exchange.stream_url, inbox_bytes=1)
    with listening:
        listening.until_subscribed()
        for _ in range(3):
            exchange.publish("BTCUSDT", "1", "1")
            time.sleep(0.02)  # so that each is a batch of its own
        wait_until(listening.inbox.full)
        listening.reader.stop()
        assert listening.reader.join(5)

    left = [listening.inbox.get_nowait() for _ in range(listening.inbox.qsize())]
    assert isinstance(left[-1], Disconnected)


def test_attempts_of_all_readers_stay_within_two_thirds_of_the_limit() -> None:
    limit = AttemptLimit(SPOT)

    assert [limit.wait_ms(now) for now in range(200)] == [0] * 200
    assert limit.wait_ms(200) == 300_000 - 200
    assert limit.wait_ms(300_000) == 0
    assert limit.wait_ms(300_000) == 1
