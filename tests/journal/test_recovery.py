"""A journal that is damaged or gone, at the start and while it runs: collecting goes on."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.errors import JournalError
from bintrades.journal.cursor import Cursor
from bintrades.journal.lock import identity
from bintrades.model import GapCause
from bintrades.testing.bars import sample_bar, sample_bars
from tests.journals import (
    INTERVAL_MS,
    NOW,
    aside,
    by_key,
    checkpoints,
    damage,
    files_aside,
    finished,
    full_disk,
    gap_within,
    journal_at,
    ledger,
    ledger_through,
    ledgers_of,
    stored,
    with_proof,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("content", [b"\x00" * 5_000, b"no database at all" * 300, b"x", b""])
def test_a_file_of_garbage_is_set_aside_with_its_companions_and_a_new_one_begun(
    path: Path, content: bytes
) -> None:
    path.write_bytes(content)
    wal = path.with_name(path.name + "-wal")
    wal.write_bytes(b"its log")

    with journal_at(path) as journal:
        journal.write(finished(sample_bar()), NOW)

    assert [file.read_bytes() for file in aside(path)] == [content, b"its log"]
    assert len(stored(path)) == 1


def test_a_journal_cut_short_is_set_aside_and_a_new_one_begun_with_what_it_still_holds(
    path: Path,
) -> None:
    bars = sample_bars(2_000)
    with journal_at(path) as journal:
        journal.write(finished(*bars, BTCUSDT=ledger_through(bars)), NOW)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 9 // 10])
    file = identity(path)

    with journal_at(path) as journal:
        for index in range(3):
            journal.write(finished(*sample_bars(1_000, symbol=f"S{index}")), NOW)
        journal.save_readable("it is too short", file)
        gaps = ledgers_of(journal)["BTCUSDT"].gaps

    assert len(files_aside(path)) == 1
    kept = stored(path)
    assert 100 < len(kept) < 2_000
    assert sum(gap.size for gap in gaps) == 3 * (2_000 - len(kept))
    assert len(stored(path, "S2")) == 1_000


@pytest.mark.parametrize("use", ["write", "prune"])
def test_damage_that_shows_while_running_stops_nothing(path: Path, use: str) -> None:
    gap = gap_within(sample_bar(), first_id=20_001, last_id=20_002)
    old = sample_bars(2_000)
    with journal_at(path) as journal:
        state = replace(ledger_through(old), next_id=30_000, gaps=(gap,))
        saved = {"BTCUSDT": with_proof(Checkpoint(state, closed_through=old[-1].open_time_ms), old)}
        journal.write(WriteBatch(finished=by_key(old), checkpoints=saved), NOW)
        damage(path)
        if use == "prune":
            assert journal.prune([], NOW + 1) == 0
        bars = sample_bars(3, symbol="ETHUSDT")
        journal.write(finished(*bars), NOW + 5)

    (damaged,) = files_aside(path)
    assert damaged.stat().st_size > 100_000
    assert [bar.updated_at_ms for bar in stored(path, "ETHUSDT")] == [NOW + 5] * 3
    with journal_at(path) as journal:
        gaps = ledgers_of(journal)["BTCUSDT"].gaps
        assert gap in gaps, "what is missing is still known"
        assert GapCause.LOST in {gap.cause for gap in gaps}, "and so is what the bars held"


def spoil(path: Path, statement: str, *values: object) -> None:
    """Change what is in a row, as a bad disk may, so that SQLite finds nothing wrong with it."""
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(statement, values).rowcount == 1


@pytest.mark.parametrize("text", ["[}", "[[1]]", b"\xff\xfe"])
def test_a_checkpoint_that_cannot_be_read_is_made_again_of_the_bars(
    path: Path, text: str | bytes
) -> None:
    bars = sample_bars(3)
    open_bar = sample_bar(first_trade_id=10, last_trade_id=12, is_closed=False)
    state = replace(ledger_through(bars), next_id=13)
    with journal_at(path) as journal:
        journal.write(
            WriteBatch(finished=by_key(bars), checkpoints=checkpoints(open_bar, BTCUSDT=state)), NOW
        )
    spoil(path, "UPDATE checkpoints SET open_bars = CAST(? AS TEXT)", text)

    with journal_at(path) as journal:
        (checkpoint,) = journal.checkpoints.values()
        assert checkpoint.ledger.next_id == 10, "what the open bar held is asked for again"
        assert checkpoint.closed_through == bars[-1].open_time_ms
        journal.write(finished(sample_bar(symbol="ETHUSDT")), NOW)

    assert aside(path) == []
    assert len(stored(path)) == 3


@pytest.mark.parametrize(
    "statement", ["UPDATE gaps SET since = 'x'", "UPDATE checkpoints SET last_time = 'x'"]
)
def test_a_spoilt_number_of_one_row_sets_nothing_aside(path: Path, statement: str) -> None:
    bars = sample_bars(3)
    state = replace(ledger_through(bars), gaps=(gap_within(bars[1], 4, 4),))
    with journal_at(path) as journal:
        journal.write(finished(*bars, BTCUSDT=state), NOW)
    spoil(path, statement)

    with journal_at(path) as journal:
        assert ledgers_of(journal)["BTCUSDT"].next_id == 10

    assert aside(path) == []
    assert len(stored(path)) == 3


def test_a_bar_that_cannot_be_read_when_it_is_amended_is_missing_again_whole(path: Path) -> None:
    before, bar, after = sample_bars(3)
    state = ledger_through([after])
    late = replace(bar, first_trade_id=6, last_trade_id=6, trade_count=1)
    with journal_at(path) as journal:
        known = Checkpoint(state, closed_through=after.open_time_ms)
        saved = {"BTCUSDT": with_proof(known, [before, bar, after])}
        journal.write(WriteBatch(finished=by_key([before, bar, after]), checkpoints=saved), NOW)
        spoil(path, "UPDATE bars SET value = '12x4' WHERE open_time = ?", bar.open_time_ms)

        journal.write(WriteBatch(amendments=by_key([late]), checkpoints=saved), NOW + 1)

        (gap,) = ledgers_of(journal)["BTCUSDT"].gaps
        assert (gap.first_id, gap.last_id, gap.cause) == (4, 6, GapCause.LOST)
        assert gap.touches(bar.open_time_ms, INTERVAL_MS)
        assert not gap.touches(before.open_time_ms, INTERVAL_MS)
        assert not gap.touches(after.open_time_ms, INTERVAL_MS)
        assert journal.take_lost() == {"BTCUSDT": [gap]}
    assert aside(path) == []
    assert [each.open_time_ms for each in stored(path)] == [
        before.open_time_ms,
        after.open_time_ms,
    ]
    assert all(each.is_complete for each in stored(path))


def test_a_journal_that_was_removed_is_begun_anew_with_what_is_known(path: Path) -> None:
    with journal_at(path) as journal:
        journal.write(finished(sample_bar(), BTCUSDT=ledger()), NOW)
        for file in path.parent.glob(f"{path.name}*"):
            if file.suffix != ".lock":
                file.unlink()

        bar = sample_bar(open_time_ms=NOW, first_trade_id=997, last_trade_id=999)
        journal.write(finished(bar), NOW)

    assert [bar.open_time_ms for bar in stored(path)] == [NOW]
    with journal_at(path) as journal:
        assert ledgers_of(journal) == {"BTCUSDT": ledger()}


def test_a_store_that_held_bars_of_the_damaged_file_misses_none_of_the_new_one(
    path: Path,
) -> None:
    cursor = Cursor(path, "store")
    with journal_at(path) as journal:
        journal.write(finished(*sample_bars(2_000)), NOW)
        bars, sequence = cursor.next_bars(1_000)
        damage(path)
        journal.write(finished(sample_bar(symbol="ETHUSDT")), NOW)
        cursor.move(sequence, bars)

    ((bar,), _) = cursor.next_bars(10)
    assert bar.symbol == "ETHUSDT"


def test_a_disk_that_is_full_when_the_new_file_is_begun_is_tried_again(path: Path) -> None:
    with journal_at(path) as journal:
        journal.write(finished(*sample_bars(2_000), BTCUSDT=ledger()), NOW)
        damage(path)
        changes = finished(*sample_bars(3))
        with full_disk(path):
            for _ in range(2):
                with pytest.raises(JournalError):
                    journal.write(changes, NOW)
        journal.write(changes, NOW)

    assert len(files_aside(path)) == 1
    assert len(stored(path)) >= 3
    with journal_at(path) as journal:
        assert ledgers_of(journal) == {"BTCUSDT": ledger()}
