"""One collector for each journal, whatever happens to the files beside it."""

from __future__ import annotations

import os
import re
import resource
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from bintrades.errors import JournalError, JournalInUse
from bintrades.journal.lock import holder, is_in_use, lock_journal
from bintrades.testing.bars import sample_bar, sample_bars
from tests.checkout import REPOSITORY
from tests.forks import copy_of_the_process
from tests.journals import damage, finished, journal_at, open_journal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = 1_723_075_200_000
HOLD = """
import sys
from pathlib import Path
from tests.journals import journal_at

with journal_at(Path(sys.argv[1])):
    print("has it", flush=True)
    sys.stdin.read()
"""
LOOK = "import sys; from pathlib import Path; from bintrades.journal.lock import is_in_use;"
LOOK += "sys.exit(not is_in_use(Path(sys.argv[1])))"


@contextmanager
def held_by_another(path: Path) -> Iterator[int]:
    """Have another process hold the journal; yield its number."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    ) as process:
        assert process.stdout
        assert process.stdin
        assert process.stdout.readline() == "has it\n"
        yield process.pid
        process.stdin.close()


def is_seen_by_another(path: Path) -> bool:
    """Whether another process finds the journal in use."""
    looked = subprocess.run([sys.executable, "-c", LOOK, path], cwd=REPOSITORY, check=False)
    return looked.returncode == 0


def lock_file(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def test_a_copy_of_the_process_does_not_have_the_journal(path: Path) -> None:
    """As a plugin may make one by a fork, which goes on when the collector has ended."""
    journal = open_journal(path)
    with copy_of_the_process():
        assert is_seen_by_another(path)
        journal.close()

        assert not is_seen_by_another(path)
        with journal_at(path):
            assert is_seen_by_another(path)


def test_a_removed_lock_file_lets_nobody_else_in(path: Path) -> None:
    with held_by_another(path) as number:
        lock_file(path).unlink()
        assert is_in_use(path)

        with pytest.raises(JournalInUse, match=rf"another collector \(process {number}\)"):
            open_journal(path)

    assert not is_in_use(path)
    open_journal(path).close()


def test_a_journal_without_its_lock_file_is_seen_in_use_by_its_own_process(path: Path) -> None:
    with journal_at(path):
        lock_file(path).unlink()
        assert is_in_use(path)
    assert not is_in_use(path)


def test_the_holder_of_a_journal_is_on_record_at_every_moment(path: Path) -> None:
    lock_journal(path).close()
    is_over = threading.Event()

    def take_again_and_again() -> None:
        while not is_over.is_set():
            lock_journal(path).close()

    taking = threading.Thread(target=take_again_and_again)
    taking.start()
    try:
        numbers = {holder(path)[0] for _ in range(20_000)}
    finally:
        is_over.set()
        taking.join()

    assert numbers == {os.getpid()}


def test_looking_whether_a_journal_is_in_use_takes_no_lock_of_sqlite_away(path: Path) -> None:
    with journal_at(path) as journal:
        journal.write(finished(sample_bar()), NOW)
        lock_file(path).unlink()
        assert is_in_use(path)

        code = (
            "import sqlite3, sys;"
            " sqlite3.connect(sys.argv[1]).execute('PRAGMA journal_mode = DELETE')"
        )
        subprocess.run([sys.executable, "-c", code, path], check=False, capture_output=True)

        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_file_begun_anew_is_locked_as_the_one_before_was(path: Path) -> None:
    with journal_at(path) as journal:
        journal.write(finished(*sample_bars(2_000)), NOW)
        damage(path)
        journal.write(finished(*sample_bars(3)), NOW + 1)
        lock_file(path).unlink()

        assert is_seen_by_another(path)
        with pytest.raises(JournalInUse):
            open_journal(path)


def test_a_journal_that_another_collector_has_begun_in_its_place_is_left_to_that_one(
    path: Path,
) -> None:
    with journal_at(path) as journal:
        journal.write(finished(sample_bar()), NOW)
        for file in path.parent.iterdir():
            file.unlink()
        with held_by_another(path):
            with pytest.raises(JournalInUse):
                journal.write(finished(sample_bar()), NOW)

            assert list(path.parent.glob("*.damaged-*")) == []


def test_a_journal_and_all_that_belongs_to_it_is_nobody_elses(path: Path) -> None:
    before = os.umask(0o000)
    try:
        with journal_at(path) as journal:
            journal.write(finished(*sample_bars(2_000)), NOW)
            damage(path)
            journal.write(finished(sample_bar()), NOW)
            modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    finally:
        os.umask(before)

    assert len(modes) >= 4
    assert set(modes.values()) == {0o600}, modes


def test_files_of_an_earlier_version_are_made_nobody_elses(path: Path) -> None:
    with journal_at(path) as journal:
        journal.write(finished(*sample_bars(2_000)), NOW)
        damage(path)
        journal.write(finished(sample_bar()), NOW)
    for file in path.parent.iterdir():
        file.chmod(0o644)
    stranger = path.with_name("bars.journals")
    stranger.touch(0o644)

    open_journal(path).close()

    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert modes.pop(stranger.name) == 0o644
    assert set(modes.values()) == {0o600}, modes


def test_a_disk_without_any_room_at_the_start_is_said_in_one_line_with_what_to_do(
    path: Path,
) -> None:
    path.with_name(path.name + ".lock").touch()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(JournalError) as refused:
            open_journal(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert re.fullmatch(
        rf"{path}: cannot be used: .*; make room on its disk.*, or set \[journal\] path",
        str(refused.value),
    )
    open_journal(path).close()
