"""The journal's metadata: table `facts`, one accessor for each thing that it holds.

SQLite finds no fault with a value that is invalid. Where other tables say it as well it is mended,
else forgotten, with a line in the log: the collector never stands still for it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
from typing import TYPE_CHECKING

import msgspec

from bintrades.core.ban import Ban
from bintrades.core.write_batch import IdRange
from bintrades.errors import ConfigError
from bintrades.journal.damage import UnreadableRow, reading_rows
from bintrades.model.bar_fields import FUTURES
from bintrades.model.symbol_record import SymbolRecord

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping
    from typing import Any

    from bintrades.core.write_batch import Checkpoint

log = logging.getLogger(__name__)

Place = tuple[int, str]
"""Open time and symbol of a bar; what comes after it is still to be sent."""

LAST_SEQUENCE = 2**53
"""No journal gives as many numbers."""

_SEQUENCE, _LOST_THROUGH, _REOPENED = "sequence", "lost_through", "reopened"
_FOUND_DAMAGED, _TOTAL_LOSS = "found_damaged", "lost"
_BAN, _STATUS, _SYMBOL_LIST, _DELIVERED = (
    *("rest_blocked_until", "status"),
    *("listed_symbols", "delivered"),
)
_SYMBOL_RECORD, _LAST_CHARACTER = "symbol ", "\U0010ffff"
_ENVIRONMENT = "environment"
_SALVAGED, _GAPS_UNREADABLE = "salvaged", "gaps_unreadable"

_NAME = r"[a-zA-Z][a-zA-Z0-9_-]*"
_CAN_BE = {
    "exchange": _NAME,
    "market": _NAME,
    "stream": _NAME,
    "interval_ms": r"[1-9][0-9]{0,4}000",
}
_ANY_ID: IdRange = (0, 2**63 - 1)
_BEGINNING: Place = (0, "")
_NEVER_MS = 10**15
_symbol_record = msgspec.json.Decoder(SymbolRecord)
_place = msgspec.json.Decoder(tuple[int, str])


class JournalScope(msgspec.Struct, frozen=True):
    """The market, interval, exchange and stream that all bars of a journal have in common."""

    market: str
    interval_ms: int
    exchange: str = "binance"  # of journals that do not say
    stream: str = "trade"

    @property
    def is_approximate(self) -> bool:
        """Whether all bars are: of aggregates with more ids than trades (SeriesKey)."""
        return self.stream == "aggTrade" and self.market in FUTURES


def get(connection: sqlite3.Connection, name: str) -> str | None:
    """Return what is kept under *name*, if anything. Raises sqlite3.Error."""
    row = connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])


def put(connection: sqlite3.Connection, name: str, value: str) -> None:
    """Keep *value* under *name*. Raises sqlite3.Error."""
    connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))


def _delete(connection: sqlite3.Connection, *names: str) -> None:
    connection.executemany("DELETE FROM facts WHERE name = ?", [(name,) for name in names])


def clear(connection: sqlite3.Connection) -> None:
    """Delete all metadata. Raises sqlite3.Error."""
    connection.execute("DELETE FROM main.facts")


def read_scope(connection: sqlite3.Connection) -> JournalScope:
    """Return the scope of the journal. Raises sqlite3.Error."""
    rows = connection.execute(
        "SELECT name, value FROM facts"
        " WHERE name IN ('exchange', 'market', 'stream', 'interval_ms')"
    )
    facts: dict[str, Any] = {"exchange": "binance", "stream": "trade", **dict(rows)}
    if not all(_can_be(name, facts.get(name)) for name in _CAN_BE):
        raise UnreadableRow(f"market and interval of the bars are invalid: {facts}")
    return JournalScope(
        facts["market"], int(facts["interval_ms"]), facts["exchange"], facts["stream"]
    )


def keep_scope(connection: sqlite3.Connection, scope: JournalScope) -> None:
    """Keep the scope of a new journal, and refuse to mix bars of another one into a journal.

    Raises ConfigError without naming the file, and sqlite3.Error.
    """
    for name, value in msgspec.structs.asdict(scope).items():
        here = str(value)
        there = get(connection, name)
        if there == here:
            continue
        if _can_be(name, there):
            raise ConfigError(
                f"holds bars of {name} {there}, the configuration says {here};"
                " set [journal] path to another file"
            )
        if there is not None:
            log_mended(name, there)
        put(connection, name, here)


def read_environment(connection: sqlite3.Connection) -> str | None:
    """Return for what the exchange's hosts are that the bars are of, where known.

    Raises sqlite3.Error.
    """
    environment = get(connection, _ENVIRONMENT)
    return environment if environment is None or re.fullmatch(_NAME, environment) else None


def keep_environment(connection: sqlite3.Connection, environment: str) -> None:
    """Keep for what the exchange's hosts are (live, testnet, ...), and refuse those of another.

    Their trades have other ids. Raises ConfigError without naming the file, and sqlite3.Error.
    """
    there = read_environment(connection)
    if there is None:
        put(connection, _ENVIRONMENT, environment)
    elif there != environment:
        raise ConfigError(
            f"holds bars of the {there} exchange, the addresses of the configuration are of the"
            f" {environment} one; set [journal] path to another file"
        )


def read_sequence(connection: sqlite3.Connection) -> int:
    """Return the last number of the sequence that was given. Raises sqlite3.Error."""
    value, newest = connection.execute(
        "SELECT (SELECT value FROM facts WHERE name = ?), (SELECT max(sequence) FROM bars)",
        (_SEQUENCE,),
    ).fetchone()
    with reading_rows():
        if not (newest or 0) <= int(value) <= LAST_SEQUENCE:
            raise ValueError(f"the sequence is at {value}, a bar has number {newest}")
        return int(value)


def put_sequence(connection: sqlite3.Connection, sequence: int) -> None:
    """Keep which number of the sequence was given last. Raises sqlite3.Error."""
    put(connection, _SEQUENCE, str(sequence))


def restore_sequence(connection: sqlite3.Connection) -> None:
    """Have the sequence of a salvaged file go on after every number that can have been given.

    No store has more than there is: one that seems to gets all bars again. Raises sqlite3.Error.
    """
    connection.execute(
        "DELETE FROM facts WHERE name = 'sequence' AND CAST(value AS INTEGER) NOT BETWEEN 0 AND ?",
        (LAST_SEQUENCE,),
    )
    connection.execute(
        "DELETE FROM cursors WHERE sequence NOT BETWEEN 0 AND coalesce("
        " (SELECT CAST(value AS INTEGER) FROM facts WHERE name = 'sequence'), ?)",
        (LAST_SEQUENCE,),
    )
    connection.execute(
        "INSERT OR REPLACE INTO facts SELECT 'sequence', max("
        " coalesce((SELECT CAST(value AS INTEGER) FROM facts WHERE name = 'sequence'), 0),"
        " coalesce((SELECT max(sequence) FROM main.bars), 0),"
        " coalesce((SELECT max(sequence) FROM main.cursors), 0))"
    )


def read_lost_through(
    connection: sqlite3.Connection, checkpoints: Mapping[str, Checkpoint]
) -> dict[str, int]:
    """Return up to which open time bars were lost with an earlier file. Raises sqlite3.Error."""
    text = get(connection, _LOST_THROUGH)
    try:
        return {} if text is None else msgspec.json.decode(text, type=dict[str, int])
    except msgspec.DecodeError:  # any bar may be among them
        log_mended(_LOST_THROUGH, text)
        through = {symbol: each.closed_through for symbol, each in checkpoints.items()}
        return {symbol: last for symbol, last in through.items() if last is not None}


def put_lost_through(connection: sqlite3.Connection, lost_through: Mapping[str, int]) -> None:
    """Keep up to which open time bars of each symbol were lost. Raises sqlite3.Error."""
    put(connection, _LOST_THROUGH, msgspec.json.encode(lost_through).decode())


def read_reopened(
    connection: sqlite3.Connection, checkpoints: Mapping[str, Checkpoint]
) -> dict[str, list[IdRange]]:
    """Return which ids were held to be absent while bars of theirs left. Raises sqlite3.Error."""
    text = get(connection, _REOPENED)
    try:
        return {} if text is None else msgspec.json.decode(text, type=dict[str, list[IdRange]])
    except msgspec.DecodeError:  # any id may be among them
        log_mended(_REOPENED, text)
        return {symbol: [_ANY_ID] for symbol, each in checkpoints.items() if each.ledger.gaps}


def put_reopened(connection: sqlite3.Connection, reopened: Mapping[str, Iterable[IdRange]]) -> None:
    """Keep which ids are missing again, having been held to be absent. Raises sqlite3.Error."""
    put(connection, _REOPENED, msgspec.json.encode(reopened).decode())


def read_status(connection: sqlite3.Connection) -> str | None:
    """Return what the collector last said of itself. Raises sqlite3.Error."""
    return get(connection, _STATUS)


def put_status(connection: sqlite3.Connection, text: str) -> None:
    """Keep what the collector says of itself. Raises sqlite3.Error."""
    put(connection, _STATUS, text)


def read_symbol_list(connection: sqlite3.Connection) -> str | None:
    """Return the exchange's list of symbols, as was last kept. Raises sqlite3.Error."""
    return get(connection, _SYMBOL_LIST)


def put_symbol_list(connection: sqlite3.Connection, text: str) -> None:
    """Keep the exchange's list of symbols. Raises sqlite3.Error."""
    put(connection, _SYMBOL_LIST, text)


def read_symbol_records(connection: sqlite3.Connection) -> dict[str, SymbolRecord]:
    """Return what is on record of each symbol, by name; of one that is invalid, nothing.

    Raises sqlite3.Error.
    """
    records = {}
    for name, text in connection.execute(
        "SELECT name, value FROM facts WHERE name > ? AND name < ? ORDER BY name",
        (_SYMBOL_RECORD, _SYMBOL_RECORD + _LAST_CHARACTER),
    ).fetchall():
        try:
            records[name.removeprefix(_SYMBOL_RECORD)] = _symbol_record.decode(text)
        except msgspec.DecodeError:
            log_mended(name, text)
    return records


def put_symbol_records(connection: sqlite3.Connection, records: Mapping[str, SymbolRecord]) -> None:
    """Keep what is on record of these symbols: a row for each. Raises sqlite3.Error."""
    for symbol, record in records.items():
        put(connection, _SYMBOL_RECORD + symbol, msgspec.json.encode(record).decode())


def read_delivered(connection: sqlite3.Connection) -> str | None:
    """Return up to where all stores were when, as was last kept. Raises sqlite3.Error."""
    return get(connection, _DELIVERED)


def put_delivered(connection: sqlite3.Connection, text: str) -> None:
    """Keep up to where all stores were when. Raises sqlite3.Error."""
    put(connection, _DELIVERED, text)


def put_ban(connection: sqlite3.Connection, ban: Ban) -> None:
    """Keep for how long the exchange wants no requests. Raises sqlite3.Error."""
    put(connection, _BAN, str(ban))


def read_ban(connection: sqlite3.Connection) -> Ban:
    """Return the ban that was kept, or one that is over if there is none or it is invalid.

    Raises sqlite3.Error.
    """
    text = get(connection, _BAN)
    try:
        return Ban.read(text)
    except ValueError:
        log.warning(
            "the rate-limit ban in the journal cannot be read and is discarded; if the"
            " exchange still wants no requests, it will say so again",
            extra={"event": "ban_unreadable", "value": text},
        )
        return Ban.read(None)


def read_found_damaged(connection: sqlite3.Connection) -> str | None:
    """Return which damage others have met, if any. Raises sqlite3.Error."""
    return get(connection, _FOUND_DAMAGED)


def put_found_damaged(connection: sqlite3.Connection, damage: str) -> None:
    """Keep which damage a command has met where the collector never looks. Raises sqlite3.Error."""
    put(connection, _FOUND_DAMAGED, damage)


def put_salvaged(connection: sqlite3.Connection, reason: str, gaps_unreadable: str | None) -> None:
    """Mark a file as salvaged: its losses are no gaps yet. Raises sqlite3.Error."""
    put(connection, _SALVAGED, reason)
    if gaps_unreadable is not None:
        put(connection, _GAPS_UNREADABLE, gaps_unreadable)
    _delete(connection, _FOUND_DAMAGED)


def read_salvaged(connection: sqlite3.Connection) -> tuple[bool, bool]:
    """Return whether a file has been salvaged, and whether gaps may be missing from it.

    Raises sqlite3.Error.
    """
    return (
        get(connection, _SALVAGED) is not None,
        get(connection, _GAPS_UNREADABLE) is not None,
    )


def delete_salvaged(connection: sqlite3.Connection) -> None:
    """Unmark a file whose losses are gaps now. Raises sqlite3.Error."""
    _delete(connection, _SALVAGED, _GAPS_UNREADABLE)


def read_total_loss(connection: sqlite3.Connection) -> str | None:
    """Return why all that was known of the symbols is lost, if it is. Raises sqlite3.Error."""
    return get(connection, _TOTAL_LOSS)


def put_total_loss(connection: sqlite3.Connection, reason: str) -> None:
    """Keep why all that was known of the symbols is lost. Raises sqlite3.Error."""
    put(connection, _TOTAL_LOSS, reason)


def delete_total_loss(connection: sqlite3.Connection) -> None:
    """Forget a loss that is a gap of each symbol now. Raises sqlite3.Error."""
    _delete(connection, _TOTAL_LOSS)


def read_resend_place(connection: sqlite3.Connection, store: str) -> Place | None:
    """Return after which bar all are to be sent to *store* again, if any. Raises sqlite3.Error."""
    text = get(connection, _resend(store))
    if text is None:
        return None
    with contextlib.suppress(msgspec.DecodeError):
        place = _place.decode(text)
        if abs(place[0]) < _NEVER_MS:
            return place
    log.warning(
        "where sending bars again has come to is invalid: it begins with the oldest",
        extra={"event": "resend_place_corrupt", "store": store, "value": text},
    )
    return _BEGINNING


def put_resend_place(connection: sqlite3.Connection, store: str, place: Place | None) -> None:
    """Keep after which bar all are to be sent to *store* again. Raises sqlite3.Error."""
    if place is None:
        _delete(connection, _resend(store))
    else:
        put(connection, _resend(store), json.dumps(place))


def read_identity(connection: sqlite3.Connection, store: str) -> str | None:
    """Return how *store* was identified when it was last asked. Raises sqlite3.Error."""
    return get(connection, _identity(store))


def put_identity(connection: sqlite3.Connection, store: str, identity: str) -> None:
    """Keep how *store* is identified now. Raises sqlite3.Error."""
    put(connection, _identity(store), identity)


def _identity(store: str) -> str:
    return f"identity {store}"


def _resend(store: str) -> str:
    return f"resend {store}"


def _can_be(name: str, value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(_CAN_BE[name], value) is not None


def log_mended(name: str, value: Any) -> None:
    """Log that an invalid value is replaced."""
    log.error(
        "a value of the journal's metadata is invalid and is replaced",
        extra={"event": "journal_metadata_corrupt", "fact": name, "value": str(value)},
    )
