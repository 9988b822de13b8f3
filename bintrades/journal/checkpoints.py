"""Table `checkpoints`: where each symbol was, with the bars that still take trades.

All functions may raise sqlite3.Error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from bintrades.journal.damage import UnreadableRow, checked_symbol, reading_rows
from bintrades.journal.meta import log_mended
from bintrades.journal.rows import (
    checkpoint_from_row,
    checkpoint_row,
    decode_open_bars,
    known_through,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping, Sequence

    from bintrades.core.write_batch import Checkpoint
    from bintrades.model import Bar, Gap

_PROVEN = (
    "CASE WHEN p.last_time IS c.last_time THEN proven WHEN next_id IS NOT NULL THEN c.last_time END"
)
_WITH_PROOFS = "checkpoints AS c LEFT JOIN proofs AS p USING (symbol)"
_SELECT = (
    f"SELECT symbol, next_id, c.last_time, open_bars, closed_through, {_PROVEN}, covered_since"  # noqa: S608 - constants
    f" FROM {_WITH_PROOFS}"
)
_NEWEST_PROOF = f"SELECT max({_PROVEN}) FROM {_WITH_PROOFS}"  # noqa: S608 - constants
_SELECT_COLLECTED = (
    f"SELECT symbol, covered_since, {_PROVEN} AS known, open_bars FROM {_WITH_PROOFS}"  # noqa: S608
    " WHERE covered_since IS NOT NULL AND known IS NOT NULL"
)


def put_checkpoints(
    connection: sqlite3.Connection,
    checkpoints: Mapping[str, Checkpoint],
    now_ms: int,
    before: Mapping[str, Checkpoint] | None = None,
) -> None:
    """Replace the checkpoints of these symbols; their gaps are in tables of their own.

    What is the same as *before* is not written again: of a quiet symbol nothing changes but until
    when it is proven; of a busy one that is known by its last trade.
    """
    before = before or {}
    connection.executemany(
        "INSERT OR REPLACE INTO proofs VALUES (?, ?, ?, ?)",
        [
            (
                symbol,
                checkpoint.proven_ms,
                checkpoint.ledger.last_time or 0,
                checkpoint.covered_since_ms,
            )
            for symbol, checkpoint in checkpoints.items()
            if _has_new_proof(checkpoint, before.get(symbol))
        ],
    )
    connection.executemany(
        "INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?, ?, ?)",
        [
            (symbol, *checkpoint_row(checkpoint), now_ms)
            for symbol, checkpoint in checkpoints.items()
            if not _has_only_new_proof(checkpoint, before.get(symbol))
        ],
    )


def _has_new_proof(checkpoint: Checkpoint, before: Checkpoint | None) -> bool:
    """Whether the row of its proof is to be written: a last trade that is all of it says the same.

    Where it was not all of it before, the row of then must not be taken for that of today.
    """
    if before is None or checkpoint.covered_since_ms != before.covered_since_ms:
        return True
    if _is_proven_by_last_trade(checkpoint) and _is_proven_by_last_trade(before):
        return False
    proof, proof_before = ((each.proven_ms, each.ledger.last_time) for each in (checkpoint, before))
    return proof != proof_before


def _is_proven_by_last_trade(checkpoint: Checkpoint) -> bool:
    ledger = checkpoint.ledger
    return ledger.next_id is not None and checkpoint.proven_ms == ledger.last_time


def _has_only_new_proof(checkpoint: Checkpoint, before: Checkpoint | None) -> bool:
    return before is not None and checkpoint == replace(
        before, proven_ms=checkpoint.proven_ms, covered_since_ms=checkpoint.covered_since_ms
    )


def read_checkpoints(
    connection: sqlite3.Connection,
    gaps: Mapping[str, Sequence[Gap]],
    absent: Mapping[str, tuple[Gap, ...]],
) -> tuple[dict[str, Checkpoint], dict[str, str]]:
    """Return the checkpoint of each symbol, and which symbols have an unreadable one, and why.

    Raises UnreadableRow where nobody can tell of which symbol one is.
    """
    checkpoints = {}
    corrupt = {}
    for symbol, *row in connection.execute(_SELECT).fetchall():
        known = tuple(gaps.get(checked_symbol(symbol), ()))
        try:
            checkpoints[symbol] = checkpoint_from_row(symbol, row, known, absent.get(symbol, ()))
        except UnreadableRow as error:
            corrupt[symbol] = str(error)
    return checkpoints, corrupt


def delete_corrupt_proofs(connection: sqlite3.Connection) -> None:
    """Delete proofs that cannot be: the last trade of their symbol is one, until the next."""
    corrupt = connection.execute(
        "DELETE FROM proofs WHERE typeof(proven) NOT IN ('integer', 'null')"
        " OR typeof(last_time) <> 'integer' OR typeof(covered_since) NOT IN ('integer', 'null')"
        " RETURNING symbol, proven, covered_since"
    ).fetchall()
    for symbol, *values in corrupt:
        log_mended(f"proof of {symbol}", values)


def read_closed_through(connection: sqlite3.Connection, symbol: str) -> int | None:
    """Return the newest open time of which a bar may be stored, if there is one."""
    row = connection.execute(
        "SELECT closed_through FROM checkpoints WHERE symbol = ?", (symbol,)
    ).fetchone()
    with reading_rows():
        return known_through(int(row[0])) if row is not None else None


def collected_rows(connection: sqlite3.Connection, symbol: str | None = None) -> sqlite3.Cursor:
    """Return rows by symbol, of one or of all of which anything is proven.

    Symbol, since when trades are collected, up to when they are proven, and the open bars as text.
    """
    if symbol is None:
        return connection.execute(f"{_SELECT_COLLECTED} ORDER BY symbol")
    return connection.execute(f"{_SELECT_COLLECTED} AND symbol = ?", (symbol,))


def newest_proof(connection: sqlite3.Connection) -> int | None:
    """Return up to when the symbol is proven that is proven furthest; None: none is at all."""
    (newest,) = connection.execute(_NEWEST_PROOF).fetchone()
    with reading_rows():
        return None if newest is None else int(newest)


def open_bars(connection: sqlite3.Connection, symbol: str | None = None) -> Iterator[Bar]:
    """Yield the bars, of one symbol or of all, that still take trades, as last saved."""
    for text, updated_at in connection.execute(
        "SELECT open_bars, updated_at FROM checkpoints WHERE symbol = ? OR ? IS NULL",
        (symbol, symbol),
    ):
        for bar in decode_open_bars(text):
            yield replace(bar, is_complete=False, updated_at_ms=updated_at)


def symbols_seen(connection: sqlite3.Connection) -> list[str]:
    """Return the symbols of which a trade was ever seen."""
    rows = connection.execute("SELECT symbol FROM checkpoints WHERE next_id IS NOT NULL")
    return [symbol for (symbol,) in rows]


def symbols_known(connection: sqlite3.Connection) -> list[str]:
    """Return, by name, the symbols with a trade, and those proven to have had none so far."""
    rows = connection.execute(
        f"SELECT symbol FROM {_WITH_PROOFS} WHERE next_id IS NOT NULL"  # noqa: S608 - constants
        f" OR (covered_since IS NOT NULL AND {_PROVEN} IS NOT NULL) ORDER BY symbol"
    )
    return [symbol for (symbol,) in rows]
