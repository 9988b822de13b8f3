"""Bars that are kept for a time only: the server deletes what is older, by an index of ours.

What is gone must not be claimed as covered, neither now nor after the option was changed: a longer
time brings nothing back. So from where on bars can be there is computed, and, since an index that
was dropped tells nobody when it was there, written down in a collection beside the bars.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import pymongo
from pymongo.errors import OperationFailure

from bintrades.errors import BintradesError
from bintrades.stores.mongodb.coverage import withdraw
from bintrades.stores.mongodb.identity import identity_of
from bintrades.stores.mongodb.indexes import CONFLICTS, GONE, UNAUTHORIZED, drop_command
from bintrades.util.durations import UNITS_MS, format_duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymongo.collection import Collection

    Document = dict[str, Any]

log = logging.getLogger(__name__)

SUFFIX = "_expired"
"""What the name of the collection has behind that of the bars, in which is written what is gone."""

BARS_INDEX = "bintrades_expire_after"
SPANS_INDEX = "bintrades_expires_at"

_KEYS = [("open_time", pymongo.ASCENDING)]
_HOUR_MS, _DAY_MS = UNITS_MS["h"], UNITS_MS["d"]
_LONG_MS = 30 * _DAY_MS


class Claimable(NamedTuple):
    """From which moment on bars are sure to be there, for some time to come."""

    since_ms: int
    keep_ms: int | None
    """How long a bar is kept after its open_time; None: for ever."""


class Expiry:
    """How long bars are kept in one collection. Belongs to one thread."""

    def __init__(
        self, bars: Collection[Document], spans: Collection[Document], keep_ms: int | None
    ) -> None:
        self._bars = bars
        self._spans = spans
        self._keep_ms = keep_ms
        self._memory = bars.database[bars.name + SUFFIX].with_options(
            write_concern=bars.write_concern
        )
        self._gone_until: datetime | None = None
        self._withdrawn: Claimable | None = None
        self._is_established = False

    def ensure(self) -> None:
        """Do what `establish` does before the first write: whoever only reads changes nothing."""
        if not self._is_established:
            self.establish()

    def establish(self) -> None:
        """Make, change or drop the index, so that the server does what was asked for.

        An index of another name is never touched. Raises BintradesError if one is in the way,
        PyMongoError.
        """
        indexes = self._bars.index_information()
        self._name_others(indexes)
        index = indexes.get(BARS_INDEX)
        kept_s = None if index is None else index.get("expireAfterSeconds")
        if index is not None and (index["key"] != _KEYS or kept_s is None):
            raise self._in_the_way(BARS_INDEX)
        keep_s = None if self._keep_ms is None else -(-self._keep_ms // 1_000)
        if kept_s is not None and (keep_s is None or keep_s > kept_s):
            self._remember_what_is_gone(kept_s)
        self._gone_until = self._remembered()
        self._withdrawn = None
        self.withdraw_claims()  # before any of the bars is deleted
        if kept_s != keep_s:
            self._change(kept_s, keep_s)
            self._tell(keep_s)
        self._is_established = True

    def withdraw_claims(self) -> Claimable | None:
        """Have no span cover what is gone, or soon will be; return what may be claimed.

        None where no bar was ever deleted by its age. Raises PyMongoError.
        """
        claimable = self._claimable()
        if claimable is not None and claimable != self._withdrawn:
            withdraw(self._spans, claimable)
        self._withdrawn = claimable
        return claimable

    def _claimable(self) -> Claimable | None:
        """Return from when on bars are there, with an hour or a day to spare.

        So a claim is looked at as rarely as that, and holds as long while no collector runs.
        """
        gone_ms = 0 if self._gone_until is None else _milliseconds(self._gone_until)
        if self._keep_ms is None:
            return Claimable(gone_ms, None) if gone_ms else None
        step_ms = _DAY_MS if self._keep_ms >= _LONG_MS else _HOUR_MS
        oldest_ms = _milliseconds(self._server_time()) - self._keep_ms
        return Claimable(max(gone_ms, (oldest_ms // step_ms + 2) * step_ms), self._keep_ms)

    @property
    def _identity(self) -> str:
        """Whose deleted bars are remembered: those of one that was dropped are of no interest."""
        return identity_of(self._bars) or self._bars.name

    def _change(self, kept_s: int | None, keep_s: int | None) -> None:
        if keep_s is None:
            _drop(self._bars, BARS_INDEX)
            _drop(self._spans, SPANS_INDEX)
            self._spans.update_many({"expires_at": {"$ne": None}}, {"$unset": {"expires_at": 1}})
            return
        self._spans.create_index(
            [("expires_at", pymongo.ASCENDING)], name=SPANS_INDEX, expireAfterSeconds=0
        )
        if kept_s is not None and self._modify(keep_s):
            return
        _drop(self._bars, BARS_INDEX)
        try:
            self._bars.create_index(_KEYS, name=BARS_INDEX, expireAfterSeconds=keep_s)
        except OperationFailure as error:
            if error.code not in CONFLICTS:
                raise
            indexes = self._bars.index_information()
            names = [name for name, index in indexes.items() if index["key"] == _KEYS]
            raise self._in_the_way(*names) from error

    def _modify(self, keep_s: int) -> bool:
        """Change the time of the index in place; return whether this user may do so.

        The role readWrite lets one drop and make an index, but not change it.
        """
        index = {"name": BARS_INDEX, "expireAfterSeconds": keep_s}
        try:
            self._bars.database.command("collMod", self._bars.name, index=index)
        except OperationFailure as error:
            if error.code != UNAUTHORIZED:
                raise
            return False
        return True

    def _in_the_way(self, *names: str) -> BintradesError:
        commands = ", ".join(drop_command(self._bars, name) for name in names)
        return BintradesError(
            f"{self._bars.full_name} has an index that stands in the way of the one for"
            f" expire_after; leave expire_after empty, or drop it: {commands}"
        )

    def _remember_what_is_gone(self, kept_s: int) -> None:
        """Write down that what is older than *kept_s* now has been deleted."""
        until = self._server_time() - timedelta(seconds=kept_s)
        self._memory.update_one({"_id": self._identity}, {"$max": {"until": until}}, upsert=True)

    def _remembered(self) -> datetime | None:
        """Return up to when bars are gone for good; None where none are."""
        try:
            found = self._memory.find_one({"_id": self._identity}) or {}
        except OperationFailure as error:
            if error.code != UNAUTHORIZED or self._keep_ms is not None:
                raise
            return None  # a user of bars and spans alone, with whom none were ever deleted
        until = found.get("until")
        return until if isinstance(until, datetime) else None

    def _server_time(self) -> datetime:
        """Return the time by which the server deletes."""
        now = self._bars.database.client.admin.command("hello").get("localTime")
        return now.replace(tzinfo=UTC) if isinstance(now, datetime) else datetime.now(UTC)

    def _name_others(self, indexes: Mapping[str, Any]) -> None:
        for name, index in indexes.items():
            if name != BARS_INDEX and "expireAfterSeconds" in index:
                log.warning(
                    "bars in %s are deleted by the index %s, which is not ours, so that coverage"
                    " goes on to claim them; drop it, and use expire_after instead",
                    self._bars.full_name,
                    name,
                    extra={"event": "expiry_unknown"},
                )

    def _tell(self, keep_s: int | None) -> None:
        if keep_s is None:
            said = "bars in %s are kept for ever from now on; %s deletes none any more"
            after = "expire_after"
        else:
            said = "bars in %s are deleted by the server once their open_time is %s ago"
            after = format_duration(keep_s * 1_000)
        log.warning(said, self._bars.full_name, after, extra={"event": "expiry_changed"})


def _drop(collection: Collection[Document], index: str) -> None:
    try:
        collection.drop_index(index)
    except OperationFailure as error:
        if error.code not in GONE:
            raise


def _milliseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
