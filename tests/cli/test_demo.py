"""`bintrades demo`, as somebody sees it who has just installed the package."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bintrades.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def demo(folder: Path, *arguments: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """Show it, with its own temporary files in *folder*; end it where the test does not."""
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "bintrades", "demo", *arguments],
        cwd=folder,
        env=os.environ | {"TMPDIR": str(folder)} | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """Return what it prints up to the line that has *text*."""
    assert process.stdout is not None
    said = ""
    while text not in said:
        line = process.stdout.readline()
        assert line, f"it ended after: {said}"
        said += line
    return said


def listens(said: str) -> bool:
    """Whether somebody is where the exchange was said to be."""
    found = re.search(r"ws://127\.0\.0\.1:(\d+)", said)
    assert found is not None
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", int(found[1]))) == 0


def processes_in(folder: Path) -> list[int]:
    """Return the numbers of those that work below *folder*; none where nobody can say."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # of another user, or gone by now
            if str((process / "cwd").readlink()).startswith(f"{folder}/"):
                found.append(int(process.name))
    return found


def test_bars_of_a_simulated_exchange_are_printed_and_nothing_stays(tmp_path: Path) -> None:
    with demo(tmp_path, "12", BINTRADES_SHARD="nonsense") as process:
        said, problems = process.communicate(timeout=90)

    assert (process.returncode, problems) == (0, "")
    closed = re.findall(r"(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d0 .* (\d+) +\d+  \d+-\d+$", said)
    assert closed
    assert int(closed[0]) > 50, "a bar of 10 seconds, at 40 trades a second of two symbols"
    assert said.index("BTCUSDT\nopen time") < said.index("ETHUSDT\nopen time")
    assert "Stopping the collector in an orderly way" in said
    assert list(tmp_path.iterdir()) == []
    assert processes_in(tmp_path) == []
    assert not listens(said)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_all_of_it(tmp_path: Path, number: signal.Signals) -> None:
    with demo(tmp_path, "600") as process:
        said = read_until(process, "The collector records them")
        assert listens(said)
        process.send_signal(number)
        process.send_signal(number)  # whoever is impatient
        assert process.wait(60) == 128 + number

    assert list(tmp_path.iterdir()) == []
    assert processes_in(tmp_path) == []
    assert not listens(said)


def test_where_the_collector_dies_its_last_words_are_shown(tmp_path: Path) -> None:
    if not Path("/proc/self/cwd").exists():
        pytest.skip("nobody can say which process the collector is")
    with demo(tmp_path, "600") as process:
        read_until(process, "The collector records them")
        number = max(processes_in(tmp_path))
        os.kill(number, signal.SIGKILL)
        _, problems = process.communicate(timeout=60)

    assert process.returncode == 1
    assert problems.endswith("bintrades: the collector has ended with status -9\n")
    assert list(tmp_path.iterdir()) == []
    assert processes_in(tmp_path) == []


@pytest.mark.parametrize("word", ["0", "-1", "soon", "1000000"])
def test_what_is_no_number_of_seconds_is_refused(
    word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["demo", word])

    assert end.value.code == 2
    assert "is not a whole number" in capsys.readouterr().err or word == "-1"


def test_without_the_simulator_s_packages_it_says_in_one_line_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("bintrades.testing.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("bintrades.testing.simulate", raising=False)
    monkeypatch.setitem(sys.modules, "wsproto", None)

    assert main(["demo"]) == 1

    said = capsys.readouterr()
    assert said.out == ""
    needs = r"bintrades: the simulator needs wsproto, .*'bintrades\[simulator\]'\n"
    assert re.fullmatch(needs, said.err)
