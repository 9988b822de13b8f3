"""The backfill thread: has the Backfill ask for what is missing."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any

from bintrades.pipeline.backfill import POLL_EVERY_MS
from bintrades.pipeline.request_counts import RequestCounts
from bintrades.util.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bintrades.model import GapSet
    from bintrades.pipeline.backfill import Backfill


class BackfillThread(Worker):
    """Asks for what is missing, one request at a time, until stopped."""

    def __init__(self, backfill: Backfill[Any], *, on_failure: Callable[[str], None]) -> None:
        super().__init__("repairer", on_failure)
        self._backfill = backfill
        self._gaps: queue.SimpleQueue[GapSet | None] = queue.SimpleQueue()
        self._unproven: queue.SimpleQueue[Sequence[str]] = queue.SimpleQueue()
        self._stopping = threading.Event()

    @property
    def request_count(self) -> int:
        """Requests made since the start. Any thread."""
        return self._backfill.request_count

    @property
    def counts(self) -> dict[str, RequestCounts]:
        """Requests since the start by purpose: backfill, newest_ids. Any thread."""
        backfill = self._backfill
        newest_ids = RequestCounts(backfill.newest_ids_count, backfill.newest_ids_failed_count)
        return {
            "backfill": RequestCounts(
                backfill.request_count - newest_ids.made, backfill.failed_count - newest_ids.failed
            ),
            "newest_ids": newest_ids,
        }

    def update(self, gaps: GapSet) -> None:
        """Say what is missing of a symbol now. Any thread."""
        self._gaps.put(gaps)

    @property
    def proof_error(self) -> str | None:
        """Why the newest trades are not known; None: they are. Any thread."""
        return self._backfill.proof_error

    def prove(self, symbols: Sequence[str]) -> None:
        """Have the exchange asked for the newest trades of *symbols*. Any thread."""
        self._unproven.put(symbols)

    def stop(self) -> None:
        """End after the request that is under way. Any thread."""
        self._stopping.set()
        self._gaps.put(None)

    def run(self) -> None:
        """Ask, one request at a time, until stopped."""
        while not self._stopping.is_set():
            self.beat()
            self.take_updates(self.step())

    def step(self) -> int:
        """Make one request, if one is due; return how long to wait, milliseconds. Its thread."""
        return self._backfill.step()

    def take_updates(self, wait_ms: int = 0) -> None:
        """Take over what has come, waiting for up to *wait_ms* for something. Its thread."""
        try:
            gaps = self._gaps.get(timeout=min(wait_ms, POLL_EVERY_MS) / 1000)
            while gaps is not None:
                self._backfill.update(gaps)
                gaps = self._gaps.get_nowait()
        except queue.Empty:
            pass
        while not self._unproven.empty():
            self._backfill.prove(self._unproven.get())

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be asked, and no update to be taken over. Its thread."""
        return self._gaps.empty() and self._unproven.empty() and self._backfill.is_idle
