"""The manual page is of all that the commands have, and one that its readers understand."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from bintrades.cli import main
from bintrades.cli.dispatch import COMMANDS, whole_parser
from bintrades.version import __version__

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def page(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what `bintrades man` prints."""
    assert main(["man"]) == 0
    return capsys.readouterr().out


def test_it_has_each_command_and_each_option(page: str) -> None:
    plain = re.sub(r"\\f[BIR]|\\[,/]", "", page).replace(r"\-", "-")

    assert re.match(rf'\.TH BINTRADES "1" ".*" "bintrades {re.escape(__version__)}"', plain)
    assert re.findall(r"^\.SS bintrades (\w+)$", plain, re.MULTILINE) == list(COMMANDS)
    (commands,) = [each for each in whole_parser()._actions if each.dest == "name"]
    assert isinstance(commands.choices, dict)
    for name, command in commands.choices.items():
        section = plain.partition(f".SS bintrades {name}\n")[2].partition("\n.SS ")[0]
        options = [name for each in command._actions for name in each.option_strings]
        for option in set(options) - {"-h", "--help"}:
            assert re.search(rf"^{option}\b", section, re.MULTILINE), (name, option)


def test_it_is_the_same_whatever_the_window_and_on_the_day_that_a_packager_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    pages = []
    for columns in ("40", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        assert main(["man"]) == 0
        pages.append(capsys.readouterr().out)

    assert pages[0] == pages[1]
    assert '"1970-01-02"' in pages[0].partition("\n")[0]


@pytest.mark.parametrize(
    ("command", "package"),
    [
        (["man", "--warnings", "-l"], "man-db"),
        (["groff", "-man", "-ww", "-z"], "groff"),
        (["mandoc", "-T", "lint", "-W", "warning"], "mandoc"),
    ],
)
def test_no_reader_complains_of_it(
    page: str, tmp_path: Path, command: list[str], package: str
) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}, as of Debian's package {package}")
    (tmp_path / "bintrades.1").write_text(page, encoding="utf-8")

    ended = subprocess.run(
        [*command, tmp_path / "bintrades.1"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.stderr == ""
    assert ended.returncode == 0, ended.stdout
    if command[0] == "man":
        assert "show it, and all symbols" in " ".join(ended.stdout.split())
