"""One life of the collector: assembled as always, stepped instead of run by threads."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bintrades.app.collector import Collector, Resources, Supervisor
from bintrades.app.figures import Process
from bintrades.app.symbol_list import SymbolList
from bintrades.config.loader import (
    BarsConfig,
    Config,
    ExchangeConfig,
    JournalConfig,
    RepairConfig,
    StoresConfig,
    SymbolsConfig,
)
from bintrades.core.audit_schedule import AuditTimes
from bintrades.exchange.binance.budget import Budget
from bintrades.exchange.binance.exchange import BinanceExchange
from bintrades.exchange.binance.markets import MARKETS
from bintrades.exchange.events import (
    Connected,
    Disconnected,
    Event,
    Payloads,
    StreamsAdded,
    StreamsRemoved,
)
from bintrades.pipeline.inbox import Inbox
from bintrades.util.runtime import Runtime
from tests.simulation.kinds import SPOT_TRADES
from tests.simulation.network import SimulatedNetwork
from tests.simulation.watch import WatchedJournal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bintrades.exchange.binance.feed.reader import Reader
    from bintrades.exchange.binance.market import Market
    from bintrades.model import GapSet, Trade
    from bintrades.stores.store import Store
    from tests.simulation.kinds import Kind
    from tests.simulation.listings import Selection
    from tests.simulation.schedule import Schedule
    from tests.simulation.stores import FaultyStore, OtherClient
    from tests.simulation.world import World

_SHARE = 50
_LIST_AGAIN_MS = 2_500  # where the exchange has not told its list, or symbols are to leave by it
_LONG_S = 0.5
_LOOKS_EVERY_MS = 10_000  # a delivery that nobody has called
_MOST_STEPS = 200  # of the backfill without time passing: more means that it spins
_AUDIT_TIMES = AuditTimes(
    every_ms=15_000,
    behind_ms=6_000,
    again_ms=4_000,
    backlog_ms=500,
    postponed_ms=15_000,
    postponed_at_most_ms=60_000,
)
_FOR_EVER_MS = 100 * 365 * 86_400_000


def market_of(page: int, weight_per_minute: int, kind: Kind = SPOT_TRADES) -> Market:
    """Return a market with smaller limits."""
    market = MARKETS[kind.market]
    return replace(
        market,
        historical_trades=replace(market.historical_trades, max_rows=page),
        aggregate_trades=replace(market.aggregate_trades, max_rows=page),
        weight_per_minute=weight_per_minute,
        history_ms=kind.reach,
    )


def config_of(schedule: Schedule, path: Path, stores: Sequence[str]) -> Config:
    """Return the configuration of a collector whose journal is *path*."""
    retention_ms = _FOR_EVER_MS if schedule.retention is None else schedule.retention
    return Config(
        path=Path("simulation.ini"),
        folder=path.parent,
        exchange_options=ExchangeConfig(
            market=schedule.kind.market,
            stream=schedule.kind.stream,
            time_unit="microsecond" if schedule.kind.is_in_microseconds else "millisecond",
            api_key="secret" if schedule.kind.has_key else "",
            stream_url="ws://simulation",
            rest_url="http://simulation",
            redundancy=schedule.redundancy,
            streams_per_connection=schedule.group_size,
            rotate_after_ms=schedule.rotate_after,
            coalesce_ms=0,
            silence_timeout_ms=schedule.silence_timeout,
        ),
        bars=BarsConfig(interval_ms=schedule.interval, grace_ms=schedule.grace),
        repair=RepairConfig(max_age_ms=schedule.max_age, weight_share=_SHARE),
        journal=JournalConfig(
            path=path,
            retention_ms=retention_ms,
            checkpoint_every_ms=schedule.checkpoint_every,
        ),
        stores=StoresConfig(enabled=tuple(stores)),
        store_options={store: {} for store in stores},
    )


def symbols_config(selection: Selection, schedule: Schedule) -> SymbolsConfig:
    """Return the section [symbols] that makes this selection."""
    return SymbolsConfig(selection.include, selection.exclude, refresh_ms=schedule.refresh)


def _is_long(wait_s: float) -> bool:
    """Whether a start that waits for so long is given up, to be tried again later."""
    return wait_s >= _LONG_S


class NotStarted(Exception):  # noqa: N818 - no error: it is tried again
    """Nobody knows yet which symbols there are."""


class SteppedThread:
    """In the place of a thread: it only says whether the worker has begun and not yet ended."""

    def __init__(self) -> None:
        self._is_alive = False

    def start(self) -> None:
        """Begin."""
        self._is_alive = True

    def end(self) -> None:
        """End."""
        self._is_alive = False

    def is_alive(self) -> bool:
        """Whether it has started and not yet ended."""
        return self._is_alive

    def join(self, timeout: float | None = None) -> None:
        """Wait for nothing."""


class WorldInbox(Inbox):
    """An inbox that what REST brings reaches late: it was a while under way."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self._under_way: deque[tuple[int, Event]] = deque()

    @property
    def under_way(self) -> int:
        """Events that have not arrived yet."""
        return len(self._under_way)

    def put(self, item: Event, block: bool = True, timeout: float | None = None) -> None:
        """Take an event of the feed at once, and what comes from the REST side later."""
        if isinstance(item, Payloads | Connected | Disconnected | StreamsAdded | StreamsRemoved):
            super().put(item, block, timeout)
            return
        self._world.seam()
        at = self._world.clock.now() + self._world.rng.choice([0, 5, 80, 600])
        if self._under_way:
            at = max(at, self._under_way[-1][0])
        self._under_way.append((at, item))

    def arrive(self, now: int) -> None:
        """Have arrive what has been under way for long enough."""
        while self._under_way and self._under_way[0][0] <= now:
            super().put(self._under_way.popleft()[1])


class Failures(Supervisor):
    """Takes what no worker can go on with for an error of the world."""

    def __init__(self, errors: list[str]) -> None:
        self._errors = errors

    def fail(self, failure: str) -> None:
        """Take it for one."""
        self._errors.append(failure)

    def refuse(self, problem: str) -> None:
        """Take it for one."""
        self._errors.append(problem)


class SilentProcess(Process):
    """Says nothing of itself: process number and dates would make every world another one."""

    def figures(self) -> dict[str, Any]:
        """Return nothing."""
        return {}


class SteppedCollector(Collector):
    """A collector from start to stop, or to a kill. The world steps its workers."""

    def __init__(
        self, world: World, path: Path, stores: Sequence[FaultyStore | OtherClient]
    ) -> None:
        schedule, clock = world.schedule, world.clock
        self.world = world
        self.network = SimulatedNetwork(world)
        self._stores = stores
        self._readers: list[Reader] = []  # in the order of their last steps
        self._threads: dict[str, SteppedThread] = {}
        self._not_before: dict[str, int] = {}  # the next step of a reader or a delivery
        self._asks_at = 0
        self._looks_at = 0
        self._compares_at = 0
        self.journal = WatchedJournal(world, path)
        banned_for = self.journal.get_ban().left_ms(clock.utc())
        self.budget = Budget(schedule.weight_per_minute, _SHARE, banned_for, clock.now())
        self._arrivals = WorldInbox(world)
        config = config_of(schedule, path, [store.name for store in stores])
        runtime = Runtime(clock.now, self._utc, self._make_thread, world.rng)
        exchange = BinanceExchange(
            world.market, config.exchange_options, self.network, self.budget, runtime
        )
        self._selection = world.selection
        self.symbols: SymbolList | None = None
        symbols: tuple[str, ...] | None = schedule.symbols
        if schedule.has_catalog:
            selected = symbols_config(self._selection, schedule)
            self.symbols = SymbolList(selected, exchange, self.journal, runtime)
            symbols = self.symbols.start(self.journal, _is_long)
        if symbols is None:
            self.journal.close()
            raise NotStarted
        resources = Resources(
            self.journal,
            exchange,
            cast("Sequence[Store]", stores),
            SilentProcess(),
            Failures(world.errors),
            self._arrivals,
            runtime,
        )
        few_symbols = 0 if schedule.seed % 2 == 1 else len(schedule.symbols)
        super().__init__(
            config,
            symbols,
            resources,
            series_of=self.symbols.series if self.symbols is not None else None,
            few_symbols=few_symbols,
            audit_times=_AUDIT_TIMES,
        )
        if self.symbols is not None:
            self.feed.expect_no_data(self.symbols.halted)
        has_answer = self.symbols is None or (
            self.symbols.has_answer and not self.symbols.has_ended
        )
        self._follows_at = clock.now() + self._list_rest(has_answer=has_answer)
        self.feed.start()

    def step(self) -> None:
        """Let every thread that can do something do it, in any order."""
        works = [self._read, self._record, self._repair, self._deliver, self._look]
        if self.world.schedule.is_audited:
            works.append(self._compare)
        if self.symbols is not None:
            works.append(self._follow)
        self.world.rng.shuffle(works)
        for work in works:
            work()
        if self.world.is_calm:
            self._record()

    def stop(self) -> bool:
        """End in good order, as Service does; return whether the journal took everything."""
        for reader in self._new_order():
            reader.stop()
        self._end_stopped_readers()
        self._arrivals.arrive(2**63)
        while not self.inbox.empty():
            self._handle_next()
        for _ in range(3):
            if self.ingest.finish(self.world.clock.now()):
                break
        is_saved = self.ingest.waiting_bars == 0
        for store, delivery in zip(self._stores, self.deliveries, strict=True):
            if not store.is_hanging:
                delivery.deliver_all()
            store.close()
        self.journal.close()
        return is_saved

    def abandon(self) -> None:
        """Let go of files without a word, as a dead process does."""
        self.journal.close()

    @property
    def waiting(self) -> str:
        """What waits anywhere, or is remembered for nothing; most often empty."""
        assert self.backfill is not None
        backfill, is_provable = self.backfill, self.world.schedule.is_provable
        is_idle = backfill.is_idle if is_provable else backfill._backfill._plan.is_empty
        found = {
            "inbox": self.inbox.qsize() + self._arrivals.under_way,
            "backfill": not is_idle,
            "open bars": self.aggregator.open_bar_count,
            "symbols to prove": self.aggregator.unproven_count if is_provable else 0,
            "proofs to write": self._unwritten_proofs if is_provable else 0,
            "bars": self.aggregator.waiting_bar_count or self.ingest.waiting_bars,
            "symbols that are to leave": self.symbols is not None and self.symbols.has_ended,
            "symbols that leave": self.ingest._symbols.leaving_count,
            "records of symbols": len(self.ingest._pending.symbols),
            "stores": [each.last_error for each in self.deliveries if each.last_error],
        }
        return ", ".join(f"{name}: {value}" for name, value in found.items() if value)

    @property
    def _unwritten_proofs(self) -> int:
        """How many symbols have closed bars that the journal does not know to be proven."""
        interval = self.world.schedule.interval
        return sum(
            1
            for symbol, each in self.journal.checkpoints.items()
            if symbol in self.aggregator.symbols
            and each.closed_through is not None
            and not each.proves(each.closed_through + interval)
        )

    def proofs(self) -> dict[str, tuple[int | None, int | None]]:
        """Return until when and since when the trades of each symbol are known, as was written."""
        return {
            symbol: (each.proven_ms, each.covered_since_ms)
            for symbol, each in self.journal.checkpoints.items()
        }

    def has_had(self, trade: Trade) -> bool:
        """Whether *trade* was counted."""
        if trade.symbol not in self.aggregator.symbols:
            return False
        state = self.aggregator.series[trade.symbol]._ledger.state
        return (
            state is not None
            and trade.trade_id < (state.next_id or 0)
            and not any(gap.first_id <= trade.trade_id <= gap.last_id for gap in state.gaps)
        )

    def notify_deliveries(self) -> None:
        """Have the stores given what was committed just now, but not all at once."""
        self.world.seam()
        super().notify_deliveries()
        for delivery in self.deliveries:
            if not delivery.last_error:  # after a failure nothing cuts the waiting short
                rest = self.world.rng.choice([0, 1_000, 2_000])
                self._not_before[delivery.name] = self.world.clock.now() + rest

    def publish_gaps(self, gaps: GapSet) -> None:
        """Have asked for what is missing of a symbol now, and look at it."""
        super().publish_gaps(gaps)
        self.world.see_gaps(gaps)

    def _read(self) -> None:
        self._readers = self._new_order()
        self.world.rng.shuffle(self._readers)
        for reader in self._readers:
            if self.inbox.qsize() < self.world.schedule.inbox_size:
                self._step_reader(reader)

    def _new_order(self) -> list[Reader]:
        """Return the readers that live: those known before in their order, then the new ones."""
        alive = [reader for reader in self.feed.readers if reader.is_alive]
        known = [reader for reader in self._readers if reader in alive]
        return known + [cast("Reader", each) for each in alive if each not in known]

    def _step_reader(self, reader: Reader) -> None:
        now = self.world.clock.now()
        if now >= self._not_before.get(reader.name, 0):
            self._not_before[reader.name] = now + int(reader.step() * 1000)
            if reader.last_error is not None:
                self.world.note(f"{reader.name}: {reader.last_error}")

    def _end_stopped_readers(self) -> None:
        for reader in self._new_order():
            if reader.is_stopping:
                self.world.note(f"{reader.name} stopped")
                reader.disconnect()
                self._threads[reader.name].end()

    def _record(self) -> None:
        now = self.world.clock.now()
        self._arrivals.arrive(now)
        waiting = self.inbox.qsize()
        for _ in range(self.world.rng.randint(waiting if self.world.is_calm else 0, waiting)):
            self._handle_next()
            self.ingest.tick(now, is_caught_up=self.inbox.empty())
        self.ingest.tick(now, is_caught_up=self.inbox.empty())

    def _handle_next(self) -> None:
        event = self.inbox.get_nowait()
        self.ingest.handle(event)
        self.world.seam()

    def _repair(self) -> None:
        assert self.backfill is not None
        self.backfill.take_updates()
        now = self.world.clock.now()
        if now < self._asks_at or self.inbox.qsize() >= self.world.schedule.inbox_size:
            return
        for _ in range(_MOST_STEPS):
            wait = self.backfill.step()
            if wait:
                self._asks_at = now + wait
                return
        raise AssertionError("the backfill never rests")

    def _deliver(self) -> None:
        now = self.world.clock.now()
        for store, delivery in zip(self._stores, self.deliveries, strict=True):
            if store.is_hanging or now < self._not_before.get(delivery.name, 0):
                continue
            is_caught_up, wait_s = delivery.deliver_all()
            self._not_before[delivery.name] = now + (
                _LOOKS_EVERY_MS if is_caught_up else int(wait_s * 1000)
            )

    def _follow(self) -> None:
        """Look which symbols there are, as SymbolWatch does: at times, and at a signal."""
        assert self.symbols is not None
        now, selection = self.world.clock.now(), self.world.selection
        is_new = selection != self._selection
        if self.inbox.qsize() >= self.world.schedule.inbox_size:
            return
        if not is_new and now < self._follows_at:
            return
        if is_new:
            self.world.note(f"the configuration selects {selection}")
            self._selection = selection
            self.symbols.reconfigure(symbols_config(selection, self.world.schedule))
        has_answer = self.symbols.refresh(self.inbox.put, self.exchange_time, is_new=is_new)
        self._follows_at = now + self._list_rest(has_answer=has_answer)

    def _list_rest(self, *, has_answer: bool) -> int:
        refresh = self.world.schedule.refresh
        return refresh if has_answer else min(_LIST_AGAIN_MS, refresh)

    def _compare(self) -> None:
        """Have some bars be compared with klines."""
        now = self.world.clock.now()
        if self.audit is None or self.inbox.qsize() >= self.world.schedule.inbox_size:
            return
        for _ in range(_MOST_STEPS):
            if now < self._compares_at:
                return
            self._compares_at = now + self.audit._step()
        raise AssertionError("the audit never rests")

    def _look(self) -> None:
        now = self.world.clock.now()
        if now >= self._looks_at:
            self._looks_at = now + 1_000
            self.feed.maintain(now)
            self._end_stopped_readers()

    def _make_thread(self, _run: Callable[[], None], name: str) -> SteppedThread:
        thread = self._threads[name] = SteppedThread()
        return thread

    def _utc(self) -> int:
        self.world.seam()
        return self.world.clock.utc()
