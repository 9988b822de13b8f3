"""Spans of coverage in a collection beside the bars: one document each, extended in place."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace
from pymongo import DeleteMany, UpdateMany, UpdateOne
from pymongo.errors import DuplicateKeyError, WriteError

from bintrades.stores.mongodb.indexes import UniqueIndex
from bintrades.stores.mongodb.writes import refused_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pymongo.collection import Collection

    from bintrades.model import CoveredSpan
    from bintrades.stores.mongodb.expiry import Claimable

    Document = dict[str, Any]
    Write = DeleteMany | UpdateMany | UpdateOne

SUFFIX = "_coverage"
"""What the name of the collection has behind that of the bars."""

INDEX = UniqueIndex("market_symbol_since", ("market", "symbol", "since"), "spans", "all of them")
"""Keeps each span single."""


def write_coverage(
    collection: Collection[Document], spans: Sequence[CoveredSpan], claimable: Claimable | None
) -> None:
    """Make *spans* durable, each symbol's in the place of what is stored from the first on.

    What lies before *claimable* is left out. Raises PyMongoError, or BintradesError where the
    collection cannot have its unique index, if they should come again; a part of it may have been
    written by then: what is not covered any more goes before anything is added.
    """
    INDEX.make(collection)
    now = datetime.now(UTC)
    removals: list[Write] = []
    additions: list[Write] = []
    for _, group in groupby(spans, key=attrgetter("market", "symbol")):
        of_symbol = list(group)
        kept = [span for span in (_claimed(each, claimable) for each in of_symbol) if span]
        removals += _removals(of_symbol[0], kept, now)
        additions += (_addition(span, now, claimable) for span in kept)
    for writes in (removals, additions):
        if writes:
            _write(collection, writes)


def withdraw(collection: Collection[Document], claimable: Claimable) -> None:
    """Shorten or remove all spans that say more than is *claimable*, whoever has stored them.

    Raises PyMongoError.
    """
    since = _whole_bars_from(claimable)
    is_span = {"interval_seconds": {"$gt": 0}}
    collection.delete_many({**is_span, "$expr": {"$lte": ["$until", since]}})
    fields: Document = {"since": since}
    if claimable.keep_ms is not None:
        fields["expires_at"] = {"$add": [since, claimable.keep_ms]}
    too_much = {**is_span, "$expr": {"$lt": ["$since", since]}}
    try:
        collection.update_many(too_much, [{"$set": fields}])
    except DuplicateKeyError:  # another collector has stored it anew, from there on
        collection.delete_many(too_much)


def _whole_bars_from(claimable: Claimable) -> Document:
    """Return the expression of the open time of the first bar of a span that is claimable."""
    interval_ms = {"$multiply": ["$interval_seconds", 1_000]}
    intervals = {"$ceil": {"$divide": [claimable.since_ms, interval_ms]}}
    return {"$toDate": {"$toLong": {"$multiply": [intervals, interval_ms]}}}


def _claimed(span: CoveredSpan, claimable: Claimable | None) -> CoveredSpan | None:
    """Return what of *span* is claimable, if anything."""
    if claimable is not None:
        first_ms = -(-claimable.since_ms // span.interval_ms) * span.interval_ms
        span = replace(span, since_ms=min(max(span.since_ms, first_ms), span.until_ms))
    return None if span.is_empty else span


def _removals(first: CoveredSpan, spans: Sequence[CoveredSpan], now: datetime) -> Iterator[Write]:
    """Yield what takes away all that is stored from *first* on, but for *spans*."""
    of_symbol = {"market": first.market, "symbol": first.symbol}
    kept = [span.since for span in spans]
    yield DeleteMany({**of_symbol, "since": {"$gte": first.since, "$nin": kept}})
    yield UpdateMany(
        {**of_symbol, "since": {"$lt": first.since}, "until": {"$gt": first.since}},
        {"$set": {"until": first.since, "updated_at": now}},
    )


def _addition(span: CoveredSpan, now: datetime, claimable: Claimable | None) -> Write:
    """Return the upsert of a span; one that is stored as it is keeps its updated_at.

    With bars that expire, it has the moment at which the first of them does so: then the server
    removes it, unless a collector has shortened it by then.
    """
    fields = span.as_dict()
    key = {name: fields.pop(name) for name in INDEX.fields}
    is_same = {"$eq": ["$until", span.until]}
    fields["updated_at"] = {"$cond": [is_same, "$updated_at", now]}
    if claimable is not None and claimable.keep_ms is not None:
        fields["expires_at"] = span.since + timedelta(milliseconds=claimable.keep_ms)
    return UpdateOne(key, [{"$set": fields}], upsert=True)


def _write(collection: Collection[Document], writes: list[Write]) -> None:
    def send(writes: list[Write]) -> None:
        collection.bulk_write(writes, ordered=False)

    for _, problem in refused_of(send, writes):
        raise WriteError(problem["errmsg"], problem["code"])
