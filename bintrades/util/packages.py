"""Packages that not everybody has, and how to have them."""

from __future__ import annotations

import shlex
import sys
from importlib.metadata import PackageNotFoundError, metadata
from importlib.util import find_spec

_NAME = "bintrades"


def install_hint(package: str | None, extra: str) -> str:
    """Return what installs *package*, which comes with our *extra*, where this Python runs.

    Where this package is installed with that extra on offer, the extra is asked for: it has the
    oldest version that will do, and whatever else belongs to it, and needs no checkout.
    """
    python = shlex.quote(sys.executable)
    # An environment that uv has made has no pip.
    install = (
        f"{python} -m pip install" if find_spec("pip") else f"uv pip install --python {python}"
    )
    if extra in _extras():
        return f"{install} '{_NAME}[{extra}]'"
    return f"{install} {shlex.quote(str(package))}, or in the checkout {install} '.[{extra}]'"


def _extras() -> list[str]:
    try:
        return metadata(_NAME).get_all("Provides-Extra") or []
    except PackageNotFoundError:  # a checkout that is not installed
        return []
