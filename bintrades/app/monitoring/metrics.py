"""The figures of a collector as Prometheus has them, made when somebody asks.

Counters are not counted here: to add one to a counter of the client library costs a quarter of what
a trade costs. All of them are read from the status. Names and units go by
https://prometheus.io/docs/practices/naming/.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    StateSetMetricFamily,
)
from prometheus_client.registry import Collector

from bintrades.app.health import CollectorState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Status = Mapping[str, Any]


class _Counter(NamedTuple):
    """A counter of the collector's figures."""

    figure: str
    name: str
    help: str


_COUNTERS = (
    _Counter("trades", "trades", "Trades counted"),
    _Counter("duplicates", "duplicate_trades", "Trades that had come before"),
    _Counter("excluded", "excluded_ids", "Ids of futures that are no fills of the order book"),
    _Counter("repaired_trades", "backfilled_trades", "Trades that were missing and were fetched"),
    _Counter("foreign_trades", "foreign_trades", "Trades of symbols that are not collected"),
    _Counter("bad_messages", "bad_messages", "Messages of a stream that cannot be used"),
    _Counter("unknown_messages", "unknown_messages", "Messages of a stream of a kind unknown"),
    _Counter("invalid_aggregates", "invalid_aggregates", "Aggregates marked as none by Binance"),
    _Counter("bars", "closed_bars", "Bars that were closed"),
    _Counter("amended_bars", "amended_bars", "Bars that trades came to after they were closed"),
    _Counter("log_lines_lost", "lost_log_lines", "Lines of the log that could not be written"),
)

_GAUGES_MS = {
    "lag_ms": ("exchange_lag", "Local clock minus the event time of the newest trade"),
    "delay_ms": ("recording_delay", "For how long the oldest event has waited to be counted"),
}

_OPEN_GAPS = ("open", "abandoned", "approximated")


def make_registry(status: Callable[[], Status]) -> CollectorRegistry:
    """Return a registry with the metrics of the collector of which *status* tells, and its process.

    *status* is called for each scrape: see bintrades.app.status.live_status().
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_StatusMetrics(status))
    ProcessCollector(registry=registry)
    return registry


class _StatusMetrics(Collector):
    def __init__(self, status: Callable[[], Status]) -> None:
        self._status = status

    def describe(self) -> Iterator[Metric]:
        """Describe nothing beforehand: a scrape does."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics. Raises nothing for figures that are not known."""
        status = self._status()
        figures = status["collector"]
        yield from _of_process(status, figures)
        if figures["state"] != CollectorState.STARTING:
            yield from _of_trades(figures)
            yield from _of_connections(figures)
            yield from _of_requests(figures)
            yield from _of_stores(figures, status["stores"])
        if "journal" in status:
            yield from _of_journal(status)


def _of_process(status: Status, figures: Status) -> Iterator[Metric]:
    yield InfoMetricFamily("bintrades", "Which version it is.", {"version": figures["version"]})
    yield StateSetMetricFamily(
        "bintrades_state",
        "What the collector does.",
        {state.value: state == figures["state"] for state in CollectorState},
    )
    yield _gauge("problems", "Reasons why the collector is not healthy", len(status["problems"]))


def _of_trades(figures: Status) -> Iterator[Metric]:
    for counter in _COUNTERS:
        yield CounterMetricFamily(
            f"bintrades_{counter.name}",
            f"{counter.help}, since the start.",
            figures[counter.figure],
        )
    kinds = CounterMetricFamily(
        "bintrades_trade_kinds", "Trades of futures by what Binance calls them.", labels=["kind"]
    )
    for kind, count in figures["trade_kinds"].items():
        kinds.add_metric([kind], count)
    yield kinds
    yield _gauge("symbols", "Symbols that are collected", figures["symbols"])
    yield _gauge(
        "unproven_symbols",
        "Symbols with a closed bar that is not proven to have all of its trades yet",
        figures["unproven_symbols"],
    )
    yield _gauge("open_bars", "Bars that still take trades", figures["open_bars"])
    yield _gauge("queue_events", "Events that wait to be counted", figures["queue"])
    for figure, (name, help_text) in _GAUGES_MS.items():
        yield _gauge(f"{name}_seconds", help_text, figures[figure] / 1000)
    idle = _labelled_gauge("worker_idle_seconds", "Since a thread last moved", "worker")
    for worker in figures["workers"]:
        idle.add_metric([worker["name"]], worker["idle_ms"] / 1000)
    yield idle


def _of_connections(figures: Status) -> Iterator[Metric]:
    connections = figures["connections"]
    down = _labelled_gauge(
        "connection_down_seconds", "For how long a connection has had no streams", "connection"
    )
    for each in connections:
        down.add_metric([each["name"]], each["down_ms"] / 1000)
    yield down
    yield CounterMetricFamily(
        "bintrades_connections_opened",
        "Connections to the streams that were opened, since the start.",
        figures["connections_opened"],
    )
    lost = CounterMetricFamily(
        "bintrades_connections_lost",
        "Connections that were lost or could not be opened, by cause, since the start.",
        labels=["cause"],
    )
    for cause, count in figures["connections_lost"].items():
        lost.add_metric([cause], count)
    yield lost


def _of_requests(figures: Status) -> Iterator[Metric]:
    rest, repair = figures["rest"], figures["repair"]
    requests = CounterMetricFamily(
        "bintrades_rest_requests", "Requests to the REST side, since the start.", labels=["purpose"]
    )
    failed = CounterMetricFamily(
        "bintrades_rest_failed_requests",
        "Requests to the REST side that were not answered well, since the start.",
        labels=["purpose"],
    )
    for purpose, count in rest["requests"].items():
        requests.add_metric([purpose], count)
        failed.add_metric([purpose], rest["failed"][purpose])
    yield from (requests, failed)
    yield _gauge(
        "rest_failing_seconds",
        "For how long every request to the REST side has failed, 0 if the last one was answered",
        rest["failing_ms"] / 1000,
    )
    had_at = figures["symbol_list_at"]
    yield _gauge(
        "symbol_list_timestamp_seconds",
        "When the exchange last told its list of symbols, 0 if not since the start",
        datetime.fromisoformat(had_at).timestamp() if had_at else 0,
    )
    yield _gauge(
        "rest_weight_used",
        "Request weight used in this minute, of this address as far as is known",
        repair["weight_used"],
    )
    yield _gauge(
        "rest_weight_allowed",
        "Request weight that may be used in a minute",
        repair["weight_allowed"],
    )
    yield _gauge("rest_blocked", "Whether no request may be made", bool(repair["blocked_until"]))


def _of_stores(figures: Status, on_record: Status) -> Iterator[Metric]:
    delivered = CounterMetricFamily(
        "bintrades_store_delivered_bars",
        "Bars a store has taken, since the start.",
        labels=["store"],
    )
    failing = _labelled_gauge("store_failing", "Whether the last attempt failed", "store")
    behind = _labelled_gauge("store_behind_seconds", "Since nothing was left for a store", "store")
    waiting = _labelled_gauge("store_waiting_bars", "Bars that wait for a store", "store")
    rejected = _labelled_gauge("store_rejected_bars", "Bars that a store has refused", "store")
    latency = HistogramMetricFamily(
        "bintrades_store_latency_seconds",
        "From the end of a bar's interval, on the exchange's clock, until a store has it durably;"
        " of bars that were never sent before.",
        labels=["store"],
    )
    for each in figures["stores"]:
        name = each["name"]
        delivered.add_metric([name], each["delivered"])
        failing.add_metric([name], each["error"] is not None)
        behind.add_metric([name], each["behind_ms"] / 1000)
        if name in on_record:
            waiting.add_metric([name], on_record[name]["waiting_bars"])
            rejected.add_metric([name], on_record[name]["rejected_bars"])
        buckets = [(bound, count) for bound, count in each["latency"]["buckets"].items()]
        latency.add_metric([name], buckets, each["latency"]["sum_ms"] / 1000)
    yield from (delivered, failing, behind, waiting, rejected, latency)


def _of_journal(status: Status) -> Iterator[Metric]:
    journal = status["journal"]
    bars = _labelled_gauge("journal_bars", "Bars in the journal, and those of a state", "state")
    bars.add_metric(["all"], journal["bars"])
    for state in ("unclosed", "incomplete"):
        bars.add_metric([state], journal[state])
    bars.add_metric(["proven"], journal["bars"] - journal["unclosed"] - journal["incomplete"])
    yield bars
    yield _gauge("journal_bytes", "Size of the journal, its log included", journal["bytes"])
    yield _gauge("journal_wal_bytes", "Size of its write-ahead log", journal["wal_bytes"])
    yield _gauge(
        "journal_failing",
        "Whether the journal cannot be written",
        bool(status["collector"].get("journal_error")),
    )
    gaps = _labelled_gauge("gaps", "Ranges of trades that are missing", "state")
    ended = CounterMetricFamily(
        "bintrades_gaps_ended",
        "Ranges of trades that were missing, by outcome.",
        labels=["outcome"],
    )
    for state, count in status["gaps"].items():
        if state != "symbols":
            (gaps if state in _OPEN_GAPS else ended).add_metric([state], count)
    yield from (gaps, ended)
    yield from _of_proof(status)


def _of_proof(status: Status) -> Iterator[Metric]:
    coverage, audit = status["coverage"], status["audit"]
    share = _labelled_gauge(
        "coverage_ratio",
        "Share of the time since symbols are collected in which nothing is missing",
        "of",
    )
    for window in ("hour", "day"):
        if window in coverage and coverage[window]["share"] is not None:
            share.add_metric([f"last {window}"], coverage[window]["share"])
    yield share
    if coverage["until"] is not None:
        yield _gauge(
            "coverage_until_timestamp_seconds",
            "Where the hour and the day of bintrades_coverage_ratio end",
            datetime.fromisoformat(coverage["until"]).timestamp(),
        )
    yield CounterMetricFamily(
        "bintrades_verified_seconds",
        "Time of all symbols in which bars equal the klines of the exchange.",
        audit["verified_minutes"] * 60,
    )
    differences = _labelled_gauge(
        "differences", "Klines of the exchange that bars did not equal, by outcome", "outcome"
    )
    for outcome, count in audit["differences"].items():
        differences.add_metric([outcome], count)
    yield differences


def _gauge(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"bintrades_{name}", f"{help_text}.", value)


def _labelled_gauge(name: str, help_text: str, label: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"bintrades_{name}", f"{help_text}.", labels=[label])
