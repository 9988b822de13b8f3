"""Where the journal knows that an interval without a bar had no trades."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.journal.connection import connect, transaction
from bintrades.journal.gaps import put_past_gap
from bintrades.journal.reader import JournalReader
from bintrades.model import Gap, GapCause, GapOutcome
from bintrades.pipeline.audit.covered import covered_spans
from bintrades.testing.bars import sample_bar
from tests.journals import INTERVAL_MS, by_key, put_metadata
from tests.strategies import START

if TYPE_CHECKING:
    from bintrades.journal.writer import Journal

BTC = "BTCUSDT"
SINCE, PROVEN = START + 1, START + 200_000 - 1
ALL = (START + INTERVAL_MS, START + 190_000)
GAP = Gap(5, 6, START + 45_000, START + 60_000, GapCause.RECONNECT)


def write(journal: Journal, *gaps: Gap, proven: int | None = PROVEN) -> None:
    checkpoint = Checkpoint(
        LedgerState(1_000, START, gaps), (), PROVEN, proven_ms=proven, covered_since_ms=SINCE
    )
    journal.write(WriteBatch(checkpoints={BTC: checkpoint}), START)


def covered(journal: Journal) -> list[tuple[int, int]]:
    return covered_spans(JournalReader(journal.path), BTC)


def test_all_whole_intervals_are_covered_from_the_beginning_to_what_is_proven(
    journal: Journal,
) -> None:
    assert covered(journal) == []
    write(journal)
    assert covered(journal) == [ALL]


def test_of_a_symbol_of_which_nothing_is_proven_nothing_is_covered(journal: Journal) -> None:
    write(journal, proven=None)

    assert covered(journal) == []


@pytest.mark.parametrize("gap", [GAP, replace(GAP, is_abandoned=True)], ids=["open", "abandoned"])
def test_an_interval_that_a_gap_touches_is_not_covered(journal: Journal, gap: Gap) -> None:
    write(journal, gap)
    around = [(ALL[0], START + 40_000), (START + 70_000, ALL[1])]
    assert covered(journal) == around

    write(journal)
    assert covered(journal) == [ALL], "it has closed"


def test_where_late_trades_are_in_no_bar_it_is_not_covered(journal: Journal) -> None:
    write(journal)
    with closing(connect(journal.path)) as connection, transaction(connection):
        put_past_gap(connection, BTC, GAP, GapOutcome.LATE, START)

    assert covered(journal) == [(ALL[0], START + 40_000), (START + 70_000, ALL[1])]


def test_what_may_have_been_lost_with_an_earlier_file_is_not_covered(journal: Journal) -> None:
    write(journal)
    put_metadata(journal.path, "lost_through", f'{{"{BTC}": {START + 100_000}}}')

    assert covered(journal) == [(START + 110_000, ALL[1])]


def test_where_there_is_a_bar_but_no_trades_an_interval_without_a_bar_would_have_none(
    journal: Journal,
) -> None:
    write(journal)
    bar = sample_bar(open_time_ms=START + 60_000, is_complete=False, epoch=1)
    journal.write(WriteBatch(rebuilt=by_key([bar])), START)
    reader = JournalReader(journal.path)
    assert reader.surplus(BTC, 0, PROVEN) == [bar.open_time_ms]
    assert covered(journal) == [ALL]

    write(journal, GAP)
    assert covered(journal) == [(ALL[0], START + 40_000), (START + 70_000, ALL[1])]
