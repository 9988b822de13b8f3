"""Service: opens the resources of a collector, starts its workers, waits, stops them.

The workers start from the last stage to the first and stop from the first to the last, so that
nothing is handed to one that does not run. The main thread waits for a reason to stop: a signal or
the failure of a worker.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from bintrades.app.collector import Collector, Resources
from bintrades.app.figures import Process
from bintrades.app.health import CollectorState, other_shard
from bintrades.app.monitoring.endpoints import Endpoints
from bintrades.app.monitoring.serving import make_server
from bintrades.app.scheduler import Scheduler, Ticker
from bintrades.app.status import status_of_holder, with_journal_figures
from bintrades.app.symbol_list import SymbolList
from bintrades.app.symbol_watch import SymbolWatch
from bintrades.app.watchdog import Watchdog
from bintrades.errors import ConfigError, JournalError, JournalInUse
from bintrades.exchange.registry import EXCHANGES
from bintrades.journal.pruning import MARK_EVERY_MS
from bintrades.journal.reader import JournalReader
from bintrades.journal.writer import Journal
from bintrades.net.dialing import Dialer
from bintrades.net.network import SystemNetwork
from bintrades.net.tls import Certificates
from bintrades.util.clocks import now_ms, utc_ms
from bintrades.util.logs import LimitedLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bintrades.app.shutdown import StopReasons
    from bintrades.config.loader import Config, SymbolsConfig
    from bintrades.exchange.port import Exchange
    from bintrades.stores.store import Store
    from bintrades.util.worker import Worker

log = logging.getLogger(__name__)

_READERS_STOP_WITHIN_S = 5.0
_ROTATION_EVERY_S = 1
_SUMMARY_EVERY_S = 60
_STORES_OPEN_WITHIN_S = 2.0
_FORCED_WITHIN_S = 0.5
_WORD_EVERY_S = 5.0
_WATCH_EVERY_S = 5.0
_HANGS_AFTER_S = 300.0
_ENDS_WITHIN_S = 60.0  # besides the time that stores are given
_SWITCH_THREADS_S = 0.0005
"""After how long a thread that computes lets others go on, instead of Python's 5 ms.

Each row that the journal takes lets go of Python's lock, and a store that encodes bars meanwhile
would hold it for 5 ms each time: thousands of bars that close together came twice as late.
"""

_IN_USE_EVERY_S, _IN_USE_AGAIN_S = 0.5, 60.0  # to look whether the journal is free; to say so


def run(
    config: Config,
    stores: Sequence[Store],
    reasons: StopReasons,
    on_open: Callable[[], None] = lambda: None,
) -> int:
    """Collect until there is a reason to stop; return the exit status.

    Call it on the main thread. on_open is called once it has the journal. Raises ConfigError and
    JournalError.
    """
    journal = _open_journal(config, reasons)
    if journal is None:
        return 0  # stopped while another collector had it
    on_open()
    process = Process(config.symbols.shard_name)
    process.publish(journal)
    endpoints = Endpoints(process.figures, config.journal.path, config.stores.enabled)
    with (
        closing(journal),
        closing(_open_exchange(config, journal)) as exchange,
        _answering(config, endpoints),
    ):
        if config.environment is not None:
            journal.keep_environment(config.environment)
        try:
            wait = partial(_wait_with_heartbeat, process, journal, reasons)
            symbol_list = SymbolList(config.symbols, exchange, journal)
            symbols = symbol_list.start(journal, wait)
        except ConfigError as error:
            raise ConfigError(*(f"{config.path}: {each}" for each in error.problems)) from error
        if symbols is None:
            return 0  # stopped before the exchange had answered
        resources = Resources(journal, exchange, stores, process, reasons)
        collector = Collector(config, symbols, resources, series_of=symbol_list.series)
        endpoints.figures = collector.figures
        return Service(config, collector, resources, reasons, symbol_list).run()


def _open_exchange(config: Config, journal: Journal) -> Exchange:
    return EXCHANGES[config.exchange].open(
        config.exchange_options,
        SystemNetwork(Dialer(Certificates().context)),
        weight_share=config.repair.weight_share,
        banned_for_ms=journal.get_ban().left_ms(utc_ms()),
    )


@contextmanager
def _answering(config: Config, endpoints: Endpoints) -> Iterator[None]:
    """Tell how it is, over HTTP, to anyone who asks."""
    if config.http.listen is None:
        yield
        return
    server = make_server(config.http.listen, endpoints, config.journal.path)
    server.start()
    try:
        yield
    finally:
        server.stop()  # and nothing waits for it


def _wait_with_heartbeat(
    process: Process, journal: Journal, reasons: StopReasons, timeout_s: float
) -> bool:
    """Wait for a reason to stop, leaving signs of life; return whether there is one."""
    deadline = time.monotonic() + timeout_s
    while (left := deadline - time.monotonic()) > 0:
        process.publish(journal)
        if reasons.wait(min(left, _WORD_EVERY_S)):
            return True
    return False


def _open_journal(config: Config, reasons: StopReasons) -> Journal | None:
    """Open the journal once no other collector has it; None when stopped before.

    What starts collectors may be gone and come back while its last one goes on, as when supervisord
    is killed. It gives up on a program that always ends at once, so this waits, for as long as
    it takes.
    """
    # Apart from each other: that it is another shard may be known only after the first warning.
    limited, of_shards = (LimitedLog(log, every_s=_IN_USE_AGAIN_S) for _ in range(2))
    while True:
        try:
            return Journal(
                config.journal.path,
                market=config.exchange_options.market,
                interval_ms=config.bars.interval_ms,
                exchange=config.exchange,
                stream=config.exchange_options.stream,
                mark_every_ms=min(MARK_EVERY_MS, config.journal.retention_ms // 10),
            )
        except JournalInUse as error:
            waiting = "waiting for the journal, which has one collector at a time"
            other = other_shard(status_of_holder(config.journal.path), config.symbols.shard_name)
            if other is None:
                limited.warning("journal_locked", waiting, error=str(error))
            else:
                of_shards.warning("journal_locked", f"{waiting}; {other}", error=str(error))
        if reasons.wait(_IN_USE_EVERY_S):
            return None


class Service:
    """Starts the workers of a collector, waits for a reason to stop, and stops them."""

    def __init__(
        self,
        config: Config,
        collector: Collector,
        resources: Resources,
        reasons: StopReasons,
        symbol_list: SymbolList,
    ) -> None:
        self._config = config
        self._collector = collector
        self._journal = resources.journal
        self._process = resources.process
        self._reasons = reasons
        self._is_forced = False
        self._watchdog = Watchdog(int(_HANGS_AFTER_S * 1000), int(_WATCH_EVERY_S * 1000))
        # Apart from what is scheduled: an exchange that announces its end waits for no summary.
        self._rotation = Ticker(
            "rotation", _ROTATION_EVERY_S, self._maintain_connections, reasons.fail
        )
        self._scheduler = Scheduler(reasons.fail)
        self._scheduler.every(_SUMMARY_EVERY_S, self._log_summary)
        self._symbols = SymbolWatch(
            config,
            symbol_list,
            put=collector.inbox.put,
            exchange_time=collector.exchange_time,
            on_reload=self._take_shard,
            on_failure=reasons.fail,
        )
        collector.symbols_snapshot = lambda: symbol_list.snapshot
        collector.feed.expect_no_data(symbol_list.halted)
        collector.watch(self._rotation, self._scheduler, self._symbols)

    def run(self) -> int:
        """Start everything, wait for a reason to stop, stop everything; return the exit status.

        Raises ConfigError when a store refuses its options.
        """
        sys.setswitchinterval(_SWITCH_THREADS_S)
        log.info(
            "starting; %s",
            "; ".join((self._config.when_bars_leave, *self._config.remarks)),
            extra={"event": "collector_started", "journal": str(self._config.journal.path)},
        )
        collector = self._collector
        for delivery in collector.deliveries:
            delivery.start()
        for delivery in collector.deliveries:
            delivery.wait_until_tried(_STORES_OPEN_WITHIN_S)
            self._process.publish(self._journal)
        if not self._reasons.bad_options:
            self._process.state = CollectorState.RUNNING
            collector.ingest_thread.start()
            if collector.backfill is not None:
                collector.backfill.start()
            collector.feed.start()
            self._rotation.start()
            self._scheduler.start()
            self._symbols.start()
            self._reasons.on_reload(self._symbols.reload)
            if collector.audit is not None:
                collector.audit.start()
            self._watch()
        self._stop()
        if self._reasons.bad_options:
            raise ConfigError(*self._reasons.bad_options)
        return 1 if self._reasons.failures or collector.ingest_thread.lost_bar_count else 0

    def _watch(self) -> None:
        """Wait for a reason to stop; a worker that hangs is one."""
        while not self._reasons.wait(_WATCH_EVERY_S):
            hanging = self._watchdog.look(self._collector.vital_workers(), now_ms())
            if hanging:
                log.critical(
                    "hangs, so the process ends: %s",
                    ", ".join(hanging),
                    extra={"event": "worker_hangs", "workers": hanging},
                )
                self._end_in_any_case()
                self._reasons.fail(f"{hanging[0]} hangs")

    def _end_in_any_case(self) -> None:
        """Have the process end even if what hangs keeps it from ending in order."""
        within_s = _ENDS_WITHIN_S + 4 * self._config.stores.shutdown_timeout_ms / 1000
        ending = threading.Timer(within_s, os._exit, [1])
        ending.daemon = True
        ending.start()

    def _stop(self) -> None:
        self._process.state = CollectorState.STOPPING
        within_s = self._config.stores.shutdown_timeout_ms / 1000
        if self._collector.audit is not None:
            self._collector.audit.stop()  # and nothing waits for it: what it lost it finds again
        self._collector.feed.close()
        self._symbols.stop()  # nothing waits for it: what it finds is found again at the start
        self._stop_workers([self._scheduler, self._rotation])
        self._stop_workers(self._collector.sources)
        self._stop_ingest(within_s)
        self._stop_deliveries(within_s)
        log.info("stopped", extra={"event": "collector_stopped", **self._collector.figures()})

    def _stop_workers(self, workers: Sequence[Worker]) -> None:
        for worker in workers:
            worker.stop()
        self._wait_for(workers, _READERS_STOP_WITHIN_S)

    def _stop_ingest(self, within_s: float) -> None:
        """Have all that has come written to the journal, the open bars as well."""
        ingest_thread = self._collector.ingest_thread
        ingest_thread.stop()
        if self._wait_for([ingest_thread], within_s):
            return
        ingest_thread.force_stop()
        if not self._wait_for([ingest_thread], within_s):
            self._reasons.fail("the aggregator did not end; what it held is lost")
            log.error(
                "the aggregator did not end; what it held is lost",
                extra={"event": "ingest_abandoned"},
            )
            self._journal.leak()

    def _stop_deliveries(self, within_s: float) -> None:
        """Give the stores some time for the remaining bars; the journal keeps the rest."""
        deliveries = self._collector.deliveries
        for delivery in deliveries:
            delivery.finish(within_s)
        if not self._wait_for(deliveries, min(within_s, _FORCED_WITHIN_S)):
            log.info(
                "the stores have %g s to take what is left; a signal ends that",
                within_s,
                extra={"event": "shutdown_waiting"},
            )
        self._wait_for(deliveries, within_s)
        for delivery in deliveries:
            if not delivery.has_taken_all and self._lacks_bars(delivery.store_name):
                log.warning(
                    "store %s has not taken all bars; what it lacks stays in the journal",
                    delivery.store_name,
                    extra={"event": "store_left_behind", "store": delivery.store_name},
                )

    def _lacks_bars(self, store: str) -> bool:
        """Whether bars wait for a store, as far as that can be known."""
        try:
            return JournalReader(self._config.journal.path).store(store).waiting_bars > 0
        except JournalError:
            return True

    def _wait_for(self, workers: Sequence[Worker], within_s: float) -> bool:
        """Wait for the end of *workers*; another signal cuts this and all later waiting short."""
        deadline = time.monotonic() + (_FORCED_WITHIN_S if self._is_forced else within_s)
        while any(worker.is_alive for worker in workers):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            if self._reasons.wait(min(left, 0.05)) and not self._is_forced:
                self._is_forced = True
                deadline = time.monotonic() + _FORCED_WITHIN_S
        return True

    def _take_shard(self, symbols: SymbolsConfig) -> None:
        self._process.shard = symbols.shard_name

    def _maintain_connections(self) -> None:
        self._collector.feed.maintain(now_ms())

    def _log_summary(self) -> None:
        figures = with_journal_figures(self._collector.figures(), self._config.journal.path)
        del figures["workers"]  # watched, and a line if one hangs
        log.info("summary", extra={"event": "summary", **figures})
