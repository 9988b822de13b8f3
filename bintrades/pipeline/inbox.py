"""The inbox between whoever talks to the exchange and the aggregator. Bounded by bytes."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING

from bintrades.core.backfill_result import BackfillResult
from bintrades.exchange.events import Payloads

if TYPE_CHECKING:
    from bintrades.exchange.events import Event

MAX_INBOX_BYTES = 20 * 1024 * 1024
"""Hours of a quiet market, and a second or two of the busiest."""

_EVENT_BYTES = 300  # of its objects, whatever it holds
_MESSAGE_BYTES = 40  # for the length of each message
_TRADE_BYTES = 350  # of a trade that REST has brought, decoded


class Inbox(queue.Queue["Event"]):
    """A queue of events that is full when they take *max_bytes* together. Any thread.

    The last event that is let in may exceed that: a batch of messages has 256 KiB at most. Only
    trades wait for room. What happened to a connection never waits and so is never given up: an
    aggregator that missed a Disconnected would let bars close with nothing connected.
    """

    def __init__(self, max_bytes: int = MAX_INBOX_BYTES) -> None:
        self.bytes = 0
        super().__init__(max_bytes)

    def put(self, item: Event, block: bool = True, timeout: float | None = None) -> None:
        """Let *item* in. Raises queue.Full if it brings trades and there is no room in time."""
        if isinstance(item, Payloads | BackfillResult):
            super().put(item, block, timeout)
            return
        with self.mutex:
            self._put(item)
            self.unfinished_tasks += 1
            self.not_empty.notify()

    def qsize(self) -> int:
        """Return the number of events."""
        return len(self.queue)

    # What queue.Queue lets subclasses change; it holds its lock meanwhile and asks _qsize() alone
    # whether it is full or empty.

    def _qsize(self) -> int:
        return self.bytes

    def _put(self, item: Event) -> None:
        self.queue.append(item)
        self.bytes += size_of(item)

    def _get(self) -> Event:
        item: Event = self.queue.popleft()
        self.bytes -= size_of(item)
        return item


def size_of(event: Event) -> int:
    """Return about how many bytes of memory *event* takes."""
    if isinstance(event, Payloads):
        batch = event.batch
        return _EVENT_BYTES + len(batch.array) + _MESSAGE_BYTES * len(batch.lengths)
    if isinstance(event, BackfillResult):
        return _EVENT_BYTES + _TRADE_BYTES * len(event.ranges)
    return _EVENT_BYTES
