"""Which stored bars are complete, as gaps come and go."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bintrades.core.write_batch import WriteBatch
from bintrades.journal.cursor import Cursor
from bintrades.model import (
    Bar,
    Gap,
    GapCause,
)
from bintrades.testing.bars import OPEN_TIME_MS, sample_bar, sample_bars
from tests.journals import (
    INTERVAL_MS,
    NOW,
    checkpoints,
    finished,
    gap_within,
    journal_at,
    ledger,
    stored,
)

if TYPE_CHECKING:
    from bintrades.journal.writer import Journal


def test_a_bar_that_is_continued_after_a_shutdown_comes_again_when_a_gap_touches_it(
    journal: Journal, path: Path
) -> None:
    half = sample_bar(trade_count=3, is_closed=False)
    more = sample_bar(trade_count=4, is_closed=False)
    state = ledger(gap_within(half))
    journal.write(finished(half, BTCUSDT=ledger()), NOW)

    journal.write(WriteBatch(checkpoints=checkpoints(more, BTCUSDT=state)), NOW)
    ((bar,), _) = Cursor(path, "store").next_bars(10)
    assert (bar.trade_count, bar.is_closed, bar.is_complete) == (4, False, False)

    journal.write(WriteBatch(checkpoints=checkpoints(more, BTCUSDT=ledger())), NOW)
    ((bar,), _) = Cursor(path, "store").next_bars(10)
    assert (bar.trade_count, bar.is_closed, bar.is_complete) == (4, False, True)


def test_a_refused_version_of_a_bar_does_not_hide_that_a_gap_touches_it(
    journal: Journal, path: Path
) -> None:
    bar, smaller = sample_bar(trade_count=5), sample_bar(trade_count=3)
    journal.write(finished(bar, BTCUSDT=ledger()), NOW)

    journal.write(finished(smaller, BTCUSDT=ledger(gap_within(bar))), NOW + 1)

    (kept,) = stored(path)
    assert (kept.trade_count, kept.is_complete, kept.version) == (5, False, 2)


def test_an_open_bar_of_as_many_trades_does_not_hide_that_a_gap_touches_the_closed_one(
    journal: Journal, path: Path
) -> None:
    bar = sample_bar(trade_count=5)
    journal.write(finished(bar, BTCUSDT=ledger()), NOW)
    begun_again = checkpoints(replace(bar, is_closed=False), BTCUSDT=ledger(gap_within(bar)))

    journal.write(WriteBatch(checkpoints=begun_again), NOW + 1)

    (kept,) = stored(path)
    assert (kept.trade_count, kept.is_closed, kept.is_complete) == (5, True, False)


def test_a_gap_that_opens_later_makes_a_stored_bar_incomplete_and_filling_it_whole_again(
    journal: Journal, path: Path
) -> None:
    before, bar, after = sample_bars(3)
    gap = gap_within(bar)

    journal.write(finished(before, bar, after, BTCUSDT=ledger()), NOW)
    journal.write(finished(BTCUSDT=ledger(gap)), NOW + 1)
    opened = [(bar.is_complete, bar.version) for bar in stored(path)]
    journal.write(finished(BTCUSDT=ledger()), NOW + 2)
    filled = [(bar.is_complete, bar.version, bar.updated_at_ms) for bar in stored(path)]

    assert opened == [(True, 1), (False, 2), (True, 1)]
    assert filled == [(True, 1, NOW), (True, 3, NOW + 2), (True, 1, NOW)]


def test_a_gap_concerns_no_other_symbol(journal: Journal, path: Path) -> None:
    bar = sample_bar()

    journal.write(finished(bar, replace(bar, symbol="ETHUSDT"), BTCUSDT=ledger()), NOW)
    journal.write(finished(ETHUSDT=ledger(gap_within(bar))), NOW)

    assert stored(path, "BTCUSDT")[0].is_complete
    assert not stored(path, "ETHUSDT")[0].is_complete


def test_a_gap_that_grows_smaller_frees_the_bars_it_no_longer_touches(
    journal: Journal, path: Path
) -> None:
    first, second = sample_bars(2)
    wide = Gap(7, 9, first.open_time_ms + 5, second.open_time_ms + 5, GapCause.SKIPPED)
    narrow = replace(wide, first_id=9, since_ms=second.open_time_ms)

    journal.write(finished(first, second, BTCUSDT=ledger(wide)), NOW)
    journal.write(finished(BTCUSDT=ledger(narrow)), NOW)

    assert [(bar.is_complete, bar.version) for bar in stored(path)] == [(True, 2), (False, 1)]


def test_what_a_reopened_journal_knows_of_gaps_still_counts(path: Path) -> None:
    bar = sample_bar()
    with journal_at(path) as journal:
        journal.write(finished(bar, BTCUSDT=ledger(gap_within(bar))), NOW)

    with journal_at(path) as journal:
        journal.write(finished(BTCUSDT=ledger()), NOW)

    assert [(bar.is_complete, bar.version) for bar in stored(path)] == [(True, 2)]


gap_lists = st.lists(
    st.tuples(st.integers(0, 39_999), st.integers(0, 15_000)).map(
        lambda pair: Gap(
            pair[0], pair[0], OPEN_TIME_MS + pair[0], OPEN_TIME_MS + sum(pair), GapCause.SKIPPED
        )
    ),
    max_size=3,
    unique_by=lambda gap: gap.first_id,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sets(st.integers(0, 3)), gap_lists), min_size=1, max_size=6))
def test_a_bar_is_complete_exactly_when_no_gap_touches_it(
    steps: list[tuple[set[int], list[Gap]]],
) -> None:
    candidates = sample_bars(4)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        with journal_at(path) as journal:
            before: dict[int, Bar] = {}
            for written, gaps in steps:
                chosen = {candidates[index].open_time_ms for index in written}
                bars = [bar for bar in candidates if bar.open_time_ms in chosen]
                journal.write(finished(*bars, BTCUSDT=ledger(*gaps)), NOW)

                after = {bar.open_time_ms: bar for bar in stored(path)}
                assert after.keys() == before.keys() | chosen
                for time, bar in after.items():
                    is_touched = any(gap.touches(time, INTERVAL_MS) for gap in gaps)
                    assert bar.is_complete == (not is_touched)
                    was = before.get(time)
                    is_new = time in chosen or was is None or was.is_complete != bar.is_complete
                    assert bar.version == (was.version if was else 0) + is_new
                before = after


def test_a_bar_that_an_abandoned_gap_touches_is_incomplete_and_stays_for_a_trade_to_come(
    journal: Journal, path: Path
) -> None:
    bar = sample_bar()
    gap = replace(gap_within(bar), is_abandoned=True)
    journal.write(finished(bar, BTCUSDT=ledger(gap)), NOW)

    assert not stored(path)[0].is_complete
    assert journal.prune([], NOW + 10**9) == 0
