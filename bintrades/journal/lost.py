"""Table `lost_bars`, and what was lost with rows of a damaged journal, by the rows beside them.

Bars of a symbol join: the ids between the last of one and the first of the next are those of the
bars that lay between them. They become missing again, and are asked for like any others. Ids that
are on record as no fills were in no bar.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bintrades.core.gap_ranges import DISORDER_MS, span_between
from bintrades.core.ledger import LedgerState, with_lost
from bintrades.core.write_batch import Checkpoint
from bintrades.journal.bars import GET_BAR, neighbours, newest, pages
from bintrades.journal.excluded import count_excluded_since
from bintrades.journal.rows import COLUMN, bar_from_row
from bintrades.model import Bar, Gap, GapCause, id_ranges

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from bintrades.journal.meta import JournalScope


_OPEN_TIME = COLUMN["open_time"]
_IS_CLOSED, _IS_COMPLETE = COLUMN["is_closed"], COLUMN["is_complete"]
_COUNT, _EXCLUDED_COUNT = COLUMN["trade_count"], COLUMN["excluded_count"]
_FIRST_ID, _LAST_ID = COLUMN["first_trade_id"], COLUMN["last_trade_id"]
_FIRST_TIME, _LAST_TIME = COLUMN["first_trade_time"], COLUMN["last_trade_time"]
_TELLING = (_COUNT, _FIRST_ID, _LAST_ID, _FIRST_TIME, _LAST_TIME)
_ALL = 0  # the open time that stands for all that a symbol had, up to the end of its newest bar
_END = 2**62
_GAPS_LOST = "its gaps were lost"
_FEW = 3  # newest bars, among which that with the highest id is: `T` may fall back a little


@dataclass(slots=True)
class _Span:
    """Lost bars with no other bar of their symbol between them."""

    since_ms: int
    until_ms: int  # the last of them ends here
    reason: str
    before: Any | None  # row of the bar before them
    after: Any | None

    @property
    def is_of_all(self) -> bool:
        """Whether all that the symbol had is lost, which table lost_bars tells as open time 0."""
        return self.since_ms == _ALL

    def holds(self, open_time: int) -> bool:
        return self.after is None or open_time < self.after[_OPEN_TIME]


def read_lost_bars(
    connection: sqlite3.Connection,
) -> Iterator[tuple[str, Iterator[tuple[int, str]]]]:
    """Yield each symbol with open time and reason of what could not be salvaged, ascending.

    Raises sqlite3.Error.
    """
    rows = connection.execute(
        "SELECT symbol, open_time, reason FROM lost_bars ORDER BY symbol, open_time"
    )
    for symbol, group in itertools.groupby(rows, key=lambda row: str(row[0])):
        yield symbol, ((open_time, reason) for _, open_time, reason in group)


def delete_lost_bars(connection: sqlite3.Connection) -> None:
    """Delete what is on record as gaps now. Raises sqlite3.Error."""
    connection.execute("DELETE FROM lost_bars")


def lost_gaps(
    connection: sqlite3.Connection,
    symbol: str,
    lost: Iterable[tuple[int, str]],
    checkpoint: Checkpoint,
    interval_ms: int,
) -> Iterator[Gap]:
    """Yield what is missing of *symbol* without the bars in *lost*: open times, ascending, and why.

    Where one was only feared to be lost, its neighbours may show that there was none. Raises
    sqlite3.Error.
    """
    still_open = {bar.open_time_ms for bar in checkpoint.open_bars}
    span: _Span | None = None
    for open_time, reason in lost:
        if open_time in still_open:
            continue  # it goes on from its checkpoint
        last = checkpoint.closed_through if open_time == _ALL else open_time
        until = 0 if last is None else last + interval_ms - 1
        if span is not None and span.holds(open_time):
            span.until_ms = until
            continue
        if span is not None:
            yield from _gaps(connection, symbol, span, checkpoint, interval_ms)
        before, after = neighbours(connection, symbol, open_time)
        span = _Span(open_time, until, reason, before, after)
    if span is not None:
        yield from _gaps(connection, symbol, span, checkpoint, interval_ms)


def corrupt_beside(connection: sqlite3.Connection, symbol: str, open_time: int) -> int | None:
    """Return the open time of a bar beside a lost one that does not show what was lost, if any.

    Its ids, or its count, are invalid: it is lost as well. Raises sqlite3.Error.
    """
    for row in neighbours(connection, symbol, open_time):
        if row is not None and not all(isinstance(row[at], int) for at in _TELLING):
            return int(row[_OPEN_TIME])
    return None


def _gaps(
    connection: sqlite3.Connection,
    symbol: str,
    span: _Span,
    checkpoint: Checkpoint,
    interval_ms: int,
) -> Iterator[Gap]:
    yield from _among_neighbours(connection, span, checkpoint, interval_ms)
    yield from _gap(connection, symbol, span, checkpoint)


def _among_neighbours(
    connection: sqlite3.Connection, span: _Span, checkpoint: Checkpoint, interval_ms: int
) -> Iterator[Gap]:
    """Yield when trades are lost whose ids lie between those of a bar beside the lost ones.

    Where `T` fell back across the edge of two bars, their ids overlap. Which of them were in the
    lost one nobody can tell.
    """
    known = (*id_ranges(checkpoint.ledger.gaps), *checkpoint.ledger.absent)
    ids_of = {
        bar.open_time_ms: (bar.first_trade_id, bar.last_trade_id, _used_by(connection, bar))
        for bar in checkpoint.open_bars
    }
    for row in (span.before, span.after):
        if row is not None:
            used = row[_COUNT] + row[_EXCLUDED_COUNT]
            ids_of.setdefault(row[_OPEN_TIME], (row[_FIRST_ID], row[_LAST_ID], used))
    lost = {
        at - at % interval_ms: span.reason
        for at, beside in (
            (span.since_ms, span.since_ms - interval_ms),
            (span.until_ms, span.until_ms + 1),
        )
        if beside in ids_of and _has_holes(*ids_of[beside], known)
    }
    for open_time, reason in lost.items():
        yield unknown_gap(open_time, open_time + interval_ms - 1, reason)


def _has_holes(first_id: int, last_id: int, used: int, known: Sequence[Gap]) -> bool:
    """Whether a bar lacks ids that are not *known* to be missing or absent.

    *used* are its trades and the ids between them that are no fills.
    """
    return used + _count_within(known, first_id, last_id) < last_id - first_id + 1


def _used_by(connection: sqlite3.Connection, bar: Bar) -> int:
    """Return how many ids an open bar uses: what is no fill is counted once it is written."""
    return bar.trade_count + count_excluded_since(
        connection, bar.symbol, bar.open_time_ms, bar.first_trade_id, bar.last_trade_id
    )


def _gap(
    connection: sqlite3.Connection, symbol: str, span: _Span, checkpoint: Checkpoint
) -> Iterator[Gap]:
    """Yield the gap of the ids between the bars beside the lost ones, if there are any."""
    if span.after is not None:
        end_id = span.after[_FIRST_ID]
    else:
        if checkpoint.ledger.last_time is not None:  # nothing was seen that is newer
            newest = max(span.since_ms, checkpoint.ledger.last_time + DISORDER_MS)
            span.until_ms = min(span.until_ms, newest)
        ids = [bar.first_trade_id for bar in checkpoint.open_bars]
        end_id = min(ids, default=checkpoint.ledger.next_id)
    since, until, reason = span.since_ms, span.until_ms, span.reason
    if span.before is not None:
        first_id = span.before[_LAST_ID] + 1
        if end_id is not None and first_id < end_id:
            time, last_id = span.before[_OPEN_TIME], span.before[_LAST_ID]
            count = count_excluded_since(connection, symbol, time, last_id, end_id)
            if count == end_id - first_id:
                return
            yield Gap(first_id, end_id - 1, since, until, GapCause.LOST, last_error=reason)
    elif span.is_of_all or not end_id:  # below id 0 there is none to ask for
        yield unknown_gap(since, until, reason)
    else:  # as before a first start: however many there were since then
        yield Gap.beginning(end_id - 1, since, until, reason)


def unknown_gap(since_ms: int, until_ms: int, reason: str) -> Gap:
    """Return the record of lost trades of unknown number and ids."""
    return Gap.unnumbered(since_ms, until_ms, GapCause.LOST, last_error=reason)


def gaps_around_incomplete(
    connection: sqlite3.Connection, symbol: str, checkpoint: Checkpoint, interval_ms: int
) -> Iterator[Gap]:
    """Yield what may be missing beside the incomplete bars of *symbol* when its gaps are lost.

    Before the first bar that may be any number of trades; behind the last one, those up to what
    *checkpoint* has. What is missing between two ids of one bar is unknown: that stays on record
    without ids. Raises sqlite3.Error.
    """
    before: Any | None = None
    for page in pages(connection, symbol, 0, _END):
        for row in page:
            if before is None and not row[_IS_COMPLETE] and row[_FIRST_ID] > 0:
                until = row[_FIRST_TIME] + DISORDER_MS
                yield Gap.beginning(row[_FIRST_ID] - 1, row[_OPEN_TIME], until, _GAPS_LOST)
            is_doubtful = not row[_IS_COMPLETE] or (before is not None and not before[_IS_COMPLETE])
            if before is not None and is_doubtful and before[_LAST_ID] + 1 < row[_FIRST_ID]:
                since, until = before[_LAST_TIME], row[_FIRST_TIME]
                yield Gap(before[_LAST_ID] + 1, row[_FIRST_ID] - 1, since, until, GapCause.LOST)
            used = row[_COUNT] + row[_EXCLUDED_COUNT]
            if not row[_IS_COMPLETE] and used < row[_LAST_ID] - row[_FIRST_ID] + 1:
                open_time = row[_OPEN_TIME]
                yield unknown_gap(open_time, open_time + interval_ms - 1, _GAPS_LOST)
            before = row
    yield from _around_open(connection, before, checkpoint, interval_ms)


def _around_open(
    connection: sqlite3.Connection, before: Any | None, checkpoint: Checkpoint, interval_ms: int
) -> Iterator[Gap]:
    """Yield what may be missing of the open bars, and behind *before*, the row of the last bar.

    Of those nobody has said yet whether anything is.
    """
    known = None if before is None else (int(before[_LAST_ID]), int(before[_LAST_TIME]))
    for bar in sorted(checkpoint.open_bars, key=lambda bar: bar.open_time_ms):
        open_time, first_id, last_id = bar.open_time_ms, bar.first_trade_id, bar.last_trade_id
        if known is not None and known[0] + 1 < first_id:
            yield _lost_between(*known, first_id, bar.first_trade_time_ms)
        elif known is None and first_id > 0:
            until = bar.first_trade_time_ms + DISORDER_MS
            yield Gap.beginning(first_id - 1, open_time, until, _GAPS_LOST)
        if _has_holes(first_id, last_id, _used_by(connection, bar), checkpoint.ledger.absent):
            yield unknown_gap(open_time, open_time + interval_ms - 1, _GAPS_LOST)
        if known is None or known[0] < last_id:
            known = last_id, bar.last_trade_time_ms
    state = checkpoint.ledger
    if known is not None and state.next_id is not None and known[0] + 1 < state.next_id:
        yield _lost_between(*known, state.next_id, state.last_time or known[1])


def _lost_between(last_id: int, last_time: int, next_id: int, next_time: int) -> Gap:
    """Return the gap of the ids between two, whose trades have these times."""
    span = span_between(last_time, next_time)
    return Gap(last_id + 1, next_id - 1, *span, GapCause.LOST, last_error=_GAPS_LOST)


def is_outdated(connection: sqlite3.Connection, symbol: str, checkpoint: Checkpoint) -> bool:
    """Whether the newest bar of *symbol* has ids beyond *checkpoint*, written later than it.

    A page of checkpoints of which the disk has lost a write is no error to SQLite. To go on there
    would count trades again. Where ids have restarted since that bar, lower ones are newer.
    Raises sqlite3.Error.
    """
    row, _ = neighbours(connection, symbol, _END)
    state = checkpoint.ledger
    if row is None or not all(isinstance(row[at], int) for at in (_LAST_ID, _LAST_TIME)):
        return False
    have_ids_restarted = any(
        gap.cause == GapCause.RENUMBERED and gap.until_ms >= row[_LAST_TIME] for gap in state.gaps
    )
    is_beyond = state.next_id is None or row[_LAST_ID] >= state.next_id
    return bool(is_beyond and not have_ids_restarted)


def lacks_newest(
    connection: sqlite3.Connection,
    symbol: str,
    checkpoint: Checkpoint,
    gone_through: int,
    interval_ms: int,
) -> bool:
    """Whether the newest bars of *symbol* are gone, though it has others, and nobody says so.

    Those up to *gone_through* were pruned, or lost with an earlier file. Raises sqlite3.Error.
    """
    through = checkpoint.closed_through
    if through is None or through <= gone_through:
        return False
    if connection.execute(GET_BAR, (symbol, through)).fetchone():
        return False
    row, _ = neighbours(connection, symbol, through)
    if row is None or not isinstance(row[_LAST_ID], int):
        return False
    span = _Span(row[_OPEN_TIME] + interval_ms, through + interval_ms - 1, "", row, None)
    state = checkpoint.ledger
    return with_lost(state, _gap(connection, symbol, span, checkpoint)).gaps != state.gaps


def rebuilt(
    connection: sqlite3.Connection,
    symbol: str,
    gaps: Sequence[Gap],
    absent: Sequence[Gap],
    scope: JournalScope,
) -> Checkpoint | None:
    """Return where to go on with *symbol*, by its newest bars; None if it has none.

    What came after those is thereby missing again. Only the checkpoint had the trades that came for
    a bar that was still open: what of them is before the newest id is missing, too, with ids where
    the bars show which they are. Raises sqlite3.Error.
    """
    start, count = newest(connection, symbol, 0, _END, _FEW)
    rows = [row for page in pages(connection, symbol, start, _END) for row in page]
    if not rows:
        return None
    _, first = neighbours(connection, symbol, -1)
    last = max(rows, key=lambda row: int(row[_LAST_ID]))
    open_bars = tuple(
        bar_from_row(row, scope.market, scope.interval_ms) for row in rows if not row[_IS_CLOSED]
    )
    closed = [row[_OPEN_TIME] for row in rows if row[_IS_CLOSED]]
    known = tuple(gap for gap in gaps if not gap.has_ids or gap.last_id <= last[_LAST_ID])
    # What is above the newest id is found again with the next trade, absent or not.
    absent = tuple(gap for gap in absent if gap.last_id <= last[_LAST_ID])
    state = LedgerState(last[_LAST_ID] + 1, last[_LAST_TIME], known, absent)
    beginning = next((gap for gap in gaps if gap.is_start and count < _FEW), None)
    lost = _of_open_bars(rows, (*id_ranges(known), *absent), beginning, scope.interval_ms)
    return Checkpoint(
        with_lost(state, lost),
        open_bars,
        max(closed, default=None),
        proven_ms=last[_LAST_TIME],
        covered_since_ms=min(
            [first[_OPEN_TIME] if first is not None else rows[0][_OPEN_TIME]]
            + [gap.since_ms for gap in known]
        ),
    )


def _of_open_bars(
    rows: Sequence[Any], known: Sequence[Gap], beginning: Gap | None, interval_ms: int
) -> Iterator[Gap]:
    """Yield which ids are neither in *rows* nor *known* to be missing or absent."""
    next_id = rows[0][_FIRST_ID] if beginning is None else beginning.last_id + 1
    earliest = time = rows[0][_OPEN_TIME] if beginning is None else beginning.since_ms
    # Of those nothing is missing.
    complete = {row[_OPEN_TIME] for row in rows if row[_IS_CLOSED] and row[_IS_COMPLETE]}
    for row in rows:
        open_time, first_id, last_id = row[_OPEN_TIME], row[_FIRST_ID], row[_LAST_ID]
        since, until = span_between(time, row[_FIRST_TIME])
        since = max(since, earliest)
        until = min(until, open_time - 1) if open_time in complete else until
        if next_id < first_id and since <= until:
            yield Gap(next_id, first_id - 1, since, until, GapCause.LOST)
        if _has_holes(first_id, last_id, row[_COUNT] + row[_EXCLUDED_COUNT], known):
            # Where `T` fell back it may be of the next one.
            times = [at for at in (open_time, open_time + interval_ms) if at not in complete]
            if times:
                end = times[-1] + interval_ms - 1
                yield unknown_gap(times[0], end, "its checkpoint was lost")
        next_id, time = max(next_id, last_id + 1), row[_LAST_TIME]
        earliest = open_time + interval_ms if open_time in complete else open_time


def _count_within(gaps: Iterable[Gap], first_id: int, last_id: int) -> int:
    """Return how many of these ids are in *gaps*."""
    return sum(max(0, min(gap.last_id, last_id) - max(gap.first_id, first_id) + 1) for gap in gaps)
