"""How far a command is, on a terminal and nowhere else."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from bintrades.cli.progress import ProgressBar

if TYPE_CHECKING:
    import pytest


class Terminal(io.StringIO):
    """A stderr that is a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


def test_a_terminal_shows_how_much_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    bar = ProgressBar()

    bar.show(50, 200, "BTCUSDT")
    bar.show(51, 200, "BTCUSDT")  # at once: it is not drawn again

    assert terminal.getvalue() == f"\r\x1b[K[{'#' * 7}{'.' * 23}]  25 %  BTCUSDT"
    bar.clear()
    bar.clear()
    assert terminal.getvalue().endswith("BTCUSDT\r\x1b[K")


def test_more_than_all_and_all_of_nothing_are_all(monkeypatch: pytest.MonkeyPatch) -> None:
    for done, total in ((7, 5), (0, 0)):
        terminal = Terminal()
        monkeypatch.setattr("sys.stderr", terminal)

        ProgressBar().show(done, total, "x")

        assert f"[{'#' * 30}] 100 %" in terminal.getvalue()


def test_what_is_no_terminal_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr("sys.stderr", stderr)
    bar = ProgressBar()

    bar.show(1, 2, "x")
    bar.clear()

    assert stderr.getvalue() == ""


def test_what_is_done_in_no_time_needs_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    now = 1_000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    bar = ProgressBar(after_s=1.0)

    bar.show(1, 2, "x")
    now += 0.9
    bar.show(1, 2, "x")
    assert terminal.getvalue() == ""
    now += 0.2
    bar.show(1, 2, "x")
    assert "50 %  x" in terminal.getvalue()
