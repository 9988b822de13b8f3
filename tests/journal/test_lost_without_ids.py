"""What was lost without its ids: it stays on record, whatever becomes of ids."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint
from bintrades.journal.lost import rebuilt
from bintrades.journal.meta import JournalScope
from bintrades.journal.rows import gap_from_row, gap_row
from bintrades.journal.spare import before_unfinished
from bintrades.model import Gap, GapCause
from bintrades.testing.bars import OPEN_TIME_MS
from tests.damaged_journals import made
from tests.journals import GAP, INTERVAL_MS, past, write_gaps

if TYPE_CHECKING:
    from pathlib import Path

    from bintrades.journal.writer import Journal

LOST = Gap.unnumbered(OPEN_TIME_MS, OPEN_TIME_MS + 9, GapCause.LOST, ordinal=2)
OLD = Gap.unnumbered(OPEN_TIME_MS, OPEN_TIME_MS + 5, GapCause.RENUMBERED)


def test_it_is_never_on_record_as_repaired(journal: Journal, path: Path) -> None:
    write_gaps(journal, LOST, OLD, GAP)

    write_gaps(journal, OLD)

    assert [(first_id, last_id) for first_id, last_id, _ in past(path)] == [
        (GAP.first_id, GAP.last_id)
    ]


def test_it_is_known_where_a_journal_goes_on_before_what_is_still_asked_for() -> None:
    gap = Gap(5, 9, OPEN_TIME_MS + 1, OPEN_TIME_MS + 2, GapCause.SKIPPED)
    later = Gap(20, 21, OPEN_TIME_MS + 3, OPEN_TIME_MS + 4, GapCause.SKIPPED)
    state = LedgerState(30, OPEN_TIME_MS + 5, (LOST, OLD, gap, later))

    before = before_unfinished(Checkpoint(state), lambda _: None, INTERVAL_MS)

    assert (before.ledger.next_id, before.ledger.gaps) == (5, (LOST, OLD))


def test_it_is_known_where_a_symbol_goes_on_behind_its_newest_bar(path: Path) -> None:
    made(path)
    scope = JournalScope("spot", INTERVAL_MS, "binance", "trade")

    with closing(sqlite3.connect(path)) as connection:
        found = rebuilt(connection, "BTCUSDT", [LOST, OLD], [], scope)

    assert found is not None
    assert found.ledger.gaps == (LOST, OLD)


def test_it_is_no_place_to_go_on_from_where_an_earlier_program_would_ask_for_it() -> None:
    asked_for = replace(LOST, is_abandoned=False)
    checkpoint = Checkpoint(LedgerState(30, OPEN_TIME_MS + 5, (asked_for,)))

    assert gap_from_row(gap_row(asked_for)) == LOST
    assert before_unfinished(checkpoint, lambda _: None, INTERVAL_MS) == checkpoint
