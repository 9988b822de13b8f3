"""Wheels made again of what is installed, for installations without a network."""

from __future__ import annotations

import re
import zipfile
from importlib.metadata import distribution
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

if TYPE_CHECKING:
    from pathlib import Path


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
