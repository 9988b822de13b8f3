"""Coverage on its way to a plugin: behind the bars, at least once, only what has changed."""

from __future__ import annotations

import random
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from bintrades import RejectedBars
from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint, WriteBatch
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
    checkpoint = Checkpoint(state, (), None, end, OPEN_TIME_MS)
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
    deadline = time.monotonic() + 20
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
