"""The name of each log line: constant, one for each meaning, and documented."""

from __future__ import annotations

import ast
import functools
import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PAGE = REPOSITORY / "docs" / "log_events.md"

SOURCES = [*REPOSITORY.glob("bintrades/**/*.py"), *REPOSITORY.glob("plugins/*.py")]
LEVELS = {
    "debug": "debug",
    "info": "info",
    "warning": "warning",
    "error": "error",
    "exception": "error",
    "critical": "critical",
}


class Line(NamedTuple):
    """A call that logs, by its place; without an event where there is none that is constant."""

    file: str
    number: int
    level: str
    event: str | None


def log_lines(path: Path) -> list[Line]:
    """Return the calls that log in a file: those of `log`, and of a LimitedLog named `limited`."""
    lines = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            logger = ast.unparse(node.func.value)
            if node.func.attr in LEVELS and re.fullmatch(r"log|(self\._)?limited", logger):
                event = event_of(node) if logger == "log" else constant(node.args[0])
                level = LEVELS[node.func.attr]
                lines.append(Line(str(path.relative_to(REPOSITORY)), node.lineno, level, event))
    return lines


def event_of(call: ast.Call) -> str | None:
    """Return the event of log.info("...", extra={"event": "...", ...}); it comes first."""
    for keyword in call.keywords:
        if keyword.arg == "extra" and isinstance(keyword.value, ast.Dict):
            first, value = keyword.value.keys[0], keyword.value.values[0]
            return constant(value) if first and constant(first) == "event" else None
    return None


def constant(node: ast.expr) -> str | None:
    """Return the text that is written there as it is."""
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return str(ast.literal_eval(node)) if is_text else None


@functools.cache
def all_lines() -> list[Line]:
    """Return every line that the program can log."""
    return [line for path in SOURCES for line in log_lines(path)]


def documented() -> dict[str, str]:
    """Return the level of each event in the table, in its order."""
    rows = re.findall(r"^\| `([^`]+)` \| (\w+) \| .+ \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert len(rows) == len(dict(rows)), "an event stands there twice"
    return dict(rows)


def test_every_log_line_has_an_event() -> None:
    assert [f"{line.file}:{line.number}" for line in all_lines() if line.event is None] == []


def test_an_event_is_a_word_in_snake_case_with_one_meaning() -> None:
    places = defaultdict(set)
    for line in all_lines():
        if line.event is not None:
            assert re.fullmatch(r"[a-z]+(_[a-z]+)*", line.event), line
            places[line.event].add((line.file, line.level))

    assert {event: places for event, places in places.items() if len(places) > 1} == {}


def test_the_table_has_each_event_with_its_level_and_no_other() -> None:
    used = {line.event: line.level for line in all_lines() if line.event is not None}
    used["log_lines_lost"] = "warning"  # written past the logger

    assert documented() == used
    assert list(documented()) == sorted(documented())


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_logger_has_a_name_by_which_these_tests_find_its_lines(path: Path) -> None:
    source = path.read_text("utf-8")

    loggers = re.findall(r"(\S+) = logging\.getLogger\(.*\)$", source, re.MULTILINE)
    limited = re.findall(r"(\S+) = LimitedLog\(", source)
    assert set(loggers) <= {"log"}
    assert set(limited) <= {"self._limited", "limited"}
    assert not re.search(r"\bprint\(.*file=sys\.stderr", source) or "/cli/" in str(path)
    assert not re.search(r"\blogging\.(debug|info|warning|error|critical|exception)\(", source)
