"""What the watch of a world calls wrong, as soon as it is written."""

from __future__ import annotations

import decimal
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from bintrades.core.bucket import Bucket
from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.model import EXACT, Bar, ExcludedId, Gap, GapCause, Trade
from tests.simulation.watch import History, WatchedJournal
from tests.simulation.world import World
from tests.strategies import make_trade

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

INTERVAL = 1_000
SEED = 12  # several trades in an interval, whose `T` never falls back
WIPED = 27_509_066  # in which the exchange forgets all trades and begins their ids anew


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(SEED, tmp_path)


def bar_of(trades: Sequence[Trade], interval: int) -> Bar:
    """Return the closed bar of *trades*."""
    open_time = trades[0].time - trades[0].time % interval
    bucket = Bucket(open_time, open_time + interval, trades[0])
    with decimal.localcontext(EXACT):
        for trade in trades:
            bucket.add(trade)
    return bucket.bar(trades[0].symbol, "spot", is_closed=True)


def first_full_interval(world: World, symbol: str) -> list[Trade]:
    """Return the trades of the first interval that has some."""
    interval = world.schedule.interval
    trades = world.trades[symbol]
    open_time = next(
        t.time - t.time % interval
        for t in trades
        if len(world.watch.history(symbol).of(t.time - t.time % interval)) > 2
    )
    return world.watch.history(symbol).of(open_time)


def written(world: World, *, lacking: int, proven_ms: int = 0, gaps: tuple[Gap, ...] = ()) -> str:
    """Write a bar without its last trades; return what is wrong, as the watch says."""
    symbol = world.schedule.symbols[0]
    interval = world.schedule.interval
    trades = first_full_interval(world, symbol)
    known = trades[: len(trades) - lacking]
    bar = bar_of(known, interval)
    state = LedgerState(trades[-1].trade_id + 1 if gaps else known[-1].trade_id + 1, 1, gaps)
    checkpoint = Checkpoint(
        state,
        closed_through=bar.open_time_ms,
        proven_ms=bar.end_time_ms + proven_ms,
        covered_since_ms=bar.open_time_ms,
    )
    journal = WatchedJournal(world, world._path)
    with closing(journal):
        batch = WriteBatch(
            finished={(symbol, bar.open_time_ms): bar}, checkpoints={symbol: checkpoint}
        )
        journal.write(batch, 1)
    return " ".join(world.errors)


def test_a_bar_that_is_whole_is_no_problem(world: World) -> None:
    assert written(world, lacking=0) == ""


def test_a_bar_that_is_called_complete_is_compared_with_all_trades(world: World) -> None:
    problems = written(world, lacking=1)

    assert "complete, but" in problems
    assert "covered, but" in problems
    assert "not known, and proven" in problems


def test_what_is_not_proven_may_be_missing(world: World) -> None:
    assert written(world, lacking=1, proven_ms=-world.schedule.interval) == ""


def test_what_is_in_a_gap_on_record_may_be_missing(world: World) -> None:
    missing = first_full_interval(world, world.schedule.symbols[0])[-1]
    gap = Gap(
        missing.trade_id, missing.trade_id, missing.time, missing.time, GapCause.SILENT_STREAM
    )

    assert written(world, lacking=1, gaps=(gap,)) == ""


def test_a_gap_of_another_interval_explains_nothing(world: World) -> None:
    missing = first_full_interval(world, world.schedule.symbols[0])[-1]
    gap = Gap(missing.trade_id, missing.trade_id, 0, 0, GapCause.SILENT_STREAM)

    assert "covered, but" in written(world, lacking=1, gaps=(gap,))


def test_a_store_is_looked_at_as_well(world: World) -> None:
    trades = first_full_interval(world, world.schedule.symbols[0])
    bar = bar_of(trades[1:], world.schedule.interval)

    world.watch.look_at([replace(bar, is_complete=False)], "store0")

    assert world.errors == []
    world.watch.look_at([bar], "store0")
    assert "store0" in world.errors[0]


def test_only_trades_that_fall_back_beyond_an_end_are_not_foreseen() -> None:
    happened = [make_trade(0, 100), make_trade(1, 200), make_trade(2, 1_010), make_trade(3, 990)]
    history = History(happened, INTERVAL)

    assert history.wrong(0, bar_of([*happened[:2], happened[3]], INTERVAL)) == ""
    assert history.wrong(0, bar_of(happened[:2], INTERVAL)) == ""
    assert history.wrong(0, bar_of(happened[:1], INTERVAL)) != ""
    assert history.wrong(0, None) != ""
    assert history.wrong(2_000, None) == ""
    assert history.wrong(1_000, bar_of(happened[:1], INTERVAL)) != ""


def test_the_first_trade_that_is_not_known_is_one_whose_time_does_not_fall_back() -> None:
    happened = [make_trade(0, 100), make_trade(1, 90), make_trade(4, 200)]
    history = History(happened, INTERVAL)

    assert history.first_from(1, is_wiped=False) == happened[2]
    assert history.first_from(5, is_wiped=False) is None


def proven_without_an_id(world: World, *, wanted_after: int) -> str:
    """Write that nothing is missing of three intervals; return what is wrong.

    No id is known. Trades are wanted since the first of those intervals, or *wanted_after* some.
    """
    symbol, interval = world.schedule.symbols[0], world.schedule.interval
    first = world.trades[symbol][0].time
    since = first - first % interval
    state = LedgerState(None, since + wanted_after * interval, ())
    checkpoint = Checkpoint(state, proven_ms=since + 3 * interval, covered_since_ms=since)
    world.watch.look_at_proof(checkpoint, symbol, "journal")
    return " ".join(world.errors)


@pytest.mark.parametrize("seed", [SEED, WIPED])
def test_where_no_id_is_known_nothing_that_is_wanted_may_have_happened(
    tmp_path: Path, seed: int
) -> None:
    assert "not known, and" in proven_without_an_id(World(seed, tmp_path), wanted_after=0)


def test_only_where_ids_began_anew_was_known_what_is_of_before(tmp_path: Path) -> None:
    assert proven_without_an_id(World(WIPED, tmp_path), wanted_after=3) == ""
    assert "not known, and" in proven_without_an_id(World(SEED, tmp_path), wanted_after=3)


def test_a_time_falls_back_from_what_was_no_fill_as_well() -> None:
    no_fill = ExcludedId("BTCUSDT", 1, 120, 130, Decimal(0), Decimal(0), False)
    happened = [make_trade(0, 100), no_fill, make_trade(2, 110), make_trade(3, 200)]
    history = History(happened, INTERVAL)

    assert history.first_from(1, is_wiped=False) == happened[3]
    assert history.of(0) == [happened[0], *happened[2:]]
