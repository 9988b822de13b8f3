"""Old bars leave the journal as the exchange's clock goes on, in long lives and in short ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bintrades.core.ledger import LedgerState
from bintrades.journal.cursor import Cursor
from bintrades.journal.pruning import PRUNE_BATCH
from bintrades.pipeline.pruning import Pruning
from bintrades.testing.bars import sample_bar, sample_bars
from tests.journals import finished, open_journal, stored

if TYPE_CHECKING:
    from pathlib import Path

    from bintrades.journal.writer import Journal

NOW = 1_700_000_000_000
MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
RETENTION_MS = 2 * HOUR_MS


def deliver(path: Path, store: str = "store") -> None:
    """Let *store* take everything."""
    cursor = Cursor(path, store)
    bars, sequence = cursor.next_bars(10**6)
    if bars:
        cursor.move(sequence, bars)


def test_bars_leave_once_a_minute_of_the_exchanges_clock(journal: Journal) -> None:
    pruning = Pruning(journal, [], RETENTION_MS)
    went = []
    for second, bar in enumerate(sample_bars(180)):
        journal.write(finished(bar), NOW, exchange_ms=NOW + 1_000 * second)
    for second in range(180):
        exchange_ms = NOW + RETENTION_MS + 1_000 * second
        went.append(pruning.prune_if_due(exchange_ms, now=10_000 * second))

    assert [second for second, count in enumerate(went) if count] == [60, 120]
    assert went[60] == went[120] == 60


def test_however_fast_the_exchanges_clock_goes_there_is_a_commit_a_second_at_most(
    journal: Journal,
) -> None:
    journal.write(finished(*sample_bars(2)), NOW)
    pruning = Pruning(journal, [], RETENTION_MS)
    first = NOW + RETENTION_MS

    assert pruning.prune_if_due(first, now=5_000) == 0
    assert pruning.prune_if_due(first + DAY_MS, now=5_999) == 0
    assert pruning.prune_if_due(first + DAY_MS, now=6_000) == 2


def test_what_is_more_than_one_batch_goes_on_a_moment_later(journal: Journal) -> None:
    journal.write(finished(*sample_bars(PRUNE_BATCH + 10)), NOW)
    pruning = Pruning(journal, [], RETENTION_MS)
    at = NOW + DAY_MS

    assert pruning.prune_if_due(at, now=5_000) == PRUNE_BATCH
    assert pruning.prune_if_due(at, now=5_249) == 0
    assert pruning.prune_if_due(at, now=5_250) == 10
    assert pruning.prune_if_due(at, now=9_999) == 0


def test_before_the_exchanges_clock_is_known_nothing_leaves_and_no_time_passes(
    journal: Journal, path: Path
) -> None:
    journal.write(finished(*sample_bars(2)), NOW)
    deliver(path)
    pruning = Pruning(journal, ["store"], RETENTION_MS)

    assert pruning.prune_if_due(0, now=5_000) == 0
    assert pruning.prune_if_due(NOW + DAY_MS, now=7_000) == 0


def test_a_clock_that_is_known_no_longer_makes_nothing_older_and_forgets_nothing(
    journal: Journal, path: Path
) -> None:
    journal.write(finished(*sample_bars(2)), NOW)
    deliver(path)
    pruning = Pruning(journal, ["store"], RETENTION_MS)
    pruning.prune_if_due(NOW + DAY_MS, now=5_000)

    assert pruning.prune_if_due(0, now=7_000) == 0
    assert pruning.prune_if_due(NOW + DAY_MS + HOUR_MS, now=9_000) == 2


def test_a_clock_that_was_set_back_stops_nothing(journal: Journal) -> None:
    journal.write(finished(*sample_bars(2)), NOW)
    pruning = Pruning(journal, [], RETENTION_MS)
    pruning.prune_if_due(NOW + 1, now=5_000)
    journal.write(finished(sample_bar(symbol="ETHUSDT")), NOW - DAY_MS)

    assert pruning.prune_if_due(NOW - DAY_MS + RETENTION_MS + 1, now=7_000) == 3


def test_a_bar_stays_an_hour_after_its_delivery_however_old_it_is(
    journal: Journal, path: Path
) -> None:
    journal.write(finished(*sample_bars(2)), NOW)
    pruning = Pruning(journal, ["store"], RETENTION_MS)
    delivered_at = NOW + 9 * DAY_MS
    assert pruning.prune_if_due(delivered_at - 1, now=1_000) == 0
    deliver(path)

    assert pruning.prune_if_due(delivered_at + MINUTE_MS, now=2_000) == 0
    assert pruning.prune_if_due(delivered_at + HOUR_MS, now=3_000) == 0
    assert pruning.prune_if_due(delivered_at + HOUR_MS + MINUTE_MS, now=4_000) == 2


def test_a_collector_that_never_lives_for_an_hour_prunes_as_well(path: Path) -> None:
    bars = sample_bars(300)
    for life in range(30):
        journal = open_journal(path)
        pruning = Pruning(journal, ["store"], RETENTION_MS)
        for minute in range(10 * life, 10 * life + 10):
            exchange_ms = NOW + minute * MINUTE_MS
            bar = bars[minute]
            state = LedgerState(bar.last_trade_id + 1, bar.last_trade_time_ms, ())
            journal.write(finished(bar, BTCUSDT=state), NOW, exchange_ms=exchange_ms)
            deliver(path)
            pruning.prune_if_due(exchange_ms, now=1_000 * minute)
        journal.close()

    assert 119 <= len(stored(path)) <= 123


def test_a_word_in_the_journal_that_nobody_wrote_only_has_bars_stay_longer(
    journal: Journal, path: Path
) -> None:
    journal.set_delivered("[[nonsense")
    journal.write(finished(*sample_bars(2)), NOW)
    deliver(path)
    pruning = Pruning(journal, ["store"], RETENTION_MS)

    assert pruning.prune_if_due(NOW + DAY_MS, now=5_000) == 0
    assert pruning.prune_if_due(NOW + DAY_MS + HOUR_MS, now=9_000) == 2


def test_a_store_that_is_enabled_no_more_holds_no_bar_back(journal: Journal, path: Path) -> None:
    journal.write(finished(*sample_bars(5)), NOW)
    deliver(path, "first")
    Cursor(path, "never").move(0, [])
    before = Pruning(journal, ["first", "never"], RETENTION_MS)
    for day in range(1, 5):
        assert before.prune_if_due(NOW + day * DAY_MS, now=10_000 * day) == 0

    after = Pruning(journal, ["first"], RETENTION_MS)
    went = [after.prune_if_due(NOW + day * DAY_MS, now=10_000 * day) for day in range(5, 8)]

    assert sum(went) == 5
