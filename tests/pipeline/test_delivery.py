"""Delivery to real plugins: order, patience, refusals, and no harm from one to another."""

from __future__ import annotations

import contextlib
import itertools
import logging
import queue
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from bintrades import ConfigError, RejectedBars
from bintrades.core.write_batch import WriteBatch
from bintrades.journal.cursor import Cursor
from bintrades.journal.reader import JournalReader, StoreState
from bintrades.pipeline.batch_size import BatchSize
from bintrades.pipeline.delivery import Delivery
from bintrades.stores.loader import load_stores
from bintrades.testing.bars import OPEN_TIME_MS, sample_bar, sample_bars
from tests.journals import checkpoints, finished, journal_at
from tests.servers import slow_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pymongo.database import Database

    from bintrades import Bar
    from bintrades.journal.writer import Journal

    Open = Callable[..., "Shop"]

NOW = OPEN_TIME_MS + 60_000
WAIT_S = 120.0

PLUGIN = """
import queue
from bintrades import hookimpl

calls = queue.SimpleQueue()
behave = {}

@hookimpl
def open_store(options): do("open", options)

@hookimpl
def store_bars(bars): do("store", list(bars))

@hookimpl
def close_store(): do("close", None)

def do(hook, argument):
    calls.put((hook, argument))
    if hook in behave:
        behave[hook](argument)
"""


class Shop:
    """A store whose calls a test sees one by one and whose behaviour it chooses."""

    def __init__(self, name: str, path: Path, options: dict[str, str] | None = None) -> None:
        (path.parent / f"{name}.py").write_text(PLUGIN, encoding="utf-8")
        (store,) = load_stores([name], path.parent)
        plugin = sys.modules[f"_bintrades_plugin_{name}"]
        self._calls: queue.SimpleQueue[tuple[str, Any]] = plugin.calls
        self.behave: dict[str, Callable[[Any], object]] = plugin.behave
        self.failures: list[str] = []
        self.refusals: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.delivery = Delivery(
            store,
            options or {},
            Cursor(path, name),
            on_failure=self.failures.append,
            on_bad_options=self.refusals.put,
        )
        self._name = name
        self._path = path

    @property
    def state(self) -> StoreState:
        """How far the journal says the store is."""
        return JournalReader(self._path).store(self._name)

    def start(self) -> Shop:
        """Start the delivery."""
        self.delivery.start()
        return self

    def expect(self, hook: str) -> Any:
        """Wait for the next call, which must be of *hook*; return its argument."""
        name, argument = self._calls.get(timeout=WAIT_S)
        assert name == hook
        return argument

    def expect_open_times(self, *bars: Bar) -> list[Bar]:
        """Wait for a batch, which must be of these bars; return it."""
        batch: list[Bar] = self.expect("store")
        assert [bar.open_time_ms for bar in batch] == [bar.open_time_ms for bar in bars]
        return batch

    def expect_no_call(self, within_s: float) -> None:
        """Wait, and see that nothing is called."""
        with contextlib.suppress(queue.Empty):
            pytest.fail(f"{self._calls.get(timeout=within_s)}")

    def finish(self, within_s: float = WAIT_S) -> bool:
        """Finish; return whether the thread ended in time."""
        self.delivery.finish(within_s)
        return self.delivery.join(within_s + 1)


@pytest.fixture
def open_shop(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Return a function that makes a store with its delivery; retries are quick."""
    monkeypatch.setattr("bintrades.pipeline.delivery._FIRST_WAIT_S", 0.01)
    monkeypatch.setattr("bintrades.pipeline.delivery._LONGEST_WAIT_S", 0.05)
    shops: list[Shop] = []

    def open_shop(name: str = "shop", options: dict[str, str] | None = None) -> Shop:
        shops.append(Shop(name, path, options))
        return shops[-1]

    yield open_shop
    for shop in shops:
        shop.behave.clear()
        shop.delivery.stop()
        if shop.delivery.is_alive:
            assert shop.delivery.join(WAIT_S)
        assert shop.failures == []


def raises(error: Exception) -> Callable[[object], object]:
    def behave(_: object) -> object:
        raise error

    return behave


def times(count: int, behave: Callable[[Any], object], into: dict[str, Any], hook: str) -> None:
    """Have *hook* behave so for *count* calls, and well afterwards."""
    left = iter(range(count))

    def do(argument: object) -> None:
        if next(left, None) is not None:
            behave(argument)

    into[hook] = do


def test_bars_come_in_batches_in_order_and_the_cursor_moves_after_each(
    journal: Journal, open_shop: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bintrades.pipeline.delivery.BATCH", 2)
    bars = sample_bars(5)
    journal.write(finished(*bars), NOW)
    shop = open_shop(options={"folder": "here"})
    waiting: list[int] = []
    shop.behave["store"] = lambda _: waiting.append(shop.state.waiting_bars)

    shop.start()

    assert shop.expect("open") == {"folder": "here"}
    for batch in (bars[:2], bars[2:4], bars[4:]):
        shop.expect_open_times(*batch)
    assert shop.finish()
    shop.expect("close")
    assert waiting == [5, 3, 1], "not before the store had them"
    assert shop.state.waiting_bars == 0
    assert shop.delivery.delivered_count == 5


def test_new_bars_are_delivered_as_soon_as_they_are_announced(
    journal: Journal, open_shop: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bintrades.pipeline.delivery._LOOK_EVERY_S", 3_600.0)
    shop = open_shop().start()
    shop.expect("open")

    for bar in sample_bars(3):
        journal.write(finished(bar), NOW)
        shop.delivery.notify()
        shop.expect_open_times(bar)


def test_bars_that_nobody_announced_are_found_too(
    journal: Journal, open_shop: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bintrades.pipeline.delivery._LOOK_EVERY_S", 0.05)
    shop = open_shop().start()
    shop.expect("open")

    journal.write(finished(sample_bar()), NOW)

    shop.expect_open_times(sample_bar())


def test_empty_batches_are_never_sent(journal: Journal, open_shop: Open) -> None:
    journal.write(WriteBatch(checkpoints=checkpoints(sample_bar(is_closed=False))), NOW)
    shop = open_shop().start()
    shop.expect("open")

    for _ in range(20):
        shop.delivery.notify()

    assert shop.finish()
    shop.expect("close")


def test_a_store_that_raises_is_closed_opened_and_gets_the_same_bars_again(
    journal: Journal, open_shop: Open
) -> None:
    journal.write(finished(*sample_bars(3)), NOW)
    shop = open_shop()
    times(3, raises(OSError("disk on fire")), shop.behave, "store")

    shop.start()

    for _ in range(3):
        shop.expect("open")
        shop.expect_open_times(*sample_bars(3))
        shop.expect("close")
    shop.expect("open")
    shop.expect_open_times(*sample_bars(3))
    assert shop.finish()
    assert shop.delivery.delivered_count == 3
    assert shop.state == StoreState(0, 0, None)


def test_what_ails_a_store_is_shown_until_it_is_well(journal: Journal, open_shop: Open) -> None:
    journal.write(finished(sample_bar()), NOW)
    shop = open_shop()
    is_mended = threading.Event()

    def fail(_: object) -> None:
        if not is_mended.is_set():
            raise OSError("disk on fire")

    shop.behave["store"] = fail
    shop.start()
    for hook in ("open", "store", "close", "open"):
        shop.expect(hook)

    assert shop.delivery.last_error == "OSError: disk on fire"
    assert shop.state.waiting_bars == 1
    is_mended.set()
    assert shop.finish()
    assert shop.delivery.last_error is None


@pytest.mark.usefixtures("journal")
def test_why_a_store_fails_is_told_without_the_secrets_of_its_options(path: Path) -> None:
    shop = Shop("careless", path, {"password": "hidden"})
    shop.behave["open"] = lambda options: int(options["password"])

    shop.delivery.deliver_all()

    assert shop.delivery.last_error is not None
    assert shop.delivery.last_error.endswith("with base 10: '***'")


def test_why_a_bar_was_refused_is_kept_without_secrets_and_so_that_it_can_be(
    path: Path, journal: Journal
) -> None:
    journal.write(finished(*sample_bars(1)), NOW)
    shop = Shop("careful", path, {"password": "hidden"})

    def refuse(bars: Sequence[Bar]) -> None:
        raise RejectedBars([(bars[0], "hidden \udcff of postgres://me:other@db" + " " * 9_999)])

    shop.behave["store"] = refuse
    shop.delivery.deliver_all()

    assert shop.delivery.last_error is None
    assert shop.state.last_reason == r"*** \udcff of postgres://***@db".ljust(1_000)


def test_a_store_that_fails_after_it_stored_gets_the_batch_again_and_no_bar_is_skipped(
    journal: Journal, open_shop: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bintrades.pipeline.delivery.BATCH", 1)
    journal.write(finished(*sample_bars(3)), NOW)
    shop = open_shop()
    kept: list[int] = []
    failing = iter([False, True, False, True, False])

    def keep_then_fail(bars: Sequence[Bar]) -> None:
        kept.extend((bar.open_time_ms - OPEN_TIME_MS) // 10_000 for bar in bars)
        if next(failing, False):
            raise TimeoutError

    shop.behave["store"] = keep_then_fail
    shop.start()

    assert shop.finish()
    assert kept == [0, 1, 1, 2, 2]


def test_after_a_failure_new_bars_do_not_cut_the_wait_short_but_finishing_does(
    journal: Journal, open_shop: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bintrades.pipeline.delivery.Backoff.next_wait_s", lambda _: 3_600.0)
    journal.write(finished(sample_bar()), NOW)
    shop = open_shop()
    times(1, raises(OSError("down")), shop.behave, "open")
    shop.start()
    shop.expect("open")

    for _ in range(10):
        shop.delivery.notify()
        shop.expect_no_call(within_s=0.02)

    assert shop.finish()
    shop.expect("open")
    shop.expect_open_times(sample_bar())


def test_a_store_that_was_down_gets_only_the_newest_version_of_each_bar(
    journal: Journal, open_shop: Open
) -> None:
    first, second = sample_bars(2)
    shop = open_shop()
    is_up = threading.Event()

    def connect(_: object) -> None:
        if not is_up.is_set():
            raise ConnectionRefusedError

    shop.behave["open"] = connect
    shop.start()
    shop.expect("open")
    journal.write(finished(first, second), NOW)
    journal.write(finished(replace(first, trade_count=4)), NOW)
    journal.write(finished(replace(first, trade_count=5)), NOW)
    assert shop.state.waiting_bars == 2

    is_up.set()
    while (call := shop._calls.get(timeout=WAIT_S))[0] == "open":
        pass

    assert call[0] == "store"
    assert [(bar.trade_count, bar.version) for bar in call[1]] == [(3, 1), (5, 3)]


def test_a_store_that_refuses_none_by_name_has_taken_all(
    journal: Journal, open_shop: Open, caplog: pytest.LogCaptureFixture
) -> None:
    bars = sample_bars(3)
    journal.write(finished(*bars), NOW)
    shop = open_shop()

    times(1, lambda _bars: raises(RejectedBars([]))(0), shop.behave, "store")
    shop.start()
    shop.expect("open")
    shop.expect_open_times(*bars)
    later = sample_bar(open_time_ms=NOW)
    journal.write(finished(later), NOW)
    shop.delivery.notify()
    shop.expect_open_times(later)

    assert shop.state.rejected_bars == 0
    assert "refused bars" not in caplog.text


def test_refused_bars_are_set_aside_the_rest_goes_on_and_they_come_again_on_request(
    journal: Journal, open_shop: Open, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bars = sample_bars(3)
    journal.write(finished(*bars), NOW)
    shop = open_shop()

    def refuse(batch: Sequence[Bar]) -> None:
        raise RejectedBars([(batch[1], "too ugly")])

    times(1, refuse, shop.behave, "store")
    shop.start()
    shop.expect("open")
    shop.expect_open_times(*bars)
    later = sample_bar(open_time_ms=NOW)
    journal.write(finished(later), NOW)
    shop.delivery.notify()
    shop.expect_open_times(later)
    assert (shop.state.rejected_bars, shop.state.last_reason) == (1, "too ugly")
    assert "`bintrades resend shop` has them sent again" in caplog.text

    assert JournalReader(path).resend("shop") == 1
    shop.delivery.notify()

    shop.expect_open_times(bars[1])
    assert shop.finish()
    shop.expect("close")
    assert shop.state == StoreState(0, 0, None)
    assert shop.delivery.delivered_count == 4
    assert shop.delivery.last_error is None


def test_bars_that_a_store_had_come_again_on_request_while_it_runs(
    journal: Journal, open_shop: Open, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bintrades.pipeline.delivery._LOOK_EVERY_S", 0.05)
    bars = sample_bars(3)
    journal.write(finished(*bars), NOW)
    shop = open_shop().start()
    shop.expect("open")
    shop.expect_open_times(*bars)

    assert JournalReader(path).resend_since("shop", bars[1].open_time_ms) == 2

    shop.expect_open_times(*bars[1:])
    assert shop.finish()
    shop.expect("close")
    assert shop.state == StoreState(0, 0, None)


def test_a_newer_version_of_a_refused_bar_that_is_taken_clears_it(
    journal: Journal, open_shop: Open
) -> None:
    bar = sample_bar()
    journal.write(finished(bar), NOW)
    shop = open_shop()
    times(1, lambda bars: raises(RejectedBars([(bars[0], "no")]))(0), shop.behave, "store")
    shop.start()
    shop.expect("open")
    shop.expect("store")

    journal.write(finished(replace(bar, trade_count=4)), NOW)
    shop.delivery.notify()

    assert [bar.version for bar in shop.expect_open_times(bar)] == [2]
    assert shop.finish()
    assert shop.state == StoreState(0, 0, None)


def test_a_reason_may_be_an_error_as_well_as_text(journal: Journal, open_shop: Open) -> None:
    journal.write(finished(sample_bar()), NOW)
    shop = open_shop()
    reason: Any = ValueError("too long")
    times(1, lambda bars: raises(RejectedBars([(bars[0], reason)]))(0), shop.behave, "store")

    shop.start()

    assert shop.finish()
    assert shop.state == StoreState(0, 1, "too long")


def test_a_store_that_hangs_delays_only_itself_and_cannot_hold_up_the_end(
    journal: Journal, open_shop: Open
) -> None:
    hanging, well = open_shop("hanging"), open_shop("well")
    release = threading.Event()
    hanging.behave["store"] = lambda _: release.wait(WAIT_S)
    journal.write(finished(*sample_bars(3)), NOW)
    try:
        hanging.start()
        well.start()
        hanging.expect("open")
        hanging.expect("store")
        well.expect("open")
        well.expect_open_times(*sample_bars(3))
        for index in range(3, 6):
            journal.write(finished(sample_bars(6)[index]), NOW)
            well.delivery.notify()
            hanging.delivery.notify()
            well.expect_open_times(sample_bars(6)[index])

        assert well.finish()
        assert not hanging.finish(0.1)
        assert (well.state.waiting_bars, hanging.state.waiting_bars) == (0, 6)
    finally:
        release.set()


def test_a_store_that_fails_for_ever_keeps_nothing_from_another(
    journal: Journal, open_shop: Open
) -> None:
    failing, well = open_shop("failing"), open_shop("well")
    failing.behave["store"] = raises(ValueError("never"))
    journal.write(finished(*sample_bars(3)), NOW)

    failing.start()
    well.start()

    well.expect("open")
    well.expect_open_times(*sample_bars(3))
    for hook in ("open", "store", "close") * 5:
        failing.expect(hook)
    assert failing.state.waiting_bars == 3


@pytest.mark.parametrize("hook", ["open", "store", "close"])
def test_a_plugin_that_calls_sys_exit_ends_nothing(
    journal: Journal, open_shop: Open, hook: str
) -> None:
    journal.write(finished(sample_bar()), NOW)
    shop = open_shop()
    times(2, lambda _: sys.exit(3), shop.behave, hook)

    shop.start()

    assert shop.finish()
    assert shop.state.waiting_bars == 0
    assert shop.failures == []


def test_bad_options_at_the_first_opening_are_reported(journal: Journal, open_shop: Open) -> None:
    shop = open_shop()
    shop.behave["open"] = raises(ConfigError("uri: is not one"))

    shop.start()

    assert shop.refusals.get(timeout=WAIT_S) == "uri: is not one"
    assert shop.delivery.wait_until_tried(WAIT_S)


def test_bad_options_later_are_a_failure_like_any_other(journal: Journal, open_shop: Open) -> None:
    shop = open_shop()
    shop.start()
    shop.expect("open")
    assert shop.delivery.wait_until_tried(WAIT_S)
    times(1, raises(OSError("gone")), shop.behave, "store")
    times(2, raises(ConfigError("no such user")), shop.behave, "open")

    journal.write(finished(sample_bar()), NOW)
    shop.delivery.notify()

    for hook in ("store", "close", "open", "open", "open", "store"):
        shop.expect(hook)
    assert shop.refusals.empty()


def test_a_store_that_is_down_or_hangs_at_the_first_opening_holds_up_the_start_for_a_bounded_time(
    journal: Journal, open_shop: Open
) -> None:
    down, hanging = open_shop("down"), open_shop("hanging")
    release = threading.Event()
    down.behave["open"] = raises(OSError("down"))
    hanging.behave["open"] = lambda _: release.wait(WAIT_S)
    try:
        down.start()
        hanging.start()

        assert down.delivery.wait_until_tried(WAIT_S)
        assert not hanging.delivery.wait_until_tried(0.1)
        assert down.refusals.empty()
    finally:
        release.set()


def test_finishing_delivers_what_is_left_even_to_a_store_that_recovers_only_then(
    journal: Journal, open_shop: Open
) -> None:
    shop = open_shop()
    times(4, raises(OSError("not yet")), shop.behave, "open")
    journal.write(finished(*sample_bars(2_500)), NOW)

    shop.start()

    assert shop.finish()
    assert shop.delivery.delivered_count == 2_500
    assert shop.state.waiting_bars == 0


def test_finishing_with_a_store_that_stays_down_ends_in_time_and_keeps_its_bars(
    journal: Journal, open_shop: Open
) -> None:
    shop = open_shop()
    shop.behave["store"] = raises(OSError("down"))
    journal.write(finished(*sample_bars(3)), NOW)
    shop.start()
    shop.expect("open")

    assert shop.finish(within_s=0.2)
    assert shop.state.waiting_bars == 3


def test_finishing_with_a_store_that_stays_down_takes_no_time_when_nothing_waits_for_it(
    journal: Journal, open_shop: Open
) -> None:
    shop = open_shop()
    shop.behave["open"] = raises(OSError("down"))
    shop.start()
    shop.expect("open")

    shop.delivery.finish(WAIT_S)

    assert shop.delivery.join(WAIT_S / 2)


def test_finishing_with_a_slow_store_stops_between_two_batches(
    journal: Journal, open_shop: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bintrades.pipeline.delivery.BATCH", 1)
    shop = open_shop()
    shop.behave["store"] = lambda _: threading.Event().wait(0.05)
    journal.write(finished(*sample_bars(1_000)), NOW)
    shop.start()
    shop.expect("open")

    assert shop.finish(within_s=0.2)
    assert shop.state.waiting_bars == 1_000 - shop.delivery.delivered_count
    assert shop.delivery.delivered_count < 100


def test_a_journal_that_cannot_be_read_is_tried_again(
    open_shop: Open, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shop = open_shop()
    shop.start()
    shop.expect("open")
    assert shop.delivery.wait_until_tried(WAIT_S)

    with caplog.at_level(logging.WARNING), journal_at(path) as journal:
        journal.write(finished(sample_bar()), NOW)
        shop.expect_open_times(sample_bar())
        assert shop.finish()

    assert shop.state.waiting_bars == 0


def test_a_store_that_cannot_close_does_no_harm(journal: Journal, open_shop: Open) -> None:
    journal.write(finished(sample_bar()), NOW)
    shop = open_shop()
    shop.behave["close"] = raises(OSError("stuck"))
    times(1, raises(OSError("down")), shop.behave, "store")

    shop.start()

    assert shop.finish()
    assert shop.state.waiting_bars == 0


def test_a_batch_that_timed_out_is_halved_until_the_store_can_take_it(
    journal: Journal, open_shop: Open, caplog: pytest.LogCaptureFixture
) -> None:
    shop = open_shop()
    kept: list[int] = []

    def take_thirty(bars: Sequence[Bar]) -> None:
        kept.extend((bar.open_time_ms - OPEN_TIME_MS) // 10_000 for bar in bars[:30])
        if len(bars) > 30:
            raise TimeoutError("too many")

    shop.behave["store"] = take_thirty
    journal.write(finished(*sample_bars(500)), NOW)

    with caplog.at_level(logging.WARNING):
        shop.start()
        assert shop.finish()

    assert shop.delivery.delivered_count == 500
    assert sorted(set(kept)) == list(range(500))
    assert caplog.text.count("store shop fails") < 10
    assert shop.delivery.last_error is None


def test_a_store_that_takes_long_for_each_bar_gets_few_at_once(
    journal: Journal, open_shop: Open
) -> None:
    shop = open_shop()
    shop.delivery._batch_size = BatchSize(1_000, target_s=0.05)
    shop.behave["store"] = lambda bars: time.sleep(0.005 * len(bars))
    journal.write(finished(*sample_bars(200)), NOW)

    shop.start()
    shop.expect("open")
    batches = [len(shop.expect("store"))]
    while sum(batches) < 200:
        batches.append(len(shop.expect("store")))

    assert batches[0] == 100
    assert max(batches[1:]) <= 10


def test_any_other_failure_leaves_the_batch_as_large_as_it_was(
    journal: Journal, open_shop: Open
) -> None:
    journal.write(finished(*sample_bars(50)), NOW)
    shop = open_shop()
    times(3, raises(OSError("down")), shop.behave, "store")

    shop.start()

    assert shop.finish()
    assert shop.delivery._batch_size.limit == 100


def test_a_store_that_fails_between_batches_of_a_backlog_does_not_wait_longer_each_time(
    journal: Journal, open_shop: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bintrades.pipeline.delivery.BATCH", 1)
    shop = open_shop()
    failing = itertools.cycle([True, False])
    waits: list[int] = []

    def fail_at_every_other(_: object) -> None:
        if next(failing):
            waits.append(shop.delivery._backoff.failures)
            raise OSError("flaky")

    shop.behave["store"] = fail_at_every_other
    journal.write(finished(*sample_bars(20)), NOW)
    shop.start()

    assert shop.finish()
    assert waits == [0] * 20


def test_mongodb_behind_a_slow_line_gets_a_backlog_of_bars(
    journal: Journal,
    path: Path,
    mongodb_uri: str,
    mongodb_database: Database[dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    if not mongodb_uri.startswith("mongodb://127.0.0.1:"):
        pytest.skip("the server of the tester may need more than its port to be reached")
    bars = sample_bars(1_000)
    journal.write(finished(*bars), NOW)
    (store,) = load_stores(["mongodb"], path.parent)
    server_port = int(mongodb_uri.removeprefix("mongodb://127.0.0.1:").partition("/")[0])

    with slow_line(server_port, bytes_per_s=200_000) as port:
        delivery = Delivery(
            store,
            {
                "uri": f"mongodb://127.0.0.1:{port}/?directConnection=true&socketTimeoutMS=800",
                "database": mongodb_database.name,
            },
            Cursor(path, "mongodb"),
            on_failure=pytest.fail,
            on_bad_options=pytest.fail,
        )
        with caplog.at_level(logging.WARNING):
            delivery.start()
            delivery.finish(within_s=90)
            assert delivery.join(100)

    assert delivery.delivered_count == 1_000
    assert mongodb_database["bars"].count_documents({}) == 1_000
    failures = [vars(record) for record in caplog.records if "error" in vars(record)]
    assert any("timed out" in failure["error"] for failure in failures)
    assert all(failure["next_batch"] < 1_000 for failure in failures)
