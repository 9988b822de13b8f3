"""A batch of bars on its way into a collection: inserted, or put in the place of a lesser version.

To insert costs the server a tenth of what it costs to look first, and nearly every bar is new. So
bars are inserted. Where the server has many already, a look tells which of them are as good as the
new ones. Whatever else it seems to refuse is written by an update that compares the stored bar with
the new one. What that update says of a bar is final.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument
from pymongo import UpdateOne
from pymongo.errors import (
    BulkWriteError,
    WriteConcernError,
    WriteError,
    WTimeoutError,
)

from bintrades.errors import BintradesError
from bintrades.model.bar_fields import FIELDS, RANK, FieldKind
from bintrades.stores.mongodb.bar_bson import encode
from bintrades.stores.mongodb.settled import key_of, settled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence, Set

    from pymongo.collection import Collection

    from bintrades.model import Bar

    Document = dict[str, Any]
    Bars = Collection[Document]
    Rejected = list[tuple[Bar, str]]

Write = TypeVar("Write")

KEY = ("symbol", "open_time", "market")
"""The fields that identify a bar; the unique index is on them.

In this order, so that it serves queries that leave out the market as well.
"""

OLD_KEY = ("symbol", "open_time")
"""Those on which the unique index was while there was one market only."""

DUPLICATE_KEY = 11000
_TIMED_OUT = 64  # while waiting for the members of a replica set

OF_THE_DOCUMENT = frozenset(
    {
        DUPLICATE_KEY,
        *(11001, 12582),  # the same, as older servers and routers say it
        121,  # DocumentValidationFailure
        *(2, 14, 22),  # BadValue, TypeMismatch, InvalidBSON
        *(52, 53, 55, 57),  # names and ids that a document must not have
        *(
            10003,
            10334,
            17280,
            17419,
            17420,
        ),  # too large: for a capped collection, at all, an index
        *(171, 13026, 13027, 16755, 16804),  # what an index of the user's cannot take
    }
)
"""Codes of errors that lie in the document, so that it would be refused again.

Any other code says "not now": a server that is overloaded, full, stepping down, misconfigured or
simply newer than this list must not make anybody lose sight of a bar. The batch comes again.
"""

_TOO_MANY_REQUESTS = 16500
"""As Cosmos DB answers for each document that its provisioned throughput had no room for."""

_RETRY_AFTER = re.compile(r"RetryAfterMs=(\d{1,9})")
_SHORTEST_WAIT_S, _USUAL_WAIT_S, _LONGEST_WAIT_S = 0.01, 0.1, 2.0
_PATIENCE_S = 10.0  # with a server that is short of throughput; then the batch comes again, smaller

_PART = 1_000  # bars encoded while others are inserted
_WORTH_A_LOOK = 20  # bars that seem to be stored already
_UNDERWAY = 2  # inserts at once: the server has work while it waits for its disk, and we for it
_ATTEMPTS = 5
_REASON_LENGTH = 500


class _Write:
    """One bar as a document; making it raises if the bar cannot be one."""

    def __init__(self, bar: Bar) -> None:
        self.bar = bar
        self.document = RawBSONDocument(encode(bar))

    @property
    def key(self) -> Document:
        bar = self.bar
        return {"market": bar.market, "symbol": bar.symbol, "open_time": bar.open_time}

    def unless_a_better_one_is_stored(self) -> UpdateOne:
        """Return the upsert that leaves a stored bar of the same or a higher rank as it is.

        A document that is not a bar (it has no trade_count) does not match. The upsert then fails
        at the unique index, and the document stays.
        """
        is_lower = {"$lt": [_STORED_RANK, list(self.bar.rank)]}
        better = {"$cond": [is_lower, {"$literal": self.document}, "$$ROOT"]}
        return UpdateOne(
            self.key | {"trade_count": {"$type": "number"}}, [{"$replaceWith": better}], upsert=True
        )


_FLAGS = {field.name for field in FIELDS if field.kind is FieldKind.FLAG}
_STORED_RANK = [{"$ifNull": [f"${name}", False if name in _FLAGS else 0]} for name in RANK]
"""What Bar.rank is of a stored document; those of earlier versions have no epoch."""


def write_bars(collection: Bars, bars: Sequence[Bar]) -> Rejected:
    """Make *bars* durable, none in the place of one of the same or a higher rank.

    Returns those that will never be stored, each with the reason. Raises anything else if the
    batch should come again; a part of it may have been written by then, which does no harm.
    Nothing is underway any more when it returns or raises.
    """
    rejected: Rejected = []
    known: list[_Write] = []
    refused: list[_Write] = []
    underway: deque[_Insert] = deque()
    try:
        for start in range(0, len(bars), _PART):
            new: list[_Write] = []
            for bar in bars[start : start + _PART]:
                try:
                    (new if bar.version == 1 else known).append(_Write(bar))
                except (ArithmeticError, ValueError, BSONError) as error:
                    rejected.append((bar, f"cannot be a document: {error}"[:_REASON_LENGTH]))
            if len(underway) == _UNDERWAY:
                refused += underway.popleft().objected_to()
            if new:
                underway.append(_Insert(collection, new))
        while underway:
            refused += underway.popleft().objected_to()
    finally:
        for insert in underway:  # after a failure: none goes on once this has returned
            insert.join()
    return rejected + _update(collection, known + _unsettled(collection, refused))


def _unsettled(collection: Bars, writes: list[_Write]) -> list[_Write]:
    """Return those of *writes* that may be better than what is stored."""
    if len(writes) < _WORTH_A_LOOK:
        return writes
    known = settled(collection, [write.bar for write in writes])
    return [write for write in writes if key_of(write.bar) not in known]


class _Insert:
    """A part of a batch on its way, so that the next part is encoded while the server works."""

    def __init__(self, collection: Bars, writes: list[_Write]) -> None:
        self._collection = collection
        self._writes = writes
        self._objected_to: list[_Write] = []
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._insert, name="insert", daemon=True)
        self._thread.start()

    def objected_to(self) -> list[_Write]:
        """Wait for the end; return what the server objected to, or raise what has failed."""
        self.join()
        if self._failure is not None:
            raise self._failure
        return self._objected_to

    def join(self) -> None:
        """Wait for the end, whatever it is."""
        self._thread.join()

    def _insert(self) -> None:
        def send(writes: list[_Write]) -> None:
            self._collection.insert_many([write.document for write in writes], False)

        try:
            self._objected_to = [write for write, _ in refused_of(send, self._writes)]
        except Exception as error:
            self._failure = error


def _update(collection: Bars, writes: list[_Write]) -> Rejected:
    """Store those of *writes* that are better than what is stored; return what is refused."""

    def update(writes: list[_Write]) -> None:
        collection.bulk_write(
            [write.unless_a_better_one_is_stored() for write in writes], ordered=False
        )

    rejected: Rejected = []
    for _ in range(_ATTEMPTS):
        if not writes:
            return rejected
        contested = []  # somebody else may have inserted the same bar at the same moment
        for write, problem in refused_of(update, writes):
            if _is_about(OLD_KEY, problem):
                raise BintradesError(
                    f"{collection.full_name} has the unique index of earlier versions, on"
                    f" {' and '.join(OLD_KEY)}, which keeps bars of other markets out; stop the"
                    " collectors of earlier versions, then drop it, or start again"
                )
            if _is_about(KEY, problem):
                contested.append(write)
            else:
                rejected.append((write.bar, _reason(problem)))
        writes = contested
    return rejected + [(write.bar, _why_not(collection, write)) for write in writes]


def refused_of(
    send: Callable[[list[Write]], None], writes: list[Write]
) -> list[tuple[Write, Document]]:
    """Send *writes* in one bulk; return those that the server refuses, each with what it says.

    Those that it had no throughput for are sent again, alone, after the wait that it asks for.
    Raises PyMongoError if the batch should come again.
    """
    refused: list[tuple[Write, Document]] = []
    give_up_at = time.monotonic() + _PATIENCE_S
    while True:
        try:
            send(writes)
        except BulkWriteError as error:
            late: list[Document] = []
            for problem in objections(error, and_codes={_TOO_MANY_REQUESTS}):
                if problem["code"] == _TOO_MANY_REQUESTS:
                    late.append(problem)
                else:
                    refused.append((writes[problem["index"]], problem))
            if not late:
                return refused
            wait_s = max(map(_wait_s, late))
            if time.monotonic() + wait_s > give_up_at:
                raise _not_now(late[0], NoThroughputError) from None
            time.sleep(wait_s)
            writes = [writes[problem["index"]] for problem in late]
        else:
            return refused


def _wait_s(problem: Document) -> float:
    """Return how long to wait for throughput."""
    asked_for = _RETRY_AFTER.search(problem["errmsg"])
    wait_s = int(asked_for[1]) / 1_000 if asked_for else _USUAL_WAIT_S
    return min(max(wait_s, _SHORTEST_WAIT_S), _LONGEST_WAIT_S)


def objections(error: BulkWriteError, and_codes: Set[int] = frozenset()) -> list[Document]:
    """Return what the server has against single documents; raise what stands in the way of all.

    Errors of *and_codes* are returned as well. Raises WriteConcernError or WriteError. Not `from
    error`, whose text has every document in it.
    """
    for problem in error.details["writeConcernErrors"]:
        kind = WTimeoutError if problem.get("code") == _TIMED_OUT else WriteConcernError
        raise kind(problem["errmsg"], problem.get("code"), problem) from None
    objections: list[Document] = error.details["writeErrors"]
    for problem in objections:
        if problem["code"] not in OF_THE_DOCUMENT | and_codes:
            raise _not_now(problem) from None
    return objections


class NoThroughputError(WriteError):
    """The server had none for so much at once, so a smaller batch is next."""

    @property
    def timeout(self) -> bool:
        """That it is one, as other errors of pymongo say of themselves."""
        return True


def _not_now(problem: Document, kind: type[WriteError] = WriteError) -> WriteError:
    return kind(problem["errmsg"], problem["code"], _without_document(problem))


def _is_about(key: tuple[str, ...], problem: Document) -> bool:
    """Whether a bar of the same *key* may be in the way: not every server says which index it is.

    Then it is taken for that of KEY.
    """
    return problem["code"] == DUPLICATE_KEY and set(problem.get("keyPattern", KEY)) == set(key)


def _why_not(collection: Bars, write: _Write) -> str:
    """Return why a bar could not be stored, though there is room for it."""
    stored = collection.find_one(write.key, ["trade_count"])
    if stored is not None and not isinstance(stored.get("trade_count"), int | float):
        return "the stored document of this market, symbol and open_time has no trade_count"
    raise BintradesError(f"{collection.full_name}: others write {write.key} all the time")


def _without_document(problem: Document) -> Document:
    return {name: value for name, value in problem.items() if name != "op"}


def _reason(problem: Document) -> str:
    why = problem.get("errInfo", {}).get("details", "")
    return f"{problem['errmsg']} {why}".strip()[:_REASON_LENGTH]
