"""The commands, and all text and tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status.

    Installed programs call it by this name, also those that an earlier version has installed.
    """
    from bintrades.cli import dispatch

    return dispatch.main(arguments)
