"""Which request to make next for which gap, and what its answer means. Pure.

Small gaps are asked for by id (historicalTrades: exact rows, 25 weight for 1,000), large ones by
aggregates (aggTrades: 4 weight for 1,000, each covering one or more trades) and always paged by
id, never by time, which would lose trades of one millisecond at a page's edge. What aggregates
cannot tell exactly, at a gap's edges and around holes, stays a small gap and is asked for by id.
Frames that vanish here and there leave many small gaps: a page asked for by id fills all that it
reaches, for the same weight.

A host for market data only may lack historicalTrades. There, aggregates tell what they can of small
gaps, too; the rest waits for single trades to be asked for again, an hour later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from bintrades.model import Gap, Run

PAGE = 1_000
"""Most rows of one answer."""

FIRST_LOOK_MS = 1_000
"""A gap often fills by itself: from a second connection, or by a frame out of order."""

_FIRST_WAIT_MS, _LONGEST_WAIT_MS = 1_000, 300_000
_ABSENT_AFTER_MS = 10_000  # an id is absent when two answers so far apart say so
_NO_TRADES_FOR_MS = 3_600_000  # until a host that had no historicalTrades is asked for them again
_NO_TRADES = "this host has no historicalTrades, and aggregates do not tell these trades"


class Aggregate(NamedTuple):
    """A row of aggTrades: the run, and the aggregate's own id, which paging goes by."""

    id: int
    run: Run | None  # None: the exchange has marked it invalid


@dataclass(frozen=True, slots=True)
class TradesTask:
    """Ask historicalTrades for rows from from_id on: up to the gap's end, and of gaps before it."""

    symbol: str
    gap: Gap
    from_id: int
    limit: int


@dataclass(frozen=True, slots=True)
class AggregatesTask:
    """Ask aggTrades for a page, by aggregate id or, for the first, by time."""

    symbol: str
    gap: Gap
    from_id: int | None
    start_ms: int | None
    is_oldest: bool = False  # start_ms is how far back anything is fetched


Task = TradesTask | AggregatesTask


@dataclass(frozen=True, slots=True)
class Repaired:
    """What an answer said about a gap, for the ledger and the bars."""

    symbol: str
    gap: Gap
    runs: Sequence[Run] = ()
    absent: Sequence[tuple[int, int]] = ()
    begins_at: int | None = None  # of a start gap: the first id that is wanted
    abandoned_through: int | None = None  # ids up to here are older than anyone wants
    abandoned_before_ms: int = 0
    error: str | None = None


@dataclass(slots=True)
class _Tries:
    """What was learned of one gap; a gap that is filled from its front stays the same gap."""

    not_before: int
    failures: int = 0
    needs_ids: bool = False  # aggregates have told what they can: ask by id
    is_recent: bool = False  # its age was looked into
    next_aggregate: int | None = None


class RepairPlan:
    """All gaps of all symbols, and what to do about them.

    *now* is milliseconds on a clock that never goes back; *clock* is the exchange's time. Nothing
    is asked about a symbol twice at once: after a task its next one comes when update() has told
    what the answer made of the gaps. An answer has at most *page* rows.
    """

    def __init__(self, max_age_ms: int, page: int = PAGE) -> None:
        self._max_age = max_age_ms
        self._page = page
        self._gaps: dict[str, tuple[Gap, ...]] = {}  # served in this order, then put last
        self._tries: dict[tuple[str, int], _Tries] = {}  # by symbol and last id
        self._holes: dict[tuple[str, int, int], int] = {}  # ids found absent, and when first
        self._busy: dict[str, Gap] = {}  # what is being asked about, until the ledger knows
        self._not_found_count = 0  # answers in a row that there is no historicalTrades
        self._no_trades_until = 0  # when to ask for single trades again

    @property
    def is_empty(self) -> bool:
        """Whether nothing is missing that will be asked for, and nothing of old is remembered."""
        return not (self._gaps or self._tries or self._holes or self._busy)

    def update(self, symbol: str, gaps: Iterable[Gap], now: int) -> None:
        """Take over the gaps of *symbol* as the ledger has them."""
        wanted = {gap.last_id: gap for gap in gaps if not gap.is_abandoned}
        # An answer always changes its gap, if only the number of attempts: this may be older news.
        if self._busy.get(symbol) not in wanted.values():
            self._busy.pop(symbol, None)
        for gap in self._gaps.get(symbol, ()):
            if gap.last_id not in wanted:
                del self._tries[symbol, gap.last_id]
        if wanted:
            self._gaps[symbol] = tuple(wanted.values())
            for last_id in wanted:
                self._tries.setdefault((symbol, last_id), _Tries(now + FIRST_LOOK_MS))
        else:
            self._gaps.pop(symbol, None)
            self._holes = {key: at for key, at in self._holes.items() if key[0] != symbol}

    def next_task(self, now: int, clock: int) -> Task | Repaired | None:
        """Return what to ask next, or what can be said without asking; None: nothing yet.

        Symbols take turns; of one symbol the newest gap comes first.
        """
        for symbol, gaps in self._gaps.items():
            if symbol in self._busy:
                continue
            for gap in reversed(gaps):
                tries = self._tries[symbol, gap.last_id]
                if now >= tries.not_before:
                    self._busy[symbol] = gap
                    return self._task(symbol, gap, tries, now, clock - self._max_age)
        return None

    def put_back(self, task: Task) -> None:
        """Take back *task*, which cannot be carried out now: by then it may be another one."""
        self._busy.pop(task.symbol, None)

    def failed(self, task: Task, error: str, now: int) -> Repaired:
        """Note that *task* brought no answer."""
        self._delay(self._tries_of(task), now)
        return Repaired(task.symbol, task.gap, error=error)

    def trades_not_found(self, task: TradesTask, error: str, now: int) -> Repaired:
        """Note that the host says that it has no historicalTrades; the second time it counts."""
        self._not_found_count += 1
        if self._not_found_count > 1:
            self._no_trades_until = now + _NO_TRADES_FOR_MS
        return self.failed(task, error, now)

    def trades_came(self, task: TradesTask, rows: Sequence[Run], now: int) -> Repaired:
        """Return what the answer to a TradesTask means; *rows* have ascending ids."""
        self._not_found_count = 0
        gap, tries = task.gap, self._tries_of(task)
        own = [run for run in rows if gap.first_id <= run.first_id <= gap.last_id]
        missing = self._missing_before(task)
        runs = [*(run for run in rows if run.first_id in missing), *own]
        seen_through = rows[-1].last_id if rows else gap.first_id - 1
        holes = _holes(gap.first_id, min(seen_through, gap.last_id), own)
        absent = [hole for hole in holes if self._is_confirmed(task.symbol, hole, now)]
        is_cut_short = seen_through < gap.last_id and len(rows) < task.limit
        if runs or absent:
            tries.failures = 0
        if is_cut_short or not (own or absent):
            self._delay(tries, now)  # the exchange's database lags behind its streams
            error = "the exchange does not have it all yet"
            return Repaired(task.symbol, gap, runs, absent, error=error)
        tries.not_before = now
        return Repaired(task.symbol, gap, runs, absent)

    def aggregates_came(
        self, task: AggregatesTask, rows: Sequence[Aggregate], now: int
    ) -> Repaired:
        """Return what the answer to an AggregatesTask means; *rows* have ascending ids."""
        gap, tries = task.gap, self._tries_of(task)
        if not rows:
            tries.next_aggregate = None
            self._delay(tries, now)
            return Repaired(task.symbol, gap, error="the exchange has nothing there yet")
        valid = [run for _, run in rows if run is not None]
        if not valid:
            tries.next_aggregate = rows[-1].id + 1
            self._delay(tries, now)
            return Repaired(task.symbol, gap, error="the exchange has nothing valid there")
        first_id, last_id = valid[0].first_id, valid[-1].last_id
        runs = [run for run in valid if gap.first_id <= run.first_id and run.last_id <= gap.last_id]
        is_older_left = task.is_oldest and first_id > gap.first_id
        is_beginning = gap.is_start and not task.is_oldest and not tries.is_recent
        wanted_from = first_id if is_older_left or is_beginning else gap.first_id
        tries.is_recent = True
        tries.needs_ids = last_id >= gap.last_id
        tries.next_aggregate = None if tries.needs_ids else rows[-1].id + 1
        lacks_trades = tries.needs_ids and now < self._no_trades_until
        is_left = any(_holes(wanted_from, gap.last_id, runs))
        if runs:
            tries.failures = 0
        if last_id < gap.last_id and len(rows) < self._page:
            self._delay(tries, now)
        else:
            tries.failures = 0
            tries.not_before = self._no_trades_until if lacks_trades else now
        return Repaired(
            task.symbol,
            gap,
            runs,
            begins_at=first_id if is_beginning else None,
            abandoned_through=min(first_id - 1, gap.last_id) if is_older_left else None,
            abandoned_before_ms=task.start_ms or 0,
            error=_NO_TRADES if lacks_trades and is_left else None,
        )

    def _task(self, symbol: str, gap: Gap, tries: _Tries, now: int, oldest: int) -> Task | Repaired:
        if gap.until_ms < oldest:
            return Repaired(symbol, gap, abandoned_through=gap.last_id, abandoned_before_ms=oldest)
        if not tries.is_recent and gap.since_ms < oldest:
            return AggregatesTask(symbol, gap, None, oldest, is_oldest=True)
        is_by_id = tries.needs_ids or (gap.size < self._page and not gap.is_start)
        if is_by_id and now >= self._no_trades_until:
            from_id = self._reach_back(symbol, gap, oldest)
            # One row more than is missing shows that the exchange has got past the gap.
            return TradesTask(symbol, gap, from_id, min(self._page, gap.last_id - from_id + 2))
        if tries.next_aggregate is not None:
            return AggregatesTask(symbol, gap, tries.next_aggregate, None)
        return AggregatesTask(symbol, gap, None, max(gap.since_ms, oldest))

    def _reach_back(self, symbol: str, gap: Gap, oldest: int) -> int:
        """Return the first id of the longest page that begins with a gap and ends after *gap*."""
        lowest = gap.last_id + 2 - self._page
        from_id = gap.first_id
        for earlier in reversed(self._gaps[symbol]):
            if earlier.first_id < from_id:
                if earlier.first_id < lowest or earlier.is_start or earlier.since_ms < oldest:
                    break
                from_id = earlier.first_id
        return from_id

    def _missing_before(self, task: TradesTask) -> set[int]:
        """Return the ids that are missing among those the task asks for besides its gap's."""
        return {
            trade_id
            for gap in self._gaps.get(task.symbol, ())
            if task.from_id <= gap.first_id and gap.last_id < task.gap.first_id
            for trade_id in range(gap.first_id, gap.last_id + 1)
        }

    def _tries_of(self, task: Task) -> _Tries:
        """Return what is known of the task's gap, which may have filled meanwhile."""
        key = (task.symbol, task.gap.last_id)
        symbol = task.symbol
        if symbol in self._gaps:  # put last: symbols take turns
            self._gaps[symbol] = self._gaps.pop(symbol)
        return self._tries.get(key) or _Tries(0)

    def _delay(self, tries: _Tries, now: int) -> None:
        wait = min(_LONGEST_WAIT_MS, _FIRST_WAIT_MS * 2 ** min(tries.failures, 20))
        tries.failures += 1
        tries.not_before = now + wait

    def _is_confirmed(self, symbol: str, hole: tuple[int, int], now: int) -> bool:
        """Whether *hole* was absent a while ago as well."""
        first_seen = self._holes.setdefault((symbol, *hole), now)
        return now - first_seen >= _ABSENT_AFTER_MS


def _holes(first_id: int, last_id: int, runs: Sequence[Run]) -> Iterator[tuple[int, int]]:
    """Yield the ranges of ids from *first_id* to *last_id* that no run has."""
    expected = first_id
    for run in runs:
        if run.first_id > expected:
            yield expected, run.first_id - 1
        expected = run.last_id + 1
    if expected <= last_id:
        yield expected, last_id
