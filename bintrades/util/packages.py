"""Packages that not everybody has, and how to have them."""

from __future__ import annotations

import shlex
import sys
from importlib.util import find_spec


def install_hint(package: str | None, extra: str) -> str:
    """Return what installs *package*, which comes with our *extra*, where this Python runs."""
    python = shlex.quote(sys.executable)
    # An environment that uv has made has no pip.
    install = (
        f"{python} -m pip install" if find_spec("pip") else f"uv pip install --python {python}"
    )
    return f"{install} {package}, or in the checkout {install} '.[{extra}]'"
