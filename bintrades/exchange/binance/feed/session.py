"""The life of one connection: subscribe, read, answer pings, notice when it is dead.

The reading thread does no more than it must, so that a busy market cannot starve the pongs: it
reads in bulk, cuts frames and hands on whole batches of payloads. Decoding is done elsewhere; what
it finds that concerns the connection (answers, signs of data) is handed back.
"""

from __future__ import annotations

import logging
import queue
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bintrades.errors import ProtocolError
from bintrades.exchange.binance.feed.frames import Frame, FrameReader, Opcode
from bintrades.exchange.binance.feed.subscription import Subscription
from bintrades.exchange.binance.market import stream_name
from bintrades.exchange.binance.messages import Batch
from bintrades.exchange.events import Connected, Disconnected, Event, Payloads
from bintrades.util.clocks import now_ms
from bintrades.util.logs import LimitedLog

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from bintrades.exchange.binance.feed.connection import Connection
    from bintrades.exchange.binance.feed.stall import StallDetector
    from bintrades.exchange.binance.market import Market
    from bintrades.exchange.binance.messages import Answer
    from bintrades.net.dialing import Dialer

log = logging.getLogger(__name__)

_FLOOD_BYTES = 64 * 1024  # after a read this large more is waiting already: no rest


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """What all connections have in common."""

    stream_url: str
    market: Market
    dialer: Dialer
    coalesce_ms: int


class Session:
    """Serves one open connection on the reader's thread, until it ends or is to end."""

    def __init__(
        self,
        connection: Connection,
        symbols: Sequence[str],
        options: StreamOptions,
        silence: StallDetector,
        put: Callable[[Event], None],
        now: Callable[[], int] = now_ms,
    ) -> None:
        self.symbols = symbols
        self.opened_at = now()
        self.subscribed_at: int | None = None  # every name was asked for and answered
        self.first_data_at: int | None = None  # trades came: only data proves a stream
        self.is_shutdown_announced = False
        self._connection = connection
        self._options = options
        self._put = put
        self._now = now
        self._frames = FrameReader()
        self._subscription = Subscription(list(map(stream_name, symbols)), options.market)
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._silence = silence  # told by the thread that decodes, asked by the reader's
        silence.on_opened(self.opened_at)
        self._again: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._probed_at = self.opened_at
        self._limited = LimitedLog(log)

    def take_answers(self, answers: Sequence[Answer]) -> None:
        """Hand over answers found among the payloads. Called by the thread that decodes."""
        for answer in answers:
            self._answers.put(answer)

    def on_data(self, at: int) -> None:
        """Note that trades came at *at*. Called by the thread that decodes."""
        self._silence.on_data(at)
        if self.first_data_at is None:
            self.first_data_at = at

    def on_shutdown(self) -> None:
        """Note that the exchange is about to close the connection. Called by that thread too."""
        if not self.is_shutdown_announced:
            self.is_shutdown_announced = True
            log.warning("the exchange announces that it will close this connection")

    def subscribe_again(self, symbol: str) -> None:
        """Ask for the stream of *symbol* once more: it is dead. Called by that thread too."""
        self._again.put(stream_name(symbol))

    def serve(self, stopping: threading.Event, on_step: Callable[[], None] = lambda: None) -> None:
        """Read until *stopping*; raise whatever ends the connection before.

        *on_step* is called a few times a second, whether something comes or not.
        """
        rest_s = self._options.coalesce_ms / 1000
        try:
            while not stopping.is_set():
                on_step()
                if 0 < self.step() < _FLOOD_BYTES:
                    time.sleep(rest_s)  # let frames gather: waking up costs more than a trade
        finally:
            self.end()

    def step(self) -> int:
        """Send what is due and read once; return how many bytes came.

        Raises whatever ends the connection.
        """
        self._talk()
        received = self._connection.receive()
        if received is None:
            return 0
        self._take(received)
        return len(received)

    def end(self) -> None:
        """Say that the connection is gone."""
        if self.subscribed_at is not None:
            self._put(Disconnected(self, self._now()))

    def _take(self, received: bytes) -> None:
        texts, others = self._frames.feed(received)
        if texts:
            self._put(Payloads(self, Batch(texts), self._now()))
        for frame in others:
            self._take_other(frame)

    def _take_other(self, frame: Frame) -> None:
        if frame.opcode is Opcode.PING:
            self._connection.pong(frame.payload)
        elif frame.opcode is Opcode.CLOSE:
            code = int.from_bytes(frame.payload[:2]) if len(frame.payload) >= 2 else 1005
            reason = frame.payload[2:].decode(errors="replace")
            raise ConnectionError(f"closed by the exchange: {code} {reason}".rstrip())
        elif frame.opcode is Opcode.BINARY:
            self._limited.warning(
                "binary_message_ignored",
                "a binary message is ignored: nothing that was asked for is binary",
                start=frame.payload[:40].hex(),
            )

    def _talk(self) -> None:
        """Send what is due; raise ProtocolError when the exchange does not answer."""
        now = self._now()
        while not self._answers.empty():
            answer = self._answers.get()
            for name in self._subscription.take(answer):
                log.error(
                    "the exchange refuses the stream %s; the others go on",
                    name,
                    extra={"stream": name, "error": answer.error},
                )
        while not self._again.empty():
            self._subscription.ask_again(self._again.get())
        message = self._subscription.next_message(now)
        if message is not None:
            self._connection.send_text(message)
        elif self._subscription.is_overdue(now):
            raise ProtocolError("the exchange does not answer; only a new connection helps")
        elif self._subscription.is_complete:
            self._record_subscribed(now)
        if self.subscribed_at is not None:
            self._watch(now)

    def _record_subscribed(self, now: int) -> None:
        if self.subscribed_at is None:
            self.subscribed_at = now
            log.info("subscribed", extra={"streams": len(self.symbols)})
            self._put(Connected(self, now))

    def _watch(self, now: int) -> None:
        """Question a connection without data; give it up when it stays mute all the same.

        A connection may be open, answer pings and questions, and yet deliver nothing for ever.
        """
        quiet = self._silence.quiet_for(now)
        limit = self._silence.limit
        if quiet >= limit:
            self._silence.mark_dead()
            raise ProtocolError(f"no data for {quiet / 1000:.1f} s, though the connection is open")
        if quiet >= limit // 2 and now - self._probed_at >= limit // 2:
            self._probed_at = now
            self._connection.send_text(self._subscription.probe(now))
