"""The local truth: bars, gaps, and what each store already has. One SQLite file in WAL mode.

A bar is one row per (symbol, open_time). Each version takes the next number of a sequence, and a
store's cursor is the last number it took: an amended bar is thereby delivered again, and after an
outage a store gets only the newest version of each bar. Bars that still take trades are saved apart
from those, in one short row per symbol: it is written every second, and a row beside thousands
of older bars would cost a whole page of the file each time.
"""

from __future__ import annotations

import itertools
import logging
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec.structs import replace

from bintrades.changes import Changes, Checkpoint
from bintrades.clocks import utc_ms
from bintrades.errors import ConfigError, JournalError, JournalInUse
from bintrades.gap_times import GapTimes
from bintrades.journal_bars import GET_BAR, PRUNABLE, PUT_BAR, pages
from bintrades.journal_file import (
    GAP_COLUMNS,
    bar_from_row,
    bar_row,
    connect,
    decode_open_bars,
    encode_open_bars,
    gap_from_row,
    gap_row,
    is_damaged,
    reading_rows,
    set_aside,
)
from bintrades.journal_lock import identity, lock_journal, tighten, what_to_do
from bintrades.journal_schema import create_schema, transaction
from bintrades.journal_wal import WalLimit
from bintrades.ledger import (
    DISORDER_MS,
    LedgerState,
    changed_part,
    changed_spans,
    no_longer_missing,
)
from bintrades.model import ABSENT, RENUMBERED, REPAIRED, UNWANTED

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from bintrades.changes import Key
    from bintrades.model import Bar, Gap

_T = TypeVar("_T")
_HEADER = b"SQLite format 3\0"

log = logging.getLogger(__name__)

LOST_THROUGH = "lost_through"
"""Name of the fact up to which open time bars of each symbol were lost with an earlier file."""

_LOCK_TIMEOUT_S = 0.25  # what cannot be written now waits in memory: nothing else may wait for it

PRUNE_BATCH = 2_000
"""Rows looked at, and deleted, at a time, so that nobody waits long for the file's write lock."""

_LOOK_AGAIN = 500  # rows that had to stay, looked at each time, round and round

_DELETE_BAR = "DELETE FROM bars WHERE symbol = ? AND open_time = ?"
_DELETE_PAST_GAPS = (
    "DELETE FROM past_gaps WHERE (symbol, last_id) IN"
    " (SELECT symbol, last_id FROM past_gaps WHERE closed_at < ? LIMIT ?)"
)


class Journal:
    """The one writer of the journal. Belongs to one thread at a time.

    Opening raises ConfigError for a file that is not ours, is of another market or interval or of
    a newer version, JournalInUse when another collector uses it, and JournalError when the disk
    refuses. A damaged file is set aside, never deleted, and a new one begun.
    """

    def __init__(self, path: Path, *, market: str, interval_ms: int) -> None:
        self.path = path
        self._market = market
        self._interval = interval_ms
        self._checkpoints: dict[str, Checkpoint] = {}
        self._last_sequence = 0
        self._lost_through: dict[str, int] = {}  # open time of each symbol's newest lost bar
        self._gap_times: dict[str, GapTimes] = {}
        self._wal_limit = WalLimit(path)
        self.has_more_to_prune = False  # whether the last prune() left bars that it can delete
        self._looked_through = 0  # sequence up to which bars were pruned, or had to stay
        self._looked_again = 0  # up to which those that had to stay were looked at again
        self._file = (0, 0)  # device and number, to notice when somebody has removed it
        self._is_abandoned = False
        self._is_open = True  # False: a damaged file was set aside, and no new one could be begun
        self._lock = lock_journal(path)
        try:
            self._connection = self._open()
        except BaseException:
            self._lock.close()
            raise

    @property
    def checkpoints(self) -> dict[str, Checkpoint]:
        """Where each symbol was when it was last written."""
        return self._checkpoints

    def close(self) -> None:
        """Let go of the file; what was written stays."""
        if not self._is_abandoned:
            self._connection.close()
            self._lock.close()

    def abandon(self) -> None:
        """Leave closing to the end of the process: a thread that hangs still uses the file."""
        self._is_abandoned = True

    def release(self, symbols: Collection[str], now_ms: int) -> None:
        """Give the stores the open bars of symbols other than *symbols*, as they are.

        Nobody continues them now, but they stay open for the day on which somebody does. Raises
        JournalError.
        """
        bars = [
            bar
            for symbol, checkpoint in self._checkpoints.items()
            if symbol not in symbols
            for bar in checkpoint.open_bars
        ]
        left = self._despite_damage(lambda: self._beyond_stored(bars))
        if left:
            self.write(Changes(finished=left), now_ms)

    def write(self, changes: Changes, now_ms: int, status: str | None = None) -> None:
        """Commit *changes*, all or nothing; *now_ms* becomes the updated_at of what is new.

        Raises JournalError when the disk refuses: write the same changes again later.
        """
        checkpoints = self._checkpoints | changes.checkpoints
        self._despite_damage(lambda: self._write(changes, checkpoints, now_ms, status))
        self._checkpoints = checkpoints
        self._wal_limit.look(self._connection)

    def prune(
        self,
        stores: Iterable[str],
        before_ms: int,
        had_for_a_while: Callable[[int], int] = lambda sequence: sequence,
    ) -> int:
        """Delete bars last written before *before_ms* that each of *stores* has; return how many.

        Bars that are not closed stay; those that a store refused, until they are sent again; those
        that a gap touches, until it is repaired or abandoned; and a symbol's newest bar, which the
        next gap would touch, until there is a newer one. *had_for_a_while* is told up to which
        number of the sequence all stores have everything, and returns which may be deleted.
        Raises JournalError.
        """
        names = list(stores)
        return self._despite_damage(lambda: self._prune(names, before_ms, had_for_a_while))

    def fact(self, name: str) -> str | None:
        """Return what was remembered under *name*, if anything. Raises JournalError."""
        try:
            row = self._connection.execute(
                "SELECT value FROM facts WHERE name = ?", (name,)
            ).fetchone()
        except sqlite3.Error as error:
            raise JournalError(f"{self.path}: {error}") from error
        return None if row is None else str(row[0])

    def remember(self, name: str, value: str) -> None:
        """Keep *value* under *name*. Raises JournalError."""
        try:
            self._put_fact(name, value)
        except sqlite3.Error as error:
            raise JournalError(f"{self.path}: {error}") from error

    def _open(self) -> sqlite3.Connection:
        try:
            self._lock.hold()
            tighten(self.path)
            if _lacks_header(self.path):
                self._report_set_aside("it does not begin as an SQLite file does")
            return self._open_once()
        except JournalInUse:
            raise
        except (sqlite3.Error, OSError, JournalError) as error:
            cause = error.__cause__ if isinstance(error, JournalError) else error
            if not is_damaged(cause):
                advice = what_to_do(cause, "make the file and its folder writable")
                raise JournalError(f"{self.path}: cannot be used: {cause}; {advice}") from error
            self._report_set_aside(str(error))
            return self._open_once()

    def _open_once(self) -> sqlite3.Connection:
        self._lock.hold()
        connection = connect(self.path, accepts_older=True, lock_timeout_s=_LOCK_TIMEOUT_S)
        try:
            create_schema(connection)
            self._check_facts(connection)
            with reading_rows():
                self._checkpoints = _read_checkpoints(connection)
                self._last_sequence = _read_sequence(connection)
                self._lost_through = _read_lost_through(connection)
            self._looked_through = self._looked_again = 0
            self._file = identity(self.path)
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_facts(self, connection: sqlite3.Connection) -> None:
        """Refuse to mix bars of another market or another length into one journal."""
        for name, here in (("market", self._market), ("interval_ms", str(self._interval))):
            connection.execute("INSERT OR IGNORE INTO facts VALUES (?, ?)", (name, here))
            (there,) = connection.execute(
                "SELECT value FROM facts WHERE name = ?", (name,)
            ).fetchone()
            if there != here:
                raise ConfigError(
                    f"{self.path}: holds bars of {name} {there}, the configuration says {here};"
                    " set [journal] path to another file"
                )

    def _despite_damage(self, use: Callable[[], _T]) -> _T:
        """Return what *use* returns, which works on the file; raise JournalError if it cannot.

        When the file turns out to be damaged it is set aside and *use* is tried on a new one.
        """
        try:
            if self._is_open and self._file != identity(self.path):
                if self.path.exists():
                    self._lock.hold()  # unless another collector has begun it
                self._set_aside("somebody has removed or replaced the file")
            if not self._is_open:
                self._begin_anew()
            try:
                return use()
            except sqlite3.Error as error:
                if not is_damaged(error):
                    raise
                self._set_aside(str(error))
                self._begin_anew()
                return use()
        except (sqlite3.Error, OSError) as error:
            raise JournalError(f"{self.path}: {error}") from error

    def _set_aside(self, reason: str) -> None:
        self._is_open = False
        self._connection.close()
        self._report_set_aside(reason)

    def _begin_anew(self) -> None:
        """Go on in a new file, with what is known of each symbol.

        The sequence goes on too: a store that is taking bars from the old file will move its
        cursor in the new one.
        """
        checkpoints, last_sequence = self._checkpoints, self._last_sequence
        lost_through = self._lost_through | {
            symbol: checkpoint.closed_through for symbol, checkpoint in checkpoints.items()
        }
        try:
            self._connection = self._open_once()
            with transaction(self._connection):
                self._put_checkpoints(checkpoints, utc_ms())
                for symbol, checkpoint in checkpoints.items():
                    self._put_gaps(symbol, (), checkpoint.ledger.gaps)
                    self._put_absent(symbol, (), checkpoint.ledger.absent)
                self._save_sequence(itertools.count(last_sequence + 1))
                self._put_fact(LOST_THROUGH, msgspec.json.encode(lost_through).decode())
            self._is_open = True
        finally:
            self._checkpoints, self._last_sequence = checkpoints, last_sequence
            self._lost_through = lost_through
            if not self._is_open:
                self._connection.close()

    def _report_set_aside(self, reason: str) -> None:
        aside = set_aside(self.path)
        log.error(
            "the journal is damaged and was set aside; a new one is begun, stores keep what they"
            " have, and `sqlite3 FILE .recover` may save what they lack",
            extra={"journal": str(self.path), "aside": str(aside), "error": reason},
        )

    def _beyond_stored(self, bars: Iterable[Bar]) -> dict[Key, Bar]:
        """Return the bars that have more trades than their rows, which an orderly stop wrote."""
        return {(bar.symbol, bar.open_time_ms): bar for bar in bars if not self._is_stored(bar)}

    def _is_stored(self, bar: Bar) -> bool:
        stored = self._get((bar.symbol, bar.open_time_ms))
        return stored is not None and stored.trade_count >= bar.trade_count

    def _prune(
        self, stores: Sequence[str], before_ms: int, had_for_a_while: Callable[[int], int]
    ) -> int:
        with transaction(self._connection):
            self._connection.execute(_DELETE_PAST_GAPS, (before_ms, PRUNE_BATCH))
            cursors = dict(self._connection.execute("SELECT store, sequence FROM cursors"))
            taken = min((cursors.get(store, 0) for store in stores), default=2**62)
            if stores:
                taken = had_for_a_while(taken)
            looked_through = self._looked_through
            new = self._old_bars(looked_through, taken, before_ms, PRUNE_BATCH)
            again = self._old_bars(
                self._looked_again, min(looked_through, taken), before_ms, _LOOK_AGAIN
            )
            old = [(row[0], row[1]) for row in (*again, *new) if self._may_go(row)]
            self._connection.executemany(_DELETE_BAR, old)
        if new:
            self._looked_through = new[-1][3]
        self._looked_again = again[-1][3] if len(again) == _LOOK_AGAIN else 0
        has_room = len(old) > _LOOK_AGAIN // 2  # what had to stay is leaving now
        self.has_more_to_prune = len(new) == PRUNE_BATCH or (bool(again) and has_room)
        return len(old)

    def _old_bars(
        self, after: int, through: int, before_ms: int, limit: int
    ) -> list[tuple[str, int, int, int, int]]:
        """Return bars in the order of writing, as long as they are old, and what PRUNABLE tells."""
        with closing(self._connection.execute(PRUNABLE, (after, through, limit))) as rows:
            return list(itertools.takewhile(lambda row: row[2] < before_ms, rows))

    def _may_go(self, row: tuple[str, int, int, int, int]) -> bool:
        """Whether no trade is asked for that may belong to the bar of *row*, nor will be soon."""
        symbol, open_time, _, _, is_free = row
        checkpoint = self._checkpoints.get(symbol)
        if not is_free or checkpoint is None:
            return bool(is_free)
        return checkpoint.ledger.last_time >= open_time + self._interval + DISORDER_MS and not (
            self._times(symbol, checkpoint).touch(open_time, self._interval, open_only=True)
        )

    def _write(
        self,
        changes: Changes,
        checkpoints: Mapping[str, Checkpoint],
        now_ms: int,
        status: str | None,
    ) -> None:
        with transaction(self._connection):
            sequence = self._sequence()
            finished = {
                key: bar
                for key, bar in changes.finished.items()
                if bar.is_closed or not self._is_stored(bar)
            }
            for key, part in changes.amendments.items():
                stored = self._get(key)
                finished[key] = part if stored is None else stored.merge(part)
            changed = self._changed_gaps(changes)
            for key, stored in self._touched(changed).items():
                if key not in finished and stored.is_complete != self._is_complete(
                    stored, checkpoints
                ):
                    finished[key] = _continued(stored, checkpoints)
            bars = sorted(finished.values(), key=lambda bar: (bar.open_time_ms, bar.symbol))
            self._connection.executemany(
                PUT_BAR,
                [
                    (
                        *bar_row(bar, now_ms, is_complete=self._is_complete(bar, checkpoints)),
                        next(sequence),
                    )
                    for bar in bars
                ],
            )
            for symbol, (before, after) in changed.items():
                reopened = [gap for name, gap in changes.reopened if name == symbol]
                self._forget_past_absence(symbol, reopened)
                before_all = sorted((*before, *reopened), key=lambda gap: gap.first_id)
                self._note_past_gaps(symbol, before_all, after, changes, now_ms)
                self._put_gaps(symbol, before, after)
            for symbol, checkpoint in changes.checkpoints.items():
                known = self._checkpoints.get(symbol)
                before_absent = known.ledger.absent if known else ()
                self._put_absent(symbol, *changed_part(before_absent, checkpoint.ledger.absent))
            self._put_checkpoints(changes.checkpoints, now_ms)
            self._save_sequence(sequence)
            for name, value in changes.facts.items():
                self._put_fact(name, value)
            if status is not None:
                self._put_fact("status", status)

    def _changed_gaps(self, changes: Changes) -> dict[str, tuple[list[Gap], list[Gap]]]:
        """Return the gaps that were on record and are no more, and the new ones, by symbol.

        Where nothing can be repaired there may be thousands that stay as they are.
        """
        changed = {}
        reopened = {symbol for symbol, _ in changes.reopened}
        for symbol, checkpoint in changes.checkpoints.items():
            before, after = changed_part(self._gaps_before(symbol), checkpoint.ledger.gaps)
            if before or after or symbol in reopened:
                changed[symbol] = (before, after)
        return changed

    def _touched(self, changed: Mapping[str, tuple[list[Gap], list[Gap]]]) -> dict[Key, Bar]:
        """Return the stored bars whose completeness may differ now that gaps came or went."""
        bars = {}
        for symbol, (before, after) in changed.items():
            for since, until in changed_spans(before, after):
                first = since - self._interval + 1
                for page in pages(self._connection, symbol, first, until + 1):
                    for row in page:
                        bar = self._bar(row)
                        bars[symbol, bar.open_time_ms] = bar
        return bars

    def _is_complete(self, bar: Bar, checkpoints: Mapping[str, Checkpoint]) -> bool:
        """Whether no gap touches *bar*, and none of it may be lost with an earlier file."""
        if bar.open_time_ms <= self._lost_through.get(bar.symbol, -1):
            return False
        checkpoint = checkpoints.get(bar.symbol)
        return checkpoint is None or not self._times(bar.symbol, checkpoint).touch(
            bar.open_time_ms, bar.interval_ms
        )

    def _times(self, symbol: str, checkpoint: Checkpoint) -> GapTimes:
        """Return when trades of *symbol* are missing, as *checkpoint* has it."""
        times = self._gap_times.setdefault(symbol, GapTimes())
        times.update(checkpoint.ledger.gaps)
        return times

    def _gaps_before(self, symbol: str) -> tuple[Gap, ...]:
        before = self._checkpoints.get(symbol)
        return before.ledger.gaps if before else ()

    def _get(self, key: Key) -> Bar | None:
        row = self._connection.execute(GET_BAR, key).fetchone()
        return None if row is None else self._bar(row)

    def _put_checkpoints(self, checkpoints: Mapping[str, Checkpoint], now_ms: int) -> None:
        self._connection.executemany(
            "INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?, ?, ?)",
            [
                (
                    symbol,
                    checkpoint.ledger.next_id,
                    checkpoint.ledger.last_time,
                    encode_open_bars(checkpoint.open_bars),
                    checkpoint.closed_through,
                    now_ms,
                )
                for symbol, checkpoint in checkpoints.items()
            ],
        )

    def _put_gaps(self, symbol: str, before: Iterable[Gap], after: Iterable[Gap]) -> None:
        self._connection.executemany(
            "DELETE FROM gaps WHERE symbol = ? AND first_id = ?",
            [(symbol, gap.first_id) for gap in before],
        )
        self._connection.executemany(
            "INSERT INTO gaps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(symbol, *gap_row(gap)) for gap in after],
        )

    def _put_absent(self, symbol: str, before: Iterable[Gap], after: Iterable[Gap]) -> None:
        self._connection.executemany(
            "DELETE FROM absent WHERE symbol = ? AND first_id = ?",
            [(symbol, gap.first_id) for gap in before],
        )
        self._connection.executemany(
            "INSERT INTO absent VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(symbol, *gap_row(gap), gap.absent_at, gap.looks) for gap in after],
        )

    def _forget_past_absence(self, symbol: str, reopened: Iterable[Gap]) -> None:
        """Take ids off the record as absent: one of them has turned out to exist."""
        for gap in reopened:
            rows = self._connection.execute(
                "DELETE FROM past_gaps WHERE symbol = ? AND last_id >= ? AND first_id <= ?"
                " AND outcome = ? RETURNING *",
                (symbol, gap.first_id, gap.last_id, ABSENT),
            ).fetchall()
            for _, first_id, last_id, *row in rows:
                left = [(first_id, gap.first_id - 1), (gap.last_id + 1, last_id)]
                self._connection.executemany(
                    "INSERT INTO past_gaps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    [(symbol, *ids, *row) for ids in left if ids[0] <= ids[1]],
                )

    def _note_past_gaps(
        self,
        symbol: str,
        before: Iterable[Gap],
        after: Iterable[Gap],
        changes: Changes,
        now_ms: int,
    ) -> None:
        """Keep on record what was a gap at the last write and is none now, and why."""
        asked = [
            replace(gap, attempts=changes.attempts.get((symbol, gap.last_id), gap.attempts))
            for gap in before
        ]
        reasons = [(low, high, why) for name, low, high, why in changes.explained if name == symbol]
        for gap in no_longer_missing(asked, after):
            for part, outcome in _with_outcomes(gap, reasons):
                if outcome not in (UNWANTED, RENUMBERED):  # what is lost stays a gap
                    self._put_past_gap(symbol, part, outcome, now_ms)

    def _put_past_gap(self, symbol: str, gap: Gap, outcome: str, now_ms: int) -> None:
        """Add a closed range, or lengthen the one that it continues, as page follows page."""
        earlier = self._connection.execute(
            "DELETE FROM past_gaps WHERE symbol = ? AND last_id = ? AND cause = ? AND outcome = ?"
            " RETURNING first_id, since",
            (symbol, gap.first_id - 1, gap.cause, outcome),
        ).fetchall()
        first_id, since = earlier[0] if earlier else (gap.first_id, gap.since_ms)
        self._connection.execute(
            "INSERT OR REPLACE INTO past_gaps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                symbol,
                first_id,
                gap.last_id,
                since,
                gap.until_ms,
                gap.cause,
                gap.attempts,
                gap.last_error,
                outcome,
                now_ms,
            ),
        )

    def _sequence(self) -> itertools.count[int]:
        return itertools.count(_read_sequence(self._connection) + 1)

    def _save_sequence(self, sequence: itertools.count[int]) -> None:
        self._last_sequence = next(sequence) - 1
        self._put_fact("sequence", str(self._last_sequence))

    def _put_fact(self, name: str, value: str) -> None:
        self._connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def _bar(self, row: tuple[Any, ...]) -> Bar:
        return bar_from_row(row, self._market, self._interval)


def _continued(stored: Bar, checkpoints: Mapping[str, Checkpoint]) -> Bar:
    """Return what there is of a bar that goes on after a shutdown, or *stored* if it does not."""
    for bar in checkpoints[stored.symbol].open_bars:
        if bar.open_time_ms == stored.open_time_ms:
            return bar
    return stored


def _with_outcomes(gap: Gap, reasons: Sequence[tuple[int, int, str]]) -> Iterator[tuple[Gap, str]]:
    """Split a closed range by what became of its ids; without another reason, trades came."""
    start = gap.first_id
    for low, high, why in sorted(reasons):
        low, high = max(low, start), min(high, gap.last_id)
        if low > high:
            continue
        if low > start:
            yield replace(gap, first_id=start, last_id=low - 1), REPAIRED
        yield replace(gap, first_id=low, last_id=high), why
        start = high + 1
    if start <= gap.last_id:
        yield replace(gap, first_id=start), REPAIRED


def _read_sequence(connection: sqlite3.Connection) -> int:
    (last,) = connection.execute("SELECT value FROM facts WHERE name = 'sequence'").fetchone()
    return int(last)


def _read_lost_through(connection: sqlite3.Connection) -> dict[str, int]:
    row = connection.execute("SELECT value FROM facts WHERE name = ?", (LOST_THROUGH,)).fetchone()
    return {} if row is None else msgspec.json.decode(row[0], type=dict[str, int])


def _read_checkpoints(connection: sqlite3.Connection) -> dict[str, Checkpoint]:
    gaps: dict[str, list[Gap]] = {}
    for symbol, *row in connection.execute(
        f"SELECT symbol, {GAP_COLUMNS} FROM gaps ORDER BY symbol, first_id"  # noqa: S608
    ):
        gaps.setdefault(symbol, []).append(gap_from_row(tuple(row)))
    absent: dict[str, list[Gap]] = {}
    for symbol, absent_at, looks, *row in connection.execute(
        f"SELECT symbol, absent_at, looks, {GAP_COLUMNS} FROM absent"  # noqa: S608
        " ORDER BY symbol, first_id"
    ):
        gap = replace(gap_from_row(tuple(row)), absent_at=absent_at, looks=looks)
        absent.setdefault(symbol, []).append(gap)
    return {
        symbol: Checkpoint(
            LedgerState(
                next_id, last_time, tuple(gaps.get(symbol, ())), tuple(absent.get(symbol, ()))
            ),
            decode_open_bars(open_bars),
            closed_through,
        )
        for symbol, next_id, last_time, open_bars, closed_through in connection.execute(
            "SELECT symbol, next_id, last_time, open_bars, closed_through FROM checkpoints"
        )
    }


def _lacks_header(path: Path) -> bool:
    """Whether a file that holds something, or whose log does, is not SQLite's.

    Asked before opening, since SQLite deletes the log of a file that it cannot read.
    """
    files = [path, path.with_name(path.name + "-wal")]
    beginning = [_first_bytes(file, len(_HEADER)) for file in files]
    return any(beginning) and beginning[0] != _HEADER


def _first_bytes(path: Path, count: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(count)
    except FileNotFoundError:
        return b""
