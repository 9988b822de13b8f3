"""What a damaged journal leads to: what can be read is kept, and nothing is lost in silence."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bintrades.core.ledger import Ledger, LedgerState
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.errors import JournalDamaged, JournalError
from bintrades.journal import recovery
from bintrades.journal.bars import neighbours
from bintrades.journal.cursor import Cursor
from bintrades.journal.lock import identity
from bintrades.journal.lost import is_outdated, lost_gaps
from bintrades.journal.reader import JournalReader
from bintrades.journal.salvage import salvage_file
from bintrades.journal.schema import BLOCK_MS
from bintrades.journal.spare import spare_file
from bintrades.journal.writer import Journal
from bintrades.model import LOST, START, Gap, GapCause
from bintrades.testing.bars import OPEN_TIME_MS, sample_bar, sample_bars
from tests.journals import (
    INTERVAL_MS,
    PAGE,
    by_key,
    empty_log,
    journal_at,
    ledgers_of,
    pages_of,
    spoil_pages,
    spoil_unnoticed,
    stored,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bintrades.core.write_batch import Key
    from bintrades.model import Bar

NOW = OPEN_TIME_MS + 10**8
SYMBOLS = ("BTCUSDT", "ETHUSDT", "币安人生USDT")
COUNT = 300


def made(path: Path, symbols: Iterable[str] = SYMBOLS, count: int = COUNT) -> dict[str, list[Bar]]:
    """Write a journal of bars that join, all of them closed, and return them."""
    bars = {symbol: sample_bars(count, symbol=symbol) for symbol in symbols}
    first = Gap(
        0, 0, OPEN_TIME_MS - 100, OPEN_TIME_MS - 50, GapCause.SKIPPED, last_error="no answer"
    )
    with journal_at(path) as journal:
        for start in range(0, count, 50):
            batch = [bar for each in bars.values() for bar in each[start : start + 50]]
            journal.write(
                WriteBatch(
                    finished=by_key(batch),
                    checkpoints={
                        symbol: Checkpoint(
                            LedgerState(
                                each[start : start + 50][-1].last_trade_id + 1,
                                each[start : start + 50][-1].last_trade_time_ms,
                                (first,),
                            ),
                            closed_through=each[start : start + 50][-1].open_time_ms,
                        )
                        for symbol, each in bars.items()
                    },
                ),
                NOW,
            )
    return bars


def unexplained(path: Path, bars: dict[str, list[Bar]]) -> list[str]:
    """Return which bars are neither there, whole, nor on record as missing, nor still to come."""
    with journal_at(path) as journal:
        next_ids = {
            symbol: 2**62 if state.next_id is None else state.next_id
            for symbol, state in ledgers_of(journal).items()
        }
    gaps = JournalReader(path).gaps()
    wrong = [f"{name}: its gap" for name in bars if not gaps.get(name) and next_ids.get(name)]
    for symbol, expected in bars.items():
        found = {bar.open_time_ms: bar for bar in stored(path, symbol)}
        for bar in expected:
            kept = found.get(bar.open_time_ms)
            if kept is not None and kept.trade_count == bar.trade_count and kept.is_complete:
                continue
            on_record = any(
                (gap.first_id < 0 or gap.first_id <= bar.first_trade_id <= gap.last_id)
                and gap.touches(bar.open_time_ms, INTERVAL_MS)
                for gap in gaps.get(symbol, ())
            )
            is_to_come = bar.first_trade_id >= next_ids.get(symbol, 2**62)
            if not (on_record or is_to_come):
                wrong.append(f"{symbol} {bar.first_trade_id}: {kept}")
    return wrong


def counted_twice(path: Path) -> list[str]:
    """Return bars that are there although their ids are asked for again."""
    return [
        f"{bar}, {gap}"
        for symbol, gaps in JournalReader(path).gaps().items()
        for gap in gaps
        for bar in stored(path, symbol)
        if gap.first_id >= 0
        and gap.first_id <= bar.last_trade_id
        and gap.last_id >= bar.first_trade_id
    ]


@pytest.mark.parametrize("is_running", [False, True])
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), count=st.integers(1, 12))
def test_whatever_pages_are_spoilt_each_bar_is_there_or_on_record_as_missing(
    is_running: bool, seed: int, count: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        bars = made(path)
        empty_log(path)
        last = path.stat().st_size // PAGE
        pages = random.Random(seed).sample(range(1, last + 1), count)
        if is_running:
            with journal_at(path) as journal:
                spoil_pages(path, pages)
                with contextlib.suppress(JournalError):
                    journal.save_readable("a reader says so", identity(path))
                journal.write(WriteBatch(), NOW)
                assert journal.take_lost().keys() <= set(SYMBOLS)
        else:
            spoil_pages(path, pages)
            with journal_at(path) as journal:
                journal.flush_removed_symbols(SYMBOLS, NOW)
                journal.save_readable("a reader says so", identity(path))

        assert unexplained(path, bars) == []
        assert counted_twice(path) == []


@pytest.mark.parametrize("kind", ["cut", "misplaced page", "empty sector"])
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32))
def test_what_sqlite_does_not_notice_of_the_damage_is_on_record_as_missing_too(
    kind: str, seed: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        bars = made(path)
        spoil_unnoticed(path, kind, seed)
        with journal_at(path) as journal:
            with contextlib.suppress(JournalError):
                journal.save_readable("a reader says so", identity(path))
            journal.write(WriteBatch(), NOW)

        assert unexplained(path, bars) == []
        assert counted_twice(path) == []


def test_a_row_of_nonsense_is_missing_again_after_a_salvage(path: Path) -> None:
    made(path)
    spoilt = OPEN_TIME_MS + 7 * INTERVAL_MS
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "UPDATE bars SET value = '1.2.3' WHERE symbol = 'BTCUSDT' AND open_time = ?", (spoilt,)
        )

    with journal_at(path) as journal:
        journal.save_readable("a reader says so", identity(path))

        (_, gap) = ledgers_of(journal)["BTCUSDT"].gaps
    assert (gap.first_id, gap.last_id, gap.last_error) == (22, 24, "its values cannot be")
    assert len(stored(path)) == COUNT - 1


@pytest.mark.parametrize("gone", [range(3), range(7, 9), range(COUNT - 2, COUNT), range(COUNT)])
def test_rows_that_are_gone_without_any_error_are_missing_again_after_a_salvage(
    path: Path, gone: range
) -> None:
    bars = made(path)["BTCUSDT"]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TRIGGER bar_removed")  # nobody has counted them off
        for index in gone:
            connection.execute(
                "DELETE FROM bars WHERE symbol = 'BTCUSDT' AND open_time = ?",
                (bars[index].open_time_ms,),
            )

    with journal_at(path) as journal:
        journal.save_readable("a reader says so", identity(path))

        (_, gap) = ledgers_of(journal)["BTCUSDT"].gaps
    assert gap.first_id <= bars[gone[0]].first_trade_id
    assert gap.last_id == bars[gone[-1]].last_trade_id
    assert all(gap.touches(bars[index].open_time_ms, INTERVAL_MS) for index in gone)


def test_a_salvage_asks_for_nothing_where_ids_are_known_not_to_exist(path: Path) -> None:
    before, _, after = sample_bars(3)
    absent = Gap(4, 6, before.open_time_ms, after.end_time_ms, GapCause.SKIPPED, absent_at=NOW)
    state = LedgerState(after.last_trade_id + 1, after.last_trade_time_ms, (), (absent,))
    with journal_at(path) as journal:
        journal.write(
            WriteBatch(
                finished=by_key([before, after]),
                checkpoints={"BTCUSDT": Checkpoint(state, (), after.open_time_ms)},
            ),
            NOW,
        )

        journal.save_readable("a reader says so", identity(path))

        assert ledgers_of(journal)["BTCUSDT"] == state


def test_all_but_the_bars_of_a_spoilt_page_stays_as_it_was(path: Path) -> None:
    bars = made(path)
    cursor = Cursor(path, "shelf")
    taken, sequence = cursor.next_bars(100)
    cursor.move(sequence, taken, [(taken[3], "ugly")])
    before = {symbol: stored(path, symbol) for symbol in SYMBOLS}
    state, waiting = JournalReader(path).store("shelf"), cursor.next_bars(2_000)[1]
    root, *others = pages_of(path, "bars")
    damaged = Found()

    with journal_at(path) as journal:
        journal.set_symbol_list("them all")
        spoil_pages(path, [others[7]])
        with pytest.raises(JournalDamaged):
            Cursor(path, "shelf", damaged).next_bars(2_000)
        journal.save_readable(*damaged.last)
        assert journal.get_symbol_list() == "them all"
        lost = journal.take_lost()

    assert 1 <= sum(gap.size for gaps in lost.values() for gap in gaps) <= 3 * 40
    assert {gap.cause for gaps in lost.values() for gap in gaps} == {LOST}
    for symbol in SYMBOLS:
        kept = stored(path, symbol)
        gone = [bar for bar in before[symbol] if bar not in kept]
        assert kept == [bar for bar in before[symbol] if bar not in gone], "no new version"
        assert sum(gap.size for gap in lost.get(symbol, ())) == 3 * len(gone)
    assert root
    after = JournalReader(path).store("shelf")
    assert (after.rejected_bars, after.last_reason) == (1, "ugly")
    assert 0 <= state.waiting_bars - after.waiting_bars <= 40
    assert cursor.next_bars(2_000)[1] == waiting, "the sequence is the same"
    assert unexplained(path, bars) == []


def test_a_row_that_only_a_store_finds_unreadable_is_missing_again(path: Path) -> None:
    bars = made(path)["BTCUSDT"]
    told: list[Key] = []
    cursor = Cursor(path, "shelf", None, told.extend)
    unreadable = [(bar.symbol, bar.open_time_ms) for bar in (bars[0], bars[7], bars[8], bars[-1])]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "UPDATE bars SET value = '12x4' WHERE symbol = ? AND open_time = ?", unreadable
        )

    with journal_at(path) as journal:
        assert len(cursor.next_bars(2_000)[0]) == len(SYMBOLS) * COUNT - len(unreadable)
        assert sorted(told) == unreadable, "at once, whether the store takes the others or not"
        for _ in range(2):
            journal.lose_unreadable(told)
        lost = journal.take_lost()["BTCUSDT"]
        journal.write(WriteBatch(amendments=by_key([bars[0]])), NOW)
        journal.lose_unreadable(told[:1])
        assert journal.take_lost() == {}, "a bar that is well by now"

    assert [(gap.first_id, gap.last_id, gap.cause) for gap in lost] == [
        (1, 3, START),
        (22, 24, LOST),
        (25, 27, LOST),
        (3 * COUNT - 2, 3 * COUNT, LOST),
    ]
    for gap, (_, open_time) in zip(lost, unreadable, strict=True):
        assert (gap.since_ms, gap.until_ms) == (open_time, open_time + INTERVAL_MS - 1)
        assert gap.last_error is not None
    assert [bar.trade_count for bar in stored(path)][:2] == [3, 3]
    assert JournalReader(path).store("shelf").rejected_bars == 0


def test_a_row_of_which_nobody_can_tell_whose_it_was_is_damage(path: Path) -> None:
    bars = made(path)
    damaged = Found()
    cursor = Cursor(path, "shelf", damaged)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "UPDATE bars SET symbol = x'ff', value = '12x4' WHERE symbol = 'BTCUSDT'"
            " AND open_time = ?",
            (OPEN_TIME_MS + 7 * INTERVAL_MS,),
        )

    with journal_at(path) as journal:
        with pytest.raises(JournalDamaged):
            cursor.next_bars(2_000)
        journal.save_readable(*damaged.last)
        (gap,) = journal.take_lost()["BTCUSDT"]

        assert len(cursor.next_bars(2_000)[0]) == len(SYMBOLS) * COUNT - 1
    assert (gap.first_id, gap.last_id) == (22, 24)
    assert unexplained(path, bars) == []


@pytest.mark.parametrize("place", range(4))
def test_trades_whose_ids_lie_among_those_of_the_bar_beside_a_lost_one_are_on_record(
    path: Path, place: int
) -> None:
    # `T` fell back across an edge: 3 came after 2, and 8 after 7.
    ids = [{0, 1, 3}, {2, 4}, {5, 6, 8}, {7, 9}]
    bars = [
        sample_bar(
            open_time_ms=OPEN_TIME_MS + at * INTERVAL_MS,
            first_trade_id=min(each),
            last_trade_id=max(each),
            trade_count=len(each),
            buy_count=0,
        )
        for at, each in enumerate(ids)
    ]
    still_open = replace(bars[-1], is_closed=False)
    state = LedgerState(10, still_open.last_trade_time_ms, ())
    spoilt = bars[place].open_time_ms
    with journal_at(path) as journal:
        journal.write(
            WriteBatch(
                finished=by_key([*bars[:-1], still_open]),
                checkpoints={"BTCUSDT": Checkpoint(state, (still_open,), bars[-2].open_time_ms)},
            ),
            NOW,
        )
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE bars SET value = '12x4' WHERE open_time = ?", (spoilt,))

        journal.lose_unreadable([("BTCUSDT", spoilt)])

        gaps = journal.take_lost().get("BTCUSDT", [])
    if place == 3:
        assert gaps == [], "its checkpoint has it"
        return
    (unknown,) = (gap for gap in gaps if gap.first_id < 0)
    assert (unknown.since_ms, unknown.until_ms) == (spoilt, spoilt + INTERVAL_MS - 1)
    told = {each for gap in gaps for each in range(gap.first_id, gap.last_id + 1) if each >= 0}
    others = set().union(*(each for at, each in enumerate(ids) if at != place))
    assert told.isdisjoint(others), "none of them is counted twice"


def test_a_lost_bar_beside_one_whose_missing_ids_are_known_leads_to_no_other_gap(
    path: Path,
) -> None:
    first, second, third = sample_bars(3)  # of the ids 1 to 3, 4 to 6, 7 to 9
    first, third = (replace(bar, trade_count=2) for bar in (first, third))
    missing = Gap(2, 2, first.open_time_ms, first.end_time_ms, GapCause.SKIPPED)
    absent = Gap(8, 8, third.open_time_ms, third.end_time_ms, GapCause.SKIPPED, absent_at=NOW)
    state = LedgerState(10, third.last_trade_time_ms, (missing,), (absent,))
    lost = [(second.open_time_ms, "spoilt")]
    with journal_at(path) as journal, closing(sqlite3.connect(path)) as connection:
        saved = Checkpoint(state, (), third.open_time_ms)
        changes = WriteBatch(finished=by_key([first, third]), checkpoints={"BTCUSDT": saved})
        journal.write(changes, NOW)

        (gap,) = lost_gaps(connection, "BTCUSDT", lost, saved, INTERVAL_MS)

    assert (gap.first_id, gap.last_id) == (4, 6)


@pytest.mark.parametrize("column", ["first_trade_id", "last_trade_id", "trade_count"])
def test_rows_side_by_side_whose_ids_are_nonsense_are_missing_again_together(
    path: Path, column: str
) -> None:
    bars = made(path)["BTCUSDT"]
    spoilt = [("BTCUSDT", bar.open_time_ms) for bar in bars[6:9]]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            f"UPDATE bars SET {column} = 'x' WHERE symbol = ? AND open_time = ?",  # noqa: S608
            spoilt,
        )

    with journal_at(path) as journal:
        journal.lose_unreadable(spoilt[1:2])

        (gap,) = journal.take_lost()["BTCUSDT"]
    assert (gap.first_id, gap.last_id) == (bars[6].first_trade_id, bars[8].last_trade_id)
    assert (gap.since_ms, gap.until_ms) == (bars[6].open_time_ms, bars[8].end_time_ms - 1)
    assert len(stored(path)) == COUNT - 3


@pytest.mark.parametrize("column", ["first_trade_id", "last_trade_id", "trade_count"])
def test_a_symbol_whose_checkpoint_is_gone_and_newest_row_nonsense_is_salvaged(
    path: Path, column: str
) -> None:
    bars = made(path)
    forget(path, "DELETE FROM checkpoints")
    spare_file(path).unlink()
    newest = bars["BTCUSDT"][-1].open_time_ms
    forget(path, f"UPDATE bars SET {column} = 'x' WHERE open_time = {newest}")  # noqa: S608

    with journal_at(path) as journal:
        assert ledgers_of(journal).keys() == set(SYMBOLS)

    assert unexplained(path, bars) == []


class Found:
    """What a reader that meets damage says."""

    def __call__(self, reason: str, file: tuple[int, int]) -> None:
        self.last = (reason, file)


def test_a_store_that_read_of_the_damaged_file_reports_nothing_of_the_new_one(path: Path) -> None:
    made(path)
    with journal_at(path) as journal:
        old = identity(path)
        spoil_pages(path, pages_of(path, "bars")[5:6])
        journal.save_readable("damaged", old)
        new = identity(path)
        journal.save_readable("damaged", old)
        assert identity(path) == new


def test_while_much_is_being_saved_the_journal_takes_nothing_and_then_all(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(path)
    changes = WriteBatch(finished=by_key([sample_bar(symbol="LTCUSDT")]))
    with journal_at(path) as journal:
        spoil_pages(path, pages_of(path, "bars")[5:6])
        monkeypatch.setattr(recovery, "_SALVAGE_WAIT_S", 0.0)
        with pytest.raises(JournalError, match=r"is damaged .* is being saved"):
            journal.save_readable("a reader says so", identity(path))
        monkeypatch.setattr(recovery, "_SALVAGE_WAIT_S", 60.0)

        journal.write(changes, NOW)

    assert len(stored(path, "LTCUSDT")) == 1
    assert len(stored(path)) > COUNT // 2


def test_a_salvage_that_was_cut_off_is_begun_again_and_a_finished_one_taken_over(
    path: Path,
) -> None:
    made(path)
    salvage_file(path).write_bytes(b"half of it")
    with journal_at(path) as journal:
        assert ledgers_of(journal).keys() == set(SYMBOLS)
    assert not salvage_file(path).exists()

    empty_log(path)
    path.rename(salvage_file(path))
    with closing(sqlite3.connect(salvage_file(path))) as connection, connection:
        connection.execute("INSERT INTO facts VALUES ('salvaged', 'all of it')")
    with journal_at(path) as journal:
        assert ledgers_of(journal).keys() == set(SYMBOLS)
    assert len(stored(path)) == COUNT


def remove(path: Path) -> None:
    """Remove a journal and what SQLite keeps beside it, as somebody may who wants room."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def test_a_journal_that_is_gone_at_the_start_goes_on_before_the_bars_that_were_open(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bars = sample_bars(3)
    still_open = replace(bars[2], is_closed=False)
    gap = Gap(
        2,
        2,
        bars[0].open_time_ms + 1,
        bars[0].open_time_ms + 2,
        GapCause.SKIPPED,
        is_abandoned=True,
    )
    later = Gap(8, 8, bars[2].open_time_ms + 1, bars[2].open_time_ms + 2, GapCause.SKIPPED)
    state = LedgerState(10, bars[2].last_trade_time_ms, (gap, later))
    saved = {"BTCUSDT": Checkpoint(state, (still_open,), bars[1].open_time_ms)}
    with journal_at(path) as journal:
        journal.write(WriteBatch(finished=by_key(bars[:2]), checkpoints=saved), NOW)
    remove(path)

    with journal_at(path) as journal:
        (checkpoint,) = journal.checkpoints.values()
        journal.write(WriteBatch(amendments=by_key(bars[1:2])), NOW)

    lost, known = checkpoint.ledger.gaps
    assert (lost.cause, lost.is_abandoned, known) == (LOST, True, gap)
    assert lost.touches(bars[1].open_time_ms, INTERVAL_MS)
    assert not lost.touches(bars[2].open_time_ms, INTERVAL_MS)
    assert checkpoint.ledger.next_id == still_open.first_trade_id
    assert checkpoint.ledger.last_time == still_open.open_time_ms
    assert checkpoint.open_bars == ()
    assert [bar.is_complete for bar in stored(path)] == [False], "the rest of it may be lost"
    assert "the journal is lost" in caplog.text
    assert f"{spare_file(path)} says" in caplog.text


def test_a_journal_that_is_gone_at_the_start_goes_on_before_what_was_missing(path: Path) -> None:
    bars = sample_bars(4)
    gap = Gap(5, 5, bars[1].open_time_ms + 1, bars[1].open_time_ms + 2, GapCause.SKIPPED)
    saved = {
        "BTCUSDT": Checkpoint(
            LedgerState(13, bars[3].last_trade_time_ms, (gap,)), (), bars[3].open_time_ms
        )
    }
    with journal_at(path) as journal:
        journal.write(WriteBatch(finished=by_key(bars), checkpoints=saved), NOW)
    remove(path)

    with journal_at(path) as journal:
        (checkpoint,) = journal.checkpoints.values()

    assert checkpoint.ledger.next_id == bars[1].first_trade_id, "its bar is whole again"
    assert checkpoint.ledger.last_time == bars[1].open_time_ms
    assert [gap.cause for gap in checkpoint.ledger.gaps] == [LOST]
    assert checkpoint.closed_through == bars[0].open_time_ms


def test_of_a_journal_that_is_gone_with_all_that_was_known_each_symbol_begins_with_a_gap(
    path: Path,
) -> None:
    made(path)
    remove(path)
    spare_file(path).write_bytes(b"\xa5" * 500)

    for _ in range(2):  # it stays on record, once
        with journal_at(path) as journal:
            journal.flush_removed_symbols(["BTCUSDT", "LTCUSDT"], NOW)
            states = ledgers_of(journal)

            assert states.keys() == {"BTCUSDT", "LTCUSDT"}
            for state in states.values():
                (gap,) = state.gaps
                assert (gap.cause, gap.is_abandoned, state.next_id) == (LOST, True, None)
                assert not gap.touches(OPEN_TIME_MS, INTERVAL_MS)


def test_a_first_start_and_one_without_either_file_begin_without_a_gap(path: Path) -> None:
    with journal_at(path) as journal:
        journal.flush_removed_symbols(["BTCUSDT"], NOW)
        assert journal.checkpoints == {}
    made(path)
    remove(path)
    spare_file(path).unlink()

    with journal_at(path) as journal:
        journal.flush_removed_symbols(["BTCUSDT"], NOW)
        assert journal.checkpoints == {}


def test_a_spare_of_another_interval_is_not_taken_for_one_of_this_journal(path: Path) -> None:
    made(path)
    remove(path)

    with closing(Journal(path, market="spot", interval_ms=60_000)) as journal:
        assert journal.checkpoints == {}


def test_a_damaged_journal_is_told_with_what_to_do(path: Path) -> None:
    made(path)
    spoil_pages(path, pages_of(path, "bars"))

    with pytest.raises(JournalError) as told:
        JournalReader(path).bars("BTCUSDT", 0, 2**62, 10)

    assert "is damaged (database disk image is malformed)" in str(told.value)
    assert "`bintrades run`" in str(told.value)


def test_a_commit_survives_a_loss_of_power_however_the_journal_was_opened(path: Path) -> None:
    def setting(journal: Journal) -> tuple[object, object]:
        return tuple(
            journal._file.connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("synchronous", "journal_mode")
        )

    full = (2, "wal")
    with journal_at(path) as journal:
        assert setting(journal) == full
    made(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")  # the next opening climbs
        for table in ("lost_bars", "written", "pruned"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("ALTER TABLE bars DROP COLUMN epoch")
    with journal_at(path) as journal:
        assert setting(journal) == full, "after a migration"
        spoil_pages(path, pages_of(path, "bars")[5:6])
        journal.save_readable("damaged", identity(path))
        assert setting(journal) == full, "after a salvage"
        remove(path)
        journal.write(WriteBatch(), NOW)
        assert setting(journal) == full, "begun anew"


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


@pytest.mark.parametrize("spoilt", [b"rejectad_at", b"\xff\xfe\xfdected_at"])
def test_a_spoilt_schema_is_damage_and_no_fault_of_the_disk(path: Path, spoilt: bytes) -> None:
    bars = made(path)
    empty_log(path)
    content = path.read_bytes()
    assert content.count(b"rejected (store, rejected_at)") == 1
    path.write_bytes(
        content.replace(b"rejected (store, rejected_at)", b"rejected (store, %b)" % spoilt)
    )

    with journal_at(path) as journal:
        journal.write(WriteBatch(), NOW)

    assert unexplained(path, bars) == []


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


def forget(path: Path, statement: str) -> None:
    """Have rows be gone of which nobody says a word, as where a page is an older one again."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


def test_a_symbol_whose_checkpoint_is_gone_goes_on_behind_its_newest_bar(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bars = made(path)["BTCUSDT"]
    absent = Gap(4, 6, OPEN_TIME_MS, bars[1].end_time_ms, GapCause.SKIPPED, absent_at=NOW)
    known = LedgerState(3 * COUNT + 1, bars[-1].last_trade_time_ms, (), (absent,))
    with journal_at(path) as journal:
        journal.write(WriteBatch(checkpoints={"BTCUSDT": Checkpoint(known)}), NOW)
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
        saved = Checkpoint(state, (still_open,), bars[-1].open_time_ms)
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
    gap = replace(absent, first_id=10, last_id=12, absent_at=0)
    state = LedgerState(16, third.last_trade_time_ms, (gap,), (absent,))
    with journal_at(path) as journal:
        journal.write(
            WriteBatch(
                finished=by_key([first, second]),
                checkpoints={"BTCUSDT": Checkpoint(state, (still_open,), second.open_time_ms)},
            ),
            NOW,
        )
    forget(path, loss)
    spare_file(path).unlink()

    with journal_at(path) as journal:
        known = ledgers_of(journal)["BTCUSDT"]
        assert (known.next_id, known.gaps, known.absent) == (7, (), ())
        journal.write(WriteBatch(checkpoints={"BTCUSDT": Checkpoint(state)}), NOW)

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
                    checkpoints={"BTCUSDT": Checkpoint(state, (second,), first.open_time_ms)},
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
            WriteBatch(checkpoints={"BTCUSDT": Checkpoint(state, (still_open,))}),
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


def test_what_only_resend_finds_damaged_is_salvaged_at_the_next_start_and_bars_stay(
    path: Path,
) -> None:
    bars = made(path)
    cursor = Cursor(path, "store")
    delivered, sequence = cursor.next_bars(10**6)
    cursor.move(sequence, delivered, [(bar, "ugly") for bar in delivered])
    spoil_pages(path, pages_of(path, "rejected"))
    with pytest.raises(JournalDamaged):
        JournalReader(path).resend("store")

    with journal_at(path):
        JournalReader(path).resend("store")

    assert list(path.parent.glob("*.damaged-*"))
    assert unexplained(path, bars) == []


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
