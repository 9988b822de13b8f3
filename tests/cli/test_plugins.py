"""`bintrades plugins`: what there is, where it comes from, what it needs, and its options."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bintrades.version import __version__

REPOSITORY = Path(__file__).resolve().parents[2]
INI = """\
[stores]
enabled = archive, mongodb, shelf

[store:archive]
plugin = mongodb
database = years

[store:shelf]
path = bars.db
"""
SHELF = """\
from bintrades import Option, hookimpl, option_types, require_library

print("what a plugin prints is not in the way")

class Store:
    OPTIONS = (
        Option("path", "", "the file of the bars", option_types.path()),
        Option("pin", "", "lets us in", is_secret=True),
    )

    @hookimpl
    def check_store(self, options):
        require_library("json", extra="shelf")
        require_library("no_such_module", package="no-such-package", extra="shelf")

    @hookimpl
    def store_bars(self, bars): pass
"""
SILENT = """\
from bintrades import hookimpl

@hookimpl
def check_store(options):
    raise KeyboardInterrupt

@hookimpl
def store_bars(bars): pass
"""
RUN = "open('it was run', 'w').close()\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a configuration with plugins of every kind."""
    (tmp_path / "bintrades.ini").write_text(INI, encoding="utf-8")
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    for name, code in {
        "shelf": SHELF,
        "silent": SILENT,
        "broken": "1 / 0\n",
        "anybodys": RUN,
        "mongodb": SILENT,
    }.items():
        (plugins / f"{name}.py").write_text(code, encoding="utf-8")
    (plugins / "anybodys.py").chmod(0o666)
    return tmp_path


def said(folder: Path, *words: str) -> str:
    """Return what the command prints in an empty folder."""
    (folder / "elsewhere").mkdir(exist_ok=True)
    ended = subprocess.run(
        [sys.executable, "-m", "bintrades", "plugins", *words],
        cwd=folder / "elsewhere",
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stdout


def found(folder: Path, *words: str) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in json.loads(said(folder, "--json", *words))}


def test_every_plugin_is_listed_with_where_it_comes_from_and_as_which_store(folder: Path) -> None:
    plugins = found(folder, "--config", "../bintrades.ini")

    assert list(plugins) == sorted(plugins)
    assert {"anybodys", "broken", "jsonl", "mongodb", "shelf", "silent"} <= set(plugins)
    assert plugins["mongodb"]["stores"] == ["archive", "mongodb"]
    assert plugins["mongodb"]["file"] == str(folder / "plugins" / "mongodb.py")
    assert plugins["mongodb"]["instead_of"] == "bintrades.stores.mongodb"
    assert plugins["shelf"]["is_enabled"]
    assert not plugins["silent"]["is_enabled"]
    jsonl = plugins["jsonl"]
    assert (jsonl["package"], jsonl["version"]) == ("bintrades", __version__)
    assert (jsonl["module"], jsonl["file"]) == ("bintrades_plugins.jsonl", None)


def test_options_and_libraries_of_each_are_told_without_the_libraries(folder: Path) -> None:
    shelf = found(folder, "--config", "../bintrades.ini")["shelf"]

    assert shelf["problems"] == []
    assert [each["package"] for each in shelf["libraries"]] == ["json", "no-such-package"]
    assert [each["is_installed"] for each in shelf["libraries"]] == [True, False]
    assert "install no-such-package" in shelf["libraries"][1]["install"]
    path, pin = shelf["options"]
    assert path == {
        "name": "path",
        "default": "",
        "meaning": "the file of the bars",
        "allowed": "a path, relative to the configuration's folder",
        "is_secret": False,
        "must_be_given": True,
    }
    assert (pin["is_secret"], pin["must_be_given"]) == (True, False)


def test_what_cannot_be_used_is_listed_with_the_reason(folder: Path) -> None:
    (folder / "bintrades.ini").write_text("[stores]\nenabled = shlf\n", encoding="utf-8")
    plugins = found(folder, "--config", "../bintrades.ini")

    assert "ZeroDivisionError" in plugins["broken"]["problems"][0]
    assert "there is no plugin 'shlf'; did you mean 'shelf'?" in plugins["shlf"]["problems"][0]
    assert plugins["shlf"]["is_enabled"]
    assert plugins["silent"]["problems"] == []
    assert plugins["silent"]["options"] is None


def test_code_that_everybody_may_change_is_listed_and_not_run(folder: Path) -> None:
    anybodys = found(folder, "--config", "../bintrades.ini")["anybodys"]

    assert "is not run: everybody may change" in anybodys["problems"][0]
    assert list(folder.rglob("it was run")) == []


def test_people_read_the_same(folder: Path) -> None:
    text = said(folder, "--config", "../bintrades.ini")

    assert "\nmongodb: enabled\n" in text
    assert "\n  stores   archive, mongodb\n" in text
    assert "\nbroken: cannot be used\n" in text
    assert "\nsilent: not enabled\n" in text
    assert "\n  options  it does not say which it has\n" in text
    assert "\n  needs    no-such-package, which is not installed: " in text
    assert "\n  option   path, which must be given\n" in text
    assert f"\n  from     bintrades {__version__} (bintrades_plugins.jsonl)\n" in text
    assert "in the way" not in text


def test_without_a_configuration_all_are_listed_and_none_is_enabled(folder: Path) -> None:
    plugins = found(folder)

    assert {"jsonl", "mongodb"} <= set(plugins)
    assert not [name for name, each in plugins.items() if each["is_enabled"]]
