"""Values that travel through bintrades: exact, immutable, free of threads and clocks."""

from bintrades.model.bar import Bar, milliseconds, utc
from bintrades.model.covered_span import CoveredSpan
from bintrades.model.gap import (
    Gap,
    GapCause,
    GapKind,
    GapOutcome,
    GapSet,
    GapState,
    id_ranges,
    unnumbered_gaps,
)
from bintrades.model.kline import Kline
from bintrades.model.numbers import DECIMAL128, EXACT, plain
from bintrades.model.recorded_difference import DifferenceOutcome, RecordedDifference
from bintrades.model.series import IdLaw, SeriesKey
from bintrades.model.trade import AggregateTrade, ExcludedId, Trade, TradeRange

__all__ = [
    "DECIMAL128",
    "EXACT",
    "AggregateTrade",
    "Bar",
    "CoveredSpan",
    "DifferenceOutcome",
    "ExcludedId",
    "Gap",
    "GapCause",
    "GapKind",
    "GapOutcome",
    "GapSet",
    "GapState",
    "IdLaw",
    "Kline",
    "RecordedDifference",
    "SeriesKey",
    "Trade",
    "TradeRange",
    "id_ranges",
    "milliseconds",
    "plain",
    "unnumbered_gaps",
    "utc",
]
