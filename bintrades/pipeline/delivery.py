"""Bars from the journal into one store: one thread and one cursor for each.

A store that is slow, fails, hangs or is down delays only itself. Its cursor moves when the store
has said that the bars are durable, never before, so every bar arrives at least once, and stores
make that exactly once by their key. A batch is as large as the store can take in some seconds.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bintrades.errors import ConfigError, JournalError, RejectedBars
from bintrades.pipeline.batch_size import BatchSize, is_timeout
from bintrades.pipeline.coverage_delivery import CoverageDelivery
from bintrades.pipeline.latency import NO_LATENCY, LatencyHistogram, LatencySnapshot
from bintrades.pipeline.store_identity import resend_if_replaced
from bintrades.util.backoff import Backoff
from bintrades.util.runtime import SYSTEM, Runtime
from bintrades.util.text import storable
from bintrades.util.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bintrades.journal.cursor import Cursor
    from bintrades.model import Bar
    from bintrades.stores.store import Store

log = logging.getLogger(__name__)

BATCH = 8_000
"""Bars of the largest batch, for a store that is quick; see batch_size."""

_MOST_OF_A_REASON = 1_000  # characters
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_LOOK_EVERY_S = 10.0  # for what no other thread announced, such as bars sent again on request


@dataclass(frozen=True, slots=True)
class DeliverySnapshot:
    """What is known of the bars for one store."""

    store: str
    delivered_count: int  # since the start
    error: str | None  # None: the last attempt succeeded
    behind_ms: int  # since nothing was left for it
    coverage_error: str | None = None  # why it was not told what is covered; None: it was
    latency: LatencySnapshot = NO_LATENCY


class Delivery(Worker):
    """Delivers to one store until asked to finish.

    on_bad_options is called with the message when the store finds fault with its options at the
    first attempt to open it. exchange_time gives the exchange's clock, 0 while it is unknown.
    """

    def __init__(
        self,
        store: Store,
        options: Mapping[str, str],
        cursor: Cursor,
        *,
        on_failure: Callable[[str], None],
        on_bad_options: Callable[[str], None],
        exchange_time: Callable[[], int] = lambda: 0,
        runtime: Runtime = SYSTEM,
    ) -> None:
        super().__init__(f"deliver-{store.name}", on_failure, runtime)
        self.delivered_count = 0
        self.last_error: str | None = None  # None: the last attempt succeeded
        self.caught_up_at_ms = self._runtime.now()  # monotonic: when nothing was left for it
        self.has_taken_all = False  # at the end, when it has
        self._store = store
        self._options = options
        self._cursor = cursor
        self._on_bad_options = on_bad_options
        self._exchange_time = exchange_time
        self._latency = LatencyHistogram()
        self._batch_size = BatchSize(BATCH)
        self.coverage = CoverageDelivery(store, cursor, self._without_secrets, self._runtime)
        self._backoff = Backoff(_FIRST_WAIT_S, _LONGEST_WAIT_S, runtime.rng)
        self._wake = threading.Event()
        self._first_opening_ended = threading.Event()
        self._is_open = False
        self._is_stopping = False
        self._deadline = 0.0

    @property
    def store_name(self) -> str:
        """The plugin's name."""
        return self._store.name

    def snapshot(self, now: int) -> DeliverySnapshot:
        """Return how far the store is. Any thread."""
        return DeliverySnapshot(
            self._store.name,
            self.delivered_count,
            self.last_error,
            now - self.caught_up_at_ms,
            self.coverage.error,
            self._latency.snapshot(),
        )

    def notify(self) -> None:
        """Say that the journal holds new bars. Any thread."""
        self._wake.set()

    def wait_until_tried(self, timeout_s: float) -> bool:
        """Wait until the store was opened or has refused once. Any thread."""
        return self._first_opening_ended.wait(timeout_s)

    def finish(self, within_s: float) -> None:
        """Deliver what is left, but for no longer than *within_s*, then end. Any thread."""
        self._deadline = time.monotonic() + within_s
        self.stop()

    def stop(self) -> None:
        """End after what is being done now."""
        self._is_stopping = True
        self._wake.set()

    def run(self) -> None:
        """Open the store and feed it, for ever."""
        while True:
            self.beat()
            self._wake.clear()
            is_caught_up, wait_s = self.deliver_all()
            if self._is_stopping and (is_caught_up or self._has_nothing_left()):
                self.has_taken_all = True
                break
            if self._is_stopping and time.monotonic() >= self._deadline:
                break
            if self._is_stopping:
                wait_s = min(wait_s, max(0.0, self._deadline - time.monotonic()))
                time.sleep(min(wait_s, 0.2))
            else:
                self._rest(wait_s, is_caught_up=is_caught_up)
        if self._is_open:
            self._close()

    def _has_nothing_left(self) -> bool:
        """Whether nothing waits for a store that could not be opened."""
        try:
            return not self._cursor.next_bars(1)[0]
        except JournalError:
            return False

    def _rest(self, wait_s: float, *, is_caught_up: bool) -> None:
        """Wait for new bars, or, after a failure, for the backoff to pass whatever comes."""
        if is_caught_up:
            self._wake.wait(_LOOK_EVERY_S)
            return
        until = time.monotonic() + wait_s
        while not self._is_stopping and (left := until - time.monotonic()) > 0:
            self._wake.wait(left)
            if not self._is_stopping:
                self._wake.clear()

    def deliver_all(self) -> tuple[bool, float]:
        """Deliver until nothing is left (True) or something fails (False, seconds to wait).

        Called by the worker's own thread, again and again.
        """
        try:
            if not self._is_open:
                self._open()
            while self._deliver_batch():
                if self._is_stopping and time.monotonic() >= self._deadline:
                    return False, 0.0
            self._tell_coverage()
        except JournalError as error:
            wait_s = self._backoff.next_wait_s()
            self.last_error = str(error)
            log.warning(
                "%s cannot use the journal; next attempt in %.1f s",
                self.name,
                wait_s,
                extra={
                    "event": "store_journal_failed",
                    "store": self._store.name,
                    "error": str(error),
                },
            )
            return False, wait_s
        except Exception as error:
            return False, self._fail(error)
        finally:
            self._first_opening_ended.set()
        self._record_success()
        self.caught_up_at_ms = self._runtime.now()
        return True, 0.0

    def _open(self) -> None:
        try:
            self._store.open(self._options)
        except ConfigError as error:
            if not self._first_opening_ended.is_set():
                self._on_bad_options(str(error))
            raise
        self._is_open = True
        self._begin_again_if_replaced()
        log.info(
            "store %s is open",
            self._store.name,
            extra={"event": "store_opened", "store": self._store.name},
        )

    def _begin_again_if_replaced(self) -> None:
        """Look whether it is another store now; bars go on where it cannot say what it is.

        It is asked again before any coverage is told.
        """
        try:
            is_other = resend_if_replaced(self._store, self._cursor)
        except JournalError:
            raise
        except Exception as error:
            log.warning(
                "store %s cannot say whether it is what it was; its bars go on",
                self._store.name,
                extra={
                    "event": "store_unidentified",
                    "store": self._store.name,
                    "error": self._without_secrets(f"{type(error).__name__}: {error}"),
                },
            )
            return
        if is_other:
            self.coverage.forget()

    def _deliver_batch(self) -> bool:
        """Hand one batch to the store; return whether there was one."""
        self.beat()
        bars, sequence = self._cursor.next_bars(self._batch_size.limit)
        if not bars:
            return False
        is_again = self._cursor.is_sending_again
        if is_again:
            self.coverage.forget()
            self.caught_up_at_ms = self._runtime.now()
        started = time.monotonic()
        rejected = self._write(bars)
        self._batch_size.took(len(bars), time.monotonic() - started)
        self._cursor.move(sequence, bars, rejected)
        self._record_success()
        self.delivered_count += len(bars) - len(rejected)
        if not is_again and (stored_at := self._exchange_time()):
            self._latency.add(bars, stored_at)
        log.debug(  # with many symbols, two thirds of all lines; the summary has their number
            "store %s: bars written: %d",
            self._store.name,
            len(bars) - len(rejected),
            extra={
                "event": "bars_stored",
                "store": self._store.name,
                "bars": len(bars) - len(rejected),
                "rejected": len(rejected),
                "seconds": round(time.monotonic() - started, 3),
            },
        )
        return True

    def _tell_coverage(self) -> None:
        """Tell the store what is covered if that is due, or will not be told later."""
        if self._is_stopping:
            self.coverage.tell(self._deadline)
        elif self.coverage.is_due:
            self.coverage.tell()

    def _record_success(self) -> None:
        """Forget earlier failures: also amid a backlog, of which a part has been stored."""
        if self.last_error is not None:
            log.info(
                "store %s answers again",
                self._store.name,
                extra={"event": "store_recovered", "store": self._store.name},
            )
        self._backoff.reset()
        self.last_error = None

    def _write(self, bars: Sequence[Bar]) -> list[tuple[Bar, str]]:
        started = time.monotonic()
        try:
            self._store.write(bars)
        except RejectedBars as error:
            if error.rejected:
                log.error(
                    "store %s refused bars: %d; they are set aside in the journal,"
                    " `bintrades resend %s` has them sent again",
                    self._store.name,
                    len(error.rejected),
                    self._store.name,
                    extra={
                        "event": "bars_rejected",
                        "store": self._store.name,
                        "error": self._without_secrets(str(error)),
                    },
                )
            return [(bar, self._without_secrets(reason)) for bar, reason in error.rejected]
        except Exception as error:
            if is_timeout(error, time.monotonic() - started):
                self._batch_size.timed_out(len(bars))
            raise
        return []

    def _fail(self, error: Exception) -> float:
        """Note a failure; return the seconds to wait before the next attempt."""
        wait_s = self._backoff.next_wait_s()
        self.last_error = self._without_secrets(f"{type(error).__name__}: {error}")
        log.warning(
            "store %s fails, its bars wait in the journal; next attempt in %.1f s",
            self._store.name,
            wait_s,
            extra={
                "event": "store_failed",
                "store": self._store.name,
                "error": self.last_error,
                "failures": self._backoff.failures,
                "next_batch": self._batch_size.limit,
            },
        )
        if self._is_open:
            self._close()
        return wait_s

    def _without_secrets(self, text: str) -> str:
        """Return what a plugin said as it may stand in the journal and in the log."""
        return storable(self._store.without_secrets(text, self._options))[:_MOST_OF_A_REASON]

    def _close(self) -> None:
        self._is_open = False
        try:
            self._store.close()
        except Exception as error:
            log.warning(
                "store %s did not close",
                self._store.name,
                extra={
                    "event": "store_close_failed",
                    "store": self._store.name,
                    "error": self._without_secrets(str(error)),
                },
            )
