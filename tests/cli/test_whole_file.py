"""A file is there when it is whole, and nothing is left of one that is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from bintrades.cli.whole_file import whole_file
from bintrades.errors import BintradesError
from tests.checkout import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

INTERRUPTED = """
import signal, sys
from pathlib import Path
from bintrades.cli.whole_file import whole_file

with whole_file(Path(sys.argv[1]), replaces=False) as file:
    file.write(b"half")
    print("ready", flush=True)
    signal.pause()
"""


def test_it_has_its_name_only_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    with whole_file(path, replaces=False) as file:
        file.write(b"all of it")
        assert not path.exists()

    assert path.read_bytes() == b"all of it"
    assert list(tmp_path.iterdir()) == [path]


def test_others_may_read_it_as_any_file_that_a_user_makes(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with whole_file(tmp_path / "a", replaces=False):
            pass
    finally:
        os.umask(before)

    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_an_error_leaves_nothing_behind_and_what_was_there_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_text("before")

    with pytest.raises(ZeroDivisionError), whole_file(path, replaces=True) as file:
        file.write(bytes(1 // 0))

    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_ends_the_process_leaves_nothing_behind(
    tmp_path: Path, number: signal.Signals
) -> None:
    folder = tmp_path / "exports"
    folder.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(folder / "bars.csv")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=REPOSITORY,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        assert len(list(folder.iterdir())) == 1
        process.send_signal(number)

        assert process.wait(60) != 0
    assert list(folder.iterdir()) == []


def test_what_is_there_is_replaced_only_where_that_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_text("before")

    with (
        pytest.raises(BintradesError, match="is there already; --force replaces it"),
        whole_file(path, replaces=False),
    ):
        pass
    with whole_file(path, replaces=True) as file:
        file.write(b"after")

    assert path.read_text() == "after"


def test_what_has_come_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"

    with (
        pytest.raises(BintradesError, match="is there already"),
        whole_file(path, replaces=False),
    ):
        path.write_text("somebody else's")

    assert path.read_text() == "somebody else's"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_file_and_what_has_no_folder_is_refused(tmp_path: Path) -> None:
    for path, said in (
        (tmp_path, "is not a file that can be replaced"),
        (tmp_path / "no" / "bars.csv", "cannot be written: No such file or directory"),
    ):
        with pytest.raises(BintradesError, match=said), whole_file(path, replaces=True):
            pass
