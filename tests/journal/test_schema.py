"""What the journal counts as it is written, and how a journal of an earlier version is taken over.

journals_of_old/ has what each released version wrote.
"""

from __future__ import annotations

import sqlite3
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import WriteBatch
from bintrades.errors import JournalError
from bintrades.journal.connection import connect, transaction
from bintrades.journal.cursor import Cursor
from bintrades.journal.migrations import statements
from bintrades.journal.reader import JournalReader, StoreState
from bintrades.journal.schema import LADDER, SCHEMA_VERSION
from bintrades.model import Gap, GapCause, GapOutcome
from bintrades.testing.bars import OPEN_TIME_MS, sample_bar, sample_bars
from tests.journals import (
    INTERVAL_MS,
    by_key,
    checkpoints,
    finished,
    full_disk,
    journal_at,
    metadata,
    open_journal,
    stored,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bintrades.journal.writer import Journal

NOW = OPEN_TIME_MS + 60_000
OF_OLD = Path(__file__).with_name("journals_of_old")

COUNTED = {
    "counts": """
        SELECT 'bars', count(*) FROM bars
        UNION ALL SELECT 'unclosed', count(*) FROM bars WHERE NOT is_closed
        UNION ALL SELECT 'incomplete', count(*) FROM bars WHERE is_closed AND NOT is_complete
        UNION ALL SELECT 'gaps open', count(*) FROM gaps WHERE NOT is_abandoned
        UNION ALL SELECT 'gaps abandoned', count(*) FROM gaps WHERE is_abandoned = 1
        UNION ALL SELECT 'gaps approximated', count(*) FROM gaps WHERE is_abandoned = 2
        UNION ALL SELECT 'gaps ' || outcome, count(*) FROM past_gaps GROUP BY outcome
        UNION ALL SELECT 'verified', coalesce(sum(until - since), 0) FROM verified
        UNION ALL SELECT 'differences ' || outcome, count(*) FROM differences GROUP BY outcome""",
    "blocks": "SELECT open_time / 3600000, symbol, count(*) FROM bars GROUP BY 1, 2",
    "cursors": """
        SELECT store, sequence,
            (SELECT count(*) FROM bars WHERE bars.sequence > cursors.sequence),
            (SELECT count(*) FROM rejected WHERE rejected.store = cursors.store AND is_due),
            (SELECT count(*) FROM rejected WHERE rejected.store = cursors.store AND NOT is_due)
        FROM cursors""",
}
"""What each table of counts has to hold, by counting."""

BESIDE = (
    *("absent", "blocks", "checkpoints", "counts", "cursors", "facts", "gaps", "lost_bars"),
    *("past_gaps", "pruned", "rejected", "written"),
)
"""All tables but that of the bars."""

WAIT_S = 120.0


def assert_counts_are_exact(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for table, query in COUNTED.items():
            kept = set(connection.execute(f"SELECT * FROM {table}"))  # noqa: S608 - our names
            counted = set(connection.execute(query))
            if table == "counts":  # there may be a zero of what there was once
                kept, counted = ({row for row in rows if row[1]} for rows in (kept, counted))
            assert kept == counted, table


def journal_of_old(path: Path, version: int) -> None:
    """Put what bintrades once wrote to *path*."""
    script = (OF_OLD / f"version_{version}.sql").read_text(encoding="utf-8")
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


def schema_of(path: Path) -> set[tuple[Any, ...]]:
    """Return the tables, indexes and triggers of a file, and the columns of its tables."""
    with closing(sqlite3.connect(path)) as connection:
        parts = connection.execute("SELECT type, name, tbl_name FROM sqlite_schema").fetchall()
        columns = [
            (name, *column)
            for kind, name, _ in parts
            if kind == "table"
            for column in connection.execute(f"PRAGMA table_info({name})")
        ]
        return {*parts, *columns, *connection.execute("PRAGMA user_version")}


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_a_journal_of_an_earlier_version_becomes_one_of_today_with_all_it_holds(
    path: Path, version: int
) -> None:
    journal_of_old(path, version)
    with journal_at(path.with_name("new")):
        pass

    with journal_at(path) as journal:
        known = journal.checkpoints["BTCUSDT"]
        journal.write(finished(sample_bar(open_time_ms=NOW)), NOW + 2)

    assert schema_of(path) == schema_of(path.with_name("new"))
    assert_counts_are_exact(path)
    assert [bar.open_time_ms for bar in stored(path)] == [
        OPEN_TIME_MS + INTERVAL_MS * index for index in range(7)
    ]
    assert [(bar.version, bar.trade_count) for bar in stored(path, "ETHUSDT")] == [
        (2, 4),
        (1, 3),
        (1, 3),
    ]
    assert (known.ledger.next_id, len(known.ledger.gaps), len(known.open_bars)) == (1_000, 2, 1)
    reader = JournalReader(path)
    assert reader.gap_counts() == {"open": 1, "abandoned": 1, "approximated": 0, "repaired": 1}
    assert reader.store("mongodb") == StoreState(6, 1, "reason 1")
    assert reader.store("jsonl") == StoreState(8, 0, None)
    assert len(Cursor(path, "jsonl").next_bars(10)[0]) == 2, "what is due comes first"
    assert len(Cursor(path, "mongodb").next_bars(10)[0]) == 6


def test_what_a_journal_of_version_3_knew_beside_its_bars_is_known_to_that_of_today(
    path: Path,
) -> None:
    journal_of_old(path, 3)
    with closing(sqlite3.connect(path)) as connection:
        known = {table: set(connection.execute(f"SELECT * FROM {table}")) for table in BESIDE}  # noqa: S608
        assert all(known.values()), "each table has some"

    with journal_at(path) as journal:
        (absent,) = journal.checkpoints["ETHUSDT"].ledger.absent
    with closing(sqlite3.connect(path)) as connection:
        left = {table: set(connection.execute(f"SELECT * FROM {table}")) for table in BESIDE}  # noqa: S608
        epochs = {epoch for (epoch,) in connection.execute("SELECT epoch FROM bars")}

    assert (absent.first_id, absent.last_id, absent.looks) == (400, 409, 1)
    assert epochs == {0}
    known["facts"] |= {("exchange", "binance"), ("stream", "trade")}
    known["counts"] ^= {("incomplete", 1), ("incomplete", 2)}  # the newest bar is not proven
    known["counts"] |= {("gaps approximated", 0)}
    assert left == known
    assert JournalReader(path).store("shelf").resending_from_ms == OPEN_TIME_MS + 2 * INTERVAL_MS


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_a_damaged_journal_of_an_earlier_version_is_salvaged(path: Path, version: int) -> None:
    journal_of_old(path, version)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE facts SET value = 'x' WHERE name = 'sequence'")

    with journal_at(path):
        pass

    assert list(path.parent.glob(f"{path.name}.damaged-*"))
    assert_counts_are_exact(path)
    assert [(bar.epoch, bar.trade_count) for bar in stored(path, "ETHUSDT")] == [
        (0, 4),
        (0, 3),
        (0, 3),
    ]


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_what_only_reads_says_what_to_do_with_a_journal_of_an_earlier_version(
    path: Path, version: int
) -> None:
    journal_of_old(path, version)
    before = path.read_bytes()

    for use in (JournalReader(path).counts, lambda: Cursor(path, "mongodb").move(9, [])):
        with pytest.raises(JournalError, match=r"older bintrades.*stop the collector and start"):
            use()

    assert path.read_bytes() == before


def test_a_journal_whose_taking_over_fails_is_as_it_was_and_is_taken_over_later(
    path: Path,
) -> None:
    journal_of_old(path, 1)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO facts VALUES ('name', 'value')")
        connection.commit()  # to have a log
        before = list(connection.iterdump())
        with full_disk(path), pytest.raises(JournalError, match="cannot be used"):
            open_journal(path)
        assert list(connection.iterdump()) == before

    with journal_at(path):
        assert_counts_are_exact(path)


def test_every_step_of_the_ladder_has_a_journal_to_try_it_on() -> None:
    assert len(list(OF_OLD.glob("version_*.sql"))) >= SCHEMA_VERSION - 1
    assert all(sqlite3.complete_statement(step) for step in LADDER)
    assert all(statement.strip() for step in LADDER for statement in statements(step))


index_sets = st.sets(st.integers(0, 7), min_size=1)
store_names = st.sampled_from(["a", "b", "added later"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), index_sets),
        st.tuples(st.just("stop"), index_sets),
        st.tuples(st.just("amend"), index_sets),
        st.tuples(st.just("gaps"), st.sets(st.integers(0, 7))),
        st.tuples(st.just("abandon"), st.none()),
        st.tuples(st.just("take"), store_names),
        st.tuples(st.just("refuse"), store_names),
        st.tuples(st.just("resend"), store_names),
        st.tuples(st.just("go back"), store_names),
        st.tuples(st.just("prune"), st.lists(store_names, max_size=2)),
        st.tuples(st.just("fail"), index_sets),
    ),
    max_size=20,
)

BARS = [
    *(
        replace(bar, open_time_ms=OPEN_TIME_MS + 1_800_000 * n)
        for n, bar in enumerate(sample_bars(5))
    ),
    *sample_bars(3, symbol="ETHUSDT"),
]  # within one block, and one in every other half of an hour


def chosen(indices: Any) -> list[Any]:
    return [BARS[index] for index in sorted(indices)]


def gaps_in(indices: Any, *, is_abandoned: bool = False) -> LedgerState:
    """Return a ledger with a gap within each of the bars of BTCUSDT among these."""
    gaps = [
        Gap(
            10 * n,
            10 * n + 5,
            BARS[n].open_time_ms,
            BARS[n].open_time_ms,
            GapCause.SKIPPED,
            0,
            None,
            is_abandoned,
        )
        for n in sorted(indices)
        if n < 5
    ]
    return LedgerState(1_000, NOW, tuple(gaps))


def act(journal: Journal, path: Path, action: str, argument: Any, now: int) -> None:
    """Do one of *steps*."""
    match action:
        case "write":
            journal.write(WriteBatch(finished=by_key(chosen(argument))), now)
        case "stop":
            half = [replace(bar, is_closed=False, trade_count=now) for bar in chosen(argument)]
            journal.write(WriteBatch(finished=by_key(half)), now)
        case "amend":
            journal.write(WriteBatch(amendments=by_key(chosen(argument))), now)
        case "gaps":
            changes = WriteBatch(checkpoints=checkpoints(BTCUSDT=gaps_in(argument)))
            changes.resolved = [("BTCUSDT", 0, 25, GapOutcome.ABSENT)]
            journal.write(changes, now)
        case "abandon":
            state = gaps_in(range(5), is_abandoned=True)
            journal.write(WriteBatch(checkpoints=checkpoints(BTCUSDT=state)), now)
        case "take" | "refuse":
            take(Cursor(path, argument), refuses=action == "refuse")
        case "resend":
            JournalReader(path).resend(argument)
        case "go back":
            last = int(metadata(path)["sequence"])
            Cursor(path, argument).move(min(1, last), [])
        case "prune":
            journal.prune(argument, now - 2)
        case "fail":
            too_large = replace(BARS[0], trade_count=2**63)
            with pytest.raises(OverflowError):
                journal.write(WriteBatch(finished=by_key([*chosen(argument), too_large])), now)


def take(cursor: Cursor, *, refuses: bool) -> None:
    bars, sequence = cursor.next_bars(3)
    refused: Sequence[Any] = bars[:2] if refuses else []
    if bars:
        cursor.move(sequence, bars, [(bar, "ugly") for bar in refused])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps)
def test_what_is_counted_is_what_is_there_whatever_happens(
    steps: list[tuple[str, Any]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        with journal_at(path) as journal:
            for now, (action, argument) in enumerate(steps, NOW):
                act(journal, path, action, argument, now)
                assert_counts_are_exact(path)
                waiting = JournalReader(path).store("never heard of").waiting_bars
                assert waiting == len(stored(path)) + len(stored(path, "ETHUSDT"))


def test_what_was_counted_is_right_in_a_file_that_others_have_changed(
    journal: Journal, path: Path
) -> None:
    journal.write(finished(*sample_bars(5)), NOW)
    Cursor(path, "store").move(3, [])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM bars WHERE sequence IN (2, 4)")
        connection.execute("UPDATE bars SET is_complete = 0, sequence = 9 WHERE sequence = 1")

    assert_counts_are_exact(path)
    assert JournalReader(path).store("store").waiting_bars == 2


def test_a_store_notes_what_it_has_though_bars_are_committed_one_after_the_other(
    journal: Journal, path: Path
) -> None:
    """SQLite itself would look every 100 ms after a while, and hardly ever find the lock free."""
    commits = 0
    is_held, is_over = threading.Event(), threading.Event()

    def commit_again_and_again() -> None:
        nonlocal commits
        with closing(connect(path)) as connection:
            while not is_over.is_set():
                with transaction(connection):
                    is_held.set()
                    is_over.wait(0.15)
                    is_held.clear()
                commits += 1
                time.sleep(0.005)

    writer = threading.Thread(target=commit_again_and_again)
    writer.start()
    try:
        cursor = Cursor(path, "store")
        for number in range(5):
            assert is_held.wait(WAIT_S)
            cursor.move(number, [])
    finally:
        is_over.set()
        writer.join()

    assert commits <= 20
