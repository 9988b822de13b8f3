"""Wheels made again of what is installed, for installations without a network."""

from __future__ import annotations

import os
import re
import shutil
import sysconfig
import zipfile
from importlib.metadata import distribution
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

if TYPE_CHECKING:
    from pathlib import Path


def find_uv() -> str:
    """Return the path of uv; skip the test where there is none."""
    found = shutil.which("uv", path=f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}")
    if found is None:
        pytest.skip("there is no uv")
    return found


def uv_without_a_network(folder: Path, *packages: str) -> dict[str, str]:
    """Return variables that lead uv to what bintrades and *packages* need, copied to *folder*."""
    wheels = folder / "wheels"
    pack_needs("bintrades", wheels)
    for package in packages:
        pack(package, wheels)
    return {
        "UV_CACHE_DIR": str(folder / "cache"),
        "UV_FIND_LINKS": str(wheels),
        "UV_NO_INDEX": "1",
        "UV_OFFLINE": "1",
    }


def pack_needs(name: str, folder: Path, *extras: str) -> None:
    """Make wheels of all that the package *name*, with its *extras*, needs to be installed."""
    for line in distribution(name).requires or ():
        needed = Requirement(line)
        asked = [{"extra": extra} for extra in ("", *extras)]
        if needed.marker is None or any(map(needed.marker.evaluate, asked)):
            pack(needed.name, folder, *needed.extras)


def pack(name: str, folder: Path, *extras: str) -> None:
    """Make a wheel of an installed package again, and of all that it needs."""
    package = distribution(name)
    tag = re.findall(r"(?m)^Tag: (.+)$", package.read_text("WHEEL") or "")[0]
    path = folder / f"{re.sub(r'[-_.]+', '_', name).lower()}-{package.version}-{tag}.whl"
    if path.exists():
        return
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as wheel:
        for file in package.files or ():
            if ".." not in file.parts and file.suffix != ".pyc":
                wheel.write(str(file.locate()), str(file))
    pack_needs(name, folder, *extras)
