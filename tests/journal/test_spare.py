"""A journal that is gone at the start: where the spare file says to go on."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.journal.spare import spare_file
from bintrades.journal.writer import Journal
from bintrades.model import Gap, GapCause
from bintrades.testing.bars import OPEN_TIME_MS, sample_bars
from tests.damaged_journals import NOW, made, remove
from tests.journals import (
    INTERVAL_MS,
    by_key,
    journal_at,
    ledgers_of,
    stored,
    with_proof,
)

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


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
    saved = {"BTCUSDT": with_proof(Checkpoint(state, (still_open,), bars[1].open_time_ms))}
    with journal_at(path) as journal:
        journal.write(WriteBatch(finished=by_key(bars[:2]), checkpoints=saved), NOW)
    remove(path)

    with journal_at(path) as journal:
        (checkpoint,) = journal.checkpoints.values()
        journal.write(WriteBatch(amendments=by_key(bars[1:2])), NOW)

    lost, known = checkpoint.ledger.gaps
    assert (lost.cause, lost.is_abandoned, known) == (GapCause.LOST, True, gap)
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
    state = LedgerState(13, bars[3].last_trade_time_ms, (gap,))
    saved = {"BTCUSDT": with_proof(Checkpoint(state, (), bars[3].open_time_ms), bars)}
    with journal_at(path) as journal:
        journal.write(WriteBatch(finished=by_key(bars), checkpoints=saved), NOW)
    remove(path)

    with journal_at(path) as journal:
        (checkpoint,) = journal.checkpoints.values()

    assert checkpoint.ledger.next_id == bars[1].first_trade_id, "its bar is whole again"
    assert checkpoint.ledger.last_time == bars[1].open_time_ms
    assert [gap.cause for gap in checkpoint.ledger.gaps] == [GapCause.LOST]
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
                assert (gap.cause, gap.is_abandoned, state.next_id) == (GapCause.LOST, True, None)
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

    with closing(
        Journal(path, exchange="binance", market="spot", stream="trade", interval_ms=60_000)
    ) as journal:
        assert journal.checkpoints == {}
