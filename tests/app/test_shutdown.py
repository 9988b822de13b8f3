"""A signal is a reason to stop, and which of them mean haste."""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from bintrades.app import shutdown
from bintrades.app.shutdown import STOP_SIGNALS, StopReasons

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """Put the handlers of all stop signals back."""
    signals = (*STOP_SIGNALS, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in signals}
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


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Return what opens the process's terminal, or closes it."""

    def set_terminal(is_there: bool) -> None:
        monkeypatch.setattr(shutdown, "_TERMINAL", "/dev/null" if is_there else "/dev/nothing")

    set_terminal(False)
    return set_terminal


@pytest.mark.parametrize("is_there", [False, True])
def test_sighup_has_the_file_read_again_and_ends_nothing(
    terminal: Callable[[bool], None], is_there: bool
) -> None:
    terminal(is_there)
    reasons, calls = StopReasons(), []
    reasons.on_reload(lambda: calls.append("read"))

    signal.raise_signal(signal.SIGHUP)
    signal.raise_signal(signal.SIGHUP)

    assert not reasons.wait(0)
    assert not reasons.wait(0)
    assert calls == ["read"] * 2


def test_a_sighup_before_anybody_can_read_the_file_is_kept(
    terminal: Callable[[bool], None],
) -> None:
    terminal(False)
    reasons, calls = StopReasons(), []
    signal.raise_signal(signal.SIGHUP)
    assert not reasons.wait(0)

    reasons.on_reload(lambda: calls.append("read"))

    assert calls == ["read"]


def test_a_terminal_that_closes_is_a_reason_and_hurries_nothing(
    terminal: Callable[[bool], None],
) -> None:
    terminal(True)
    reasons, calls = StopReasons(), []
    reasons.on_reload(lambda: calls.append("read"))
    terminal(False)

    signal.raise_signal(signal.SIGHUP)
    signal.raise_signal(signal.SIGHUP)

    assert [reasons.wait(0) for _ in range(3)] == [True, False, False]
    assert calls == []


@pytest.mark.parametrize("first", STOP_SIGNALS)
def test_a_sighup_during_the_end_hurries_nothing(
    terminal: Callable[[bool], None], first: signal.Signals
) -> None:
    terminal(True)
    reasons = StopReasons()
    terminal(False)

    signal.raise_signal(first)
    signal.raise_signal(signal.SIGHUP)

    assert [reasons.wait(0) for _ in range(2)] == [True, False]


def test_under_nohup_a_terminal_that_closes_is_no_reason(
    terminal: Callable[[bool], None],
) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    terminal(True)
    reasons = StopReasons()
    terminal(False)

    signal.raise_signal(signal.SIGHUP)

    assert not reasons.wait(0)
