"""What was lost with rows, by the rows beside them."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.journal.bars import neighbours
from bintrades.journal.lost import lost_gaps
from bintrades.journal.schema import BLOCK_MS
from bintrades.testing.bars import OPEN_TIME_MS, sample_bar
from tests.damaged_journals import COUNT, NOW, made
from tests.journals import (
    INTERVAL_MS,
    by_key,
    journal_at,
)

if TYPE_CHECKING:
    from bintrades.model import Gap


def gap_without_bars(path: Path, lost: list[tuple[int, str]], **changes: int) -> Gap:
    """Return what is missing of a symbol that has no bars left, its checkpoint with *changes*."""
    made(path)
    with journal_at(path) as journal, closing(sqlite3.connect(path)) as connection:
        known = journal.checkpoints["BTCUSDT"]
        through = changes.pop("closed_through", known.closed_through)
        checkpoint = Checkpoint(replace(known.ledger, **changes), closed_through=through)
        connection.execute("DELETE FROM bars")
        (gap,) = lost_gaps(connection, "BTCUSDT", lost, checkpoint, INTERVAL_MS)
    return gap


def test_what_is_lost_of_a_symbol_reaches_up_to_the_end_of_its_newest_bar_and_no_further(
    path: Path,
) -> None:
    newest = OPEN_TIME_MS + (COUNT - 1) * INTERVAL_MS

    gap = gap_without_bars(path, [(0, "no bar can be found")])

    assert gap.touches(newest, INTERVAL_MS)
    assert not gap.touches(newest + INTERVAL_MS, INTERVAL_MS)


def test_bars_of_an_hour_that_may_be_lost_reach_no_further_than_the_newest_trade(
    path: Path,
) -> None:
    hour = OPEN_TIME_MS - OPEN_TIME_MS % BLOCK_MS
    feared = [(hour, "a page"), (hour + BLOCK_MS - INTERVAL_MS, "a page")]

    gap = gap_without_bars(
        path, feared, last_time=OPEN_TIME_MS + 5_000, closed_through=OPEN_TIME_MS
    )

    assert gap.touches(OPEN_TIME_MS, INTERVAL_MS)
    assert not gap.touches(OPEN_TIME_MS + INTERVAL_MS, INTERVAL_MS)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    places=st.sets(st.integers(0, 800), max_size=12),
    others=st.sets(st.integers(0, 800), max_size=12),
    place=st.integers(0, 800),
)
def test_the_bars_beside_a_lost_one_are_found_wherever_they_are(
    places: set[int], others: set[int], place: int
) -> None:
    bars = [sample_bar(open_time_ms=OPEN_TIME_MS + at * INTERVAL_MS) for at in places]
    foreign = [
        sample_bar(open_time_ms=OPEN_TIME_MS + at * INTERVAL_MS, symbol="ETHUSDT") for at in others
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        with journal_at(path) as journal:
            journal.write(WriteBatch(finished=by_key([*bars, *foreign])), NOW)
        with closing(sqlite3.connect(path)) as connection:
            found = neighbours(connection, "BTCUSDT", OPEN_TIME_MS + place * INTERVAL_MS)

    before = max((at for at in places if at < place), default=None)
    after = min((at for at in places if at > place), default=None)
    assert [(row[1] - OPEN_TIME_MS) // INTERVAL_MS if row else None for row in found] == [
        before,
        after,
    ]


def test_to_find_the_bars_beside_a_lost_one_costs_a_few_steps(path: Path) -> None:
    made(path, count=1_000)
    steps = []
    with closing(sqlite3.connect(path)) as connection:
        connection.set_progress_handler(lambda: steps.append(1), 1)
        assert all(neighbours(connection, "ETHUSDT", OPEN_TIME_MS + 500 * INTERVAL_MS))

    assert len(steps) < 1_000
