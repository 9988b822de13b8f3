"""The aggregator thread: drains the inbox into the Ingest.

When too many bars wait for the journal, the inbox is no longer drained: the readers stop reading,
and memory stays bounded.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from bintrades.util.clocks import now_ms
from bintrades.util.logs import LimitedLog
from bintrades.util.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from bintrades.exchange.events import Event
    from bintrades.pipeline.ingest import Ingest

log = logging.getLogger(__name__)

_LONGEST_WAIT_S = 0.2  # for an event, while nothing is due
_REST_S = 0.08  # while nothing waits: waking up for every read would cost more than the trades
_SHORTEST_REST_S = 0.01  # as long as something is due only a moment later
_RETRY_S = 1.0


class IngestThread(Worker):
    """Hands events to *ingest* until stopped, then has it finish."""

    def __init__(
        self,
        inbox: queue.Queue[Event],
        ingest: Ingest,
        *,
        on_failure: Callable[[str], None],
    ) -> None:
        super().__init__("aggregator", on_failure)
        self.lost_bar_count = 0
        self._inbox = inbox
        self._ingest = ingest
        self._stopping = threading.Event()
        self._forced = threading.Event()
        self._limited = LimitedLog(log)

    def stop(self) -> None:
        """Finish: everything in the inbox is still handled. Any thread; stop the readers first."""
        self._stopping.set()

    def force_stop(self) -> None:
        """Do not wait for a journal that takes nothing. Any thread."""
        self._forced.set()

    def run(self) -> None:
        """Handle events until stopped and the inbox is empty."""
        while not (self._stopping.is_set() and self._inbox.empty()):
            self.beat()
            if self._ingest.is_full:
                if self._forced.is_set():
                    break
                self._limited.warning(
                    "ingest_paused",
                    "too many bars wait for the journal: reading stops until it takes them",
                )
                time.sleep(_LONGEST_WAIT_S)
            else:
                self._handle_next()
            self._ingest.tick(now_ms(), is_caught_up=self._inbox.empty())
            if self._inbox.empty() and not self._stopping.is_set():
                time.sleep(self._idle_s(_REST_S))
        self._finish()

    def _handle_next(self) -> None:
        with suppress(queue.Empty):
            self._ingest.handle(self._inbox.get(timeout=self._idle_s(_LONGEST_WAIT_S)))

    def _idle_s(self, longest_s: float) -> float:
        """Return how long to rest: not beyond the moment at which bars close or are committed."""
        idle_s = self._ingest.idle_ms(now_ms()) / 1000
        return min(max(idle_s, _SHORTEST_REST_S), longest_s) if idle_s else 0.0

    def _finish(self) -> None:
        """Write the open bars as well, trying again until forced to stop."""
        while not self._ingest.finish(now_ms()) and not self._forced.wait(_RETRY_S):
            pass
        self.lost_bar_count = self._ingest.waiting_bars
        if self.lost_bar_count:
            log.error(
                "%d bars were lost, since the journal could not be written",
                self.lost_bar_count,
                extra={"event": "bars_lost", "error": self._ingest.journal_error},
            )
