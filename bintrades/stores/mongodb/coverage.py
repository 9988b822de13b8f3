"""Spans of coverage in a collection beside the bars: one document each, extended in place."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import pymongo
from pymongo import DeleteMany, UpdateMany, UpdateOne
from pymongo.errors import BulkWriteError

from bintrades.stores.mongodb.indexes import UniqueIndex
from bintrades.stores.mongodb.writes import objections

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pymongo.collection import Collection

    from bintrades.model import CoveredSpan

    Document = dict[str, Any]
    Write = DeleteMany | UpdateMany | UpdateOne

SUFFIX = "_coverage"
"""What the name of the collection has behind that of the bars."""

INDEX = UniqueIndex("market_symbol_since", ("market", "symbol", "since"), "spans", "all of them")
"""Keeps each span single."""


def write_coverage(collection: Collection[Document], spans: Sequence[CoveredSpan]) -> None:
    """Make *spans* durable, each symbol's in the place of what is stored from the first on.

    Raises PyMongoError, or BintradesError where the collection cannot have its unique index, if
    they should come again; a part of it may have been written by then: what
    is not covered any more goes before anything is added.
    """
    INDEX.make(collection)
    now = datetime.now(UTC)
    removals: list[Write] = []
    additions: list[Write] = []
    for _, group in groupby(spans, key=attrgetter("market", "symbol")):
        of_symbol = list(group)
        removals += _removals(of_symbol, now)
        additions += (_addition(span, now) for span in of_symbol if not span.is_empty)
    for writes in (removals, additions):
        if writes:
            _write(collection, writes)


def _removals(spans: Sequence[CoveredSpan], now: datetime) -> Iterator[Write]:
    """Yield what takes away all that is stored from the first of *spans* on, but for these."""
    first = spans[0]
    of_symbol = {"market": first.market, "symbol": first.symbol}
    kept = [span.since for span in spans if not span.is_empty]
    yield DeleteMany({**of_symbol, "since": {"$gte": first.since, "$nin": kept}})
    yield UpdateMany(
        {**of_symbol, "since": {"$lt": first.since}, "until": {"$gt": first.since}},
        {"$set": {"until": first.since, "updated_at": now}},
    )


def _addition(span: CoveredSpan, now: datetime) -> Write:
    """Return the upsert of a span; one that is stored as it is keeps its updated_at."""
    fields = span.as_dict()
    key = {name: fields.pop(name) for name in INDEX.fields}
    is_same = {"$eq": ["$until", span.until]}
    fields["updated_at"] = {"$cond": [is_same, "$updated_at", now]}
    return UpdateOne(key, [{"$set": fields}], upsert=True)


def _write(collection: Collection[Document], writes: Sequence[Write]) -> None:
    try:
        collection.bulk_write(writes, ordered=False)
    except BulkWriteError as error:
        for problem in objections(error):
            raise pymongo.errors.WriteError(problem["errmsg"], problem["code"]) from None
