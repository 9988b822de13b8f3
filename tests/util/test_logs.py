"""What a line of the log looks like, and how often it is written."""

from __future__ import annotations

import json
import logging
import os
import re
import resource
import select
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bintrades.config.schema import LoggingConfig
from bintrades.errors import ConfigError
from bintrades.util.log_writer import FileSink, lost_lines
from bintrades.util.logs import LimitedLog, LogFormat, check_logging, set_up_logging
from bintrades.util.redaction import remember_secrets
from tests.pipes import full_pipe

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger("bintrades.of_this_test")

CHATTY = ("pymongo", "urllib3", "schedule", "websocket")


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Put the root logger back and close what the test had it write to."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []  # set_up_logging closes those that it finds
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers = handlers
    root.setLevel(level)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return where the log is to go: a folder that is not there yet."""
    return tmp_path / "log 日志" / "bintrades.log"


def flush() -> None:
    """Have everything written that was logged so far."""
    for handler in logging.getLogger().handlers:
        handler.flush()


def flushed(capfd: pytest.CaptureFixture[str]) -> Any:
    flush()
    return capfd.readouterr()


def content(file: Path) -> str:
    flush()
    return file.read_text(encoding="utf-8")


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content(file).split("\n")[:-1]]


def test_a_json_line_says_when_how_bad_who_and_what(file: Path) -> None:
    set_up_logging(LoggingConfig(format=LogFormat.JSON, file=file))

    log.info("subscribed to %d streams", 3)

    (line,) = lines(file)
    time = datetime.fromisoformat(line.pop("time"))
    assert abs(datetime.now().astimezone() - time) < timedelta(minutes=1)
    assert line == {
        "level": "INFO",
        "thread": threading.current_thread().name,
        "logger": "bintrades.of_this_test",
        "message": "subscribed to 3 streams",
    }


def test_extra_fields_stand_beside_the_message(file: Path) -> None:
    set_up_logging(LoggingConfig(format=LogFormat.JSON, file=file))

    log.warning("a bar", extra={"symbol": "BTCUSDT", "trades": 3, "nested": {"a": [1, None]}})

    (line,) = lines(file)
    assert (line["symbol"], line["trades"], line["nested"]) == (
        "BTCUSDT",
        3,
        {"a": [1, None]},
    )


@pytest.mark.parametrize("format_", LogFormat)
def test_text_beyond_ascii_is_written_as_it_is(file: Path, format_: LogFormat) -> None:
    set_up_logging(LoggingConfig(format=format_, file=file))

    log.info("the stream %s", "币安人生usdt@trade", extra={"symbol": "币安人生USDT"})

    written = content(file)
    assert "币安人生usdt@trade" in written
    assert "币安人生USDT" in written


@pytest.mark.parametrize("format_", LogFormat)
@pytest.mark.parametrize(
    "value", [Decimal("0.3"), b"\xff", {1, 2}, ValueError("why"), object(), "\udcff", "a\nb"]
)
def test_no_value_makes_logging_fail(
    file: Path, format_: LogFormat, value: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    set_up_logging(LoggingConfig(format=format_, file=file))

    log.error("with a strange field", extra={"field": value})

    assert "with a strange field" in content(file)
    assert flushed(capfd).err == ""


def test_a_json_entry_is_one_line_whatever_is_in_it(file: Path) -> None:
    set_up_logging(LoggingConfig(format=LogFormat.JSON, file=file))

    log.error("two\nlines", extra={"error": "and\r\nmore"})

    assert len(content(file).splitlines()) == 1
    assert lines(file)[0]["message"] == "two\nlines"


def test_an_exception_is_told_with_its_traceback(file: Path) -> None:
    set_up_logging(LoggingConfig(format=LogFormat.JSON, file=file))

    try:
        raise ValueError("the reason: 币")
    except ValueError:
        log.exception("it failed")

    (line,) = lines(file)
    assert line["message"] == "it failed"
    assert line["exc_info"].startswith("Traceback")
    assert line["exc_info"].endswith("ValueError: the reason: 币")


def test_text_lines_are_for_people(file: Path) -> None:
    set_up_logging(LoggingConfig(format=LogFormat.TEXT, file=file))

    log.warning("not connected", extra={"failures": 2, "error": "no route"})

    name = re.escape(threading.current_thread().name)
    assert re.fullmatch(
        rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d,\d{{3}} WARNING {name} bintrades\.of_this_test:"
        r" not connected failures=2 error=no route\n",
        content(file),
    )


def test_a_text_line_with_an_exception_is_followed_by_its_traceback(file: Path) -> None:
    set_up_logging(LoggingConfig(format=LogFormat.TEXT, file=file))

    try:
        raise ValueError("the reason")
    except ValueError:
        log.exception("it failed", extra={"symbol": "BTCUSDT"})

    first, *_, last = content(file).splitlines()
    assert first.endswith("it failed symbol=BTCUSDT")
    assert last == "    ValueError: the reason"


def test_without_a_file_the_log_goes_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    set_up_logging(LoggingConfig())

    log.info("here")

    captured = flushed(capfd)
    assert json.loads(captured.err)["message"] == "here"
    assert captured.out == ""


def test_less_severe_lines_than_configured_are_left_out(file: Path) -> None:
    set_up_logging(LoggingConfig(level="WARNING", file=file))

    log.info("not this")
    log.warning("this")

    assert [line["message"] for line in lines(file)] == ["this"]


@pytest.mark.parametrize("level", ["DEBUG", "INFO"])
def test_libraries_speak_only_of_trouble(file: Path, level: str) -> None:
    set_up_logging(LoggingConfig(level=level, file=file))

    for name in CHATTY:
        logging.getLogger(name).info("chatter")
        logging.getLogger(name).warning("trouble")

    assert [(line["logger"], line["message"]) for line in lines(file)] == [
        (name, "trouble") for name in CHATTY
    ]


def test_a_log_that_was_moved_away_is_begun_anew_under_its_name(file: Path) -> None:
    set_up_logging(LoggingConfig(file=file))
    log.info("before")
    flush()
    moved = file.with_suffix(".1")
    file.rename(moved)

    log.info("after")

    assert [line["message"] for line in lines(moved)] == ["before"]
    assert [line["message"] for line in lines(file)] == ["after"]


def test_a_large_log_is_set_aside_and_only_so_many_are_kept(file: Path) -> None:
    set_up_logging(LoggingConfig(file=file, rotate_at_bytes=2_000, keep=2))
    for number in range(100):
        log.info("line %d %s", number, "x" * 400)
    flush()

    files = sorted(file.parent.iterdir())
    assert [each.name for each in files] == [file.name, f"{file.name}.1", f"{file.name}.2"]
    assert all(each.stat().st_size < 3_000 for each in files)
    numbers = [int(line["message"].split()[1]) for each in reversed(files) for line in lines(each)]
    assert numbers == list(range(numbers[0], 100)), "no line is lost at the turn"


def test_a_log_that_nobody_keeps_begins_anew(file: Path) -> None:
    set_up_logging(LoggingConfig(file=file, rotate_at_bytes=2_000, keep=0))
    for number in range(20):
        log.info("line %d %s", number, "x" * 400)
    flush()

    assert [each.name for each in file.parent.iterdir()] == [file.name]
    assert file.stat().st_size < 3_000


def test_a_log_that_cannot_be_set_aside_grows_on(file: Path) -> None:
    file.parent.mkdir()
    (file.parent / f"{file.name}.1" / "not empty").mkdir(parents=True)
    set_up_logging(LoggingConfig(file=file, rotate_at_bytes=500, keep=1))
    for number in range(10):
        log.info("line %d %s", number, "x" * 400)
    flush()

    assert len(lines(file)) == 10


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_log_is_text_on_a_terminal_and_json_elsewhere(is_terminal: bool) -> None:
    """The real program on a real terminal, and into a pipe."""
    script = (
        "import logging\n"
        "from bintrades.config.loader import LoggingConfig\n"
        "from bintrades.util.logs import set_up_logging\n"
        "set_up_logging(LoggingConfig())\n"
        "logging.getLogger('here').info('a line')\n"
        "logging.getLogger().handlers[0].flush()\n"
    )
    ours, theirs = os.openpty() if is_terminal else os.pipe()
    subprocess.run([sys.executable, "-c", script], stderr=theirs, check=True, timeout=60)
    os.close(theirs)
    line = os.read(ours, 10_000).decode()
    os.close(ours)

    assert line.startswith('{"time"') != is_terminal
    assert "a line" in line


def test_a_log_continues_the_file_that_is_there(file: Path) -> None:
    file.parent.mkdir()
    file.write_text('{"message": "from before"}\n', encoding="utf-8")
    set_up_logging(LoggingConfig(file=file))

    log.info("from now")

    assert [line["message"] for line in lines(file)] == ["from before", "from now"]


def test_a_file_that_cannot_be_opened_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, not a folder")

    with pytest.raises(ConfigError, match=r"^\[logging\] file = .*taken.*: "):
        set_up_logging(LoggingConfig(file=tmp_path / "taken" / "bintrades.log"))
    with pytest.raises(ConfigError, match=r"Is a directory"):
        set_up_logging(LoggingConfig(file=tmp_path))


@pytest.mark.parametrize("place", ["taken/x.log", "folder", f"{'x' * 300}.log", "/proc/x/y.log"])
def test_a_check_refuses_the_files_that_the_start_would(tmp_path: Path, place: str) -> None:
    (tmp_path / "taken").write_text("a file, not a folder")
    (tmp_path / "folder").mkdir()
    config = LoggingConfig(file=tmp_path / place)

    for use in (set_up_logging, check_logging):
        with pytest.raises(
            ConfigError, match=r"^\[logging\] file = .*; allowed: a file in a folder"
        ):
            use(config)


def test_a_check_makes_and_changes_nothing(tmp_path: Path) -> None:
    there, pipe, link = tmp_path / "there.log", tmp_path / "pipe.log", tmp_path / "link.log"
    there.write_text("a line\n")
    os.mkfifo(pipe)
    link.symlink_to(tmp_path / "linked" / "x.log")
    before = sorted(tmp_path.rglob("*"))

    for file in (there, pipe, link, tmp_path / "new.log", tmp_path / "new" / "folder" / "x.log"):
        check_logging(LoggingConfig(file=file))

    assert sorted(tmp_path.rglob("*")) == before
    assert there.read_text() == "a line\n"


def test_a_check_of_a_named_pipe_is_no_end_of_the_log_for_its_reader(file: Path) -> None:
    file.parent.mkdir()
    os.mkfifo(file)
    reader = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    try:
        check_logging(LoggingConfig(file=file))

        assert not select.select([reader], [], [], 0)[0]
    finally:
        os.close(reader)


def break_the_folder(file: Path) -> None:
    """Have something else stand where the folder of the log is."""
    file.parent.rename(file.parent.with_suffix(".old"))
    file.parent.write_text("a file, not a folder")


def test_a_log_whose_folder_is_moved_away_is_begun_anew_in_a_new_one(file: Path) -> None:
    set_up_logging(LoggingConfig(file=file))
    file.parent.rename(file.parent.with_suffix(".old"))

    log.info("after")

    assert [line["message"] for line in lines(file)] == ["after"]


def test_a_log_that_cannot_be_opened_again_hurts_nobody_and_goes_on_when_it_can(
    file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    set_up_logging(LoggingConfig(file=file))
    break_the_folder(file)

    for _ in range(100):
        log.error("lost")
    flush()
    file.parent.unlink()
    log.info("after")
    log.info("and on")

    assert [line["message"] for line in lines(file)] == [
        "lines of the log were lost: 100",
        "after",
        "and on",
    ]
    (complaint,) = flushed(capfd).err.splitlines()
    assert complaint.startswith("bintrades: the log cannot be written: ")
    assert complaint.endswith("; lines left out: 1")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_one_line_on_stderr_and_not_one_for_each_of_the_log(
    capfd: pytest.CaptureFixture[str],
) -> None:
    set_up_logging(LoggingConfig(file=Path("/dev/full")))

    for _ in range(100):
        log.error("lost")

    (complaint,) = flushed(capfd).err.splitlines()
    assert "No space left on device" in complaint


def test_a_log_on_a_stderr_that_was_closed_hurts_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "stderr").open("w") as stderr:
        monkeypatch.setattr("sys.stderr", stderr)
        set_up_logging(LoggingConfig())

    log.error("nobody hears it")


@contextmanager
def unread(fifo: Path) -> Iterator[int]:
    """Make a named pipe that somebody has open to read, and does not."""
    fifo.parent.mkdir(exist_ok=True)
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        yield reader
    finally:
        os.close(reader)


def fill(fifo: Path) -> None:
    """Leave no room in a named pipe; what fills it is no part of a line."""
    writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b" ")
    os.close(writer)


def read_lines(reader: int, count: int) -> list[dict[str, Any]]:
    """Read so many lines."""
    text = b""
    while text.count(b"\n") < count:
        select.select([reader], [], [], 10)
        text += os.read(reader, 2**20)
    return [json.loads(line) for line in text.splitlines()]


def test_a_log_that_nobody_reads_delays_nobody_and_says_how_many_lines_it_lost(file: Path) -> None:
    with unread(file) as reader:
        set_up_logging(LoggingConfig(file=file))
        fill(file)
        threads = [threading.Thread(target=log_much) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
        lost = lost_lines()
        assert 1_000 < lost < 12_000

        seen = read_lines(reader, 12_000 - lost + 1)
        log.info("again")
        seen += read_lines(reader, 1)

        assert seen[-1]["message"] == "again"
        (word,) = [line for line in seen if line["logger"] == "bintrades.util.log_writer"]
        assert word["message"] == f"lines of the log were lost: {lost}"
        assert len(seen) == 12_000 - lost + 2
        assert lost_lines() == lost


def log_much() -> None:
    for number in range(6_000):
        log.info("x" * 1_000, extra={"number": number})


def test_a_named_pipe_that_nobody_has_open_is_a_configuration_error(file: Path) -> None:
    file.parent.mkdir()
    os.mkfifo(file)

    with pytest.raises(ConfigError, match=r"No such device"):
        set_up_logging(LoggingConfig(file=file))


def test_waiting_for_a_log_that_nobody_reads_is_bounded(file: Path) -> None:
    with unread(file):
        set_up_logging(LoggingConfig(file=file))
        log_much()
        began_at = time.monotonic()

        flush()

        assert 1 < time.monotonic() - began_at < 30


def test_only_its_owner_may_read_a_log_that_we_make(file: Path) -> None:
    set_up_logging(LoggingConfig(file=file))

    assert file.stat().st_mode & 0o777 == 0o600


def test_a_line_that_a_full_disk_cut_off_does_not_spoil_the_next(file: Path) -> None:
    sink = FileSink(file)
    sink.write(b"one\n")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            sink.write(b"two\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    sink.write(b"three\n")

    sink.close()
    assert file.read_bytes() == b"one\ntw\nthree\n"


def ended(code: str, file: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run Python with a log in *file* to its end."""
    setup = (
        "import logging, sys, threading, warnings\n"
        "from pathlib import Path\n"
        "from bintrades.util.logs import log_what_python_would_print, set_up_logging\n"
        "from bintrades.config.schema import LoggingConfig\n"
        "set_up_logging(LoggingConfig(file=Path(sys.argv[1]) if sys.argv[1] else None))\n"
        "log_what_python_would_print()\n"
        "log = logging.getLogger('bintrades')\n"
    )
    arguments = [sys.executable, "-c", setup + code, str(file) if file.name else ""]
    return subprocess.run(arguments, text=True, timeout=60, check=False, **options)


def test_no_line_before_the_end_of_the_process_is_lost(file: Path) -> None:
    process = ended("for number in range(5000): log.info('%d', number)", file)

    assert process.returncode == 0
    assert [line["message"] for line in lines(file)] == [str(number) for number in range(5000)]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise OSError('why')", "the collector failed"),
        ("def fail(): raise OSError('why')\nthreading.Thread(target=fail).start()", "a thread"),
        (
            "class Bad:\n    def __del__(self): raise OSError('why')\nBad()",
            "an exception was ignored",
        ),
    ],
)
def test_the_trace_of_what_nobody_caught_is_in_the_log(file: Path, code: str, message: str) -> None:
    process = ended(code, file, stderr=subprocess.PIPE)

    (line,) = lines(file)
    assert line["message"].startswith(message)
    assert line["exc_info"].endswith("OSError: why")
    assert process.stderr == ""


def test_warnings_are_in_the_log(file: Path) -> None:
    ended("warnings.warn('old-fashioned')", file)

    (line,) = lines(file)
    assert "old-fashioned" in line["message"]


def test_a_process_whose_stderr_nobody_reads_ends_in_time_with_its_status() -> None:
    began_at = time.monotonic()

    with full_pipe() as writer:
        process = ended("log.info('x' * 100_000); sys.exit(3)", Path(), stderr=writer)

    assert process.returncode == 3
    assert time.monotonic() - began_at < 30


def test_a_value_that_is_long_in_telling_itself_delays_only_who_logs_it(file: Path) -> None:
    set_up_logging(LoggingConfig(file=file))
    is_asked, may_tell = threading.Event(), threading.Event()

    class Slow:
        def __str__(self) -> str:
            is_asked.set()
            may_tell.wait(60)
            return "slow"

    slow = threading.Thread(target=lambda: log.info("%s", Slow()))
    slow.start()
    assert is_asked.wait(60)

    log.info("quick")

    assert [line["message"] for line in lines(file)] == ["quick"]
    may_tell.set()
    slow.join(60)
    assert [line["message"] for line in lines(file)] == ["quick", "slow"]


def test_what_was_opened_in_the_place_of_a_closed_stderr_is_no_log(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "mine = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "assert mine == 2 and sys.stderr is None, mine\n"
        "import logging\n"
        "from bintrades.util.logs import set_up_logging\n"
        "from bintrades.config.schema import LoggingConfig\n"
        "set_up_logging(LoggingConfig())\n"
        "logging.error('not into this file')\n"
    )
    file = tmp_path / "file"
    command = 'exec "$0" -c "$1" "$2" 2>&-'

    subprocess.run(["sh", "-c", command, sys.executable, code, str(file)], check=True, timeout=60)

    assert file.read_bytes() == b""


FORGED = "x\r\n2026-11-27 00:00:00,000 INFO    main bintrades: stopped\x1b[2J\x9b2J\u2028\x7f"


def test_no_text_of_others_begins_a_line_or_moves_the_cursor(file: Path) -> None:
    set_up_logging(LoggingConfig(format=LogFormat.TEXT, file=file))

    try:
        raise ValueError(FORGED)
    except ValueError:
        log.exception(FORGED, extra={"error": FORGED, "list": [FORGED]})

    written = content(file)
    assert written.replace("\n", "").isprintable()
    assert len([line for line in written.split("\n") if line[:1].strip()]) == 1
    assert "\\x1b[2J" in written


def test_no_text_of_others_moves_the_cursor_in_json(file: Path) -> None:
    set_up_logging(LoggingConfig(file=file))

    log.error(FORGED, extra={"error": [FORGED + "\U000e0001"]})

    written = content(file)
    assert written.replace("\n", "", 1).isprintable()
    (line,) = lines(file)
    assert line["message"] == FORGED
    assert line["error"] == [FORGED + "\U000e0001"]


@pytest.mark.parametrize("format_", LogFormat)
def test_no_secret_is_in_the_log(file: Path, format_: LogFormat) -> None:
    hidden = "qq\"d'qq\\qq/wörd"
    remember_secrets([hidden])
    try:
        set_up_logging(LoggingConfig(format=format_, file=file))
        try:
            raise OSError(f"connection to postgres://me:{hidden}@db failed: {hidden!r}")
        except OSError as error:
            log.exception("no %s", hidden, extra={"error": error, "dsn": {"a": [hidden]}})
        log.error("mongodb://bob:zzz@db, host=db password=zzz")
        written = content(file)
    finally:
        remember_secrets([])

    for part in ("qq", "rd'", "bob", "zzz"):
        assert part not in written
    assert written.count("***") >= 5


@pytest.mark.parametrize(
    ("format_", "shown"),
    [(LogFormat.JSON, '"event": "store_failed"'), (LogFormat.TEXT, "event=store_failed")],
)
def test_the_event_stays_constant_whatever_is_secret(
    file: Path, format_: LogFormat, shown: str
) -> None:
    remember_secrets(["store"])
    try:
        set_up_logging(LoggingConfig(format=format_, file=file))
        log.error("no store", extra={"event": "store_failed", "error": "store"})
        written = content(file)
    finally:
        remember_secrets([])

    assert shown in written
    assert written.count("store") == 1


class Clock:
    """A clock that stands where it is put."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return a clock for a LimitedLog."""
    return Clock()


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int]]:
    """Return the event of each line, and how many were suppressed before it."""
    lines = [vars(record) for record in caplog.records]
    assert all(line["suppressed"] == line["untold"] for line in lines)
    return [(line["event"], line["suppressed"]) for line in lines]


def test_of_many_like_events_the_first_is_logged_and_then_one_a_while_with_the_number_left_out(
    caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    limited = LimitedLog(log, every_s=10, clock=clock)

    for clock.now in (0, 0.1, 9.9, 10, 10.1, 25, 40):
        limited.warning("tested", "again")

    assert logged(caplog) == [("tested", 0), ("tested", 2), ("tested", 1), ("tested", 0)]
    assert all(record.levelno == logging.WARNING for record in caplog.records)
    assert {record.getMessage() for record in caplog.records} == {"again"}


def test_events_of_another_kind_are_logged_at_once(
    caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    limited = LimitedLog(log, clock=clock)

    limited.warning("first_tested", "one", symbol="BTCUSDT")
    limited.warning("first_tested", "one", symbol="ETHUSDT")
    limited.warning("second_tested", "other")

    assert logged(caplog) == [("first_tested", 0), ("second_tested", 0)]
    assert vars(caplog.records[0])["symbol"] == "BTCUSDT"


def test_an_event_in_a_loop_is_logged_a_few_times_only(
    caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    limited = LimitedLog(log, clock=clock)

    for tick in range(60_000):
        clock.now = tick / 1_000
        limited.warning("tested", "bad message")

    assert len(caplog.records) == 6
    assert sum(suppressed for _, suppressed in logged(caplog)) == 50_001 - 6


@pytest.mark.parametrize(
    ("format_", "shown"),
    [
        (LogFormat.JSON, '"message": "again", "event": "tested", "symbol"'),
        (LogFormat.TEXT, "again event=tested s"),
    ],
)
def test_the_event_stands_beside_the_message(file: Path, format_: LogFormat, shown: str) -> None:
    set_up_logging(LoggingConfig(format=format_, file=file))

    LimitedLog(log).warning("tested", "again", symbol="BTCUSDT")
    log.warning("again", extra={"event": "tested", "symbol": "BTCUSDT"})

    assert [shown in line for line in content(file).splitlines()] == [True, True]
