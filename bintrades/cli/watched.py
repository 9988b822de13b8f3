"""What `bintrades status --watch` looks at: read again and again, in a small part of a core."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from bintrades.app.monitoring.page_data import PageData
from bintrades.app.status import read_status

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence
    from pathlib import Path

T = TypeVar("T")

RESTS = 40
"""How many times as long as reading something took it is not read again."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Some symbols with what is known of each, and of which time that is."""

    symbols: list[dict[str, Any]]
    """As PageData.symbols_of() has them, with the `runs` of PageData.map_of()."""
    market: str
    now_ms: int
    since_ms: int
    until_ms: int


class Seldom(Generic[T]):
    """A value that is read again, but not before RESTS times as long as that took."""

    def __init__(
        self, read: Callable[..., T], clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._read = read
        self._clock = clock
        self._asked: tuple[Hashable, ...] | None = None
        self._not_before = 0
        self._value: T

    def get(self, *asked: Hashable) -> T:
        """Return what reading returns, or did so a while ago; raise what reading raises."""
        began = self._clock()
        if asked != self._asked or began >= self._not_before:
            self._asked = None
            self._value = self._read(*asked)
            self._asked = asked
            ended = self._clock()
            self._not_before = ended + RESTS * (ended - began)
        return self._value


class Watched:
    """A collector and its symbols. One thread; every method may raise JournalError or OSError."""

    def __init__(self, journal: Path, stores: Sequence[str], shard: str | None = None) -> None:
        self._data = PageData(journal)
        self._status = Seldom(partial(read_status, journal, stores, shard))
        self._names = Seldom(self._data.by_trouble)
        self._symbols = Seldom(self._data.symbols_of)
        self._map = Seldom(self._data.map_of)
        self._beats: list[tuple[int, int, int]] = []  # process, when, trades: of two statuses

    def status(self) -> dict[str, Any]:
        """Return what `bintrades status --json` shows."""
        status = self._status.get()
        collector = status["collector"]
        if collector and "trades" in collector:
            beat = (collector["pid"], collector["beat_ms"], collector["trades"])
            if beat not in self._beats:
                self._beats = [*self._beats, beat][-2:]
        return status

    def trades_a_second(self) -> int | None:
        """Return how many came between the last two statuses; None: there are not two yet."""
        if len(self._beats) < 2:
            return None
        (process, since, before), (same_process, until, trades) = self._beats
        if process != same_process or until <= since:
            return None
        return round((trades - before) * 1_000 / (until - since))

    def names(self) -> list[str]:
        """Return all symbols, those with most trouble first."""
        return self._names.get()

    def rows(self, names: Sequence[str], span_ms: int, cells: int) -> Rows:
        """Return what is known of *names*, and of the last *span_ms* in *cells* parts."""
        shown = self._symbols.get(tuple(names))
        found = self._map.get(tuple(names), span_ms, cells)
        runs = {each["symbol"]: each["runs"] for each in found["symbols"]}
        return Rows(
            [{**each, "runs": runs[each["symbol"]]} for each in shown["symbols"]],
            shown["market"],
            shown["now_ms"],
            found["since_ms"],
            found["until_ms"],
        )
