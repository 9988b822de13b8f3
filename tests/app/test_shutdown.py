"""A signal is a reason to stop, and which of them mean haste."""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from bintrades.app.shutdown import STOP_SIGNALS, StopReasons

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """Put the handlers of all stop signals back."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_each_stop_signal_is_a_reason(number: signal.Signals) -> None:
    reasons = StopReasons()

    signal.raise_signal(number)

    assert reasons.wait(10)
    assert not reasons.wait(0)


def test_a_signal_that_another_thread_gets_wakes_the_main_thread_soon() -> None:
    reasons = StopReasons()

    def send() -> None:
        time.sleep(0.2)  # by then the main thread waits, and nothing interrupts it
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    other = threading.Thread(target=send)
    other.start()
    began = time.monotonic()
    try:
        assert reasons.wait(60)
        assert time.monotonic() - began < 30
    finally:
        other.join()


def test_a_second_sigterm_is_another_reason() -> None:
    reasons = StopReasons()

    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)

    assert [reasons.wait(0) for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("first", STOP_SIGNALS)
def test_a_terminal_that_closes_hurries_nothing(first: signal.Signals) -> None:
    reasons = StopReasons()

    signal.raise_signal(first)
    signal.raise_signal(signal.SIGHUP)

    assert [reasons.wait(0) for _ in range(2)] == [True, False]


def test_under_nohup_a_terminal_that_closes_is_no_reason() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    reasons = StopReasons()

    signal.raise_signal(signal.SIGHUP)

    assert not reasons.wait(0)
