"""How bars are read from MongoDB: in the order of time, by the index that keeps them single."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pymongo
from bson.decimal128 import Decimal128

from bintrades.model import Bar
from bintrades.model.bar_fields import FIELDS, FieldKind, MergeRule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymongo.collection import Collection

    Document = dict[str, Any]
    Bars = Collection[Document]

log = logging.getLogger(__name__)

_BATCH = 5_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STORED = {field.name: field for field in FIELDS if field.rule is not MergeRule.DERIVED}
_SINCE_THEN = {"epoch": 0, "excluded_count": 0, "is_approximate": False, "contract_size": None}
"""Fields that documents of earlier versions, or of other markets, lack: what stands for each."""

_KINDS: dict[FieldKind, type | tuple[type, ...]] = {
    FieldKind.TEXT: str,
    FieldKind.TIME: datetime,
    FieldKind.INT: int,
    FieldKind.LONG: int,
    FieldKind.DECIMAL: Decimal128,
    FieldKind.FLAG: bool,
}


def read_bars(
    collection: Bars, market: str, symbol: str, since: datetime, until: datetime
) -> Iterator[Bar]:
    """Yield the bars of *symbol* with since <= open time < until, oldest first.

    A document that is no bar is logged and left out. Raises PyMongoError.
    """
    query = {"market": market, "symbol": symbol, "open_time": {"$gte": since, "$lt": until}}
    fields = {"_id": False, **dict.fromkeys(_STORED, True)}
    order = [("open_time", pymongo.ASCENDING)]
    with collection.find(query, fields, sort=order, batch_size=_BATCH) as documents:
        for document in documents:
            try:
                yield bar_of(document)
            except (KeyError, TypeError, ValueError, ArithmeticError) as error:
                log.warning(
                    "a document of %s is no bar and is left out",
                    collection.full_name,
                    extra={
                        "event": "document_unreadable",
                        "symbol": symbol,
                        "open_time": str(document.get("open_time")),
                        "error": repr(error),
                    },
                )


def bar_of(document: Document) -> Bar:
    """Return the bar of a stored document, which may lack what is in _SINCE_THEN.

    Raises KeyError, TypeError or ValueError for a document that is no bar.
    """
    values: dict[str, Any] = {}
    for name, field in _STORED.items():
        if name in _SINCE_THEN and document.get(name) is None:
            values[field.attribute] = _SINCE_THEN[name]
            continue
        value = document[name]
        if not isinstance(value, _KINDS[field.kind]):
            raise TypeError(f"{name} is {value!r}")
        if isinstance(value, datetime):
            value = (value - _EPOCH) // timedelta(milliseconds=1)
        elif isinstance(value, Decimal128):
            value = value.to_decimal()
            if not value.is_finite():
                raise ValueError(f"{name} is {value}")
        values[field.attribute] = value
    values["interval_ms"] = values.pop("interval_seconds") * 1_000
    return Bar(**values)
