"""Every command that a page, an alert or a message tells people to type is understood."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import pytest

from bintrades.cli.dispatch import COMMANDS, whole_parser
from tests.checkout import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
IN_TEXT = re.compile(r"`(?:\.venv/bin/)?bintrades ([a-z][^`\n]*)`")
IN_BLOCK = re.compile(r"^(?:\$ )?(?:\.venv/bin/)?bintrades ([a-z].*)$", re.MULTILINE)
ANNOTATIONS = re.compile(r"^ +(?:summary|description): (.*)$", re.MULTILINE)
STANDS_FOR = {
    "TIME": "1h",
    "SYMBOL": "BTCUSDT",
    "STORE": "mongodb",
    "NAME": "mongodb",
    "MARKET": "usdm",
    "FILE": "some.file",
    "N": "5",
    "SECONDS": "5",
}
ALERTS = REPOSITORY / "etc" / "alerts.yml"
FILES = [
    *sorted(REPOSITORY.glob("*.md")),
    *sorted((REPOSITORY / "docs").glob("*.md")),
    *sorted(path for path in (REPOSITORY / "etc").rglob("*") if path.is_file()),
    *sorted((REPOSITORY / "bintrades").rglob("*.py")),
]
"""Where commands are named, the messages of the program included."""


def named(text: str) -> Iterator[str]:
    """Yield the commands that *text* names, without `bintrades` itself."""
    yield from IN_TEXT.findall(BLOCK.sub("", text))
    for block in BLOCK.findall(text):
        yield from IN_BLOCK.findall(block)


def words_of(command: str) -> list[str]:
    """Return what somebody would type for *command*: of alternatives the first, all that may be."""
    command = re.sub(r"( *\\\||(?<=\S)\|) *[^\]\s\\|]+", "", command)
    command = re.split(r" [|>#] ?", command)[0]
    words = shlex.split(re.sub(r"[\[\]]|\.\.\.", " ", command))
    return [STANDS_FOR.get(word, word) for word in words]


def is_understood(command: str) -> bool:
    name, *options = words_of(command)
    if not options:  # it is spoken of, with whatever it needs
        return name in COMMANDS
    try:
        whole_parser().parse_args([name, *options])
    except SystemExit as end:
        return end.code == 0
    return True


THERE = [(path, each) for path in FILES for each in named(path.read_text(encoding="utf-8"))]


def test_commands_are_named_where_they_are_looked_for() -> None:
    kinds = {path.suffix for path, _ in THERE}

    assert kinds >= {".md", ".yml", ".py"}


@pytest.mark.parametrize("command", sorted({command for _, command in THERE}))
def test_every_command_that_is_named_is_understood(command: str) -> None:
    files = {str(path.relative_to(REPOSITORY)) for path, each in THERE if each == command}

    assert is_understood(command), f"in {', '.join(sorted(files))}"


def test_what_is_no_command_is_noticed() -> None:
    assert is_understood("gaps BTCUSDT")
    assert is_understood(r"status [--json \| --check \| --watch]")
    assert not is_understood("gaps --all")
    assert not is_understood("holes")


def test_every_alert_that_names_a_command_has_it_in_back_ticks() -> None:
    for text in ANNOTATIONS.findall(ALERTS.read_text(encoding="utf-8")):
        assert "bintrades " not in re.sub(r"`[^`]*`", "", text), text
