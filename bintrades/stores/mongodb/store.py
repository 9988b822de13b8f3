"""Stores bars in MongoDB, one document per symbol and interval; the default store.

Options of [store:mongodb]: uri, database, collection. Everything that MongoDB lets a URI say (TLS,
authentication, replica set, write concern, timeouts) is passed through. Where the URI does not
say, a write is acknowledged once a majority of the replica set has it in its journal (a server that
stands alone is its own majority), and nothing waits for ever. The user needs the role readWrite
on the database.

To store into a second server, bind a second MongoStore in a drop-in plugin, as this module does.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pymongo
from pymongo.errors import DuplicateKeyError, OperationFailure, ServerSelectionTimeoutError
from pymongo.read_preferences import ReadPreference

from bintrades.errors import BintradesError, ConfigError, RejectedBars
from bintrades.stores.hookspecs import hookimpl
from bintrades.stores.mongodb.durability import bounded, unsafe_on, unsafe_options
from bintrades.stores.mongodb.uri import client_of
from bintrades.stores.mongodb.writes import KEY, write_bars
from bintrades.util.text import did_you_mean, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pymongo.collection import Collection

    from bintrades.model import Bar

    Document = dict[str, Any]
    Bars = Collection[Document]

log = logging.getLogger(__name__)

DEFAULTS = {
    "uri": "mongodb://127.0.0.1:27017",
    "database": "bintrades",
    "collection": "bars",
}
"""The options and their defaults."""

INDEX_NAME = "symbol_open_time"
"""Name of the unique index that keeps each bar single."""

_INDEX_KEYS = [(field, pymongo.ASCENDING) for field in KEY]
_INDEX_CONFLICTS = frozenset({85, 86})  # IndexOptionsConflict, IndexKeySpecsConflict
_NOT_IN_A_DATABASE = '/\\."$'
_LONGEST_DATABASE = 63  # bytes
_LONGEST_COLLECTION = 255 - _LONGEST_DATABASE - len(".")  # "database.collection" has 255 at most


class MongoStore:
    """One collection of bars. All calls but check_store belong to one thread."""

    def __init__(self) -> None:
        self._client: pymongo.MongoClient[Document] | None = None
        self._bars: Bars | None = None
        self._warning: str | None = None

    @hookimpl
    def check_store(self, options: dict[str, str]) -> None:
        """Raise ConfigError with every problem of *options*, log what is unsafe; no network."""
        client, _ = _connect(options)
        client.close()
        for warning in unsafe_options(client.write_concern):
            log.warning(warning)

    @hookimpl
    def open_store(self, options: dict[str, str]) -> None:
        """Connect, log in and make the unique index.

        Raises ConfigError for a bad option, PyMongoError if the server does not let us in, and
        BintradesError if there is no server or the collection cannot have the index.
        """
        self.close_store()
        client, bars = _connect(options)
        try:
            hello = client.admin.command("hello")
            _make_index(bars)
        except ServerSelectionTimeoutError as error:
            client.close()
            reason = str(error).partition(", Timeout:")[0]  # what follows is long and says no more
            raise BintradesError(f"no server answers: {reason}") from error
        except BaseException:
            client.close()
            raise
        self._client, self._bars = client, bars
        self._warn(unsafe_on(hello, client.write_concern))

    @hookimpl
    def store_bars(self, bars: Sequence[Bar]) -> None:
        """Store *bars*, none in the place of a better one; see mongodb_writes.

        Raises RejectedBars for those that MongoDB refuses for what they are, and anything else
        when the batch should come again.
        """
        if self._bars is None:
            raise BintradesError("open_store comes before store_bars")
        if not _has_index(self._bars):
            log.warning(
                "%s has lost its unique index, or was dropped; the index is made again",
                self._bars.full_name,
            )
            _make_index(self._bars)
        if rejected := write_bars(self._bars, bars):
            raise RejectedBars(rejected)

    @hookimpl
    def close_store(self) -> None:
        """Close every connection; does nothing if there is none."""
        client, self._client, self._bars = self._client, None, None
        if client is not None:
            client.close()

    def _warn(self, warning: str | None) -> None:
        """Log *warning* unless it was the last one; a store is opened after each failure."""
        if warning != self._warning and warning is not None:
            log.warning(warning)
        self._warning = warning


_store = MongoStore()
check_store = _store.check_store
open_store = _store.open_store
store_bars = _store.store_bars
close_store = _store.close_store


def _connect(options: Mapping[str, str]) -> tuple[pymongo.MongoClient[Document], Bars]:
    """Return client and collection, not connected yet; raises ConfigError with every problem."""
    problems = list(_unknown(options))
    settings = DEFAULTS | dict(options)
    try:
        client = client_of(settings["uri"])
    except ConfigError as error:
        problems.extend(error.problems)
        client = client_of(DEFAULTS["uri"])  # the names are to be checked all the same
    database, collection = settings["database"], settings["collection"]
    if fault := _database_fault(database):
        allowed = f"1 to {_LONGEST_DATABASE} bytes, no space and none of {_NOT_IN_A_DATABASE}"
        problems.append(f"database = {one_line(database)}: {fault}; allowed: {allowed}")
    if fault := _collection_fault(collection):
        allowed = f"1 to {_LONGEST_COLLECTION} bytes, no $, no . at an end or beside another"
        problems.append(f"collection = {one_line(collection)}: {fault}; allowed: {allowed}")
    if problems:
        client.close()
        raise ConfigError(*problems)
    in_database = client.get_database(database, read_preference=ReadPreference.PRIMARY)
    return client, in_database.get_collection(collection, write_concern=bounded(client))


def _unknown(options: Mapping[str, str]) -> Iterator[str]:
    for name in options:
        if name not in DEFAULTS:
            hint = did_you_mean(name, DEFAULTS)
            yield f"{name}: unknown option{hint}; allowed: {', '.join(DEFAULTS)}"


def _database_fault(name: str) -> str | None:
    """Return why a server would not take the name; pymongo lets some of it pass."""
    if strange := [char for char in name if char in f" \0{_NOT_IN_A_DATABASE}"]:
        return f"{strange[0]!r} cannot be in it"
    return _length_fault(name, _LONGEST_DATABASE)


def _collection_fault(name: str) -> str | None:
    if strange := [char for char in name if char in "$\0"]:
        return f"{strange[0]!r} cannot be in it"
    if name.startswith(".") or name.endswith(".") or ".." in name:
        return "has a . where none can be"
    return _length_fault(name, _LONGEST_COLLECTION)


def _length_fault(name: str, longest: int) -> str | None:
    if not name:
        return "is empty"
    return "is too long" if len(name.encode(errors="replace")) > longest else None


def _make_index(bars: Bars) -> None:
    try:
        bars.create_index(_INDEX_KEYS, unique=True, name=INDEX_NAME)
    except DuplicateKeyError as error:
        example = (error.details or {}).get("keyValue", "")
        raise BintradesError(
            f"{bars.full_name} holds several documents of one symbol and open_time, for example "
            f"{example}; remove all but the one with the largest trade_count, so that the unique "
            "index can be made"
        ) from error
    except OperationFailure as error:
        if error.code not in _INDEX_CONFLICTS:
            raise
        if not _has_index(bars):
            raise BintradesError(
                f"{bars.full_name} has an index on symbol and open_time that does not keep bars "
                f"single, or another one called {INDEX_NAME}; drop it, so that the unique index "
                "can be made"
            ) from error


def _has_index(bars: Bars) -> bool:
    return any(map(_keeps_bars_single, bars.index_information().values()))


def _keeps_bars_single(index: Mapping[str, Any]) -> bool:
    return (
        index["key"] == _INDEX_KEYS
        and bool(index.get("unique"))
        and not index.keys() & {"sparse", "partialFilterExpression", "collation"}
    )
