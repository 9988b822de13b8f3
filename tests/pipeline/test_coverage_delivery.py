"""Coverage on its way to a plugin: behind the bars, at least once, only what has changed."""

from __future__ import annotations

import random
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from bintrades import RejectedBars
from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.journal.connection import connect
from bintrades.journal.cursor import Cursor
from bintrades.journal.reader import JournalReader
from bintrades.model import CoveredSpan, Gap, GapCause
from bintrades.pipeline.delivery import Delivery
from bintrades.stores.loader import load_stores
from bintrades.testing.bars import OPEN_TIME_MS, sample_bar, sample_bars, sample_span
from bintrades.util.runtime import Runtime
from tests.journals import INTERVAL_MS, NOW, by_key, open_journal

if TYPE_CHECKING:
    import queue
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bintrades.journal.writer import Journal
    from bintrades.model import Bar

MINUTE = 60_000
WITHOUT_HOOK = """
import queue
from bintrades import hookimpl

calls = queue.SimpleQueue()
behave = {}

@hookimpl
def store_bars(bars): do("bars", list(bars))

def do(hook, argument):
    calls.put((hook, argument))
    if hook in behave:
        behave[hook](argument)
"""
PLUGIN = f"""{WITHOUT_HOOK}
@hookimpl
def store_coverage(spans): do("coverage", list(spans))
"""

PLUGIN_WITH_IDENTITY = f"""{PLUGIN}
@hookimpl
def identify_store(): return behave["identity"](None) if "identity" in behave else "first"
"""


class Shop:
    """A store and its delivery, on the thread of the test, with a clock that the test moves."""

    def __init__(self, path: Path, text: str = PLUGIN, name: str = "shop") -> None:
        (path.parent / f"{name}.py").write_text(text, encoding="utf-8")
        (store,) = load_stores([name], path.parent)
        plugin = sys.modules[f"_bintrades_plugin_{name}"]
        self._calls: queue.SimpleQueue[tuple[str, Any]] = plugin.calls
        self.behave: dict[str, Callable[[Any], object]] = plugin.behave
        self.now = 0
        runtime = Runtime(now=lambda: self.now, utc=lambda: NOW, rng=random.Random(1))
        refuse: Callable[[str], None] = pytest.fail
        self.delivery = Delivery(
            *(store, {}, Cursor(path, name)),
            on_failure=refuse,
            on_bad_options=refuse,
            runtime=runtime,
        )

    def calls(self) -> list[tuple[str, Any]]:
        """Return what was called since the last time."""
        found = []
        while not self._calls.empty():
            found.append(self._calls.get())
        return found

    def told(self) -> list[CoveredSpan]:
        """Deliver what there is to deliver; return the spans that were told."""
        self.delivery.deliver_all()
        return [span for hook, spans in self.calls() if hook == "coverage" for span in spans]


@pytest.fixture
def shop(path: Path, journal: Journal) -> Iterator[Shop]:
    shop = Shop(path)
    yield shop
    shop.behave.clear()


def collect(
    journal: Journal, proven: int, *holes: int, symbol: str = "BTCUSDT", bars: tuple[Bar, ...] = ()
) -> None:
    """Have a symbol be proven up to the n-th interval, with gaps in these."""
    gaps = tuple(
        Gap(10 * n, 10 * n, since, since, GapCause.RECONNECT)
        for n, since in enumerate((OPEN_TIME_MS + INTERVAL_MS * hole for hole in holes), 1)
    )
    state = LedgerState(1_000_000, OPEN_TIME_MS, gaps)
    end = OPEN_TIME_MS + INTERVAL_MS * proven
    checkpoint = Checkpoint(state, (), end - INTERVAL_MS, end, OPEN_TIME_MS)
    journal.write(WriteBatch(finished=by_key(bars), checkpoints={symbol: checkpoint}), NOW)


def test_coverage_comes_behind_all_bars_that_it_speaks_of(journal: Journal, shop: Shop) -> None:
    bars = tuple(sample_bars(3))
    collect(journal, 3, bars=bars)

    shop.delivery.deliver_all()

    assert [hook for hook, _ in shop.calls()] == ["bars", "coverage"]


def test_nothing_is_told_while_a_bar_cannot_be_delivered(journal: Journal, shop: Shop) -> None:
    collect(journal, 1, bars=(sample_bar(),))
    assert shop.told() == [sample_span(0, 1)]
    shop.now += MINUTE

    def fail(_: object) -> None:
        raise OSError("disk on fire")

    shop.behave["bars"] = fail
    collect(journal, 2, bars=tuple(sample_bars(2)))
    assert shop.told() == []

    shop.behave.clear()
    assert shop.told() == [sample_span(0, 2)]


def test_a_bar_that_is_committed_meanwhile_goes_before(journal: Journal, shop: Shop) -> None:
    collect(journal, 1, bars=(sample_bar(),))
    later = sample_bars(2)[1:]

    def commit_another(_: object) -> None:
        if later:
            collect(journal, 2, bars=(later.pop(),))

    shop.behave["bars"] = commit_another

    shop.delivery.deliver_all()

    assert [hook for hook, _ in shop.calls()] == ["bars", "bars", "coverage"]


def test_only_what_has_changed_is_told_once_a_minute(journal: Journal, shop: Shop) -> None:
    collect(journal, 5, 1, bars=(sample_bar(),))
    collect(journal, 5, symbol="ETHUSDT")
    both = [sample_span(0, 1), sample_span(2, 5), sample_span(0, 5, symbol="ETHUSDT")]
    assert shop.told() == both

    collect(journal, 8, 1)
    shop.now += MINUTE - 1
    assert shop.told() == []
    shop.now += 1
    assert shop.told() == [sample_span(2, 8)]
    shop.now += MINUTE
    assert shop.told() == []

    collect(journal, 9)
    shop.now += MINUTE
    assert shop.told() == [sample_span(0, 9)]


def test_after_a_start_all_is_told_also_that_there_is_nothing_at_the_beginning(
    journal: Journal, path: Path, shop: Shop
) -> None:
    collect(journal, 5, bars=(sample_bar(),))
    assert shop.told() == [sample_span(0, 5)]
    collect(journal, 6, 0, 5)
    collect(journal, 3, 0, 1, 2, symbol="ETHUSDT")

    again = Shop(path)

    nothing = sample_span(0, 0, symbol="ETHUSDT")
    assert again.told() == [sample_span(0, 0), sample_span(1, 5), nothing]


def test_a_symbol_of_which_nothing_is_proven_any_more_has_no_span(
    journal: Journal, shop: Shop
) -> None:
    collect(journal, 5, bars=(sample_bar(),))
    assert shop.told() == [sample_span(0, 5)]

    known = journal.checkpoints["BTCUSDT"]
    journal.write(WriteBatch(checkpoints={"BTCUSDT": replace(known, proven_ms=None)}), NOW)
    shop.now += MINUTE

    assert shop.told() == [sample_span(0, 0)]


def test_bars_that_the_store_refused_are_in_no_span(
    journal: Journal, shop: Shop, path: Path
) -> None:
    def refuse(bars: list[Bar]) -> None:
        raise RejectedBars([(bars[1], "ugly")])

    shop.behave["bars"] = refuse
    collect(journal, 4, bars=tuple(sample_bars(4)))
    assert shop.told() == [sample_span(0, 1), sample_span(2, 4)]

    shop.behave.clear()
    JournalReader(path).resend("shop")
    shop.now += MINUTE
    assert shop.told() == [sample_span(0, 4)]


def test_a_bar_where_the_exchange_has_no_trades_is_in_no_span_whenever_that_is_found(
    journal: Journal, shop: Shop
) -> None:
    bars = tuple(sample_bars(9))
    collect(journal, 9, 6, bars=bars)
    assert shop.told() == [sample_span(0, 6), sample_span(7, 9)]
    marked = replace(bars[2], is_complete=False, epoch=1)

    journal.write(WriteBatch(rebuilt=by_key([marked])), NOW)
    shop.now += MINUTE

    assert shop.told()[:2] == [sample_span(0, 2), sample_span(3, 6)]


def test_a_store_that_fails_to_take_it_gets_it_again_later_and_its_bars_in_time(
    journal: Journal, shop: Shop
) -> None:
    def fail(_: object) -> None:
        raise OSError("no room for spans")

    shop.behave["coverage"] = fail
    collect(journal, 1, bars=(sample_bar(),))
    shop.delivery.deliver_all()
    assert [hook for hook, _ in shop.calls()] == ["bars", "coverage"]
    assert shop.delivery.last_error is None
    assert shop.delivery.snapshot(0).coverage_error == "OSError: no room for spans"

    collect(journal, 2, bars=tuple(sample_bars(2)))
    shop.delivery.deliver_all()
    assert [hook for hook, _ in shop.calls()] == ["bars"], "without waiting for the spans"

    shop.behave.clear()
    shop.now += MINUTE
    assert shop.told() == [sample_span(0, 2)]
    assert shop.delivery.snapshot(0).coverage_error is None


def test_many_spans_come_in_several_calls_each_with_all_of_a_symbol(
    journal: Journal, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bintrades.pipeline.coverage_delivery.BATCH", 4)
    collect(journal, 1, bars=(sample_bar(),))
    for place in range(6):
        collect(journal, 9, 1, 3, 5, symbol=f"S{place}USDT")
    shop = Shop(journal.path)

    shop.delivery.deliver_all()

    calls = [spans for hook, spans in shop.calls() if hook == "coverage"]
    assert len(calls) > 3
    for place in range(6):
        of_symbol = [sum(span.symbol == f"S{place}USDT" for span in spans) for spans in calls]
        assert sorted(of_symbol)[-2:] == [0, 4]


def test_a_part_that_was_told_is_not_told_again_when_the_next_one_fails(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bintrades.pipeline.coverage_delivery.BATCH", 1)
    collect(journal, 1, bars=(sample_bar(),))
    collect(journal, 1, symbol="ETHUSDT")
    shop = Shop(journal.path)

    def fail_at_the_second(spans: list[CoveredSpan]) -> None:
        if spans[0].symbol == "ETHUSDT":
            raise OSError("no")

    shop.behave["coverage"] = fail_at_the_second
    assert [span.symbol for span in shop.told()] == ["BTCUSDT", "ETHUSDT"]

    shop.behave.clear()
    shop.now += MINUTE
    assert [span.symbol for span in shop.told()] == ["ETHUSDT"]


def test_spans_that_were_too_many_come_in_smaller_calls_until_the_store_can_take_them(
    journal: Journal,
) -> None:
    class TooSlow(OSError):  # noqa: N818 - as pymongo has them
        timeout = True

    collect(journal, 1, bars=(sample_bar(),))
    for place in range(20):
        collect(journal, 1, symbol=f"S{place}USDT")
    shop = Shop(journal.path)

    def take_few(spans: list[CoveredSpan]) -> None:
        if len(spans) > 9:
            raise TooSlow

    shop.behave["coverage"] = take_few
    sizes = []
    for _ in range(3):
        shop.delivery.deliver_all()
        sizes.append([len(spans) for hook, spans in shop.calls() if hook == "coverage"])
        shop.now += 10 * MINUTE

    assert sizes[0] == [21]
    assert sizes[1] == [10]
    assert sizes[2][0] == 5
    assert shop.delivery.coverage.error is None


def test_a_store_that_is_sent_its_bars_again_is_told_all_again(
    journal: Journal, shop: Shop, path: Path
) -> None:
    collect(journal, 2, bars=tuple(sample_bars(2)))
    assert shop.told() == [sample_span(0, 2)]

    JournalReader(path).resend_since("shop", 0)
    shop.now += MINUTE

    assert shop.told() == [sample_span(0, 2)]


def test_a_store_that_was_replaced_gets_what_there_is_and_is_told_of_no_more(
    journal: Journal, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shop = Shop(path, PLUGIN_WITH_IDENTITY)
    bars = tuple(sample_bars(5))
    collect(journal, 3, bars=bars[:2])
    assert shop.told() == [sample_span(0, 3)]
    assert journal.prune(["shop"], 2**62) == 2
    collect(journal, 5, bars=bars[3:])
    shop.now += MINUTE
    assert shop.told() == [sample_span(0, 5)]

    again = Shop(path, PLUGIN_WITH_IDENTITY)
    again.behave["identity"] = lambda _: "second"
    again.delivery.deliver_all()

    (_, sent), (_, told) = again.calls()
    assert [bar.open_time_ms for bar in sent] == [bar.open_time_ms for bar in bars[3:]]
    assert told == [sample_span(0, 0), sample_span(2, 5)]
    assert "store_replaced" in [getattr(each, "event", "") for each in caplog.records]
    later = Shop(path, PLUGIN_WITH_IDENTITY)
    later.behave["identity"] = lambda _: "second"
    assert later.told() == [sample_span(0, 0), sample_span(2, 5)]


def test_a_store_that_is_emptied_meanwhile_is_told_nothing_before_it_has_its_bars_again(
    journal: Journal, path: Path
) -> None:
    shop = Shop(path, PLUGIN_WITH_IDENTITY)
    bars = tuple(sample_bars(2))
    collect(journal, 2, bars=bars)
    assert shop.told() == [sample_span(0, 2)]

    shop.behave["identity"] = lambda _: "second"
    collect(journal, 3)
    shop.now += MINUTE
    assert shop.told() == []
    shop.delivery.deliver_all()

    (_, sent), (_, told) = shop.calls()
    assert [bar.open_time_ms for bar in sent] == [bar.open_time_ms for bar in bars]
    assert told == [sample_span(0, 3)]


def test_a_store_of_which_nobody_can_say_what_it_is_now_is_told_later(
    journal: Journal, path: Path
) -> None:
    shop = Shop(path, PLUGIN_WITH_IDENTITY)
    collect(journal, 1, bars=(sample_bar(),))
    assert shop.told() == [sample_span(0, 1)]
    collect(journal, 2)
    shop.now += MINUTE

    for wrong, error in ((1 / 3, "identify_store gave 0.3"), (OSError("no"), "OSError: no")):

        def identity(_: object, wrong: object = wrong) -> object:
            if isinstance(wrong, OSError):
                raise wrong
            return wrong

        shop.behave["identity"] = identity
        assert shop.told() == []
        assert error in (shop.delivery.coverage.error or "")
        shop.now += 10 * MINUTE

    shop.behave.clear()
    assert shop.told() == [sample_span(0, 2)]


def test_bars_go_to_a_store_that_cannot_say_what_it_is_and_coverage_waits(
    journal: Journal, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shop = Shop(path, PLUGIN_WITH_IDENTITY)

    def refused(_: object) -> object:
        raise OSError("no")

    shop.behave["identity"] = refused
    collect(journal, 1, bars=(sample_bar(),))
    shop.delivery.deliver_all()

    assert [hook for hook, _ in shop.calls()] == ["bars"]
    assert "store_unidentified" in [getattr(each, "event", "") for each in caplog.records]
    assert "OSError: no" in (shop.delivery.coverage.error or "")


def test_a_plugin_without_the_hook_costs_nothing(journal: Journal, path: Path) -> None:
    shop = Shop(path, WITHOUT_HOOK, "hookless")
    collect(journal, 1, bars=(sample_bar(),))

    assert shop.told() == []
    assert not shop.delivery.coverage.is_due


def test_at_an_orderly_stop_what_is_known_is_told_at_once(path: Path) -> None:
    journal = open_journal(path)
    shop = Shop(path)
    collect(journal, 1, bars=(sample_bar(),))
    shop.delivery.start()
    deadline = time.monotonic() + 120
    while shop._calls.qsize() < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [hook for hook, _ in shop.calls()] == ["bars", "coverage"]

    collect(journal, 2, bars=tuple(sample_bars(2)))
    shop.delivery.finish(20)
    assert shop.delivery.join(25)

    assert [hook for hook, _ in shop.calls()] == ["bars", "coverage"]
    assert shop.delivery.has_taken_all
    journal.close()


def test_at_an_orderly_stop_nothing_more_is_told_once_the_time_is_over(
    journal: Journal, shop: Shop
) -> None:
    collect(journal, 1, bars=(sample_bar(),))
    shop.delivery.deliver_all()
    shop.calls()
    collect(journal, 2)

    shop.delivery.finish(-1)
    shop.delivery.deliver_all()

    assert shop.calls() == []


class RandomJournal:
    """A journal in which everything changes that coverage depends on."""

    def __init__(self, journal: Journal, seed: int) -> None:
        self._journal = journal
        self._random = random.Random(seed)
        collect(journal, 1, bars=(sample_bar(),))

    def change(self) -> None:
        """Change something, of one of two symbols."""
        symbol = self._random.choice(["BTCUSDT", "ETHUSDT"])
        change = self._random.choice(
            [
                *(self._go_on, self._go_on, self._go_on, self._step_back, self._repair, self._save),
                *(self._open, self._refuse, self._withhold, self._lose_late),
            ]
        )
        change(symbol)

    def _go_on(self, symbol: str) -> None:
        """Have more be proven, and sometimes a gap appear at the end."""
        before = self._journal.checkpoints.get(symbol)
        if before is None or before.proven_ms is None:
            self._save(symbol)
            return
        proven = before.proven_ms + self._random.randrange(3 * INTERVAL_MS)
        ledger = before.ledger
        if self._random.random() < 0.3:
            first = max((gap.last_id for gap in ledger.gaps), default=0) + 1
            gap = Gap(first, first, before.proven_ms, proven, GapCause.RECONNECT)
            ledger = replace(ledger, gaps=(*ledger.gaps, gap))
        self._write(symbol, replace(before, proven_ms=proven, ledger=ledger))

    def _save(self, symbol: str) -> None:
        """Have everything of a symbol be otherwise."""
        times = sorted(self._time(30) for _ in range(2 * self._random.randrange(5)))
        gaps = tuple(
            Gap(number, number, since, until, GapCause.RECONNECT)
            for number, (since, until) in enumerate(zip(times[::2], times[1::2], strict=True), 1)
        )
        self._write(
            symbol,
            Checkpoint(
                LedgerState(1_000_000, OPEN_TIME_MS, gaps),
                self._bars(symbol),
                None,
                self._random.choice([None, *(self._time(30) for _ in range(5))]),
                self._time(3),
            ),
        )

    def _write(self, symbol: str, checkpoint: Checkpoint) -> None:
        self._journal.write(WriteBatch(checkpoints={symbol: checkpoint}), NOW)

    def _repair(self, symbol: str) -> None:
        """Have a gap be repaired."""
        before = self._journal.checkpoints.get(symbol)
        if before is not None and (gaps := before.ledger.gaps):
            out = self._random.choice(gaps)
            left = tuple(gap for gap in gaps if gap is not out)
            self._write(symbol, replace(before, ledger=replace(before.ledger, gaps=left)))

    def _step_back(self, symbol: str) -> None:
        """Have less be proven."""
        before = self._journal.checkpoints.get(symbol)
        if before is not None and before.proven_ms is not None:
            proven = before.proven_ms - self._random.randrange(8 * INTERVAL_MS)
            self._write(symbol, replace(before, proven_ms=proven))

    def _open(self, symbol: str) -> None:
        """Have other bars take trades."""
        if (before := self._journal.checkpoints.get(symbol)) is not None:
            self._write(symbol, replace(before, open_bars=self._bars(symbol)))

    def _bars(self, symbol: str) -> tuple[Bar, ...]:
        return tuple(bar for bar in sample_bars(30, symbol=symbol) if self._random.random() < 0.05)

    def _refuse(self, symbol: str) -> None:
        at = self._time(30) // INTERVAL_MS * INTERVAL_MS
        if self._random.random() < 0.5:
            row = "('shop', ?, ?, '', 0, 0)"
            self._execute(f"INSERT OR IGNORE INTO rejected VALUES {row}", symbol, at)  # noqa: S608
        else:
            self._execute("DELETE FROM rejected WHERE symbol = ?", symbol)

    def _withhold(self, symbol: str) -> None:
        since, through = sorted([self._time(5), self._time(10) // INTERVAL_MS * INTERVAL_MS])
        self._execute("DELETE FROM undelivered WHERE symbol = ?", symbol)
        self._execute(
            "INSERT INTO undelivered VALUES ('shop', ?, ?, ?)",
            *(symbol, since, through // INTERVAL_MS * INTERVAL_MS),
        )

    def _lose_late(self, symbol: str) -> None:
        at = self._time(30)
        self._execute("DELETE FROM past_gaps WHERE symbol = ?", symbol)
        self._execute(
            "INSERT INTO past_gaps VALUES (?, 1, 1, ?, ?, 'reconnect', 0, NULL, 'late', 0)",
            *(symbol, at, at),
        )

    def _time(self, intervals: int) -> int:
        return OPEN_TIME_MS + self._random.randrange(intervals * INTERVAL_MS)

    def _execute(self, statement: str, *values: object) -> None:
        with closing(connect(self._journal.path, is_read_only=False)) as connection, connection:
            connection.execute(statement, values)


def take(stored: dict[str, list[tuple[int, int]]], spans: list[CoveredSpan]) -> None:
    """Do with *spans* what a store is to do."""
    for symbol in {span.symbol for span in spans}:
        told = [(span.since_ms, span.until_ms) for span in spans if span.symbol == symbol]
        cut = [(since, min(until, told[0][0])) for since, until in stored.get(symbol, [])]
        stored[symbol] = [span for span in [*cut, *told] if span[0] < span[1]]


@pytest.mark.parametrize("seed", range(6))
def test_whatever_changes_a_store_that_is_told_only_changes_knows_all(
    journal: Journal, shop: Shop, path: Path, seed: int
) -> None:
    world = RandomJournal(journal, seed)
    stored: dict[str, list[tuple[int, int]]] = {}

    def fail(_: object) -> None:
        raise OSError("no")

    for step in range(80):
        world.change()
        shop.now += 10 * MINUTE
        if step % 7 == 6:
            shop.behave["coverage"] = fail
            shop.told()
            shop.behave.clear()
            continue
        take(stored, shop.told())
        with Cursor(path, "shop").coverage_of_delivered() as found:
            assert found is not None
            now = {each.symbol: list(each.spans) for each in found if each.spans}
        assert {symbol: spans for symbol, spans in stored.items() if spans} == now
