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
def unpacked(package: str) -> Path:
    """Return the folder into which *package* is unpacked; skip the test where it cannot be had."""
    folder = _CACHE / package
    if folder.exists():
        return folder
    for program in ("apt-get", "dpkg"):
        if shutil.which(program) is None:
            pytest.skip(f"needs Debian's package {package}, and there is no {program}")
    _CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_CACHE) as download:
        fetched = subprocess.run(
            ["apt-get", "download", package],
            cwd=download,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        if fetched.returncode:
            pytest.skip(f"needs Debian's package {package}: {fetched.stderr.strip()}")
        (archive,) = Path(download).glob("*.deb")
        contents = Path(download) / "contents"
        subprocess.run(["dpkg", "-x", archive, contents], check=True, timeout=100)
        try:
            contents.rename(folder)
        except OSError:
            assert folder.exists()  # another process was faster
    return folder
