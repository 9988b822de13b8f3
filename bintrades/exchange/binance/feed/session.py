"""The life of one connection: subscribe, read, answer pings, notice when it is dead.

The reading thread does no more than it must, so that a busy market cannot starve the pongs: it
reads in bulk, cuts frames and hands on whole batches of payloads, which are decoded elsewhere. What
concerns the connection is settled here: answers, announcements, signs of life.
"""

from __future__ import annotations

import logging
import queue
from enum import Enum
from typing import TYPE_CHECKING

from bintrades.errors import StalledError
from bintrades.exchange.batch import Batch
from bintrades.exchange.binance.feed.control import Answer, has_trades_only, sort
from bintrades.exchange.binance.feed.frames import Frame, FrameReader, Opcode
from bintrades.exchange.binance.feed.subscription import Subscription
from bintrades.exchange.events import (
    Connected,
    Disconnected,
    Event,
    Payloads,
    StreamsAdded,
    StreamsRemoved,
)
from bintrades.util.logs import LimitedLog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bintrades.exchange.binance.feed.options import StreamOptions
    from bintrades.exchange.binance.feed.stall import StallDetector
    from bintrades.net.network import StreamConnection

log = logging.getLogger(__name__)

FLOOD_BYTES = 64 * 1024
"""After a read this large more is waiting already."""


_PROBE_IDLE_EVERY_MS = 1_000
"""At most: the exchange closes a connection on which it is asked too often."""


class _Change(Enum):
    """What is to be done with some streams."""

    SUBSCRIBE = "subscribe"
    UNSUBSCRIBE = "unsubscribe"
    RESUBSCRIBE = "resubscribe"


class Session:
    """Serves one open connection on the reader's thread, one step() at a time.

    *name* is the connection's in all events. *put* may block: what that costs is not held against
    the connection.
    """

    def __init__(
        self,
        name: str,
        connection: StreamConnection,
        symbols: Sequence[str],
        options: StreamOptions,
        stall: StallDetector,
        put: Callable[[Event], None],
    ) -> None:
        self.connection = connection
        self._now = options.runtime.now
        self.opened_at = self._now()
        self.subscribed_at: int | None = None  # every name was asked for and answered
        self.first_data_at: int | None = None  # only data proves a stream
        self.read_until = self.opened_at  # all that had come by then is read and handed on
        self.is_shutdown_announced = False
        self._name = name
        self._symbols = dict.fromkeys(symbols)
        self._added: dict[str, None] = {}  # of those, the ones that nobody was told of
        self._removed: dict[str, None] = {}  # that are none of those, of which nobody was told
        self._put = put
        self._frames = FrameReader()
        self._stream = options.stream
        self._subscription = Subscription(
            list(map(self._stream.name_of, symbols)),
            options.market,
            options.timing.answer_timeout_ms,
        )
        self._changes: queue.SimpleQueue[tuple[_Change, Sequence[str]]] = queue.SimpleQueue()
        self._stall = stall
        stall.on_opened(self.opened_at)
        self._probed_at = self.opened_at
        self._limited = LimitedLog(log)

    @property
    def is_settled(self) -> bool:
        """Whether all that it was told is asked for and answered. Any thread."""
        return self._changes.empty() and self._subscription.is_complete

    def subscribe(self, symbols: Sequence[str]) -> None:
        """Ask for the streams of *symbols* as well. Any thread."""
        self._changes.put((_Change.SUBSCRIBE, symbols))

    def unsubscribe(self, symbols: Sequence[str]) -> None:
        """Ask for the streams of *symbols* no longer. Any thread."""
        self._changes.put((_Change.UNSUBSCRIBE, symbols))

    def resubscribe(self, symbol: str) -> None:
        """Ask for the stream of *symbol* once more: it is dead. Any thread."""
        self._changes.put((_Change.RESUBSCRIBE, (symbol,)))

    def step(self) -> int:
        """Send what is due and read once; return how many bytes came.

        Raises whatever ends the connection. It is judged only when all that waited in its socket
        is read: whatever held up this thread, also held up that.
        """
        began_at = self._now()
        self._send_due(began_at)
        received = self.connection.receive() or b""
        if received:
            self._take(received)
        if self.subscribed_at is None and self._subscription.is_complete:
            self._publish_subscribed(self._now())
        elif (self._added or self._removed) and self._subscription.is_complete:
            self._publish_changes(self._now())
        if len(received) < FLOOD_BYTES:
            self.read_until = began_at
            self._judge(began_at)
        return len(received)

    def end(self) -> None:
        """Publish that the connection is gone."""
        if self.subscribed_at is not None:
            self._put(Disconnected(self._name, self._now()))

    def _take(self, received: bytes) -> None:
        texts, others = self._frames.feed(received)
        if texts:
            self._take_texts(texts)
        for frame in others:
            self._take_other(frame)

    def _take_texts(self, texts: list[bytes]) -> None:
        now = self._now()
        batch = Batch(texts)
        if has_trades_only(batch, self._stream.mark):
            self._on_data(now)
        else:
            batch = self._settle_control_messages(texts, now)
        if batch.lengths:
            self._put(Payloads(self._name, batch, now))

    def _settle_control_messages(self, texts: list[bytes], now: int) -> Batch:
        """Settle control messages; return the batch of all others."""
        found = sort(texts)
        if found.has_stream_data:
            self._on_data(now)
        for answer in found.answers:
            self._on_answer(answer)
        if found.is_shutdown_announced and not self.is_shutdown_announced:
            self.is_shutdown_announced = True
            log.warning(
                "the exchange announces that it will close this connection",
                extra={"event": "shutdown_announced", "connection": self._name},
            )
        return Batch(found.data)

    def _on_data(self, now: int) -> None:
        self._stall.on_data(now)
        if self.first_data_at is None:
            self.first_data_at = now

    def _on_answer(self, answer: Answer) -> None:
        if answer.error is not None:
            self._limited.warning(
                "request_refused",
                "the exchange refuses a request of a connection",
                connection=self._name,
                error=answer.error,
            )
        for name in self._subscription.on_answer(answer):
            log.error(
                "the exchange refuses the stream %s; the others go on",
                name,
                extra={"event": "stream_refused", "stream": name, "error": answer.error},
            )

    def _take_other(self, frame: Frame) -> None:
        if frame.opcode is Opcode.PING:
            self.connection.pong(frame.payload)
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

    def _send_due(self, now: int) -> None:
        while not self._changes.empty():
            self._change(*self._changes.get())
        message = self._subscription.next_message(now)
        if message is not None:
            self.connection.send_text(message)

    def _change(self, change: _Change, symbols: Sequence[str]) -> None:
        """Have *symbols* be asked for, or no longer, or once more."""
        if change is _Change.SUBSCRIBE:
            symbols = [symbol for symbol in symbols if symbol not in self._symbols]
            self._symbols.update(dict.fromkeys(symbols))
            self._subscription.subscribe(list(map(self._stream.name_of, symbols)))
            _move(symbols, self._removed, self._added)
            return
        symbols = [symbol for symbol in symbols if symbol in self._symbols]
        names = list(map(self._stream.name_of, symbols))
        if change is _Change.RESUBSCRIBE:
            for name in names:
                self._subscription.resubscribe(name)
            return
        for symbol in symbols:
            del self._symbols[symbol]
        self._subscription.unsubscribe(names)
        _move(symbols, self._added, self._removed)

    def _publish_changes(self, now: int) -> None:
        """Say what is subscribed now, and what is no longer: no more of that comes."""
        if self._removed:
            self._put(StreamsRemoved(self._name, tuple(self._removed), now))
        if self._added:
            self._put(StreamsAdded(self._name, tuple(self._added), now))
        self._added.clear()
        self._removed.clear()

    def _publish_subscribed(self, now: int) -> None:
        self.subscribed_at = now
        self._added.clear()
        self._removed.clear()
        log.info(
            "subscribed",
            extra={"event": "connection_subscribed", "streams": len(self._symbols)},
        )
        self._put(Connected(self._name, tuple(self._symbols), now))

    def _judge(self, now: int) -> None:
        """Raise StalledError when what is read up to *now* shows that the connection is dead.

        A connection may be open, answer pings and questions, and yet deliver nothing for ever.
        """
        if not self._subscription.is_complete and self._subscription.is_overdue(now):
            raise StalledError("the exchange does not answer; only a new connection helps")
        if self._stall.last_data_at < now:
            self._stall.on_nothing(now)
            if self.subscribed_at is not None:
                self._check_stall(now)

    def _check_stall(self, now: int) -> None:
        """Ask a connection without data something; give it up when it stays without."""
        idle_ms, limit_ms = self._stall.idle_ms, self._stall.limit_ms
        if idle_ms >= limit_ms and self._stall.is_data_expected:
            self._stall.on_stalled()
            raise StalledError(f"no data for {idle_ms / 1000:.1f} s, though the connection is open")
        rest_ms = limit_ms // 2
        if not self._stall.is_data_expected:  # then it may be idle for ever
            rest_ms = max(rest_ms, _PROBE_IDLE_EVERY_MS)
        if idle_ms >= limit_ms // 2 and now - self._probed_at >= rest_ms:
            self._probed_at = now
            self.connection.send_text(self._subscription.probe(now))


def _move(symbols: Sequence[str], source: dict[str, None], target: dict[str, None]) -> None:
    """Take *symbols* out of *source*, and put those that are not there into *target*."""
    for symbol in symbols:
        if symbol in source:
            del source[symbol]
        else:
            target[symbol] = None
