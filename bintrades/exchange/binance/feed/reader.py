"""One thread that keeps one connection open, for ever.

Whatever goes wrong, whatever the error or the close code, ends in the same place: the connection
is given up and another one made.
"""

from __future__ import annotations

import collections
import logging
import queue
import threading
from typing import TYPE_CHECKING

from bintrades.exchange.binance.feed.connection import Connection
from bintrades.exchange.binance.feed.session import Session, StreamOptions
from bintrades.exchange.binance.feed.stall import StallDetector
from bintrades.exchange.snapshots import ConnectionSnapshot
from bintrades.util.backoff import Backoff
from bintrades.util.clocks import now_ms
from bintrades.util.logs import LimitedLog
from bintrades.util.text import one_line
from bintrades.util.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bintrades.exchange.binance.market import Market
    from bintrades.exchange.events import Event

log = logging.getLogger(__name__)

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_RECEIVE_TIMEOUT_S = 0.25  # how soon a reader with nothing to read notices that it is to stop


class AttemptLimit:
    """Keeps all readers together within the exchange's limit of connection attempts per address.

    Thread-safe. Two thirds of the limit are used: other programs may share the address.
    """

    def __init__(self, market: Market) -> None:
        self._window = market.attempts_window_ms
        self._most = market.max_attempts * 2 // 3
        self._attempts: collections.deque[int] = collections.deque(maxlen=self._most)
        self._lock = threading.Lock()

    def wait_ms(self, now: int) -> int:
        """Return how long to wait before an attempt; 0 means go, and counts one."""
        with self._lock:
            if len(self._attempts) == self._most:
                wait = self._attempts[0] + self._window - now
                if wait > 0:
                    return wait
            self._attempts.append(now)
            return 0


class Reader(Worker):
    """Keeps a connection for *symbols* and puts its Events into *inbox*.

    *copy* tells the connections of one group of symbols apart: they go to different addresses of
    the exchange where it has several.

    The inbox is bounded: when it is full the reader stops reading, and what the exchange then
    cuts off is a gap like any other.
    """

    def __init__(
        self,
        number: int,
        symbols: Sequence[str],
        inbox: queue.Queue[Event],
        options: StreamOptions,
        attempts: AttemptLimit,
        *,
        copy: int = 0,
        silence_timeout_ms: int,
        on_failure: Callable[[str], None],
    ) -> None:
        super().__init__(f"reader-{number}", on_failure)
        self.symbols = symbols
        self.connection_count = 0
        self.last_error: str | None = None  # None: connected
        self._without_streams_since = now_ms()
        self._inbox = inbox
        self._options = options
        self._attempts = attempts
        self._copy = copy
        self._stopping = threading.Event()
        self._session: Session | None = None
        self._silence = StallDetector(silence_timeout_ms, now_ms())
        self._backoff = Backoff(_FIRST_WAIT_S, _LONGEST_WAIT_S)
        self._limited = LimitedLog(log)

    @property
    def state(self) -> str:
        """What the reader is doing, in a word. Any thread."""
        session = self._session
        if session is None:
            return "disconnected"
        return "connected" if session.subscribed_at is None else "subscribed"

    def down_ms(self, now: int) -> int:
        """Return for how long there have been no subscribed streams, 0 while there are."""
        return 0 if self.state == "subscribed" else now - self._without_streams_since

    def snapshot(self, now: int) -> ConnectionSnapshot:
        """Return the state of the connection. Any thread."""
        return ConnectionSnapshot(
            self.name,
            self.state,
            len(self.symbols),
            self.connection_count,
            self.last_error,
            self.down_ms(now),
        )

    @property
    def opened_at(self) -> int | None:
        """When the connection was opened, None while there is none. Any thread."""
        session = self._session
        return None if session is None else session.opened_at

    @property
    def subscribed_at(self) -> int | None:
        """When every stream of the connection was answered. Any thread."""
        session = self._session
        return None if session is None else session.subscribed_at

    @property
    def first_data_at(self) -> int | None:
        """When the connection first delivered. Any thread."""
        session = self._session
        return None if session is None else session.first_data_at

    @property
    def last_data_at(self) -> int:
        """When any connection of this reader last delivered. Any thread."""
        return self._silence.since

    @property
    def is_leaving(self) -> bool:
        """Whether the exchange has announced that it will close the connection. Any thread."""
        session = self._session
        return session is not None and session.is_shutdown_announced

    def stop(self) -> None:
        """Close the connection and end. Any thread."""
        self._stopping.set()

    def run(self) -> None:
        """Connect and read, again and again, until stopped."""
        while not self._stopping.is_set():
            self.beat()
            wait_ms = self._attempts.wait_ms(now_ms())
            if wait_ms:
                self._limited.warning(
                    "connection_attempts_limited",
                    "too many attempts to connect; waiting",
                    wait_ms=wait_ms,
                )
                self._stopping.wait(min(wait_ms / 1000, _LONGEST_WAIT_S))
                continue
            connections = self.connection_count
            try:
                self._connect_and_serve()
            except Exception as error:  # whatever it was: there is always another attempt
                self.last_error = one_line(f"{type(error).__name__}: {error}", 500)
                was_connected = self.connection_count > connections
                self._stopping.wait(self._record_loss(was_connected=was_connected))

    def _connect_and_serve(self) -> None:
        """Serve one connection until the reader is stopped, or raise what ended it."""
        url = self._options.stream_url.rstrip("/") + "/stream"
        connection = Connection(
            url, self._options.dialer, receive_timeout_s=_RECEIVE_TIMEOUT_S, copy=self._copy
        )
        log.info(
            "connected",
            extra={"url": url, "address": connection.peer, "symbols": len(self.symbols)},
        )
        self.connection_count += 1
        self.last_error = None
        session = self._session = Session(
            connection, self.symbols, self._options, self._silence, self._put
        )
        try:
            session.serve(self._stopping, self.beat)
        except Exception:
            if session.first_data_at is None:
                connection.avoid()
            raise
        finally:
            if session.first_data_at is not None:
                self._backoff.reset()
            if session.subscribed_at is not None:
                self._without_streams_since = now_ms()
            self._session = None
            connection.close()

    def _record_loss(self, *, was_connected: bool) -> float:
        """Log the loss and return the seconds to wait before the next attempt."""
        wait_s = self._backoff.next_wait_s()
        log.warning(
            "%s; next attempt in %.1f s",
            "the connection is lost" if was_connected else "the exchange cannot be reached",
            wait_s,
            extra={
                "url": self._options.stream_url,
                "error": self.last_error,
                "failures": self._backoff.failures,
            },
        )
        return wait_s

    def _put(self, event: Event) -> None:
        """Put *event* into the inbox, waiting while it is full, unless told to stop."""
        while True:
            try:
                self._inbox.put(event, timeout=_RECEIVE_TIMEOUT_S)
            except queue.Full:
                if self._stopping.is_set():
                    log.warning("stopped while the inbox was full; what was not read is a gap")
                    return
                self._limited.warning(
                    "inbox_full", "the inbox is full: reading waits for the aggregator"
                )
            else:
                return
