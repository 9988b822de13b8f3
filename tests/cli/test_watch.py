"""`bintrades status --watch`, in real terminals, beside a journal that is written to."""

from __future__ import annotations

import io
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from bintrades.cli import main
from bintrades.cli.terminal import Event
from bintrades.cli.watch_screen import LEGEND, Screen
from bintrades.cli.watched import RESTS, Seldom, Watched
from bintrades.errors import JournalError
from bintrades.model.numbers import plain
from bintrades.util.text import as_json
from tests.checkout import REPOSITORY
from tests.collectors import Stage
from tests.journals import INTERVAL_MS, journal_at
from tests.pages import a_story, tell_history, walk
from tests.terminals import window

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bintrades.journal.writer import Journal
    from tests.terminals import Window

WORST_FIRST = ["ETHUSDT", "SOLUSDT", "ADAUSDT", "BNBUSDT", "BTCUSDT"]
"""Of a_story(): the first two lack trades, the others are as whole as each other."""


class Running:
    """A collector that says again and again that it runs."""

    def __init__(self, path: Path, journal: Journal) -> None:
        self._stage = Stage(path, journal)
        self._journal = journal
        self.trades = 1_234_000

    def speak(self) -> None:
        """Say something; and that a trade has come for each five milliseconds."""
        figures = self._stage.figures
        figures["trades"] = self.trades + (figures["beat_ms"] - figures["started_ms"]) // 5
        self._journal.set_status(as_json(figures))


@pytest.fixture
def config(path: Path) -> Path:
    """Return a configuration whose journal is that of *path*."""
    config = path.with_name("bintrades.ini")
    config.write_text(f"[journal]\npath = {path.name}\n[stores]\nenabled = jsonl\n")
    return config


@contextmanager
def watching(config: Path, rows: int = 24) -> Iterator[Window]:
    """Watch in a window of a terminal."""
    command = [sys.executable, "-m", "bintrades", "status", "--watch", "--config", str(config)]
    with window(command, rows=rows) as found:
        yield found


def symbols_in(lines: list[str]) -> list[str]:
    """Return the symbols of the table, from above."""
    return [found[1] for line in lines if (found := re.match(r"(\w+USDT) ", line))]


def test_a_running_collector_is_seen_with_its_symbols_the_worst_first(
    path: Path, config: Path
) -> None:
    with journal_at(path) as journal:
        running = Running(path, journal)
        a_story(journal)
        running.speak()
        with watching(config) as shown:
            lines = shown.wait("collector   running", " a second;", meanwhile=running.speak)

    assert len(lines) == 24
    assert lines[0].startswith("bintrades spot ")
    for pattern in (
        r"trades      1,2\d\d,\d{3}, \d+ a second; lag 0\.0 s; 0 duplicates",
        r"connections 0 of 1 have all their streams, of 1 symbols$",
        r"gaps        0 open, 0 repaired, 0 absent, 3 abandoned$",
        r"coverage    \d+\.\d\d % of the last hour",
        r"store       jsonl: [\d,]+ bars wait, 0 refused",
    ):
        assert [line for line in lines if re.match(pattern, line)], pattern
    assert symbols_in(lines)[:5] == WORST_FIRST
    (ether,) = [line for line in lines if line.startswith("ETHUSDT")]
    assert f" {plain(walk('ETHUSDT', 0, 500)[-1].close_price)} " in ether
    assert re.search(r" +18 +\d+ (?:s|min) +\d+\.\d\d % [=#]*!+[=#]+=\.*$", ether)
    (below,) = [line for line in lines if line.startswith(LEGEND)]
    assert below.endswith(" 9 symbols")


def test_what_is_written_is_seen_at_the_next_look(path: Path, config: Path) -> None:
    with journal_at(path) as journal:
        a_story(journal)
        with watching(config) as shown:
            shown.wait("BTCUSDT")
            newest = time.time_ns() // 1_000_000 // INTERVAL_MS * INTERVAL_MS
            tell_history(journal, "NEWUSDT", walk("NEWUSDT", newest - 4 * INTERVAL_MS, 4))
            shown.wait("NEWUSDT", str(plain(walk("NEWUSDT", 0, 4)[-1].close_price)), "10 symbols")


def test_a_window_has_as_many_symbols_as_rows_and_keys_lead_to_the_others(
    path: Path, config: Path
) -> None:
    with journal_at(path) as journal:
        a_story(journal)
    with watching(config, rows=11) as shown:
        assert symbols_in(shown.wait("1-3 of 9, 6 more")) == WORST_FIRST[:3]
        shown.press(" ")
        assert symbols_in(shown.wait("4-6 of 9, 6 more"))[:2] == WORST_FIRST[3:5]
        shown.press("\x1b[A")
        assert symbols_in(shown.wait("3-5 of 9, 6 more"))[0] == WORST_FIRST[2]
        shown.press("\x1b[F")
        shown.wait("7-9 of 9, 6 more")
        shown.press("g\x1b[C")
        shown.wait("1-3 of 9, 6 more", "- 6 h -")

        shown.resize(100, 30)
        lines = shown.wait("9 symbols")
        assert len(symbols_in(lines)) == 9
        assert max(map(len, lines)) <= 100
        assert "Traceback" not in shown.written.decode()


@pytest.mark.parametrize(
    ("how", "status"), [("q", 0), ("\x03", 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_the_terminal_is_left_as_it_was(
    path: Path, config: Path, how: str | signal.Signals, status: int
) -> None:
    with journal_at(path) as journal:
        a_story(journal)
    with watching(config) as shown:
        before = shown.modes
        shown.wait("BTCUSDT")
        during = shown.modes
        if isinstance(how, str):
            shown.press(how)
        else:
            shown.process.send_signal(how)

        assert shown.ended() == status
        assert during != before
        assert shown.modes == before
        first, last = shown.written.split(b"BTCUSDT", 1)
        assert b"\x1b[?1049h" in first
        assert last.endswith(b"\x1b[?25h\x1b[?1049l")  # a cursor, and the lines from before
        assert b"\x1b[2J" not in shown.written  # an empty screen between two would flicker


def test_it_ends_with_its_window(path: Path, config: Path) -> None:
    with journal_at(path) as journal:
        a_story(journal)
    with watching(config) as shown:
        shown.wait("BTCUSDT")
        shown.close()

        assert shown.ended() == 128 + signal.SIGHUP


def test_ctrl_z_gives_the_terminal_back_until_it_goes_on(path: Path, config: Path) -> None:
    with journal_at(path) as journal:
        a_story(journal)
    with watching(config) as shown:
        before = shown.modes
        shown.wait("BTCUSDT")
        shown.press("\x1a")
        _, status = os.waitpid(shown.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        assert shown.modes == before

        shown.process.send_signal(signal.SIGCONT)
        shown.until(lambda: shown.written.count(b"\x1b[?1049h") == 2)
        shown.wait("BTCUSDT")
        shown.press("q")
        assert shown.ended() == 0


def test_a_journal_that_is_not_there_yet_is_waited_for(path: Path, config: Path) -> None:
    with watching(config) as shown:
        shown.wait("trouble", "there is no journal yet")
        with journal_at(path) as journal:
            a_story(journal)
            shown.wait("BTCUSDT")


@pytest.mark.parametrize("term", ["dumb", "xterm"])
def test_where_there_is_no_terminal_the_status_is_printed_again(
    path: Path, config: Path, term: str
) -> None:
    with journal_at(path) as journal:
        a_story(journal)
    with subprocess.Popen(
        [sys.executable, "-m", "bintrades", "status", "--watch", "1", "--config", str(config)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "TERM": term},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = [process.stdout.readline()]
        while said.count(said[0]) < 3:
            said.append(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=60)

    assert said[0].startswith("collector   ")
    assert any(line.startswith("gaps        0 open") for line in said)
    assert not [line for line in said if "\x1b" in line]
    assert (process.returncode, complaints) == (0, "")


def test_without_the_extra_it_is_said_what_to_install(path: Path, config: Path) -> None:
    hidden = "import sys; sys.modules['rich'] = None; from bintrades.cli import main;"
    script = f"{hidden} sys.exit(main(['status', '--watch', '--config', sys.argv[1]]))"
    with window([sys.executable, "-c", script, str(config)], columns=300) as shown:
        assert shown.ended() == 1
        (said,) = filter(None, shown.lines)

    assert re.fullmatch(r"bintrades: status --watch needs rich, .*'bintrades\[terminal\]'", said)


@pytest.mark.parametrize("seconds", ["0", "3601", "1.5", "soon"])
def test_seconds_that_cannot_be_are_refused(
    seconds: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["status", "--watch", seconds])

    assert ended.value.code == 2
    assert f"'{seconds}' is not a whole number from 1 to 3600" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("width", "height"), [(1, 1), (10, 3), (40, 10), (60, 24), (80, 24), (132, 43), (400, 200)]
)
def test_no_window_is_too_small_or_too_large(path: Path, width: int, height: int) -> None:
    with journal_at(path) as journal:
        a_story(journal)
    screen = Screen(Watched(path, ["jsonl"]))
    console = Console(width=width, height=height, file=io.StringIO())

    for event in (None, *Event):
        if event:
            screen.obey(event)
        with console.capture() as capture:
            console.print(screen.draw(width, height))

    lines = capture.get().splitlines()
    assert len(lines) <= max(height, 10)  # what does not fit is cut off below
    assert all(len(line) <= width for line in lines)


def test_a_stopped_collector_is_said_to_be_so_and_its_symbols_are_seen(path: Path) -> None:
    with journal_at(path) as journal:
        a_story(journal)
        Running(path, journal).speak()
    console = Console(width=120, height=40, file=io.StringIO())

    with console.capture() as capture:
        console.print(Screen(Watched(path, ["jsonl"])).draw(120, 40))

    lines = [line.rstrip() for line in capture.get().splitlines()]
    assert [line for line in lines if line.startswith("collector   stopped (process ")]
    assert not [line for line in lines if re.search(r"a second|connections|trouble", line)]
    assert symbols_in(lines)[:5] == WORST_FIRST


def test_a_rest_side_that_does_not_answer_is_seen_though_the_collector_is_well(path: Path) -> None:
    with journal_at(path) as journal:
        figures = Running(path, journal)._stage.figures
        figures["rest"]["failing_ms"] = 300_000
        figures["repair"]["error"] = "GET x: no answer"
        figures["symbol_list_error"] = "GET y: no answer"
        journal.set_status(as_json(figures))
        console = Console(width=120, height=40, file=io.StringIO())
        with console.capture() as capture:
            console.print(Screen(Watched(path, [])).draw(120, 40))

    troubles = [line.rstrip() for line in capture.get().splitlines() if line.startswith("trouble")]
    assert troubles == [
        "trouble     the exchange's REST side has not answered for 5 min: GET x: no answer",
        "trouble     the list of symbols cannot be had: GET y: no answer",
    ]


def test_what_is_foreign_cannot_obey_a_terminal(path: Path) -> None:
    with journal_at(path) as journal:
        running = Running(path, journal)
        running.speak()
        figures = running._stage.figures
        figures["connections"][0]["error"] = "[red]\x1b[2Jno"
        journal.set_status(as_json(figures))
        console = Console(width=200, height=40, file=io.StringIO())
        with console.capture() as capture:
            console.print(Screen(Watched(path, [])).draw(200, 40))

    assert r"reader-1: disconnected; [red]\x1b[2Jno" in capture.get()


def test_a_look_leaves_nothing_open_that_keeps_the_journal_from_being_shortened(
    path: Path,
) -> None:
    with journal_at(path) as journal:
        a_story(journal)
        Screen(Watched(path, ["jsonl"])).draw(80, 24)
        with closing(sqlite3.connect(path)) as connection:
            is_busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    assert not is_busy


def test_what_takes_long_to_read_is_read_seldom_but_at_once_when_another_is_asked_for() -> None:
    clock = 0
    reads = []

    def read(name: str) -> int:
        nonlocal clock
        clock += 100
        reads.append((name, clock))
        if name == "bad":
            raise JournalError("damaged")
        return clock

    seldom = Seldom(read, lambda: clock)
    assert seldom.get("a") == 100
    clock += RESTS * 100 - 1
    assert seldom.get("a") == 100
    clock += 1
    assert seldom.get("a") == clock
    assert seldom.get("b") == clock
    for _ in range(2):  # what has failed is tried again
        with pytest.raises(JournalError):
            seldom.get("bad")
    assert len(reads) == 5
