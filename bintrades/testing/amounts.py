"""Numbers on the command lines of our tools: each within bounds, and refused in plain words."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def whole_number(lowest: int, highest: int) -> Callable[[str], int]:
    """Return a type for argparse: whole numbers within bounds, which belong to it."""

    def parse(text: str) -> int:
        # Not int() alone, which takes other digits, spaces and underscores, and fails beyond 4,300.
        if not re.fullmatch(r"-?[0-9]{1,19}", text) or not lowest <= int(text) <= highest:
            raise argparse.ArgumentTypeError(f"must be a whole number from {lowest} to {highest}")
        return int(text)

    return parse


def number(lowest: float, highest: float) -> Callable[[str], float]:
    """Return a type for argparse: numbers within bounds, which belong to it."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not lowest <= value <= highest:
            raise argparse.ArgumentTypeError(f"must be a number from {lowest:g} to {highest:g}")
        return value

    return parse
