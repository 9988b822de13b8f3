"""Pytest run by a test, as the author of a plugin runs it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def run_pytest(file: Path) -> subprocess.CompletedProcess[str]:
    """Run the tests of *file* in its folder, in a process of their own."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", file.name],
        cwd=file.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
