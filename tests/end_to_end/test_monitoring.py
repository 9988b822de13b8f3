"""A collector that is asked over HTTP how it is, and one of which a thread hangs."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import urlopen

from bintrades.testing.exchange_simulator import ExchangeSimulator
from tests.end_to_end.collector import PATIENCE_S, Collector

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def free_port() -> int:
    """Return a port that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def ask(port: int, path: str) -> tuple[int, str]:
    """Return status and text of the answer; 0 where nobody answers."""
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.status or 0, error.read().decode()
    except OSError as error:
        return 0, str(error)


def wait_for(found: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (value := found()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return value


def test_a_collector_tells_over_http_how_it_is_until_it_ends(tmp_path: Path) -> None:
    port = free_port()
    http = {"http": {"listen": f"127.0.0.1:{port}"}}
    with (
        ExchangeSimulator(symbols=("BTCUSDT", "ETHUSDT")) as exchange,
        Collector(tmp_path, exchange, http) as collector,
    ):
        collector.start()
        wait_for(lambda: ask(port, "/readyz") == (200, "ok\n"), "it is not ready")
        exchange.wait_for_subscription("btcusdt@trade")
        exchange.publish("BTCUSDT", 1, 1)
        wait_for(lambda: "bintrades_trades_total 1.0" in ask(port, "/metrics")[1], "no trade")
        status = json.loads(ask(port, "/status")[1])
        exchange.refuse()
        exchange.cut_all()
        lost = wait_for(lambda: ask(port, "/readyz")[0] == 503, "it looks ready")
        assert collector.stop() == 0

    assert lost
    assert status["collector"]["symbols"] == 2
    assert (status["state"], ask(port, "/healthz")[0]) == ("running", 0)


HANGING = """
import time
from bintrades import hookimpl
from bintrades.app import service
from bintrades.pipeline.ingest import Ingest

service._WATCH_EVERY_S, service._HANGS_AFTER_S = 0.2, 1.0
Ingest.tick = lambda *_, **__: time.sleep(3600)

@hookimpl
def store_bars(bars):
    pass
"""


def test_a_thread_that_hangs_ends_the_process_with_status_1(tmp_path: Path) -> None:
    stores = {"stores": {"enabled": "hanging", "shutdown_timeout": "100ms"}}
    with (
        ExchangeSimulator(symbols=("BTCUSDT", "ETHUSDT")) as exchange,
        Collector(tmp_path, exchange, stores) as collector,
    ):
        plugin = tmp_path / "plugins" / "hanging.py"
        plugin.write_text(HANGING, encoding="utf-8")
        collector.start()

        assert collector.wait() == 1
        assert any(event["event"] == "worker_hangs" for event in collector.events)
