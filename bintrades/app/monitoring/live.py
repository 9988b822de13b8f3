"""Server-sent events: listeners hear of each bar that is written, and of the open ones they chart.

The journal is asked once a second, by one for all, while there is anybody to hear of it.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from bintrades.app.monitoring.beside import BusyError
from bintrades.errors import JournalError
from bintrades.util.text import as_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from bintrades.app.monitoring.beside import Beside
    from bintrades.app.monitoring.page_data import PageData

log = logging.getLogger(__name__)

MOST_LISTENERS = 64
_EVERY_S = 1.0
_SIGN_OF_LIFE_S = 15.0
_WAITING = 8  # events of a listener; one that lets more of them wait is dropped

Key = tuple[str, int]


class Listener:
    """One who hears of the bars of some symbols, and of one with its bars that are still open."""

    def __init__(self, charted: str, symbols: Sequence[str]) -> None:
        self.charted = charted
        self.symbols = frozenset((charted, *symbols)) - {""}
        self.is_dropped = False
        self._events: asyncio.Queue[str] = asyncio.Queue(_WAITING)

    def tell(self, texts: Mapping[Key, str]) -> None:
        """Have it hear of bars, each by its symbol and open time."""
        mine = [text for (symbol, _), text in texts.items() if symbol in self.symbols]
        if not mine:
            return
        if self._events.full():
            self.is_dropped = True
        else:
            self._events.put_nowait(f'event: bars\ndata: {{"bars": [{", ".join(mine)}]}}\n\n')

    async def events(self) -> AsyncIterator[str]:
        """Yield what it hears, and something now and then."""
        yield "retry: 3000\nevent: ready\ndata: {}\n\n"
        while not self.is_dropped:
            try:
                yield await asyncio.wait_for(self._events.get(), _SIGN_OF_LIFE_S)
            except TimeoutError:
                yield ":\n\n"


class Live:
    """Tells all listeners what is new. All on one event loop."""

    def __init__(self, data: PageData, beside: Beside) -> None:
        self._data = data
        self._beside = beside
        self._listeners: set[Listener] = set()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_full(self) -> bool:
        """Whether there are as many listeners as there may be."""
        return len(self._listeners) >= MOST_LISTENERS

    @contextmanager
    def listening(self, listener: Listener) -> Iterator[None]:
        """Have *listener* hear what is new meanwhile."""
        self._listeners.add(listener)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            self._listeners.discard(listener)

    async def _watch(self) -> None:
        """Look what is new until nobody listens."""
        sequence: int | None = None
        told: dict[Key, str] = {}
        while self._listeners:
            try:
                if sequence is None:
                    sequence = await self._beside.call(self._data.sequence)
                sequence, bars = await self._beside.call(self._changes(sequence))
            except (JournalError, BusyError, OSError) as error:
                log.debug("listeners wait: %s", error, extra={"event": "listeners_wait"})
            else:
                texts = {(bar["symbol"], bar["open_time_ms"]): as_json(bar) for bar in bars}
                new = {key: text for key, text in texts.items() if told.get(key) != text}
                told = texts
                for listener in tuple(self._listeners):
                    listener.tell(new)
            await asyncio.sleep(_EVERY_S)

    def _changes(self, sequence: int) -> partial[tuple[int, list[dict[str, Any]]]]:
        symbols = frozenset().union(*(each.symbols for each in self._listeners))
        charted = frozenset(each.charted for each in self._listeners) - {""}
        return partial(self._data.changes, sequence, symbols, charted)
