"""A store whose plugin does the worst that it can: only that store is late, and loses nothing."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest

from bintrades.stores.built_in import shipped_plugins
from tests.end_to_end import unruly
from tests.end_to_end.collector import Collector
from tests.end_to_end.store_kinds import PLACES, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bintrades.testing.exchange_simulator import ExchangeSimulator
    from tests.end_to_end.collector import Sections
    from tests.end_to_end.store_kinds import Stored

START_MS = 1_720_000_000_000
INTERVALS = 5
LATE = {
    "raises": "OSError: the disk is full",
    "raises_what_nobody_catches": "OddError('odd')",
    "raises_what_has_no_text": "SilentError, which has no text",
    "exits": "SystemExit(3)",
    "interrupts": "KeyboardInterrupt()",
    "hangs": "",
}
"""Faults with which a store takes nothing, and what the log and the status say of it."""


def expected(intervals: int = INTERVALS) -> Stored:
    """Return what stores are to have once all is published."""
    return {("BTCUSDT", START_MS + 10_000 * number): 1 for number in range(intervals)}


def publish(exchange: ExchangeSimulator, since: int = 0, until: int = INTERVALS) -> None:
    for number in range(since, until):
        time_ms = START_MS + 10_000 * number
        exchange.publish("BTCUSDT", "60000.1", "0.5", time_ms=time_ms)


@pytest.fixture(params=PLACES)
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kind]:
    """Run each kind of store that there is."""
    with Kind(request.param, tmp_path / "engine") as kind:
        yield kind


def unruly_stores(kind: Kind) -> Sections:
    """Return the sections of a store of each fault, and of one that is good."""
    sections = {
        f"store:{fault}": {"plugin": "unruly", "fault": fault, **kind.options(fault)}
        for fault in unruly.FAULTS
    }
    sections["store:good"] = {"plugin": kind.plugin, **kind.options("good")}
    enabled = ", ".join([*unruly.FAULTS, "good"])
    return {"stores": {"enabled": enabled, "shutdown_timeout": "2s"}, **sections}


def test_every_store_that_comes_with_us_is_among_them() -> None:
    assert PLACES.keys() == {"mongodb", *shipped_plugins()}


def test_whatever_a_store_does_only_that_store_is_late_and_has_all_bars_in_the_end(
    kind: Kind, exchange: ExchangeSimulator, tmp_path: Path
) -> None:
    environ = {"KIND": kind.plugin, "UNRULY_FOLDER": str(tmp_path)}
    with Collector(tmp_path, exchange, unruly_stores(kind), environ=environ) as collector:
        shutil.copy(unruly.__file__, collector.plugins)
        try:
            be_unruly(collector, exchange, kind)
            get_well(collector, kind, tmp_path)
        finally:
            (tmp_path / "end").touch()


def be_unruly(collector: Collector, exchange: ExchangeSimulator, kind: Kind) -> None:
    """Have all of it happen while bars close, and stop in the middle of that."""
    collector.start()
    exchange.wait_for_subscription("btcusdt@trade")
    publish(exchange)
    collector.wait_for_trades(INTERVALS)
    wait_until_stored(collector, kind, "good", expected(INTERVALS - 1))
    for fault, error in LATE.items():
        collector.wait_until(
            lambda error=error: error in collector.log,  # type: ignore[misc]
            lambda fault=fault: f"the log says nothing of {fault}",  # type: ignore[misc]
        )
    collector.wait_until(
        lambda: not lines_lacking(collector), lambda: f"status lacks {lines_lacking(collector)}"
    )

    assert collector.stop() == 0

    assert kind.stored("good") == expected()
    left_behind = {
        event["store"] for event in collector.events if "store_left_behind" in event["event"]
    }
    assert left_behind >= set(LATE)
    assert "good" not in left_behind
    for fault in LATE:
        assert kind.stored(fault) == {}
        assert collector.journal.store(fault).waiting_bars == INTERVALS
    assert kind.stored("returns_early") == {}
    assert "Traceback" not in collector.log


def lines_lacking(collector: Collector) -> list[str]:
    """Return what the status is to say, of late stores and of the good one, and does not."""
    status = collector.command("status").stdout
    # Of the last bar the exchange's clock may have said by then that it is closed.
    late = rf"({INTERVALS - 1}|{INTERVALS}) bars wait, 0 refused; the oldest has waited \d+ s"
    patterns = [
        r"^store +good: 0 bars wait, 0 refused$",
        *(rf"^store +{fault}: {late}$" for fault in LATE),
        *(
            rf"^trouble +store {fault}: .*{re.escape(LATE[fault])}$"
            for fault in LATE
            if LATE[fault]
        ),
    ]
    return [each for each in patterns if not re.search(each, status, re.MULTILINE)]


def get_well(collector: Collector, kind: Kind, folder: Path) -> None:
    """Start once more, with plugins that do what they promise; the process left behind is alive."""
    (folder / "well").touch()
    assert collector.command("resend", "returns_early", "--since", "2020-01-01").returncode == 0
    collector.start()
    for fault in unruly.FAULTS:
        wait_until_stored(collector, kind, fault, expected())
    assert collector.stop() == 0

    for fault in unruly.FAULTS:
        assert kind.stored(fault) == expected()


def wait_until_stored(collector: Collector, kind: Kind, store: str, bars: Stored) -> None:
    """Wait until a store has at least *bars*."""
    collector.wait_until(
        lambda: kind.has(bars, store, collector.journal), lambda: f"{store} lacks bars of {bars}"
    )


def test_a_store_that_is_enabled_later_gets_all_that_the_journal_keeps(
    exchange: ExchangeSimulator, tmp_path: Path, kind: Kind
) -> None:
    stores: Sections = {
        "stores": {"enabled": "first, never", "shutdown_timeout": "1s"},
        "store:first": {"plugin": kind.plugin, **kind.options("first")},
        "store:never": {"plugin": "unruly", "fault": "raises", **kind.options("never")},
        "store:later": {"plugin": kind.plugin, **kind.options("later")},
    }
    environ = {"KIND": kind.plugin, "UNRULY_FOLDER": str(tmp_path)}
    with Collector(tmp_path, exchange, stores, environ=environ) as collector:
        shutil.copy(unruly.__file__, collector.plugins)
        collector.start()
        exchange.wait_for_subscription("btcusdt@trade")
        publish(exchange)
        collector.wait_for_trades(INTERVALS)
        wait_until_stored(collector, kind, "first", expected(INTERVALS - 1))
        assert collector.stop() == 0

        collector.configure({"stores": {"enabled": "first, later"}})
        collector.start()
        wait_until_stored(collector, kind, "later", expected())
        assert collector.stop() == 0

    assert kind.stored("first") == kind.stored("later") == expected()
