"""Facts, places and counts of the journal that are invalid: mended or forgotten."""

from __future__ import annotations

import contextlib
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from bintrades.app.status import read_status
from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint
from bintrades.errors import ConfigError, JournalError
from bintrades.journal.cursor import Cursor
from bintrades.journal.reader import JournalReader
from bintrades.journal.writer import Journal
from bintrades.model import Gap, GapCause
from bintrades.testing.bars import OPEN_TIME_MS, sample_bars
from tests.journals import finished, journal_at, put_metadata, stored, with_proof

if TYPE_CHECKING:
    from pathlib import Path

    from bintrades.model import Bar

NOW = OPEN_TIME_MS + 10**8
BARS = sample_bars(40)
HALF = len(BARS) // 2
STORE = "shelf"

FACTS = {
    "market": ("s~ot", ""),
    "exchange": ("b~nance", ""),
    "stream": ("", "7"),
    "interval_ms": ("1x000", "0", "-10000"),
    "sequence": ("x", "-1", "7", "9" * 20, "9" * 5_000),
    "lost_through": ("{", "[1]", '{"BTCUSDT": "x"}'),
    "reopened": ("{", "[1]", '{"BTCUSDT": [[1]]}'),
    f"resend {STORE}": ("", "x", "[1]", '["a", "b"]', '[1e30, "x"]', "[9999999999999999, 1]"),
}
SPOILT = (
    *(
        f"INSERT OR REPLACE INTO facts VALUES ('{name}', '{value}')"  # noqa: S608 - ours
        for name, values in FACTS.items()
        for value in values
    ),
    "DELETE FROM facts WHERE name IN ('market', 'interval_ms')",
    "DELETE FROM facts WHERE name = 'sequence'",
    "UPDATE cursors SET sequence = 'x'",
    "UPDATE cursors SET sequence = 1 << 60",
    "UPDATE cursors SET sequence = -5",
    "UPDATE cursors SET waiting = 'x'",
    "UPDATE cursors SET refused = 'x'",
    "INSERT INTO written VALUES ('x', 1)",
    "UPDATE written SET sequence = 'x'",
    "INSERT OR REPLACE INTO pruned VALUES ('BTCUSDT', 'x')",
    "UPDATE counts SET value = 'x' WHERE name = 'bars'",
    "DELETE FROM counts",
    "UPDATE proofs SET proven = 'x'",
    "UPDATE proofs SET covered_since = 'x'",
    "UPDATE proofs SET last_time = 'x'",
    "DELETE FROM proofs",
    "UPDATE blocks SET bars = 'x'",
    "UPDATE absent SET looks = 'x'",
    "UPDATE absent SET since = 'x'",
    "UPDATE past_gaps SET since = 'x'",
    "UPDATE rejected SET is_due = 'x', reason = 1, rejected_at = 'x'",
)

MENDED_IN_PASSING = (
    *("DELETE", "sequence'", "written", "blocks", "counts", "is_due"),
    *("cursors SET waiting", "cursors SET refused"),
)
"""What the next write makes good, or what only the commands look at."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a journal is of which a store has a half, but for one bar that it refused."""
    path = tmp_path / "bars.journal"
    absent = Gap(1, 1, OPEN_TIME_MS, OPEN_TIME_MS, GapCause.SKIPPED, absent_at=NOW, looks=1)
    gap = Gap(2, 2, OPEN_TIME_MS - 9, OPEN_TIME_MS - 8, GapCause.SKIPPED, is_abandoned=True)
    state = LedgerState(BARS[-1].last_trade_id + 1, BARS[-1].last_trade_time_ms, (gap,), (absent,))
    changes = finished(*BARS)
    known = Checkpoint(state, closed_through=BARS[-1].open_time_ms)
    changes.checkpoints["BTCUSDT"] = replace(with_proof(known, BARS), covered_since_ms=OPEN_TIME_MS)
    with journal_at(path) as journal:
        passing = Gap(3, 3, OPEN_TIME_MS - 9, OPEN_TIME_MS - 8, GapCause.SKIPPED)
        journal.write(finished(BTCUSDT=replace(state, gaps=(passing,))), NOW)
        journal.write(changes, NOW)
    cursor = Cursor(path, STORE)
    bars, sequence = cursor.next_bars(HALF)
    cursor.move(sequence, bars, [(bars[0], "ugly")])
    return path


def spoil(path: Path, statement: str) -> None:
    """Have rows be corrupt without a trigger that notices."""
    with closing(sqlite3.connect(path)) as connection, connection:
        triggers = connection.execute(
            "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'"
        ).fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(statement)
        for _, sql in triggers:
            connection.execute(sql)


class Store:
    """Takes all that comes, and has what is damaged be saved, as Service arranges it."""

    def __init__(self, path: Path, journal: Journal) -> None:
        self.has: dict[int, int] = {}
        self._cursor = Cursor(path, STORE, journal.save_readable, journal.lose_unreadable)

    def take_all(self) -> None:
        while True:
            bars, sequence = self._cursor.next_bars(7)
            if not bars:
                return
            self.has.update((bar.open_time_ms, bar.trade_count) for bar in bars)
            self._cursor.move(sequence, bars)


def work(path: Path, journal: Journal, store: Store, bar: Bar) -> None:
    """Do what a collector does; raise JournalError where it would try again."""
    journal.write(finished(bar), NOW, exchange_ms=NOW + 10**9)
    journal.prune([STORE], 1)
    journal.prune([STORE], NOW - 10**9)
    store.take_all()


def read(path: Path) -> None:
    """Do what the commands do."""
    reader = JournalReader(path)
    counts = {**reader.counts(), **reader.gap_counts()}
    assert all(isinstance(count, int) for count in counts.values())
    assert isinstance(reader.store(STORE).waiting_bars, int)
    assert isinstance(reader.store(STORE).rejected_bars, int)
    assert reader.newest_open_time_ms("BTCUSDT") == BARS[-1].open_time_ms
    assert reader.bars("BTCUSDT", 0, NOW, 1)
    list(reader.past_gaps())
    list(reader.all_gaps())
    found = reader.coverage("BTCUSDT")
    assert found is None or isinstance(found.proven_ms, int)


@pytest.mark.parametrize("is_running", [False, True])
@pytest.mark.parametrize("statement", SPOILT, ids=[statement[:70] for statement in SPOILT])
def test_nothing_that_a_small_table_says_stands_in_the_way(
    path: Path, statement: str, is_running: bool, caplog: pytest.LogCaptureFixture
) -> None:
    ids = {"first_trade_id": BARS[-1].first_trade_id, "last_trade_id": BARS[-1].last_trade_id}
    late = [replace(bar, **ids) for bar in sample_bars(50)[-3:]]  # none that is beyond `next_id`
    if not is_running:
        spoil(path, statement)
    with journal_at(path) as journal:
        if is_running:
            spoil(path, statement)
        store = Store(path, journal)
        for bar in late:
            for attempt in range(3):
                try:
                    work(path, journal, store, bar)
                    break
                except JournalError:
                    assert attempt < 2
        with contextlib.suppress(JournalError):  # a word, and no more than that
            read(path)
    with journal_at(path) as journal:
        work(path, journal, Store(path, journal), late[-1])
        read(path)
        known = journal.checkpoints["BTCUSDT"].ledger

    assert known.next_id == BARS[-1].last_trade_id + 1
    expected = [bar.open_time_ms for bar in (*BARS, *late)]
    assert [bar.open_time_ms for bar in stored(path)] == expected, "nothing has left"
    assert store.has.keys() >= set(expected[HALF:])
    if not any(words in statement for words in MENDED_IN_PASSING):
        assert caplog.records, "not without a word"


@pytest.mark.parametrize("value", ["", "x", "1x 2", "9" * 5_000])
def test_a_ban_that_is_invalid_keeps_no_collector_from_starting(
    path: Path, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    with journal_at(path) as journal:
        put_metadata(path, "rest_blocked_until", value)

        assert journal.get_ban().left_ms(0) == 0
    assert bool(value) == ("in the journal cannot be read" in caplog.text)


@pytest.mark.parametrize("value", ["", "{", "[]", "7"])
def test_a_last_word_of_a_collector_that_is_invalid_is_as_none(path: Path, value: str) -> None:
    with journal_at(path) as journal:
        journal.set_status(value)

    status = read_status(path, [STORE])

    assert status["collector"] is None
    assert status["journal"]["bars"] == len(BARS)


def test_a_journal_of_another_market_or_interval_is_refused_as_ever(path: Path) -> None:
    spot = {"market": "spot", "interval_ms": 10_000, "exchange": "binance", "stream": "trade"}
    for other in (
        {"market": "usdm"},
        {"interval_ms": 60_000},
        {"exchange": "kraken"},
        {"stream": "aggTrade"},
    ):
        with pytest.raises(ConfigError, match=r"holds bars of"):
            Journal(path, **{**spot, **other})  # type: ignore[arg-type]


def test_trades_of_a_test_network_and_live_ones_are_not_mixed(path: Path) -> None:
    with journal_at(path) as journal:
        journal.keep_environment("testnet")
    with journal_at(path) as journal:
        journal.keep_environment("testnet")
        with pytest.raises(ConfigError) as refused:
            journal.keep_environment("live")

    assert str(refused.value) == (
        f"{path}: holds bars of the testnet exchange, the addresses of the configuration are of the"
        " live one; set [journal] path to another file"
    )
    assert JournalReader(path).environment() == "testnet"


def test_an_environment_that_is_invalid_is_forgotten(path: Path) -> None:
    with journal_at(path) as journal:
        put_metadata(path, "environment", "7")
        assert JournalReader(path).environment() is None
        journal.keep_environment("live")

    assert JournalReader(path).environment() == "live"
