"""Which of several collectors collects a symbol. Pure.

By rendezvous hashing: each symbol has a number for each shard, and the shard of its highest number
has it. So a shard that is added takes its part of all others, and no symbol moves between those.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

MOST_SHARDS = 1_000


@dataclass(frozen=True, slots=True)
class Shard:
    """One of *count* collectors that share the symbols; the first one has the number 1."""

    number: int
    count: int

    def __str__(self) -> str:
        """Return it as the configuration has it."""
        return f"{self.number}/{self.count}"

    def has(self, symbol: str) -> bool:
        """Whether *symbol* is collected here."""
        return shard_of(symbol, self.count) == self.number


@lru_cache(maxsize=20_000)
def shard_of(symbol: str, count: int) -> int:
    """Return the number of the shard of *symbol* where there are *count*."""
    return max(range(1, count + 1), key=lambda number: _score(symbol, number))


def _score(symbol: str, number: int) -> bytes:
    return hashlib.blake2b(f"{number} {symbol}".encode(), digest_size=8).digest()
