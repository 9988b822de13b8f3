"""From events to committed bars: soon, exactly, and whatever the journal does."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import queue
import sqlite3
import tempfile
import threading
import time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bintrades.core.aggregator import Aggregator
from bintrades.core.audit_result import BarRebuilt, BarsAudited
from bintrades.core.ledger import LedgerState
from bintrades.core.newest_ids import NewestIds
from bintrades.core.proof import LAG_MS
from bintrades.errors import JournalError
from bintrades.exchange.batch import Batch
from bintrades.exchange.binance.trade_messages import decode_trades as decode
from bintrades.exchange.events import Connected, Disconnected, Event, Payloads
from bintrades.journal.cursor import Cursor
from bintrades.journal.reader import JournalReader
from bintrades.journal.wal import wal_bytes
from bintrades.journal.writer import Journal
from bintrades.pipeline.ingest import Ingest, IngestHooks
from bintrades.pipeline.ingest_thread import IngestThread
from bintrades.pipeline.proof_schedule import ProofSchedule
from bintrades.pipeline.pruning import Pruning
from bintrades.util.clocks import now_ms, utc_ms
from tests.journals import INTERVAL_MS, full_disk, journal_at, open_journal, stored
from tests.strategies import START, arrivals, bars_of, make_trade, raw_message, spot_series, trades
from tests.strategies import SYMBOLS as MARKET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bintrades.model import Trade
    from bintrades.pipeline.ingest import IngestSnapshot

WAIT_S = 120.0
SYMBOLS = ["BTCUSDT", "ETHUSDT"]
CONNECTION = "reader-1.1"


class Desk:
    """An ingest thread with its inbox, its aggregator and a real journal."""

    def __init__(
        self,
        journal: Journal,
        *,
        checkpoint_every_ms: int = 50,
        is_sparing: bool = False,
        size: int = 64,
        pruning: Pruning | None = None,
    ) -> None:
        self.dead_streams: list[str] = []
        self.inbox: queue.Queue[Event] = queue.Queue(size)
        self.failures: list[str] = []
        self.commits: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.aggregator = Aggregator(spot_series(SYMBOLS), interval_ms=INTERVAL_MS, grace_ms=50)
        self.aggregator.resume(journal.checkpoints)
        self.ingest = Ingest(
            self.aggregator,
            journal,
            IngestHooks(
                status=lambda _: "fine",
                on_bars=lambda: self.commits.put(None),
                on_gaps=lambda *_: None,
                on_unproven=lambda *_: None,
                on_dead_stream=self.dead_streams.append,
            ),
            decode=decode,
            proof=ProofSchedule(60_000, INTERVAL_MS),
            checkpoint_every_ms=checkpoint_every_ms,
            is_sparing=is_sparing,
            now=now_ms(),
            utc=utc_ms,
            pruning=pruning,
        )
        self.ingest_thread = IngestThread(self.inbox, self.ingest, on_failure=self.failures.append)

    def write_status(self, status: Callable[[IngestSnapshot], str]) -> None:
        """Have *status* written beside the bars."""
        self.ingest._hooks = dataclasses.replace(self.ingest._hooks, status=status)

    def start(self) -> Desk:
        """Begin, with a connection."""
        self.ingest_thread.start()
        self.inbox.put(Connected(CONNECTION, SYMBOLS, now_ms()))
        return self

    def send(self, *trades: Trade) -> None:
        """Have the exchange send *trades* in one batch."""
        self.send_raw(*map(raw_message, trades))

    def send_raw(self, *payloads: bytes) -> None:
        """Have it send these."""
        self.inbox.put(Payloads(CONNECTION, Batch(payloads), now_ms()), timeout=WAIT_S)

    def wait_for_commit(self) -> None:
        """Wait until bars for the stores are committed."""
        self.commits.get(timeout=WAIT_S)

    def stop(self) -> None:
        """Stop in order."""
        self.ingest_thread.stop()
        assert self.ingest_thread.join(WAIT_S)
        assert self.failures == []


def wait_until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        threading.Event().wait(0.01)


@pytest.fixture
def desk(journal: Journal) -> Iterator[Desk]:
    """Return an ingest thread at work, stopped at the end."""
    desk = Desk(journal).start()
    yield desk
    desk.ingest_thread.force_stop()
    desk.stop()


def one_trade_a_bar(count: int, first: int = 0, symbol: str = "BTCUSDT") -> list[Trade]:
    """Return trades each of which closes the bar of the one before."""
    return [
        make_trade(index, START + index * INTERVAL_MS + 5_000, symbol=symbol)
        for index in range(first, first + count)
    ]


def summary(path: Path) -> list[tuple[int, int, int, bool]]:
    """Return interval number, trades, version and whether it is complete, for each bar."""
    return [
        ((bar.open_time_ms - START) // INTERVAL_MS, bar.trade_count, bar.version, bar.is_complete)
        for bar in stored(path)
        if bar.is_closed
    ]


def test_the_first_trade_of_all_is_committed_at_once_with_what_is_wanted(
    journal: Journal, path: Path
) -> None:
    desk = Desk(journal, checkpoint_every_ms=3_600_000).start()

    desk.send(make_trade(7, START + 1))
    wait_until(lambda: "BTCUSDT" in JournalReader(path).symbols())

    saved = journal.checkpoints
    assert saved.keys() == set(SYMBOLS)
    assert [bar.trade_count for bar in saved["BTCUSDT"].open_bars] == [1]
    assert saved["ETHUSDT"].ledger == LedgerState(None, START, ())
    desk.stop()


def test_the_log_tells_when_trades_are_missing_and_when_they_are_no_longer(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        desk.send(make_trade(0, START), make_trade(2, START + 2))
        wait_until(lambda: "gap opened: trades are missing" in caplog.text)
        desk.send(make_trade(1, START + 1))
        wait_until(lambda: "gap closed: no trade of the symbol is missing" in caplog.text)

    (told,) = [
        record for record in caplog.records if record.message == "gap opened: trades are missing"
    ]
    assert vars(told)["symbol"] == "BTCUSDT"
    assert (vars(told)["first_id"], vars(told)["last_id"]) == (1, 1)


def test_a_connection_may_end_without_a_word_of_its_beginning(desk: Desk) -> None:
    desk.inbox.put(Disconnected("unknown", now_ms()))
    desk.send(make_trade(7, START + 1))

    wait_until(lambda: desk.aggregator.trade_count)
    assert desk.failures == []


def test_a_bar_is_committed_as_soon_as_it_is_closed(desk: Desk, path: Path) -> None:
    desk.send(
        make_trade(0, START, price="0.1", quantity="3"),
        make_trade(1, START + 9_999, price="0.2", quantity="0.1", is_buyer_maker=True),
        make_trade(2, START + INTERVAL_MS, event_time=START + INTERVAL_MS + 51),
    )

    desk.wait_for_commit()

    bar, _ = stored(path)
    assert (bar.is_closed, bar.is_complete, bar.version) == (True, True, 1)
    assert (bar.trade_count, bar.first_trade_id, bar.last_trade_id) == (2, 0, 1)
    assert (bar.quantity, bar.value) == (Decimal("3.1"), Decimal("0.32"))
    ((taken,), _) = Cursor(path, "store").next_bars(10)
    assert taken == bar


def test_the_bar_of_a_symbol_that_falls_silent_is_committed_too(desk: Desk, path: Path) -> None:
    desk.send(make_trade(0, START + 9_900), make_trade(0, START + 9_900, symbol="ETHUSDT"))
    desk.wait_for_commit()
    assert summary(path) == [(0, 1, 1, False)], "nothing proves that there was no other trade"

    # Without a trade since the connection, nothing says that it is another time.
    desk.inbox.put(Disconnected(CONNECTION, now_ms()))
    desk.inbox.put(Connected(CONNECTION, SYMBOLS, now_ms()))
    desk.inbox.put(NewestIds({"BTCUSDT": 0}, START + 16_000, now_ms()))
    desk.wait_for_commit()

    assert summary(path) == [(0, 1, 2, True)]


def test_no_bar_closes_by_the_clock_while_no_connection_is_live(desk: Desk, path: Path) -> None:
    desk.send(make_trade(0, START + 9_900))
    desk.inbox.put(Disconnected(CONNECTION, now_ms()))

    with pytest.raises(queue.Empty):
        desk.commits.get(timeout=0.8)
    desk.inbox.put(Connected(CONNECTION, SYMBOLS, now_ms()))
    desk.wait_for_commit()

    assert summary(path) == [(0, 1, 1, False)]


def test_open_bars_are_checkpointed_with_their_ledger_and_reach_no_store(
    desk: Desk, path: Path
) -> None:
    desk.send(make_trade(7, START), make_trade(9, START + 1))

    wait_until(lambda: stored(path))

    (bar,) = stored(path)
    assert (bar.is_closed, bar.trade_count) == (False, 2)
    assert JournalReader(path).gaps()["BTCUSDT"][-1].first_id == 8
    assert JournalReader(path).get_status() == "fine"
    assert desk.commits.empty()


@pytest.mark.parametrize("checkpoint_every_ms", [10, 60_000])
def test_a_sign_of_life_is_written_every_few_seconds_though_nothing_happens(
    checkpoint_every_ms: int, path: Path, journal: Journal
) -> None:
    desk = Desk(journal, checkpoint_every_ms=checkpoint_every_ms)
    desk.write_status(lambda _: f"{now}")
    began_at = now_ms()
    written = set()

    for now in range(began_at, began_at + 30_000, 100):
        desk.ingest.tick(now, is_caught_up=True)
        written.add(JournalReader(path).get_status())

    words = sorted(int(word) for word in written if word)
    assert 5 <= len(words) <= 6
    assert all(later - earlier <= 5_200 for earlier, later in itertools.pairwise(words))


def test_the_status_is_not_written_beside_every_bar(path: Path, journal: Journal) -> None:
    desk = Desk(journal, checkpoint_every_ms=10)
    desk.write_status(lambda _: f"{now}")
    began_at = now_ms()
    written = set()

    for now in range(began_at, began_at + 10_000, 100):
        trade = make_trade(now - began_at, START + now - began_at)
        desk.ingest.handle(Payloads(CONNECTION, Batch([raw_message(trade)]), now))
        desk.ingest.tick(now, is_caught_up=True)
        written.add(JournalReader(path).get_status())

    assert len(written) == 10


def test_the_last_word_is_written_at_the_end_though_nothing_else_is(
    path: Path, journal: Journal
) -> None:
    desk = Desk(journal)
    desk.write_status(lambda _: "the end")

    assert desk.ingest.finish(now_ms())

    assert JournalReader(path).get_status() == "the end"


def test_how_long_what_comes_waits_is_known(journal: Journal) -> None:
    desk = Desk(journal)
    now = now_ms()
    desk.ingest.handle(Payloads(CONNECTION, Batch([raw_message(make_trade(1))]), now))

    desk.ingest.tick(now + 7_000, is_caught_up=False)
    assert desk.ingest.delay_ms == 7_000
    desk.ingest.tick(now + 8_000, is_caught_up=True)
    assert desk.ingest.delay_ms == 0


def test_of_many_symbols_what_has_hardly_changed_is_not_written(
    journal: Journal, path: Path
) -> None:
    desk = Desk(journal, is_sparing=True).start()
    desk.send(make_trade(0, START), make_trade(0, START, symbol="ETHUSDT"))
    wait_until(lambda: "BTCUSDT" in JournalReader(path).symbols())

    desk.send(make_trade(1, START + 1))
    desk.send(make_trade(2, START + 2, symbol="ETHUSDT"))  # one is missing before it
    wait_until(lambda: JournalReader(path).gaps().get("ETHUSDT"))

    assert [bar.trade_count for bar in stored(path)] == [1]
    assert [bar.trade_count for bar in stored(path, "ETHUSDT")] == [2]
    desk.stop()
    assert [bar.trade_count for bar in stored(path)] == [2]


@settings(deadline=None, max_examples=60)
@given(st.data(), trades, st.booleans())
def test_a_kill_at_any_point_doubles_no_trade_and_loses_none(
    data: st.DataObject, happened: list[Trade], is_sparing: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "bars.journal")
        steps = data.draw(arrivals(happened))
        life = Life(path, 0, is_sparing=is_sparing)
        now = 0
        for step in steps:
            life.aggregator.add(step.trades, now)
            now += step.pause_ms
            life.ingest.tick(now, is_caught_up=True)
            if step.is_restarted:
                life.journal.close()
                life = Life(path, now, is_sparing=is_sparing)
        for step in steps:  # what a kill has lost is asked for again
            life.aggregator.add(step.trades, now)
        assert life.ingest.finish(now)
        life.journal.close()

        found = {
            (bar.symbol, bar.open_time_ms): bar for each in MARKET for bar in stored(path, each)
        }
        neutral = {"is_closed": True, "is_complete": True, "version": 1, "updated_at_ms": 0}
        assert {key: replace(bar, **neutral) for key, bar in found.items()} == bars_of(happened)


def closing(number: int) -> list[Trade]:
    """Return trades of BTCUSDT of which the last closes bar *number*, counted from 0."""
    open_time = START + number * INTERVAL_MS
    return [
        make_trade(2 * number, open_time + 1_000),
        make_trade(2 * number + 1, open_time + INTERVAL_MS + 500),
    ]


@pytest.mark.parametrize(("is_caught_up", "gathers_ms"), [(True, 50), (False, 100)])
def test_bars_that_close_one_after_the_other_are_committed_together(
    path: Path, is_caught_up: bool, gathers_ms: int
) -> None:
    life = Life(path, 0, is_sparing=True)
    life.aggregator.add(closing(0), 200)
    life.ingest.tick(200, is_caught_up=is_caught_up)
    assert life.commits == [1], "the first does not wait"

    life.aggregator.add(closing(1), 201)
    life.ingest.tick(201, is_caught_up=is_caught_up)
    assert life.ingest.idle_ms(201) == 49
    life.aggregator.add(closing(2), 202)
    life.ingest.tick(200 + gathers_ms - 1, is_caught_up=is_caught_up)
    assert life.commits == [1]
    life.ingest.tick(200 + gathers_ms, is_caught_up=is_caught_up)

    assert life.commits == [1, 2]
    life.journal.close()


def test_the_first_bars_wait_a_moment_for_those_that_are_about_to_close(path: Path) -> None:
    life = Life(path, 0, is_sparing=True)
    one, other, *_ = MARKET
    due = INTERVAL_MS + 500
    life.aggregator.add([make_trade(0, START, symbol=symbol) for symbol in (one, other)], 0)
    life.ingest.tick(0, is_caught_up=True)
    life.ingest.tick(due - 500, is_caught_up=True)  # what is saved now and then
    life.aggregator.add([make_trade(1, START + due - 60, symbol=other)], due - 60)
    life.aggregator.add([make_trade(1, START + due, symbol=one)], due)

    life.ingest.tick(due, is_caught_up=True)
    assert life.ingest.idle_ms(due) == 20
    life.ingest.tick(due + 19, is_caught_up=True)
    assert life.commits == []
    life.ingest.tick(due + 20, is_caught_up=True)
    assert life.commits == [1]

    life.ingest.tick(due + 69, is_caught_up=True)  # closes the other one
    assert life.commits == [1]
    life.ingest.tick(due + 70, is_caught_up=True)
    assert life.commits == [1, 1]
    life.journal.close()


def test_many_bars_are_a_commit_of_their_own_at_once(path: Path) -> None:
    life = Life(path, 0, is_sparing=True)
    life.aggregator.add(closing(0), 200)
    life.ingest.tick(200, is_caught_up=True)

    life.aggregator.add([trade for number in range(1, 501) for trade in closing(number)], 201)
    life.ingest.tick(201, is_caught_up=True)

    assert life.commits == [1, 500]
    life.journal.close()


CROWD = [f"C{number:04d}USDT" for number in range(1_200)]


class Crowd:
    """Many symbols that trade regularly, one after the other; 25 ms of trades come at once."""

    def __init__(self, path: Path, every_ms: int = 1_000) -> None:
        self._every_ms = every_ms
        self.life = Life(path, 0, is_sparing=True, symbols=CROWD)
        self.now = 0
        self._next_ids = itertools.count()

    def trade(self, until: int) -> None:
        """Go on until then, looking at what is due every 5 ms."""
        for now in range(self.now + 5, until + 1, 5):
            if now % 25 == 0:
                self.life.aggregator.add(self._batch(now), now)
            self.life.ingest.tick(now, is_caught_up=True)
        self.now = until

    def _batch(self, now: int) -> list[Trade]:
        per_batch = len(CROWD) * 25 // self._every_ms
        numbers = itertools.islice(self._next_ids, per_batch)
        return [
            make_trade(
                number // len(CROWD),
                START + now - 25 + 25 * place // per_batch,
                symbol=CROWD[number % len(CROWD)],
            )
            for place, number in enumerate(numbers)
        ]


def test_thousands_of_bars_of_one_moment_are_some_commits_each_of_neighbouring_symbols(
    path: Path,
) -> None:
    crowd = Crowd(path)
    crowd.trade(INTERVAL_MS + 499)
    assert crowd.life.commits == []

    crowd.trade(INTERVAL_MS + 900)

    with contextlib.closing(sqlite3.connect(path)) as connection:
        names = [
            name for (name,) in connection.execute("SELECT symbol FROM bars ORDER BY sequence")
        ]
    assert sorted(names) == sorted(CROWD)
    first, second = names[:500], names[500:1_000]
    assert first[-1] < second[0], "where the one ends the other begins"
    assert len(crowd.life.commits) <= 5, "those that close late come together"
    crowd.life.journal.close()


def test_what_is_saved_now_and_then_waits_for_the_bars_that_close(path: Path) -> None:
    crowd = Crowd(path)
    crowd.trade(INTERVAL_MS + 500)
    life = crowd.life
    life.aggregator.advance(crowd.now + 50)
    while life.aggregator.next_look_in(crowd.now + 50) == 0:
        life.aggregator.advance(crowd.now + 50)
    waiting = life.aggregator.waiting_bar_count
    assert waiting > 500

    life.ingest.tick(INTERVAL_MS + 1_000, is_caught_up=True)  # a second after the last save

    assert life.commits == [500]
    life.journal.close()


def test_the_last_bars_of_a_burst_wait_for_those_that_close_late(path: Path) -> None:
    crowd = Crowd(path)
    crowd.trade(INTERVAL_MS + 500)
    life, begun = crowd.life, crowd.now + 100
    while life.aggregator.next_look_in(begun) == 0:
        life.aggregator.advance(begun)
    assert life.aggregator.waiting_bar_count == len(CROWD)

    for passed in (0, 60, 65, 109):  # as commits take their time
        life.ingest.tick(begun + passed, is_caught_up=True)
    assert life.commits == [500, 500]
    life.aggregator.add([make_trade(10, START + 2 * INTERVAL_MS, symbol="C0000USDT")], begun + 109)
    life.ingest.tick(begun + 115, is_caught_up=True)

    assert life.commits == [500, 500, 200]
    life.journal.close()


def test_of_bars_that_close_together_hardly_more_is_written_than_their_rows(path: Path) -> None:
    crowd = Crowd(path, every_ms=400)  # the next trades prove them before their grace is over
    crowd.trade(INTERVAL_MS + 1_000)
    before = wal_bytes(path)

    crowd.trade(2 * INTERVAL_MS + 1_000)

    assert sum(crowd.life.commits) == 2 * len(CROWD)
    assert (wal_bytes(path) - before) / len(CROWD) < 550
    crowd.life.journal.close()


def test_one_is_told_how_long_nothing_will_be_due(path: Path) -> None:
    life = Life(path, 0, is_sparing=True)
    assert life.ingest.idle_ms(0) > 3_600_000

    life.aggregator.add([make_trade(0, START + 4_000)], 0)
    life.ingest.tick(0, is_caught_up=True)
    assert 6_500 <= life.ingest.idle_ms(0) <= 6_510
    life.ingest.tick(6_510, is_caught_up=True)

    assert life.commits == [1]
    life.journal.close()


class Life:
    """A collector without threads, from its start to a kill."""

    def __init__(
        self,
        path: Path,
        now: int,
        *,
        is_sparing: bool,
        symbols: Sequence[str] = MARKET,
        checkpoint_every_ms: int = 1_000,
    ) -> None:
        self.commits: list[int] = []  # how many bars each had
        self.journal = open_journal(path)
        self.aggregator = Aggregator(spot_series(symbols), interval_ms=INTERVAL_MS, grace_ms=500)
        self.aggregator.resume(self.journal.checkpoints)
        self.aggregator.connected(symbols, now)
        self.ingest = Ingest(
            self.aggregator,
            self.journal,
            IngestHooks(
                status=lambda _: "{}",
                on_bars=self._record_commit,
                on_gaps=lambda *_: None,
                on_unproven=lambda *_: None,
                on_dead_stream=lambda _: None,
            ),
            decode=decode,
            proof=ProofSchedule(60_000, INTERVAL_MS),
            checkpoint_every_ms=checkpoint_every_ms,
            is_sparing=is_sparing,
            now=now,
            utc=lambda: 1,
        )

    def _record_commit(self) -> None:
        collected = self.aggregator.bar_count - self.aggregator.waiting_bar_count
        self.commits.append(collected - sum(self.commits))


def test_what_an_audit_finds_is_written_soon_and_a_rebuilt_bar_is_for_the_stores(
    desk: Desk, path: Path
) -> None:
    desk.send(make_trade(0), make_trade(1, START + INTERVAL_MS + 60))
    desk.wait_for_commit()
    (bar,) = (bar for bar in stored(path) if bar.is_closed)
    rebuilt = replace(bar, quantity=bar.quantity * 2, epoch=1)

    desk.inbox.put(BarRebuilt(rebuilt))
    desk.inbox.put(BarsAudited(bar.symbol, ((START + 60_000, START + 120_000),)))
    desk.wait_for_commit()
    wait_until(lambda: JournalReader(path).verified(bar.symbol))
    desk.stop()

    first = stored(path)[0]
    assert (first.epoch, first.quantity, first.version) == (1, rebuilt.quantity, 2)
    assert JournalReader(path).verified(bar.symbol) == [(START + 60_000, START + 120_000)]


def test_a_late_trade_amends_a_committed_bar(desk: Desk, path: Path) -> None:
    desk.send(make_trade(0, START), make_trade(2, START + 10_060))
    desk.wait_for_commit()
    wait_until(lambda: summary(path) == [(0, 1, 1, False)])

    desk.send(make_trade(1, START + 9_999))
    desk.wait_for_commit()

    wait_until(lambda: summary(path) == [(0, 2, 2, True)])


def test_trades_in_messages_that_cannot_be_used_are_missing_at_once(desk: Desk, path: Path) -> None:
    desk.send(*one_trade_a_bar(2))
    desk.send_raw(
        *(raw_message(make_trade(number, START), T="soon") for number in range(2, 200)),
        raw_message(make_trade(1, START), T="again"),
        raw_message(make_trade(10**15, START), T="never mind"),
        raw_message(make_trade(5, START, symbol="FOREIGNUSDT"), T="not asked for"),
    )
    wait_until(lambda: desk.ingest.bad_count == 201)

    (gap,) = desk.aggregator.series["BTCUSDT"].gap_set.missing
    assert (gap.first_id, gap.last_id, gap.cause) == (2, 199, "unusable message")
    wait_until(lambda: JournalReader(path).gaps() == {"BTCUSDT": [gap]})
    assert gap.touches(START + INTERVAL_MS, INTERVAL_MS), "the bar is incomplete"


def test_time_goes_on_while_nothing_but_useless_messages_waits(journal: Journal) -> None:
    found: list[str] = []
    aggregator = Aggregator(spot_series(SYMBOLS), interval_ms=INTERVAL_MS, grace_ms=50)
    ingest = Ingest(
        aggregator,
        journal,
        IngestHooks(
            status=lambda _: "fine",
            on_bars=lambda: None,
            on_gaps=lambda *_: None,
            on_unproven=found.extend,
            on_dead_stream=lambda _: None,
        ),
        decode=decode,
        proof=ProofSchedule(60_000, INTERVAL_MS),
        checkpoint_every_ms=50,
        now=0,
        utc=utc_ms,
    )
    ingest.handle(Connected(CONNECTION, SYMBOLS, 0))
    ingest.handle(Payloads(CONNECTION, Batch([raw_message(make_trade(1))]), 0))
    for second in range(61):
        ingest.handle(
            Payloads(CONNECTION, Batch([b'{"neither":"use nor ornament"}']), second * 1_000)
        )
        ingest.tick(second * 1_000, is_caught_up=False)

    assert "BTCUSDT" in found


class Proving:
    """An ingest whose wish for newest ids one can see, with one trade of each symbol."""

    def __init__(
        self, journal: Journal, *, every_ms: int = 60_000, symbols: Sequence[str] = SYMBOLS
    ) -> None:
        self.asked: list[Sequence[str]] = []
        self.resubscribed: list[str] = []
        self.aggregator = Aggregator(spot_series(symbols), interval_ms=INTERVAL_MS, grace_ms=50)
        self.ingest = Ingest(
            self.aggregator,
            journal,
            IngestHooks(
                status=lambda _: "fine",
                on_bars=lambda: None,
                on_gaps=lambda *_: None,
                on_unproven=self.asked.append,
                on_dead_stream=self.resubscribed.append,
            ),
            decode=decode,
            proof=ProofSchedule(every_ms, INTERVAL_MS),
            checkpoint_every_ms=50,
            now=0,
            utc=utc_ms,
        )
        self.ingest.handle(Connected(CONNECTION, symbols, 0))
        self.send(*(make_trade(0, START, symbol=symbol) for symbol in symbols), at=0)
        self.send(*(make_trade(1, START + 1, symbol=symbol) for symbol in symbols), at=1)
        self.live(1_000, 1_000)
        self.asked.clear()  # that of the start

    def send(self, *trades: Trade, at: int) -> None:
        """Have *trades* come so long after the start."""
        payloads = [raw_message(trade) for trade in trades]
        self.ingest.handle(Payloads(CONNECTION, Batch(payloads), at))

    def live(self, since: int, until: int, *, is_caught_up: bool = True) -> None:
        """Have time pass, second by second."""
        for now in range(since, until + 1, 1_000):
            self.ingest.tick(now, is_caught_up=is_caught_up)


def test_the_exchange_is_asked_for_the_newest_trades_of_quiet_symbols_and_of_a_few_that_trade(
    journal: Journal,
) -> None:
    proving = Proving(journal)
    for second in range(2, 200):
        proving.send(make_trade(second, START + second * 1_000), at=second * 1_000)
        proving.live(second * 1_000, second * 1_000)

    assert 3 <= len(proving.asked) <= 4
    assert all(symbols == ["ETHUSDT", "BTCUSDT"] for symbols in proving.asked)


def test_it_is_not_asked_while_all_symbols_trade(journal: Journal) -> None:
    proving = Proving(journal)
    for second in range(2, 200):
        trades = [make_trade(second, START + second * 1_000, symbol=each) for each in SYMBOLS]
        proving.send(*trades, at=second * 1_000)
        proving.live(second * 1_000, second * 1_000)

    assert proving.asked == []


def test_a_stale_word_is_known_though_nothing_is_known_of_the_symbol_that_needs_it(
    journal: Journal,
) -> None:
    proving = Proving(journal)
    for second in range(2, 200):
        proving.send(make_trade(second, START + second * 1_000), at=second * 1_000)
        proving.live(second * 1_000, second * 1_000)
        stale = {"ETHUSDT": 1, "BTCUSDT": max(0, second - 20)}
        for symbols in proving.asked:
            ids = {symbol: stale[symbol] for symbol in symbols}
            proving.ingest.handle(NewestIds(ids, START + second * 1_000, second * 1_000))
        proving.asked.clear()

    assert proving.aggregator.unproven(200_000, 190_000) == ["ETHUSDT"]


def test_it_is_asked_at_once_after_a_connection(journal: Journal) -> None:
    proving = Proving(journal)
    proving.ingest.handle(Disconnected(CONNECTION, 8_000))
    proving.ingest.handle(Connected("reader-1.2", SYMBOLS, 9_000))

    proving.live(9_000, 10_000)

    assert proving.asked == [SYMBOLS]


def test_it_is_asked_about_messages_that_cannot_be_used_and_tell_no_id(journal: Journal) -> None:
    proving = Proving(journal, every_ms=3_600_000)
    proving.ingest.handle(
        Payloads(CONNECTION, Batch([raw_message(make_trade(2, START), t="two")]), 2_000)
    )

    proving.live(2_000, 6_000)
    assert proving.asked == []
    proving.live(7_000, 8_000)

    assert proving.asked == [SYMBOLS]


def test_a_stream_that_lacks_a_trade_is_asked_for_again_and_then_the_exchange(
    journal: Journal,
) -> None:
    proving = Proving(journal, every_ms=3_600_000)
    proving.ingest.handle(NewestIds({"BTCUSDT": 5, "ETHUSDT": 1}, START + 20_000, 20_000))
    proving.live(20_000, 20_000 + LAG_MS)
    assert proving.resubscribed == ["BTCUSDT"]
    proving.asked.clear()

    proving.live(21_000 + LAG_MS, 21_000 + 2 * LAG_MS)

    assert proving.asked == [SYMBOLS]


def test_while_trades_wait_to_be_handled_none_is_missing(journal: Journal) -> None:
    proving = Proving(journal)
    proving.ingest.handle(NewestIds({"BTCUSDT": 2}, START + 20_000, 20_000))

    proving.live(20_000, 90_000, is_caught_up=False)
    assert proving.resubscribed == []
    proving.send(make_trade(2, START + 19_000), at=20_100)
    proving.live(90_000, 91_000)

    assert proving.resubscribed == []
    assert all(gap.is_start for gap in proving.aggregator.series["BTCUSDT"].gap_set.missing)


def test_a_stale_word_is_said_to_prove_nothing(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    proving = Proving(journal)

    with caplog.at_level(logging.WARNING):
        proving.ingest.handle(NewestIds({"BTCUSDT": 0}, START + 20_000, 20_000))

    assert "prove nothing" in caplog.text
    assert proving.ingest.snapshot().is_word_stale


def test_a_stale_word_is_known_by_a_symbol_that_trades_all_the_time(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    proving = Proving(journal)
    for second in range(2, 50):
        proving.send(make_trade(second, START + second * 1_000), at=second * 1_000)
        proving.live(second * 1_000, second * 1_000)

    with caplog.at_level(logging.WARNING):
        proving.ingest.handle(NewestIds({"BTCUSDT": 20, "ETHUSDT": 1}, START + 49_000, 49_000))

    assert "prove nothing" in caplog.text


class Lagging(Proving):
    """Three symbols that trade each second, and a quiet one of which the exchange is asked."""

    QUIET, *BUSY = "QUIETUSDT", "BTCUSDT", "ETHUSDT", "XRPUSDT"

    def __init__(self, journal: Journal) -> None:
        super().__init__(journal, symbols=[self.QUIET, *self.BUSY])
        self.trade_until(30_000)
        self.asked.clear()

    def trade_until(self, until: int) -> None:
        """Have all that are busy trade with each second, whose number is the id."""
        since = self.aggregator.series["BTCUSDT"]._ledger.next_id or 0
        for second in range(since, until // 1_000 + 1):
            trades = [make_trade(second, START + second * 1_000, symbol=each) for each in self.BUSY]
            self.send(*trades, at=second * 1_000)
            self.live(second * 1_000, second * 1_000)

    def answer(self, at: int, lag_ms: int = 0, **behind: int) -> None:
        """Have the exchange say which trades were the newest *lag_ms* ago."""
        newest = dict.fromkeys(self.BUSY, (at - lag_ms) // 1000)
        ids = {**newest, self.QUIET: 1, **behind}
        self.ingest.handle(NewestIds(ids, START + at, at))


def test_after_a_stale_word_the_exchange_is_asked_once_more_soon_and_about_witnesses_too(
    journal: Journal,
) -> None:
    lagging = Lagging(journal)
    lagging.answer(30_000, lag_ms=20_000)
    lagging.trade_until(36_000)

    (asked,) = lagging.asked
    assert sorted(asked) == sorted([lagging.QUIET, *lagging.BUSY]), "each once"

    for second in range(37, 120):
        lagging.answer(second * 1_000, lag_ms=20_000)
        lagging.trade_until(second * 1_000)
    assert len(lagging.asked) <= 3, "if that lasts it is asked as often as ever"


def test_a_symbol_that_the_exchange_alone_is_behind_with_is_named_once(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    lagging = Lagging(journal)

    with caplog.at_level(logging.WARNING):
        for second in range(30, 300, 6):
            lagging.trade_until(second * 1_000)
            lagging.answer(second * 1_000, BTCUSDT=5)

    stale, lagging_symbols = (vars(record) for record in caplog.records)
    assert (stale["event"], stale["lacking"]) == ("newest_ids_stale", "BTCUSDT")
    assert lagging_symbols["event"] == "newest_ids_lagging"
    assert lagging_symbols["symbols"] == "BTCUSDT"
    assert lagging.aggregator.unproven(294_000, 30_000) == []


def test_bad_and_unknown_messages_cost_only_themselves_and_are_counted(
    desk: Desk, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = [raw_message(trade) for trade in one_trade_a_bar(3)]
    bad = [b"{", b"\xff\xfe", raw_message(make_trade(9), p="a lot"), b""]
    unknown = [b'{"e":"depthUpdate","E":1,"s":"BTCUSDT"}', b'{"e":"kline"}', b"[]"]

    with caplog.at_level(logging.WARNING):
        desk.send_raw(good[0], *bad * 20, good[1], *unknown * 20, good[2])
        desk.wait_for_commit()

    assert summary(path) == [(0, 1, 1, True), (1, 1, 1, True)]
    assert (desk.ingest.bad_count, desk.ingest.unknown_count) == (80, 60)
    assert len(caplog.records) <= 2, "each kind once, however many there are"


def test_a_full_disk_loses_nothing_and_collecting_goes_on(desk: Desk, path: Path) -> None:
    desk.send(*one_trade_a_bar(3))
    desk.wait_for_commit()
    wait_until(lambda: len(stored(path)) == 3)

    with full_disk(path):
        desk.send(*one_trade_a_bar(20, first=3))
        wait_until(lambda: desk.ingest.journal_error)
        assert "bars.journal" in str(desk.ingest.journal_error)
        desk.send(
            make_trade(23, START + 7_000),
            make_trade(24, START + 5 * INTERVAL_MS),
            make_trade(25, START + 25 * INTERVAL_MS),
        )
        wait_until(desk.inbox.empty)
        assert len(stored(path)) == 3
    desk.wait_for_commit()

    assert desk.ingest.journal_error is None
    late = {0: (2, 2), 5: (2, 1)}
    bars = [(number, count, version) for number, count, version, _ in summary(path)]
    assert bars == [(number, *late.get(number, (1, 1))) for number in range(23)]


def test_a_journal_that_another_program_holds_is_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bintrades.journal.connection._LOCK_TIMEOUT_S", 0.05)
    with journal_at(path) as journal:
        desk = Desk(journal).start()
        holder = sqlite3.connect(path, isolation_level=None)
        with contextlib.closing(holder):
            holder.execute("BEGIN IMMEDIATE")
            desk.send(*one_trade_a_bar(5))
            wait_until(lambda: desk.ingest.journal_error)
            assert "locked" in str(desk.ingest.journal_error)
        desk.wait_for_commit()
        desk.stop()

    assert [number for number, *_ in summary(path)] == [0, 1, 2, 3]


def test_reading_stops_when_too_many_bars_wait_and_nothing_is_lost_when_it_goes_on(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bintrades.pipeline.ingest.MAX_WAITING_BARS", 5)
    desk = Desk(journal, size=2).start()
    wait_until(desk.inbox.empty)
    trades = one_trade_a_bar(60)
    sent = 0

    with full_disk(path), contextlib.suppress(queue.Full):
        for trade in trades:
            event = Payloads(CONNECTION, Batch([raw_message(trade)]), now_ms())
            desk.inbox.put(event, timeout=2.5)
            sent += 1
            if sent == 8:
                wait_until(lambda: desk.ingest.journal_error)
    assert 8 <= sent < 60, "a reader is made to wait"
    for trade in trades[sent:]:
        desk.send(trade)
    desk.stop()

    assert summary(path) == [(number, 1, 1, True) for number in range(59)]
    assert desk.ingest_thread.lost_bar_count == 0


def test_stopping_drains_the_inbox_and_gives_the_open_bars_to_the_stores(
    journal: Journal, path: Path
) -> None:
    desk = Desk(journal).start()
    for trade in one_trade_a_bar(40):
        desk.send(trade)
    desk.send(make_trade(1, START, symbol="ETHUSDT"))

    desk.stop()

    bars, _ = Cursor(path, "store").next_bars(100)
    assert len(bars) == 41
    assert [bar.symbol for bar in bars if not bar.is_closed] == ["ETHUSDT", "BTCUSDT"]
    desk.wait_for_commit()


def test_the_next_start_makes_one_bar_of_the_two_halves(path: Path) -> None:
    with journal_at(path) as journal:
        first = Desk(journal).start()
        first.send(make_trade(0, START, price="2"))
        first.stop()
    with journal_at(path) as journal:
        second = Desk(journal).start()
        second.send(make_trade(1, START + 5, price="3"), make_trade(2, START + 10_060))
        second.wait_for_commit()
        second.stop()

    assert summary(path) == [(0, 2, 2, True)]
    bar, _ = stored(path)
    assert (bar.open_price, bar.close_price, bar.value) == (Decimal(2), Decimal(3), Decimal(5))


def test_a_journal_that_stays_full_at_the_end_is_tried_until_stopped_by_force(
    journal: Journal, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(journal).start()
    wait_until(desk.inbox.empty)

    with full_disk(path):
        desk.send(*one_trade_a_bar(4))
        desk.ingest_thread.stop()
        assert not desk.ingest_thread.join(0.3)
        desk.ingest_thread.force_stop()
        assert desk.ingest_thread.join(WAIT_S)

    assert desk.ingest_thread.lost_bar_count == 4
    assert "4 bars were lost" in caplog.text


def test_a_journal_that_recovers_at_the_end_gets_everything(journal: Journal, path: Path) -> None:
    desk = Desk(journal).start()
    wait_until(desk.inbox.empty)

    with full_disk(path):
        desk.send(*one_trade_a_bar(4))
        desk.ingest_thread.stop()
        wait_until(lambda: desk.ingest.journal_error)
    desk.stop()

    assert desk.ingest_thread.lost_bar_count == 0
    assert len(stored(path)) == 4


def test_old_bars_leave_as_the_exchanges_clock_goes_on(journal: Journal, path: Path) -> None:
    desk = Desk(journal, pruning=Pruning(journal, [], 60_000)).start()

    intervals = itertools.count()

    def has_left() -> bool:
        desk.send(*one_trade_a_bar(1, next(intervals)))
        bars = summary(path)
        return bool(bars) and bars[0][0] > 0

    wait_until(has_left)
    desk.stop()

    assert summary(path)[-1][0] - summary(path)[0][0] >= 6


def test_bars_of_an_hour_ago_stay_though_the_newest_trade_of_a_halted_symbol_is_of_days_ago(
    path: Path,
) -> None:
    day = 86_400_000
    halted, symbol = MARKET[0], MARKET[1]
    lives = [range(5), range(5, 10)]
    for numbers in lives:
        life = Life(path, 0, is_sparing=True)
        life.ingest._pruning = Pruning(life.journal, [], 3 * day)
        if numbers[0]:
            life.ingest.handle(NewestIds({halted: 7}, START - 4 * day, 0))
        life.ingest.tick(6_000, is_caught_up=True)  # it writes how it is
        for trade in one_trade_a_bar(5, numbers[0], symbol):
            now = 7_000 + 1_000 * (trade.trade_id - numbers[0])
            life.aggregator.add([trade], now)
            life.ingest.tick(now, is_caught_up=True)
        life.ingest.finish(20_000)
        life.journal.close()

    assert len(stored(path, symbol)) == 10


def test_no_bar_leaves_while_others_wait_to_be_committed(path: Path) -> None:
    life = Life(path, 0, is_sparing=True, symbols=CROWD)
    pruning = WatchedPruning(life.journal, life.aggregator)
    life.ingest._pruning = pruning
    ends = START + INTERVAL_MS + 600
    life.aggregator.add([make_trade(0, START + 1, symbol=symbol) for symbol in CROWD], 0)
    for now in (0, INTERVAL_MS - 100):  # the beginning, and what is saved now and then
        life.ingest.tick(now, is_caught_up=True)
    life.aggregator.add([make_trade(1, ends, symbol=symbol) for symbol in CROWD], INTERVAL_MS)

    for now in range(INTERVAL_MS, INTERVAL_MS + 500, 5):
        life.ingest.tick(now, is_caught_up=True)

    assert life.commits[0] < len(CROWD) == sum(life.commits)
    assert pruning.waiting
    assert set(pruning.waiting) == {0}
    life.journal.close()


def test_what_waits_for_the_journal_does_not_take_back_that_trades_were_lost_meanwhile(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = Life(path, 0, is_sparing=True, checkpoint_every_ms=60_000)
    symbol = MARKET[0]
    for number in range(3):
        life.aggregator.add(closing(number), 100 * number)
        life.ingest.tick(100 * number + 50, is_caught_up=True)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE bars SET value = 'x' WHERE open_time = ?", (START,))
    life.aggregator.add(closing(3), 500)  # what is to be written, with a checkpoint
    life.ingest.lose_unreadable([(symbol, START)])

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "write", no_space)
        life.ingest.tick(550, is_caught_up=True)
    assert life.ingest.journal_error
    life.ingest.tick(6_000, is_caught_up=True)  # the same again, and how it is
    life.journal.close()  # as it would be after kill -9

    (gap,) = JournalReader(path).gaps()[symbol]
    assert (gap.first_id, gap.last_id) == (0, 0)
    assert list(JournalReader(path).past_gaps()) == []


def no_space(*_: object, **__: object) -> None:
    raise JournalError("no space")


class WatchedPruning(Pruning):
    """Notes how many bars wait whenever it is asked."""

    def __init__(self, journal: Journal, aggregator: Aggregator) -> None:
        super().__init__(journal, [], 3_600_000)
        self.waiting: list[int] = []
        self._aggregator = aggregator

    def prune_if_due(self, exchange_ms: int, now: int) -> int:
        """Note it, and prune."""
        self.waiting.append(self._aggregator.waiting_bar_count)
        return super().prune_if_due(exchange_ms, now)


def test_without_pruning_no_bar_leaves(desk: Desk, path: Path) -> None:
    desk.send(*one_trade_a_bar(1_000))
    desk.wait_for_commit()
    desk.stop()

    assert len(summary(path)) == 999


def test_an_error_of_its_own_is_reported_and_stopping_it_then_does_not_hang(
    journal: Journal,
) -> None:
    desk = Desk(journal, size=1)
    desk.write_status(lambda _: str(1 / 0))
    desk.start()
    desk.send(make_trade(0, START))

    wait_until(lambda: desk.failures)
    assert desk.ingest_thread.join(WAIT_S)
    desk.ingest_thread.stop()

    assert desk.failures == ["aggregator failed"]


class FailingPruning(Pruning):
    """Finds no space, once, when it is told to."""

    fails = False

    def prune_if_due(self, exchange_ms: int, now: int) -> int:
        """Fail or prune."""
        if self.fails:
            self.fails = False
            raise JournalError("no space")
        return super().prune_if_due(exchange_ms, now)


def test_a_failing_prune_does_not_have_changes_written_twice(path: Path) -> None:
    journal = Journal(
        path, exchange="binance", market="spot", stream="trade", interval_ms=INTERVAL_MS
    )
    pruning = FailingPruning(journal, [], 3_600_000)
    desk = Desk(journal, checkpoint_every_ms=60_000, pruning=pruning).start()
    desk.send(make_trade(0, START), make_trade(2, START + 10_060))
    desk.wait_for_commit()
    pruning.fails = True
    desk.send(make_trade(1, START + 9_999))
    wait_until(lambda: desk.ingest.journal_error)
    desk.stop()
    journal.close()

    assert summary(path) == [(0, 2, 2, True)]


def test_stopping_ends_although_the_journal_takes_nothing_and_the_inbox_is_full(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bintrades.pipeline.ingest.MAX_WAITING_BARS", 2)
    desk = Desk(journal, size=1).start()
    wait_until(desk.inbox.empty)
    with full_disk(path):
        desk.send(*one_trade_a_bar(8))
        wait_until(lambda: desk.ingest.is_full)
        with contextlib.suppress(queue.Full):
            desk.inbox.put(Payloads(CONNECTION, Batch([]), now_ms()), timeout=1)
        desk.ingest_thread.stop()
        desk.ingest_thread.force_stop()

        assert desk.ingest_thread.join(WAIT_S)
