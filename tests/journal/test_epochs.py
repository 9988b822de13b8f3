"""Which of two versions of a bar the journal keeps: the epoch comes first."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import WriteBatch
from bintrades.journal.cursor import Cursor
from bintrades.journal.lock import identity
from bintrades.model import Gap, GapCause
from bintrades.testing.bars import OPEN_TIME_MS, sample_bar, sample_bars
from tests.journals import (
    by_key,
    checkpoints,
    finished,
    journal_at,
    pages_of,
    spoil_pages,
    stored,
)

if TYPE_CHECKING:
    from pathlib import Path

    from bintrades.journal.writer import Journal

NOW = OPEN_TIME_MS + 60_000
REBUILT = sample_bar(trade_count=2, epoch=1)


def test_a_rebuilt_bar_takes_the_place_of_one_with_more_trades(
    journal: Journal, path: Path
) -> None:
    journal.write(finished(sample_bar()), NOW)

    journal.write(finished(REBUILT), NOW + 1)

    (kept,) = stored(path)
    assert (kept.epoch, kept.trade_count, kept.version) == (1, 2, 2)
    assert Cursor(path, "store").next_bars(10)[0] == [kept]


@pytest.mark.parametrize(
    "lesser",
    [sample_bar(), sample_bar(trade_count=9), sample_bar(trade_count=9, is_closed=False)],
    ids=["an earlier one", "one with more trades", "one of an orderly stop"],
)
def test_nothing_of_an_earlier_epoch_takes_the_place_of_a_rebuilt_bar(
    journal: Journal, path: Path, lesser: object
) -> None:
    journal.write(finished(REBUILT), NOW)
    (before,) = stored(path)

    journal.write(finished(lesser), NOW + 1)  # type: ignore[arg-type]

    assert stored(path) == [before]


def test_a_late_trade_changes_no_bar_that_was_rebuilt(
    journal: Journal, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal.write(finished(REBUILT), NOW)
    (before,) = stored(path)

    journal.write(WriteBatch(amendments=by_key([sample_bar(trade_count=1)])), NOW + 1)

    assert stored(path) == [before]
    (record,) = caplog.records
    assert vars(record)["event"] == "bar_refused"
    assert vars(record)["stored_epoch"] == 1


def test_a_smaller_finished_bar_is_refused_with_a_word(
    journal: Journal, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal.write(finished(*sample_bars(3)), NOW)
    smaller, *others = sample_bars(5)

    journal.write(finished(replace(smaller, trade_count=1), *others), NOW + 1)

    assert [bar.trade_count for bar in stored(path)] == [3, 3, 3, 3, 3]
    (record,) = caplog.records
    assert vars(record)["event"] == "bar_refused"
    assert vars(record)["open_time"] == smaller.open_time_ms
    assert (vars(record)["trade_count"], vars(record)["stored_trade_count"]) == (1, 3)


def test_a_bar_that_goes_on_after_a_restart_does_not_replace_a_rebuilt_one(
    journal: Journal, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal.write(finished(replace(REBUILT, is_closed=False)), NOW)
    half = sample_bar(trade_count=9, is_closed=False)
    gap = Gap(7, 9, half.open_time_ms, half.open_time_ms + 1, GapCause.SKIPPED)
    state = LedgerState(1_000, NOW, (gap,))

    journal.write(WriteBatch(checkpoints=checkpoints(half, BTCUSDT=state)), NOW + 1)
    journal.write(finished(half), NOW + 2)

    assert [(bar.epoch, bar.trade_count, bar.is_complete) for bar in stored(path)] == [
        (1, 2, False)
    ]
    assert not caplog.records


def test_the_bars_of_a_checkpoint_written_before_there_were_epochs_have_the_first(
    path: Path,
) -> None:
    half = sample_bar(is_closed=False)
    with journal_at(path) as journal:
        journal.write(WriteBatch(checkpoints=checkpoints(half)), NOW)
    with closing(sqlite3.connect(path)) as connection, connection:
        (text,) = connection.execute("SELECT open_bars FROM checkpoints").fetchone()
        later = ",0]]"  # the epoch
        assert text.endswith(later)
        text = f"{text.removesuffix(later)}]]"
        connection.execute("UPDATE checkpoints SET open_bars = ?", (text,))

    with journal_at(path) as journal:
        assert journal.checkpoints["BTCUSDT"].open_bars == (half,)


def test_a_salvage_keeps_the_epochs_of_bars(path: Path) -> None:
    bars = [replace(bar, epoch=index % 3) for index, bar in enumerate(sample_bars(600))]
    state = LedgerState(bars[-1].last_trade_id + 1, bars[-1].last_trade_time_ms, ())
    with journal_at(path) as journal:
        journal.write(finished(*bars, BTCUSDT=state), NOW)
        spoil_pages(path, pages_of(path, "bars")[5:6])
        journal.save_readable("a reader says so", identity(path))
        kept = {bar.open_time_ms: bar.epoch for bar in stored(path)}

    assert 0 < len(kept) < len(bars)
    assert kept == {b.open_time_ms: b.epoch for b in bars if b.open_time_ms in kept}
