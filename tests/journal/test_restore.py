"""Checkpoints, positions and bars that are gone or outdated without any error."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from bintrades.core.ledger import Ledger, LedgerState
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.errors import JournalDamaged
from bintrades.journal.cursor import Cursor
from bintrades.journal.lock import identity
from bintrades.journal.lost import is_outdated
from bintrades.journal.reader import JournalReader
from bintrades.journal.spare import spare_file
from bintrades.model import Gap, GapCause
from bintrades.testing.bars import OPEN_TIME_MS, sample_bar, sample_bars
from tests.damaged_journals import COUNT, NOW, SYMBOLS, Found, forget, made, remove, unexplained
from tests.journals import (
    INTERVAL_MS,
    PAGE,
    by_key,
    empty_log,
    empty_sectors,
    finished,
    journal_at,
    ledgers_of,
    pages_of,
    stored,
    with_proof,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_a_cursor_of_nonsense_has_its_store_get_all_bars_again(path: Path) -> None:
    made(path)
    for store in ("text", "far", "good"):
        cursor = Cursor(path, store)
        bars, sequence = cursor.next_bars(100)
        cursor.move(sequence, bars)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE cursors SET sequence = 'x' WHERE store = 'text'")
        connection.execute("UPDATE cursors SET sequence = 1 << 60 WHERE store = 'far'")

    with journal_at(path) as journal:
        journal.save_readable("a reader says so", identity(path))

    all_bars = COUNT * len(SYMBOLS)
    waiting = {
        name: JournalReader(path).store(name).waiting_bars for name in ("text", "far", "good")
    }
    assert waiting == {"text": all_bars, "far": all_bars, "good": all_bars - 100}


def test_gaps_that_are_gone_without_any_error_are_noticed_at_the_start(path: Path) -> None:
    made(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TRIGGER gap_removed")  # nobody has counted them off
        connection.execute("DELETE FROM gaps WHERE symbol = 'BTCUSDT'")

    with journal_at(path) as journal:
        gaps = {symbol: state.gaps for symbol, state in ledgers_of(journal).items()}

    assert {symbol: gap[0].last_error for symbol, gap in gaps.items()} == dict.fromkeys(
        SYMBOLS, "its gaps could not be read"
    )
    with journal_at(path) as journal:
        assert {symbol: state.gaps for symbol, state in ledgers_of(journal).items()} == gaps


def test_trades_that_a_first_bar_lacked_are_missing_again_when_gaps_are_lost(path: Path) -> None:
    first, second, newest = sample_bars(3)
    start = Gap.beginning(first.first_trade_id - 1, first.open_time_ms, first.end_time_ms)
    missing = Gap(
        second.last_trade_id + 1,
        newest.first_trade_id - 1 + 7,
        second.open_time_ms,
        newest.end_time_ms,
        GapCause.RECONNECT,
    )
    state = LedgerState(missing.last_id + 1, newest.last_trade_time_ms, (start, missing))
    with journal_at(path) as journal:
        batch = finished(first, second, BTCUSDT=state)
        journal.write(batch, NOW)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TRIGGER gap_removed")  # nobody has counted them off
        connection.execute("DELETE FROM gaps")

    with journal_at(path) as journal:
        gaps = ledgers_of(journal)["BTCUSDT"].gaps

    assert [(gap.first_id, gap.last_id) for gap in gaps if gap.has_ids] == [
        (start.first_id, start.last_id),
        (missing.first_id, missing.last_id),
    ]
    assert gaps[-2].is_start
    assert gaps[-2].touches(first.open_time_ms, INTERVAL_MS)
    assert gaps[-1].touches(second.open_time_ms, INTERVAL_MS)


def test_a_store_whose_cursor_is_nonsense_gets_all_bars_again_without_a_restart(
    path: Path,
) -> None:
    made(path)
    damaged = Found()
    cursor = Cursor(path, "shelf", damaged)
    bars, sequence = cursor.next_bars(100)
    cursor.move(sequence, bars)
    with journal_at(path) as journal:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE cursors SET sequence = 'x'")

        with pytest.raises(JournalDamaged):
            cursor.next_bars(2_000)
        journal.save_readable(*damaged.last)

        assert len(cursor.next_bars(2_000)[0]) == COUNT * len(SYMBOLS)


def test_a_symbol_whose_checkpoint_is_gone_goes_on_behind_its_newest_bar(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bars = made(path)["BTCUSDT"]
    absent = Gap(4, 6, OPEN_TIME_MS, bars[1].end_time_ms, GapCause.SKIPPED, absent_at=NOW)
    known = LedgerState(3 * COUNT + 1, bars[-1].last_trade_time_ms, (), (absent,))
    with journal_at(path) as journal:
        journal.write(WriteBatch(checkpoints={"BTCUSDT": with_proof(Checkpoint(known), bars)}), NOW)
    spare_file(path).unlink()
    forget(path, "DELETE FROM checkpoints WHERE symbol = 'BTCUSDT'")

    for _ in range(2):
        with journal_at(path) as journal:
            checkpoint = journal.checkpoints["BTCUSDT"]

        assert checkpoint.ledger.next_id == 3 * COUNT + 1
        assert checkpoint.ledger.last_time == bars[-1].last_trade_time_ms
        assert checkpoint.closed_through == bars[-1].open_time_ms
        assert checkpoint.ledger.absent == (absent,), "a trade of theirs is welcome still"
        assert checkpoint.ledger.gaps == (), "what came since is one as soon as a trade comes"
    assert caplog.text.count("what the journal knew of a symbol cannot be read") == 1
    assert {gap.cause for gap in ledgers_of(journal)["ETHUSDT"].gaps} == {"skipped"}


def test_a_symbol_whose_checkpoint_is_an_older_one_again_goes_on_behind_its_newest_bar(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made(path, count=50)
    empty_log(path)
    before = path.read_bytes()
    bars = made(path, count=100)
    empty_log(path)
    (page,) = (slice((at - 1) * PAGE, at * PAGE) for at in pages_of(path, "checkpoints"))
    after = path.read_bytes()
    path.write_bytes(after[: page.start] + before[page] + after[page.stop :])

    for _ in range(2):
        with journal_at(path) as journal:
            for symbol, each in bars.items():
                checkpoint = journal.checkpoints[symbol]

                assert checkpoint.ledger.next_id == each[-1].last_trade_id + 1
                assert checkpoint.closed_through == each[-1].open_time_ms
    assert caplog.text.count("what the journal knew of a symbol cannot be read") == len(SYMBOLS)
    assert unexplained(path, bars) == []


def test_a_checkpoint_of_ids_that_have_begun_anew_is_not_taken_for_an_older_one(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bars = made(path)["BTCUSDT"]
    before = Ledger(LedgerState(bars[-1].last_trade_id + 1, bars[-1].last_trade_time_ms, ()))
    ledger = Ledger.renumbered(before, bars[-1].end_time_ms + 1, bars[-1].last_trade_time_ms + 1)
    with journal_at(path) as journal:
        for _ in range(2):
            state = ledger.state
            assert state is not None
            journal.write(WriteBatch(checkpoints={"BTCUSDT": Checkpoint(state)}), NOW)
            ledger.admit(1, bars[-1].end_time_ms + 2_000)

            with closing(sqlite3.connect(path)) as connection:
                assert not is_outdated(connection, "BTCUSDT", journal.checkpoints["BTCUSDT"])

    with journal_at(path) as journal:
        assert ledgers_of(journal)["BTCUSDT"] == state
    assert caplog.text == ""


@pytest.mark.parametrize("table", ["checkpoints", "gaps", "absent", "proofs"])
def test_rows_of_which_nobody_can_tell_the_symbol_take_nothing_with_them_unnoticed(
    path: Path, table: str
) -> None:
    bars = made(path)
    with journal_at(path) as journal:
        for symbol, checkpoint in journal.checkpoints.items():
            until = bars[symbol][9].end_time_ms
            gap = Gap(1, 9, OPEN_TIME_MS, until, GapCause.SKIPPED, absent_at=NOW)
            state = replace(checkpoint.ledger, absent=(gap,))
            changed = replace(checkpoint, ledger=state)
            journal.write(WriteBatch(checkpoints={symbol: changed}), NOW)
    spare_file(path).unlink()
    empty_sectors(path, table)

    with journal_at(path) as journal:
        journal.flush_removed_symbols(SYMBOLS, NOW)
        checkpoints = journal.checkpoints
    with journal_at(path) as journal:
        assert journal.checkpoints == checkpoints, "what was found is on record"

    assert checkpoints.keys() == set(SYMBOLS)
    assert all(each.proven_ms is not None for each in checkpoints.values())
    if table in ("gaps", "absent"):
        assert all(each.ledger.next_id == 3 * COUNT + 1 for each in checkpoints.values())
    if table == "gaps":
        assert all(each.ledger.gaps for each in checkpoints.values())
    if table != "gaps":
        assert unexplained(path, bars) == []


def test_newest_bars_that_are_gone_without_any_error_are_missing_again_at_the_start(
    path: Path,
) -> None:
    bars = made(path)
    gone = bars["BTCUSDT"][-3:]
    forget(path, "DROP TRIGGER bar_removed")  # nobody has counted them off
    forget(path, f"DELETE FROM bars WHERE open_time >= {gone[0].open_time_ms}")  # noqa: S608

    for _ in range(2):
        with journal_at(path) as journal:
            gaps = ledgers_of(journal)["BTCUSDT"].gaps

        assert [(gap.first_id, gap.last_id) for gap in gaps[1:]] == [
            (gone[0].first_trade_id, gone[-1].last_trade_id)
        ]
    assert len(list(path.parent.glob("*.damaged-*[0-9]"))) == 1, "it is on record from then on"
    assert unexplained(path, bars) == []


def test_a_newest_bar_that_is_on_record_as_missing_is_not_looked_for(path: Path) -> None:
    newest = made(path)["BTCUSDT"][-1].open_time_ms
    forget(path, f"UPDATE bars SET value = '12x4' WHERE open_time = {newest}")  # noqa: S608
    with journal_at(path) as journal:
        journal.lose_unreadable([("BTCUSDT", newest)])
        states = ledgers_of(journal)

    with journal_at(path) as journal:
        assert ledgers_of(journal) == states
    assert list(path.parent.glob("*.damaged-*")) == []


def test_newest_bars_that_were_lost_with_an_earlier_file_are_not_looked_for(path: Path) -> None:
    bars = made(path)["BTCUSDT"]
    with journal_at(path) as journal:
        remove(path)
        journal.write(WriteBatch(amendments=by_key(bars[:1])), NOW)
        states = ledgers_of(journal)

    with journal_at(path) as journal:
        assert ledgers_of(journal) == states
    assert list(path.parent.glob("*.damaged-*")) == []


def test_newest_bars_that_were_pruned_are_not_looked_for(path: Path) -> None:
    bars = made(path)["BTCUSDT"]
    late = OPEN_TIME_MS + COUNT * INTERVAL_MS + 60_000
    cursor = Cursor(path, "store")
    taken, sequence = cursor.next_bars(10**6)
    cursor.move(sequence, taken, [(bars[0], "ugly")])
    with journal_at(path) as journal:
        state = LedgerState(3 * COUNT + 4, late, ())
        still_open = sample_bar(
            open_time_ms=late,
            first_trade_id=3 * COUNT + 1,
            last_trade_id=3 * COUNT + 3,
            is_closed=False,
        )
        saved = with_proof(Checkpoint(state, (still_open,), bars[-1].open_time_ms))
        journal.write(WriteBatch(checkpoints={"BTCUSDT": saved}), 10**15)
        while journal.prune(["store"], 10**14) or journal.has_more_to_prune:
            pass
    assert [bar.open_time_ms for bar in stored(path)] == [OPEN_TIME_MS, late]
    with journal_at(path) as journal:
        assert ledgers_of(journal)["BTCUSDT"] == state
    assert list(path.parent.glob("*.damaged-*")) == []


def test_to_find_that_no_checkpoint_is_an_older_one_costs_a_few_steps_a_symbol(
    path: Path,
) -> None:
    symbols = [f"S{place}USDT" for place in range(20)]
    made(path, symbols, count=1_000)
    steps = []
    with journal_at(path) as journal, closing(sqlite3.connect(path)) as connection:
        connection.set_progress_handler(lambda: steps.append(1), 1)
        for symbol in symbols:
            assert not is_outdated(connection, symbol, journal.checkpoints[symbol])

    assert len(steps) < 300 * len(symbols)


@pytest.mark.parametrize(
    "loss",
    ["DELETE FROM checkpoints", "UPDATE checkpoints SET next_id = 7"],
)
def test_ids_beyond_where_a_symbol_goes_on_again_are_not_kept_as_absent_or_missing(
    path: Path, loss: str
) -> None:
    first, second, third = sample_bars(3)  # of the ids 1 to 3, 4 to 6, 7 to 9
    still_open = replace(third, first_trade_id=13, last_trade_id=15, is_closed=False)
    absent = Gap(7, 9, second.open_time_ms, third.end_time_ms, GapCause.SKIPPED, absent_at=NOW)
    gap = replace(absent, first_id=10, last_id=12, absent_at=None)
    state = LedgerState(16, third.last_trade_time_ms, (gap,), (absent,))
    with journal_at(path) as journal:
        journal.write(
            WriteBatch(
                finished=by_key([first, second]),
                checkpoints={
                    "BTCUSDT": with_proof(Checkpoint(state, (still_open,), second.open_time_ms))
                },
            ),
            NOW,
        )
    forget(path, loss)
    spare_file(path).unlink()

    with journal_at(path) as journal:
        known = ledgers_of(journal)["BTCUSDT"]
        assert (known.next_id, known.gaps, known.absent) == (7, (), ())
        journal.write(WriteBatch(checkpoints={"BTCUSDT": with_proof(Checkpoint(state))}), NOW)

    with journal_at(path) as journal:
        assert ledgers_of(journal)["BTCUSDT"] == state, "found again, and written down once"


def test_trades_that_only_a_lost_checkpoint_had_are_missing_again(path: Path) -> None:
    first, second = sample_bars(2)  # of the ids 1 to 3 and 4 to 6
    unclosed = replace(second, first_trade_id=5, trade_count=2, is_closed=False)
    holey = replace(second, trade_count=2, is_closed=False)
    state = LedgerState(7, second.last_trade_time_ms, ())
    for stopped_with in (unclosed, holey):
        with journal_at(path) as journal:
            journal.write(
                WriteBatch(
                    finished=by_key([first, stopped_with]),
                    checkpoints={
                        "BTCUSDT": with_proof(Checkpoint(state, (second,), first.open_time_ms))
                    },
                ),
                NOW,
            )
        forget(path, "DELETE FROM checkpoints")
        spare_file(path).unlink()
        with journal_at(path) as journal:
            checkpoint = journal.checkpoints["BTCUSDT"]
        remove(path)
        spare_file(path).unlink()

        assert checkpoint.ledger.next_id == 7
        assert [bar.trade_count for bar in checkpoint.open_bars] == [2]
        (gap,) = checkpoint.ledger.gaps
        assert gap.touches(second.open_time_ms, INTERVAL_MS)
        assert not gap.touches(first.open_time_ms, INTERVAL_MS), "nothing of that one is missing"
        assert (gap.first_id, gap.last_id) == ((4, 4) if stopped_with is unclosed else (-1, -1))


def test_a_symbol_without_checkpoint_or_bar_goes_on_as_is_known_beside_the_journal(
    path: Path,
) -> None:
    still_open = replace(sample_bar(), is_closed=False)
    state = LedgerState(still_open.last_trade_id + 1, still_open.last_trade_time_ms, ())
    made(path, ["ETHUSDT"])
    with journal_at(path) as journal:
        journal.write(
            WriteBatch(checkpoints={"BTCUSDT": with_proof(Checkpoint(state, (still_open,)))}),
            NOW,
        )
    forget(path, "DELETE FROM checkpoints WHERE symbol = 'BTCUSDT'")

    with journal_at(path) as journal:
        known = ledgers_of(journal)["BTCUSDT"]

    assert known.next_id == still_open.first_trade_id
    assert known.last_time == still_open.open_time_ms


def test_so_it_is_when_all_checkpoints_are_gone(path: Path) -> None:
    bars = made(path)
    forget(path, "DELETE FROM checkpoints")
    spare_file(path).unlink()

    with journal_at(path) as journal:
        states = ledgers_of(journal)

    assert {symbol: state.next_id for symbol, state in states.items()} == dict.fromkeys(
        SYMBOLS, 3 * COUNT + 1
    )
    assert unexplained(path, bars) == []


def test_a_symbol_of_which_only_gaps_are_left_begins_with_a_gap_of_unknown_size(
    path: Path,
) -> None:
    """Were they left in the file beside a new beginning, no commit would go through again."""
    beginning = Gap.beginning(7, OPEN_TIME_MS, OPEN_TIME_MS + 900)
    state = LedgerState(8, OPEN_TIME_MS, (beginning,))
    had = WriteBatch(checkpoints={"BTCUSDT": with_proof(Checkpoint(state))})
    for others in (["ETHUSDT"], []):
        made(path, others)
        with journal_at(path) as journal:
            journal.write(had, NOW)
        forget(path, "DELETE FROM checkpoints WHERE symbol = 'BTCUSDT'")
        spare_file(path).unlink()

        with journal_at(path) as journal:
            (gap,) = ledgers_of(journal)["BTCUSDT"].gaps
            journal.write(had, NOW)
        with journal_at(path) as journal:
            assert ledgers_of(journal)["BTCUSDT"].gaps == (beginning,)
        remove(path)

        assert not gap.has_ids
        assert gap.cause == GapCause.LOST
