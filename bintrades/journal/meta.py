"""What single facts and places of the journal may say, and what becomes of those that cannot be.

SQLite finds no fault with a value that is nonsense. Where others tell it as well it is mended, else
forgotten, with a word in the log: the collector never stands still for it.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

import msgspec

from bintrades.core.ban import Ban
from bintrades.errors import ConfigError
from bintrades.journal.file import UnreadableRow, reading_rows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping
    from typing import Any

    from bintrades.core.write_batch import Checkpoint

log = logging.getLogger(__name__)

LOST_THROUGH = "lost_through"
"""Name of the fact up to which open time bars of each symbol were lost with an earlier file."""

REOPENED = "reopened"
"""Name of the fact which ids of each symbol are missing again, having been held to be absent."""

RATE_LIMIT_BAN = "rest_blocked_until"
"""Name of the fact that the exchange wants no requests for a while: a Ban."""

IdRange = tuple[int, int]
"""First and last id."""

_ANY_ID: IdRange = (0, 2**63 - 1)

FOUND_DAMAGED = "found_damaged"
"""Name of the fact that somebody has met damage where the collector never looks, and which."""

LAST_SEQUENCE = 2**53
"""No journal gives as many numbers."""

_NAME = r"[a-zA-Z][a-zA-Z0-9_-]*"
_CAN_BE = {
    "exchange": _NAME,
    "market": _NAME,
    "stream": _NAME,
    "interval_ms": r"[1-9][0-9]{0,4}000",
}
_PLACE = """
SELECT sequence, (SELECT CAST(value AS INTEGER) FROM facts WHERE name = 'sequence')
FROM cursors WHERE store = ?
"""


class Kind(msgspec.Struct, frozen=True):
    """What all bars of a journal have in common."""

    market: str
    interval_ms: int
    exchange: str = "binance"  # of journals that do not say
    stream: str = "trade"


def decode_ban(text: str | None) -> Ban:
    """Return the ban that was kept, or one that is over if there is none or it is nonsense."""
    try:
        return Ban.read(text)
    except ValueError:
        log.warning(
            "for how long the exchange wants no requests is nonsense in the journal and is"
            " forgotten; if it still wants none, it will say so again",
            extra={"event": "ban_unreadable", "value": text},
        )
        return Ban.read(None)


def read_kind(connection: sqlite3.Connection) -> Kind:
    """Return the kind of the bars. Raises sqlite3.Error."""
    facts: dict[str, str] = {
        "exchange": "binance",
        "stream": "trade",
        **dict(
            connection.execute(
                "SELECT name, value FROM facts"
                " WHERE name IN ('exchange', 'market', 'stream', 'interval_ms')"
            )
        ),
    }
    if not all(_can_be(name, facts.get(name)) for name in _CAN_BE):
        raise UnreadableRow(f"market and interval of the bars are nonsense: {facts}")
    return Kind(facts["market"], int(facts["interval_ms"]), facts["exchange"], facts["stream"])


def read_found_damaged(connection: sqlite3.Connection) -> str | None:
    """Return which damage others have met, if any. Raises sqlite3.Error."""
    row = connection.execute("SELECT value FROM facts WHERE name = ?", (FOUND_DAMAGED,)).fetchone()
    return None if row is None else str(row[0])


def keep_kind(connection: sqlite3.Connection, kind: Kind) -> None:
    """Refuse to mix bars of another kind into one journal.

    Raises ConfigError without naming the file, and sqlite3.Error.
    """
    for name, value in msgspec.structs.asdict(kind).items():
        here = str(value)
        row = connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        there = here if row is None else row[0]
        if there != here and _can_be(name, there):
            raise ConfigError(
                f"holds bars of {name} {there}, the configuration says {here};"
                " set [journal] path to another file"
            )
        if there != here:
            _say_mended(name, there)
        if row is None or there != here:
            connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, here))


def read_sequence(connection: sqlite3.Connection) -> int:
    """Return the last number of the sequence that was given. Raises sqlite3.Error."""
    value, newest = connection.execute(
        "SELECT (SELECT value FROM facts WHERE name = 'sequence'), (SELECT max(sequence) FROM bars)"
    ).fetchone()
    with reading_rows():
        if not (newest or 0) <= int(value) <= LAST_SEQUENCE:
            raise ValueError(f"the sequence is at {value}, a bar has number {newest}")
        return int(value)


def read_lost_through(
    connection: sqlite3.Connection, checkpoints: Mapping[str, Checkpoint]
) -> dict[str, int]:
    """Return up to which open time bars were lost with an earlier file. Raises sqlite3.Error."""
    row = connection.execute("SELECT value FROM facts WHERE name = ?", (LOST_THROUGH,)).fetchone()
    try:
        return {} if row is None else msgspec.json.decode(row[0], type=dict[str, int])
    except (TypeError, msgspec.DecodeError):  # any bar may be among them
        _say_mended(LOST_THROUGH, row[0])
        return {symbol: each.closed_through for symbol, each in checkpoints.items()}


def read_pruned(
    connection: sqlite3.Connection, checkpoints: Mapping[str, Checkpoint]
) -> dict[str, int]:
    """Return up to which open time bars of each symbol have left. Raises sqlite3.Error."""
    pruned = dict(connection.execute("SELECT symbol, through FROM pruned"))
    for symbol, through in pruned.items():
        if not isinstance(through, int):  # any bar may be among them
            _say_mended(f"pruned {symbol}", through)
            checkpoint = checkpoints.get(symbol)
            pruned[symbol] = checkpoint.closed_through if checkpoint is not None else -1
    return pruned


def read_reopened(
    connection: sqlite3.Connection, checkpoints: Mapping[str, Checkpoint]
) -> dict[str, list[IdRange]]:
    """Return which ids were held to be absent while bars of theirs left. Raises sqlite3.Error."""
    row = connection.execute("SELECT value FROM facts WHERE name = ?", (REOPENED,)).fetchone()
    try:
        return {} if row is None else msgspec.json.decode(row[0], type=dict[str, list[IdRange]])
    except (TypeError, msgspec.DecodeError):  # any id may be among them
        _say_mended(REOPENED, row[0])
        return {symbol: [_ANY_ID] for symbol, each in checkpoints.items() if each.ledger.gaps}


def forget_nonsense(connection: sqlite3.Connection, last_sequence: int) -> None:
    """Take out times and places that cannot be; a store without a place gets all bars again.

    Raises sqlite3.Error.
    """
    wrong = connection.execute(
        "DELETE FROM written WHERE typeof(at) <> 'integer' OR typeof(sequence) <> 'integer'"
        " RETURNING 'written', at, sequence"
    ).fetchall()
    wrong += connection.execute(
        "DELETE FROM cursors WHERE typeof(sequence) <> 'integer'"
        " OR sequence NOT BETWEEN 0 AND ? RETURNING 'cursors', store, sequence",
        (last_sequence,),
    ).fetchall()
    for table, *values in wrong:
        log.error(
            "a row of the journal cannot be and is forgotten",
            extra={"table": table, "values": str(values)},
        )


def place_of(connection: sqlite3.Connection, store: str) -> int:
    """Return which number of the sequence a store has come to. Raises sqlite3.Error."""
    row = connection.execute(_PLACE, (store,)).fetchone()
    return 0 if row is None else checked_place(store, *row)


def checked_place(store: str, place: Any, last_sequence: int) -> int:
    """Return *place*; raise UnreadableRow where no store can have come so far."""
    with reading_rows():
        if not (isinstance(place, int) and 0 <= place <= last_sequence):
            raise ValueError(f"store {store} has come to {place} of {last_sequence}")
        return place


def _can_be(name: str, value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(_CAN_BE[name], value) is not None


def _say_mended(name: str, value: Any) -> None:
    log.error(
        "a fact of the journal is nonsense and is made anew",
        extra={"fact": name, "value": str(value)},
    )
