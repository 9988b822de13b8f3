"""The audit's thread: it goes on whatever happens, and ends at once."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from bintrades.pipeline.audit.audit import AuditSnapshot
from bintrades.pipeline.audit.thread import AuditThread
from tests.pipeline.audit.stage import MINUTE, AuditStage, market
from tests.strategies import START

if TYPE_CHECKING:
    import pytest

    from bintrades.journal.writer import Journal

WAIT_S = 120.0


class Steps:
    """In the place of an Audit: raises, or waits for long."""

    def __init__(self, *, wait_ms: int = 0, failure: BaseException | None = None) -> None:
        self.count = 0
        self.errors: list[str] = []
        self.snapshot = AuditSnapshot()
        self.has_stepped = threading.Event()
        self._wait_ms = wait_ms
        self._failure = failure

    def step(self) -> int:
        """Count, then raise or wait."""
        self.count += 1
        self.has_stepped.set()
        if self._failure is not None:
            raise self._failure
        return self._wait_ms

    def fail(self, error: str) -> None:
        """Record it."""
        self.errors.append(error)


def started(steps: Steps) -> AuditThread:
    thread = AuditThread(steps, threading.Event())  # type: ignore[arg-type]
    thread.start()
    assert steps.has_stepped.wait(WAIT_S)
    return thread


def test_it_ends_at_once_however_long_it_would_have_waited() -> None:
    thread = started(Steps(wait_ms=3_600_000))
    begun = time.monotonic()

    thread.stop()

    assert thread.join(WAIT_S)
    assert time.monotonic() - begun < WAIT_S / 2


def test_an_error_that_nobody_expected_is_logged_and_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    steps = Steps(failure=ZeroDivisionError("a bug"))
    thread = started(steps)
    while steps.count < 3:
        assert thread.is_alive
        time.sleep(0.001)
    thread.stop()
    assert thread.join(WAIT_S)

    assert steps.errors[0] == "ZeroDivisionError('a bug')"
    assert vars(caplog.records[0])["event"] == "audit_crashed"


def test_it_verifies_what_a_journal_has(journal: Journal) -> None:
    stage = AuditStage(journal, market())
    thread = AuditThread(stage.audit, threading.Event())
    thread.start()
    deadline = time.monotonic() + WAIT_S
    while not stage.verified() and time.monotonic() < deadline:
        time.sleep(0.01)
    thread.stop()

    assert thread.join(WAIT_S)
    assert stage.verified() == [(START, START + 10 * MINUTE)]
    assert thread.snapshot.verified_until == START + 10 * MINUTE
