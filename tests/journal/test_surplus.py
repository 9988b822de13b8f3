"""Bars where the exchange has no trades: they stay, are never complete, and are not covered."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from bintrades.core.coverage import SURPLUS, Hole
from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.journal.cursor import Cursor
from bintrades.journal.lock import identity
from bintrades.journal.reader import JournalReader
from bintrades.testing.bars import OPEN_TIME_MS, sample_bars
from tests.journals import (
    INTERVAL_MS,
    NOW,
    by_key,
    gap_within,
    journal_at,
    pages_of,
    spoil_pages,
    stored,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bintrades.core.spans import Span
    from bintrades.journal.writer import Journal
    from bintrades.model import Bar, Gap

BTC = "BTCUSDT"
BARS = sample_bars(4)
STORED = BARS[1]
MARKED = replace(STORED, is_complete=False, epoch=1)
"""What is put in the place of a bar where there are no trades."""

END = OPEN_TIME_MS + 4 * INTERVAL_MS
ALL = [(OPEN_TIME_MS, END)]
ITS_OWN = (STORED.open_time_ms, STORED.end_time_ms)
WITHOUT_IT = [(OPEN_TIME_MS, ITS_OWN[0]), (ITS_OWN[1], END)]


def known(*gaps: Gap, proven_ms: int = END) -> WriteBatch:
    """Return what is known of a symbol whose four bars are closed."""
    state = LedgerState(BARS[-1].last_trade_id + 1, END - 1, gaps)
    checkpoint = Checkpoint(state, (), BARS[-1].open_time_ms, proven_ms, OPEN_TIME_MS)
    return WriteBatch(checkpoints={BTC: checkpoint})


def begin(journal: Journal, *bars: Bar) -> None:
    """Write bars of whole intervals, four unless others are given."""
    batch = known()
    batch.finished = by_key(bars or BARS)
    journal.write(batch, NOW)


def mark(journal: Journal, bar: Bar = MARKED) -> None:
    journal.write(WriteBatch(rebuilt=by_key([bar])), NOW + 1)


def spans(path: Path) -> list[Span]:
    """Return what is covered."""
    found = JournalReader(path).coverage(BTC)
    assert found is not None
    return found.coverage.spans


def completeness(path: Path) -> list[bool]:
    return [bar.is_complete for bar in stored(path)]


def restart(path: Path) -> None:
    with journal_at(path):
        pass


def test_the_bar_is_stored_again_as_not_complete_and_its_interval_is_covered_no_longer(
    journal: Journal, path: Path
) -> None:
    begin(journal)
    assert spans(path) == ALL
    cursor = Cursor(path, "store")
    bars, position = cursor.next_bars(10)
    cursor.move(position, bars)

    mark(journal)

    (bar,) = cursor.next_bars(10)[0]
    assert bar == replace(MARKED, version=2, updated_at_ms=NOW + 1)
    found = JournalReader(path).coverage(BTC)
    assert found is not None
    assert found.coverage.holes == [Hole(*ITS_OWN, (SURPLUS,))]
    assert found.coverage.spans == WITHOUT_IT
    assert JournalReader(path).surplus(BTC, 0, NOW) == [STORED.open_time_ms]
    assert JournalReader(path).counts()["incomplete"] == 1


def gap_comes_and_goes(journal: Journal) -> None:
    journal.write(known(gap_within(STORED)), NOW + 2)
    journal.write(known(), NOW + 3)


def proof_is_lost_and_comes_again(journal: Journal) -> None:
    journal.write(known(proven_ms=OPEN_TIME_MS), NOW + 2)
    journal.write(known(), NOW + 3)


def late_trades_come(journal: Journal) -> None:
    late = replace(STORED, trade_count=9, first_trade_id=1, last_trade_id=9)
    journal.write(WriteBatch(amendments=by_key([late])), NOW + 2)


def it_is_marked_again(journal: Journal) -> None:
    mark(journal)


@pytest.mark.parametrize(
    "happens",
    [
        gap_comes_and_goes,
        proof_is_lost_and_comes_again,
        late_trades_come,
        it_is_marked_again,
    ],
)
@pytest.mark.parametrize("is_restarted", [False, True])
def test_whatever_comes_later_it_is_not_complete_and_not_covered(
    path: Path, happens: Callable[[Journal], None], is_restarted: bool
) -> None:
    with journal_at(path) as journal:
        begin(journal)
        mark(journal)
        if not is_restarted:
            happens(journal)
    with journal_at(path) as journal:
        if is_restarted:
            happens(journal)

    assert completeness(path) == [True, False, True, True]
    assert [bar.epoch for bar in stored(path)] == [0, 1, 0, 0]
    assert spans(path) == WITHOUT_IT


def test_stores_have_it_for_longer_than_the_journal_so_it_is_not_covered_thereafter(
    journal: Journal, path: Path
) -> None:
    begin(journal)
    mark(journal)
    journal.write(known(proven_ms=END + 10**6), NOW + 10**6, exchange_ms=NOW + 10**6)

    assert journal.prune([], 2**62) == 4

    assert stored(path) == []
    assert WITHOUT_IT[0] in spans(path)
    assert spans(path)[1][0] == ITS_OWN[1]


def test_should_the_exchange_have_trades_there_it_is_a_bar_as_any_other(
    journal: Journal, path: Path
) -> None:
    begin(journal)
    mark(journal)

    mark(journal, replace(STORED, epoch=2))

    assert completeness(path) == [True] * 4
    assert spans(path) == ALL
    assert JournalReader(path).surplus(BTC, 0, NOW) == []


@pytest.mark.parametrize(
    "batch",
    [known(gap_within(STORED)), known(proven_ms=STORED.end_time_ms - 1)],
    ids=["a gap touches it", "it is not proven"],
)
def test_where_trades_may_yet_come_nothing_is_concluded(
    journal: Journal, path: Path, batch: WriteBatch, caplog: pytest.LogCaptureFixture
) -> None:
    begin(journal)

    batch.rebuilt = by_key([MARKED])
    journal.write(batch, NOW + 1)

    assert [bar.epoch for bar in stored(path)] == [0] * 4
    assert JournalReader(path).surplus(BTC, 0, NOW) == []
    assert vars(caplog.records[-1])["event"] == "rebuilt_bar_refused"


def test_one_that_only_a_store_has_is_put_into_the_journal_by_way_of_which_all_learn_it(
    journal: Journal, path: Path
) -> None:
    begin(journal, BARS[0], BARS[2], BARS[3])
    assert spans(path) == ALL

    JournalReader(path).leave_rebuilt([MARKED])
    journal.write(WriteBatch(), NOW + 1)

    assert completeness(path) == [True, False, True, True]
    assert spans(path) == WITHOUT_IT


def test_a_gap_beside_it_is_one_hole_with_it(journal: Journal, path: Path) -> None:
    begin(journal)
    mark(journal)
    gap = gap_within(BARS[2])
    journal.write(known(gap), NOW + 2)

    found = JournalReader(path).coverage(BTC)
    assert found is not None
    (hole,) = found.coverage.holes
    assert hole[:2] == (ITS_OWN[0], BARS[2].end_time_ms)
    assert (hole.causes[0], len(hole.causes)) == (SURPLUS, 2)


def test_only_holes_of_the_time_that_is_asked_for_are_read(journal: Journal, path: Path) -> None:
    begin(journal)
    mark(journal)
    reader = JournalReader(path)

    def holes(since_ms: int) -> int:
        return sum(len(each.coverage.holes) for each in reader.coverage_of_all(since_ms))

    assert (holes(ITS_OWN[1] - 1), holes(ITS_OWN[1])) == (1, 0)


def with_many(path: Path) -> None:
    """Write a journal of many bars, the second of which is where there are no trades."""
    with journal_at(path) as journal:
        batch = known()
        batch.finished = by_key(sample_bars(2_000))
        journal.write(batch, NOW)
        mark(journal)


def salvage(path: Path) -> None:
    with journal_at(path) as journal:
        journal.save_readable("a reader says so", identity(path))


@pytest.mark.parametrize("has_left", [False, True])
def test_a_salvage_keeps_it_whether_the_bar_is_there_or_has_left(
    path: Path, has_left: bool
) -> None:
    with_many(path)
    if has_left:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("DELETE FROM bars WHERE open_time <= ?", (STORED.open_time_ms,))
    spoil_pages(path, pages_of(path, "bars")[10:12])

    salvage(path)

    assert STORED.open_time_ms not in [since for since, _ in spans(path)]
    assert JournalReader(path).surplus(BTC, 0, NOW) == [STORED.open_time_ms]


def spoil_table(path: Path) -> None:
    spoil_pages(path, pages_of(path, "surplus"))


def spoil_value(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE surplus SET open_time = 'x'")


@pytest.mark.parametrize(("spoil", "mend"), [(spoil_table, salvage), (spoil_value, restart)])
def test_where_it_cannot_be_read_which_it_was_it_is_found_again_by_its_bar(
    path: Path, spoil: Callable[[Path], None], mend: Callable[[Path], None]
) -> None:
    with_many(path)
    spoil(path)

    mend(path)

    assert JournalReader(path).surplus(BTC, 0, NOW) == [STORED.open_time_ms]
    assert WITHOUT_IT[0] in spans(path)
    assert not next(bar for bar in stored(path) if bar.epoch == 1).is_complete
