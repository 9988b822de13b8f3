"""The example of a package with a plugin: built, installed, tested and used as its author would."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tomllib
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

from bintrades.testing.exchange_simulator import ExchangeSimulator
from bintrades.version import __version__
from tests.checkout import REPOSITORY, add_environment
from tests.end_to_end.collector import Collector

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLE = REPOSITORY / "plugins" / "example_package"
MADE = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", "dist")
START_MS = 1_720_000_000_000


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the example, beside whose files nothing was made yet."""
    folder = tmp_path_factory.mktemp("author") / "bintrades-sqlite"
    shutil.copytree(EXAMPLE, folder, ignore=MADE)
    return folder


@pytest.fixture(scope="module")
def python(package: Path) -> str:
    """Return the Python of an environment that has bintrades, and the package's wheel."""
    return installed(package)


def installed(package: Path) -> str:
    """Return the Python of an environment beside *package*, with its wheel in it."""
    run(sys.executable, "-m", "build", "--no-isolation", ".", cwd=package)
    (wheel,) = (package / "dist").glob("*.whl")
    environment = package.parent / "environment"
    add_environment(environment)
    python = str(environment / "bin" / "python")
    install = ("install", "--no-index", "--no-deps", "--quiet", wheel)
    run(sys.executable, "-m", "pip", "--python", python, *install, cwd=package)
    return python


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command that is to succeed; return what it prints."""
    ended = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_the_package_passes_its_tests_which_are_the_contract(package: Path, python: str) -> None:
    said = run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=package)

    found = re.search(r"(\d+) passed", said)
    assert found, said
    assert int(found[1]) > 20, said


def test_a_copy_that_is_renamed_as_the_page_says_passes_its_tests(tmp_path: Path) -> None:
    package = tmp_path / "bintrades-shelf"
    shutil.copytree(EXAMPLE, package, ignore=MADE)
    (package / "src" / "bintrades_sqlite").rename(package / "src" / "bintrades_shelf")
    for file, was, is_now in (
        ("pyproject.toml", 'name = "bintrades-sqlite"', 'name = "bintrades-shelf"'),
        ("pyproject.toml", 'sqlite = "bintrades_sqlite"', 'shelf = "bintrades_shelf"'),
        ("tests/test_sqlite.py", 'name = "sqlite"', 'name = "shelf"'),
    ):
        text = (package / file).read_text(encoding="utf-8")
        assert text.count(was) == 1
        (package / file).write_text(text.replace(was, is_now), encoding="utf-8")

    said = run(installed(package), "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=package)

    assert re.search(r"\d\d passed", said), said


def test_the_package_names_this_version_and_an_end_as_authors_are_told_to() -> None:
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (needed,) = map(Requirement, project["dependencies"])

    assert needed.name == "bintrades"
    assert __version__ in needed.specifier
    assert {"<", ">="} == {bound.operator for bound in needed.specifier}


def test_the_plugin_of_the_package_is_listed_and_a_typo_in_its_section_gets_a_suggestion(
    python: str, tmp_path: Path
) -> None:
    ini = tmp_path / "bintrades.ini"
    ini.write_text("[stores]\nenabled = sqlite\n[store:sqlite]\npth = x\n", encoding="utf-8")
    listed = run(python, "-m", "bintrades", "plugins", "--json", "--config", ini, cwd=tmp_path)
    check = [python, "-m", "bintrades", "check", "--config", str(ini)]
    environ = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    checked = subprocess.run(check, env=environ, capture_output=True, text=True, check=False)

    (sqlite,) = (each for each in json.loads(listed) if each["name"] == "sqlite")
    assert (sqlite["package"], sqlite["version"]) == ("bintrades-sqlite", "1.0.0")
    assert sqlite["module"] == "bintrades_sqlite"
    assert sqlite["stores"] == ["sqlite"]
    assert [option["name"] for option in sqlite["options"]] == ["path"]
    assert checked.returncode == 1
    assert "[store:sqlite] pth: unknown option; did you mean 'path'?" in checked.stderr


def test_a_collector_stores_into_it(python: str, tmp_path: Path) -> None:
    file = tmp_path / "var" / "bars.sqlite"
    stores = {"stores": {"enabled": "sqlite"}, "store:sqlite": {"path": "var/bars.sqlite"}}
    with (
        ExchangeSimulator() as exchange,
        Collector(tmp_path, exchange, stores, python=python) as collector,
    ):
        collector.start()
        exchange.wait_for_subscription("btcusdt@trade")
        for interval in range(3):
            time_ms = START_MS + 10_000 * interval
            exchange.publish("BTCUSDT", "60000.1", "0.5", time_ms=time_ms)
        collector.wait_for_trades(3)
        assert collector.stop() == 0

    with closing(sqlite3.connect(file)) as connection:
        stored = [json.loads(bar) for (bar,) in connection.execute("SELECT bar FROM bars")]
    assert [bar["trade_count"] for bar in stored] == [1, 1, 1]
    assert {bar["value"] for bar in stored} == {"30000.05"}
