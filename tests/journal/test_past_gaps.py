"""What stays on record of ranges that are missing no longer."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bintrades.core.ledger import LedgerState
from bintrades.errors import JournalError
from bintrades.journal.reader import JournalReader
from bintrades.model import Gap, GapCause, GapOutcome
from bintrades.testing.bars import sample_bar
from tests.journals import (
    GAP,
    NOW,
    finished,
    full_disk,
    journal_at,
    ledger,
    past,
    stored,
    write_gaps,
)

if TYPE_CHECKING:
    from bintrades.journal.writer import Journal


def test_a_gap_that_has_filled_stays_on_record_as_repaired(journal: Journal, path: Path) -> None:
    write_gaps(journal, GAP)
    assert past(path) == []

    write_gaps(journal, now=NOW + 7)

    (ended,) = JournalReader(path).past_gaps()
    assert (ended.symbol, ended.gap, ended.outcome) == ("BTCUSDT", GAP, GapOutcome.REPAIRED)
    assert ended.closed_at_ms == NOW + 7


def test_a_range_that_was_repaired_is_on_record_with_the_requests_that_it_took(
    journal: Journal, path: Path
) -> None:
    write_gaps(journal, GAP)
    changes = finished(BTCUSDT=ledger())
    changes.attempts = {("BTCUSDT", 29): 3, ("BTCUSDT", 28): 9, ("ETHUSDT", 29): 9}
    journal.write(changes, NOW)

    (ended,) = JournalReader(path).past_gaps()
    assert ended.gap.attempts == 3


def test_ids_that_the_exchange_does_not_have_stay_on_record_as_absent(
    journal: Journal, path: Path
) -> None:
    write_gaps(journal, GAP)
    write_gaps(journal, absent=(15, 19))

    assert past(path) == [
        (10, 14, GapOutcome.REPAIRED),
        (15, 19, GapOutcome.ABSENT),
        (20, 29, GapOutcome.REPAIRED),
    ]


def test_absent_ids_are_kept_over_a_restart_and_are_on_record_as_such(path: Path) -> None:
    absent = replace(GAP, absent_at=NOW + 700_000, looks=1)
    state = LedgerState(next_id=1_000, last_time=NOW, gaps=(), absent=(absent,))
    with journal_at(path) as journal:
        write_gaps(journal, GAP)
        changes = finished(BTCUSDT=state)
        changes.resolved = [("BTCUSDT", 10, 29, GapOutcome.ABSENT)]
        journal.write(changes, NOW)

    with journal_at(path) as journal:
        assert journal.checkpoints["BTCUSDT"].ledger == state
        journal.write(finished(BTCUSDT=replace(state, absent=(replace(absent, looks=2),))), NOW)
    with journal_at(path) as journal:
        assert journal.checkpoints["BTCUSDT"].ledger.absent[0].looks == 2
    assert past(path) == [(10, 29, GapOutcome.ABSENT)]


def test_the_record_says_what_became_of_absent_ids_that_exist_after_all(
    journal: Journal, path: Path
) -> None:
    bar = sample_bar(open_time_ms=NOW)
    absent = replace(GAP, first_id=12, last_id=15, absent_at=NOW + 700_000)
    write_gaps(journal, GAP)
    changes = finished(bar, BTCUSDT=LedgerState(1_000, NOW, (), (absent,)))
    changes.resolved = [("BTCUSDT", 10, 17, GapOutcome.ABSENT)]
    journal.write(changes, NOW)
    assert past(path) == [(10, 17, GapOutcome.ABSENT), (18, 29, GapOutcome.REPAIRED)]
    assert [each.is_complete for each in stored(path)] == [True]

    changes = finished(
        BTCUSDT=LedgerState(1_000, NOW, (replace(absent, last_id=14, absent_at=None),))
    )
    changes.reopened = [("BTCUSDT", absent)]
    journal.write(changes, NOW)

    assert sorted(past(path)) == [
        (10, 11, GapOutcome.ABSENT),
        (15, 15, GapOutcome.REPAIRED),
        (16, 17, GapOutcome.ABSENT),
        (18, 29, GapOutcome.REPAIRED),
    ]
    assert [each.is_complete for each in stored(path)] == [False], "the others are missing again"


def test_the_record_says_repaired_where_every_absent_id_came_at_once(
    journal: Journal, path: Path
) -> None:
    absent = replace(GAP, absent_at=NOW + 700_000)
    write_gaps(journal, GAP)
    changes = finished(BTCUSDT=LedgerState(1_000, NOW, (), (absent,)))
    changes.resolved = [("BTCUSDT", 10, 29, GapOutcome.ABSENT)]
    journal.write(changes, NOW)

    changes = finished(BTCUSDT=LedgerState(1_000, NOW, ()))
    changes.reopened = [("BTCUSDT", absent)]
    journal.write(changes, NOW)

    assert past(path) == [(10, 29, GapOutcome.REPAIRED)]


def test_what_was_before_the_beginning_was_never_missing(journal: Journal, path: Path) -> None:
    write_gaps(journal, replace(GAP, first_id=0, cause=GapCause.START))
    write_gaps(journal, replace(GAP, first_id=25, cause=GapCause.START), unwanted=(0, 24))
    write_gaps(journal)

    assert past(path) == [(25, 29, GapOutcome.REPAIRED)]


def test_a_range_that_was_repaired_page_by_page_is_one_on_record(
    journal: Journal, path: Path
) -> None:
    for first_id in range(10, 30, 4):
        write_gaps(journal, replace(GAP, first_id=first_id, since_ms=NOW + first_id))
    write_gaps(journal, now=NOW + 9)

    (ended,) = JournalReader(path).past_gaps()
    assert (ended.gap.first_id, ended.gap.last_id, ended.gap.since_ms) == (10, 29, NOW + 10)
    assert ended.closed_at_ms == NOW + 9


def test_ranges_that_ended_differently_or_came_from_different_causes_stay_apart(
    journal: Journal, path: Path
) -> None:
    write_gaps(journal, GAP)
    write_gaps(journal, replace(GAP, first_id=15))
    write_gaps(journal, replace(GAP, first_id=20), absent=(15, 19))
    write_gaps(journal)
    write_gaps(journal, replace(GAP, first_id=30, last_id=31, cause="skipped"))
    write_gaps(journal)

    assert past(path) == [
        (10, 14, GapOutcome.REPAIRED),
        (15, 19, GapOutcome.ABSENT),
        (20, 29, GapOutcome.REPAIRED),
        (30, 31, GapOutcome.REPAIRED),
    ]


def test_an_abandoned_gap_stays_among_those_that_are_missing(path: Path) -> None:
    abandoned = replace(GAP, is_abandoned=True)
    with journal_at(path) as journal:
        write_gaps(journal, GAP)
        write_gaps(journal, abandoned)

    with journal_at(path) as journal:
        assert journal.checkpoints["BTCUSDT"].ledger.gaps == (abandoned,)
    assert JournalReader(path).gaps() == {"BTCUSDT": [abandoned]}
    assert past(path) == []


def test_a_refused_write_leaves_nothing_of_ended_gaps_behind(journal: Journal, path: Path) -> None:
    write_gaps(journal, GAP)
    with full_disk(path), pytest.raises(JournalError):
        write_gaps(journal)
    assert past(path) == []

    write_gaps(journal)
    assert past(path) == [(10, 29, GapOutcome.REPAIRED)]


missing_sets = st.lists(st.sets(st.integers(0, 20)), min_size=2, max_size=6)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(missing_sets, st.data())
def test_every_id_that_ceased_to_be_missing_is_on_record_with_its_reason(
    missing: list[set[int]], data: st.DataObject
) -> None:
    still = missing[0]
    outcomes: dict[int, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bars.journal"
        with journal_at(path) as journal:
            for wanted in [*missing, set()]:
                closed = still - wanted
                still = still & wanted
                why = {
                    trade_id: data.draw(
                        st.sampled_from(
                            [GapOutcome.REPAIRED, GapOutcome.ABSENT, GapOutcome.UNWANTED]
                        )
                    )
                    for trade_id in sorted(closed)
                }
                outcomes |= why
                changes = finished(BTCUSDT=ledger(*as_gaps(still)))
                changes.resolved = [
                    ("BTCUSDT", each, each, reason)
                    for each, reason in why.items()
                    if reason != GapOutcome.REPAIRED
                ]
                if wanted is missing[0]:
                    changes.resolved = []
                journal.write(changes, NOW)
        recorded = {
            trade_id: outcome
            for first_id, last_id, outcome in past(path)
            for trade_id in range(first_id, last_id + 1)
        }

    assert recorded == {each: why for each, why in outcomes.items() if why != GapOutcome.UNWANTED}


def as_gaps(missing: set[int]) -> list[Gap]:
    """Return ids as the gaps that hold them."""
    gaps: list[Gap] = []
    for trade_id in sorted(missing):
        if gaps and gaps[-1].last_id == trade_id - 1:
            gaps[-1] = replace(gaps[-1], last_id=trade_id)
        else:
            gaps.append(replace(GAP, first_id=trade_id, last_id=trade_id))
    return gaps
