"""What of each symbol is covered, as the journal has it at one commit."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from bintrades.core.coverage import NOT_CLOSED, Coverage, Hole, HoleCause
from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.errors import JournalError
from bintrades.journal.connection import connect, transaction
from bintrades.journal.gaps import put_past_gap
from bintrades.journal.reader import JournalReader
from bintrades.model import Gap, GapCause, GapOutcome
from bintrades.testing.bars import OPEN_TIME_MS, sample_bar
from tests.journals import INTERVAL_MS, by_key, put_metadata
from tests.sql_meter import metering

if TYPE_CHECKING:
    from pathlib import Path

    from bintrades.journal.writer import Journal
    from bintrades.model import Bar

BTC, ETH = "BTCUSDT", "ETHUSDT"
START, PROVEN = OPEN_TIME_MS, OPEN_TIME_MS + 20 * INTERVAL_MS
END = PROVEN - INTERVAL_MS
GAP = Gap(5, 6, START + 45_000, START + 60_000, GapCause.RECONNECT)
HOLE = (START + 40_000, START + 70_000)


def checkpoint(
    *gaps: Gap, proven: int | None = PROVEN - 1, open_bars: tuple[Bar, ...] = ()
) -> Checkpoint:
    return Checkpoint(
        LedgerState(1_000, START, gaps),
        open_bars,
        START,
        proven_ms=proven,
        covered_since_ms=START - 1,
    )


def write(journal: Journal, symbol: str = BTC, *bars: Bar, saved: Checkpoint | None = None) -> None:
    changes = WriteBatch(finished=by_key(bars), checkpoints={symbol: saved or checkpoint()})
    journal.write(changes, START)


def coverage(journal: Journal, symbol: str = BTC) -> Coverage:
    found = JournalReader(journal.path).coverage(symbol)
    assert found is not None
    return found.coverage


def hole(state: str, cause: GapCause, span: tuple[int, int] = HOLE) -> Hole:
    return Hole(*span, (HoleCause(state, cause),))


def test_a_symbol_is_covered_from_its_beginning_to_what_is_proven(journal: Journal) -> None:
    reader = JournalReader(journal.path)
    assert reader.coverage(BTC) is None
    assert list(reader.coverage_of_all()) == []

    write(journal)
    write(journal, ETH, saved=checkpoint(proven=None))

    assert coverage(journal) == Coverage(START, END, [(START, END)], [])
    assert [each.symbol for each in reader.coverage_of_all()] == [BTC], "of the other nothing is"


def test_nothing_is_covered_by_aggregates_of_futures(journal: Journal) -> None:
    write(journal)
    put_metadata(journal.path, "market", "usdm")
    assert coverage(journal).holes == []

    put_metadata(journal.path, "stream", "aggTrade")

    assert coverage(journal).spans == []
    (whole,) = coverage(journal).holes
    assert (whole.since_ms, whole.until_ms) == (START, END)
    assert [cause.state for cause in whole.causes] == ["approximated"]


@pytest.mark.parametrize("state", ["open", "abandoned", "approximated"])
def test_a_gap_is_a_hole_until_it_has_closed(journal: Journal, state: str) -> None:
    flags = {f"is_{state}": True} if state != "open" else {}
    write(journal, saved=checkpoint(replace(GAP, **flags)))
    assert coverage(journal).holes == [hole(state, GapCause.RECONNECT)]
    assert coverage(journal).spans == [(START, HOLE[0]), (HOLE[1], END)]

    write(journal)
    assert coverage(journal).holes == []


def test_trades_without_ids_are_a_hole_and_ids_that_do_not_exist_are_none(journal: Journal) -> None:
    lost = Gap.unnumbered(GAP.since_ms, GAP.until_ms, GapCause.LOST)
    absent = replace(GAP, first_id=900, last_id=901, absent_at=START)
    saved = checkpoint(lost)
    write(journal, saved=replace(saved, ledger=replace(saved.ledger, absent=(absent,))))

    assert coverage(journal).holes == [hole("abandoned", GapCause.LOST)]


def test_trades_that_came_too_late_for_their_bar_stay_a_hole(journal: Journal) -> None:
    write(journal)
    with closing(connect(journal.path)) as connection, transaction(connection):
        put_past_gap(connection, BTC, GAP, GapOutcome.LATE, START)
        put_past_gap(connection, BTC, replace(GAP, last_id=9), GapOutcome.REPAIRED, START)
        put_past_gap(connection, BTC, replace(GAP, last_id=8), GapOutcome.ABSENT, START)

    assert coverage(journal).holes == [hole("late", GapCause.RECONNECT)]


def test_what_may_have_been_lost_with_an_earlier_file_is_a_hole(journal: Journal) -> None:
    write(journal)
    put_metadata(journal.path, "lost_through", f'{{"{BTC}": {START + 30_000}}}')

    assert coverage(journal).holes == [
        hole("abandoned", GapCause.LOST, (START, START + 40_000)),
    ]


def test_what_a_bar_still_takes_is_not_covered_though_it_is_proven(journal: Journal) -> None:
    still_open = sample_bar(open_time_ms=END - INTERVAL_MS, is_closed=False)
    write(journal, saved=checkpoint(open_bars=(still_open,)))
    assert coverage(journal).until_ms == END - INTERVAL_MS

    write(journal, BTC, replace(still_open, is_closed=True))
    assert coverage(journal).until_ms == END


def test_an_open_bar_with_closed_ones_behind_it_is_a_hole(journal: Journal) -> None:
    late = sample_bar(open_time_ms=HOLE[0], is_closed=False)
    write(journal, saved=checkpoint(open_bars=(late,)))

    span = (HOLE[0], HOLE[0] + INTERVAL_MS)
    assert coverage(journal).holes == [Hole(*span, (NOT_CLOSED,))]


def test_all_is_of_one_commit_whatever_is_written_meanwhile(journal: Journal) -> None:
    write(journal)
    write(journal, ETH)
    all_of_them = JournalReader(journal.path).coverage_of_all()
    first = next(all_of_them)
    write(journal, ETH, saved=checkpoint(GAP))

    (second,) = all_of_them
    assert first.coverage == second.coverage
    assert coverage(journal, ETH).holes == [hole("open", GapCause.RECONNECT)]


def test_past_gaps_are_not_looked_through_for_the_few_that_came_late(journal: Journal) -> None:
    write(journal)
    with closing(connect(journal.path)) as connection, transaction(connection):
        for first_id in range(10, 20_000, 10):
            past = replace(GAP, first_id=first_id, last_id=first_id)
            put_past_gap(connection, BTC, past, GapOutcome.REPAIRED, START)

    with metering() as meter:
        coverage(journal)
    assert meter.steps < 2_000


def test_a_gap_that_cannot_be_read_is_no_coverage_but_an_error(
    journal: Journal, path: Path
) -> None:
    write(journal, saved=checkpoint(GAP))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE gaps SET since = 'x'")

    with pytest.raises(JournalError, match="cannot be read"):
        coverage(journal)
