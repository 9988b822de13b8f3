"""What a line of the log looks like, and how often it is written."""

from __future__ import annotations

import json
import logging
import re
import threading
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bintrades.errors import ConfigError
from bintrades.logs import LimitedLog, set_up_logging
from bintrades.options import LoggingConfig

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


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_a_json_line_says_when_how_bad_who_and_what(file: Path) -> None:
    set_up_logging(LoggingConfig(format="json", file=file))

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
    set_up_logging(LoggingConfig(format="json", file=file))

    log.warning("a bar", extra={"symbol": "BTCUSDT", "trades": 3, "nested": {"a": [1, None]}})

    (line,) = lines(file)
    assert (line["symbol"], line["trades"], line["nested"]) == (
        "BTCUSDT",
        3,
        {"a": [1, None]},
    )


@pytest.mark.parametrize("format_", ["json", "text"])
def test_text_beyond_ascii_is_written_as_it_is(file: Path, format_: str) -> None:
    set_up_logging(LoggingConfig(format=format_, file=file))

    log.info("the stream %s", "币安人生usdt@trade", extra={"symbol": "币安人生USDT"})

    written = file.read_text(encoding="utf-8")
    assert "币安人生usdt@trade" in written
    assert "币安人生USDT" in written


@pytest.mark.parametrize("format_", ["json", "text"])
@pytest.mark.parametrize(
    "value", [Decimal("0.3"), b"\xff", {1, 2}, ValueError("why"), object(), "\udcff", "a\nb"]
)
def test_no_value_makes_logging_fail(
    file: Path, format_: str, value: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_logging(LoggingConfig(format=format_, file=file))

    log.error("with a strange field", extra={"field": value})

    assert "with a strange field" in file.read_text(encoding="utf-8")
    assert capsys.readouterr().err == ""


def test_a_json_entry_is_one_line_whatever_is_in_it(file: Path) -> None:
    set_up_logging(LoggingConfig(format="json", file=file))

    log.error("two\nlines", extra={"error": "and\r\nmore"})

    assert len(file.read_text(encoding="utf-8").splitlines()) == 1
    assert lines(file)[0]["message"] == "two\nlines"


def test_an_exception_is_told_with_its_traceback(file: Path) -> None:
    set_up_logging(LoggingConfig(format="json", file=file))

    try:
        raise ValueError("the reason: 币")
    except ValueError:
        log.exception("it failed")

    (line,) = lines(file)
    assert line["message"] == "it failed"
    assert line["exc_info"].startswith("Traceback")
    assert line["exc_info"].endswith("ValueError: the reason: 币")


def test_text_lines_are_for_people(file: Path) -> None:
    set_up_logging(LoggingConfig(format="text", file=file))

    log.warning("not connected", extra={"failures": 2, "error": "no route"})

    name = re.escape(threading.current_thread().name)
    assert re.fullmatch(
        rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d,\d{{3}} WARNING {name} bintrades\.of_this_test:"
        r" not connected failures=2 error=no route\n",
        file.read_text(encoding="utf-8"),
    )


def test_a_text_line_with_an_exception_is_followed_by_its_traceback(file: Path) -> None:
    set_up_logging(LoggingConfig(format="text", file=file))

    try:
        raise ValueError("the reason")
    except ValueError:
        log.exception("it failed", extra={"symbol": "BTCUSDT"})

    first, *_, last = file.read_text(encoding="utf-8").splitlines()
    assert first.endswith("it failed symbol=BTCUSDT")
    assert last == "ValueError: the reason"


def test_without_a_file_the_log_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(LoggingConfig())

    log.info("here")

    captured = capsys.readouterr()
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
    moved = file.with_suffix(".1")
    file.rename(moved)

    log.info("after")

    assert [line["message"] for line in lines(moved)] == ["before"]
    assert [line["message"] for line in lines(file)] == ["after"]


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
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_logging(LoggingConfig(file=file))
    break_the_folder(file)

    for _ in range(100):
        log.error("lost")
    file.parent.unlink()
    log.info("after")
    log.info("and on")

    assert [line["message"] for line in lines(file)] == ["after", "and on"]
    (complaint,) = capsys.readouterr().err.splitlines()
    assert complaint.startswith("bintrades: the log cannot be written: ")
    assert complaint.endswith("; lines left out: 1")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_one_line_on_stderr_and_not_one_for_each_of_the_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_up_logging(LoggingConfig(file=Path("/dev/full")))

    for _ in range(100):
        log.error("lost")

    (complaint,) = capsys.readouterr().err.splitlines()
    assert "No space left on device" in complaint


def test_a_log_on_a_stderr_that_was_closed_hurts_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "stderr").open("w") as stderr:
        monkeypatch.setattr("sys.stderr", stderr)
        set_up_logging(LoggingConfig())

    log.error("nobody hears it")


class Clock:
    """A clock that stands where it is put."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return a clock for a LimitedLog."""
    return Clock()


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int]]:
    """Return each line with the number of those that were left out before it."""
    return [(record.getMessage(), vars(record)["untold"]) for record in caplog.records]


def test_of_many_like_events_the_first_is_told_and_then_one_a_while_with_the_number_left_out(
    caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    limited = LimitedLog(log, every_s=10, clock=clock)

    for clock.now in (0, 0.1, 9.9, 10, 10.1, 25, 40):
        limited.warning("again")

    assert told(caplog) == [("again", 0), ("again", 2), ("again", 1), ("again", 0)]
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def test_events_of_another_kind_are_told_at_once(
    caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    limited = LimitedLog(log, clock=clock)

    limited.warning("one", symbol="BTCUSDT")
    limited.warning("one", symbol="ETHUSDT")
    limited.warning("other")

    assert told(caplog) == [("one", 0), ("other", 0)]
    assert vars(caplog.records[0])["symbol"] == "BTCUSDT"


def test_an_event_in_a_loop_is_told_a_few_times_only(
    caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    limited = LimitedLog(log, clock=clock)

    for tick in range(60_000):
        clock.now = tick / 1_000
        limited.warning("bad message")

    assert len(caplog.records) == 6
    assert sum(untold for _, untold in told(caplog)) == 50_001 - 6
