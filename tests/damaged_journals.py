"""Journals with many bars to damage, and what is to hold of them afterwards."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.journal.reader import JournalReader
from bintrades.model import Gap, GapCause
from bintrades.testing.bars import OPEN_TIME_MS, sample_bars
from tests.journals import (
    INTERVAL_MS,
    by_key,
    journal_at,
    ledgers_of,
    stored,
    with_proof,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from bintrades.model import Bar

NOW = OPEN_TIME_MS + 10**8
SYMBOLS = ("BTCUSDT", "ETHUSDT", "币安人生USDT")
COUNT = 300


def made(path: Path, symbols: Iterable[str] = SYMBOLS, count: int = COUNT) -> dict[str, list[Bar]]:
    """Write a journal of bars that join, all of them closed, and return them."""
    bars = {symbol: sample_bars(count, symbol=symbol) for symbol in symbols}
    first = Gap(
        0, 0, OPEN_TIME_MS - 100, OPEN_TIME_MS - 50, GapCause.SKIPPED, last_error="no answer"
    )
    with journal_at(path) as journal:
        for start in range(0, count, 50):
            batch = [bar for each in bars.values() for bar in each[start : start + 50]]
            journal.write(
                WriteBatch(
                    finished=by_key(batch),
                    checkpoints={
                        symbol: with_proof(
                            Checkpoint(
                                LedgerState(
                                    each[start : start + 50][-1].last_trade_id + 1,
                                    each[start : start + 50][-1].last_trade_time_ms,
                                    (first,),
                                ),
                                closed_through=each[start : start + 50][-1].open_time_ms,
                            ),
                            each[start : start + 50],
                        )
                        for symbol, each in bars.items()
                    },
                ),
                NOW,
            )
    return bars


def unexplained(path: Path, bars: dict[str, list[Bar]]) -> list[str]:
    """Return which bars are neither there, whole, nor on record as missing, nor still to come."""
    with journal_at(path) as journal:
        next_ids = {
            symbol: 2**62 if state.next_id is None else state.next_id
            for symbol, state in ledgers_of(journal).items()
        }
    gaps = JournalReader(path).gaps()
    wrong = [f"{name}: its gap" for name in bars if not gaps.get(name) and next_ids.get(name)]
    for symbol, expected in bars.items():
        found = {bar.open_time_ms: bar for bar in stored(path, symbol)}
        for bar in expected:
            kept = found.get(bar.open_time_ms)
            if kept is not None and kept.trade_count == bar.trade_count and kept.is_complete:
                continue
            on_record = any(
                (not gap.has_ids or gap.first_id <= bar.first_trade_id <= gap.last_id)
                and gap.touches(bar.open_time_ms, INTERVAL_MS)
                for gap in gaps.get(symbol, ())
            )
            is_to_come = bar.first_trade_id >= next_ids.get(symbol, 2**62)
            if not (on_record or is_to_come):
                wrong.append(f"{symbol} {bar.first_trade_id}: {kept}")
    return wrong


class Found:
    """What a reader that meets damage says."""

    def __call__(self, reason: str, file: tuple[int, int]) -> None:
        self.last = (reason, file)


def remove(path: Path) -> None:
    """Remove a journal and what SQLite keeps beside it, as somebody may who wants room."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def forget(path: Path, statement: str) -> None:
    """Have rows be gone of which nobody says a word, as where a page is an older one again."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)
