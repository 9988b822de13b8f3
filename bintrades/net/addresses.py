"""In which order the addresses of a host are tried (RFC 8305, section 4). Pure: time is an input.

A host may have addresses that are dead for us: IPv6 where no route leads there, a machine that
swallows what it gets. The others must be found, soon, and at once the next time.
"""

from __future__ import annotations

from itertools import chain, zip_longest
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Address(NamedTuple):
    """An address to connect to, in the form of the socket module."""

    family: int
    place: tuple[str | int | bytes, ...]

    def __str__(self) -> str:
        return f"{self.place[0]!s} port {self.place[1]!s}"


def in_turn(found: Iterable[Address], copy: int = 0) -> list[Address]:
    """Return every address once: families take turns, the family of the first one begins.

    The copies of a connection begin at different addresses, counted round; 0, the only one, begins
    where the system would.
    """
    addresses = list(dict.fromkeys(found))
    if copy and addresses:
        # In an order of our own: a name server may turn round its own with each answer.
        addresses.sort(key=lambda address: (address.family, str(address.place[0])))
        first = copy % len(addresses)
        addresses = [*addresses[first:], *addresses[:first]]
    families: dict[int, list[Address]] = {}
    for address in addresses:
        families.setdefault(address.family, []).append(address)
    turns = zip_longest(*families.values())
    return [address for address in chain.from_iterable(turns) if address is not None]


class Avoided:
    """The addresses that were no good in the last *for_ms*. *now*: milliseconds, monotonic."""

    def __init__(self, for_ms: int) -> None:
        self._for_ms = for_ms
        self._since: dict[Address, int] = {}

    def add(self, address: Address, now: int) -> None:
        """Try *address* after all others, for a while."""
        self._since = {
            each: since
            for each, since in self._since.items()
            if now - since < self._for_ms and each != address
        }
        self._since[address] = now

    def remove(self, address: Address) -> None:
        """Treat *address* like any other: it has worked."""
        self._since.pop(address, None)

    def last(self, addresses: Sequence[Address], now: int) -> list[Address]:
        """Return *addresses* with those to avoid at the end, the first to fail first."""
        ranks = {
            address: rank
            for rank, (address, since) in enumerate(self._since.items())
            if now - since < self._for_ms
        }
        return sorted(addresses, key=lambda address: ranks.get(address, -1))
