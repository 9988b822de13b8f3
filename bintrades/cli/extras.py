"""Commands whose packages not everybody has: how they say what to install."""

from __future__ import annotations

import shlex
import sys
from importlib.util import find_spec

from bintrades.errors import BintradesError


def lacking(command: str, package: str | None, extra: str) -> BintradesError:
    """Return the error of a command that needs *package*, which comes with *extra*."""
    python = shlex.quote(sys.executable)
    # An environment that uv has made has no pip.
    install = (
        f"{python} -m pip install" if find_spec("pip") else f"uv pip install --python {python}"
    )
    return BintradesError(
        f"{command} needs {package}, which is not installed: {install} {package}, or in the"
        f" checkout {install} '.[{extra}]'"
    )
