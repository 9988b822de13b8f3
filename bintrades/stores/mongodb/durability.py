"""When MongoDB is to acknowledge a bar, and which settings of the user's have it do so too early.

A bar leaves our hands for good when MongoDB has acknowledged it: the store's cursor moves on. What
only the primary of a replica set has by then is rolled back when another member takes over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pymongo.write_concern import WriteConcern

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pymongo import MongoClient

_LONGEST_WAIT_S = 20.0


def bounded(client: MongoClient[dict[str, Any]]) -> WriteConcern:
    """Return the client's write concern, with a limit to the wait for members that are away.

    It ends before we give up waiting for the server itself, so that the server says what is the
    matter. What the URI says stands.
    """
    return WriteConcern(**({"wtimeout": server_limit_ms(client)} | client.write_concern.document))


def server_limit_ms(client: MongoClient[dict[str, Any]]) -> int:
    """Return for how long the server may work on a request, so that it ends before we give up."""
    timeout_s = client.options.pool_options.socket_timeout
    wait_s = _LONGEST_WAIT_S if not timeout_s else min(_LONGEST_WAIT_S, timeout_s * 2 / 3)
    return max(1, int(wait_s * 1_000))


def unsafe_options(concern: WriteConcern) -> Iterator[str]:
    """Yield what is unsafe about *concern*, as far as is known without asking a server."""
    if concern.document.get("w") == 1:
        yield (
            "uri: w=1 is unsafe on a replica set: a fail-over takes back bars that were"
            " acknowledged; leave w out, or say w=majority"
        )
    if concern.document.get("j") is False:
        yield (
            "uri: journal=false is unsafe: a power cut takes back bars that were acknowledged;"
            " leave it out"
        )


def unsafe_on(hello: Mapping[str, Any], concern: WriteConcern) -> str | None:
    """Return what is unsafe about *concern* on the server that answered *hello*, if anything."""
    needed = _majority(hello)
    asked_for = concern.document.get("w", "majority")
    if not isinstance(asked_for, int) or asked_for >= needed:
        return None  # a majority, or a name that the administrator has given to some members
    return (
        f"w={asked_for} is unsafe here: a bar is safe from a fail-over once {needed} members have"
        " it; leave w out of the uri, or say w=majority"
    )


def _majority(hello: Mapping[str, Any]) -> int:
    """Return how many members must have a write; the members behind a router are not known."""
    if hello.get("msg") == "isdbgrid":
        return 2
    if "setName" not in hello:
        return 1
    return len(hello.get("hosts", ())) // 2 + 1
