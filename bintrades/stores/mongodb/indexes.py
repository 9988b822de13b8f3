"""Unique indexes, which keep documents single: made where there is none, beside all others.

One of an earlier version is dropped once the one in its place is there, and not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pymongo
from pymongo.errors import DuplicateKeyError, OperationFailure

from bintrades.errors import BintradesError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymongo.collection import Collection

    Document = dict[str, Any]

GONE = frozenset({26, 27})  # NamespaceNotFound, IndexNotFound
UNAUTHORIZED = 13
CONFLICTS = frozenset({85, 86})  # IndexOptionsConflict, IndexKeySpecsConflict


def drop_command(collection: Collection[Document], index: str) -> str:
    """Return what drops *index* when it is said to mongosh."""
    return f'db.getCollection("{collection.name}").dropIndex("{index}")'


class UniqueIndex(NamedTuple):
    """One that keeps documents single by *fields*."""

    name: str
    fields: tuple[str, ...]
    what: str
    """What the documents are, in the plural."""
    surplus: str
    """Which documents are to be removed where there are several of one key."""

    def make(self, collection: Collection[Document]) -> None:
        """Make it unless it is there, under whatever name.

        Raises BintradesError if the collection cannot have it, PyMongoError.
        """
        keys = " and ".join(self.fields)
        try:
            collection.create_index(self._keys, unique=True, name=self.name)
        except DuplicateKeyError as error:
            example = (error.details or {}).get("keyValue", "")
            raise BintradesError(
                f"{collection.full_name} holds several documents of one {keys}, for example "
                f"{example}; remove {self.surplus}, so that the unique index can be made"
            ) from error
        except OperationFailure as error:
            if error.code == UNAUTHORIZED:
                self._have_without_rights(collection, error)
                return
            if error.code not in CONFLICTS:
                raise
            if not self.is_on(collection):
                raise BintradesError(
                    f"{collection.full_name} has an index that stands in the way of the unique one"
                    f" on {keys}, and does not keep {self.what} single; drop it:"
                    f" {self._obstacles(collection)}"
                ) from error

    def _obstacles(self, collection: Collection[Document]) -> str:
        """Return the commands that drop what has the name or the fields of this one."""
        indexes = collection.index_information()
        return ", ".join(
            drop_command(collection, name)
            for name, index in indexes.items()
            if name == self.name or index["key"] == self._keys
        )

    def _have_without_rights(
        self, collection: Collection[Document], refusal: OperationFailure
    ) -> None:
        """Do with the index that is there. Raises BintradesError if there is none, PyMongoError."""
        if not self.is_on(collection):
            keys = ", ".join(f"{field}: 1" for field in self.fields)
            raise BintradesError(
                f"this user may not make the unique index of {collection.full_name}; give it the"
                f' role readWrite, or make it: db.getCollection("{collection.name}").createIndex('
                f"{{{keys}}}, {{unique: true}})"
            ) from refusal

    def drop(self, collection: Collection[Document]) -> None:
        """Drop it if it is there, under whatever name: another one is in its place.

        Another collector may drop it at the same moment. Raises PyMongoError.
        """
        for name in self._names_on(collection):
            try:
                collection.drop_index(name)
            except OperationFailure as error:
                if error.code not in GONE:
                    raise

    def is_on(self, collection: Collection[Document]) -> bool:
        """Whether it is there, under whatever name. Raises PyMongoError."""
        return bool(self._names_on(collection))

    def _names_on(self, collection: Collection[Document]) -> list[str]:
        indexes = collection.index_information()
        return [name for name, index in indexes.items() if self._is_same(index)]

    @property
    def _keys(self) -> list[tuple[str, int]]:
        return [(field, pymongo.ASCENDING) for field in self.fields]

    def _is_same(self, index: Mapping[str, Any]) -> bool:
        return (
            index["key"] == self._keys
            and bool(index.get("unique"))
            and not index.keys() & {"sparse", "partialFilterExpression", "collation"}
        )
