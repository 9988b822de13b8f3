"""Periodic jobs run on a thread of their own, and one that fails runs again."""

from __future__ import annotations

import datetime
import queue
import threading
from typing import Any

import pytest

from bintrades.app.scheduler import Scheduler, Ticker


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
        names = [runs.get(timeout=60), runs.get(timeout=10)]
    finally:
        scheduler.stop()

    assert names == ["scheduler"] * 2
    assert scheduler.join(10)
    assert "a periodic job failed" in caplog.messages[0]


def test_it_stops_without_waiting_for_the_next_time() -> None:
    scheduler = Scheduler(unexpected)
    scheduler.every(3_600, lambda: None)
    scheduler.start()

    scheduler.stop()

    assert scheduler.join(5)


class LocalTime(datetime.datetime):
    """The local time of a machine whose clock is set."""

    ahead = datetime.timedelta()

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        """Return what the clock shows."""
        return super().now(tz) + cls.ahead


@pytest.mark.parametrize("hours", [-1, -24 * 365, 48])
def test_a_local_clock_that_is_set_changes_nothing(
    hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datetime, "datetime", LocalTime)
    monkeypatch.setattr(LocalTime, "ahead", datetime.timedelta())
    runs: queue.SimpleQueue[str] = queue.SimpleQueue()
    scheduler = Scheduler(unexpected)
    scheduler.every(1, lambda: runs.put("often"))
    scheduler.every(3_600, lambda: runs.put("rarely"))
    scheduler.start()
    try:
        assert runs.get(timeout=60) == "often"
        LocalTime.ahead = datetime.timedelta(hours=hours)
        assert [runs.get(timeout=60) for _ in range(3)] == ["often"] * 3
    finally:
        scheduler.stop()
    assert scheduler.join(10)


def test_a_ticker_goes_on_though_its_job_fails_and_stops_at_once() -> None:
    runs: queue.SimpleQueue[str] = queue.SimpleQueue()

    def job() -> None:
        runs.put(threading.current_thread().name)
        raise OSError("not now")

    ticker = Ticker("rotation", 0.01, job, unexpected)
    ticker.start()
    assert [runs.get(timeout=60) for _ in range(3)] == ["rotation"] * 3
    ticker.stop()
    assert ticker.join(10)

    rare = Ticker("rare", 3_600, job, unexpected)
    rare.start()
    rare.stop()
    assert rare.join(5)
