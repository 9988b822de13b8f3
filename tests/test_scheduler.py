"""Periodic jobs run on a thread of their own, and one that fails runs again."""

from __future__ import annotations

import queue
import threading

import pytest

from bintrades.scheduler import Scheduler


def unexpected(failure: str) -> None:
    pytest.fail(failure)


def test_a_job_runs_again_and_again_even_though_it_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    runs: queue.SimpleQueue[str] = queue.SimpleQueue()
    scheduler = Scheduler(unexpected)

    def job() -> None:
        runs.put(threading.current_thread().name)
        raise OSError("not now")

    scheduler.every(1, job)
    scheduler.start()
    try:
        names = [runs.get(timeout=10), runs.get(timeout=10)]
    finally:
        scheduler.stop()

    assert names == ["scheduler"] * 2
    assert scheduler.join(10)
    assert "a periodic job failed" in caplog.messages[0]


def test_a_job_for_the_start_runs_once_and_its_failure_keeps_no_other_from_running() -> None:
    runs: queue.SimpleQueue[str] = queue.SimpleQueue()
    scheduler = Scheduler(unexpected)
    scheduler.once(lambda: runs.put(str(1 / 0)))
    scheduler.once(lambda: runs.put("second"))
    scheduler.every(1, lambda: runs.put("periodic"))

    scheduler.start()
    try:
        assert [runs.get(timeout=10) for _ in range(3)] == ["second", "periodic", "periodic"]
    finally:
        scheduler.stop()
    assert scheduler.join(10)


def test_it_stops_without_waiting_for_the_next_time() -> None:
    scheduler = Scheduler(unexpected)
    scheduler.every(3_600, lambda: None)
    scheduler.start()

    scheduler.stop()

    assert scheduler.join(5)
