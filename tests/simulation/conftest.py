"""Prints which fresh seeds a run has tried, also where they passed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

FRESH_SEEDS = "fresh seeds of the simulation"


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Print what the tests have recorded under FRESH_SEEDS."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "call":
                for name, value in report.user_properties:
                    if name == FRESH_SEEDS:
                        terminalreporter.write_line(f"{FRESH_SEEDS}: {value}")
