"""Bars that a store had already and is to get again: where that has come to.

The place of the last bar that was sent is kept for each store, in the order of the table. Bars go
by open time, whatever their state; what changes meanwhile is delivered as ever. All functions
may raise sqlite3.Error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bintrades.journal.bars import count_since
from bintrades.journal.meta import put_resend_place, read_resend_place
from bintrades.journal.store_coverage import note_lost

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from bintrades.journal.meta import Place


def request(connection: sqlite3.Connection, store: str, since_ms: int) -> int:
    """Have every bar with since_ms <= open time sent to *store* again; return how many there are.

    Those that have left are not, and the store is told no more that it covers their time. Where
    that is under way already it goes back, or goes on, whatever sends more.
    """
    place = (since_ms, "")
    if (before := read_resend_place(connection, store)) is not None:
        place = min(place, before)
    put_resend_place(connection, store, place)
    note_lost(connection, store, since_ms)
    return count_since(connection, since_ms)


def earliest_place(connection: sqlite3.Connection, stores: Iterable[str]) -> Place | None:
    """Return after which bar all are still to be sent to one of *stores* again; None for none."""
    places = (read_resend_place(connection, store) for store in stores)
    return min((place for place in places if place is not None), default=None)


def record_sent(
    connection: sqlite3.Connection, store: str, before: Place, through: Place | None
) -> None:
    """Record that what followed *before* was sent *through* that bar, or to the end where None.

    Unless somebody has asked for more in the meantime, who then gets all of it.
    """
    if read_resend_place(connection, store) == before:
        put_resend_place(connection, store, through)
