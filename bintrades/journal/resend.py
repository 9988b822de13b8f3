"""Bars that a store had already and is to get again: where that has come to.

One fact per store holds the place of the last bar that was sent, in the order of the table. Bars go
by open time, whatever their state; what changes meanwhile is delivered as ever. All functions
may raise sqlite3.Error.
"""

from __future__ import annotations

import contextlib
import json
import logging
from typing import TYPE_CHECKING

import msgspec

from bintrades.journal.bars import BAR_COLUMNS
from bintrades.journal.schema import BLOCK_MS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

log = logging.getLogger(__name__)

Place = tuple[int, str]
"""Open time and symbol of a bar; what comes after it is still to be sent."""

_BEGINNING: Place = (0, "")
_NEVER_MS = 10**15
_place = msgspec.json.Decoder(tuple[int, str])

BARS_FROM = (
    f"SELECT {BAR_COLUMNS} FROM bars"  # noqa: S608 - constants
    " WHERE (open_time, symbol) > (?, ?) ORDER BY open_time, symbol LIMIT ?"
)

_COUNT_SINCE = """
SELECT (SELECT count(*) FROM bars WHERE open_time >= :since AND open_time < :next)
    + (SELECT coalesce(sum(bars), 0) FROM blocks WHERE block >= :next / :block)
"""


def request(connection: sqlite3.Connection, store: str, since_ms: int) -> int:
    """Have every bar with since_ms <= open time sent to *store* again; return how many there are.

    Where that is under way already it goes back, or goes on, whatever sends more.
    """
    place = (since_ms, "")
    if (before := place_of(connection, store)) is not None:
        place = min(place, before)
    connection.execute(
        "INSERT OR REPLACE INTO facts VALUES (?, ?)", (_name(store), json.dumps(place))
    )
    span = {"since": since_ms, "next": (since_ms // BLOCK_MS + 1) * BLOCK_MS, "block": BLOCK_MS}
    (count,) = connection.execute(_COUNT_SINCE, span).fetchone()
    return int(count)


def place_of(connection: sqlite3.Connection, store: str) -> Place | None:
    """Return where sending again has come to; None where nothing is to be sent again."""
    row = connection.execute("SELECT value FROM facts WHERE name = ?", (_name(store),)).fetchone()
    if row is None:
        return None
    with contextlib.suppress(TypeError, msgspec.DecodeError):
        place = _place.decode(row[0])
        if abs(place[0]) < _NEVER_MS:
            return place
    log.warning(
        "where sending bars again has come to is nonsense: it begins with the oldest",
        extra={"store": store, "value": str(row[0])},
    )
    return _BEGINNING


def earliest_place(connection: sqlite3.Connection, stores: Iterable[str]) -> Place | None:
    """Return after which bar all are still to be sent to one of *stores* again; None for none."""
    places = (place_of(connection, store) for store in stores)
    return min((place for place in places if place is not None), default=None)


def record_sent(
    connection: sqlite3.Connection, store: str, before: Place, through: Place | None
) -> None:
    """Note that what followed *before* was sent *through* that bar, or to the end where None.

    Unless somebody has asked for more in the meantime, who then gets all of it.
    """
    if place_of(connection, store) != before:
        return
    if through is None:
        connection.execute("DELETE FROM facts WHERE name = ?", (_name(store),))
    else:
        connection.execute(
            "UPDATE facts SET value = ? WHERE name = ?", (json.dumps(through), _name(store))
        )


def _name(store: str) -> str:
    return f"resend {store}"
