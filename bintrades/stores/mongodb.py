"""Stores bars in MongoDB, one document per symbol and interval; the default store.

Options of [store:mongodb]: uri, database, collection. Everything that MongoDB lets a URI say (TLS,
authentication, replica set, write concern, timeouts) is passed through. Where the URI does not
say, a write is acknowledged once it is in the server's journal, and nothing waits for ever. The
user needs the role readWrite on the database.

To store into a second server, bind a second MongoStore in a drop-in plugin, as this module does.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import bson
import pymongo
from bson.decimal128 import Decimal128
from bson.errors import BSONError
from bson.int64 import Int64
from bson.raw_bson import RawBSONDocument
from pymongo.errors import (
    BulkWriteError,
    DuplicateKeyError,
    OperationFailure,
    ServerSelectionTimeoutError,
    WriteConcernError,
    WriteError,
)
from pymongo.read_preferences import ReadPreference

from bintrades.errors import BintradesError, ConfigError, RejectedBars
from bintrades.hookspecs import hookimpl
from bintrades.ini import one_line
from bintrades.kinds import did_you_mean
from bintrades.stores.mongodb_uri import client_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from pymongo.collection import Collection

    from bintrades.model import Bar

    Document = dict[str, Any]
    Bars = Collection[Document]
    Key = tuple[str, datetime]

DEFAULTS = {
    "uri": "mongodb://127.0.0.1:27017",
    "database": "bintrades",
    "collection": "bars",
}
"""The options and their defaults."""

INDEX_NAME = "symbol_open_time"
"""Name of the unique index that keeps each bar single."""

_INDEX_KEYS = [("symbol", pymongo.ASCENDING), ("open_time", pymongo.ASCENDING)]
_INDEX_CONFLICTS = frozenset({85, 86})  # IndexOptionsConflict, IndexKeySpecsConflict
_NOT_IN_A_DATABASE = '/\\."$'
_LONGEST_DATABASE = 63  # bytes
_LONGEST_COLLECTION = 255 - _LONGEST_DATABASE - len(".")  # "database.collection" has 255 at most
_LONGS = ("trade_count", "buy_count", "sell_count", "first_trade_id", "last_trade_id")
_ATTEMPTS = 5
_REASON_LENGTH = 500

_PASSING = frozenset(
    {
        *(6, 7, 89, 9001),  # network between the members of a cluster
        *(24, 46, 50, 112, 202, 262),  # locks, time limits, write conflicts
        *(91, 11600, 11601, 11602),  # interrupted, shutting down
        *(189, 10058, 10107, 13435, 13436),  # not the primary, or not any more
        *(63, 70, 133, 134, 150, 314, 13388),  # routing in a sharded cluster
        *(13, 18, 371, 391, 8000),  # not allowed now; 8000 is Atlas and its quotas
        *(146, 292, 14031),  # out of memory, out of disk
    }
)
"""Codes of errors that do not lie in the document: the batch is sent again, no bar is refused."""


class MongoStore:
    """One collection of bars. All calls but check_store belong to one thread."""

    def __init__(self) -> None:
        self._client: pymongo.MongoClient[Document] | None = None
        self._bars: Bars | None = None

    @hookimpl
    def check_store(self, options: dict[str, str]) -> None:
        """Raise ConfigError with every problem of *options*; touches no network."""
        _connect(options)[0].close()

    @hookimpl
    def open_store(self, options: dict[str, str]) -> None:
        """Connect, log in and make the unique index.

        Raises ConfigError for a bad option, PyMongoError if the server does not let us in, and
        BintradesError if there is no server or the collection cannot have the index.
        """
        self.close_store()
        client, bars = _connect(options)
        try:
            client.admin.command("ping")
            _make_index(bars)
        except ServerSelectionTimeoutError as error:
            client.close()
            reason = str(error).partition(", Timeout:")[0]  # what follows is long and says no more
            raise BintradesError(f"no server answers: {reason}") from error
        except BaseException:
            client.close()
            raise
        self._client, self._bars = client, bars

    @hookimpl
    def store_bars(self, bars: Sequence[Bar]) -> None:
        """Upsert *bars* in one unordered bulk; none replaces a bar with more trades.

        Raises RejectedBars for those that MongoDB refuses for what they are, and anything else
        when the batch should come again.
        """
        if self._bars is None:
            raise BintradesError("open_store comes before store_bars")
        rejected: list[tuple[Bar, str]] = []
        writes: list[_Write] = []
        for bar in bars:
            try:
                writes.append(_Write(bar))
            except (ValueError, OverflowError, BSONError) as error:
                rejected.append((bar, f"cannot be a document: {error}"[:_REASON_LENGTH]))
        rejected.extend(
            (write.bar, reason)
            for write in _write_all(self._bars, writes)
            if (reason := write.alone(self._bars))
        )
        if rejected:
            raise RejectedBars(rejected)

    @hookimpl
    def close_store(self) -> None:
        """Close every connection; does nothing if there is none."""
        client, self._client, self._bars = self._client, None, None
        if client is not None:
            client.close()


_store = MongoStore()
check_store = _store.check_store
open_store = _store.open_store
store_bars = _store.store_bars
close_store = _store.close_store


def document(bar: Bar) -> Document:
    """Return *bar* as it is stored; raises ValueError for a number that is too long."""
    fields = bar.as_dict()
    for name, value in fields.items():
        if name in _LONGS:
            fields[name] = Int64(value)
        elif isinstance(value, Decimal):
            fields[name] = _decimal128(name, value)
    return fields


class _Write:
    """One bar on its way into the collection; making it raises if the bar cannot be a document.

    The filter finds the stored bar unless that one has more trades. If it has, the upsert turns
    into an insert and fails at the unique index, so that the better bar stays.
    """

    def __init__(self, bar: Bar) -> None:
        self.bar = bar
        self.key: Key = (bar.symbol, bar.open_time)
        self._document = RawBSONDocument(bson.encode(document(bar)))
        self._filter = _filter(self.key) | {"trade_count": {"$lte": Int64(bar.trade_count)}}

    def in_bulk(self) -> pymongo.ReplaceOne[Any]:
        """Return the write as a part of a bulk."""
        return pymongo.ReplaceOne(self._filter, self._document, upsert=True)

    def alone(self, bars: Bars) -> str | None:
        """Write this bar alone: None if it or a better one is stored, else why it never will be."""
        for _ in range(_ATTEMPTS):
            try:
                bars.replace_one(self._filter, self._document, upsert=True)
            except DuplicateKeyError as error:
                stored = _trade_counts(bars, [self]).get(self.key)
                if self.is_beaten_by(stored):
                    return None
                if not _is_bar_index(error):
                    return _reason(error)
                if stored is not None and not isinstance(stored, int | float):
                    return "the stored document of this symbol and open_time has no trade_count"
            except WriteError as error:
                if error.code in _PASSING or error.has_error_label("RetryableWriteError"):
                    raise
                return _reason(error)
            else:
                return None
        raise BintradesError(f"{bars.full_name}: others write {self.key} all the time")

    def is_beaten_by(self, trade_count: object) -> bool:
        """Whether a stored bar of *trade_count* trades is better than this one."""
        return isinstance(trade_count, int | float) and trade_count > self.bar.trade_count


def _write_all(bars: Bars, writes: Sequence[_Write]) -> list[_Write]:
    """Send *writes* at once; return those that failed, unless a better bar is why."""
    if not writes:
        return []
    try:
        bars.bulk_write([write.in_bulk() for write in writes], ordered=False)
    except BulkWriteError as error:
        for problem in error.details["writeConcernErrors"]:
            # Not `from error`, whose text has every document in it.
            raise WriteConcernError(problem["errmsg"], problem.get("code"), problem) from None
        failed = [writes[problem["index"]] for problem in error.details["writeErrors"]]
        stored = _trade_counts(bars, failed)
        return [write for write in failed if not write.is_beaten_by(stored.get(write.key))]
    return []


def _trade_counts(bars: Bars, writes: Sequence[_Write]) -> dict[Key, object]:
    """Return the trade_count of each stored bar, "" where a document has none."""
    fields = ["symbol", "open_time", "trade_count"]
    found = bars.find({"$or": [_filter(write.key) for write in writes]}, fields)
    return {
        (stored["symbol"], stored["open_time"]): stored.get("trade_count", "") for stored in found
    }


def _filter(key: Key) -> Document:
    symbol, open_time = key
    return {"symbol": symbol, "open_time": open_time}


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
    return client, in_database.get_collection(collection)


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
        if not any(map(_keeps_bars_single, bars.index_information().values())):
            raise BintradesError(
                f"{bars.full_name} has an index on symbol and open_time that does not keep bars "
                f"single, or another one called {INDEX_NAME}; drop it, so that the unique index "
                "can be made"
            ) from error


def _keeps_bars_single(index: Mapping[str, Any]) -> bool:
    return (
        index["key"] == _INDEX_KEYS
        and bool(index.get("unique"))
        and not index.keys() & {"sparse", "partialFilterExpression", "collation"}
    )


def _is_bar_index(error: DuplicateKeyError) -> bool:
    """Whether the unique index on symbol and open_time stood in the way, not one of the user's."""
    return set((error.details or {}).get("keyPattern", ())) == set(dict(_INDEX_KEYS))


def _reason(error: WriteError) -> str:
    details = error.details or {}
    why = details.get("errInfo", {}).get("details", "")
    return f"{details.get('errmsg', error)} {why}".strip()[:_REASON_LENGTH]


def _decimal128(name: str, value: Decimal) -> Decimal128:
    try:
        return Decimal128(value)
    except ArithmeticError:
        raise ValueError(f"{name} has more than the 34 digits of a Decimal128: {value}") from None
