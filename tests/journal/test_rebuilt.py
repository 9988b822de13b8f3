"""Bars that were made again of the exchange's own trades, and how they come into the journal."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from bintrades.core.audit_result import BarsAudited
from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.journal.cursor import Cursor
from bintrades.journal.lock import identity
from bintrades.journal.meta import JournalScope
from bintrades.journal.reader import JournalReader
from bintrades.journal.repair import replace_bars
from bintrades.testing.bars import OPEN_TIME_MS, sample_bar, sample_bars
from tests.journals import (
    INTERVAL_MS,
    NOW,
    by_key,
    gap_within,
    journal_at,
    pages_of,
    spoil_pages,
    stored,
)

if TYPE_CHECKING:
    from pathlib import Path

    from bintrades.journal.writer import Journal
    from bintrades.model import Bar, Gap

SCOPE = JournalScope("spot", INTERVAL_MS, "binance", "trade")
STORED = sample_bar()
REBUILT = sample_bar(trade_count=2, epoch=1)
WAIT_S = 120.0


def known(*gaps: Gap, open_bars: tuple[Bar, ...] = (), through: int | None = NOW) -> WriteBatch:
    """Return what is known of a symbol all of whose trades up to NOW are proven."""
    state = LedgerState(STORED.last_trade_id + 1_000, NOW, gaps)
    checkpoint = Checkpoint(state, open_bars, through, proven_ms=NOW, covered_since_ms=0)
    return WriteBatch(checkpoints={"BTCUSDT": checkpoint})


def write_stored(journal: Journal, *gaps: Gap) -> None:
    batch = known(*gaps)
    batch.finished = by_key([STORED])
    journal.write(batch, NOW)


def rebuilt(*bars: Bar) -> WriteBatch:
    return WriteBatch(rebuilt=by_key(bars))


def test_a_rebuilt_bar_takes_the_place_of_the_stored_one_and_is_delivered(
    journal: Journal, path: Path
) -> None:
    write_stored(journal)
    with_first, position = Cursor(path, "store").next_bars(10)
    Cursor(path, "store").move(position, with_first)

    journal.write(rebuilt(REBUILT), NOW + 1)

    (bar,) = stored(path)
    assert (bar.epoch, bar.trade_count, bar.version, bar.is_complete) == (1, 2, 2, True)
    assert Cursor(path, "store").next_bars(10)[0] == [bar]


def test_a_rebuilt_bar_may_be_the_first_of_its_interval(journal: Journal, path: Path) -> None:
    journal.write(known(), NOW)

    journal.write(rebuilt(REBUILT), NOW + 1)

    assert [bar.epoch for bar in stored(path)] == [1]


@pytest.mark.parametrize(
    ("batch", "reason"),
    [
        (known(gap_within(STORED)), "trades of the interval are missing"),
        (known(through=STORED.open_time_ms - INTERVAL_MS), "may still be open"),
        (known(through=None), "may still be open"),
        (known(open_bars=(replace(STORED, is_closed=False),)), "is still open"),
    ],
    ids=["a gap touches it", "it has not closed", "none has closed", "it goes on"],
)
def test_a_bar_to_which_trades_may_yet_come_is_not_replaced(
    journal: Journal, path: Path, caplog: pytest.LogCaptureFixture, batch: WriteBatch, reason: str
) -> None:
    write_stored(journal)

    batch.rebuilt = by_key([REBUILT])
    journal.write(batch, NOW + 1)

    assert [bar.epoch for bar in stored(path)] == [0]
    (record,) = caplog.records
    assert vars(record)["event"] == "rebuilt_bar_refused"
    assert reason in vars(record)["reason"]


def test_of_a_symbol_without_a_checkpoint_no_bar_is_replaced(
    journal: Journal, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal.write(WriteBatch(finished=by_key([STORED])), NOW)

    journal.write(rebuilt(REBUILT), NOW + 1)

    assert [bar.epoch for bar in stored(path)] == [0]
    assert "nothing is known" in vars(caplog.records[-1])["reason"]


def test_a_bar_is_rebuilt_once_in_an_epoch(
    journal: Journal, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_stored(journal)
    journal.write(rebuilt(REBUILT), NOW + 1)

    journal.write(rebuilt(replace(REBUILT, trade_count=3)), NOW + 2)

    assert [(bar.epoch, bar.trade_count) for bar in stored(path)] == [(1, 2)]
    assert "meanwhile" in vars(caplog.records[-1])["reason"]


def test_late_trades_of_the_same_write_are_in_the_rebuilt_bar_already(
    journal: Journal, path: Path
) -> None:
    write_stored(journal, gap_within(STORED, STORED.first_trade_id + 3, STORED.first_trade_id + 3))
    whole = sample_bar(trade_count=4, last_trade_id=STORED.last_trade_id + 1, epoch=1)
    late = sample_bar(
        trade_count=1,
        first_trade_id=STORED.last_trade_id + 1,
        last_trade_id=STORED.last_trade_id + 1,
    )

    batch = known()  # the gap has closed with the late trade
    batch.amendments, batch.rebuilt = by_key([late]), by_key([whole])
    journal.write(batch, NOW + 1)

    assert [(bar.epoch, bar.trade_count) for bar in stored(path)] == [(1, 4)]


def test_a_gap_that_opens_later_makes_a_rebuilt_bar_incomplete(
    journal: Journal, path: Path
) -> None:
    write_stored(journal)
    journal.write(rebuilt(REBUILT), NOW + 1)

    journal.write(known(gap_within(STORED)), NOW + 2)

    assert [(bar.epoch, bar.is_complete) for bar in stored(path)] == [(1, False)]


def test_a_bar_that_changes_is_verified_no_longer(journal: Journal) -> None:
    write_stored(journal)
    span = (OPEN_TIME_MS, OPEN_TIME_MS + 180_000)
    journal.write(WriteBatch(audited=[BarsAudited("BTCUSDT", (span,))]), NOW)

    journal.write(rebuilt(replace(REBUILT, open_time_ms=OPEN_TIME_MS + 70_000)), NOW + 1)
    assert JournalReader(journal.path).verified("BTCUSDT") == [span], "it was refused"
    journal.write(rebuilt(REBUILT), NOW + 1)

    assert JournalReader(journal.path).verified("BTCUSDT") == [(OPEN_TIME_MS + 60_000, span[1])]


def test_a_late_trade_has_its_minute_be_verified_again(journal: Journal) -> None:
    bar = sample_bar(open_time_ms=OPEN_TIME_MS + 60_000)
    span = (OPEN_TIME_MS, OPEN_TIME_MS + 180_000)
    batch = known()
    batch.finished = by_key([bar])
    journal.write(batch, NOW)
    journal.write(WriteBatch(audited=[BarsAudited("BTCUSDT", (span,))]), NOW)

    late = replace(bar, trade_count=1, first_trade_id=1, last_trade_id=1)
    journal.write(WriteBatch(amendments=by_key([late])), NOW + 1)

    assert JournalReader(journal.path).verified("BTCUSDT") == [
        (OPEN_TIME_MS, OPEN_TIME_MS + 60_000),
        (OPEN_TIME_MS + 120_000, OPEN_TIME_MS + 180_000),
    ]


def test_a_command_replaces_bars_of_a_journal_that_nobody_has(path: Path) -> None:
    with journal_at(path) as journal:
        write_stored(journal)

    assert replace_bars(path, SCOPE, [REBUILT]) == []
    assert [(bar.epoch, bar.trade_count) for bar in stored(path)] == [(1, 2)]


def test_a_command_learns_which_bars_were_refused(path: Path) -> None:
    other = sample_bar(open_time_ms=NOW + INTERVAL_MS, epoch=1)
    with journal_at(path) as journal:
        write_stored(journal)

    assert replace_bars(path, SCOPE, [REBUILT, other]) == [other]


def test_a_command_has_the_collector_replace_bars_when_it_writes_next(path: Path) -> None:
    refused: list[list[Bar]] = []
    with journal_at(path) as journal:
        write_stored(journal)
        command = threading.Thread(
            target=lambda: refused.append(replace_bars(path, SCOPE, [REBUILT], within_s=WAIT_S))
        )
        command.start()
        reader = JournalReader(path)
        while not reader.has_rebuilt():
            assert command.is_alive()
        journal.write(WriteBatch(), NOW + 1)
        command.join(WAIT_S)

    assert refused == [[]]
    assert [(bar.epoch, bar.trade_count) for bar in stored(path)] == [(1, 2)]
    assert not reader.has_rebuilt()


def test_what_no_collector_took_in_time_is_not_in_place_yet(path: Path) -> None:
    with journal_at(path) as journal:
        write_stored(journal)
        assert replace_bars(path, SCOPE, [REBUILT], within_s=0) == [REBUILT]

    with journal_at(path) as journal:
        journal.write(WriteBatch(), NOW + 1)
    assert [bar.epoch for bar in stored(path)] == [1]


@pytest.mark.parametrize("text", ["", "{", "[]", '["ETHUSDT"]', "null"])
def test_a_rebuilt_bar_that_cannot_be_read_is_skipped(
    journal: Journal, path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    write_stored(journal)
    with closing(sqlite3.connect(path)) as connection, connection:
        row = ("BTCUSDT", OPEN_TIME_MS, text)
        connection.execute("INSERT INTO rebuilt VALUES (?, ?, ?)", row)

    journal.write(WriteBatch(), NOW + 1)

    assert [bar.epoch for bar in stored(path)] == [0]
    assert vars(caplog.records[-1])["event"] == "rebuilt_bar_unreadable"
    assert not JournalReader(path).has_rebuilt()


def test_a_salvage_keeps_what_waits_to_take_its_place(path: Path) -> None:
    bars = sample_bars(600)
    with journal_at(path) as journal:
        batch = known()
        batch.finished = by_key(bars)
        journal.write(batch, NOW)
        JournalReader(path).leave_rebuilt([REBUILT])
        spoil_pages(path, pages_of(path, "bars")[5:6])
        journal.save_readable("a reader says so", identity(path))

        assert JournalReader(path).has_rebuilt()
