"""Series: one stream of trades of one symbol, and what its ids mean. Immutable."""

from __future__ import annotations

from decimal import Decimal  # noqa: TC003 - msgspec reads it at run time
from enum import StrEnum

import msgspec


class IdLaw(StrEnum):
    """How the trade ids of a series follow each other: what a Ledger can count by."""

    DENSE = "dense"
    """Each trade has the id of the one before plus one: an id left out is a missing trade."""

    WITH_FILLERS = "with fillers"
    """So it is on the stream, but some ids are no fills of the order book: an ExcludedId each.

    What the exchange publishes of the past leaves those out: a hole that a page of past trades
    answers around is no missing trade."""


class SeriesKey(msgspec.Struct, frozen=True):
    """Which trades a series is of. Their times are milliseconds, whatever they are on the wire.

    A process collects one stream of one market of one exchange, so inside of it the symbol is key
    enough, and a journal names the rest once: the Aggregator takes no others.
    """

    exchange: str
    market: str
    symbol: str
    stream: str
    id_law: IdLaw
    contract_size: Decimal | None = None
    """Where quantities are contracts: what one is worth, in the quote asset; else None."""

    @property
    def is_of_aggregates(self) -> bool:
        """Whether its stream brings aggregates, each an AggregateTrade, instead of trades."""
        return self.stream == "aggTrade"

    @property
    def is_approximate(self) -> bool:
        """Whether all of its bars are: of aggregates with more ids than trades, and their times."""
        return self.is_of_aggregates and self.id_law is IdLaw.WITH_FILLERS
