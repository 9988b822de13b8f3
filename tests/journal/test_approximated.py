"""Gaps that aggregates stand in for: on record, until bars are made again of trades."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.journal.meta import JournalScope
from bintrades.journal.reader import JournalReader
from bintrades.journal.repair import replace_bars
from bintrades.model import Gap, GapCause
from bintrades.testing.bars import OPEN_TIME_MS, sample_bar
from tests.journals import INTERVAL_MS, NOW, by_key, journal_at, past, stored

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bintrades.journal.writer import Journal
    from bintrades.model import Bar

BTC = "BTCUSDT"
SCOPE = JournalScope("spot", INTERVAL_MS, "binance", "trade")
DISORDER_MS = 999


def bar(number: int, first_id: int, last_id: int, **changes: object) -> Bar:
    """Return the bar of the n-th interval."""
    return sample_bar(
        open_time_ms=OPEN_TIME_MS + number * INTERVAL_MS,
        first_trade_id=first_id,
        last_trade_id=last_id,
        **changes,
    )


def gap_of(first: Bar, last: Bar, **changes: object) -> Gap:
    """Return the gap of all trades of some bars, for which aggregates stand in."""
    fields = {
        "first_id": first.first_trade_id,
        "last_id": last.last_trade_id,
        "since_ms": first.first_trade_time_ms - DISORDER_MS,
        "until_ms": last.last_trade_time_ms + DISORDER_MS,
        "cause": GapCause.RECONNECT,
        "is_approximated": True,
    }
    return Gap(**(fields | changes))  # type: ignore[arg-type]


def known(*gaps: Gap) -> WriteBatch:
    state = LedgerState(BEHIND.last_trade_id + 1, NOW, gaps)
    through = BEHIND.open_time_ms
    checkpoint = Checkpoint(state, (), through, proven_ms=NOW, covered_since_ms=0)
    return WriteBatch(checkpoints={BTC: checkpoint})


def write(journal: Journal, bars: Sequence[Bar], *gaps: Gap) -> None:
    batch = known(*gaps)
    batch.finished = by_key(bars)
    journal.write(batch, NOW)


def again(bar: Bar) -> Bar:
    return replace(bar, epoch=1, is_approximate=False, is_complete=True)


def gaps_of(journal: Journal) -> list[tuple[int, int]]:
    return [(gap.first_id, gap.last_id) for gap in journal.checkpoints[BTC].ledger.gaps]


TRADES = bar(0, 1, 3)
FIRST = bar(1, 4, 6, is_approximate=True)
SECOND = bar(2, 8, 10, is_approximate=True)
BOTH = gap_of(FIRST, SECOND)
BEHIND = bar(4, 11, 13)


def test_what_is_approximated_is_counted_apart_and_stays_so_after_a_restart(path: Path) -> None:
    with journal_at(path) as journal:
        write(journal, [TRADES, FIRST, SECOND, BEHIND], BOTH)

    reader = JournalReader(path)
    assert reader.gap_counts() == {"open": 0, "abandoned": 0, "approximated": 1}
    assert [(gap, state) for _, gap, state in reader.all_gaps()] == [(BOTH, "approximated")]
    with journal_at(path) as journal:
        assert journal.checkpoints[BTC].ledger.gaps == (BOTH,)


def test_a_bar_that_is_approximate_is_never_complete(journal: Journal, path: Path) -> None:
    write(journal, [TRADES, FIRST, BEHIND])

    assert [(each.is_complete, each.is_approximate) for each in stored(path)] == [
        (True, False),
        (False, True),
        (True, False),
    ]


def test_bars_that_are_made_again_take_their_ids_off_the_record(
    journal: Journal, path: Path
) -> None:
    write(journal, [TRADES, FIRST, SECOND, BEHIND], BOTH)
    assert [each.is_complete for each in stored(path)] == [False, False, False, True]

    journal.write(WriteBatch(rebuilt=by_key([again(FIRST), again(SECOND)])), NOW + 1)

    assert gaps_of(journal) == [], "the id between the two is no trade"
    assert [each.is_complete for each in stored(path)] == [True] * 4
    assert not any(each.is_approximate for each in stored(path))
    assert past(path) == [(4, 10, "repaired")]
    assert {key: list(ids) for key, ids in journal.take_settled().items()} == {
        BTC: [(4, 7), (7, 10)]
    }
    assert journal.take_settled() == {}


def test_bars_that_are_made_again_one_after_the_other_settle_all_of_it(
    journal: Journal, path: Path
) -> None:
    write(journal, [TRADES, FIRST, SECOND, BEHIND], BOTH)

    journal.write(WriteBatch(rebuilt=by_key([again(SECOND)])), NOW + 1)
    assert gaps_of(journal) == [(4, 7)]
    assert [(each.epoch, each.is_approximate) for each in stored(path)][1:3] == [
        (0, True),
        (1, False),
    ]

    journal.write(WriteBatch(rebuilt=by_key([again(FIRST)])), NOW + 2)
    assert gaps_of(journal) == []
    assert [each.is_complete for each in stored(path)] == [True] * 4


def test_another_process_may_leave_the_bars(journal: Journal, path: Path) -> None:
    write(journal, [TRADES, FIRST, SECOND, BEHIND], BOTH)

    replace_bars(path, SCOPE, [again(FIRST), again(SECOND)], within_s=0)
    journal.write(WriteBatch(), NOW + 1)

    assert gaps_of(journal) == []
    assert [each.epoch for each in stored(path)] == [0, 1, 1, 0]


def test_a_ledger_that_has_not_heard_of_it_brings_nothing_back(
    journal: Journal, path: Path
) -> None:
    write(journal, [TRADES, FIRST, SECOND, BEHIND], BOTH)

    batch = known(BOTH)
    batch.rebuilt = by_key([again(FIRST), again(SECOND)])
    journal.write(batch, NOW + 1)

    assert gaps_of(journal) == []
    assert [each.is_complete for each in stored(path)] == [True] * 4


@pytest.mark.parametrize("state", [{}, {"is_abandoned": True}])
def test_where_trades_are_missing_besides_nothing_is_settled(
    journal: Journal, path: Path, state: dict[str, bool]
) -> None:
    missing = gap_of(SECOND, SECOND, is_approximated=False, **state)
    approximated = gap_of(FIRST, FIRST)
    write(journal, [TRADES, FIRST, SECOND, BEHIND], approximated, missing)

    journal.write(WriteBatch(rebuilt=by_key([again(SECOND)])), NOW + 1)

    assert gaps_of(journal) == [(4, 6), (8, 10)]
    assert [each.epoch for each in stored(path)] == [0] * 4
    assert journal.take_settled() == {}
