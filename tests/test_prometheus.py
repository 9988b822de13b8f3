"""etc/prometheus.yml, etc/alerts.yml and etc/grafana.json with Debian's Prometheus and promtool."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from urllib.request import urlopen

import pytest

from bintrades.app.monitoring.endpoints import Endpoints
from bintrades.app.monitoring.server import MonitoringServer
from bintrades.options.types import HostAndPort
from tests.checkout import REPOSITORY
from tests.collectors import Stage
from tests.debian import unpacked
from tests.journals import journal_at
from tests.strategies import make_trade

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ETC = REPOSITORY / "etc"
METRIC = re.compile(r"\bbintrades_[a-z_]+")
ENDINGS = re.compile(r"_(bucket|sum|count)$")


def documented() -> set[str]:
    """Return the metrics that there are."""
    page = (REPOSITORY / "docs" / "monitoring.md").read_text(encoding="utf-8")
    return set(METRIC.findall(page))


def expressions_of_alerts() -> list[str]:
    text = (ETC / "alerts.yml").read_text(encoding="utf-8")
    return re.findall(r"^ +expr: (.*)$", text, re.MULTILINE)


def expressions_of_dashboard() -> list[str]:
    panels = json.loads((ETC / "grafana.json").read_text(encoding="utf-8"))["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


@pytest.mark.parametrize("expression", [*expressions_of_alerts(), *expressions_of_dashboard()])
def test_only_metrics_that_there_are_are_asked_for(expression: str) -> None:
    without_labels = re.sub(r"bintrades_state=", "", expression)
    names = {ENDINGS.sub("", name) for name in METRIC.findall(without_labels)}

    assert names <= documented()


def promtool(*words: str, folder: Path = ETC) -> str:
    """Return what promtool says of what is right; fail with that where it is wrong."""
    tool = unpacked("prometheus") / "usr" / "bin" / "promtool"
    ended = subprocess.run(
        [tool, *words], cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_configuration_and_rules_are_valid() -> None:
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml")


def test_each_alert_fires_for_what_it_is_for_and_for_nothing_else(tmp_path: Path) -> None:
    shutil.copy(ETC / "alerts.yml", tmp_path)
    shutil.copy(REPOSITORY / "tests" / "alert_tests.yml", tmp_path)

    assert "SUCCESS" in promtool("test", "rules", "alert_tests.yml", folder=tmp_path)

    tested = (tmp_path / "alert_tests.yml").read_text(encoding="utf-8")
    alerts = re.findall(r"alert: (\w+)", (ETC / "alerts.yml").read_text(encoding="utf-8"))
    assert alerts == re.findall(r'alertname="(\w+)"', tested)


def test_each_expression_of_the_dashboard_can_be_evaluated(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$instance", ".+")}
        for number, expression in enumerate(expressions_of_dashboard())
    ]
    file = tmp_path / "panels.yml"  # every JSON is YAML as well
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}), encoding="utf-8")

    assert f"{len(rules)} rules found" in promtool("check", "rules", str(file))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextmanager
def prometheus(folder: Path, target: HostAndPort) -> Iterator[str]:
    """Run Prometheus as configured, but on *target* and each second; yield its address."""
    text = (ETC / "prometheus.yml").read_text(encoding="utf-8")
    text = text.replace("127.0.0.1:8787", str(target)).replace("15s", "1s")
    (folder / "prometheus.yml").write_text(text, encoding="utf-8")
    shutil.copy(ETC / "alerts.yml", folder)
    address = f"127.0.0.1:{free_port()}"
    with subprocess.Popen(
        [
            unpacked("prometheus") / "usr" / "bin" / "prometheus",
            "--config.file=prometheus.yml",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
        ],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield address
        finally:
            process.terminate()


def query(address: str, expression: str) -> list[Any]:
    """Return the samples of an instant query; none while nobody answers."""
    try:
        with urlopen(
            f"http://{address}/api/v1/query?query={quote(expression)}", timeout=10
        ) as answer:
            found: list[Any] = json.loads(answer.read())["data"]["result"]
            return found
    except OSError:
        return []


def test_a_real_prometheus_scrapes_a_collector(tmp_path: Path) -> None:
    unpacked("prometheus")
    path = tmp_path / "bars.journal"
    with journal_at(path) as journal:
        stage = Stage(path, journal)
        stage.aggregator.add([make_trade(1), make_trade(2)], now=0)
        target = HostAndPort("127.0.0.1", free_port())
        server = MonitoringServer(target, Endpoints(stage.collector.figures, path, ["jsonl"]))
        server.start()
        try:
            with prometheus(tmp_path, target) as address:
                deadline = time.monotonic() + 120
                while not (found := query(address, "bintrades_trades_total")):
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
                (up,) = query(address, 'up{job="bintrades"}')
        finally:
            server.stop()

    assert found[0]["value"][1] == "2"
    assert found[0]["metric"]["market"] == "spot"
    assert up["value"][1] == "1"
