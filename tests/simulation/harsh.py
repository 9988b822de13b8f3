"""What the harsh worlds have besides: accidents that came to light later than the others.

They are drawn apart from the rest of the world, so that all seeds below HARSH_FROM mean what they
meant. What goes wrong here may cost the collector what it had written, or lets others write beside
it, so harsh worlds are compared less closely: see checks.check_truth.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.kinds import KINDS_FROM, TURNS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.simulation.schedule import Schedule

HARSH_FROM = 1_000_000
"""Worlds of these seeds and of all above are harsh; from KINDS_FROM on, every fifth of a kind."""

BRISK_MS = 15_000
"""How long trading is brisk again after a wipe."""

_EACH = 5  # world of a kind is harsh
_ROWS_SHARE = 0.2  # of harsh worlds
_PAGE = 4_096
_HOURS_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Harshness:
    """Times are milliseconds after the start of the world."""

    clock_steps: tuple[tuple[int, int], ...] = ()
    """When the local clock is set, and by how much it is wrong from then on."""

    rollbacks: tuple[tuple[int, int, int], ...] = ()
    """When which store forgets what it has acknowledged in so many milliseconds before."""

    damages: tuple[tuple[int, str], ...] = ()
    """When the journal's file suffers: a page is corrupt, a write was torn, rows are just gone."""

    second: int | None = None
    """From when on a second collector, with a journal of its own, fills the same stores."""

    wiped_at: int | None = None
    """When the exchange forgets all trades and begins their ids anew, as its test networks do."""

    def lines(self) -> Iterator[str]:
        """Yield it as text."""
        for name in self.__slots__:
            yield f"{name} = {getattr(self, name)}"


def is_harsh(seed: int) -> bool:
    """Whether the world of *seed* is a harsh one."""
    if seed < KINDS_FROM:
        return seed >= HARSH_FROM
    return seed // TURNS % _EACH == 0


def make_harshness(schedule: Schedule) -> Harshness:
    """Draw what the world of *schedule* has besides; nothing unless it is a harsh one."""
    if not is_harsh(schedule.seed):
        return Harshness()
    rng = Random(f"harsh {schedule.seed}")
    end = schedule.faults_end
    of_rows = Random(f"rows {schedule.seed}")  # what others draw stays as it was
    gone = [(of_rows.randrange(end), "rows")] if of_rows.random() < _ROWS_SHARE else []
    kinds = rng.sample(["clock", "rollback", "damage", "second", "wipe"], rng.choice([1, 1, 2, 3]))
    return Harshness(
        clock_steps=tuple(_clock_steps(rng, end)) if "clock" in kinds else (),
        # What has left the journal cannot be sent again.
        rollbacks=tuple(_rollbacks(rng, end, schedule.stores))
        if "rollback" in kinds and schedule.retention is None
        else (),
        damages=tuple(sorted([*(_damages(rng, end) if "damage" in kinds else ()), *gone])),
        second=rng.randrange(end) if "second" in kinds else None,
        # Three trades in a row show it, so there must be some, and nothing else in the way.
        wiped_at=end + rng.randrange(1_000, 5_000)
        if "wipe" in kinds and schedule.kind.has_test_network
        else None,
    )


def _clock_steps(rng: Random, end: int) -> Iterator[tuple[int, int]]:
    """Yield some steps, and at the end of all faults one that sets the clock right."""
    for _ in range(rng.choice([1, 3])):
        wrong = rng.choice([-48, -1, 1, 48, 96]) * _HOURS_MS
        yield rng.randrange(end), wrong
    yield end, 0


def _damages(rng: Random, end: int) -> Iterator[tuple[int, str]]:
    for _ in range(2):
        yield rng.randrange(end), rng.choice(["page", "torn"])


def _rollbacks(rng: Random, end: int, stores: int) -> Iterator[tuple[int, int, int]]:
    for _ in range(rng.choice([1, 2])):
        yield rng.randrange(end), rng.randrange(stores), rng.choice([1_000, 5_000, 60_000])


def spoil_page(journal: Path, rng: Random) -> str:
    """Overwrite a page of the file, or a part of it; return what was done."""
    size = journal.stat().st_size if journal.exists() else 0
    if size < 2 * _PAGE:
        return "no page to spoil"
    page = rng.randrange(1, size // _PAGE)
    start = rng.choice([0, 0, rng.randrange(_PAGE)])
    with journal.open("r+b") as file:
        file.seek(page * _PAGE + start)
        file.write(rng.randbytes(min(_PAGE - start, rng.choice([16, _PAGE]))))
    return f"page {page + 1} is corrupt from byte {start} on"


def forget_rows(journal: Path, rng: Random) -> str:
    """Have rows be gone without an error, as where a page is an older one again.

    Checkpoints and places of stores; return what was done.
    """
    if not journal.exists():
        return "no row to forget"
    table = rng.choice(["checkpoints", "checkpoints", "cursors"])
    name = "symbol" if table == "checkpoints" else "store"
    # A corrupt schema has SQLite raise either, as connect() of the journal knows.
    with (
        suppress(sqlite3.Error, UnicodeDecodeError),
        closing(sqlite3.connect(journal)) as connection,
        connection,
    ):
        rows = connection.execute(f"SELECT {name} FROM {table}").fetchall()  # noqa: S608 - ours
        gone = rng.sample(rows, rng.randint(1, len(rows))) if rows else []
        connection.executemany(f"DELETE FROM {table} WHERE {name} = ?", gone)  # noqa: S608 - ours
        return f"of {table} {len(gone)} rows are gone"
    return "no row to forget"


def tear_write(journal: Path, rng: Random) -> str:
    """Lose a part of what was written last to the write-ahead log; return what was done."""
    log = journal.with_name(journal.name + "-wal")
    size = log.stat().st_size if log.exists() else 0
    if not size:
        return "no write to tear"
    lost = min(size, rng.choice([1, 512, _PAGE, 10 * _PAGE]))
    with log.open("r+b") as file:
        if rng.random() < 0.5:
            file.truncate(size - lost)
        else:  # the sectors are there, but not what was written to them
            file.seek(size - lost)
            file.write(bytes(lost))
    return f"the last {lost} bytes of the log are lost"
