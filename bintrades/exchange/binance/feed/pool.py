"""All connections: spread over groups of symbols, replaced before the exchange cuts them.

Symbols that come are put into groups with room for them, else into new ones; a connection of which
every symbol has left is closed. Groups that have become small are not joined: that would cost the
connections of others.

A replacement is opened beside the old connection, which is closed only when the new one delivers:
what both bring is dropped by the ledger, and no trade falls between them.
"""

from __future__ import annotations

import logging
import random
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bintrades.exchange.binance.feed.losses import ConnectionCounter
from bintrades.exchange.binance.feed.options import DEFAULT_TIMING, FeedTiming

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bintrades.exchange.binance.feed.reader import Reader
    from bintrades.exchange.snapshots import ConnectionCounts, ConnectionSnapshot

log = logging.getLogger(__name__)

_EARLIEST = 0.9  # of the age at which a connection is replaced: never all at once


@dataclass(slots=True)
class _Place:
    """One connection's place: the reader in it, and the one that is to take over."""

    group: _Group
    copy: int  # of the same group; 0: there is no other
    reader: Reader
    share: float  # of the full age that this reader reaches
    successor: Reader | None = None

    @property
    def readers(self) -> list[Reader]:
        """Return the reader in it, and the one that is to take over."""
        return [self.reader] if self.successor is None else [self.reader, self.successor]


@dataclass(slots=True, eq=False)
class _Group:
    """Symbols that share connections, and these."""

    symbols: dict[str, None]
    places: list[_Place] = field(default_factory=list)

    @property
    def readers(self) -> list[Reader]:
        """Return every reader that carries its symbols."""
        return [reader for place in self.places for reader in place.readers]


class ConnectionPool:
    """Makes, starts and rotates the readers.

    *make_reader* is given a number, the symbols and which copy of the group it is, 0 for the only
    one. Every method may be called from any thread: a lock keeps the groups and their places.
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
        counter: ConnectionCounter | None = None,
    ) -> None:
        self._make_reader = make_reader
        self._group_size = group_size
        self._copies = range(1, redundancy + 1) if redundancy > 1 else (0,)
        self._rotate_after_ms = rotate_after_ms
        self._timing = timing
        self._rng = rng or random.Random()  # noqa: S311 - spreads rotations, keeps no secret
        self._counter = counter or ConnectionCounter()
        self._count = 0
        self._lock = threading.RLock()
        self._is_started = self._is_closed = False
        self._halted: frozenset[str] = frozenset()
        self._retired: list[Reader] = []
        self._groups = [self._new_group(group) for group in _groups(symbols, group_size)]
        self._group_of = {symbol: group for group in self._groups for symbol in group.symbols}

    @property
    def readers(self) -> list[Reader]:
        """Every reader that has not ended for good, those about to take over included."""
        with self._lock:
            current = [place.reader for place in self._places]
            successors = [place.successor for place in self._places if place.successor]
            return [*current, *successors, *(reader for reader in self._retired if reader.is_alive)]

    @property
    def _places(self) -> list[_Place]:
        return [place for group in self._groups for place in group.places]

    def snapshot(self, now: int) -> tuple[ConnectionSnapshot, ...]:
        """Return the state of each connection. Any thread."""
        return tuple(reader.snapshot(now) for reader in self.readers)

    def counts(self) -> ConnectionCounts:
        """Return how many connections were opened and lost, those of before too. Any thread."""
        return self._counter.snapshot()

    def start(self) -> None:
        """Open all connections."""
        with self._lock:
            self._is_started = True
            for place in self._places:
                place.reader.start()

    def close(self) -> None:
        """Open no further connections. Those that there are end when they are stopped."""
        with self._lock:
            self._is_closed = True

    def add(self, symbols: Sequence[str]) -> None:
        """Carry *symbols* as well: on connections that there are, as far as they have room."""
        with self._lock:
            if self._is_closed:
                return
            new = [symbol for symbol in dict.fromkeys(symbols) if symbol not in self._group_of]
            for group in sorted(self._groups, key=lambda group: len(group.symbols)):
                room = self._group_size - len(group.symbols)
                taken, new = new[:room], new[room:]
                if taken:
                    self._add_to(group, taken)
            for symbols_of_group in _groups(new, self._group_size):
                self._open_group(symbols_of_group)

    def remove(self, symbols: Sequence[str]) -> None:
        """Carry *symbols* no longer. Nothing happens to connections that carry others as well."""
        with self._lock:
            leaving: dict[_Group, list[str]] = {}
            for symbol in symbols:
                group = self._group_of.pop(symbol, None)
                if group is not None:
                    leaving.setdefault(group, []).append(symbol)
            for group, names in leaving.items():
                for symbol in names:
                    del group.symbols[symbol]
                if not group.symbols:
                    self._close_group(group)
                    continue
                for reader in group.readers:
                    reader.unsubscribe(names)
                self._expect_data(group)

    def expect_no_data(self, halted: frozenset[str]) -> None:
        """Have connections that carry none but *halted* symbols not be taken for dead."""
        with self._lock:
            self._halted = halted
            for group in self._groups:
                self._expect_data(group)

    def resubscribe(self, symbol: str) -> None:
        """Ask for the stream of *symbol* once more on every connection: it is dead. Any thread."""
        with self._lock:
            group = self._group_of.get(symbol)
            for reader in () if group is None else group.readers:
                reader.resubscribe(symbol)

    def maintain(self, now: int) -> None:
        """Begin and finish the rotations that are due; call it about once a second."""
        with self._lock:
            if not self._is_closed:
                self._maintain(now)

    def _maintain(self, now: int) -> None:
        self._retired = [reader for reader in self._retired if reader.is_alive]
        for place in self._places:
            if place.successor is not None:
                self._finish_rotation(place, place.successor, now)
        for place in self._places:
            if place.successor is None and self._is_due(place, now):
                place.successor = self._new_reader(tuple(place.group.symbols), place.copy)
                log.info(
                    "%s takes over from %s",
                    place.successor.name,
                    place.reader.name,
                    extra={"event": "rotation_started"},
                )
                self._expect_data(place.group)
                place.successor.start()

    def _add_to(self, group: _Group, symbols: Sequence[str]) -> None:
        """Have the connections of a group carry *symbols* as well."""
        group.symbols.update(dict.fromkeys(symbols))
        self._group_of.update(dict.fromkeys(symbols, group))
        for reader in group.readers:
            reader.subscribe(symbols)
        self._expect_data(group)

    def _open_group(self, symbols: Sequence[str]) -> None:
        """Have new connections carry *symbols*."""
        group = self._new_group(symbols)
        self._groups.append(group)
        self._group_of.update(dict.fromkeys(symbols, group))
        self._expect_data(group)
        if self._is_started:
            for place in group.places:
                place.reader.start()

    def _close_group(self, group: _Group) -> None:
        """End the connections of a group that carries nothing any more."""
        self._groups.remove(group)
        for reader in group.readers:
            reader.stop()
            self._retired.append(reader)

    def _expect_data(self, group: _Group) -> None:
        is_expected = not self._halted or not group.symbols.keys() <= self._halted
        for reader in group.readers:
            reader.expect_data(is_expected=is_expected)

    def _new_group(self, symbols: Sequence[str]) -> _Group:
        group = _Group(dict.fromkeys(symbols))
        group.places += [
            _Place(group, copy, self._new_reader(symbols, copy), self._share())
            for copy in self._copies
        ]
        return group

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
    if new.subscribed_at is None or not new.is_settled:
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
