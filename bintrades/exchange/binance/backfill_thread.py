"""The repairer thread: has the Backfill ask for what is missing."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

from bintrades.exchange.binance.backfill import LOOK_EVERY_MS
from bintrades.util.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bintrades.exchange.binance.backfill import Backfill
    from bintrades.model import Gap


class BackfillThread(Worker):
    """Asks for what is missing, one request at a time, until stopped."""

    def __init__(self, repairing: Backfill, *, on_failure: Callable[[str], None]) -> None:
        super().__init__("repairer", on_failure)
        self._repairing = repairing
        self._updates: queue.SimpleQueue[tuple[str, tuple[Gap, ...]] | None] = queue.SimpleQueue()
        self._quiet: queue.SimpleQueue[Sequence[str]] = queue.SimpleQueue()
        self._stopping = threading.Event()

    @property
    def request_count(self) -> int:
        """Requests made since the start. Any thread."""
        return self._repairing.request_count

    def tell(self, symbol: str, gaps: Iterable[Gap]) -> None:
        """Say what is missing of *symbol* now. Any thread."""
        self._updates.put((symbol, tuple(gaps)))

    def check_idle(self, symbols: Sequence[str]) -> None:
        """Have the exchange asked whether *symbols* are quiet or their streams dead. Any thread."""
        self._quiet.put(symbols)

    def stop(self) -> None:
        """End after the request that is under way. Any thread."""
        self._stopping.set()
        self._updates.put(None)

    def run(self) -> None:
        """Ask, one request at a time, until stopped."""
        while not self._stopping.is_set():
            self.beat()
            self._take_updates(self._repairing.step())

    def _take_updates(self, wait_ms: int) -> None:
        """Take over what was told, waiting for something to be told for up to *wait_ms*."""
        try:
            update = self._updates.get(timeout=min(wait_ms, LOOK_EVERY_MS) / 1000)
            while update is not None:
                self._repairing.tell(*update)
                update = self._updates.get_nowait()
        except queue.Empty:
            pass
        while not self._quiet.empty():
            self._repairing.check_idle(self._quiet.get())
