"""All connections: spread over groups of symbols, replaced before the exchange cuts them.

A replacement is opened beside the old connection, which is closed only when the new one delivers:
what both bring is dropped by the ledger, and no trade falls between them.
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bintrades.exchange.binance.feed.options import DEFAULT_TIMING, FeedTiming

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bintrades.exchange.binance.feed.reader import Reader
    from bintrades.exchange.snapshots import ConnectionSnapshot

log = logging.getLogger(__name__)

_EARLIEST = 0.9  # of the age at which a connection is replaced: never all at once


@dataclass(slots=True)
class _Place:
    """One connection's place: the reader in it, and the one that is to take over."""

    symbols: Sequence[str]
    copy: int  # of the same group; 0: there is no other
    reader: Reader
    share: float  # of the full age that this reader reaches
    successor: Reader | None = None


class ConnectionPool:
    """Makes, starts and rotates the readers.

    *make_reader* is given a number, the symbols and which copy of the group it is, 0 for the only
    one. maintain() belongs to one thread.
    """

    def __init__(
        self,
        symbols: Sequence[str],
        make_reader: Callable[[int, Sequence[str], int], Reader],
        *,
        group_size: int,
        redundancy: int,
        rotate_after_ms: int,
        timing: FeedTiming = DEFAULT_TIMING,
        rng: random.Random | None = None,
    ) -> None:
        self._make_reader = make_reader
        self._rotate_after_ms = rotate_after_ms
        self._timing = timing
        self._rng = rng or random.Random()  # noqa: S311 - spreads rotations, keeps no secret
        self._count = 0
        self._retired: list[Reader] = []
        self._places = [
            _Place(group, copy, self._new_reader(group, copy), self._share())
            for group in _groups(symbols, group_size)
            for copy in (range(1, redundancy + 1) if redundancy > 1 else (0,))
        ]

    @property
    def readers(self) -> list[Reader]:
        """Every reader that has not ended for good, those about to take over included."""
        current = [place.reader for place in self._places]
        successors = [place.successor for place in self._places if place.successor]
        return [*current, *successors, *(reader for reader in self._retired if reader.is_alive)]

    def snapshot(self, now: int) -> tuple[ConnectionSnapshot, ...]:
        """Return the state of each connection. Any thread."""
        return tuple(reader.snapshot(now) for reader in self.readers)

    def start(self) -> None:
        """Open all connections."""
        for place in self._places:
            place.reader.start()

    def resubscribe(self, symbol: str) -> None:
        """Ask for the stream of *symbol* once more on every connection: it is dead. Any thread."""
        for reader in self.readers:
            if symbol in reader.symbols:
                reader.resubscribe(symbol)

    def maintain(self, now: int) -> None:
        """Begin and finish the rotations that are due; call it about once a second."""
        self._retired = [reader for reader in self._retired if reader.is_alive]
        for place in self._places:
            if place.successor is not None:
                self._finish_rotation(place, place.successor, now)
        for place in self._places:
            if place.successor is None and self._is_due(place, now):
                place.successor = self._new_reader(place.symbols, place.copy)
                log.info(
                    "%s takes over from %s",
                    place.successor.name,
                    place.reader.name,
                    extra={"event": "rotation_started"},
                )
                place.successor.start()

    def _is_due(self, place: _Place, now: int) -> bool:
        if place.reader.is_leaving:
            return True  # the exchange has announced that it will close it
        opened_at = place.reader.opened_at
        if opened_at is None or any(other.successor for other in self._places):
            return False
        return now - opened_at >= place.share * self._rotate_after_ms

    def _finish_rotation(self, place: _Place, successor: Reader, now: int) -> None:
        if _has_taken_over(successor, place.reader, self._timing, now):
            place.reader.stop()
            self._retired.append(place.reader)
            place.reader, place.successor, place.share = successor, None, self._share()

    def _new_reader(self, symbols: Sequence[str], copy: int) -> Reader:
        self._count += 1
        return self._make_reader(self._count, symbols, copy)

    def _share(self) -> float:
        return self._rng.uniform(_EARLIEST, 1.0)


def _has_taken_over(new: Reader, old: Reader, timing: FeedTiming, now: int) -> bool:
    """Whether *new* has delivered for a while, or there is nothing to deliver to either.

    What *old* has got before *new* was subscribed must be read: a full inbox may hold up both.
    """
    if new.subscribed_at is None:
        return False
    if old.read_until is not None and old.read_until < new.subscribed_at:
        return False
    if new.first_data_at is not None:
        return now - max(new.first_data_at, new.subscribed_at) >= timing.overlap_ms
    is_idle = old.last_data_at <= new.subscribed_at
    return is_idle and now - new.subscribed_at >= timing.idle_takeover_ms


def _groups(symbols: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Yield *symbols* in groups as equal as can be, none larger than *size*."""
    count = -(-len(symbols) // size)
    for number in range(count):
        yield symbols[number::count]
