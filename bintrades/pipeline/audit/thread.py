"""The audit thread: has the Audit compare bars with klines, beside everything else."""

from __future__ import annotations

import logging
import queue
import time
from typing import TYPE_CHECKING

from bintrades.util.worker import Worker

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from bintrades.pipeline.audit.audit import Audit, AuditSnapshot

log = logging.getLogger(__name__)

_REST_OF_WORK = 4  # rests four times as long as it has computed: a fifth of a core at the most


class AuditThread(Worker):
    """Compares, one page at a time, until stopped. Nothing waits for it; it ends nothing.

    Whatever it raises is logged, and it goes on later.
    """

    def __init__(self, audit: Audit, stopping: threading.Event) -> None:
        super().__init__("audit", lambda _: None)
        self._audit = audit
        self._stopping = stopping
        self._changes: queue.SimpleQueue[tuple[Sequence[str], Sequence[str]]] = queue.SimpleQueue()

    @property
    def snapshot(self) -> AuditSnapshot:
        """What it has done. Any thread."""
        return self._audit.snapshot

    def change_symbols(self, begun: Sequence[str], ended: Sequence[str]) -> None:
        """Compare symbols that have *begun* as well, and the last bars of those that have *ended*.

        Any thread.
        """
        self._changes.put((begun, ended))

    def stop(self) -> None:
        """End at once, or after the request that is under way. Any thread."""
        self._stopping.set()

    def run(self) -> None:
        """Compare until stopped."""
        while not self._stopping.is_set():
            self.beat()
            before = time.thread_time()
            wait_ms = self._step()
            worked_s = time.thread_time() - before
            self._stopping.wait(max(wait_ms / 1000, _REST_OF_WORK * worked_s))

    def _step(self) -> int:
        try:
            while not self._changes.empty():
                begun, ended = self._changes.get()
                self._audit.add(begun)
                self._audit.end(ended)
            return self._audit.step()
        except Exception as error:
            log.exception("the audit failed; it goes on later", extra={"event": "audit_crashed"})
            self._audit.fail(repr(error))
            return 0
