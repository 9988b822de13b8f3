"""Journals to try things with, and disks that refuse."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import sqlite3
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.journal.reader import JournalReader
from bintrades.journal.writer import Journal
from bintrades.model import Gap, GapCause, GapOutcome
from bintrades.testing.bars import OPEN_TIME_MS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path
    from typing import BinaryIO

    from bintrades.core.write_batch import Key
    from bintrades.model import Bar

INTERVAL_MS = 10_000
NOBODY = 65_534
PAGE = 4_096
SECTOR = 512
NOW = OPEN_TIME_MS + 60_000
"""Some time after the first sample bars."""

GAP = Gap(10, 29, NOW, NOW + 500, GapCause.RECONNECT, attempts=2, last_error="no answer")


def open_journal(path: Path, interval_ms: int = INTERVAL_MS, market: str = "spot") -> Journal:
    """Open the journal of a market, with bars of ten seconds."""
    return Journal(
        path,
        exchange="binance",
        market=market,
        stream="trade",
        interval_ms=interval_ms,
        mark_every_ms=0,
    )


@contextlib.contextmanager
def journal_at(
    path: Path, interval_ms: int = INTERVAL_MS, market: str = "spot"
) -> Iterator[Journal]:
    """Open such a journal and close it at the end."""
    with contextlib.closing(open_journal(path, interval_ms, market)) as journal:
        yield journal


def by_key(bars: Iterable[Bar]) -> dict[Key, Bar]:
    """Return *bars* as Changes holds them."""
    return {(bar.symbol, bar.open_time_ms): bar for bar in bars}


def finished(*bars: Bar, **ledgers: LedgerState) -> WriteBatch:
    """Return the changes of *bars* that are for the stores, and of ledgers by symbol.

    The bars of these symbols are proven: they are whole, but for those that a gap touches.
    """
    saved = {
        symbol: with_proof(checkpoint, [bar for bar in bars if bar.symbol == symbol])
        for symbol, checkpoint in checkpoints(**ledgers).items()
    }
    return WriteBatch(finished=by_key(bars), checkpoints=saved)


def checkpoints(*open_bars: Bar, **ledgers: LedgerState) -> dict[str, Checkpoint]:
    """Return what to save of ledgers by symbol, and of symbols that have open bars."""
    symbols = [*ledgers, *(bar.symbol for bar in open_bars)]
    return {
        symbol: with_proof(
            Checkpoint(
                ledgers.get(symbol, LedgerState(1, 1, ())),
                tuple(bar for bar in open_bars if bar.symbol == symbol),
            )
        )
        for symbol in symbols
    }


def with_proof(checkpoint: Checkpoint, bars: Iterable[Bar] = ()) -> Checkpoint:
    """Return *checkpoint* with the proof that a collector would have, having written *bars*.

    All is known that was before the trade of the highest id; and before the ends of *bars*, either
    by a later trade or by the exchange's word.
    """
    times = [bar.end_time_ms for bar in bars]
    if checkpoint.ledger.next_id is not None and checkpoint.ledger.last_time is not None:
        times.append(checkpoint.ledger.last_time)
    return replace(checkpoint, proven_ms=max(times, default=None))


def ledgers_of(journal: Journal) -> dict[str, LedgerState]:
    """Return what the journal says of each symbol's trade ids."""
    return {symbol: checkpoint.ledger for symbol, checkpoint in journal.checkpoints.items()}


def stored(path: Path, symbol: str = "BTCUSDT") -> list[Bar]:
    """Return all bars of *symbol* in the journal, oldest first."""
    return JournalReader(path).bars(symbol, 0, 2**62, 2**31)


def metadata(path: Path) -> dict[str, str]:
    """Return all metadata of a journal, by the names in its file."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT name, value FROM facts"))


def put_metadata(path: Path, name: str, value: str) -> None:
    """Put something into a journal's metadata past its program."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))


@contextlib.contextmanager
def full_disk(journal: Path) -> Iterator[None]:
    """Let no file of this process grow beyond the write-ahead log of *journal* as it is now.

    The kernel refuses the journal's next write, in every thread, as it does on a full disk.
    """
    size = journal.with_name(journal.name + "-wal").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Be nobody for a while where the tests run as root, who may write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def damage(journal: Path) -> None:
    """Overwrite all but the first two pages of a journal, which may be in use, as a bad disk may.

    What the write-ahead log holds is moved into the file before.
    """
    with contextlib.closing(sqlite3.connect(journal)) as connection:
        (is_busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert not is_busy
    size = journal.stat().st_size
    with journal.open("r+b") as file:
        file.seek(2 * PAGE)
        file.write(b"\xa5" * (size - 2 * PAGE))


def empty_log(journal: Path) -> None:
    """Move what the write-ahead log holds into the file."""
    with contextlib.closing(sqlite3.connect(journal)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def pages_of(journal: Path, table: str) -> list[int]:
    """Return the numbers of the pages of a table or an index, that of its root first."""
    with contextlib.closing(sqlite3.connect(journal)) as connection:
        return [
            page
            for (page,) in connection.execute(
                "SELECT pageno FROM dbstat WHERE name = ? ORDER BY path", (table,)
            )
        ]


def spoil_pages(journal: Path, pages: Collection[int]) -> None:
    """Overwrite pages, numbered from 1, of a journal that may be in use, as a bad disk may."""
    empty_log(journal)
    with journal.open("r+b") as file:
        for page in pages:
            file.seek((page - 1) * PAGE)
            file.write(b"\xa5" * PAGE)


def empty_sectors(journal: Path, table: str, sectors: Iterable[int] | None = None) -> None:
    """Put zeros into *sectors*, all but the first or these, of each page of a table's leaves.

    So a disk does that has lost them. SQLite then finds rows of nothing, and no error.
    """
    pages = pages_of(journal, table)
    empty_log(journal)
    chosen = range(1, PAGE // SECTOR) if sectors is None else sectors
    with journal.open("r+b") as file:
        for page in pages[1:] or pages:
            for sector in chosen:
                _overwrite(file, (page - 1) * PAGE + sector * SECTOR, bytes(SECTOR))


def spoil_unnoticed(journal: Path, kind: str, seed: int) -> None:
    """Damage the bars of a journal that nobody uses in ways of which SQLite notices only some."""
    empty_log(journal)
    rng = random.Random(seed)
    size = journal.stat().st_size
    places = [(page - 1) * PAGE for page in pages_of(journal, "bars")]
    with journal.open("r+b") as file:
        if kind == "cut":
            file.truncate(rng.randrange(2 * PAGE, size))
            return
        for place in rng.sample(places, rng.randint(1, 4)):
            if kind == "misplaced page":
                file.seek(rng.randrange(0, size, PAGE))
                _overwrite(file, place, file.read(PAGE))
            else:
                _overwrite(file, rng.randrange(place, place + PAGE, SECTOR), bytes(SECTOR))


def _overwrite(file: BinaryIO, place: int, content: bytes) -> None:
    file.seek(place)
    file.write(content)


def gap_within(bar: Bar, first_id: int = 7, last_id: int = 9) -> Gap:
    """Return a gap that touches *bar*."""
    return Gap(first_id, last_id, bar.open_time_ms + 100, bar.open_time_ms + 200, GapCause.SKIPPED)


def ledger(*gaps: Gap) -> LedgerState:
    """Return what is known of a symbol with these gaps."""
    return LedgerState(next_id=1_000, last_time=NOW, gaps=gaps)


def aside(path: Path) -> list[Path]:
    """Return the files of quarantined journals."""
    return sorted(path.parent.glob(f"{path.name}.damaged-*"))


def files_aside(path: Path) -> list[Path]:
    """Return the damaged files without what SQLite keeps beside them."""
    return [file for file in aside(path) if not file.name.endswith(("-wal", "-shm"))]


def ledger_through(bars: list[Bar]) -> LedgerState:
    """Return what is known when all trades of *bars* were had."""
    return LedgerState(bars[-1].last_trade_id + 1, bars[-1].last_trade_time_ms, ())


def past(path: Path) -> list[tuple[int, int, str]]:
    """Return the gaps that have ended: ids and how."""
    return [
        (each.gap.first_id, each.gap.last_id, each.outcome)
        for each in JournalReader(path).past_gaps()
    ]


def write_gaps(journal: Journal, *gaps: Gap, now: int = NOW, **resolved: tuple[int, int]) -> None:
    """Write what is missing of one symbol now, and why ids are missing no longer."""
    changes = finished(BTCUSDT=ledger(*gaps))
    changes.resolved = [("BTCUSDT", *span, GapOutcome(why)) for why, span in resolved.items()]
    journal.write(changes, now)
