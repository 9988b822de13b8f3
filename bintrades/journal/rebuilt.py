"""Table `rebuilt`: bars that another process made again, until the collector takes them over.

The functions that are given a connection may raise sqlite3.Error.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from bintrades.journal.damage import WRONG_VALUES
from bintrades.model import Bar

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Mapping

    from bintrades.core.write_batch import Checkpoint, Key

log = logging.getLogger(__name__)

_TAKEN_AT_ONCE = 1_000
_decoder = msgspec.json.Decoder(Bar)


def put_rebuilt(connection: sqlite3.Connection, bars: Iterable[Bar]) -> None:
    """Leave *bars* for whoever writes the journal."""
    connection.executemany(
        "INSERT OR REPLACE INTO rebuilt VALUES (?, ?, ?)",
        [(bar.symbol, bar.open_time_ms, msgspec.json.encode(bar).decode()) for bar in bars],
    )


def has_rebuilt(connection: sqlite3.Connection) -> bool:
    """Whether bars wait to be taken over."""
    (has,) = connection.execute("SELECT EXISTS (SELECT 1 FROM rebuilt)").fetchone()
    return bool(has)


def read_rebuilt(connection: sqlite3.Connection) -> dict[Key, Bar | None]:
    """Return some of the bars that wait; None for one that cannot be read."""
    bars: dict[Key, Bar | None] = {}
    for symbol, open_time, text in connection.execute(
        "SELECT symbol, open_time, bar FROM rebuilt LIMIT ?", (_TAKEN_AT_ONCE,)
    ).fetchall():
        bars[symbol, open_time] = _decoded(symbol, open_time, text)
    return bars


def _decoded(symbol: str, open_time: int, text: str) -> Bar | None:
    try:
        bar = _decoder.decode(text)
        if (bar.symbol, bar.open_time_ms) != (symbol, open_time):
            raise ValueError("it is another bar")
    except WRONG_VALUES as error:
        log.warning(
            "a bar that was rebuilt cannot be read and is skipped",
            extra={
                "event": "rebuilt_bar_unreadable",
                "symbol": symbol,
                "open_time": open_time,
                "error": str(error),
            },
        )
        return None
    return bar


def delete_rebuilt(connection: sqlite3.Connection, keys: Iterable[Key]) -> None:
    """Forget the bars of *keys*: they were written, or refused."""
    connection.executemany("DELETE FROM rebuilt WHERE symbol = ? AND open_time = ?", list(keys))


def settled_ids(
    rebuilt: Mapping[Key, Bar], bar_at: Callable[[Key], Bar | None], interval_ms: int
) -> dict[str, list[tuple[int, int]]]:
    """Return the ids, by symbol, whose trades are in *rebuilt* bars, or are none.

    No aggregates have to stand in for those any more. Where the bar before or behind was made again
    as well, there is no trade between the two; *bar_at* returns a stored one.
    """
    settled: dict[str, list[tuple[int, int]]] = {}
    for (symbol, open_time), bar in rebuilt.items():
        if not bar.is_complete:
            continue  # the exchange has no trades there
        first_id, last_id = bar.first_trade_id, bar.last_trade_id
        before, behind = (
            rebuilt.get(key) or bar_at(key)
            for key in ((symbol, open_time - interval_ms), (symbol, open_time + interval_ms))
        )
        if before is not None and _is_of_trades(before):
            first_id = min(first_id, before.last_trade_id + 1)
        if behind is not None and _is_of_trades(behind):
            last_id = max(last_id, behind.first_trade_id - 1)
        settled.setdefault(symbol, []).append((first_id, last_id))
    return settled


def _is_of_trades(bar: Bar) -> bool:
    return bar.epoch > 0 and not bar.is_approximate


def refusal(
    bar: Bar, stored: Bar | None, checkpoint: Checkpoint | None, *, is_proven: bool
) -> str | None:
    """Return why a rebuilt *bar* may not take the place of the *stored* one; None: it may.

    It has every trade of its interval, or it is where there are none, so nothing may be added to it
    later. Therefore each of them must be known to the ledger by now, which is when *is_proven*:
    then none is wanted any more, and none will come. None is of those that aggregates stand in for.
    """
    if checkpoint is None:
        return "nothing is known of the symbol's trade ids"
    if checkpoint.closed_through is None or bar.open_time_ms > checkpoint.closed_through:
        return "the bar may still be open"
    if any(bar.open_time_ms == each.open_time_ms for each in checkpoint.open_bars):
        return "the bar is still open"
    if stored is not None and bar.epoch <= stored.epoch:
        return "the bar was rebuilt meanwhile"
    if not is_proven:
        return "trades of the interval are missing, or it is not proven that none is"
    return None
