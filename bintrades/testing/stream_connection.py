"""One client of the stream server: its handshake, its subscriptions, its faults and deadlines."""

from __future__ import annotations

import random
import re
import socket
import struct
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol
from urllib.parse import unquote

import wsproto
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Message,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
)
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import ProtocolError

from bintrades.testing.market_rules import SPOT
from bintrades.testing.server_frames import PING, PONG, encode_close, encode_frame
from bintrades.testing.stream_control import (
    MAX_MESSAGE_BYTES,
    ErrorShape,
    Session,
    TooManyStreamsError,
    answer,
)
from bintrades.testing.transport import TlsTransport, Transport, Turns

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Sequence

    from bintrades.testing.market_rules import MarketRules

_HANDSHAKE_S = 10.0
_CLOSE_WAIT_S = 2.0
_TICK_S = 0.25
_TIMES = re.compile(rb'("[ET]":[0-9]{13})(?![0-9])')
_MICROSECONDS = rb"\g<1>137"  # not round, so that who rounds them is found out


@dataclass
class Rules:
    """What the server holds its clients to; looked up at each use, so a test may change them."""

    ping_every_s: float | None
    pong_deadline_s: float
    messages_per_second: int | None
    error_shape: ErrorShape
    slow_client_s: float
    now_ms: Callable[[], int]
    market: MarketRules = SPOT
    sends_answers: bool = True


class StreamMessage(NamedTuple):
    """One event of a stream, wrapped and bare; without a stream it is for everybody."""

    stream: str | None
    combined: bytes
    raw: bytes


class Received(NamedTuple):
    """What a client sent: kind is message, ping, pong or close, time_s is time.monotonic()."""

    time_s: float
    connection: int
    kind: str
    payload: bytes


class Host(Protocol):
    """What a connection needs of the server it belongs to."""

    rules: Rules
    muted: set[str]

    def next_refusal(self) -> int | None:
        """Return the HTTP status to answer the upgrade with, None to accept it."""

    def record_change(self) -> None:
        """Hear that a connection opened, ended or changed its subscriptions."""

    def record_received(self, received: Received) -> None:
        """Hear what a client sent."""


class StreamConnection:
    """A connected client. Every public method may be called from any thread.

    A send blocks while the client does not read, which is how a flood is held back; a client that
    takes nothing for `slow_client_s` is cut off.
    """

    def __init__(
        self, sock: socket.socket, number: int, host: Host, tls: ssl.SSLContext | None
    ) -> None:
        self.number = number
        self.target = ""
        self._host = host
        self._session = Session(combined=False)
        timeout_s = host.rules.slow_client_s
        self._transport = (
            Transport(sock, timeout_s) if tls is None else TlsTransport(sock, timeout_s, tls)
        )
        self._protocol = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
        self._turns = Turns()
        self._splitter: random.Random | None = None
        self._has_microseconds = False
        self._is_open = False
        self._is_stalled = False
        self._is_dead = False
        self._is_resetting = False
        self._closing_at: float | None = None
        self._parts: list[bytes] = []
        self._arrivals: deque[float] = deque()
        self._pings: dict[bytes, float] = {}
        self._pinged_at = 0.0
        self._thread = threading.Thread(
            target=self._run, name=f"simulator-client-{number}", daemon=True
        )

    @property
    def is_open(self) -> bool:
        """Whether the handshake is done and no side has started to close."""
        return self._is_open and self._closing_at is None

    @property
    def has_ended(self) -> bool:
        """Whether the socket of a started connection is closed."""
        return not self._thread.is_alive()

    @property
    def streams(self) -> tuple[str, ...]:
        """What the client is subscribed to, in the order in which it asked."""
        return tuple(self._session.streams)

    def is_subscribed(self, stream: str) -> bool:
        """Whether the client asked for a stream."""
        return stream in self._session.streams

    def start(self) -> None:
        """Begin with the handshake, on a thread of this connection's own."""
        self._thread.start()

    def join(self, timeout_s: float = 5.0) -> None:
        """Wait until the socket is closed."""
        self._thread.join(timeout_s)

    def deliver(self, messages: Iterable[StreamMessage]) -> None:
        """Send those messages that are for everybody or of a subscribed, unmuted stream."""
        streams, muted = self._session.streams, self._host.muted
        market, target = self._host.rules.market, self.target
        payloads = [
            each.combined if self._session.combined else each.raw
            for each in messages
            if each.stream is None
            or (
                each.stream in streams
                and each.stream not in muted
                and market.carries(target, each.stream)
            )
        ]
        if self._has_microseconds:
            payloads = [_TIMES.sub(_MICROSECONDS, payload) for payload in payloads]
        frames = [encode_frame(payload) for payload in payloads]
        if frames:
            self.send_encoded(*frames)

    def send_encoded(self, *writes: bytes) -> None:
        """Send bytes as they are: whole frames or any part of one; over TLS a record for each."""
        if not self._is_stalled:
            self._write(writes)

    def send_text(self, payload: str | bytes) -> None:
        """Send a text frame, whatever the client is subscribed to."""
        self.send_encoded(encode_frame(payload.encode() if isinstance(payload, str) else payload))

    def send_ping(self, payload: bytes | None = None) -> None:
        """Send a ping that must be answered in time; its payload is the time in ms by default."""
        if self._is_dead:
            return
        payload = str(self._host.rules.now_ms()).encode() if payload is None else payload
        self._pinged_at = time.monotonic()
        self._pings.setdefault(payload, self._pinged_at)
        self._write([encode_frame(payload, PING)])

    def split_writes(self, seed: int | None) -> None:
        """Cut what is sent from now on at random byte positions; None: no more."""
        self._splitter = None if seed is None else random.Random(f"{seed}/{self.number}")

    def stall(self, *, pings: bool = True) -> None:
        """Send neither data nor answers, which are lost; without *pings* nothing at all."""
        self._is_stalled = True
        self._is_dead = not pings

    def resume(self) -> None:
        """End a stall."""
        self._is_stalled = self._is_dead = False

    def close(self, code: int | None, reason: str = "") -> None:
        """Send a close frame, wait a moment for the client's, and end the connection."""
        if self._is_dead:
            self.cut()
        else:
            self._write([encode_close(code, reason)], is_last=True)

    def cut(self) -> None:
        """End the TCP connection without a close frame."""
        with suppress(OSError):
            self._transport.socket.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """End the TCP connection with RST."""
        self._is_resetting = True
        with suppress(OSError):
            linger = struct.pack("ii", 1, 0)
            self._transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            # Wakes the reading thread, which then closes the socket; tells the client nothing.
            self._transport.socket.shutdown(socket.SHUT_RD)

    def _write(self, writes: Sequence[bytes], *, is_last: bool = False) -> None:
        with self._turns.turn():
            if self._closing_at is not None or self._is_dead:
                return
            if is_last:
                self._closing_at = time.monotonic()
            try:
                if self._splitter is None:
                    self._transport.send(writes, separately=False)
                else:
                    self._transport.send(_cut(b"".join(writes), self._splitter), separately=True)
            except OSError:
                self.cut()

    def _run(self) -> None:
        try:
            self._transport.handshake()
            if self._shake_hands():
                self._converse()
        except (OSError, ProtocolError):
            pass  # a client may leave, or send anything, at any moment
        finally:
            self._end()

    def _end(self) -> None:
        if not self._turns.is_free(within_s=0.2):
            self.cut()  # a sender is stuck in this socket
        with self._turns.turn():
            self._is_open = False
            self._closing_at = time.monotonic()
            if not self._is_resetting:
                with suppress(OSError):
                    self._transport.send_close()
            self._transport.socket.close()
        self._host.record_change()

    def _shake_hands(self) -> bool:
        request = self._read_request()
        if request is None:
            return False
        self.target = request.target
        names = self._enter(request.target)
        refusal = self._host.next_refusal() or (404 if names is None else None)
        if refusal is not None or names is None:
            self._refuse(refusal or 404)
            return False
        self._write([self._protocol.send(AcceptConnection())])
        self._pinged_at = time.monotonic()
        self._is_open = True
        try:
            self._session.subscribe(names)
        except TooManyStreamsError as error:
            self.send_text(f'{{"error":{{"code":{error.code},"msg":"{error.message}"}}}}')
            self.close(1008, "Invalid request")
        self._host.record_change()
        return True

    def _read_request(self) -> Request | None:
        give_up_at = time.monotonic() + _HANDSHAKE_S
        while time.monotonic() < give_up_at:
            data = self._transport.receive(_TICK_S)
            if data == b"":
                return None
            if data:
                self._protocol.receive_data(data)
                for event in self._protocol.events():
                    if isinstance(event, Request):
                        return event
        return None

    def _enter(self, target: str) -> list[str] | None:
        path, _, query = target.partition("?")
        rules = self._host.rules.market
        if rules.is_routed:
            path = re.sub(r"^/(public|market)(?=/)", "", path)
        fields = {
            key: value for key, _, value in (each.partition("=") for each in query.split("&"))
        }
        unit = fields.get("timeUnit", "").lower()
        self._has_microseconds = rules.has_microseconds and unit == "microsecond"
        self._session.combined = path == "/stream"
        if path == "/stream":
            names = fields.get("streams", "")
        elif path == "/ws" or path.startswith("/ws/"):
            names = path.removeprefix("/ws").removeprefix("/")
        else:
            return None
        return [unquote(name) for name in names.split("/") if name]

    def _refuse(self, status: int) -> None:
        body = f"the simulator refuses with {status}".encode()
        headers = [(b"content-length", str(len(body)).encode())]
        refusal = RejectConnection(status_code=status, headers=headers, has_body=True)
        self._write([self._protocol.send(refusal), self._protocol.send(RejectData(data=body))])

    def _converse(self) -> None:
        while self._is_on_time():
            data = self._transport.receive(self._rest_s())
            if data == b"":
                return
            if data:
                self._protocol.receive_data(data)
                for event in self._protocol.events():
                    if isinstance(event, CloseConnection):
                        self._record("close", str(int(event.code)).encode())
                        self._write([_reply_to_close(event.code)], is_last=True)
                        return
                    self._hear(event)

    def _rest_s(self) -> float:
        every_s = self._host.rules.ping_every_s
        if not every_s:
            return _TICK_S
        return min(_TICK_S, max(0.0, self._pinged_at + every_s - time.monotonic()))

    def _is_on_time(self) -> bool:
        now, rules = time.monotonic(), self._host.rules
        if self._closing_at is not None:
            return now < self._closing_at + _CLOSE_WAIT_S
        if self._is_dead:
            return True
        if rules.ping_every_s and now >= self._pinged_at + rules.ping_every_s:
            self.send_ping()
        oldest = next(iter(list(self._pings.values())), now)
        if now > oldest + rules.pong_deadline_s:
            self.close(1008, "Pong timeout")
        return True

    def _hear(self, event: Event) -> None:
        match event:
            case Message():
                data = event.data
                self._parts.append(data.encode() if isinstance(data, str) else bytes(data))
                if event.message_finished:
                    message = b"".join(self._parts)
                    self._parts.clear()
                    if self._record("message", message):
                        self._obey(message)
            case Ping():
                if self._record("ping", bytes(event.payload)):
                    self._write([encode_frame(bytes(event.payload), PONG)])
            case Pong():
                if self._record("pong", bytes(event.payload)):
                    self._forget_pings(bytes(event.payload))

    def _record(self, kind: str, payload: bytes) -> bool:
        """Put it on record; return whether the client keeps to the message rate."""
        now = time.monotonic()
        self._host.record_received(Received(now, self.number, kind, payload))
        if kind == "close" or self._closing_at is not None:
            return False
        self._arrivals.append(now)
        while self._arrivals[0] <= now - 1:
            self._arrivals.popleft()
        limit = self._host.rules.messages_per_second
        if limit is None or len(self._arrivals) <= limit:
            return True
        self.close(1008, "Too many requests")
        return False

    def _obey(self, message: bytes) -> None:
        if len(message) > MAX_MESSAGE_BYTES:
            return
        body, is_fatal = answer(
            message.decode(errors="replace"), self._session, self._host.rules.error_shape
        )
        if self._host.rules.sends_answers or is_fatal:
            self.send_text(body)
        if is_fatal:
            self.close(1008, "Invalid request")
        self._host.record_change()

    def _forget_pings(self, payload: bytes) -> None:
        """A pong answers its ping and those before; one that answers none proves nothing."""
        if payload in self._pings:
            for earlier in list(self._pings):
                del self._pings[earlier]
                if earlier == payload:
                    return


def _reply_to_close(code: int) -> bytes:
    return encode_close(None if code == CloseReason.NO_STATUS_RCVD else code)


def _cut(data: bytes, rng: random.Random) -> list[bytes]:
    pieces = []
    start = 0
    while start < len(data):
        end = start + rng.randint(1, 300)
        pieces.append(data[start:end])
        start = end
    return pieces
