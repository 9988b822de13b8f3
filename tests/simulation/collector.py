"""One life of the collector: the real core, wired as in bintrades.service, without its threads."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from bintrades.core.aggregator import Aggregator
from bintrades.core.gap_queue import FIRST_RETRY_S, LONGEST_RETRY_S
from bintrades.exchange.ban import BLOCKED_UNTIL, Ban
from bintrades.exchange.binance.backfill_plan import BackfillPlan, Request
from bintrades.exchange.binance.budget import Budget
from bintrades.exchange.binance.feed.pool import ConnectionPool
from bintrades.exchange.binance.feed.reader import AttemptLimit, Reader, StreamOptions
from bintrades.exchange.binance.history import History
from bintrades.exchange.binance.markets import MARKETS
from bintrades.exchange.binance.messages import decode
from bintrades.exchange.events import Payloads
from bintrades.journal.reader import Cursor
from bintrades.journal.writer import Journal
from bintrades.pipeline.backfill import Backfill
from bintrades.pipeline.delivery import Delivery
from bintrades.pipeline.ingest import Ingest
from bintrades.pipeline.pruning import Pruning
from bintrades.util.backoff import Backoff

if TYPE_CHECKING:
    import queue
    from collections.abc import Sequence
    from pathlib import Path

    from bintrades.exchange.binance.market import Market
    from bintrades.exchange.binance.rest import RestClient
    from bintrades.exchange.events import Event
    from bintrades.model import GapSet
    from bintrades.stores.store import Store
    from tests.simulation.exchange import Connection as StreamConnection
    from tests.simulation.stores import FaultyStore, OtherClient
    from tests.simulation.world import World

_SHARE = 50
_LOOKS_EVERY_MS = 10_000  # a delivery that nobody has called
_MOST_STEPS = 200  # of the backfill without time passing: more means that it spins


def market_of(page: int, weight_per_minute: int) -> Market:
    """Return the spot market with smaller limits."""
    spot = MARKETS["spot"]
    return replace(
        spot,
        historical_trades=replace(spot.historical_trades, max_rows=page),
        aggregate_trades=replace(spot.aggregate_trades, max_rows=page),
        weight_per_minute=weight_per_minute,
    )


class SteppedReader(Reader):
    """A reader without a thread: one step at a time, by the clock of the world."""

    def __init__(
        self, collector: Collector, number: int, symbols: Sequence[str], copy: int
    ) -> None:
        self._world = collector.world
        self._collector = collector
        self._is_started = False
        self._not_before = 0
        self.connection: StreamConnection | None = None
        super().__init__(
            number,
            symbols,
            cast("queue.Queue[Event]", collector),
            replace(collector.stream_options, connect=self._open),
            collector.attempts,
            copy=copy % 2,  # rotation goes on counting
            on_failure=self._world.errors.append,
        )

    @property
    def is_alive(self) -> bool:
        return self._is_started

    def start(self) -> None:
        self._is_started = True

    def stop(self) -> None:
        self._is_started = False
        self._world.note(f"{self.name} stopped")
        self.disconnect()

    def step_if_due(self) -> None:
        """Do a step, unless it rests or is stopped."""
        if self._is_started and self._world.clock.now() >= self._not_before:
            self._not_before = self._world.clock.now() + int(self.step() * 1000)
            if self.last_error is not None:
                self._world.note(f"{self.name}: {self.last_error}")

    def _open(self, copy: int) -> StreamConnection:
        self._world.note(f"{self.name} connects for {', '.join(self.symbols)}")
        self.connection = self._world.streams.connect(copy, self._world.schedule.delays[copy])
        return self.connection


class Collector:
    """From start to stop, or to a kill."""

    def __init__(
        self, world: World, path: Path, stores: Sequence[FaultyStore | OtherClient]
    ) -> None:
        schedule, clock = world.schedule, world.clock
        self.world = world
        self.inbox: deque[Event] = deque()
        self.unseen = set(schedule.symbols)  # of which no trade was handled yet
        self.first_times: dict[str, int] = {}
        self._under_way: deque[tuple[int, Event]] = deque()  # answers of the REST side
        self._updates: deque[GapSet] = deque()
        self._has_news = True
        self._not_before: dict[str, int] = {}
        self._asks_at = 0
        self._looks_at = 0
        market = market_of(schedule.page, schedule.weight_per_minute)
        self.stream_options = StreamOptions(
            "ws://simulation",
            market,
            connect=world.streams.connect,
            coalesce_ms=0,
            silence_timeout_ms=schedule.silence_timeout,
            now=clock.now,
            rng=world.rng,
        )
        self.attempts = AttemptLimit(market)
        self.journal = Journal(
            path, market="spot", interval_ms=schedule.interval, mark_every_ms=500
        )
        self.journal.release(schedule.symbols, clock.utc())
        self.aggregator = Aggregator(
            schedule.symbols,
            market="spot",
            interval_ms=schedule.interval,
            grace_ms=schedule.grace,
        )
        self.aggregator.resume(self.journal.checkpoints)
        banned_for = Ban.read(self.journal.get_meta(BLOCKED_UNTIL)).left_ms(clock.utc())
        self.budget = Budget(schedule.weight_per_minute, _SHARE, banned_for, clock.now())
        rest = cast("RestClient", world.rest)
        plan = BackfillPlan(
            market,
            schedule.max_age,
            lambda: Backoff(FIRST_RETRY_S, LONGEST_RETRY_S, world.rng),
        )
        self.backfill: Backfill[Request] = Backfill(
            History(rest, world.market, plan, self.budget, clock.now),
            self.budget,
            put=self._put_later,
            clock=lambda: self.aggregator.clock(clock.now()),
            now=clock.now,
            utc=clock.utc,
        )
        self.recording = Ingest(
            self.aggregator,
            self.journal,
            decode=decode,
            checkpoint_every_ms=schedule.checkpoint_every,
            is_sparing=schedule.seed % 2 == 1,
            now=clock.now(),
            clock=self._utc,
            status=lambda _: "{}",
            on_bars=self._on_bars,
            on_gaps=self._on_gaps,
            on_idle_symbols=self.backfill.check_idle,
            on_dead_stream=lambda symbol: self.connections.resubscribe(symbol),
            pruning=self._make_pruning(),
        )
        self.readers: list[SteppedReader] = []
        self.connections = ConnectionPool(
            schedule.symbols,
            self._make_reader,
            group_size=schedule.group_size,
            redundancy=schedule.redundancy,
            rotate_after_ms=schedule.rotate_after,
            rng=world.rng,
        )
        self.deliveries = [
            (
                store,
                Delivery(
                    cast("Store", store),
                    {},
                    Cursor(
                        path,
                        store.name,
                        self.recording.save_readable,
                        self.recording.lose_unreadable,
                    ),
                    on_failure=world.errors.append,
                    on_bad_options=world.errors.append,
                ),
            )
            for store in stores
        ]
        for _, delivery in self.deliveries:
            delivery._backoff = Backoff(0.5, 30.0, world.rng)  # or no world were ever the same
        self.connections.start()

    @property
    def stream_connections(self) -> list[StreamConnection]:
        """The connections to the exchange that its readers have now."""
        return [reader.connection for reader in self.readers if reader.connection is not None]

    def put(self, event: Event, timeout: float = 0.0) -> None:  # noqa: ARG002 - as a queue has it
        """Put *event* into the inbox; a reader whose inbox is full is not stepped."""
        self.inbox.append(event)

    def step(self) -> None:
        """Let every thread that can do something do it, in any order."""
        works = [self._read, self._record, self._repair, self._deliver, self._look]
        self.world.rng.shuffle(works)
        for work in works:
            work()
        if self.world.is_calm:
            self._record()

    def stop(self) -> bool:
        """End in good order, as Service does; return whether the journal took everything."""
        for reader in self.readers:
            reader.stop()
        self.inbox.extend(event for _, event in self._under_way)
        while self.inbox:
            self._handle_next()
        for _ in range(3):
            if self.recording.finish(self.world.clock.now()):
                break
        is_saved = self.recording.waiting_bars == 0
        for store, delivery in self.deliveries:
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
        found = {
            "inbox": len(self.inbox) + len(self._under_way) + len(self._updates),
            "backfill": not self.backfill.is_idle,
            "open bars": self.aggregator.open_bar_count,
            "bars": self.aggregator.waiting_bar_count or self.recording.waiting_bars,
            "stores": [each.last_error for _, each in self.deliveries if each.last_error],
        }
        return ", ".join(f"{name}: {value}" for name, value in found.items() if value)

    def _read(self) -> None:
        alive = [reader for reader in self.readers if reader.is_alive]
        self.readers = alive
        self.world.rng.shuffle(alive)
        for reader in alive:
            if len(self.inbox) < self.world.schedule.inbox_size:
                reader.step_if_due()

    def _record(self) -> None:
        now = self.world.clock.now()
        while self._under_way and self._under_way[0][0] <= now:
            self.inbox.append(self._under_way.popleft()[1])
        lowest = len(self.inbox) if self.world.is_calm else 0
        for _ in range(self.world.rng.randint(lowest, len(self.inbox))):
            self._handle_next()
            self.recording.tick(now, is_caught_up=not self.inbox)
        self.recording.tick(now, is_caught_up=not self.inbox)

    def _handle_next(self) -> None:
        event = self.inbox.popleft()
        if self.unseen and isinstance(event, Payloads):
            for trade in decode(event.batch).trades:
                if trade.symbol in self.unseen:
                    self.unseen.remove(trade.symbol)
                    self.first_times[trade.symbol] = trade.time
        self.recording.handle(event)
        self.world.seam()

    def _repair(self) -> None:
        while self._updates:
            self.backfill.update(self._updates.popleft())
        now = self.world.clock.now()
        if now < self._asks_at or len(self.inbox) >= self.world.schedule.inbox_size:
            return
        for _ in range(_MOST_STEPS):
            wait = self.backfill.step()
            if wait:
                self._asks_at = now + wait
                return
        raise AssertionError("the backfill never rests")

    def _deliver(self) -> None:
        now = self.world.clock.now()
        for store, delivery in self.deliveries:
            if store.is_hanging or now < self._not_before.get(store.name, 0):
                continue
            is_caught_up, wait_s = delivery.deliver_all()
            self._not_before[store.name] = now + (
                _LOOKS_EVERY_MS if is_caught_up else int(wait_s * 1000)
            )

    def _look(self) -> None:
        now = self.world.clock.now()
        if now >= self._looks_at:
            self._looks_at = now + 1_000
            self.connections.maintain(now)

    def _make_pruning(self) -> Pruning | None:
        retention_ms = self.world.schedule.retention
        if retention_ms is None:
            return None
        return Pruning(self.journal, [store.name for store in self.world.stores], retention_ms)

    def _make_reader(self, number: int, symbols: Sequence[str], copy: int) -> Reader:
        reader = SteppedReader(self, number, symbols, copy)
        self.readers.append(reader)
        return reader

    def _put_later(self, event: Event) -> None:
        """Take an answer of the REST side, which was a while under way."""
        self.world.seam()
        at = self.world.clock.now() + self.world.rng.choice([0, 5, 80, 600])
        if self._under_way:
            at = max(at, self._under_way[-1][0])
        self._under_way.append((at, event))

    def _utc(self) -> int:
        self.world.seam()
        return self.world.clock.utc()

    def _on_bars(self) -> None:
        self.world.seam()
        for store, delivery in self.deliveries:
            if not delivery.last_error:  # after a failure nothing cuts the waiting short
                rest = self.world.rng.choice([0, 1_000, 2_000])
                self._not_before[store.name] = self.world.clock.now() + rest

    def _on_gaps(self, gaps: GapSet) -> None:
        self._updates.append(gaps)
        self.world.see_gaps(gaps)
