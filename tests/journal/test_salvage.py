"""What is saved of a damaged journal; all else is missing again."""

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

from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.errors import JournalDamaged, JournalError
from bintrades.journal import recovery
from bintrades.journal.cursor import Cursor
from bintrades.journal.lock import identity
from bintrades.journal.lost import lost_gaps
from bintrades.journal.reader import JournalReader
from bintrades.journal.salvage import salvage_file
from bintrades.journal.spare import spare_file
from bintrades.model import Gap, GapCause
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
    with_proof,
)

if TYPE_CHECKING:
    from bintrades.core.write_batch import Key
    from bintrades.journal.writer import Journal

from tests.damaged_journals import COUNT, NOW, SYMBOLS, Found, forget, made, remove, unexplained


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
def test_whatever_pages_are_corrupt_each_bar_is_there_or_on_record_as_missing(
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


def test_newest_bars_that_are_lost_together_with_all_gaps_are_missing_once(path: Path) -> None:
    bars = made(path)
    spoil_pages(path, {pages_of(path, "bars")[-1], *pages_of(path, "gaps")})

    with journal_at(path) as journal:
        gaps = ledgers_of(journal)["BTCUSDT"].gaps

    assert bars["BTCUSDT"][-1].last_trade_id in {gap.last_id for gap in gaps}
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


def test_a_row_that_is_invalid_is_missing_again_after_a_salvage(path: Path) -> None:
    made(path)
    corrupt = OPEN_TIME_MS + 7 * INTERVAL_MS
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "UPDATE bars SET value = '1.2.3' WHERE symbol = 'BTCUSDT' AND open_time = ?", (corrupt,)
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
                checkpoints={
                    "BTCUSDT": with_proof(Checkpoint(state, (), after.open_time_ms), [after])
                },
            ),
            NOW,
        )

        journal.save_readable("a reader says so", identity(path))

        assert ledgers_of(journal)["BTCUSDT"] == state


def test_all_but_the_bars_of_a_corrupt_page_stays_as_it_was(path: Path) -> None:
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
    assert {gap.cause for gaps in lost.values() for gap in gaps} == {GapCause.LOST}
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
        (1, 3, GapCause.START),
        (22, 24, GapCause.LOST),
        (25, 27, GapCause.LOST),
        (3 * COUNT - 2, 3 * COUNT, GapCause.LOST),
    ]
    for gap, (_, open_time) in zip(lost, unreadable, strict=True):
        assert (gap.since_ms, gap.until_ms) == (open_time, open_time + INTERVAL_MS - 1)
        assert gap.last_error is not None
    assert [bar.trade_count for bar in stored(path)][:2] == [3, 3]
    assert JournalReader(path).store("shelf").rejected_bars == 0


def test_a_row_of_unknown_owner_is_damage(path: Path) -> None:
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
    corrupt = bars[place].open_time_ms
    with journal_at(path) as journal:
        saved = with_proof(Checkpoint(state, (still_open,), bars[-2].open_time_ms))
        stopped_with = by_key([*bars[:-1], still_open])
        journal.write(WriteBatch(finished=stopped_with, checkpoints={"BTCUSDT": saved}), NOW)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE bars SET value = '12x4' WHERE open_time = ?", (corrupt,))

        journal.lose_unreadable([("BTCUSDT", corrupt)])

        gaps = journal.take_lost().get("BTCUSDT", [])
    if place == 3:
        assert gaps == [], "its checkpoint has it"
        return
    (unknown,) = (gap for gap in gaps if gap.first_id < 0)
    assert (unknown.since_ms, unknown.until_ms) == (corrupt, corrupt + INTERVAL_MS - 1)
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
    lost = [(second.open_time_ms, "corrupt")]
    with journal_at(path) as journal, closing(sqlite3.connect(path)) as connection:
        saved = with_proof(Checkpoint(state, (), third.open_time_ms), [third])
        changes = WriteBatch(finished=by_key([first, third]), checkpoints={"BTCUSDT": saved})
        journal.write(changes, NOW)

        (gap,) = lost_gaps(connection, "BTCUSDT", lost, saved, INTERVAL_MS)

    assert (gap.first_id, gap.last_id) == (4, 6)


@pytest.mark.parametrize("column", ["first_trade_id", "last_trade_id", "trade_count"])
def test_rows_side_by_side_whose_ids_are_invalid_are_missing_again_together(
    path: Path, column: str
) -> None:
    bars = made(path)["BTCUSDT"]
    corrupt = [("BTCUSDT", bar.open_time_ms) for bar in bars[6:9]]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            f"UPDATE bars SET {column} = 'x' WHERE symbol = ? AND open_time = ?",  # noqa: S608
            corrupt,
        )

    with journal_at(path) as journal:
        journal.lose_unreadable(corrupt[1:2])

        (gap,) = journal.take_lost()["BTCUSDT"]
    assert (gap.first_id, gap.last_id) == (bars[6].first_trade_id, bars[8].last_trade_id)
    assert (gap.since_ms, gap.until_ms) == (bars[6].open_time_ms, bars[8].end_time_ms - 1)
    assert len(stored(path)) == COUNT - 3


@pytest.mark.parametrize("column", ["first_trade_id", "last_trade_id", "trade_count"])
def test_a_symbol_whose_checkpoint_is_gone_and_newest_row_invalid_is_salvaged(
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
        later = (
            *("lost_bars", "written", "pruned", "undelivered", "proofs"),
            *("verified", "differences", "rebuilt", "surplus", "excluded"),
        )
        connection.execute("DROP TRIGGER cursor_begun")
        connection.execute("DROP INDEX past_gaps_late")
        for table in later:
            connection.execute(f"DROP TABLE {table}")
        for column in ("epoch", "excluded_count", "is_approximate", "contract_size"):
            connection.execute(f"ALTER TABLE bars DROP COLUMN {column}")
    with journal_at(path) as journal:
        assert setting(journal) == full, "after a migration"
        spoil_pages(path, pages_of(path, "bars")[5:6])
        journal.save_readable("damaged", identity(path))
        assert setting(journal) == full, "after a salvage"
        remove(path)
        journal.write(WriteBatch(), NOW)
        assert setting(journal) == full, "begun anew"


@pytest.mark.parametrize("corrupt", [b"rejectad_at", b"\xff\xfe\xfdected_at"])
def test_a_spoilt_schema_is_damage_and_no_fault_of_the_disk(path: Path, corrupt: bytes) -> None:
    bars = made(path)
    empty_log(path)
    content = path.read_bytes()
    assert content.count(b"rejected (store, rejected_at)") == 1
    path.write_bytes(
        content.replace(b"rejected (store, rejected_at)", b"rejected (store, %b)" % corrupt)
    )

    with journal_at(path) as journal:
        journal.write(WriteBatch(), NOW)

    assert unexplained(path, bars) == []


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
