"""Threads beside an event loop: what takes a while is done there, and the loop never waits."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class BusyError(Exception):
    """Too many wait already."""


class Beside:
    """Calls functions in threads: so many at once, and so many more that wait.

    They are daemon threads, unlike those of an executor: one that hangs on a disk cannot keep the
    process from ending. With *rests* a thread does nothing for as long as the function took, before
    the next one begins: who asks without end takes half of a core at the most. All methods are
    called on the event loop.
    """

    def __init__(self, name: str, at_once: int, waiting: int, *, rests: bool = False) -> None:
        self._name = name
        self._rests = rests
        self._free = asyncio.Semaphore(at_once)
        self._places = at_once + waiting

    async def call(self, function: Callable[[], T]) -> T:
        """Return what *function* returns, or raise BusyError at once: too many wait, or there is no
        thread to be had.

        Who does not wait for the end leaves the function its thread and its place until then.
        """
        if not self._places:
            raise BusyError
        self._places -= 1
        try:
            await self._free.acquire()
        except asyncio.CancelledError:
            self._places += 1
            raise
        loop = asyncio.get_running_loop()
        result: asyncio.Future[T] = loop.create_future()
        arguments = (loop, result, function)
        thread = threading.Thread(target=self._run, args=arguments, name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # this machine allows no more threads now
            self._end()
            raise BusyError from error
        return await result

    def _run(
        self,
        loop: asyncio.AbstractEventLoop,
        result: asyncio.Future[T],
        function: Callable[[], T],
    ) -> None:
        began = time.monotonic()
        try:
            settle: Callable[[], None] = partial(result.set_result, function())
        except Exception as error:
            settle = partial(result.set_exception, error)
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(_settle, result, settle)
            if self._rests:
                time.sleep(time.monotonic() - began)
            loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        self._places += 1
        self._free.release()


def _settle(result: asyncio.Future[T], settle: Callable[[], None]) -> None:
    if not result.done():  # else nobody waits for it any more
        settle()
