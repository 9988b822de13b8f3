"""Whether a collection can hold bars at all: said before the first one is lost in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pymongo.errors import ExecutionTimeout

from bintrades.errors import BintradesError
from bintrades.stores.mongodb.identity import description_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymongo.collection import Collection

    Document = dict[str, Any]

_ELSEWHERE = "name another one in the option collection, or move what is there away"

_IS_A_BAR = {
    "market": {"$type": "string"},
    "symbol": {"$type": "string"},
    "open_time": {"$type": "date"},
    "trade_count": {"$type": "number"},
}


def refuse_unsuitable(collection: Collection[Document], what: str) -> None:
    """Raise BintradesError where the collection is none that keeps each of *what*, or PyMongoError.

    One that does not exist yet is suitable, and so is one that the user may not see.
    """
    described = description_of(collection) or {}
    if why := _unsuitable(described, what):
        raise BintradesError(f"{collection.full_name} {why}; {_ELSEWHERE}")


def _unsuitable(described: Mapping[str, Any], what: str) -> str | None:
    options = described.get("options", {})
    if described.get("type") == "view":
        return f"is a view of {options.get('viewOn')}, in which nothing can be stored"
    if described.get("type") == "timeseries":
        return f"is a time series collection, which takes no unique index to keep {what} single"
    if options.get("capped"):
        return f"is a capped collection, which drops the oldest {what} once it is full"
    if options.get("collation"):
        return (
            f"has a collation ({options['collation'].get('locale')}), by which symbols that differ"
            " can count as the same"
        )
    return None


def refuse_other_documents(collection: Collection[Document], limit_ms: int) -> None:
    """Raise BintradesError if the collection holds documents that are no bars.

    It is looked at for *limit_ms* at most, for no index serves the search. Raises PyMongoError.
    """
    try:
        other = collection.find_one({"$nor": [_IS_A_BAR]}, ["_id"], max_time_ms=limit_ms)
    except ExecutionTimeout:
        return
    if other is not None:
        raise BintradesError(
            f"{collection.full_name} holds documents that are no bars, such as the one with the"
            f" _id {other['_id']!r}; {_ELSEWHERE}"
        )
