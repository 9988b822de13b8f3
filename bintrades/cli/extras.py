"""Commands whose packages not everybody has: how they say what to install."""

from __future__ import annotations

from bintrades.errors import BintradesError
from bintrades.util.packages import install_hint


def lacking(command: str, package: str | None, extra: str) -> BintradesError:
    """Return the error of a command that needs *package*, which comes with *extra*."""
    return BintradesError(
        f"{command} needs {package}, which is not installed: {install_hint(package, extra)}"
    )
