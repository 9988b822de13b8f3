"""insert_many of documents."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pymongo
from bson import Decimal128
from pymongo.write_concern import WriteConcern

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bintrades import Bar


def write_plain(options: dict[str, str], batches: Sequence[Sequence[Bar]]) -> None:
    """Insert each batch into a collection with the unique index."""
    with pymongo.MongoClient[dict[str, Any]](options["uri"]) as client:
        bars = client[options["database"]].get_collection(
            "bars", write_concern=WriteConcern("majority", j=True)
        )
        bars.create_index([("symbol", 1), ("open_time", 1), ("market", 1)], unique=True)
        for batch in batches:
            bars.insert_many([_document(bar) for bar in batch])


def _document(bar: Bar) -> dict[str, Any]:
    return {
        name: Decimal128(value) if isinstance(value, Decimal) else value
        for name, value in bar.as_dict().items()
    }
