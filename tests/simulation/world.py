"""A whole world, from its seed to its rest."""

from __future__ import annotations

import logging
import os
import random
import shutil
import tempfile
import traceback
from bisect import bisect_left
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bintrades.core.gap_ranges import DISORDER_MS
from bintrades.errors import JournalDamaged
from bintrades.journal.reader import JournalReader
from bintrades.journal.spare import spare_file
from tests.journals import ledgers_of
from tests.simulation.checks import (
    IN_THE_END,
    check_audit,
    check_coverage,
    check_journal,
    check_listings,
    check_past_gaps,
    check_proof,
    check_store,
    check_truth,
)
from tests.simulation.clock import Clock
from tests.simulation.collector import NotStarted, SteppedCollector, market_of
from tests.simulation.downtime import with_downtime
from tests.simulation.exchange import Streams
from tests.simulation.faults import Faults
from tests.simulation.harsh import (
    BRISK_MS,
    forget_rows,
    is_harsh,
    make_harshness,
    spoil_page,
    tear_write,
)
from tests.simulation.listings import Selection, with_listings
from tests.simulation.market import WIPED_IDS, Tape, fills_of
from tests.simulation.quiet import (
    made_quiet,
    with_a_ticker_that_stands_still,
    with_one_that_ends,
)
from tests.simulation.rest import Rest
from tests.simulation.schedule import START_MS, SYMBOLS, Schedule, make_schedule
from tests.simulation.stores import FaultyStore, OtherClient
from tests.simulation.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bintrades.core.ledger import LedgerState
    from bintrades.model import GapSet

_COVERAGE_EVERY_MS = 2_000
_REST_WITHIN_MS = 90 * 60_000
_SOON_MS = 60_000
_FORBIDDEN_MS = 150_000  # how long a world without REST goes on after its faults
_UNPROVEN_MS = 15 * 60_000  # and one in which nobody says which trades are the newest
_LONG_MS = 60_000
_FOR_EVER_MS = 10**13
_BEFORE_GAP_MS = 6_000  # within which there is what shows where a gap begins
_STARTS_AGAIN_MS = 2_000
_AUDIT_MS = 120_000  # in which the last bars are compared with klines, and looked at again
_ANSWERED_WITHIN_MS = 5_000  # by REST
_REMEMBERED_WITHIN_MS = 45_000  # another one takes its place within some 10 seconds
_SHOWN_WITHIN_MS, _SHOWN_AFTER_MS = 59_000, 6_000  # what a ticker must have, a second allowed for

_DAMAGES = {"page": spoil_page, "torn": tear_write, "rows": forget_rows}


class Killed(BaseException):
    """The process dies here."""


class _Once:
    """Interrupts what SQLite does, but not the rollback after it."""

    def __init__(self) -> None:
        self._has_struck = False

    def __call__(self) -> int:
        has_struck, self._has_struck = self._has_struck, True
        return not has_struck


@dataclass
class Outcome:
    """How a world ended."""

    seed: int
    kind: str = ""
    problems: list[str] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    elapsed_ms: int = 0
    trades: int = 0
    requests: int = 0


class World:
    """Exchange, network, disk, stores and clock around one collector after another."""

    def __init__(self, seed: int, folder: Path, *, is_traced: bool = False) -> None:
        self.rng = random.Random(seed)
        self.schedule: Schedule = make_schedule(seed, self.rng)
        self.harshness = make_harshness(self.schedule)
        if self.harshness.wiped_at is None:  # which trades alone can show
            quiet = with_one_that_ends(made_quiet(self.schedule))
            self.schedule = with_a_ticker_that_stands_still(quiet)
        self.schedule = with_listings(with_downtime(self.schedule), SYMBOLS)
        schedule = self.schedule
        self._harsh_rng = random.Random(f"harsh accidents {seed}")
        lines = [*schedule.lines(), *(self.harshness.lines() if self.is_harsh else ())]
        self.trace: list[str] | None = lines if is_traced else None
        self.errors: list[str] = []
        self.begins: dict[str, int] = {}  # open time of the first interval that is promised
        self.clock = Clock(schedule.phase, schedule.clock_skew, self.harshness.clock_steps)
        self.faults = Faults(schedule.faults, self.clock, self.rng)
        self.tapes = {
            symbol: Tape(
                symbol,
                schedule,
                START_MS - schedule.history,
                START_MS + schedule.phase + schedule.trading_ends,
                self.rng,
            )
            for symbol in schedule.symbols
        }
        self.shown = {symbol: list(tape.shown) for symbol, tape in self.tapes.items()}
        published = {symbol: tape.stream for symbol, tape in self.tapes.items()}
        before = self.tapes
        if self.harshness.wiped_at is not None:
            before = self._wipe(self.harshness.wiped_at)
            published = {
                symbol: [*before[symbol].stream, *tape.stream]
                for symbol, tape in self.tapes.items()
            }
        self.trades = {symbol: fills_of(shown) for symbol, shown in self.shown.items()}
        self.market = market_of(schedule.page, schedule.weight_per_minute, schedule.kind)
        self.streams = Streams(published.values(), self.clock, self.faults, self.rng, schedule.kind)
        self.rest = Rest(
            list(before.values()),
            self.market,
            self.clock,
            self.faults,
            self.rng,
            is_forbidden=schedule.is_rest_forbidden,
            has_ticker=schedule.has_ticker,
            note=self.note,
            shows_stale=self.shows_stale,
            is_shared=self.harshness.second is not None,
            kind=schedule.kind,
        )
        if schedule.listings is not None:
            listings = schedule.listings
            self.rest.statuses = lambda: listings.statuses(self.clock.elapsed)
        self.unseen_at_wipe: set[str] = set()  # of which no trade of before was ever seen
        self.unseen_by_any: set[str] = set()  # the second collector included
        self.watch = Watch(self)
        self._coverage_due = 0
        self.stores = [
            FaultyStore(
                number,
                self.faults,
                self.rng,
                self.seam,
                self.clock,
                self.watch,
                is_harsh=self.is_harsh,
            )
            for number in range(schedule.stores)
        ]
        self._folder = folder
        self._lives = 0
        self._path = folder / "journal-0"
        self._collector: SteppedCollector | None = None
        self._starts_at = 0
        self.started_at: int | None = None  # since when there is a collector, if that is so
        self._seams_left = -1  # until the process is killed inside of what it does
        self._struck: set[int] = set()  # process faults that have happened
        self._page_limit = False
        self._second: SteppedCollector | None = None
        self._is_wiped = False
        self._proofs: dict[str, tuple[int | None, int | None]] = {}  # when the last process ended
        self._rollbacks = sorted(self.harshness.rollbacks)
        self._damages = list(self.harshness.damages)

    @property
    def is_harsh(self) -> bool:
        """Whether the world is compared by checks.check_truth alone."""
        return is_harsh(self.schedule.seed)

    @property
    def kind_name(self) -> str:
        """What kind of world it is, as it is counted."""
        added = " with listings" if self.schedule.listings else ""
        return f"{'harsh ' if self.is_harsh else ''}{self.schedule.kind.name}{added}"

    @property
    def is_calm(self) -> bool:
        """Whether nothing goes wrong any more."""
        return self.clock.elapsed > self.schedule.faults_end

    @property
    def selection(self) -> Selection:
        """What the configuration selects now."""
        listings = self.schedule.listings
        if listings is None:
            return Selection(0, self.schedule.symbols, ())
        return listings.selection(self.clock.elapsed)

    def is_collected(self, symbol: str) -> bool:
        """Whether every trade of *symbol* so far is to be had, now or later.

        Not of one that the configuration leaves out, nor of one that is not listed, about which the
        exchange says nothing any more; nor of one that was delisted before there was a collector,
        which a pattern does not take.
        """
        listings, elapsed = self.schedule.listings, self.clock.elapsed
        if listings is None:
            return True
        since = elapsed if self.started_at is None else self.started_at
        return (
            listings.is_selected(symbol, elapsed)
            and symbol in listings.statuses(elapsed)
            and any(listings.is_wanted(symbol, at) for at in (since, elapsed))
        )

    def has_missed_wipe(self, symbol: str) -> bool:
        """Whether a collector still waits for ids of before a wipe, which too few trades show."""
        collectors = [each for each in (self._collector, self._second) if each is not None]
        return self._is_wiped and any(
            (state.next_id or 0) > WIPED_IDS
            for each in collectors
            if (state := ledgers_of(each.journal).get(symbol)) is not None
        )

    def note(self, text: str) -> None:
        """Remember what happened, for whoever reads the schedule of a failure."""
        if self.trace is not None:
            self.trace.append(f"{self.clock.elapsed / 1000:8.3f}  {text}")

    def seam(self) -> None:
        """A place at which a kill may strike."""
        if self.is_calm:
            return
        if self._seams_left > 0:
            self._seams_left -= 1
            if self._seams_left == 0:
                self._seams_left = -1
                raise Killed

    def see_gaps(self, gaps: GapSet) -> None:
        """Check what the ledger says is missing: nothing young is abandoned."""
        oldest = self.clock.exchange() - self.schedule.max_age
        told_since = self.clock.exchange() - (self.schedule.kind.reach or _FOR_EVER_MS)
        for gap in gaps.missing:
            # After a wipe nobody can ask for what was before, nor for ids that are not known.
            is_lost = self.harshness.wiped_at is not None or (self.is_harsh and not gap.has_ids)
            if gap.since_ms - _BEFORE_GAP_MS < told_since:
                continue  # the exchange tells nobody any more of it, or of what was before it
            if gap.is_abandoned and not is_lost and gap.until_ms - DISORDER_MS > oldest:
                self.errors.append(f"{gaps.symbol}: abandoned before its time: {gap}")
        if self.trace is not None:
            text = "; ".join(
                f"{gap.first_id}-{gap.last_id} {gap.cause} {gap.since_ms - START_MS}"
                f"..{gap.until_ms - START_MS}{' abandoned' if gap.is_abandoned else ''}"
                for gap in gaps.missing
            )
            self.note(f"{gaps.symbol} lacks {text or 'nothing'}")

    def shows_stale(self, ids: Mapping[str, int]) -> bool:
        """Whether every collector can see that *ids* of a ticker are old ones.

        That they lack the newest trade that it has had of a symbol, which is of the last minute,
        but no longer on its way, and stays the newest while the answer is; or one that it remembers
        to have been the newest.
        """
        collectors = [each for each in (self._collector, self._second) if each is not None]
        return all(
            any(
                self._lacks_newest(collector, symbol, ids[symbol])
                or self._lacks_remembered(collector, symbol, ids[symbol])
                for symbol in ids
            )
            for collector in collectors
        )

    def _lacks_newest(self, collector: SteppedCollector, symbol: str, newest_id: int) -> bool:
        now = self.clock.exchange()
        trades = self.trades[symbol]
        place = bisect_left(trades, now, key=lambda trade: trade.event_time)
        if place < len(trades) and trades[place].event_time < now + _ANSWERED_WITHIN_MS:
            return False
        newest = next(filter(collector.has_had, reversed(trades[:place])), None)
        return (
            newest is not None
            and newest.trade_id > newest_id
            and newest.time >= self.begins.get(symbol, now)
            and now - _SHOWN_WITHIN_MS < newest.time < now - _SHOWN_AFTER_MS
        )

    def _lacks_remembered(self, collector: SteppedCollector, symbol: str, newest_id: int) -> bool:
        if self.harshness.wiped_at is not None or symbol not in collector.aggregator.symbols:
            return False  # it is forgotten when ids restart, or when its symbol leaves
        now = self.clock.exchange()
        return any(
            trade_id > newest_id and now - _REMEMBERED_WITHIN_MS < time < now - _SHOWN_AFTER_MS
            for trade_id, time in collector.aggregator.series[symbol]._marks
        )

    def run(self) -> None:
        """Live until rest; raises AssertionError for what must not be."""
        self._live_until_rest()
        self._end()

    def _live_until_rest(self) -> None:
        schedule = self.schedule
        calm = max(schedule.faults_end, schedule.trading_ends)
        deadline = calm + _REST_WITHIN_MS
        if not schedule.is_provable:
            deadline = calm + (_FORBIDDEN_MS if schedule.is_rest_forbidden else _UNPROVEN_MS)
        if schedule.is_audited:
            calm += _AUDIT_MS
        while not (self.clock.elapsed > calm and not self._unrest()):
            if blocked := self._blocked_for():
                deadline = max(deadline, self.clock.elapsed + blocked + _REST_WITHIN_MS)
            if self.clock.elapsed > deadline:
                if not schedule.is_provable or self.harshness.wiped_at is not None:
                    break  # nobody can say any more what was lost
                self.errors.append(f"it does not come to rest: {self._unrest()}")
                break
            self._pass_time(calm)
            self._live()
            self._look_at_coverage()

    def _look_at_coverage(self) -> None:
        """Compare what is covered now and then, not only at rest, when nearly all is."""
        is_due = self.clock.elapsed >= self._coverage_due
        if is_due and self._collector is not None and not self.harshness.damages:
            self._coverage_due = self.clock.elapsed + _COVERAGE_EVERY_MS
            self.errors += check_coverage(self, JournalReader(self._path))

    def _pass_time(self, calm: int) -> None:
        if self.clock.elapsed <= self.schedule.faults_end + 3_000:
            self.clock.elapsed += self.rng.choice([10, 50, 120, 250])
        elif self._blocked_for() > _LONG_MS:
            self.clock.elapsed += _LONG_MS
        else:
            since = self.clock.elapsed - calm
            self.clock.elapsed += 500 if since < 5_000 else 2_000 if since < _SOON_MS else 5_000

    def _blocked_for(self) -> int:
        """How long the collector will ask nothing, after a refusal and when trading is over."""
        if self._collector is None or self.schedule.is_rest_forbidden or not self.streams.is_over:
            return 0
        return self._collector.budget.blocked_for(self.clock.now())

    def _live(self) -> None:
        self._be_harsh()
        self.streams.advance()
        try:
            if self._collector is None:
                if self.clock.elapsed >= self._starts_at:
                    self._start()
                return
            self._strike()
            if self._collector is not None:
                self._collector.step()
                self._record_beginnings()
        except Killed:
            self._kill("inside")

    def _be_harsh(self) -> None:
        """Have happen what is due besides the faults of the schedule."""
        elapsed = self.clock.elapsed
        wiped_at = self.harshness.wiped_at
        if wiped_at is not None and elapsed >= wiped_at and not self._is_wiped:
            self._is_wiped = True
            self.unseen_at_wipe = self._unseen_by(self._collector)
            self.unseen_by_any = self.unseen_at_wipe | self._unseen_by(self._second)
            self.note("the exchange forgets everything and begins its ids anew")
            self.rest.serve(list(self.tapes.values()))
        while self._rollbacks and self._rollbacks[0][0] <= elapsed:
            _, number, past_ms = self._rollbacks.pop(0)
            count = self.stores[number].roll_back(past_ms)
            self.note(f"store{number} forgets {count} bars of the last {past_ms} ms")
        while self._damages and self._damages[0][0] <= elapsed and self._collector is not None:
            self._damage(self._damages.pop(0)[1])
        self._step_second()

    def _unseen_by(self, collector: SteppedCollector | None) -> set[str]:
        """Return the symbols of which *collector* has never seen a trade."""
        seen = ledgers_of(collector.journal) if collector is not None else {}
        return {
            symbol
            for symbol in self.schedule.symbols
            if symbol not in seen or not _has_trades(seen[symbol])
        }

    def _damage(self, kind: str) -> None:
        """Spoil the journal's file: while it is in use, or after a kill."""
        rng = self._harsh_rng
        if kind == "page" and rng.random() < 0.5:
            self.note(f"{spoil_page(self._path, rng)}, while it is in use")
            return
        self._kill("by a loss of power")
        self._starts_at = self.clock.elapsed + rng.choice([0, 1_000, 5_000])
        self.note(_DAMAGES[kind](self._path, rng))

    def _step_second(self) -> None:
        """Let the second collector, which is never stopped, live its own life beside."""
        if self.harshness.second is None or self.clock.elapsed < self.harshness.second:
            return
        seams, self._seams_left = self._seams_left, -1
        if self._second is None:
            self.note("a second collector starts")
            clients = [OtherClient(store) for store in self.stores]
            self._second = SteppedCollector(self, self._folder / "second", clients)
        self._second.step()
        self._seams_left = seams

    def _wipe(self, wiped_at: int) -> dict[str, Tape]:
        """Let the ids of all symbols begin anew then; return the tapes of before."""
        before, moment = {}, START_MS + self.schedule.phase + wiped_at
        brisk = replace(self.schedule, faults_end=wiped_at + BRISK_MS)
        for symbol, tape in self.tapes.items():
            old = tape.until(moment)
            new = Tape(
                symbol,
                brisk,
                moment + 1,
                moment + self.schedule.trading_ends - self.schedule.faults_end + BRISK_MS,
                self._harsh_rng,
                first_id=1,
            )
            before[symbol], self.tapes[symbol] = old, new
            self.shown[symbol] = [*old.shown, *new.shown]
        return before

    def _start(self) -> None:
        self.note("the collector starts")
        try:
            self._collector = SteppedCollector(self, self._path, self.stores)
        except NotStarted:
            self.note("nobody knows which symbols there are")
            self._starts_at = self.clock.elapsed + _STARTS_AGAIN_MS
            self.rest.forget_blocks()
            return
        if self.started_at is None:
            self.started_at = self.clock.elapsed
        if not self.is_harsh:
            if self._collector.proofs() != self._proofs:
                self.errors.append(f"proven: {self._proofs}, now {self._collector.proofs()}")
            self.errors += check_journal(self, JournalReader(self._path), "after the start")

    def _strike(self) -> None:
        """Have the disk and the process suffer what is due."""
        assert self._collector is not None
        connection = self._collector.journal._file.connection
        connection.set_progress_handler(None, 0)
        if self.faults.active("journal", "full disk"):
            if not self._page_limit:
                self._page_limit = True
                connection.execute("PRAGMA max_page_count = 1")  # no page more than there are
        elif self._page_limit:
            self._page_limit = False
            connection.execute("PRAGMA max_page_count = 1073741823")
        interrupted = self.faults.active("journal", "interrupted")
        if interrupted:
            connection.set_progress_handler(_Once(), int(interrupted.amount))
        for number, fault in enumerate(self.schedule.faults):
            if fault.place != "process" or fault.since > self.clock.elapsed:
                continue
            if number in self._struck:
                continue
            self._struck.add(number)
            self._starts_at = fault.until
            if fault.kind == "stop":
                self._stop()
            elif fault.kind == "kill":
                self._kill("between steps")
            else:
                self._seams_left = int(fault.amount)
            return

    def _stop(self) -> None:
        assert self._collector is not None
        self.note("the collector stops")
        is_saved = self._collector.stop()
        self._record_beginnings()
        if not is_saved:
            self.note("it could not save everything")
        self.rest.forget_blocks()
        self._forget_process()

    def _kill(self, how: str) -> None:
        """Leave of the process what a dead one leaves: the bytes that it has written."""
        assert self._collector is not None
        self.note(f"the collector is killed {how}")
        self._record_beginnings()
        self._lives += 1
        path = self._folder / f"journal-{self._lives}"
        for suffix in ("", "-wal"):
            source = self._path.with_name(self._path.name + suffix)
            if source.exists():
                shutil.copyfile(source, path.with_name(path.name + suffix))
        if spare_file(self._path).exists():
            shutil.copyfile(spare_file(self._path), spare_file(path))
        self._collector.abandon()
        self._path = path
        self.rest.forget_blocks()
        self._forget_process()

    def _forget_process(self) -> None:
        assert self._collector is not None
        self._proofs = self._collector.proofs()
        connections = self._collector.network.connections
        self._collector = None
        self._page_limit = False
        self._seams_left = -1
        self.streams.drop(connections)

    def _record_beginnings(self) -> None:
        """Note from which interval on a symbol is promised: since when its trades are collected."""
        if self._collector is None or len(self.begins) == len(self.schedule.symbols):
            return
        for symbol, checkpoint in self._collector.journal.checkpoints.items():
            if symbol not in self.begins and checkpoint.ledger.next_id is not None:
                time = checkpoint.covered_since_ms or checkpoint.ledger.last_time or 0
                self.begins[symbol] = time - time % self.schedule.interval

    def _unrest(self) -> str:
        """Return what is still to come; nothing when the world is at rest."""
        if self._collector is None:
            return "no collector"
        if not self.streams.is_over:
            return "trading goes on"
        if unrest := self._unrest_of(self._collector):
            return unrest
        return self._unrest_of(self._second) if self._second is not None else ""

    def _unrest_of(self, collector: SteppedCollector) -> str:
        if waiting := collector.waiting:
            return waiting
        ledgers = ledgers_of(collector.journal)
        for symbol, tape in self.tapes.items():
            state = ledgers.get(symbol)
            if not self.is_collected(symbol):
                continue
            if state and any(gap.is_wanted for gap in state.gaps):
                return f"{symbol}: {state}"
            # Without the exchange's word nobody can tell that the last trades are missing.
            if tape.ids and self.schedule.is_provable:
                next_id = state.next_id if state else None
                if next_id is None or next_id <= tape.ids[-1]:
                    return f"{symbol}: trades up to {tape.ids[-1]}, {state}"
        return ""

    def _end(self) -> None:
        """Have the stores given what they refused, then compare everything."""
        if self._collector is None:
            return
        problems = self._hand_over()
        if problems and self.harshness.damages:
            self.note(f"{problems}: so it is restarted")
            self._stop()
            self._starts_at = self.clock.elapsed
            self._live_until_rest()
            problems = self._hand_over()
        self.errors += problems
        if self._second is not None:
            self._second.stop()
        self._compare(JournalReader(self._path))
        self._collector.journal.close()

    def _hand_over(self) -> list[str]:
        """Have the stores given all that they lack; return what stands in the way."""
        try:
            self._resend()
        except JournalDamaged as error:
            return [str(error)]
        self.clock.elapsed += 60_000  # any backoff is over
        return [
            f"{delivery.store_name}: not caught up: {delivery.last_error}"
            for delivery in (self._collector.deliveries if self._collector else ())
            if not delivery.deliver_all()[0]
        ]

    def _resend(self) -> None:
        for store in self.stores:
            JournalReader(self._path).resend(store.name)
            if self.harshness.rollbacks:
                JournalReader(self._path).resend_since(store.name, 0)

    def _compare(self, reader: JournalReader) -> None:
        for store in self.stores:
            self.errors += store.errors
        self.errors += check_coverage(self, reader)
        if self.is_harsh:
            self.errors += check_truth(self, reader)
            return
        self.errors += check_journal(self, reader, IN_THE_END)
        self.errors += check_past_gaps(self, reader)
        self.errors += check_audit(reader)
        self.errors += check_listings(self, reader)
        self.errors += check_proof(self)
        for store in self.stores:
            self.errors += check_store(self, reader, store)


def _has_trades(state: LedgerState) -> bool:
    """Whether a trade was ever seen, and not only said to exist."""
    if state.next_id is None:
        return False
    return not any(gap.is_start and gap.last_id == state.next_id - 1 for gap in state.gaps)


def simulate(seed: int, *, is_traced: bool = False) -> Outcome:
    """Live through the world of *seed*."""
    logging.disable(logging.CRITICAL)
    base = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: PTH112, S108
    folder = Path(tempfile.mkdtemp(prefix="bintrades-simulation-", dir=base))
    outcome = Outcome(seed)
    try:
        world = World(seed, folder, is_traced=is_traced)
        try:
            world.run()
        except Exception as error:
            world.errors.append(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
        outcome.kind = world.kind_name
        outcome.problems = world.errors
        outcome.trace = world.trace or []
        outcome.elapsed_ms = world.clock.elapsed
        outcome.trades = sum(len(tape.trades) for tape in world.tapes.values())
        outcome.requests = world.rest.request_count
    finally:
        logging.disable(logging.NOTSET)
        shutil.rmtree(folder, ignore_errors=True)
    return outcome
