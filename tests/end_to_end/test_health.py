"""Whether `bintrades status --check` tells a collector that is well from one that is not."""

from __future__ import annotations

from contextlib import contextmanager
from signal import SIGCONT, SIGSTOP
from typing import TYPE_CHECKING, Any

from bintrades.app.status import read_status
from tests.end_to_end.collector import Collector
from tests.end_to_end.machine.sitecustomize import CLOCK, SPEED
from tests.end_to_end.stage import machine

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from bintrades.testing.exchange_simulator import ExchangeSimulator
    from tests.end_to_end.collector import Sections

START_MS = 1_720_000_000_000


@contextmanager
def running(
    folder: Path, exchange: ExchangeSimulator, environ: Mapping[str, str] | None = None
) -> Iterator[Collector]:
    """Run a collector that is subscribed."""
    with Collector(folder, exchange, environ=machine(environ)) as collector:
        collector.start()
        exchange.wait_for_subscription("btcusdt@trade")
        yield collector


def check(collector: Collector) -> tuple[int, str]:
    """Return exit status and line of `bintrades status --check`."""
    process = collector.command("status", "--check")
    assert process.stderr == ""
    (line,) = process.stdout.splitlines()
    return process.returncode, line


def wait_for(collector: Collector, status: int, line: str) -> None:
    """Wait until the check ends with *status* and a line that begins so."""
    seen: list[tuple[int, str]] = []

    def is_met() -> bool:
        seen.append(check(collector))
        return seen[-1][0] == status and seen[-1][1].startswith(line)

    collector.wait_until(is_met, lambda: f"the check said {seen[-1]}")


def test_one_that_runs_is_well_and_one_that_has_stopped_is_not(
    exchange: ExchangeSimulator, tmp_path: Path
) -> None:
    with running(tmp_path, exchange) as collector:
        wait_for(collector, 0, "running: well")
        assert collector.stop() == 0

        assert check(collector) == (1, "stopped: it does not run")
        assert "collector   stopped" in collector.command("status").stdout
        assert collector.status()["state"] == "stopping"  # its last word, of which nothing lacks


def test_a_frozen_process_does_not_respond_until_it_goes_on(
    exchange: ExchangeSimulator, tmp_path: Path
) -> None:
    with running(tmp_path, exchange, {SPEED: "4"}) as collector:
        wait_for(collector, 0, "running: well")

        collector.send_signal(SIGSTOP)
        wait_for(collector, 1, "not responding: no word for ")
        assert "collector   not responding since " in collector.command("status").stdout
        collector.send_signal(SIGCONT)

        wait_for(collector, 0, "running: well")
        assert collector.stop() == 0


def test_the_figures_of_a_killed_collector_are_never_those_of_the_next(
    exchange: ExchangeSimulator, tmp_path: Path
) -> None:
    with running(tmp_path, exchange) as collector:
        exchange.publish("BTCUSDT", "60000.1", "0.5", time_ms=START_MS)
        collector.wait_until(
            lambda: collector.status().get("trades") == 1, lambda: f"{collector.status()}"
        )
        killed = collector.status()["pid"]
        collector.kill()
        collector.start()
        seen: list[dict[str, Any]] = []

        def is_running() -> bool:
            seen.append(read_status(collector.journal.path, []))
            return bool(seen[-1]["state"] == "running")

        collector.wait_until(is_running, lambda: f"{seen[-1]}")
        assert collector.stop() == 0

    for status in seen:
        figures = status["collector"]
        is_old = figures is not None and figures["pid"] == killed
        assert not (is_old and status["is_running"]), status


def test_a_local_clock_that_is_wrong_makes_nobody_look_dead(
    exchange: ExchangeSimulator, tmp_path: Path
) -> None:
    clock = tmp_path / "clock"
    clock.write_text("0")
    with running(tmp_path, exchange, {CLOCK: str(clock)}) as collector:
        wait_for(collector, 0, "running: well")
        for days in (4, -4):
            clock.write_text(str(days * 86_400))
            assert check(collector) == (0, "running: well")

        assert collector.stop() == 0


def test_one_that_cannot_have_the_list_of_symbols_is_starting(
    exchange: ExchangeSimulator, tmp_path: Path
) -> None:
    without_rest: Sections = {
        "symbols": {"include": "*"},
        "binance": {"rest_url": "http://127.0.0.1:9"},
    }
    with Collector(tmp_path, exchange, without_rest) as collector:
        collector.start()
        collector.wait_for_log("the list of symbols cannot be had")

        assert check(collector) == (0, "starting: well")
        assert "collector   starting (process " in collector.command("status").stdout
        assert collector.stop() == 0
