"""One thread that keeps one connection open, for ever.

Whatever goes wrong, whatever the error or the close code, ends in the same place: the connection
is given up and another one made.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from typing import TYPE_CHECKING

from bintrades.exchange.binance.feed.session import FLOOD_BYTES, Session
from bintrades.exchange.binance.feed.stall import StallDetector
from bintrades.exchange.snapshots import ConnectionSnapshot, ConnectionState
from bintrades.util.backoff import Backoff
from bintrades.util.logs import LimitedLog
from bintrades.util.text import one_line
from bintrades.util.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from bintrades.exchange.binance.feed.attempts import AttemptLimit
    from bintrades.exchange.binance.feed.options import StreamOptions
    from bintrades.exchange.events import Event

log = logging.getLogger(__name__)


class Reader(Worker):
    """Keeps a connection for *symbols* and puts its events into *inbox*.

    *copy* numbers the connections of one group of symbols: they go to different addresses of
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
        on_failure: Callable[[str], None],
    ) -> None:
        super().__init__(f"reader-{number}", on_failure, options.runtime)
        self._symbols = dict.fromkeys(symbols)
        self._changing = threading.Lock()  # of the symbols, together with the session
        self.connection_count = 0
        self.last_error: str | None = None  # None: connected
        self._inbox = inbox
        self._options = options
        self._attempts = attempts
        self._copy = copy
        self._now = options.runtime.now
        self._unsubscribed_since = self._now()
        self._stopping = threading.Event()
        self._session: Session | None = None
        self._stall = StallDetector(options.silence_timeout_ms, self._now())
        self._timing = timing = options.timing
        self._backoff = Backoff(timing.first_retry_s, timing.longest_retry_s, options.runtime.rng)
        self._limited = LimitedLog(log)

    @property
    def symbols(self) -> Collection[str]:
        """What the connection carries, or is to carry. Any thread."""
        return self._symbols.keys()

    @property
    def is_settled(self) -> bool:
        """Whether there is a connection on which all that is to be is subscribed. Any thread."""
        session = self._session
        return session is not None and session.subscribed_at is not None and session.is_settled

    def subscribe(self, symbols: Sequence[str]) -> None:
        """Carry *symbols* as well, on the connection that there is. Any thread."""
        with self._changing:
            self._symbols = {**self._symbols, **dict.fromkeys(symbols)}
            if self._session is not None:
                self._session.subscribe(symbols)

    def unsubscribe(self, symbols: Sequence[str]) -> None:
        """Carry *symbols* no longer; the connection stays. Any thread."""
        gone = frozenset(symbols)
        with self._changing:
            self._symbols = {each: None for each in self._symbols if each not in gone}
            if self._session is not None:
                self._session.unsubscribe(symbols)

    def expect_data(self, *, is_expected: bool) -> None:
        """Have data be expected, or none: then none of its symbols is traded. Any thread."""
        self._stall.expect_data(is_expected=is_expected, now=self._now())

    @property
    def state(self) -> ConnectionState:
        """The state of the reader. Any thread."""
        session = self._session
        if session is None:
            return ConnectionState.DISCONNECTED
        if session.subscribed_at is None:
            return ConnectionState.CONNECTED
        return ConnectionState.SUBSCRIBED

    def down_ms(self, now: int) -> int:
        """Return for how long there have been no subscribed streams, 0 while there are."""
        if self.state is ConnectionState.SUBSCRIBED:
            return 0
        return now - self._unsubscribed_since

    def snapshot(self, now: int) -> ConnectionSnapshot:
        """Return the state of the connection. Any thread."""
        return ConnectionSnapshot(
            self.name,
            self.state,
            len(self._symbols),
            self.connection_count,
            self.last_error,
            self.down_ms(now),
            self._stall.empty_connections if self._stall.is_data_expected else 0,
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
        return self._stall.last_data_at

    @property
    def read_until(self) -> int | None:
        """Up to when all that has come is read, None while there is no connection. Any thread."""
        session = self._session
        return None if session is None else session.read_until

    @property
    def is_leaving(self) -> bool:
        """Whether the exchange has announced that it will close the connection. Any thread."""
        session = self._session
        return session is not None and session.is_shutdown_announced

    def resubscribe(self, symbol: str) -> None:
        """Ask for the stream of *symbol* once more: it is dead. Any thread."""
        session = self._session
        if session is not None:
            session.resubscribe(symbol)

    @property
    def is_stopping(self) -> bool:
        """Whether it is to end. Any thread."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Close the connection and end. Any thread."""
        self._stopping.set()

    def run(self) -> None:
        """Connect and read, again and again, until stopped."""
        try:
            while not self.is_stopping:
                self.beat()
                wait_s = self.step()
                if self._session is None:
                    self._stopping.wait(wait_s)
                elif wait_s:
                    time.sleep(wait_s)  # cheaper, and too short for stop() to mind
        finally:
            self.disconnect()

    def step(self) -> float:
        """Connect, or read once; return how many seconds to wait before the next step.

        Never raises an Exception: whatever it was, there is always another attempt.
        """
        session = self._session
        try:
            if session is None:
                return self._connect()
            received = session.step()
        except Exception as error:
            self.last_error = one_line(f"{type(error).__name__}: {error}", 500)
            self._options.counter.lost(error, was_connected=session is not None)
            if session is not None and session.first_data_at is None:
                session.connection.avoid()
            self.disconnect()
            return self._record_loss(was_connected=session is not None)
        # Waking up costs more than a trade: let frames gather, unless more is waiting already.
        return self._options.coalesce_ms / 1000 if 0 < received < FLOOD_BYTES else 0.0

    def disconnect(self) -> None:
        """Close the connection, if there is one. Only the thread that calls step()."""
        session = self._session
        if session is None:
            return
        if session.first_data_at is not None:
            self._backoff.reset()
        if session.subscribed_at is not None:
            self._unsubscribed_since = self._now()
        self._session = None
        session.connection.close()
        session.end()

    def _connect(self) -> float:
        """Open a connection; return how many seconds to wait before the next step."""
        wait_ms = self._attempts.wait_ms(self._now())
        if wait_ms:
            self._limited.warning(
                "connection_attempts_limited",
                "too many attempts to connect; waiting",
                wait_ms=wait_ms,
            )
            return min(wait_ms / 1000, self._timing.longest_retry_s)
        connection = self._options.network.open_stream(
            self._options.url,
            receive_timeout_s=self._timing.receive_timeout_s,
            copy=self._copy,
        )
        self.connection_count += 1
        self._options.counter.opened()
        self.last_error = None
        name = f"{self.name}.{self.connection_count}"
        log.info(
            "connected",
            extra={
                "event": "connection_opened",
                "connection": name,
                "url": self._options.stream_url,
                "address": connection.peer,
                "symbols": len(self.symbols),
            },
        )
        with self._changing:
            self._session = Session(
                name, connection, tuple(self._symbols), self._options, self._stall, self._put
            )
        return 0.0

    def _record_loss(self, *, was_connected: bool) -> float:
        """Log the loss and return the seconds to wait before the next attempt."""
        wait_s = self._backoff.next_wait_s()
        facts = {
            "url": self._options.stream_url,
            "error": self.last_error,
            "failures": self._backoff.failures,
        }
        if was_connected:
            log.warning(
                "the connection is lost; next attempt in %.1f s",
                wait_s,
                extra={"event": "connection_lost", **facts},
            )
        else:
            log.warning(
                "the exchange cannot be reached; next attempt in %.1f s",
                wait_s,
                extra={"event": "connection_failed", **facts},
            )
        return wait_s

    def _put(self, event: Event) -> None:
        """Put *event* into the inbox, waiting while it is full, unless stopped."""
        while True:
            try:
                self._inbox.put(event, timeout=self._timing.receive_timeout_s)
            except queue.Full:
                if self._stopping.is_set():
                    log.warning(
                        "stopped while the inbox was full; what was not read is a gap",
                        extra={"event": "reader_stopped_unread"},
                    )
                    return
                self.beat()  # it waits, and is not stuck
                self._limited.warning(
                    "inbox_full", "the inbox is full: reading waits for the aggregator"
                )
            else:
                return
