"""Bars that the server has already, found by a look at many of them at once.

The second of two collectors of the same symbols, and whoever sends bars again, comes with bars that
are stored. To compare each of them by an update costs the server several times what a look does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern

from bintrades.model.bar_fields import FIELDS, RANK, FieldKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymongo.collection import Collection

    from bintrades.model import Bar

    Document = dict[str, Any]
    Key = tuple[str, str, object]

_PART = 1_000  # bars of a look
_SURPLUS = 4  # how many times as many documents as there are bars a look may find
_KEY = ("market", "symbol", "open_time")
_LEAST = {
    field.name: False if field.kind is FieldKind.FLAG else 0
    for field in FIELDS
    if field.name in RANK
}
_FIELDS = {"_id": False, **dict.fromkeys((*_KEY, *RANK), True)}


def settled(collection: Collection[Document], bars: Sequence[Bar]) -> set[Key]:
    """Return the keys of those of *bars* of which the same or a better one is stored for good.

    That is, on a majority of a replica set. Of one that is not among them nothing is known, such as
    where the server cannot be asked so. Raises PyMongoError.
    """
    found: set[Key] = set()
    safe = collection.with_options(read_concern=ReadConcern("majority"))
    for start in range(0, len(bars), _PART):
        part = bars[start : start + _PART]
        wanted = {
            "symbol": {"$in": list({bar.symbol for bar in part})},
            "open_time": {"$in": list({bar.open_time for bar in part})},
            "market": {"$in": list({bar.market for bar in part})},
        }
        if _many(wanted) > _SURPLUS * len(part):
            continue
        ranks = {key_of(bar): bar.rank for bar in part}
        try:
            for stored in safe.find(wanted, _FIELDS, batch_size=_SURPLUS * _PART):
                if (key := _key_in(stored)) in ranks and _is_at_least(stored, ranks[key]):
                    found.add(key)
        except OperationFailure:
            return found
    return found


def key_of(bar: Bar) -> Key:
    """Return by what a bar is known."""
    return bar.market, bar.symbol, bar.open_time


def _key_in(stored: Document) -> Key:
    """Return by what a document is known; what is no bar may have anything there, such as lists."""
    market, symbol, open_time = (stored[name] for name in _KEY)
    return str(market), str(symbol), str(open_time) if isinstance(open_time, list) else open_time


def _many(wanted: Document) -> int:
    """Return how many documents can be found by *wanted*, at most."""
    many = 1
    for values in wanted.values():
        many *= len(values["$in"])
    return many


def _is_at_least(stored: Document, rank: tuple[Any, ...]) -> bool:
    """Whether the stored document is a bar, and of that rank or a higher one."""
    if stored.get("trade_count") is None:
        return False
    found = [stored.get(name) for name in RANK]
    values = [
        _LEAST[name] if value is None else value for name, value in zip(RANK, found, strict=True)
    ]
    return all(isinstance(value, int) for value in values) and tuple(values) >= rank
