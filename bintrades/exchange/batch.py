"""A batch of messages, as it was received and as it is understood. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bintrades.model import Trade


class Batch:
    """Text messages of one connection, in order, joined into one JSON array.

    They are joined by the thread that read them, while they are in its processor's cache: one
    large object goes from thread to thread much faster than thousands of small ones.
    """

    __slots__ = ("array", "lengths")

    def __init__(self, payloads: Sequence[bytes]) -> None:
        self.array = b"[" + b",".join(payloads) + b"]"
        self.lengths = list(map(len, payloads))

    @property
    def payloads(self) -> list[bytes]:
        """The messages as they came."""
        ends = [end + index for index, end in enumerate(accumulate(self.lengths), 1)]
        return [
            self.array[end - length : end] for end, length in zip(ends, self.lengths, strict=True)
        ]


class Unusable(NamedTuple):
    """The symbol and id of a trade whose message cannot be used."""

    symbol: str
    trade_id: int | None  # None: unknown


@dataclass(slots=True)
class Decoded:
    """The messages of a batch, by kind."""

    trades: list[Trade] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)  # trades by what the exchange calls them
    unknown_kinds: list[tuple[str, str]] = field(default_factory=list)  # with their symbols
    invalid_count: int = 0  # aggregates that the exchange has marked as none
    unknown: list[bytes] = field(default_factory=list)  # well-formed, but nothing that we use
    bad: list[tuple[bytes, str]] = field(default_factory=list)  # with the reason
    unusable: list[Unusable] = field(default_factory=list)  # trades among the bad
