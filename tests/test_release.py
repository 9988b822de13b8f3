"""What is published, made for real: a source distribution, and of that a wheel that works alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

from bintrades.config.example import example_text
from bintrades.config.loader import load_config
from bintrades.stores.built_in import SHIPPED
from bintrades.version import __version__
from tests.checkout import REPOSITORY
from tests.wheels import find_uv, uv_without_a_network

if TYPE_CHECKING:
    from pathlib import Path

NOT_PUBLISHED = {".ci/run"}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the distributions of a copy without anything that was made in it."""
    checkout = tmp_path_factory.mktemp("release") / "bintrades"
    made = (REPOSITORY / ".gitignore").read_text(encoding="utf-8").replace("/\n", "\n").split()
    shutil.copytree(REPOSITORY, checkout, ignore=shutil.ignore_patterns(".git", *made))
    (checkout / "var").mkdir()
    shutil.copy(REPOSITORY / "var" / ".gitignore", checkout / "var")
    run(sys.executable, "-m", "build", "--no-isolation", ".", cwd=checkout)
    return checkout / "dist"


def run(*command: str | Path, cwd: Path, **environ: str) -> str:
    """Run a command that is to succeed; return what it prints."""
    ended = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_the_source_distribution_has_every_file_that_is_in_git(dist: Path) -> None:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("this is no checkout of Git, such as a source distribution")
    with tarfile.open(dist / f"bintrades-{__version__}.tar.gz") as archive:
        published = {each.name.partition("/")[2] for each in archive if each.isfile()}

    known = ("--cached", "--others", "--exclude-standard")
    ours = set(run("git", "ls-files", "-z", *known, cwd=REPOSITORY).rstrip("\0").split("\0"))

    assert ours - published == NOT_PUBLISHED
    assert {path for path in published - ours if ".egg-info/" not in path} == {"PKG-INFO"}


def test_the_wheel_has_the_package_the_plugins_and_nothing_else(dist: Path) -> None:
    with zipfile.ZipFile(dist / f"bintrades-{__version__}-py3-none-any.whl") as archive:
        names = set(archive.namelist())

    package, plugins = REPOSITORY / "bintrades", REPOSITORY / "plugins"
    files = {str(path.relative_to(REPOSITORY)) for path in package.rglob("*") if path.is_file()}
    ours = {path for path in files if not path.endswith(".pyc")}
    ours |= {f"{SHIPPED}/{path.name}" for path in plugins.glob("*.py")}
    assert {name for name in names if ".dist-info/" not in name} == ours


def test_an_index_of_packages_would_take_both(dist: Path) -> None:
    said = run(sys.executable, "-m", "twine", "check", "--strict", *dist.iterdir(), cwd=dist)

    assert said.count("PASSED") == 2, said


def test_the_wheel_alone_is_all_that_a_user_needs(dist: Path, tmp_path: Path) -> None:
    """In an empty folder: help, an example, a check of that, a demonstration."""
    environ = uv_without_a_network(tmp_path, "wsproto")
    wheel = dist / f"bintrades-{__version__}-py3-none-any.whl"
    (tmp_path / "empty").mkdir()

    def bintrades(*arguments: str, extra: str = "") -> str:
        origin = f"bintrades{extra} @ {wheel.as_uri()}"
        uv = (find_uv(), "tool", "run", "--python", sys.executable, "--from", origin)
        return run(*uv, "bintrades", *arguments, cwd=tmp_path / "empty", **environ)

    assert bintrades("--version") == f"bintrades {__version__}\n"
    assert "bintrades example > bintrades.ini" in bintrades("--help")
    example = bintrades("example")
    assert example == example_text()
    stores = example.replace("enabled = mongodb\n", "enabled = mongodb, jsonl\n")
    (tmp_path / "empty" / "bintrades.ini").write_text(stores, encoding="utf-8")
    load_config(tmp_path / "empty" / "bintrades.ini", {})
    assert "(stores: mongodb, jsonl)" in bintrades("check", "--config", "bintrades.ini")
    assert "Stopping the collector in an orderly way" in bintrades("demo", "3", extra="[simulator]")


def test_the_citation_names_what_it_is_of() -> None:
    """A version or a date in it would be one more place to forget; its form is not for us."""
    citation = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")

    assert "\ntitle: bintrades\n" in citation
    assert "\nlicense: MIT\n" in citation
    assert "\nversion:" not in citation
