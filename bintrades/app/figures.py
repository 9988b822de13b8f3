"""The figures of a running collector: from snapshots of its parts to what `status --json` shows."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from bintrades.app.health import CollectorState
from bintrades.errors import JournalError
from bintrades.model import utc
from bintrades.pipeline.latency import BOUNDS_MS
from bintrades.util.clocks import now_ms, utc_ms
from bintrades.util.log_writer import lost_lines
from bintrades.util.redaction import redacted
from bintrades.util.text import as_json
from bintrades.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bintrades.app.symbol_list import SymbolsSnapshot
    from bintrades.exchange.snapshots import ConnectionCounts, ConnectionSnapshot
    from bintrades.journal.writer import Journal
    from bintrades.pipeline.audit.audit import AuditSnapshot
    from bintrades.pipeline.delivery import DeliverySnapshot
    from bintrades.pipeline.ingest import IngestSnapshot
    from bintrades.pipeline.latency import LatencySnapshot
    from bintrades.pipeline.request_counts import RequestCounts


class Process:
    """The process of the collector and its state, which is one of health's.

    *shard* is its part of the symbols, such as 2/5; None: it has all. Whoever reads the
    configuration again sets it.
    """

    def __init__(self, shard: str | None = None) -> None:
        self.state = CollectorState.STARTING
        self.shard = shard
        self._started_at = utc_ms()
        self._started_ms = now_ms()

    def figures(self) -> dict[str, Any]:
        """Return its status without the figures of its parts."""
        return {
            "version": __version__,
            "pid": os.getpid(),
            "state": self.state,
            "shard": self.shard,
            "started_at": utc(self._started_at).isoformat(),
            "updated_at": utc(utc_ms()).isoformat(),
            "started_ms": self._started_ms,
            "beat_ms": now_ms(),
        }

    def publish(self, journal: Journal) -> None:
        """Write the status into the journal while nothing else does so yet; ignore a failure."""
        with suppress(JournalError):
            journal.set_status(as_json(self.figures()))


@dataclass(frozen=True, slots=True)
class BackfillSnapshot:
    """The state of the requests for missing trades."""

    is_enabled: bool
    request_count: int
    weight_used: int  # in this minute, by whomever on this address as far as is known
    weight_allowed: int  # in a minute
    blocked_for_ms: int  # for which no request of any kind may be made
    error: str | None  # of the last request of any kind, that for the list of symbols too
    proof_error: str | None = None  # why the newest trades are not known; None: they are


@dataclass(frozen=True, slots=True)
class RestSnapshot:
    """How the exchange's REST side answers."""

    requests: Mapping[str, RequestCounts]  # since the start, by purpose
    failing_for_ms: int  # for which every request has failed; 0: the last one was answered


@dataclass(frozen=True, slots=True)
class WorkerSnapshot:
    """A thread that runs."""

    name: str
    idle_ms: int  # since its loop last came round
    is_vital: bool  # a store that hangs delays only itself: its thread is not


@dataclass(frozen=True, slots=True)
class CollectorSnapshot:
    """All parts of a collector at a moment; counts are since the start."""

    symbols: int
    listing: SymbolsSnapshot
    ingest: IngestSnapshot
    queue: int  # events that wait
    connections: Sequence[ConnectionSnapshot]
    connection_counts: ConnectionCounts
    backfill: BackfillSnapshot
    rest: RestSnapshot
    audit: AuditSnapshot | None  # None: there is none
    deliveries: Sequence[DeliverySnapshot]
    workers: Sequence[WorkerSnapshot]


def collector_figures(process: Process, snapshot: CollectorSnapshot) -> dict[str, Any]:
    """Return everything worth knowing, without secrets."""
    ingest = snapshot.ingest
    return {
        **process.figures(),
        "symbols": snapshot.symbols,
        **_listing_figures(snapshot.listing),
        "unproven_symbols": ingest.unproven_count,
        "trades": ingest.trade_count,
        "duplicates": ingest.duplicate_count,
        "excluded": ingest.excluded_count,
        "repaired_trades": ingest.repaired_count,
        "foreign_trades": ingest.foreign_count,
        "bad_messages": ingest.bad_count,
        "unknown_messages": ingest.unknown_count,
        "invalid_aggregates": ingest.invalid_count,
        "trade_kinds": dict(ingest.kinds),
        "bars": ingest.bar_count,
        "amended_bars": ingest.amended_count,
        "open_bars": ingest.open_bar_count,
        "lag_ms": ingest.lag_ms,
        "delay_ms": ingest.delay_ms,
        "queue": snapshot.queue,
        "journal_error": redacted(ingest.journal_error),
        "log_lines_lost": lost_lines(),
        "connections": [
            {
                "name": each.name,
                "state": each.state,
                "symbols": each.symbols,
                "connections": each.connection_count,
                "error": redacted(each.error),
                "down_ms": each.down_ms,
                "empty_connections": each.empty_connections,
            }
            for each in snapshot.connections
        ],
        "connections_opened": snapshot.connection_counts.opened,
        "connections_lost": dict(snapshot.connection_counts.lost),
        "repair": _backfill_figures(snapshot.backfill),
        "rest": _rest_figures(snapshot.rest),
        "audit": _audit_figures(snapshot.audit),
        "stores": [
            {
                "name": each.store,
                "delivered": each.delivered_count,
                "error": redacted(each.error),
                "behind_ms": each.behind_ms,
                "coverage_error": redacted(each.coverage_error),
                "latency": _latency_figures(each.latency),
            }
            for each in snapshot.deliveries
        ],
        "workers": [
            {"name": each.name, "idle_ms": each.idle_ms, "is_vital": each.is_vital}
            for each in snapshot.workers
        ],
    }


def _listing_figures(listing: SymbolsSnapshot) -> dict[str, Any]:
    return {
        "unlisted_symbols": redacted(list(listing.unlisted)),
        "halted_symbols": redacted(list(listing.halted)),
        "symbol_changes": {
            "added": listing.added,
            "returned": listing.returned,
            "left": listing.left,
        },
        "symbol_list_error": redacted(listing.list_error),
        "symbol_list_at": (
            None if listing.had_at_ms is None else utc(listing.had_at_ms).isoformat()
        ),
    }


def _backfill_figures(backfill: BackfillSnapshot) -> dict[str, Any]:
    blocked_for = backfill.blocked_for_ms
    return {
        "is_enabled": backfill.is_enabled,
        "requests": backfill.request_count,
        "weight_used": backfill.weight_used,
        "weight_allowed": backfill.weight_allowed,
        "blocked_until": utc(utc_ms() + blocked_for).isoformat() if blocked_for else None,
        "error": redacted(backfill.error),
        "proof_error": redacted(backfill.proof_error),
    }


def _rest_figures(rest: RestSnapshot) -> dict[str, Any]:
    return {
        "requests": {purpose: each.made for purpose, each in rest.requests.items()},
        "failed": {purpose: each.failed for purpose, each in rest.requests.items()},
        "failing_ms": rest.failing_for_ms,
    }


def _latency_figures(latency: LatencySnapshot) -> dict[str, Any]:
    """Return how many bars a store had within each number of seconds, as Prometheus counts them."""
    bounds = [f"{bound / 1000:g}" for bound in BOUNDS_MS]
    counts = accumulate(latency.counts)
    return {"buckets": dict(zip([*bounds, "+Inf"], counts, strict=True)), "sum_ms": latency.sum_ms}


def _audit_figures(audit: AuditSnapshot | None) -> dict[str, Any]:
    if audit is None:
        return {"is_enabled": False}
    until, counts = audit.verified_until, audit.counts
    return {
        "is_enabled": True,
        "requests": audit.request_count,
        "symbols": audit.symbols,
        "verified_until": None if until is None else utc(until).isoformat(),
        "verified_minutes": counts.verified_ms // 60_000,
        "differences": counts.different,
        "rebuilt_bars": counts.rebuilt,
        "error": redacted(audit.error),
    }
