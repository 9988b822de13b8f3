"""Series: one stream of trades of one symbol, and what its ids and times mean. Immutable."""

from __future__ import annotations

from enum import StrEnum

import msgspec

TRADES = "trade"
"""The stream of single trades."""


class SeriesKey(msgspec.Struct, frozen=True):
    """Which trades a series is of.

    A process collects one market of one exchange, so inside of it the symbol is key enough, and a
    journal names the rest once.
    """

    exchange: str
    market: str
    symbol: str
    stream: str = TRADES


class IdLaw(StrEnum):
    """How the trade ids of a series follow each other: what a Ledger can count by."""

    DENSE = "dense"
    """Each trade has the id of the one before plus one: an id left out is a missing trade."""


class TimeUnit(StrEnum):
    """The unit of an exchange's times; inside of this program all times are milliseconds."""

    MILLISECONDS = "ms"
