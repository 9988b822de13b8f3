"""What a misbehaving plugin does: no harm to the others, and a clear word of its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.end_to_end.collector import REPOSITORY, Collector, to_mongodb
from tests.end_to_end.market import documents, stored_trade_count

if TYPE_CHECKING:
    from pathlib import Path

    from pymongo.database import Database

    from bintrades.testing.exchange_simulator import ExchangeSimulator
    from tests.end_to_end.collector import Sections

START_MS = 1_720_000_000_000
PLUGIN = """\
import os, sys, threading, time
from bintrades import ConfigError, RejectedBars, hookimpl

@hookimpl
def open_store(options):
    {open_store}

@hookimpl
def store_bars(bars):
    {store_bars}

@hookimpl
def close_store():
    {close_store}
"""
FLAKY = """\
from bintrades import hookimpl

@hookimpl
def store_bars(bars):
    with open({output!r}, "a") as file:
        is_first = file.tell() == 0
        file.writelines(f"{{bar.open_time_ms}}\\n" for bar in bars)
    if is_first:
        raise OSError("after the fact")
"""
WHERE_IT_IS_IMPORTED = """
with open("imported", "a") as file:
    file.write(f"{os.getcwd()}\\n")
"""
HANG = "threading.Event().wait()"


def plugin(open_store: str = "pass", store_bars: str = "pass", close_store: str = "pass") -> str:
    return PLUGIN.format(open_store=open_store, store_bars=store_bars, close_store=close_store)


BAD_PLUGINS = {
    "raises_when_opened": (plugin(open_store="1 / 0"), "division by zero"),
    "hangs_when_opened": (plugin(open_store=HANG), ""),
    "exits_when_opened": (plugin(open_store="sys.exit(3)"), "SystemExit(3)"),
    "raises_when_it_stores": (plugin(store_bars="raise OSError('disk full')"), "disk full"),
    "hangs_when_it_stores": (plugin(store_bars=HANG), ""),
    "exits_when_it_stores": (plugin(store_bars="sys.exit(4)"), "SystemExit(4)"),
    "interrupts_when_it_stores": (
        plugin(store_bars="raise KeyboardInterrupt"),
        "KeyboardInterrupt()",
    ),
    "raises_when_closed": (plugin(close_store="raise ValueError('too late')"), "too late"),
    "refuses_every_bar": (
        plugin(store_bars="raise RejectedBars([(bar, 'not today') for bar in bars])"),
        "not today",
    ),
    "empties_the_list_that_it_is_given": (plugin(store_bars="bars.clear()"), ""),
}
"""By name: the module, and what the log must say of it, if it can say anything."""


def test_a_secret_that_a_plugin_tells_is_neither_in_the_log_nor_in_the_journal(
    exchange: ExchangeSimulator, tmp_path: Path
) -> None:
    tells = plugin(
        open_store="print(options['url'][:9], file=sys.stderr, flush=True)",
        store_bars="raise RejectedBars([(bar, 'no ' + os.environ['DB_URL']) for bar in bars])",
    )
    fails = plugin(
        store_bars="import logging; logging.getLogger('x').error('to %s', os.environ['DB_URL']);"
        " raise OSError(os.environ['DB_URL'])"
    )
    stores: Sections = {
        "stores": {"enabled": "tells, fails", "shutdown_timeout": "1s"},
        "store:tells": {"url": "${DB_URL}"},
        "store:fails": {"url": "postgres://me:h!dden@db/bars"},
    }
    environ = {"DB_URL": "postgres://me:h!dden@db/bars"}
    with Collector(tmp_path, exchange, stores, environ=environ) as collector:
        (collector.plugins / "tells.py").write_text(tells)
        (collector.plugins / "fails.py").write_text(fails)
        collector.start()
        exchange.wait_for_subscription("btcusdt@trade")
        for second in (0, 20):
            exchange.publish("BTCUSDT", "60000.1", "0.5", time_ms=START_MS + second * 1_000)
        collector.wait_for_log("store tells refused")
        collector.wait_for_log("store fails fails")
        collector.wait_until(
            lambda: any(store["error"] for store in collector.status()["stores"]),
            lambda: f"{collector.status()}",
        )
        shown = collector.command("status").stdout + collector.command("status", "--json").stdout
        assert collector.stop() == 0
        kept = [file.read_bytes() for file in tmp_path.glob("bintrades.journal*")]

    assert "no ***" in shown
    assert "OSError: ***" in shown
    assert "postgres:" in collector.log  # what a plugin prints by itself is its own affair
    assert b"no ***" in b"".join(kept)
    for text in (shown, collector.log, str(kept)):
        assert "h!dden" not in text
        assert "me:" not in text


TELLS_ITS_HANDLE = """\
import logging
from bintrades import Option, RejectedBars, hookimpl, option_types

class Store:
    OPTIONS = (
        Option("handle", "", "opens the door", option_types.text(required=True), is_secret=True),
        Option("fails", "no", "whether it fails", option_types.boolean()),
    )

    @hookimpl
    def open_store(self, options):
        self.options = options
        logging.getLogger("x").error("open with %s", options["handle"])

    @hookimpl
    def store_bars(self, bars):
        if self.options["fails"] == "yes":
            raise OSError(f"not with {self.options['handle']!r}")
        raise RejectedBars([(bar, f"no {self.options['handle']}") for bar in bars])
"""


def test_what_is_declared_secret_is_hidden_wherever_it_was_written_down(
    exchange: ExchangeSimulator, tmp_path: Path
) -> None:
    """In the file itself, under a name that speaks of no secret; of two stores of one kind."""
    stores: Sections = {
        "stores": {"enabled": "first, second", "shutdown_timeout": "1s"},
        "store:first": {"plugin": "door", "handle": "h!dden1", "fails": "yes"},
        "store:second": {"plugin": "door", "handle": "h!dden2"},
    }
    with Collector(tmp_path, exchange, stores) as collector:
        (collector.plugins / "door.py").write_text(TELLS_ITS_HANDLE)
        checked = collector.command("check")
        collector.start()
        exchange.wait_for_subscription("btcusdt@trade")
        for second in (0, 20):
            exchange.publish("BTCUSDT", "60000.1", "0.5", time_ms=START_MS + second * 1_000)
        collector.wait_for_log("store second refused")
        collector.wait_for_log("store first fails")
        collector.wait_until(
            lambda: any(store["error"] for store in collector.status()["stores"]),
            lambda: f"{collector.status()}",
        )
        shown = collector.command("status").stdout + collector.command("status", "--json").stdout
        assert collector.stop() == 0
        kept = b"".join(file.read_bytes() for file in tmp_path.glob("bintrades.journal*"))

    assert checked.returncode == 0, checked.stderr
    assert "[store:first] handle = ***, fails = yes" in checked.stdout
    assert "[store:second] handle = ***, fails = no" in checked.stdout
    assert collector.log.count('"open with ***"') >= 2
    assert "not with '***'" in shown
    assert b"no ***" in kept
    assert "h!dden" not in f"{checked.stdout}{checked.stderr}{shown}{collector.log}{kept!r}"


def test_plugins_that_misbehave_keep_no_bar_from_mongodb_and_the_process_alive(
    exchange: ExchangeSimulator,
    mongodb_database: Database[dict[str, Any]],
    mongodb_uri: str,
    tmp_path: Path,
) -> None:
    names = ", ".join([*BAD_PLUGINS, "mongodb"])
    enabled: Sections = {"stores": {"enabled": names, "shutdown_timeout": "400ms"}}
    store = to_mongodb(mongodb_uri, mongodb_database.name)
    with Collector(tmp_path, exchange, store, enabled) as collector:
        for name, (text, _) in BAD_PLUGINS.items():
            (collector.plugins / f"{name}.py").write_text(text)
        collector.start()
        exchange.wait_for_subscription("btcusdt@trade")
        for index in range(5):
            exchange.publish("BTCUSDT", "60000", "1", time_ms=START_MS + 10_500 * index)
        collector.wait_until(
            lambda: stored_trade_count(mongodb_database) == 4,
            lambda: f"MongoDB has {documents(mongodb_database)}",
        )
        assert collector.stop() == 0

        assert stored_trade_count(mongodb_database) == 5
        for name, (_, complaint) in BAD_PLUGINS.items():
            assert complaint in said_about(name, collector)
        assert "Traceback" not in collector.log
        states = collector.journal
        assert states.store("refuses_every_bar").rejected_bars > 0
        assert states.store("raises_when_it_stores").waiting_bars == 5


def said_about(name: str, collector: Collector) -> str:
    """Return what the log says of a plugin."""
    events = (event for event in collector.events if f"store {name} " in event["message"])
    return " ".join(str(event.get("error", "")) for event in events)


def test_a_store_that_raises_gets_every_bar_when_it_is_well_again(
    exchange: ExchangeSimulator, tmp_path: Path
) -> None:
    output = tmp_path / "stored"
    flaky = FLAKY.format(output=str(output))
    enabled: Sections = {"stores": {"enabled": "flaky"}}
    with Collector(tmp_path, exchange, enabled) as collector:
        (collector.plugins / "flaky.py").write_text(flaky)
        collector.start()
        exchange.wait_for_subscription("btcusdt@trade")
        for index in range(5):
            exchange.publish("BTCUSDT", "60000", "1", time_ms=START_MS + 10_000 * index)
        collector.wait_for_log("answers again")
        assert collector.stop() == 0

    stored = output.read_text().split()
    assert set(stored) == {str(START_MS + 10_000 * index) for index in range(5)}
    assert len(stored) > 5


def test_relative_paths_in_the_section_of_a_store_start_at_the_configurations_folder(
    exchange: ExchangeSimulator, tmp_path: Path
) -> None:
    """As all others do, wherever the process is started: here in the folder of the tests."""
    sections: Sections = {
        "stores": {"enabled": "here, jsonl"},
        "store:here": {"path": "here.txt"},
        "store:jsonl": {"path": "var/bars.jsonl"},
    }
    here = plugin("open(options['path'], 'x').close()")
    jsonl = (REPOSITORY / "plugins" / "jsonl.py").read_text(encoding="utf-8")
    with Collector(tmp_path, exchange, sections) as collector:
        (collector.plugins / "here.py").write_text(here + WHERE_IT_IS_IMPORTED, encoding="utf-8")
        (collector.plugins / "jsonl.py").write_text(jsonl, encoding="utf-8")
        checked = collector.command("check")
        collector.start()
        exchange.wait_for_subscription("btcusdt@trade")
        exchange.publish("BTCUSDT", "60000", "1", time_ms=START_MS)
        collector.wait_for_trades(1)
        assert collector.stop() == 0

    assert checked.returncode == 0
    assert (tmp_path / "here.txt").exists()
    assert (tmp_path / "imported").read_text() == f"{tmp_path}\n" * 2
    (line,) = (tmp_path / "var" / "bars.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["trade_count"] == 1


def test_an_option_that_a_plugin_refuses_when_opened_is_a_configuration_error(
    exchange: ExchangeSimulator, tmp_path: Path
) -> None:
    text = plugin(open_store="raise ConfigError('colour: must be blue', 'size: is missing')")
    with Collector(tmp_path, exchange, {"stores": {"enabled": "bad"}}) as collector:
        (collector.plugins / "bad.py").write_text(text)
        collector.start()

        assert collector.wait() == 2

        assert problems_in(collector.log) == [
            f"bintrades: {collector.ini}: [store:bad] colour: must be blue",
            f"bintrades: {collector.ini}: [store:bad] size: is missing",
        ]
        assert "Traceback" not in collector.log


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("import nothing_of_this_name\n", "nothing_of_this_name"),
        ("import sys; sys.exit(0)\n", "SystemExit"),
        (plugin().replace("store_bars", "store_bar"), "did you mean 'store_bars'?"),
    ],
)
def test_a_plugin_that_cannot_work_is_a_configuration_error(
    text: str, complaint: str, exchange: ExchangeSimulator, tmp_path: Path
) -> None:
    with Collector(tmp_path, exchange, {"stores": {"enabled": "bad"}}) as collector:
        (collector.plugins / "bad.py").write_text(text)
        collector.start()

        assert collector.wait() == 2

        problem, *_ = problems_in(collector.log)
        assert complaint in problem
        assert "Traceback" not in collector.log


def test_bad_options_of_mongodb_are_all_named_with_file_and_section(
    exchange: ExchangeSimulator, tmp_path: Path
) -> None:
    bad: Sections = {"store:mongodb": {"database": "a b", "colection": "bars"}}
    store = to_mongodb("mongodb://127.0.0.1", "bars")
    with Collector(tmp_path, exchange, store, bad) as collector:
        collector.start()

        assert collector.wait() == 2

        unknown, name = problems_in(collector.log)
        assert f"{collector.ini}: [store:mongodb] colection: unknown option" in unknown
        assert f"{collector.ini}: [store:mongodb] database" in name


def problems_in(log: str) -> list[str]:
    """Return the lines on stderr that name what to mend."""
    return [line for line in log.splitlines() if line.startswith("bintrades: ")]
