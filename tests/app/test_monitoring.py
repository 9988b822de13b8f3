"""What a collector tells over HTTP, and that nobody who asks can stop it from telling others."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from bintrades.app.figures import Process
from bintrades.app.monitoring import server as server_module
from bintrades.app.monitoring import serving as serving_module
from bintrades.app.monitoring import web
from bintrades.app.monitoring.endpoints import PATHS, Endpoints
from bintrades.app.monitoring.server import MonitoringServer
from bintrades.app.status import read_status
from bintrades.app.symbol_list import SymbolsSnapshot
from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.journal.reader import JournalReader
from bintrades.model import Gap, GapCause
from bintrades.options.types import HostAndPort
from bintrades.pipeline.request_counts import RequestCounts
from bintrades.testing.bars import OPEN_TIME_MS, sample_bars
from bintrades.util.clocks import now_ms
from tests.checkout import REPOSITORY
from tests.collectors import Stage
from tests.journals import finished, journal_at
from tests.strategies import make_trade

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bintrades.app.monitoring.endpoints import Answer
    from bintrades.app.monitoring.server import HttpWorker


@contextmanager
def staged(path: Path) -> Iterator[tuple[Stage, Endpoints]]:
    """Yield a collector of which no worker runs, and what it answers."""
    with journal_at(path) as journal:
        stage = Stage(path, journal)
        yield stage, Endpoints(stage.collector.figures, path, ["jsonl"])


def get(endpoints: Endpoints, path: str) -> tuple[int, str]:
    answer: Answer = endpoints.answer(path)
    return answer.status, answer.body.decode()


def samples(text: str) -> dict[str, Any]:
    """Return the value of each metric, by name and labels as they stand in the text."""
    return {
        sample.name + "".join(f" {key}={value}" for key, value in sorted(sample.labels.items())): (
            sample.value
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_alive_is_who_moves_whether_or_not_there_is_anything_to_do(path: Path) -> None:
    with staged(path) as (_, endpoints):
        assert get(endpoints, "/healthz") == (200, "ok\n")


def test_a_collector_that_starts_is_alive_but_not_ready(path: Path) -> None:
    process = Process()
    endpoints = Endpoints(process.figures, path, ["jsonl"])

    assert get(endpoints, "/healthz") == (200, "ok\n")
    assert get(endpoints, "/readyz") == (503, "it is starting\n")
    assert samples(get(endpoints, "/metrics")[1])["bintrades_state bintrades_state=starting"] == 1
    assert json.loads(get(endpoints, "/status")[1])["state"] == "starting"


def test_a_vital_thread_that_hangs_is_not_alive_and_a_store_that_does_is_late(path: Path) -> None:
    with staged(path) as (stage, _):
        figures = stage.figures
    workers = [
        {"name": "aggregator", "idle_ms": 181_000, "is_vital": True},
        {"name": "deliver-jsonl", "idle_ms": 999_000, "is_vital": False},
    ]
    endpoints = Endpoints(lambda: {**figures, "workers": workers}, path, [])

    assert get(endpoints, "/healthz") == (503, "the thread aggregator has not moved for 3 min\n")


def test_ready_says_each_reason_why_it_is_not(path: Path) -> None:
    with staged(path) as (stage, _):
        figures = stage.figures
        down = {**figures["connections"][0], "down_ms": 11_000, "error": "TimeoutError: timed out"}
        figures |= {"connections": [down], "journal_error": "the disk is full"}
        endpoints = Endpoints(lambda: figures, path, ["jsonl"])

        status, text = get(endpoints, "/readyz")

    assert status == 503
    assert text.splitlines() == [
        "the disk is full",
        "reader-1 has no streams: TimeoutError: timed out",
    ]


def test_a_collector_whose_connections_bring_no_data_is_not_ready(path: Path) -> None:
    with staged(path) as (stage, _):
        up = {**stage.figures["connections"][0], "down_ms": 0}
        told = []
        for empty in (1, 2):
            connections = [{**up, "empty_connections": empty}]
            figures = {**stage.figures, "connections": connections}
            told.append(get(Endpoints(figures.copy, path, ["jsonl"]), "/readyz"))

    assert told == [(200, "ok\n"), (503, "the last 2 connections of reader-1 brought no data\n")]


def test_a_collector_that_records_is_ready(path: Path) -> None:
    with staged(path) as (stage, _):
        figures = stage.figures
        up = {**figures["connections"][0], "down_ms": 0}
        endpoints = Endpoints(lambda: {**figures, "connections": [up]}, path, ["jsonl"])

        assert get(endpoints, "/readyz") == (200, "ok\n")


def test_ready_says_that_the_journal_cannot_be_read(path: Path) -> None:
    with staged(path) as (stage, _):
        figures = stage.figures
    endpoints = Endpoints(lambda: figures, path.with_name("other"), ["jsonl"])

    status, text = get(endpoints, "/readyz")

    assert (status, "there is no journal yet" in text) == (503, True)


def test_the_status_is_that_of_the_command(path: Path) -> None:
    with staged(path) as (stage, endpoints):
        stage.aggregator.add([make_trade(1)], now=0)
        told = json.loads(get(endpoints, "/status")[1])
        command = read_status(path, ["jsonl"])

    assert told.keys() == command.keys()
    for part in ("journal", "gaps", "coverage", "audit", "stores"):
        assert told[part] == json.loads(json.dumps(command[part]))
    assert told["collector"]["trades"] == 1


def test_the_metrics_have_the_figures(path: Path) -> None:
    with staged(path) as (stage, endpoints):
        stage.aggregator.add([make_trade(1), make_trade(1)], now=0)
        stage.delivery._latency.add([], OPEN_TIME_MS)
        found = samples(get(endpoints, "/metrics")[1])

    assert found["bintrades_trades_total"] == 1
    assert found["bintrades_duplicate_trades_total"] == 1
    assert found["bintrades_connections_lost_total cause=stalled"] == 0
    assert found["bintrades_store_waiting_bars store=jsonl"] == 0
    assert found["bintrades_store_latency_seconds_bucket le=+Inf store=jsonl"] == 0
    assert found["bintrades_gaps state=open"] == 0
    assert found["bintrades_journal_failing"] == 0
    assert found["process_resident_memory_bytes"] > 0


def test_a_rest_side_that_does_not_answer_shows_in_the_metrics(path: Path) -> None:
    with staged(path) as (stage, endpoints):
        before = samples(get(endpoints, "/metrics")[1])  # an answer is kept for two seconds
        later = Endpoints(stage.collector.figures, path, ["jsonl"])
        stage.budget.record_failure("no answer", now_ms() - 300_000)
        assert stage.collector.backfill is not None
        backfill = stage.collector.backfill._backfill
        backfill.request_count = backfill.failed_count = 5
        backfill.newest_ids_count = backfill.newest_ids_failed_count = 3
        listing = SymbolsSnapshot(requests=RequestCounts(4, 1), had_at_ms=OPEN_TIME_MS)
        stage.collector.symbols_snapshot = lambda: listing
        found = samples(get(later, "/metrics")[1])

    assert before["bintrades_rest_failing_seconds"] == 0
    assert before["bintrades_symbol_list_timestamp_seconds"] == 0
    assert found["bintrades_rest_failing_seconds"] >= 300
    assert found["bintrades_symbol_list_timestamp_seconds"] == OPEN_TIME_MS / 1000
    for purpose, made, failed in (
        ("backfill", 2, 2),
        ("newest_ids", 3, 3),
        ("symbols", 4, 1),
        ("audit", 0, 0),
    ):
        assert found[f"bintrades_rest_requests_total purpose={purpose}"] == made
        assert found[f"bintrades_rest_failed_requests_total purpose={purpose}"] == failed


def test_what_is_switched_off_has_no_requests(path: Path) -> None:
    with journal_at(path) as journal:
        figures = Stage(path, journal, is_repairing=False).collector.figures
        found = samples(get(Endpoints(figures, path, ["jsonl"]), "/metrics")[1])

    assert "bintrades_rest_requests_total purpose=symbols" in found
    assert "bintrades_rest_requests_total purpose=backfill" not in found


def test_a_rest_side_that_does_not_answer_is_no_reason_to_restart_or_to_be_unready(
    path: Path,
) -> None:
    with staged(path) as (stage, _):
        stage.budget.record_failure("no answer", now_ms() - 3_600_000)
        figures = stage.figures
        up = {**figures["connections"][0], "down_ms": 0}
        endpoints = Endpoints(lambda: {**figures, "connections": [up]}, path, ["jsonl"])

        assert get(endpoints, "/healthz") == (200, "ok\n")
        assert get(endpoints, "/readyz") == (200, "ok\n")


def test_bars_on_record_are_counted_by_state(path: Path) -> None:
    *closed, last = sample_bars(5)
    gap = Gap(4, 4, closed[1].open_time_ms, closed[1].open_time_ms, GapCause.SKIPPED)
    ledger = LedgerState(last.last_trade_id + 1, last.last_trade_time_ms, (gap,))
    with journal_at(path) as journal:
        figures = Stage(path, journal).collector.figures
        bars = finished(*closed, replace(last, is_closed=False), BTCUSDT=ledger)
        journal.write(bars, OPEN_TIME_MS)
        found = samples(get(Endpoints(figures, path, ["jsonl"]), "/metrics")[1])

    states = ("all", "unclosed", "incomplete", "proven")
    assert [found[f"bintrades_journal_bars state={state}"] for state in states] == [5, 1, 1, 3]


def test_metrics_of_what_can_be_known_are_there_when_the_journal_cannot_be_read(path: Path) -> None:
    with staged(path) as (stage, _):
        figures = stage.figures
    found = samples(get(Endpoints(lambda: figures, path.with_name("other"), ["a"]), "/metrics")[1])

    assert found["bintrades_trades_total"] == 0
    assert "bintrades_journal_bytes" not in found
    assert found["bintrades_problems"] >= 1


def test_metrics_follow_the_conventions_of_prometheus(path: Path) -> None:
    with staged(path) as (_, endpoints):
        families = list(text_string_to_metric_families(get(endpoints, "/metrics")[1]))

    ours = [family for family in families if not family.name.startswith("process_")]
    assert len({family.name for family in ours}) == len(ours) > 30
    for family in ours:
        assert family.name.startswith("bintrades"), family.name
        assert family.documentation.endswith("."), family.name
        is_in_another_unit = family.name.endswith(("_ms", "_minutes", "_hours", "_kb", "_percent"))
        assert not is_in_another_unit, family.name


def test_what_is_not_there_is_said_with_what_is(path: Path) -> None:
    with staged(path) as (_, endpoints):
        status, text = get(endpoints, "/metric")

    assert status == 404
    assert all(each in text for each in PATHS)


class Kind(NamedTuple):
    """A server, and with which status it refuses methods that it has not."""

    make: Callable[[HostAndPort, Endpoints, Path], HttpWorker]
    methods: bytes


KINDS = {
    "plain": Kind(lambda listen, endpoints, _: MonitoringServer(listen, endpoints), b"501"),
    "with the page": Kind(web.WebServer, b"405"),
}
both = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


@contextmanager
def serving(
    kind: Kind, endpoints: Endpoints, journal: Path, host: str = "127.0.0.1"
) -> Iterator[HostAndPort]:
    """Yield where the answers are had over HTTP."""
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else 2) as probe:
        address = HostAndPort(host, probe.getsockname()[1])
    server = kind.make(address, endpoints, journal)
    server.start()
    try:
        yield address
    finally:
        server.stop()
        assert server.join(10)


def fetch(address: HostAndPort, path: str) -> tuple[int, str, str]:
    """Return status, content type and text of an answer; try again until somebody listens."""
    deadline = time.monotonic() + 120
    while True:
        try:
            with urlopen(f"http://{address}{path}", timeout=10) as answer:
                return answer.status, answer.headers["Content-Type"], answer.read().decode()
        except HTTPError as error:
            with error:
                return error.status or 0, error.headers["Content-Type"], error.read().decode()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@both
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_it_answers_over_http(path: Path, kind: Kind, host: str) -> None:
    with staged(path) as (_, endpoints), serving(kind, endpoints, path, host) as address:
        assert fetch(address, "/healthz") == (200, "text/plain; charset=utf-8", "ok\n")
        assert fetch(address, "/readyz")[0] == 200
        assert fetch(address, "/metrics?name[]=x")[1].startswith("text/plain; version=")
        assert fetch(address, "/status")[1] == "application/json"
        assert fetch(address, "/nothing")[0] == 404


def test_without_the_extra_the_page_is_one_line_that_says_how_to_get_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_module, "find_spec", lambda _: None)
    with staged(path) as (_, endpoints):
        kind = Kind(serving_module.make_server, b"")
        with serving(kind, endpoints, path) as address:
            status, _, text = fetch(address, "/")

    assert (status, text.count("\n")) == (404, 1)
    assert "pip install 'bintrades[web]'" in text


def raw(address: HostAndPort, request: bytes) -> bytes:
    """Return all that comes back for *request*."""
    fetch(address, "/healthz")
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


@both
def test_it_only_reads_and_refuses_what_is_no_request(path: Path, kind: Kind) -> None:
    with staged(path) as (_, endpoints), serving(kind, endpoints, path) as address:
        for method in (b"POST", b"DELETE"):
            line = method + b" /status HTTP/1.1\r\nHost: x\r\n\r\n"
            assert b" " + kind.methods + b" " in raw(address, line)
        for length in (5_000, 70_000):
            long = b"GET /" + b"a" * length + b" HTTP/1.1\r\nHost: x\r\n\r\n"
            assert b" 414 " in raw(address, long)
        assert b" 400 " in raw(address, b"GET /healthz HTTP/nonsense\r\n\r\n")


@both
def test_head_has_the_length_and_no_body(path: Path, kind: Kind) -> None:
    with staged(path) as (_, endpoints), serving(kind, endpoints, path) as address:
        asked = b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        head, body = raw(address, asked).split(b"\r\n\r\n")

    assert b"content-length: 3" in head.lower()
    assert body == b""


@both
def test_those_who_ask_slowly_make_room_for_who_asks_at_once(path: Path, kind: Kind) -> None:
    with (
        staged(path) as (_, endpoints),
        serving(kind, endpoints, path) as address,
        ExitStack() as slow,
    ):
        fetch(address, "/healthz")
        for _ in range(300):  # more than are answered at once
            connection = slow.enter_context(socket.create_connection(address, timeout=20))
            connection.sendall(b"GET /hea")

        assert [fetch(address, "/healthz")[0] for _ in range(5)] == [200] * 5


@both
def test_who_asks_too_slowly_is_cut_off(
    path: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "_ANSWER_WITHIN_S", 1.0)
    monkeypatch.setattr(web, "_CUT_OFF_AFTER_S", 1.0)
    with staged(path) as (_, endpoints), serving(kind, endpoints, path) as address:
        assert raw(address, b"GET /hea") == b""


@both
def test_a_request_that_fails_is_answered_and_the_next_one_too(path: Path, kind: Kind) -> None:
    with staged(path) as (stage, endpoints), serving(kind, endpoints, path) as address:

        def fail() -> dict[str, Any]:
            raise RuntimeError("a bug")

        endpoints.figures = fail
        assert fetch(address, "/healthz")[0] == 500
        endpoints.figures = stage.collector.figures
        assert fetch(address, "/healthz")[0] == 200


@both
def test_who_asks_while_no_thread_can_be_had_is_told_so_and_later_ones_are_answered(
    path: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    with staged(path) as (_, endpoints), serving(kind, endpoints, path) as address:
        fetch(address, "/healthz")

        def start(_thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", start)
            for _ in range(20):  # more than are answered at once
                assert fetch(address, "/healthz")[0] == 503

        assert fetch(address, "/healthz")[0] == 200


@both
def test_an_address_that_is_taken_is_had_once_it_is_free(
    path: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "_RETRY_S", 0.05)
    with staged(path) as (_, endpoints), socket.create_server(("127.0.0.1", 0)) as other:
        address = HostAndPort("127.0.0.1", other.getsockname()[1])
        server = kind.make(address, endpoints, path)
        server.start()
        try:
            other.close()
            assert fetch(address, "/healthz")[0] == 200
        finally:
            server.stop()
            assert server.join(10)


@both
def test_a_server_that_fails_is_begun_again_and_the_log_says_why(
    path: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server_module, "_RETRY_S", 0.05)
    with staged(path) as (_, endpoints), monkeypatch.context() as patched:

        def fail(_server: HttpWorker, _port: int) -> None:
            patched.undo()
            raise RuntimeError("a bug")

        patched.setattr(server_module.HttpWorker, "say_where", fail)
        with serving(kind, endpoints, path) as address:
            assert fetch(address, "/healthz")[0] == 200

    assert "a bug" in caplog.text


def test_the_page_has_each_metric_and_no_other(path: Path) -> None:
    with staged(path) as (_, endpoints):
        families = text_string_to_metric_families(get(endpoints, "/metrics")[1])
        there = {
            family.name + ("_total" if family.type == "counter" else "") for family in families
        }
    page = (REPOSITORY / "docs" / "monitoring.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`(bintrades_[a-z_]+)`", page))

    assert documented - WITHOUT_ANY_PROOF == {name for name in there if "process_" not in name}


WITHOUT_ANY_PROOF = {"bintrades_coverage_until_timestamp_seconds"}
"""Metrics of which there is none until something is proven."""


NAMED_BY_VALUES = (
    "collector.trade_kinds",
    "collector.rest.requests",
    "collector.rest.failed",
    "collector.stores[].latency.buckets",
)
"""Where the status has names that are no fields: kinds of trades, purposes, bounds."""


def fields_of(value: object, path: str = "") -> Iterator[str]:
    """Yield each field of a status with where it is: collector.workers[].name."""
    if isinstance(value, list):
        for each in value:
            yield from fields_of(each, f"{path}[]")
    elif isinstance(value, dict) and path == "stores":
        for each in value.values():
            yield from fields_of(each, "stores.NAME")
    elif isinstance(value, dict) and path not in NAMED_BY_VALUES:
        for name, each in value.items():
            where = f"{path}.{name}" if path else name
            yield where
            yield from fields_of(each, where)


def fields_on_the_page() -> list[str]:
    """Return each field of docs/status.md, with the heading that it is under before it."""
    found, heading = [], ""
    for line in (REPOSITORY / "docs" / "status.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            heading = "" if line == "## top level" else f"{line.removeprefix('## ')}."
        elif field := re.match(r"\| `([^`]+)` \| \S", line):
            found.append(heading + field[1])
    return found


def test_the_page_of_the_status_has_each_field_and_no_other(path: Path) -> None:
    gone = Gap(4, 4, OPEN_TIME_MS + 30_000, OPEN_TIME_MS + 30_000, GapCause.SKIPPED)
    proven = Checkpoint(
        LedgerState(9, OPEN_TIME_MS, (gone,)),
        proven_ms=OPEN_TIME_MS + 600_000,
        covered_since_ms=OPEN_TIME_MS,
    )
    with journal_at(path) as journal:
        stage = Stage(path, journal)
        journal.write(WriteBatch(checkpoints={"BTCUSDT": proven}), OPEN_TIME_MS)
        JournalReader(path).resend_since("jsonl", OPEN_TIME_MS)
        thread = stage.collector.ingest_thread
        thread.start()
        try:
            endpoints = Endpoints(stage.collector.figures, path, ["jsonl"])
            told = json.loads(get(endpoints, "/status")[1])
        finally:
            thread.stop()
            assert thread.join(120)

    assert told["collector"]["workers"], "a thread runs"
    assert sorted(fields_on_the_page()) == sorted(set(fields_of(told)))
