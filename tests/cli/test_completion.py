"""What shells complete, asked of the shells themselves."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from bintrades.cli import main
from bintrades.core.write_batch import WriteBatch
from bintrades.model.symbol_record import SymbolRecord
from bintrades.testing.bars import OPEN_TIME_MS
from tests.checkout import REPOSITORY
from tests.journals import journal_at
from tests.terminals import window

if TYPE_CHECKING:
    from pathlib import Path

SYMBOLS = ("BTCUSDT", "ETHUSDT", "ETHBTC", "币安人生USDT")
HOSTILE = "$(touch${IFS}bad)"
"""What would make a file if a shell expanded it."""

TYPED = {
    "bintrades stat\t": "bintrades status",
    "bintrades status --wa\t": "bintrades status --watch",
    "bintrades bars ETHBTC --format j\t": "--format json",
    "bintrades check --config other.i\t": "--config other.ini",
    "bintrades bars BT\t": "bintrades bars BTCUSDT",
    "bintrades gaps --config other.ini X\t": "--config other.ini XRPUSDT",
    "bintrades verify ETHU\t": "bintrades verify ETHUSDT",
    "bintrades completion f\t": "bintrades completion fish",
}
"""What is typed, and what a shell makes of it."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return where a user is: with a program, the usual configuration, and another one."""
    folder = tmp_path / "home"
    (folder / "etc").mkdir(parents=True)
    (folder / "bin").mkdir()
    program = folder / "bin" / "bintrades"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bintrades "$@"\n')
    program.chmod(0o700)
    for config, name, symbols in (
        ("etc/bintrades.ini", "usual", (*SYMBOLS, HOSTILE)),
        ("other.ini", "other", ("XRPUSDT",)),
    ):
        (folder / config).write_text(f"[journal]\npath = {name}.journal\n[stores]\nenabled =\n")
        records = {symbol: SymbolRecord(OPEN_TIME_MS, "*") for symbol in symbols}
        with journal_at(folder / f"{name}.journal") as journal:
            journal.write(WriteBatch(symbols=records), OPEN_TIME_MS)
    return folder


def environ(folder: Path) -> dict[str, str]:
    """Return the variables of a shell that finds the program."""
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    return {"PATH": path, "HOME": str(folder), "PYTHONPATH": str(REPOSITORY), "LANG": "C.UTF-8"}


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what is printed for a shell."""
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


def must_have(shell: str) -> str:
    """Return the path of a shell; skip the test where there is none."""
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"needs {shell}, as of Debian's package {shell}")
    return path


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_completes_what_is_typed(
    shell: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [must_have(shell), *{"bash": ["--norc", "--noprofile"], "zsh": ["-f"]}[shell], "-i"]
    (folder / "completions").mkdir()
    (folder / "completions" / "_bintrades").write_text(script(shell, capsys), encoding="utf-8")
    setup = {
        "bash": "source completions/_bintrades; PS1='ready> '\n",
        "zsh": "fpath=($HOME/completions $fpath); autoload -Uz compinit; compinit -D -u;"
        " setopt no_beep; PS1='ready> '\n",
    }[shell]
    with window(command, 100, 50, **environ(folder)) as shown:
        shown.press(f"cd {folder}; {setup}")
        shown.until(lambda: "ready>" in [line.rstrip() for line in shown.lines])
        for typed, becomes in TYPED.items():
            shown.press(typed)
            shown.wait(f"ready> {becomes}" if becomes.startswith("bintrades") else becomes)
            shown.press("\x15\r")  # another line, empty
            shown.until(lambda: [each for each in shown.lines if each][-1] == "ready>")
        shown.press("bintrades bars ETH\t\t")
        shown.wait("ETHBTC ")
        shown.press("\x15\rbintrades bars \t\t")
        shown.wait("币安人生USDT")

    assert not list(folder.rglob("bad"))


def test_fish_completes_what_is_typed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [must_have("fish"), "--no-config", "-c"]
    asked = [f'complete -C "{typed.rstrip()}"' for typed in TYPED]
    lines = [script("fish", capsys), *(f"{each}; echo ---" for each in asked)]
    ended = subprocess.run(
        [*command, "\n".join(lines)],
        cwd=folder,
        env=environ(folder),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )

    answers = [answer.split("\n") for answer in ended.stdout.split("---\n")]
    for becomes, answer in zip(TYPED.values(), answers, strict=False):
        assert becomes.split(" ")[-1] in [line.partition("\t")[0] for line in answer]
    assert not list(folder.rglob("bad"))


@pytest.mark.parametrize("name", ["completion", "man"])
def test_without_the_extra_it_is_said_what_to_install(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("shtab", "argparse_manpage", "argparse_manpage.manpage"):
        monkeypatch.setitem(sys.modules, package, None)

    assert main([name, *(["bash"] if name == "completion" else [])]) == 1

    said = capsys.readouterr()
    package = {"completion": "shtab", "man": "argparse-manpage"}[name]
    assert said.out == ""
    needs = rf"bintrades: {name} needs {package}, .*'bintrades\[terminal\]'\n"
    assert re.fullmatch(needs, said.err)


def test_a_shell_that_is_not_known_is_refused_with_those_that_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["completion", "ksh"])

    assert ended.value.code == 2
    assert re.search(r"'?bash'?, '?zsh'?, '?fish'?", capsys.readouterr().err)
