"""Coverage from the journal to one store, behind the bars that it speaks of.

What is told to a store is true of what that store has: it is read once every bar has been
delivered, in the same transaction that says so. After a start all is told once; then, once a
minute, what has changed.
"""

from __future__ import annotations

import logging
import time
from array import array
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from bintrades.core.coverage_changes import changed_from
from bintrades.errors import JournalError
from bintrades.model import CoveredSpan
from bintrades.pipeline.batch_size import BatchSize, is_timeout
from bintrades.pipeline.store_identity import resend_if_replaced
from bintrades.util.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from bintrades.core.spans import Span
    from bintrades.journal.cursor import Cursor
    from bintrades.journal.store_coverage import Mark, StoreCoverage
    from bintrades.stores.store import Store
    from bintrades.util.runtime import Runtime

log = logging.getLogger(__name__)

BATCH = 5_000
"""Spans of a call, at most; but those of one symbol go together."""

_EVERY_MS = 60_000
_FIRST_WAIT_S, _LONGEST_WAIT_S = 5.0, 300.0


class _Told(NamedTuple):
    """What a store knows of a symbol: the bounds of all spans, oldest first, in little memory."""

    bounds: array[int]
    mark: Mark | None = None

    def place_of(self, from_ms: int) -> int:
        """Return where the spans are among the bounds that begin then or later."""
        place = len(self.bounds)
        while place and self.bounds[place - 2] >= from_ms:
            place -= 2
        return place


class _Change(NamedTuple):
    symbol: str
    changed: array[int]
    told: _Told | None
    """What the store knows once it was told; None: nothing, as of a symbol that it never had."""


class CoverageDelivery:
    """Tells one store what is covered. Belongs to the thread of its bars' delivery.

    *clean* takes the secrets out of what the plugin says.
    """

    def __init__(
        self, store: Store, cursor: Cursor, clean: Callable[[str], str], runtime: Runtime
    ) -> None:
        self.error: str | None = None  # why the last call failed; None: it did not
        self._store = store
        self._cursor = cursor
        self._clean = clean
        self._runtime = runtime
        self._backoff = Backoff(_FIRST_WAIT_S, _LONGEST_WAIT_S, runtime.rng)
        self._batch_size = BatchSize(BATCH)
        self._told: dict[str, _Told] = {}  # by symbol, since the start
        self._due = runtime.now()

    @property
    def is_due(self) -> bool:
        """Whether the store wants to know, and has not been told for a minute."""
        return self._store.takes_coverage and self._runtime.now() >= self._due

    def forget(self) -> None:
        """Tell all once more: the store may have lost it, since it gets bars again."""
        self._told.clear()

    def tell(self, deadline_s: float | None = None) -> None:
        """Tell what has changed, up to *deadline_s*; nothing yet while bars go before.

        What the store raises is logged, and tried again; bars do not wait for that. Raises
        JournalError.
        """
        if not self._store.takes_coverage:
            return
        changes = self._changes()
        if changes is None:
            return  # and it stays due
        self._due = self._runtime.now() + _EVERY_MS
        try:
            if resend_if_replaced(self._store, self._cursor):
                self.forget()
                self._due = self._runtime.now()  # as soon as it has its bars
                return
            self._send(changes, deadline_s)
        except JournalError:
            raise
        except Exception as error:
            self._fail(error)
        else:
            self._backoff.reset()
            self.error = None

    def _changes(self) -> list[_Change] | None:
        """Return what is to be told of each symbol; None while bars wait."""
        marks = {symbol: told.mark for symbol, told in self._told.items() if told.mark is not None}
        with self._cursor.coverage_of_delivered(marks) as coverages:
            if coverages is None:
                return None
            unseen = dict(self._told)
            changes = [_change(found, unseen.pop(found.symbol, None)) for found in coverages]
        for symbol, told in unseen.items():  # nothing of it is proven now
            changed = changed_from(_spans(told.bounds), [])
            changes.append(_Change(symbol, _bounds(changed), None))
        for each in changes:
            if not each.changed:
                self._know(each)
        return [each for each in changes if each.changed]

    def _send(self, changes: list[_Change], deadline_s: float | None) -> None:
        market, interval_ms = self._cursor.scope()
        place = 0
        while place < len(changes):
            if deadline_s is not None and time.monotonic() >= deadline_s:
                return
            batch = list(_batch(changes, place, self._batch_size.limit))
            spans = [
                CoveredSpan(each.symbol, market, *span, interval_ms)
                for each in batch
                for span in _spans(each.changed)
            ]
            started = time.monotonic()
            try:
                self._store.cover(spans)
            except Exception as error:
                if is_timeout(error, time.monotonic() - started):
                    self._batch_size.timed_out(len(spans))
                raise
            self._batch_size.took(len(spans), time.monotonic() - started)
            for each in batch:
                self._know(each)
            place += len(batch)

    def _know(self, change: _Change) -> None:
        """Remember what the store knows of a symbol."""
        if change.told is None:
            self._told.pop(change.symbol, None)
        else:
            self._told[change.symbol] = change.told

    def _fail(self, error: Exception) -> None:
        wait_s = self._backoff.next_wait_s()
        self._due = self._runtime.now() + int(wait_s * 1000)
        self.error = self._clean(f"{type(error).__name__}: {error}")
        log.warning(
            "store %s does not take the coverage; its bars go on; next attempt in %.1f s",
            self._store.name,
            wait_s,
            extra={
                "event": "coverage_failed",
                "store": self._store.name,
                "error": self.error,
                "failures": self._backoff.failures,
            },
        )


def _change(found: StoreCoverage, told: _Told | None) -> _Change:
    """Return what to tell of a symbol of which *told* is known, None for nothing."""
    if told is None:
        nothing = [(found.since_ms, found.since_ms)]  # as no span is: all is a change
        bounds, place, before = _bounds([]), 0, nothing
    else:
        bounds, place = told.bounds, told.place_of(found.from_ms)
        before = _spans(bounds[place:])
    changed = changed_from(before, found.spans)
    if changed or told is None:
        bounds = bounds[:place] + _bounds(found.spans)
    return _Change(found.symbol, _bounds(changed), _Told(bounds, found.mark))


def _bounds(spans: Iterable[Span]) -> array[int]:
    return array("q", chain.from_iterable(spans))


def _spans(bounds: array[int]) -> list[Span]:
    return list(zip(bounds[::2], bounds[1::2], strict=True))


def _batch(changes: list[_Change], place: int, limit: int) -> Iterator[_Change]:
    """Yield what follows *place*, symbol by symbol, until there are *limit* spans."""
    count = 0
    for each in changes[place:]:
        more = len(each.changed) // 2
        count += more
        if count > limit and count > more:
            return
        yield each
