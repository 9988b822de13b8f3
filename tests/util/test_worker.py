"""A worker begins, ends, and is never lost without a word."""

from __future__ import annotations

import logging
import queue
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from bintrades.util.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable


class Runner(Worker):
    """Calls *work* with an event that stop() sets."""

    def __init__(
        self, work: Callable[[threading.Event], object], on_failure: Callable[[str], None]
    ) -> None:
        super().__init__("runner", on_failure)
        self.stopping = threading.Event()
        self._work = work

    def run(self) -> None:
        self._work(self.stopping)

    def stop(self) -> None:
        self.stopping.set()


def unexpected(failure: str) -> None:
    pytest.fail(failure)


def test_it_runs_on_a_daemon_thread_of_its_name_until_it_is_stopped() -> None:
    threads: queue.SimpleQueue[threading.Thread] = queue.SimpleQueue()

    def work(stopping: threading.Event) -> None:
        threads.put(threading.current_thread())
        stopping.wait()

    runner = Runner(work, unexpected)
    assert not runner.is_alive
    runner.start()
    thread = threads.get(timeout=10)

    assert (thread.name, thread.daemon) == ("runner", True)
    assert runner.is_alive
    assert not runner.join(0.01)
    runner.stop()
    runner.stop()
    assert runner.join(10)
    assert not runner.is_alive


@pytest.mark.parametrize(
    "work",
    [lambda _: 1 / 0, lambda _: sys.exit(0), lambda _: (_ for _ in ()).throw(KeyboardInterrupt)],
)
def test_whatever_ends_it_is_logged_with_its_trace_and_reported(
    work: Callable[[threading.Event], object], caplog: pytest.LogCaptureFixture
) -> None:
    failures: list[str] = []
    runner = Runner(work, failures.append)

    with caplog.at_level(logging.ERROR):
        runner.start()
        assert runner.join(10)

    assert failures == ["runner failed"]
    (record,) = caplog.records
    assert record.exc_info


class Broken(logging.Handler):
    """Raises at every line."""

    def emit(self, _record: logging.LogRecord) -> None:
        raise OSError("no log")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_ends_it_is_reported_even_if_it_cannot_be_logged() -> None:
    failures: list[str] = []
    runner = Runner(lambda _: 1 / 0, failures.append)
    log = logging.getLogger("bintrades.util.worker")
    broken = Broken()

    log.addHandler(broken)
    try:
        runner.start()
        assert runner.join(10)
    finally:
        log.removeHandler(broken)

    assert failures == ["runner failed"]


def test_an_orderly_end_is_no_failure() -> None:
    runner = Runner(lambda _: None, unexpected)
    runner.start()

    assert runner.join(10)
