"""One collector, assembled: which parts there are and how they are wired. Nothing starts here."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from bintrades.app.figures import (
    BackfillSnapshot,
    CollectorSnapshot,
    Process,
    RestSnapshot,
    WorkerSnapshot,
    collector_figures,
)
from bintrades.app.symbol_list import SymbolsSnapshot
from bintrades.core.aggregator import Aggregator
from bintrades.core.audit_schedule import AUDIT_TIMES
from bintrades.journal.cursor import Cursor
from bintrades.journal.reader import JournalReader
from bintrades.model import GapSet
from bintrades.pipeline.audit.assembly import make_audit
from bintrades.pipeline.backfill import Backfill
from bintrades.pipeline.backfill_thread import BackfillThread
from bintrades.pipeline.commit_schedule import FEW_SYMBOLS
from bintrades.pipeline.delivery import Delivery
from bintrades.pipeline.inbox import Inbox
from bintrades.pipeline.ingest import Ingest, IngestHooks, IngestSnapshot
from bintrades.pipeline.ingest_thread import IngestThread
from bintrades.pipeline.proof_schedule import ProofSchedule
from bintrades.pipeline.pruning import Pruning
from bintrades.pipeline.request_counts import RequestCounts
from bintrades.pipeline.symbol_changes import SymbolHooks
from bintrades.util.runtime import SYSTEM, Runtime
from bintrades.util.text import as_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bintrades.config.loader import Config
    from bintrades.core.audit_schedule import AuditTimes
    from bintrades.exchange.port import Exchange
    from bintrades.journal.writer import Journal
    from bintrades.model import SeriesKey
    from bintrades.pipeline.audit.thread import AuditThread
    from bintrades.stores.store import Store
    from bintrades.util.worker import Worker


class Supervisor(Protocol):
    """Takes failures that no worker can go on with. Any thread."""

    def fail(self, failure: str) -> None:
        """End the collector because of *failure*."""

    def refuse(self, problem: str) -> None:
        """End the collector because of an option of a store."""


@dataclass(frozen=True, slots=True)
class Resources:
    """The open resources of a collector; the caller opens and closes them."""

    journal: Journal
    exchange: Exchange
    stores: Sequence[Store]
    process: Process
    supervisor: Supervisor
    inbox: Inbox = field(default_factory=Inbox)
    runtime: Runtime = SYSTEM


class Collector:
    """All workers of one collector, none of them started.

    Of up to *few_symbols* all that changed is saved at each checkpoint, see Ingest.
    """

    def __init__(
        self,
        config: Config,
        symbols: Sequence[str],
        resources: Resources,
        *,
        series_of: Callable[[str], SeriesKey] | None = None,
        few_symbols: int = FEW_SYMBOLS,
        audit_times: AuditTimes = AUDIT_TIMES,
    ) -> None:
        self.symbols_snapshot: Callable[[], SymbolsSnapshot] = SymbolsSnapshot
        self._series_of = series_of or resources.exchange.series
        self._config = config
        self._symbols = symbols  # at the start
        self._few_symbols = few_symbols
        self._resources = resources
        self._exchange = resources.exchange
        self._runtime = resources.runtime
        self._on_failure = resources.supervisor.fail
        self._others: Sequence[Worker] = ()
        self.inbox = resources.inbox
        self.aggregator = self._make_aggregator(resources.journal)
        self.feed = self._exchange.make_feed(symbols, self.inbox, self._on_failure)
        self.backfill = self._make_backfill() if config.repair.enabled else None
        self.audit = self._make_audit(audit_times) if config.audit.enabled else None
        self.ingest = self._make_ingest(resources.journal)
        self.ingest_thread = IngestThread(self.inbox, self.ingest, on_failure=self._on_failure)
        self._ingest_snapshot = self.ingest.snapshot()  # replaced by the thread that ingests
        self.deliveries = [self._make_delivery(store) for store in resources.stores]

    def _make_aggregator(self, journal: Journal) -> Aggregator:
        """Return an aggregator that goes on where the journal ends."""
        aggregator = Aggregator(
            map(self._series_of, self._symbols),
            interval_ms=self._config.bars.interval_ms,
            grace_ms=self._config.bars.grace_ms,
        )
        journal.flush_removed_symbols(self._symbols, self._runtime.utc())
        aggregator.resume(journal.checkpoints)
        return aggregator

    def exchange_time(self) -> int:
        """Return the exchange's clock, 0 while it is unknown. Any thread."""
        return self.aggregator.clock(self._runtime.now())

    def _make_backfill(self) -> BackfillThread:
        runtime = self._runtime
        backfill = Backfill(
            self._exchange.make_history(self._config.repair.max_age_ms),
            self._exchange.budget,
            put=self.inbox.put,
            exchange_time=self.exchange_time,
            runtime=runtime,
        )
        return BackfillThread(backfill, on_failure=self._on_failure)

    def _make_audit(self, times: AuditTimes) -> AuditThread | None:
        """Return what compares bars with the exchange's klines; None where it has none."""
        reference = self._exchange.make_reference()
        if reference is None:
            return None
        config, runtime = self._config, self._runtime
        share = min(config.audit.weight_share, config.repair.weight_share / 2)
        return make_audit(
            self._symbols,
            reference,
            self._exchange.budget,
            JournalReader(config.journal.path),
            put=self.inbox.put,
            exchange_time=self.exchange_time,
            series=self._series_of,
            interval_ms=config.bars.interval_ms,
            weight_per_minute=int(self._exchange.market.weight_per_minute * share // 100),
            times=times,
            runtime=runtime,
        )

    @property
    def _is_sparing(self) -> bool:
        return self._config.repair.enabled and len(self.aggregator.symbols) > self._few_symbols

    def _make_ingest(self, journal: Journal) -> Ingest:
        hooks = IngestHooks(
            status=self._publish,
            on_bars=self.notify_deliveries,
            on_gaps=self.publish_gaps,
            on_unproven=self._have_proven,
            on_dead_stream=self.feed.resubscribe,
            symbols=SymbolHooks(
                on_wanted=self.feed.add,
                on_unwanted=self.feed.remove,
                on_halted=self.feed.expect_no_data,
                on_begun=self._on_begun,
                on_ended=self._on_ended,
            ),
        )
        return Ingest(
            self.aggregator,
            journal,
            hooks,
            decode=self._exchange.decode,
            checkpoint_every_ms=self._config.journal.checkpoint_every_ms,
            proof=ProofSchedule(self._config.proof.every_ms, self._config.bars.interval_ms),
            is_sparing=self._is_sparing,
            is_repairing=self._config.repair.enabled,
            now=self._runtime.now(),
            utc=self._runtime.utc,
            pruning=self._make_pruning(journal),
        )

    def _make_delivery(self, store: Store) -> Delivery:
        return Delivery(
            store,
            self._config.store_options[store.name],
            Cursor(
                self._config.journal.path,
                store.name,
                self.ingest.save_readable,
                self.ingest.lose_unreadable,
            ),
            on_failure=self._on_failure,
            on_bad_options=partial(self._refuse_options, store.name),
            exchange_time=self.exchange_time,
            runtime=self._runtime,
        )

    def _make_pruning(self, journal: Journal) -> Pruning | None:
        retention_ms = self._config.retention_ms
        if retention_ms is None:
            return None
        return Pruning(journal, self._config.stores.enabled, retention_ms)

    def watch(self, *workers: Worker) -> None:
        """Have the figures show whether *workers* move as well. Call it before anybody asks."""
        self._others = workers

    @property
    def sources(self) -> list[Worker]:
        """The workers that put events into the inbox."""
        readers = list(self.feed.readers)
        return readers if self.backfill is None else [*readers, self.backfill]

    def snapshot(self) -> CollectorSnapshot:
        """Return the state of every part. Any thread."""
        now = self._runtime.now()
        budget = self._exchange.budget
        ingest = self._latest_ingest()
        listing = self.symbols_snapshot()
        return CollectorSnapshot(
            symbols=len(self.aggregator.symbols),
            listing=listing,
            ingest=ingest,
            queue=self.inbox.qsize(),
            connections=self.feed.snapshot(now),
            connection_counts=self.feed.counts(),
            backfill=BackfillSnapshot(
                is_enabled=self.backfill is not None,
                request_count=self.backfill.request_count if self.backfill else 0,
                weight_used=budget.used(now),
                weight_allowed=budget.allowed,
                blocked_for_ms=budget.blocked_for(now),
                error=budget.last_error,
                proof_error=self._proof_error(ingest),
            ),
            rest=RestSnapshot(self._request_counts(listing), budget.failing_for(now)),
            audit=self.audit.snapshot if self.audit else None,
            deliveries=[delivery.snapshot(now) for delivery in self.deliveries],
            workers=[
                WorkerSnapshot(worker.name, now - worker.moved_at_ms, worker not in self.deliveries)
                for worker in self._workers()
                if worker.is_alive
            ],
        )

    def _request_counts(self, listing: SymbolsSnapshot) -> dict[str, RequestCounts]:
        """Return how many requests were made since the start, by purpose: of those that it has."""
        counts = {"symbols": listing.requests}
        if self.backfill is not None:
            counts |= self.backfill.counts
        if self.audit is not None:
            audit = self.audit.snapshot
            counts["audit"] = RequestCounts(audit.request_count, audit.failed_count)
        return counts

    def vital_workers(self) -> dict[str, int]:
        """Return when each worker last moved without which nothing goes on. Any thread.

        Those that wait for room in the inbox are none of them: what they wait for is.
        """
        workers = self._workers() if not self.inbox.full() else [self.ingest_thread]
        return {
            worker.name: worker.moved_at_ms
            for worker in workers
            if worker.is_alive and worker not in self.deliveries
        }

    def _proof_error(self, ingest: IngestSnapshot) -> str | None:
        """Return why the newest trades are not known; None: they are."""
        error = self.backfill.proof_error if self.backfill else None
        return error or ("its word lacks trades that it has sent" if ingest.is_word_stale else None)

    def _latest_ingest(self) -> IngestSnapshot:
        """Return what the thread that ingests has published, or how it is while there is none."""
        if not self.ingest_thread.is_alive:
            self._ingest_snapshot = self.ingest.snapshot()
        return self._ingest_snapshot

    def figures(self) -> dict[str, Any]:
        """Return the snapshot of this moment for people and programs. Any thread."""
        return collector_figures(self._resources.process, self.snapshot())

    def _workers(self) -> list[Worker]:
        audit = [self.audit] if self.audit else []
        return [*self.sources, self.ingest_thread, *audit, *self.deliveries, *self._others]

    def _publish(self, ingest: IngestSnapshot) -> str:
        """Take a snapshot of the ingest, on its thread; return the figures for the journal."""
        self._ingest_snapshot = ingest
        return as_json(self.figures())

    def notify_deliveries(self) -> None:
        """Wake the deliveries after a commit. On the thread that ingests."""
        for delivery in self.deliveries:
            delivery.notify()

    def publish_gaps(self, gaps: GapSet) -> None:
        """Hand the gaps of a symbol to the backfill. On the thread that ingests."""
        if self.backfill is not None:
            self.backfill.update(gaps)

    def _on_begun(self, symbols: Sequence[str]) -> None:
        """Have all parts know symbols that are collected from now on. On the ingest thread."""
        self.ingest.save_sparingly(is_sparing=self._is_sparing)
        if self.audit is not None:
            self.audit.change_symbols(symbols, ())

    def _on_ended(self, symbols: Sequence[str]) -> None:
        """Have all parts forget symbols that are collected no longer. On the ingest thread."""
        self.ingest.save_sparingly(is_sparing=self._is_sparing)
        if self.audit is not None:
            self.audit.change_symbols((), symbols)
        if self.backfill is not None:
            for symbol in symbols:
                self.backfill.update(GapSet(symbol, has_ended=True))

    def _have_proven(self, symbols: Sequence[str]) -> None:
        if self.backfill is not None:
            self.backfill.prove(symbols)

    def _refuse_options(self, store: str, problems: str) -> None:
        for problem in problems.splitlines():
            self._resources.supervisor.refuse(f"{self._config.path}: [store:{store}] {problem}")
