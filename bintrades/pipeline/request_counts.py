"""How many requests of one purpose were made to an exchange's REST side."""

from __future__ import annotations

from typing import NamedTuple


class RequestCounts(NamedTuple):
    """Requests since the start of the process."""

    made: int = 0
    failed: int = 0
    """Of these, those without an answer that is of use."""
