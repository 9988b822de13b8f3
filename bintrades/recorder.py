"""The aggregator thread: drains the inbox into the aggregator and writes its bars to the journal.

What the journal does not take now is kept and written later, together with what came since. When
too much waits, the inbox is no longer drained: the readers stop reading, and memory stays bounded.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from bintrades.aggregator import Changes
from bintrades.binance.messages import decode
from bintrades.binance.session import Connected, Event, Payloads, now_ms
from bintrades.errors import JournalError
from bintrades.logs import LimitedLog
from bintrades.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bintrades.aggregator import Aggregator
    from bintrades.journal import Journal

log = logging.getLogger(__name__)

INBOX_SIZE = 64
"""Batches of at most 256 KiB of payloads each: some 20 MiB when full."""

MAX_WAITING_BARS = 100_000
"""Bars kept while the journal takes none: some 100 MiB."""

_TICK_MS = 200  # how often silent symbols are looked at
_GATHER_MS = 100  # bars that close at the same moment are committed together
_RETRY_MS = 1_000
_REST_S = 0.04  # while nothing waits: waking up for every read would cost more than the trades
_STATUS_EVERY_MS = 10_000  # when nothing else is to be written
_SHOWN_BYTES = 200


class Recorder(Worker):
    """Turns events into committed bars until a None comes through the inbox, then finishes.

    on_bars is called after each commit that holds bars for the stores; status() gives what is
    written beside them for `bintrades status`.
    """

    def __init__(
        self,
        inbox: queue.Queue[Event | None],
        aggregator: Aggregator,
        journal: Journal,
        *,
        checkpoint_every_ms: int,
        on_bars: Callable[[], None],
        status: Callable[[], str],
        on_failure: Callable[[str], None],
    ) -> None:
        super().__init__("aggregator", on_failure)
        self.bad_count = 0
        self.unknown_count = 0
        self.lag_ms = (
            0  # local clock minus `E` of the newest trade: how wrong clocks are counts too
        )
        self.journal_error: str | None = None  # None: the journal is well
        self.lost_bar_count = 0
        self._inbox = inbox
        self._aggregator = aggregator
        self._journal = journal
        self._checkpoint_every = checkpoint_every_ms
        self._on_bars = on_bars
        self._status = status
        self._pending = Changes()
        self._written_at = self._checkpointed_at = self._ticked_at = self._heard_at = now_ms()
        self._retry_at = 0
        self._prune_request: tuple[Sequence[str], int] | None = None
        self._hurry = threading.Event()
        self._limited = LimitedLog(log)

    def stop(self) -> None:
        """Finish: everything in the inbox is still handled. Any thread; stop the readers first."""
        while self.is_alive:
            with suppress(queue.Full):
                self._inbox.put(None, timeout=_TICK_MS / 1000)
                return

    def hurry(self) -> None:
        """Do not wait for a journal that takes nothing. Any thread."""
        self._hurry.set()

    def prune(self, stores: Sequence[str], retention_ms: int) -> None:
        """Have old bars that all of *stores* have deleted soon. Any thread."""
        self._prune_request = (stores, retention_ms)

    def run(self) -> None:
        """Handle events until the end of the inbox."""
        while (event := self._next_event()) != "end":
            if event is not None:
                self._handle(event)
            if self._inbox.empty():
                time.sleep(_REST_S)
            # While events wait, time is what it was when they came: a symbol whose trades are
            # among them is not silent.
            self._tick(now_ms() if self._inbox.empty() else self._heard_at)
            self._write_if_due(now_ms())
        self._finish()

    def _next_event(self) -> Event | Literal["end"] | None:
        if len(self._pending.finished) + len(self._pending.amendments) > MAX_WAITING_BARS:
            self._limited.warning(
                "too many bars wait for the journal: reading stops until it is well"
            )
            time.sleep(_TICK_MS / 1000)
            return None
        try:
            event = self._inbox.get(timeout=_TICK_MS / 1000)
        except queue.Empty:
            return None
        return "end" if event is None else event

    def _handle(self, event: Event) -> None:
        if isinstance(event, Payloads):
            self._take(event)
        elif isinstance(event, Connected):
            self._aggregator.connected(event.session.symbols, event.at)
        else:
            self._aggregator.disconnected(event.session.symbols, event.at)

    def _take(self, event: Payloads) -> None:
        decoded = decode(event.payloads)
        if decoded.trades:
            event.session.note_data(event.received_at)
            self._heard_at = event.received_at
            self._aggregator.add(decoded.trades, event.received_at)
            self.lag_ms = time.time_ns() // 1_000_000 - decoded.trades[-1].event_time
        if decoded.answers:
            event.session.take_answers(decoded.answers)
        for payload, reason in decoded.bad:
            self.bad_count += 1
            self._limited.warning(
                "a message cannot be used and is skipped",
                reason=reason,
                start=payload[:_SHOWN_BYTES].decode(errors="replace"),
            )
        for payload in decoded.unknown:
            self.unknown_count += 1
            self._limited.warning(
                "a message of an unknown kind is ignored",
                start=payload[:_SHOWN_BYTES].decode(errors="replace"),
            )

    def _tick(self, now: int) -> None:
        if now - self._ticked_at >= _TICK_MS:
            self._ticked_at = now
            self._aggregator.advance(now)

    def _write_if_due(self, now: int) -> None:
        """Checkpoint everything now and then, and commit bars soon after they close."""
        if now < self._retry_at:
            return
        if now - self._checkpointed_at >= self._checkpoint_every:
            self._checkpointed_at = now
            self._write(now, self._aggregator.collect())
        elif self._aggregator.has_bars and now - self._written_at >= _GATHER_MS:
            self._write(now, self._aggregator.collect(everything=False))

    def _write(self, now: int, changes: Changes) -> bool:
        """Commit *changes* and what waits; return whether nothing waits any longer."""
        self._pending.update(changes)
        request, self._prune_request = self._prune_request, None
        if not self._pending and request is None and now - self._written_at < _STATUS_EVERY_MS:
            return True
        clock = time.time_ns() // 1_000_000
        try:
            self._journal.write(self._pending, clock, self._status())
            if request is not None:
                self._journal.prune(request[0], clock - request[1])
        except JournalError as error:
            self._note_failure(now, error)
            return False
        has_bars = bool(self._pending.finished or self._pending.amendments)
        self._pending = Changes()
        self._written_at = now
        if self.journal_error is not None:
            log.info("the journal is well again")
            self.journal_error = None
        if has_bars:
            self._on_bars()
        return True

    def _note_failure(self, now: int, error: JournalError) -> None:
        self.journal_error = str(error)
        self._retry_at = now + _RETRY_MS
        self._limited.warning(
            "the journal cannot be written; collecting goes on, its bars wait in memory",
            error=str(error),
            waiting_bars=len(self._pending.finished),
        )

    def _finish(self) -> None:
        """Write the open bars as well, trying again until told to hurry."""
        last = self._aggregator.collect(is_last=True)
        while not self._write(now_ms(), last) and not self._hurry.wait(_RETRY_MS / 1000):
            last = Changes()
        self.lost_bar_count = len(self._pending.finished) + len(self._pending.amendments)
        if self.lost_bar_count:
            log.error(
                "%d bars were lost, since the journal could not be written",
                self.lost_bar_count,
                extra={"error": self.journal_error},
            )
