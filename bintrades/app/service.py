"""The whole service on one page: what there is, how it is wired, how it starts and stops.

Started from the last stage to the first and stopped from the first to the last, so that nothing is
handed to somebody who is not there. The main thread waits for a reason to stop: a signal, or the
word that a worker has failed.
"""

from __future__ import annotations

import logging
import queue
import sys
import time
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from bintrades.app.health import RUNNING, STOPPING
from bintrades.app.scheduler import Scheduler, Ticker
from bintrades.app.status import Process, Status
from bintrades.app.symbol_list import choose_symbols, unlisted_symbols
from bintrades.core.aggregator import Aggregator
from bintrades.errors import ConfigError, ExchangeError, JournalError, JournalInUse
from bintrades.exchange.ban import BLOCKED_UNTIL, Ban
from bintrades.exchange.events import RateLimited
from bintrades.exchange.registry import EXCHANGES
from bintrades.journal.reader import Cursor, JournalReader
from bintrades.journal.writer import MARK_EVERY_MS, Journal
from bintrades.net.dialing import Dialer
from bintrades.net.tls import Certificates
from bintrades.pipeline.delivery import Delivery
from bintrades.pipeline.ingest import FEW_SYMBOLS, Ingest
from bintrades.pipeline.ingest_thread import INBOX_SIZE, IngestThread
from bintrades.pipeline.pruning import Pruning
from bintrades.util.clocks import now_ms, utc_ms
from bintrades.util.logs import LimitedLog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bintrades.app.shutdown import StopReasons
    from bintrades.config.loader import Config
    from bintrades.core.write_batch import Key
    from bintrades.exchange.events import Event
    from bintrades.exchange.port import Exchange
    from bintrades.model import Gap
    from bintrades.stores.loader import Store
    from bintrades.util.worker import Worker

log = logging.getLogger(__name__)

_READERS_STOP_WITHIN_S = 5.0
_ROTATION_EVERY_S = 1
_SUMMARY_EVERY_S = 60
_STORES_OPEN_WITHIN_S = 2.0
_FORCED_WITHIN_S = 0.5
_WORD_EVERY_S = 5.0
_SWITCH_THREADS_S = 0.0005
"""After how long a thread that computes lets others go on, instead of Python's 5 ms.

Each row that the journal takes lets go of Python's lock, and a store that encodes bars meanwhile
would hold it for 5 ms each time: thousands of bars that close together came twice as late.
"""

_IN_USE_EVERY_S, _IN_USE_AGAIN_S = 0.5, 60.0  # to look whether the journal is free; to say so


def run(config: Config, stores: Sequence[Store], reasons: StopReasons) -> int:
    """Collect until there is a reason to stop; return the exit status.

    Call it on the main thread. Raises ConfigError and JournalError.
    """
    journal = _open_journal(config, reasons)
    if journal is None:
        return 0  # told to stop while another collector had it
    process = Process()
    process.tell(journal)
    with closing(journal), closing(_open_exchange(config, journal)) as exchange:
        try:
            wait = partial(_wait_with_heartbeat, process, journal, reasons)
            symbols = choose_symbols(config.symbols, exchange, journal, wait)
        except ConfigError as error:
            allowed = "allowed: names and patterns that leave some"
            raise ConfigError(f"{config.path}: {error}; {allowed}") from error
        if not symbols:
            return 0  # told to stop before the exchange had answered
        service = Service(config, symbols, stores, journal, exchange, reasons, process)
        return service.run()


def _open_exchange(config: Config, journal: Journal) -> Exchange:
    return EXCHANGES["binance"].open(
        config.binance,
        Dialer(Certificates().context),
        weight_share=config.repair.weight_share,
        banned_for_ms=_remembered_ban(journal).left_ms(utc_ms()),
    )


def _remembered_ban(journal: Journal) -> Ban:
    """Return what an earlier process was told of waiting; nothing if that cannot be read."""
    text = journal.get_meta(BLOCKED_UNTIL)
    try:
        return Ban.read(text)
    except ValueError:
        log.warning(
            "for how long the exchange wants no requests is nonsense in the journal and is"
            " forgotten; if it still wants none, it will say so again",
            extra={"event": "ban_unreadable", "value": text},
        )
        return Ban.read(None)


def _wait_with_heartbeat(
    process: Process, journal: Journal, reasons: StopReasons, timeout_s: float
) -> bool:
    """Wait for a reason to stop, leaving signs of life; return whether there is one."""
    deadline = time.monotonic() + timeout_s
    while (left := deadline - time.monotonic()) > 0:
        process.tell(journal)
        if reasons.wait(min(left, _WORD_EVERY_S)):
            return True
    return False


def _open_journal(config: Config, reasons: StopReasons) -> Journal | None:
    """Open the journal once no other collector has it; None when told to stop before.

    What starts collectors may be gone and come back while its last one goes on, as when supervisord
    is killed. It gives up on a program that always ends at once, so this waits, for as long as
    it takes.
    """
    limited = LimitedLog(log, every_s=_IN_USE_AGAIN_S)
    while True:
        try:
            return Journal(
                config.journal.path,
                market=config.binance.market,
                interval_ms=config.bars.interval_ms,
                mark_every_ms=min(MARK_EVERY_MS, config.journal.retention_ms // 10),
            )
        except JournalInUse as error:
            limited.warning(
                "journal_locked",
                "waiting for the journal, which has one collector at a time",
                error=str(error),
            )
        if reasons.wait(_IN_USE_EVERY_S):
            return None


class Service:
    """All workers of one collector."""

    def __init__(
        self,
        config: Config,
        symbols: Sequence[str],
        stores: Sequence[Store],
        journal: Journal,
        exchange: Exchange,
        reasons: StopReasons,
        process: Process,
    ) -> None:
        self._config = config
        self._process = process
        self._reasons = reasons
        self._exchange = exchange
        self._journal = journal
        self._is_forced = False
        self._inbox: queue.Queue[Event] = queue.Queue(INBOX_SIZE)
        self._deliveries = [
            Delivery(
                store,
                config.store_options[store.name],
                Cursor(config.journal.path, store.name, self._save_readable, self._lose_unreadable),
                on_failure=reasons.fail,
                on_bad_options=partial(self._refuse_options, store.name),
            )
            for store in stores
        ]
        aggregator = Aggregator(
            symbols,
            market=exchange.market.name,
            interval_ms=config.bars.interval_ms,
            grace_ms=config.bars.grace_ms,
        )
        journal.release(symbols, utc_ms())
        aggregator.resume(journal.checkpoints)
        self._backfill = None
        if config.repair.enabled:
            self._backfill = exchange.make_backfill(
                config.repair.max_age_ms,
                self._inbox.put,
                clock=lambda: aggregator.clock(now_ms()),
                on_failure=reasons.fail,
            )
        self._ingest = Ingest(
            aggregator,
            journal,
            checkpoint_every_ms=config.journal.checkpoint_every_ms,
            is_sparing=config.repair.enabled and len(symbols) > FEW_SYMBOLS,
            now=now_ms(),
            clock=utc_ms,
            status=lambda: self._status.text(self._ingest),
            on_bars=self._announce_bars,
            on_gaps=self._announce_gaps,
            on_idle_symbols=self._check_idle_symbols,
            pruning=self._make_pruning(),
        )
        self._ingest_thread = IngestThread(self._inbox, self._ingest, on_failure=reasons.fail)
        self._feed = exchange.make_feed(symbols, self._inbox, reasons.fail)
        self._status = Status(
            process,
            symbols,
            self._inbox,
            aggregator,
            self._feed,
            self._backfill,
            exchange.budget,
            self._deliveries,
        )
        # Apart from what is scheduled: an exchange that says goodbye waits for no summary.
        self._rotation = Ticker(
            "rotation", _ROTATION_EVERY_S, self._maintain_connections, reasons.fail
        )
        self._scheduler = Scheduler(reasons.fail)
        self._status.watch(self._rotation, self._scheduler)
        self._scheduler.once(self._check_listing)
        self._scheduler.every(_SUMMARY_EVERY_S, self._log_summary)

    def _make_pruning(self) -> Pruning | None:
        retention_ms = self._config.retention_ms
        if retention_ms is None:
            return None
        return Pruning(self._journal, self._config.stores.enabled, retention_ms)

    def run(self) -> int:
        """Start everything, wait for a reason to stop, stop everything; return the exit status.

        Raises ConfigError when a store refuses its options.
        """
        sys.setswitchinterval(_SWITCH_THREADS_S)
        log.info(
            "starting; %s",
            self._config.when_bars_leave,
            extra={"event": "collector_started", "journal": str(self._config.journal.path)},
        )
        for delivery in self._deliveries:
            delivery.start()
        for delivery in self._deliveries:
            delivery.wait_until_tried(_STORES_OPEN_WITHIN_S)
            self._process.tell(self._journal)
        if not self._reasons.bad_options:
            self._process.state = RUNNING
            self._ingest_thread.start()
            if self._backfill is not None:
                self._backfill.start()
            self._feed.start()
            self._rotation.start()
            self._scheduler.start()
            self._reasons.wait()
        self._stop()
        if self._reasons.bad_options:
            raise ConfigError(*self._reasons.bad_options)
        return 1 if self._reasons.failures or self._ingest_thread.lost_bar_count else 0

    def _stop(self) -> None:
        self._process.state = STOPPING
        self._scheduler.stop()
        self._rotation.stop()
        self._wait_for([self._scheduler, self._rotation], _READERS_STOP_WITHIN_S)
        sources: list[Worker] = [*self._feed.readers]
        if self._backfill is not None:
            sources.append(self._backfill)
        for source in sources:
            source.stop()
        self._wait_for(sources, _READERS_STOP_WITHIN_S)
        within_s = self._config.stores.shutdown_timeout_ms / 1000
        self._ingest_thread.stop()
        if not self._wait_for([self._ingest_thread], within_s):
            self._ingest_thread.force_stop()
            if not self._wait_for([self._ingest_thread], within_s):
                self._reasons.fail("the aggregator did not end; what it held is lost")
                log.error(
                    "the aggregator did not end; what it held is lost",
                    extra={"event": "ingest_abandoned"},
                )
                self._journal.abandon()
        for delivery in self._deliveries:
            delivery.finish(within_s)
        if not self._wait_for(self._deliveries, min(within_s, _FORCED_WITHIN_S)):
            log.info(
                "the stores have %g s to take what is left; a signal ends that",
                within_s,
                extra={"event": "shutdown_waiting"},
            )
        self._wait_for(self._deliveries, within_s)
        for delivery in self._deliveries:
            if not delivery.has_taken_all and self._lacks_bars(delivery.store_name):
                log.warning(
                    "store %s has not taken all bars; what it lacks stays in the journal",
                    delivery.store_name,
                    extra={"event": "store_left_behind"},
                )
        log.info(
            "stopped", extra={"event": "collector_stopped", **self._status.figures(self._ingest)}
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

    def _refuse_options(self, store: str, problems: str) -> None:
        for problem in problems.splitlines():
            self._reasons.refuse(f"{self._config.path}: [store:{store}] {problem}")

    def _save_readable(self, reason: str, file: tuple[int, int]) -> None:
        self._ingest.save_readable(reason, file)

    def _lose_unreadable(self, keys: Sequence[Key]) -> None:
        self._ingest.lose_unreadable(keys)

    def _announce_bars(self) -> None:
        for delivery in self._deliveries:
            delivery.notify()

    def _announce_gaps(self, symbol: str, gaps: Sequence[Gap]) -> None:
        if self._backfill is not None:
            self._backfill.tell(symbol, gaps)

    def _check_idle_symbols(self, symbols: Sequence[str]) -> None:
        if self._backfill is not None:
            self._backfill.check_idle(symbols)

    def _maintain_connections(self) -> None:
        self._feed.maintain(now_ms())

    def _check_listing(self) -> None:
        try:
            self._status.unlisted = unlisted_symbols(self._config.symbols, self._exchange.catalog)
        except ExchangeError as error:
            if banned_for := self._exchange.budget.banned_for(now_ms()):
                self._inbox.put(RateLimited(Ban.for_the_next(banned_for, utc_ms())))
            log.warning(
                "the symbols cannot be checked against the exchange's list; collecting goes on",
                extra={"event": "symbol_check_failed", "error": str(error)},
            )

    def _log_summary(self) -> None:
        path = self._config.journal.path
        log.info("summary", extra={"event": "summary", **self._status.summary(self._ingest, path)})
