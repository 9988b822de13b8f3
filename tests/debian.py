"""Programs of Debian packages, for tests: unpacked into a folder, never installed."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

_CACHE = Path(tempfile.gettempdir()) / f"bintrades-tests-{os.getuid()}"


@functools.cache
def unpacked(package: str, *, with_others: bool = False) -> Path:
    """Return the folder into which *package* is unpacked; skip the test where it cannot be had.

    *with_others*: and those that it needs, as far as they are not installed.
    """
    folder = _CACHE / package
    if folder.exists():
        return folder
    for program in ("apt-get", "dpkg"):
        if shutil.which(program) is None:
            pytest.skip(f"needs Debian's package {package}, and there is no {program}")
    _CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_CACHE) as download:
        fetched = subprocess.run(
            ["apt-get", "download", package, *(_needed(package) if with_others else ())],
            cwd=download,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        if fetched.returncode:
            pytest.skip(f"needs Debian's package {package}: {fetched.stderr.strip()}")
        contents = Path(download) / "contents"
        for archive in Path(download).glob("*.deb"):
            subprocess.run(["dpkg", "-x", archive, contents], check=True, timeout=100)
        try:
            contents.rename(folder)
        except OSError:
            assert folder.exists()  # another process was faster
    return folder


def _needed(package: str) -> list[str]:
    """Return the packages that would be installed with *package*."""
    said = subprocess.run(
        ["apt-get", "install", "--simulate", "--no-install-recommends", package],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    lines = [line.split() for line in said.stdout.splitlines()]
    return [words[1] for words in lines if words[:1] == ["Inst"] and words[1] != package]
