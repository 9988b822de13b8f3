"""Files that the journal refuses to open, and locks."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bintrades.errors import ConfigError, JournalError
from bintrades.journal.writer import Journal
from bintrades.testing.bars import sample_bar
from tests.journals import (
    INTERVAL_MS,
    NOBODY,
    finished,
    journal_at,
    open_journal,
    stored,
    unprivileged,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

from tests.journals import NOW


def test_a_second_collector_on_the_same_journal_is_refused_with_the_number_of_the_first(
    journal: Journal, path: Path
) -> None:
    with pytest.raises(JournalError) as refused:
        open_journal(path)

    assert f"in use by another collector (process {os.getpid()})" in str(refused.value)
    assert str(path) in str(refused.value)
    journal.close()
    open_journal(path).close()


def test_a_journal_of_a_newer_version_is_refused_and_left_as_it_is(path: Path) -> None:
    open_journal(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = path.read_bytes()

    with pytest.raises(ConfigError, match=r"newer bintrades.*journal version 99.*upgrade"):
        open_journal(path)

    assert path.read_bytes() == before


def test_a_stranger_s_database_is_refused_and_left_as_it_is(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bars (mine)")
    before = path.read_bytes()

    with pytest.raises(ConfigError, match=r"not a journal of bintrades.*another file"):
        open_journal(path)

    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("market", "interval_ms", "said"),
    [
        ("usdm", INTERVAL_MS, "market spot, the configuration says usdm"),
        ("spot", 60_000, "interval_ms 10000, the configuration says 60000"),
    ],
)
def test_a_journal_of_another_market_or_interval_is_refused(
    path: Path, market: str, interval_ms: int, said: str
) -> None:
    with journal_at(path) as journal:
        journal.write(finished(sample_bar()), NOW)

    with pytest.raises(ConfigError, match=said):
        Journal(path, exchange="binance", market=market, stream="trade", interval_ms=interval_ms)

    open_journal(path).close()
    assert len(stored(path)) == 1


def test_a_lock_that_somebody_else_holds_is_waited_for_only_shortly(
    journal: Journal, path: Path
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        started = time.monotonic()

        with pytest.raises(JournalError, match="locked"):
            journal.write(finished(sample_bar()), NOW)

        assert time.monotonic() - started < 5, "bars wait in memory, not the thread on the file"


def test_a_journal_has_one_lock_by_whatever_name_it_is_known(journal: Journal, path: Path) -> None:
    other_name = path.with_name("link")
    other_name.symlink_to(path)

    with pytest.raises(JournalError, match="another collector"):
        open_journal(other_name)


@pytest.fixture
def nobodys_folder() -> Iterator[Path]:
    """Return a folder that an unprivileged user can reach and owns."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        yield folder
        folder.chmod(0o755)


def test_a_folder_that_may_not_be_written_is_said_with_what_to_do(nobodys_folder: Path) -> None:
    nobodys_folder.chmod(0o555)

    with unprivileged(), pytest.raises(JournalError) as refused:
        open_journal(nobodys_folder / "journal")

    assert "Permission denied" in str(refused.value)
    assert "make the folder writable, or set [journal] path" in str(refused.value)


def test_a_file_that_may_not_be_written_is_an_error_and_keeps_its_content(
    nobodys_folder: Path,
) -> None:
    path = nobodys_folder / "journal"
    with unprivileged():
        with journal_at(path) as journal:
            journal.write(finished(sample_bar()), NOW)
        path.chmod(0o444)
        with pytest.raises(JournalError, match=r"journal: .*readonly database"):
            open_journal(path)
        for file in nobodys_folder.iterdir():
            file.chmod(0o644)  # SQLite gives its log the rights of the file
        with journal_at(path) as journal:
            journal.write(finished(sample_bar(symbol="ETHUSDT")), NOW)

        assert [len(stored(path, symbol)) for symbol in ("BTCUSDT", "ETHUSDT")] == [1, 1]


def test_a_folder_in_the_place_of_the_file_is_an_error(path: Path) -> None:
    path.mkdir()

    with pytest.raises(JournalError, match="Is a directory"):
        open_journal(path)
