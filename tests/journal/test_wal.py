"""How long the journal's write-ahead log gets, whoever reads."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bintrades.app.status import read_status
from bintrades.cli.status_text import format_status
from bintrades.core.write_batch import WriteBatch
from bintrades.journal.wal import AT_REST_PAGES, WAL_LIMIT, reading_processes, wal_bytes
from bintrades.testing.bars import sample_bars
from tests.journals import PAGE, finished, journal_at, stored

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator

    from bintrades.journal.writer import Journal

PIECE = 2 * 1024 * 1024
GROWTH = "the journal's write-ahead log grows"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    """Return an open journal with some bars."""
    with journal_at(path) as journal:
        journal.write(finished(*sample_bars(3)), 0)
        yield journal


@contextmanager
def transaction_of_another_program(path: Path) -> Iterator[int]:
    """Have a process look at bars and stay there; return its number."""
    code = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN")
connection.execute("SELECT count(*) FROM bars").fetchone()
print("looks", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.readline()
        yield process.pid
        process.communicate()


def write(journal: Journal, total: int) -> None:
    """Commit so many bytes of metadata, a few megabytes at a time."""
    for number in range(0, total, PIECE):
        journal.write(WriteBatch(), 0, str(number % 10) * PIECE)


def warnings(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.message.startswith(GROWTH)]


def test_the_log_stays_short_while_nobody_keeps_a_transaction_open(
    journal: Journal, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(10):
        write(journal, 2 * PIECE)
        assert len(stored(path)) == 3
        assert wal_bytes(path) <= WAL_LIMIT

    assert warnings(caplog) == []


def test_a_log_that_another_program_keeps_long_is_told_with_its_process_and_cut_afterwards(
    journal: Journal, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with transaction_of_another_program(path) as process:
        write(journal, 3 * WAL_LIMIT)
        size = wal_bytes(path)
        told = warnings(caplog)
        status = read_status(path, [])

    assert size > 3 * WAL_LIMIT
    assert len(told) == 2, "at the limit, and once it has doubled"
    assert status["journal"]["wal_bytes"] == size
    assert status["journal"]["bytes"] == path.stat().st_size + size
    assert {record.__dict__["journal"] for record in told} == {str(path)}
    page = format_status(status)
    assert "keeps a transaction open on it; end that, or the disk will be full" in page
    if Path("/proc/locks").exists():
        assert [record.__dict__["held_by"] for record in told] == [[process]] * 2
        assert f"process {process} keeps a transaction open" in page

    write(journal, PIECE)
    assert wal_bytes(path) <= WAL_LIMIT, "nobody is in the way any more"
    assert read_status(path, [])["journal"]["wal_held_by"] == []


def test_the_log_is_moved_into_the_file_between_bars_not_with_them(
    journal: Journal, path: Path
) -> None:
    before = path.stat().st_size
    for number in range(6):
        changes = finished(*sample_bars(1))
        journal.write(changes, number, str(number) * PIECE)
    assert AT_REST_PAGES * PAGE < wal_bytes(path) < WAL_LIMIT
    assert path.stat().st_size == before

    journal.write(WriteBatch(), 0, "")

    assert path.stat().st_size > before + PIECE


def test_a_long_log_is_emptied_though_programs_look_into_the_journal_now_and_then(
    journal: Journal, path: Path
) -> None:
    with transaction_of_another_program(path):
        write(journal, 2 * WAL_LIMIT)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        for _ in range(8):
            other.execute("BEGIN")
            other.execute("SELECT count(*) FROM bars").fetchone()
            write(journal, PIECE)
            other.execute("COMMIT")

    write(journal, PIECE)
    assert wal_bytes(path) <= WAL_LIMIT


def test_this_process_is_named_when_it_is_the_one(journal: Journal, path: Path) -> None:
    if not Path("/proc/locks").exists():
        assert reading_processes(path) == []
        return
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM bars").fetchone()
        assert reading_processes(path) == [os.getpid()]
        connection.execute("COMMIT")
    assert reading_processes(path) == []
    assert reading_processes(path.with_name("none")) == []
