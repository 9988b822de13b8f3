"""Periodic jobs, on a clock that cannot jump.

The schedule library goes by naive local time, which summer time, NTP and people set back and forth:
its jobs are here due by the monotonic clock. They may wait for each other, so what may not wait
has a Ticker, a thread of its own.
"""

from __future__ import annotations

import logging
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import schedule

from bintrades.util.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)


class Scheduler(Worker):
    """Runs jobs on its own thread; one that fails is logged and runs again at its next time."""

    def __init__(self, on_failure: Callable[[str], None]) -> None:
        super().__init__("scheduler", on_failure)
        self._jobs = _MonotonicScheduler()
        self._stopping = threading.Event()

    def every(self, seconds: int, job: Callable[[], None]) -> None:
        """Run *job* every so many seconds. Call before start()."""
        self._jobs.every(seconds).seconds.do(_guarded, job)

    def stop(self) -> None:
        """End after the job that is running now. Any thread."""
        self._stopping.set()

    def run(self) -> None:
        """Run due jobs until stopped."""
        while not self._stopping.is_set():
            self.beat()
            self._jobs.run_pending()
            self._stopping.wait(1.0)


class Ticker(Worker):
    """Runs one job again and again on its own thread; one that fails is logged and runs again."""

    def __init__(
        self,
        name: str,
        every_s: float,
        job: Callable[[], None],
        on_failure: Callable[[str], None],
    ) -> None:
        super().__init__(name, on_failure)
        self._every_s = every_s
        self._job = job
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End after the job that is running now. Any thread."""
        self._stopping.set()

    def run(self) -> None:
        """Run the job and rest, until stopped."""
        while not self._stopping.wait(self._every_s):
            self.beat()
            _guarded(self._job)


class _MonotonicScheduler(schedule.Scheduler):
    """Makes jobs that do not look at the local time."""

    def every(self, interval: int = 1) -> schedule.Job:
        return _MonotonicJob(interval, self)


class _MonotonicJob(schedule.Job):
    """A job that is due when its interval has passed, whatever the local clock shows.

    For plain intervals (seconds, minutes, hours): "at" and "until" name local times.
    """

    _due_s = 0.0  # seconds, monotonic

    @property
    def should_run(self) -> bool:
        return time.monotonic() >= self._due_s

    def do(self, job_func: Callable[..., Any], *args: Any, **kwargs: Any) -> schedule.Job:
        super().do(job_func, *args, **kwargs)
        self._set_due()
        return self

    def run(self) -> Any:
        result = super().run()  # type: ignore[no-untyped-call]
        self._set_due()
        return result

    def _set_due(self) -> None:
        interval = timedelta(**{str(self.unit): self.interval})
        self._due_s = time.monotonic() + interval.total_seconds()


def _guarded(job: Callable[[], None]) -> None:
    try:
        job()
    except Exception:
        log.exception(
            "a periodic job failed; it runs again at its next time", extra={"event": "job_failed"}
        )
