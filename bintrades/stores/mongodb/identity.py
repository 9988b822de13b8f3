"""What tells a collection from every other, and from one of its name that was made anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pymongo.errors import OperationFailure

if TYPE_CHECKING:
    from pymongo.collection import Collection

    Document = dict[str, Any]

_NOT_TO_BE_KNOWN = frozenset({13, 59, 115})  # Unauthorized, CommandNotFound, CommandNotSupported


def exists(collection: Collection[Document]) -> bool:
    """Whether the server has the collection, as far as the user may see. Raises PyMongoError."""
    return description_of(collection) is not None


def identity_of(collection: Collection[Document]) -> str | None:
    """Return the UUID that the server gave the collection when it was made, in hexadecimal digits.

    A drop takes it away, and so does a restore in its place. None where the collection does not
    exist, the server gives no UUID, or the user may not see it. Raises PyMongoError.
    """
    uuid = ((description_of(collection) or {}).get("info") or {}).get("uuid")
    if uuid is None:
        return None
    return bytes(getattr(uuid, "bytes", uuid)).hex()  # as the options of the URI have it


def description_of(collection: Collection[Document]) -> Document | None:
    """Return what the server says of the collection; None if it does not exist.

    Nothing is in it where the user may not see it. Raises PyMongoError.
    """
    try:
        found = collection.database.list_collections(filter={"name": collection.name})
        return next(map(dict, found), None)
    except OperationFailure as error:
        if error.code not in _NOT_TO_BE_KNOWN:
            raise
        return {}
