"""Values that travel through bintrades: exact, immutable, free of threads and clocks."""

from bintrades.model.bar import Bar, utc
from bintrades.model.gap import (
    ABSENT,
    LATE,
    LOST,
    RECONNECT,
    RENUMBERED,
    REPAIRED,
    RESTART,
    SILENT_STREAM,
    SKIPPED,
    START,
    UNUSABLE,
    UNWANTED,
    Gap,
)
from bintrades.model.numbers import DECIMAL128, EXACT, plain
from bintrades.model.trade import Trade, TradeRange

__all__ = [
    "ABSENT",
    "DECIMAL128",
    "EXACT",
    "LATE",
    "LOST",
    "RECONNECT",
    "RENUMBERED",
    "REPAIRED",
    "RESTART",
    "SILENT_STREAM",
    "SKIPPED",
    "START",
    "UNUSABLE",
    "UNWANTED",
    "Bar",
    "Gap",
    "Trade",
    "TradeRange",
    "plain",
    "utc",
]
