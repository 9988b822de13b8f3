"""What is periodic: one thread, and the schedule library's sentences."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import schedule

from bintrades.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)


class Scheduler(Worker):
    """Runs jobs on its own thread; one that fails is logged and runs again at its next time."""

    def __init__(self, on_failure: Callable[[str], None]) -> None:
        super().__init__("scheduler", on_failure)
        self._jobs = schedule.Scheduler()
        self._at_start: list[Callable[[], None]] = []
        self._stopping = threading.Event()

    def every(self, seconds: int, job: Callable[[], None]) -> None:
        """Run *job* every so many seconds. Call before start()."""
        self._jobs.every(seconds).seconds.do(_guarded, job)

    def once(self, job: Callable[[], None]) -> None:
        """Run *job* once, when the thread starts. Call before start()."""
        self._at_start.append(job)

    def stop(self) -> None:
        """End after the job that is running now. Any thread."""
        self._stopping.set()

    def run(self) -> None:
        """Run what is due, until stopped."""
        for job in self._at_start:
            _guarded(job)
        while not self._stopping.is_set():
            self._jobs.run_pending()
            self._stopping.wait(1.0)


def _guarded(job: Callable[[], None]) -> None:
    try:
        job()
    except Exception:
        log.exception("a periodic job failed; it runs again at its next time")
