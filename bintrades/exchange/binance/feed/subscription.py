"""Subscribing to streams in paced batches, and the answers to that. Pure.

The limits are those of the market: too many messages a second close the connection (1008), too
long a message is not answered at all.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bintrades.exchange.binance.feed.control import Answer
    from bintrades.exchange.binance.market import Market

_SUBSCRIBE, _UNSUBSCRIBE, _LIST = "SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS"


class Subscription:
    """The subscriptions of one connection. Times: milliseconds, monotonic."""

    def __init__(self, names: Sequence[str], market: Market, answer_timeout_ms: int) -> None:
        self._market = market
        self._answer_timeout_ms = answer_timeout_ms
        self._waiting: deque[tuple[str, list[str]]] = deque()
        # By request: what it asks for, the names, and when it was sent.
        self._asked: dict[int, tuple[str, list[str], int]] = {}
        self._wanted: set[str] = set()
        self._last_id = 0
        self._next_at = 0
        self.refused: dict[str, str] = {}  # by name: the reason that the exchange gave
        self.subscribe(names)

    @property
    def is_complete(self) -> bool:
        """Whether every name was asked for and answered."""
        return not self._waiting and not self._asked

    def next_message(self, now: int) -> str | None:
        """Return the message to send now, if there is one and its time has come."""
        if not self._waiting or now < self._next_at:
            return None
        method, names = self._waiting.popleft()
        self._last_id += 1
        self._asked[self._last_id] = (method, names, now)
        self._next_at = now + self._market.control_spacing_ms
        return _message(method, names, self._last_id)

    def subscribe(self, names: Sequence[str]) -> None:
        """Ask for *names* as well, after all that is to be asked."""
        self._wanted.update(names)
        names = self._cancel(_UNSUBSCRIBE, names)
        batches = _batches(_SUBSCRIBE, names, self._market)
        self._waiting.extend((_SUBSCRIBE, batch) for batch in batches)

    def unsubscribe(self, names: Sequence[str]) -> None:
        """Ask for *names* no longer, after all that is to be asked."""
        self._wanted.difference_update(names)
        for name in names:
            self.refused.pop(name, None)
        names = self._cancel(_SUBSCRIBE, names)
        batches = _batches(_UNSUBSCRIBE, names, self._market)
        self._waiting.extend((_UNSUBSCRIBE, batch) for batch in batches)

    def _cancel(self, method: str, names: Sequence[str]) -> Sequence[str]:
        """Take *names* out of what waits to be sent; return those that were not there."""
        waiting = {name for kind, batch in self._waiting for name in batch if kind == method}
        cancelled = waiting.intersection(names)
        if not cancelled:
            return names
        changed = [
            (kind, [name for name in batch if kind != method or name not in cancelled])
            for kind, batch in self._waiting
        ]
        self._waiting = deque((kind, batch) for kind, batch in changed if batch)
        return [name for name in names if name not in cancelled]

    def resubscribe(self, name: str) -> None:
        """Unsubscribe and subscribe *name* again: subscribing alone may change nothing."""
        self._waiting.extend(((_UNSUBSCRIBE, [name]), (_SUBSCRIBE, [name])))

    def probe(self, now: int) -> str:
        """Return a question that any living server answers."""
        self._last_id += 1
        self._asked[self._last_id] = (_LIST, [], now)
        self._next_at = now + self._market.control_spacing_ms
        return msgspec.json.encode({"method": _LIST, "id": self._last_id}).decode()

    def on_answer(self, answer: Answer) -> list[str]:
        """Record an answer; return the names that are now refused for good.

        One bad name fails its whole batch, so a refused batch is asked for again in halves until
        the culprit stands alone. An error without an id is about the oldest question.
        """
        request = answer.id if answer.id is not None else next(iter(self._asked), None)
        if not isinstance(request, int) or request not in self._asked:
            return []
        method, names, _ = self._asked.pop(request)
        if answer.error is None or method != _SUBSCRIBE:
            return []
        names = [name for name in names if name in self._wanted]  # others are asked for no longer
        if len(names) <= 1:
            self.refused.update(dict.fromkeys(names, answer.error))
            return names
        middle = len(names) // 2
        self._waiting.extend(((_SUBSCRIBE, names[:middle]), (_SUBSCRIBE, names[middle:])))
        return []

    def is_overdue(self, now: int) -> bool:
        """Whether a question has had no answer for too long."""
        return any(now - asked > self._answer_timeout_ms for *_, asked in self._asked.values())


def _batches(method: str, names: Sequence[str], market: Market) -> list[list[str]]:
    """Split *names* so that each message keeps to the market's limits."""
    batches: list[list[str]] = []
    empty = len(_message(method, [], 2**31).encode())
    size = market.max_subscribe_bytes
    for name in names:
        cost = len(msgspec.json.encode(name)) + 1
        if size + cost > market.max_subscribe_bytes or (
            len(batches[-1]) >= market.max_subscribe_names
        ):
            batches.append([])
            size = empty
        batches[-1].append(name)
        size += cost
    return batches


def _message(method: str, names: Sequence[str], request: int) -> str:
    # msgspec writes UTF-8 without escapes: a name costs the bytes that it has.
    return msgspec.json.encode({"method": method, "params": names, "id": request}).decode()
