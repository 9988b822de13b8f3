"""Stores bars in MongoDB, one document per market, symbol and interval; the default store.

Everything that MongoDB lets a URI say (TLS, authentication, replica set, write concern, timeouts)
is passed through. Where the URI does not say, a write is acknowledged once a majority of the
replica set has it in its journal (a server that stands alone is its own majority), and nothing
waits for ever. The user needs the role readWrite on the database.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from pymongo.errors import ExecutionTimeout, OperationFailure, ServerSelectionTimeoutError
from pymongo.read_preferences import ReadPreference

from bintrades.errors import BintradesError, RejectedBars
from bintrades.options.option import checked
from bintrades.stores.hookspecs import hookimpl
from bintrades.stores.mongodb.coverage import SUFFIX, write_coverage
from bintrades.stores.mongodb.durability import (
    bounded,
    server_limit_ms,
    unsafe_on,
    unsafe_options,
)
from bintrades.stores.mongodb.expiry import Expiry
from bintrades.stores.mongodb.identity import exists, identity_of
from bintrades.stores.mongodb.indexes import UNAUTHORIZED, UniqueIndex
from bintrades.stores.mongodb.options import EXPIRE_AFTER, OPTIONS
from bintrades.stores.mongodb.reads import read_bars
from bintrades.stores.mongodb.refusals import explained, unreachable
from bintrades.stores.mongodb.suitability import refuse_other_documents, refuse_unsuitable
from bintrades.stores.mongodb.uri import client_of
from bintrades.stores.mongodb.writes import KEY, OLD_KEY, write_bars

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    import pymongo
    from pymongo.collection import Collection

    from bintrades.model import Bar, CoveredSpan

    Document = dict[str, Any]
    Bars = Collection[Document]

log = logging.getLogger(__name__)

_SURPLUS = "all but the one with the largest trade_count"
INDEX = UniqueIndex("symbol_open_time_market", KEY, "bars", _SURPLUS)
"""Keeps each bar single."""

OLD_INDEX = UniqueIndex("symbol_open_time", OLD_KEY, "bars", _SURPLUS)
"""That of earlier versions, which lets only one market in."""


class MongoStore:
    """One collection of bars. All calls but check_store belong to one thread."""

    OPTIONS = OPTIONS

    def __init__(self) -> None:
        self._client: pymongo.MongoClient[Document] | None = None
        self._bars: Bars | None = None
        self._expiry: Expiry | None = None
        self._warning: str | None = None

    @hookimpl
    def check_store(self, options: dict[str, str]) -> None:
        """Raise ConfigError with every problem of *options*, log what is unsafe; no network."""
        client, _, _ = _connect(options)
        client.close()
        for warning in unsafe_options(client.write_concern):
            log.warning(warning, extra={"event": "write_concern_unsafe"})

    @hookimpl
    def open_store(self, options: dict[str, str]) -> None:
        """Connect, log in and make the unique index.

        Raises ConfigError for a bad option, PyMongoError if the server does not let us in, and
        BintradesError if there is no server or the collection cannot hold bars.
        """
        self.close_store()
        client, bars, keep_ms = _connect(options)
        expiry = Expiry(bars, _coverage_of(bars), keep_ms)
        try:
            hello = client.admin.command("hello")
            refuse_unsuitable(bars, "bars")
            refuse_unsuitable(_coverage_of(bars), "spans")
            self._make_index(bars)
        except ServerSelectionTimeoutError as error:
            client.close()
            raise unreachable(error) from error
        except OperationFailure as error:
            client.close()
            raise explained(error, bars.database.name) from error
        except BaseException:
            client.close()
            raise
        self._client, self._bars, self._expiry = client, bars, expiry
        self._warn(unsafe_on(hello, client.write_concern))

    @hookimpl
    def store_bars(self, bars: Sequence[Bar]) -> None:
        """Store *bars*, none in the place of a better one; see mongodb_writes.

        Raises RejectedBars for those that MongoDB refuses for what they are, and anything else
        when the batch should come again.
        """
        if self._bars is None or self._expiry is None:
            raise BintradesError("open_store comes before store_bars")
        if not INDEX.is_on(self._bars):
            log.warning(
                "%s has lost its unique index, or was dropped; the index is made again",
                self._bars.full_name,
                extra={"event": "unique_index_lost"},
            )
            INDEX.make(self._bars)
            self._expiry.establish()
        self._expiry.ensure()
        if rejected := write_bars(self._bars, bars):
            raise RejectedBars(rejected)

    @hookimpl
    def store_coverage(self, spans: Sequence[CoveredSpan]) -> None:
        """Store *spans* in the collection beside that of the bars; see mongodb.coverage.

        Raises PyMongoError if they should come again.
        """
        if self._bars is None or self._expiry is None:
            raise BintradesError("open_store comes before store_coverage")
        self._expiry.ensure()
        write_coverage(_coverage_of(self._bars), spans, self._expiry.withdraw_claims())

    @hookimpl
    def identify_store(self) -> str | None:
        """Return the UUID that the server gave the collection; makes the collection if it is gone.

        It is another one after a drop, a restore in its place, on another server. None where the
        server gives none, or the user may not see it. Raises PyMongoError.
        """
        if self._bars is None or self._expiry is None:
            raise BintradesError("open_store comes before identify_store")
        if not exists(self._bars):
            INDEX.make(self._bars)
            self._expiry.establish()  # what is remembered is of the one that is gone
        return identity_of(self._bars)

    @hookimpl
    def read_bars(
        self, symbol: str, since: datetime, until: datetime, market: str
    ) -> Iterator[Bar]:
        """Yield the bars of *symbol* with since <= open time < until, oldest first.

        Documents that are no bars are logged and left out. Raises PyMongoError.
        """
        if self._bars is None:
            raise BintradesError("open_store comes before read_bars")
        return read_bars(self._bars, market, symbol, since, until)

    @hookimpl
    def close_store(self) -> None:
        """Close every connection; does nothing if there is none."""
        client, self._client, self._bars, self._expiry = self._client, None, None, None
        if client is not None:
            client.close()

    def _make_index(self, bars: Bars) -> None:
        """Make the unique index, then drop that of earlier versions: no bar ever enters without.

        Raises BintradesError if the collection cannot have it, PyMongoError.
        """
        is_old = OLD_INDEX.is_on(bars)
        is_new = INDEX.is_on(bars)
        if not is_old and not is_new:
            refuse_other_documents(bars, server_limit_ms(bars.database.client))
        if is_old and not is_new:
            log.info(
                "the bars in %s get a unique index on %s in the place of that on %s, which takes"
                " some seconds for each million bars",
                bars.full_name,
                ", ".join(KEY),
                ", ".join(OLD_KEY),
                extra={"event": "unique_index_migrated"},
            )
        INDEX.make(bars)
        if not is_old:
            return
        if has_documents_without_market(bars, server_limit_ms(bars.database.client)):
            raise BintradesError(
                f"{bars.full_name} holds documents without a market, which no version has written;"
                " move them elsewhere, so that bars of all markets can be kept single"
            )
        try:
            OLD_INDEX.drop(bars)
        except OperationFailure as error:
            if error.code != UNAUTHORIZED:
                raise
            log.warning(
                "the unique index of %s on %s may not be dropped by this user; while it is there,"
                " the collection takes bars of one market only",
                bars.full_name,
                " and ".join(OLD_KEY),
                extra={"event": "unique_index_kept"},
            )

    def _warn(self, warning: str | None) -> None:
        """Log *warning* unless it was the last one; a store is opened after each failure."""
        if warning != self._warning and warning is not None:
            log.warning(warning, extra={"event": "write_concern_unsafe"})
        self._warning = warning


Store = MongoStore  # the name by which each section gets one


def has_documents_without_market(bars: Bars, limit_ms: int) -> bool:
    """Whether any is found in *limit_ms*: no index serves the search, so it looks at all of them.

    No version has written such documents, so a collection that is too large for a whole search is
    not held up for ever. Raises PyMongoError.
    """
    try:
        return bars.find_one({"market": None}, ["_id"], max_time_ms=limit_ms) is not None
    except ExecutionTimeout:
        return False


def _coverage_of(bars: Bars) -> Bars:
    """Return the collection of the spans in which *bars* are all there is."""
    return bars.database[bars.name + SUFFIX].with_options(write_concern=bars.write_concern)


def _connect(
    options: Mapping[str, str],
) -> tuple[pymongo.MongoClient[Document], Bars, int | None]:
    """Return client and collection, not connected yet, and for how many ms bars are kept.

    Raises ConfigError with every problem.
    """
    settings = checked(OPTIONS, options)
    client = client_of(settings["uri"])
    database = client.get_database(settings["database"], read_preference=ReadPreference.PRIMARY)
    bars = database.get_collection(settings["collection"], write_concern=bounded(client))
    return client, bars, EXPIRE_AFTER.parse(settings["expire_after"])
