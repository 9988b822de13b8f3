"""etc/supervisord.conf with the real supervisord, the real script and the simulated exchange."""

from __future__ import annotations

import configparser
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bintrades.exchange.shards import shard_of
from bintrades.testing.exchange_simulator import ExchangeSimulator
from tests.checkout import REPOSITORY, Checkout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

START_MS = 1_720_000_000_000
CONFIGURATION = """\
[binance]
stream_url = {stream_url}
rest_url = {rest_url}
[symbols]
include = BTCUSDT
[journal]
checkpoint_every = 200ms
[stores]
enabled =
"""


@pytest.fixture
def checkout() -> Iterator[Checkout]:
    """Return an installed copy of the checkout, in a path short enough for supervisord's socket."""
    with tempfile.TemporaryDirectory(prefix="bt") as folder:
        checkout = Checkout(Path(folder, "a copy"))
        installed = checkout.use_environment()
        assert installed.returncode == 0, installed.stderr
        yield checkout


@pytest.fixture
def exchange() -> Iterator[ExchangeSimulator]:
    """Run an exchange of one symbol."""
    with ExchangeSimulator(symbols=("BTCUSDT",)) as simulator:
        yield simulator


def control(checkout: Checkout, *words: str, conf: str = "etc/supervisord.conf") -> str:
    """Return what supervisorctl answers."""
    command = [sys.executable, "-m", "supervisor.supervisorctl", "-c", conf]
    answer = subprocess.run(
        [*command, *words],
        cwd=checkout.folder,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    return answer.stdout + answer.stderr


@contextmanager
def supervised(checkout: Checkout, conf: str = "etc/supervisord.conf") -> Iterator[None]:
    """Run supervisord in the foreground; at the end it stops what it started."""
    command = [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", conf]
    with subprocess.Popen(
        command,
        cwd=checkout.folder,
        env=checkout.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(90)


def wait_until(is_so: Callable[[], bool], checkout: Checkout, seconds: float = 60.0) -> None:
    """Return once *is_so*; fail with the logs when that takes too long."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            pytest.fail("\n".join(path.read_text() for path in checkout.folder.glob("var/*.log")))
        time.sleep(0.1)


def write_configuration(checkout: Checkout, exchange: ExchangeSimulator) -> None:
    """Have the collector record the exchange."""
    urls = {"stream_url": exchange.stream_url, "rest_url": exchange.rest_url}
    configuration = checkout.folder / "etc/bintrades.ini"
    configuration.write_text(CONFIGURATION.format(**urls), encoding="utf-8")


def read(checkout: Checkout, path: str) -> str:
    """Return what is in a file of the checkout; nothing before it is there."""
    file = checkout.folder / path
    return file.read_text(encoding="utf-8") if file.exists() else ""


def collector_pid(checkout: Checkout) -> int:
    """Return the process that supervisord runs now, 0 for none."""
    answer = control(checkout, "pid", "collector").strip()
    return int(answer) if answer.isdigit() else 0


def bars(checkout: Checkout) -> list[dict[str, Any]]:
    """Return what the journal has of BTCUSDT; nothing before there is a journal."""
    command = [".venv/bin/python", "-P", "-m", "bintrades", "bars", "BTCUSDT", "--format", "json"]
    answer = subprocess.run(
        [*command, "--config", "etc/bintrades.ini"],
        cwd=checkout.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    found: list[dict[str, Any]] = json.loads(answer.stdout) if answer.returncode == 0 else []
    return found


def trade_count(checkout: Checkout) -> int:
    """Return how many trades the bars of the journal have together."""
    return sum(bar["trade_count"] for bar in bars(checkout))


def test_the_collector_is_restarted_after_kill_9_and_stops_in_good_order(
    checkout: Checkout, exchange: ExchangeSimulator
) -> None:
    write_configuration(checkout, exchange)

    with supervised(checkout):
        exchange.wait_for_subscription("btcusdt@trade")
        exchange.publish("BTCUSDT", "60000.1", "0.1", time_ms=START_MS)
        wait_until(lambda: trade_count(checkout) == 1, checkout)

        killed = collector_pid(checkout)
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: collector_pid(checkout) not in {0, killed}, checkout)
        exchange.wait_for_subscription("btcusdt@trade")
        exchange.publish("BTCUSDT", "60000.3", "0.2", time_ms=START_MS + 1)
        wait_until(lambda: trade_count(checkout) == 2, checkout)

        stopped = control(checkout, "stop", "collector")

    assert "collector: stopped" in stopped
    (bar,) = bars(checkout)
    assert (bar["trade_count"], bar["quantity"], bar["is_closed"]) == (2, "0.3", False)
    log = (checkout.folder / "var/supervisord.log").read_text(encoding="utf-8")
    assert "terminated by SIGKILL; not expected" in log
    assert "stopped: collector (exit status 0)" in log


def test_a_signal_of_supervisorctl_has_the_symbols_read_again_by_the_same_process(
    checkout: Checkout, exchange: ExchangeSimulator
) -> None:
    write_configuration(checkout, exchange)

    with supervised(checkout):
        exchange.wait_for_subscription("btcusdt@trade")
        before = collector_pid(checkout)
        exchange.list_symbol("ETHUSDT")
        configuration = checkout.folder / "etc/bintrades.ini"
        text = configuration.read_text(encoding="utf-8")
        configuration.write_text(text.replace("include = BTCUSDT", "include = *USDT"), "utf-8")

        assert "signalled" in control(checkout, "signal", "HUP", "collector")
        exchange.wait_for_subscription("btcusdt@trade", "ethusdt@trade")

        assert collector_pid(checkout) == before
        assert len(exchange.connections) == 1


def test_a_bad_configuration_is_not_tried_again_until_a_person_says_so(
    checkout: Checkout, exchange: ExchangeSimulator
) -> None:
    configuration = checkout.folder / "etc/bintrades.ini"
    configuration.write_text("[bars]\nintervall = 10s\n", encoding="utf-8")

    with supervised(checkout):
        wait_until(lambda: "EXITED" in control(checkout, "status"), checkout)
        assert "intervall" in read(checkout, "var/collector.log")
        time.sleep(
            3
        )  # it would have been started again by now: nothing tells of what does not come
        log = read(checkout, "var/supervisord.log")
        assert log.count("spawned: 'collector'") == 1
        assert "(exit status 2; expected)" in log

        write_configuration(checkout, exchange)
        assert "collector: started" in control(checkout, "start", "collector")
        exchange.wait_for_subscription("btcusdt@trade")


def test_what_fails_at_the_start_is_tried_again_until_it_works(
    checkout: Checkout, exchange: ExchangeSimulator
) -> None:
    """Here a folder is not there yet, as where a disk is mounted late."""
    write_configuration(checkout, exchange)
    scripts, away = checkout.folder / "scripts", checkout.folder / "away"
    scripts.rename(away)

    with supervised(checkout):
        wait_until(lambda: "BACKOFF" in control(checkout, "status"), checkout)
        wait_until(lambda: read(checkout, "var/supervisord.log").count("exited:") > 2, checkout)
        away.rename(scripts)
        exchange.wait_for_subscription("btcusdt@trade")
        wait_until(lambda: "RUNNING" in control(checkout, "status"), checkout)


def test_shards_of_the_files_as_they_stand_have_every_symbol_once(checkout: Checkout) -> None:
    symbols = [f"S{number}USDT" for number in range(20)]
    assert {shard_of(symbol, 5) for symbol in symbols} == {1, 2, 3, 4, 5}
    streams = [f"{symbol.lower()}@trade" for symbol in symbols]
    conf, file = "etc/supervisord-shards.conf", "etc/shards.ini"

    def status(number: int, *words: str) -> subprocess.CompletedProcess[str]:
        command = [".venv/bin/python", "-P", "-m", "bintrades", "status", "--config", file]
        return subprocess.run(
            [*command, "--shard", f"{number}/5", *words],
            cwd=checkout.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    with ExchangeSimulator(symbols=symbols) as exchange:
        configuration = checkout.folder / file
        urls = f"stream_url = {exchange.stream_url}\nrest_url = {exchange.rest_url}\n"
        text = configuration.read_text(encoding="utf-8")
        text = text.replace("[binance]\n", f"[binance]\n{urls}")
        configuration.write_text(f"{text}\n[stores]\nenabled =\n", encoding="utf-8")

        with supervised(checkout, conf):
            exchange.wait_for_subscription(*streams)
            for number in range(1, 6):
                wait_until(
                    lambda: status(number, "--check").stdout == "running: well\n",  # noqa: B023
                    checkout,
                )
            having = [json.loads(status(number, "--json").stdout) for number in range(1, 6)]
            subscribed = Counter(each for one in exchange.connections for each in one.streams)
            stopped = control(checkout, "stop", "all", conf=conf)

    assert subscribed == Counter(streams)
    assert sum(each["collector"]["symbols"] for each in having) == len(symbols)
    assert [each["collector"]["shard"] for each in having] == [f"{each}/5" for each in range(1, 6)]
    assert stopped.count("stopped") == 5


def test_failing_starts_are_tried_for_longer_than_any_failure_lasts() -> None:
    conf = configparser.ConfigParser(interpolation=None)
    conf.read(REPOSITORY / "etc/supervisord.conf", encoding="utf-8")
    retries = conf.getint("program:collector", "startretries")
    assert retries * (retries + 1) / 2 > 365 * 86_400  # seconds: the waits are 1, 2, 3, ...
