"""Which bars leave the journal when, and what comes for a bar that has left."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import WriteBatch
from bintrades.errors import JournalError
from bintrades.journal.cursor import Cursor
from bintrades.journal.pruning import PRUNE_BATCH
from bintrades.journal.writer import Journal
from bintrades.model import Gap, GapCause, GapOutcome
from bintrades.testing.bars import sample_bar, sample_bars
from tests.journals import (
    GAP,
    INTERVAL_MS,
    NOW,
    by_key,
    checkpoints,
    files_aside,
    finished,
    gap_within,
    journal_at,
    ledger,
    ledger_through,
    ledgers_of,
    metadata,
    open_journal,
    past,
    stored,
    write_gaps,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "corrupt", ["open_time = 'x'", "open_time = open_time + 0.5", "symbol = x'00'"]
)
def test_a_bar_of_unknown_owner_is_damage_to_pruning(path: Path, corrupt: str) -> None:
    *bars, newest = sample_bars(10)
    with journal_at(path) as journal:
        journal.write(finished(*bars, newest, BTCUSDT=ledger_through([newest])), NOW)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            f"UPDATE bars SET {corrupt} WHERE open_time = ?",  # noqa: S608 - ours
            (bars[3].open_time_ms,),
        )
    with journal_at(path) as journal:
        pruned = 0
        for _ in range(100):
            with suppress(JournalError):  # for as long as what can be read is being saved
                pruned += journal.prune([], NOW + 1)
                break
        (gap,) = ledgers_of(journal)["BTCUSDT"].gaps

    assert (gap.first_id, gap.last_id, gap.cause) == (
        bars[3].first_trade_id,
        bars[3].last_trade_id,
        GapCause.LOST,
    )
    assert pruned + len(stored(path)) == 9
    assert len(files_aside(path)) == 1


def test_only_bars_older_than_the_retention_since_they_were_last_written_are_deleted(
    journal: Journal, path: Path
) -> None:
    first, second, third = sample_bars(3)
    journal.write(finished(first, second), NOW)
    journal.write(finished(third), NOW + 5)
    journal.write(finished(first), NOW + 10)

    assert journal.prune([], NOW) == 0
    assert journal.prune([], NOW + 6) == 2
    assert [bar.open_time_ms for bar in stored(path)] == [first.open_time_ms]


def test_a_bar_stays_until_every_store_has_it(journal: Journal, path: Path) -> None:
    journal.write(finished(*sample_bars(5)), NOW)
    for store, limit in (("fast", 5), ("slow", 2)):
        cursor = Cursor(path, store)
        bars, sequence = cursor.next_bars(limit)
        cursor.move(sequence, bars)

    assert journal.prune(["fast", "slow", "new"], NOW + 1) == 0
    assert journal.prune(["fast", "slow"], NOW + 1) == 2
    assert journal.prune(["fast"], NOW + 1) == 3


def test_a_bar_that_a_store_refused_stays_until_it_is_taken(journal: Journal, path: Path) -> None:
    journal.write(finished(*sample_bars(3)), NOW)
    cursor = Cursor(path, "store")
    bars, sequence = cursor.next_bars(10)
    cursor.move(sequence, bars, [(bars[1], "ugly")])

    assert journal.prune(["store"], NOW + 1) == 2
    assert stored(path) == [bars[1]]
    cursor.resend("store")
    bars, sequence = cursor.next_bars(10)
    cursor.move(sequence, bars)
    assert journal.prune(["store"], NOW + 1) == 1


def test_age_goes_by_the_exchanges_clock_whatever_the_local_one_says(
    journal: Journal, path: Path
) -> None:
    first, second, third = sample_bars(3)
    day = 86_400_000
    journal.write(finished(first), NOW - 365 * day, exchange_ms=NOW)  # a local clock far behind
    journal.write(finished(second), NOW + 4 * day, exchange_ms=NOW + 1)  # and far ahead
    journal.write(finished(third), NOW, exchange_ms=NOW + 2)

    assert journal.prune([], NOW) == 0
    assert journal.prune([], NOW + 2) == 2
    assert [bar.open_time_ms for bar in stored(path)] == [third.open_time_ms]


def test_nothing_is_deleted_before_the_exchanges_clock_is_known(journal: Journal) -> None:
    journal.write(finished(*sample_bars(3)), NOW, exchange_ms=0)

    assert journal.prune([], NOW + 10**9) == 0


def test_a_clock_that_was_wrong_for_a_while_only_has_bars_stay_longer(journal: Journal) -> None:
    first, second = sample_bars(2)
    journal.write(finished(first), NOW, exchange_ms=NOW + 10**10)
    journal.write(finished(second), NOW, exchange_ms=NOW)

    assert journal.prune([], NOW) == 0
    assert journal.prune([], NOW + 1) == 2


def test_how_far_the_sequence_had_come_is_noted_now_and_then_only(path: Path) -> None:
    with closing(
        Journal(path, exchange="binance", market="spot", stream="trade", interval_ms=INTERVAL_MS)
    ) as journal:
        for second, bar in enumerate(sample_bars(100)):
            journal.write(finished(bar), NOW, exchange_ms=NOW + 1_000 * second)

        assert journal.prune([], NOW + 59_000) == 1
        assert journal.prune([], NOW + 99_000) == 60


@pytest.mark.parametrize("is_reopened", [False, True])
def test_a_trade_that_comes_when_its_bar_has_left_makes_no_lesser_one_but_is_on_record(
    path: Path, is_reopened: bool
) -> None:
    bar, newer = sample_bars(2)
    late = replace(bar, first_trade_id=2, last_trade_id=2, trade_count=1)
    missing = Gap(2, 2, newer.open_time_ms + 1, newer.open_time_ms + 2, GapCause.SKIPPED)
    state = replace(ledger_through([newer]), last_time=NOW, gaps=(missing,))
    journal = open_journal(path)
    journal.write(finished(bar, newer, BTCUSDT=state), NOW)
    assert journal.prune([], NOW + 1) == 1
    if is_reopened:
        journal.close()
        journal = open_journal(path)

    changes = WriteBatch(
        amendments=by_key([late]), checkpoints=finished(BTCUSDT=ledger()).checkpoints
    )
    journal.write(changes, NOW + 2)
    journal.prune([], NOW + 10**9)
    journal.close()

    assert bar.open_time_ms not in {each.open_time_ms for each in stored(path)}
    assert past(path) == [(2, 2, GapOutcome.LATE)]


@pytest.mark.parametrize("is_reopened", [False, True])
def test_ids_that_turn_out_to_exist_when_their_bars_have_left_are_late_one_after_the_other(
    path: Path, is_reopened: bool
) -> None:
    first, second = sample_bars(2)
    span = (first.open_time_ms + 1, second.open_time_ms + 9)
    absent = Gap(61, 64, *span, GapCause.SKIPPED, absent_at=NOW)
    state = replace(ledger_through([second]), next_id=1_000, last_time=NOW, absent=(absent,))
    journal = open_journal(path)
    journal.write(finished(first, second, BTCUSDT=state), NOW)
    assert journal.prune([], NOW + 1) == 2

    reopened = [("BTCUSDT", absent)]
    for trade_id, bar in ((61, first), (62, first), (63, second), (64, second)):
        part = replace(bar, first_trade_id=trade_id, last_trade_id=trade_id, trade_count=1)
        left = (Gap(trade_id + 1, 64, *span, GapCause.SKIPPED),) if trade_id < 64 else ()
        ledgers = checkpoints(BTCUSDT=replace(state, absent=(), gaps=left))
        journal.write(
            WriteBatch(amendments=by_key([part]), checkpoints=ledgers, reopened=reopened), NOW + 2
        )
        reopened = []
        if is_reopened:
            journal.close()
            journal = open_journal(path)

    assert stored(path) == []
    assert past(path) == [(61, 64, GapOutcome.LATE)]
    assert metadata(path)["reopened"] == "{}", "nothing of them is missing any more"
    journal.close()


def test_ids_that_turn_out_to_exist_make_a_bar_where_another_gap_shows_that_there_was_none(
    journal: Journal, path: Path
) -> None:
    quiet, bar = sample_bars(2)
    span = (quiet.open_time_ms + 1, bar.open_time_ms + 9)
    absent = Gap(61, 62, *span, GapCause.SKIPPED, absent_at=NOW)
    missing = gap_within(quiet, 71, 72)
    state = replace(ledger_through([bar]), next_id=1_000, last_time=NOW, gaps=(missing,))
    journal.write(finished(bar, BTCUSDT=replace(state, absent=(absent,))), NOW)
    assert journal.prune([], NOW + 1) == 1

    reopened = [("BTCUSDT", absent)]
    for trade_id, its_bar in ((61, bar), (62, quiet)):
        part = replace(its_bar, first_trade_id=trade_id, last_trade_id=trade_id, trade_count=1)
        left = (Gap(62, 62, *span, GapCause.SKIPPED),) if trade_id == 61 else ()
        ledgers = checkpoints(BTCUSDT=replace(state, gaps=(*left, missing)))
        journal.write(
            WriteBatch(amendments=by_key([part]), checkpoints=ledgers, reopened=reopened), NOW + 2
        )
        reopened = []

    (made,) = stored(path)
    assert (made.open_time_ms, made.trade_count, made.is_complete) == (quiet.open_time_ms, 1, False)
    assert (61, 61, GapOutcome.LATE) in past(path)


def test_a_first_trade_for_an_interval_older_than_what_has_left_makes_a_bar_where_it_was_missing(
    journal: Journal, path: Path
) -> None:
    quiet, bar, newest = sample_bars(3)
    missing = gap_within(quiet, 1, 3)
    state = replace(ledger_through([newest]), last_time=NOW, gaps=(missing,))
    journal.write(finished(bar, newest, BTCUSDT=state), NOW)
    assert journal.prune([], NOW + 1) == 2

    changes = WriteBatch(
        amendments=by_key([quiet]), checkpoints=finished(BTCUSDT=ledger()).checkpoints
    )
    journal.write(changes, NOW + 2)

    assert [(each.open_time_ms, each.trade_count) for each in stored(path)] == [
        (quiet.open_time_ms, 3)
    ]


def test_a_bar_that_is_not_closed_is_never_deleted(journal: Journal, path: Path) -> None:
    half = sample_bar(is_closed=False)
    journal.write(finished(half, BTCUSDT=replace(ledger(), last_time=NOW)), NOW)

    assert journal.prune([], NOW + 10**9) == 0
    assert len(stored(path)) == 1


def test_an_open_bar_is_never_deleted(journal: Journal, path: Path) -> None:
    journal.write(WriteBatch(checkpoints=checkpoints(sample_bar(is_closed=False))), NOW)

    assert journal.prune([], NOW + 10**9) == 0


@pytest.mark.parametrize(("later_ms", "pruned"), [(998, 0), (999, 1)])
def test_a_bar_that_the_next_gap_may_touch_stays_though_the_newest_trade_is_of_the_next_one(
    journal: Journal, later_ms: int, pruned: int
) -> None:
    bar = sample_bar()
    newest = LedgerState(next_id=1_000, last_time=bar.end_time_ms + later_ms, gaps=())
    journal.write(finished(bar, BTCUSDT=newest), NOW)

    assert journal.prune([], NOW + 1) == pruned


def test_pruning_goes_on_where_it_stopped_when_there_is_much(journal: Journal, path: Path) -> None:
    journal.write(finished(*sample_bars(PRUNE_BATCH + 10)), NOW)

    assert journal.prune([], NOW + 1) == PRUNE_BATCH
    assert journal.has_more_to_prune
    assert journal.prune([], NOW + 1) == 10
    assert not journal.has_more_to_prune
    assert journal.prune([], NOW + 1) == 0


def test_bars_that_must_stay_are_looked_at_again_a_few_at_a_time(
    journal: Journal, path: Path
) -> None:
    count = PRUNE_BATCH + 100
    journal.write(finished(*sample_bars(count)), NOW)
    cursor = Cursor(path, "store")
    bars, sequence = cursor.next_bars(count)
    cursor.move(sequence, bars, [(bar, "ugly") for bar in bars])
    assert [journal.prune(["store"], NOW + 1) for _ in range(3)] == [0, 0, 0]
    assert not journal.has_more_to_prune

    cursor.resend("store")
    bars, _ = cursor.next_bars(count)
    cursor.move(sequence, bars)
    deleted = [journal.prune(["store"], NOW + 1)]
    while journal.has_more_to_prune:
        deleted.append(journal.prune(["store"], NOW + 1))
    deleted += [journal.prune(["store"], NOW + 1) for _ in range(2)]

    assert max(deleted) < PRUNE_BATCH / 2
    assert sum(deleted) == count
    assert stored(path) == []


def test_stores_miss_nothing_after_everything_was_pruned(path: Path) -> None:
    cursor = Cursor(path, "store")
    with journal_at(path) as journal:
        journal.write(finished(*sample_bars(5)), NOW)
        bars, sequence = cursor.next_bars(10)
        cursor.move(sequence, bars)
        assert journal.prune(["store"], NOW + 1) == 5

    with journal_at(path) as journal:
        journal.write(finished(sample_bar(open_time_ms=NOW)), NOW)

    assert [bar.open_time_ms for bar in cursor.next_bars(10)[0]] == [NOW]


def test_a_bar_whose_gap_may_still_be_repaired_is_kept_for_the_trades_to_come(
    journal: Journal, path: Path
) -> None:
    bar = sample_bar()
    journal.write(finished(bar, BTCUSDT=ledger(gap_within(bar))), NOW)

    assert journal.prune([], NOW + 10**9) == 0


def test_old_records_of_ended_gaps_go_with_the_bars(journal: Journal, path: Path) -> None:
    write_gaps(journal, GAP)
    write_gaps(journal, now=NOW)

    journal.prune([], NOW)
    assert len(past(path)) == 1
    journal.prune([], NOW + 1)
    assert past(path) == []
