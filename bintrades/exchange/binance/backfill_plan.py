"""Which request to make next for which gap, and what its answer means. Pure.

Small gaps are asked for by id (historicalTrades: exact rows, 25 weight for 1,000), large ones by
aggregates (aggTrades: 4 weight for 1,000, each covering one or more trades) and always paged by
id, never by time, which would lose trades of one millisecond at a page's edge. What aggregates
cannot tell exactly, at a gap's edges and around holes, stays a small gap and is asked for by id.
Frames that vanish here and there leave many small gaps: a page asked for by id fills all that it
reaches, for the same weight.

A host for market data only may lack historicalTrades. There, aggregates tell what they can of small
gaps, too; the rest waits for single trades to be asked for again, an hour later.

That ids do not exist is believed slowly, since a database may lag, or leave out for minutes what it
has, and it may answer another question than the one asked. An answer counts only if it holds
the trades right before and right after the ids, which shows that it is about them and complete
around them; historicalTrades and aggTrades must agree; and both must say so again a minute
and ten minutes later. Until then the ids are missing. After an hour and after a day they are asked
for once more. Where the wanted trades begin is proven in the same way: by a trade from before, or
by both saying, asked for the first of all, that there is none.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from bintrades.core.backfill_result import BackfillResult
from bintrades.core.ledger import DISORDER_MS
from bintrades.model import START

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from bintrades.model import Gap, TradeRange

FIRST_LOOK_MS = 1_000
"""A gap often fills by itself: from a second connection, or by a frame out of order."""

_FIRST_WAIT_MS, _LONGEST_WAIT_MS = 1_000, 300_000
_SAID_AGAIN_AFTER_MS = (60_000, 600_000)  # since it was said first that there are no such ids
_ASKED_AGAIN_AFTER_MS = (3_600_000, 86_400_000)  # since that was believed; on the exchange's clock
_TRADES, _AGGREGATES = 1, 2  # who says so; both: 3
_FURTHER_BACK = 16  # times as far as before, where no trade from before the beginning was found
_NO_TRADES_FOR_MS = 3_600_000  # until a host that had no historicalTrades is asked for them again
_NOT_SURE = "the exchange has no such trades, it says; it must say so again before that is believed"
_NO_TRADES = "this host has no historicalTrades, and aggregates do not tell these trades"


class Aggregate(NamedTuple):
    """A row of aggTrades: the run, and the aggregate's own id, which paging goes by."""

    id: int
    run: TradeRange | None  # None: the exchange has marked it invalid


@dataclass(frozen=True, slots=True)
class TradesRequest:
    """Ask historicalTrades for rows from from_id on: up to the gap's end, and of gaps before it."""

    symbol: str
    gap: Gap
    from_id: int
    limit: int


@dataclass(frozen=True, slots=True)
class AggregatesRequest:
    """Ask aggTrades for a page, by aggregate id or, for the first, by time."""

    symbol: str
    gap: Gap
    from_id: int | None
    start_ms: int | None
    begins_ms: int | None = None  # a trade from before then shows where what is wanted begins
    is_oldest: bool = False  # begins_ms is how far back anything is fetched
    is_second_look: bool = False  # at ids that historicalTrades does not have


Task = TradesRequest | AggregatesRequest


@dataclass(slots=True)
class _Absence:
    """How far it is believed that the ids of a gap do not exist."""

    first_id: int  # of the gap when this began: what has changed since begins anew
    due: int = 0  # when it is to be said again; before that it does not count
    said_at: int | None = None  # when both endpoints had said so for the first time
    rounds: int = 0  # how often both have said so
    words: int = 0  # who has said so in this round
    around_ms: int = 0  # time of the trades around the gap, of the earlier one


@dataclass(slots=True)
class _Tries:
    """What was learned of one gap; a gap that is filled from its front stays the same gap."""

    not_before: int
    failures: int = 0
    needs_ids: bool = False  # aggregates have told what they can: ask by id
    is_begun: bool = False  # where it begins, or what of it is too old, was looked into
    back_count: int = 0  # how often that was looked for further back
    first_aggregate: int = 0  # the earliest that was found before that
    first_of_all: int | None = None  # id of the exchange's first trade ever, as aggregates have it
    next_aggregate: int | None = None
    page_end: TradeRange | None = None  # the last aggregate before that one
    absence: _Absence | None = None


class BackfillPlan:
    """All gaps of all symbols, and what to do about them.

    *now* is milliseconds on a clock that never goes back; *clock* is the exchange's time. Nothing
    is asked about a symbol twice at once: after a task its next one comes when update() has told
    what the answer made of the gaps. An answer has at most *trades_page* or *aggregates_page* rows.
    """

    def __init__(self, max_age_ms: int, *, trades_page: int, aggregates_page: int) -> None:
        self._max_age = max_age_ms
        self._trades_page = trades_page
        self._aggregates_page = aggregates_page
        self._clock = 0
        self._gaps: dict[str, tuple[Gap, ...]] = {}  # served in this order, then put last
        self._unknown: dict[str, tuple[Gap, ...]] = {}  # those, abandoned ones and absent ids
        self._tries: dict[tuple[str, int], _Tries] = {}  # by symbol and last id
        self._absent: dict[str, tuple[Gap, ...]] = {}  # to be asked for once more
        self._busy: dict[str, Gap] = {}  # what is being asked about, until the ledger knows
        self._not_found_count = 0  # answers in a row that there is no historicalTrades
        self._no_trades_until = 0  # when to ask for single trades again

    @property
    def is_empty(self) -> bool:
        """Whether nothing is missing that will be asked for, and nothing of old is remembered.

        Absent ids are not missing, although they are asked for once more.
        """
        return not (self._gaps or self._busy or len(self._tries) > self._absent_count)

    @property
    def _absent_count(self) -> int:
        return sum(map(len, self._absent.values()))

    def update(self, symbol: str, gaps: Iterable[Gap], now: int) -> None:
        """Take over the gaps of *symbol*, and its absent ids, as the ledger has them."""
        told = tuple(gaps)
        wanted = tuple(gap for gap in told if not (gap.is_abandoned or gap.is_absent))
        late = len(_ASKED_AGAIN_AFTER_MS)
        absent = tuple(gap for gap in told if gap.is_absent and gap.looks < late)
        # An answer always changes its gap, if only the number of attempts: this may be older news.
        if self._busy.get(symbol) not in told:
            self._busy.pop(symbol, None)
        left = {gap.last_id for gap in (*wanted, *absent)}
        for gap in (*self._gaps.get(symbol, ()), *self._absent.get(symbol, ())):
            if gap.last_id not in left:
                self._tries.pop((symbol, gap.last_id), None)
        for gap in (*wanted, *absent):
            self._tries.setdefault((symbol, gap.last_id), _Tries(now + FIRST_LOOK_MS))
        for kept, found in ((self._gaps, wanted), (self._absent, absent), (self._unknown, told)):
            if found:
                kept[symbol] = found
            else:
                kept.pop(symbol, None)

    def next_task(self, now: int, clock: int) -> Task | BackfillResult | None:
        """Return what to ask next, or what can be said without asking; None: nothing yet.

        Symbols take turns; of one symbol the newest gap comes first. Absent ids come last.
        """
        self._clock = clock
        for symbol, gaps in self._gaps.items():
            if symbol in self._busy:
                continue
            for gap in reversed(gaps):
                tries = self._tries[symbol, gap.last_id]
                if now >= tries.not_before:
                    self._busy[symbol] = gap
                    return self._task(symbol, gap, tries, now, clock - self._max_age)
        return self._late_task(now, clock)

    def put_back(self, task: Task) -> None:
        """Take back *task*, which cannot be carried out now: by then it may be another one."""
        self._busy.pop(task.symbol, None)

    def failed(self, task: Task, error: str, now: int) -> BackfillResult:
        """Note that *task* brought no answer."""
        self._delay(self._tries_of(task), now)
        return BackfillResult(task.symbol, task.gap, error=error)

    def trades_not_found(self, task: TradesRequest, error: str, now: int) -> BackfillResult:
        """Note that the host says that it has no historicalTrades; the second time it counts."""
        self._not_found_count += 1
        if self._not_found_count > 1:
            self._no_trades_until = now + _NO_TRADES_FOR_MS
        return self.failed(task, error, now)

    def trades_came(
        self, task: TradesRequest, rows: Sequence[TradeRange], now: int
    ) -> BackfillResult:
        """Return what the answer to a TradesRequest means; *rows* have ascending ids."""
        self._not_found_count = 0
        symbol, gap, tries = task.symbol, task.gap, self._tries_of(task)
        if tries.first_of_all is not None:
            return self._first_came(task, rows, now)
        runs = [run for run in rows if self._is_unknown(symbol, gap, run.first_id)]
        own = [run for run in runs if gap.first_id <= run.first_id <= gap.last_id]
        if runs:
            tries.failures = 0
        absent = self._hear(task, _TRADES, rows, now)
        if gap.is_absent and self._is_around(symbol, rows, gap, is_from_zero=task.from_id == 0):
            absent.append((gap.first_id, gap.last_id))
        seen_through = rows[-1].last_id if rows else gap.first_id - 1
        error = None
        if seen_through < gap.last_id and len(rows) < task.limit:
            self._delay(tries, now)  # the exchange's database lags behind its streams
            error = "the exchange does not have it all yet"
        elif own or (gap.first_id, gap.last_id) in absent:
            tries.not_before = now
        else:
            error = self._wait_for_word(gap, tries, _TRADES, now)
        return self._repaired(task, runs, absent, error=error)

    def aggregates_came(
        self, task: AggregatesRequest, rows: Sequence[Aggregate], now: int
    ) -> BackfillResult:
        """Return what the answer to an AggregatesRequest means; *rows* have ascending ids."""
        tries = self._tries_of(task)
        if not rows:
            tries.next_aggregate = tries.page_end = None
            self._delay(tries, now)
            return BackfillResult(task.symbol, task.gap, error="the exchange has nothing there yet")
        valid = [run for _, run in rows if run is not None]
        if not valid:
            tries.next_aggregate = rows[-1].id + 1
            self._delay(tries, now)
            return BackfillResult(
                task.symbol, task.gap, error="the exchange has nothing valid there"
            )
        if task.is_second_look:
            return self._looked_again(task, rows, valid, now)
        if task.begins_ms is None or tries.is_begun:
            return self._filled(task, rows, valid, None, now)
        older = _last_before(valid, task.begins_ms)
        is_begun = valid[0].first_id == 0 or (
            valid[0].first_id <= task.gap.first_id and not task.gap.is_start
        )
        is_far = task.from_id == 0 and rows[-1].id < tries.first_aggregate
        if is_far or (older is None and not is_begun):
            return self._look_further_back(task, rows, valid, now)
        return self._filled(task, rows, valid, older, now)

    def _filled(
        self,
        task: AggregatesRequest,
        rows: Sequence[Aggregate],
        valid: Sequence[TradeRange],
        older: TradeRange | None,
        now: int,
    ) -> BackfillResult:
        """Return what a page of aggregates fills; *older* is the last trade that is not wanted."""
        gap, tries = task.gap, self._tries_of(task)
        wanted_from = gap.first_id if older is None else max(gap.first_id, older.last_id + 1)
        if gap.is_start and not tries.is_begun and older is None:
            wanted_from = valid[0].first_id
        runs = _within(valid, wanted_from, gap.last_id)
        absent = self._hear(task, _AGGREGATES, valid, now)
        is_beginning = gap.is_start and not task.is_oldest and not tries.is_begun
        is_older_left = task.is_oldest and wanted_from > gap.first_id
        last_id = valid[-1].last_id
        tries.is_begun = True
        tries.needs_ids = last_id >= gap.last_id
        tries.next_aggregate = None if tries.needs_ids else rows[-1].id + 1
        lacks_trades = tries.needs_ids and now < self._no_trades_until
        is_left = any(_holes(wanted_from, gap.last_id, runs))
        if runs:
            tries.failures = 0
        if last_id < gap.last_id and len(rows) < self._aggregates_page:
            self._delay(tries, now)
        else:
            tries.failures = 0
            tries.not_before = self._no_trades_until if lacks_trades else now
        return self._repaired(
            task,
            runs,
            absent,
            begins_at=wanted_from if is_beginning else None,
            has_older=is_beginning and older is not None,
            older=older if is_older_left else None,
            error=_NO_TRADES if lacks_trades and is_left else None,
        )

    def _look_further_back(
        self,
        task: AggregatesRequest,
        rows: Sequence[Aggregate],
        valid: Sequence[TradeRange],
        now: int,
    ) -> BackfillResult:
        """Have an earlier page asked for, since this one may lack the first of what is wanted.

        First that of the aggregate before; then the very first page: if even that begins here, the
        exchange has nothing older. Otherwise ever further back: aggregates may be left out.
        """
        gap, tries = task.gap, self._tries_of(task)
        if tries.back_count == 0:
            tries.first_aggregate = rows[0].id
        tries.not_before = now
        wanted = [run for run in valid if run.time >= (task.begins_ms or 0)]
        runs = _within(wanted, gap.first_id, gap.last_id)
        if task.from_id == 0 and rows[0].id >= tries.first_aggregate:
            return self._nothing_is_older(task, tries, valid[0].first_id, runs, now)
        if tries.back_count < 2:
            tries.next_aggregate = max(0, tries.first_aggregate - 1) if not tries.back_count else 0
        else:
            tries.next_aggregate = tries.first_aggregate - _FURTHER_BACK ** (tries.back_count - 1)
        tries.back_count += 1
        if tries.next_aggregate < 0:
            tries.next_aggregate, tries.back_count = None, 0
            self._delay(tries, now)
        return BackfillResult(task.symbol, gap, runs)

    def _nothing_is_older(
        self,
        task: AggregatesRequest,
        tries: _Tries,
        first_id: int,
        runs: Sequence[TradeRange],
        now: int,
    ) -> BackfillResult:
        """Have historicalTrades asked as well whether *first_id* is the first trade of all."""
        tries.next_aggregate = 0
        if not task.gap.is_start:
            tries.is_begun, tries.needs_ids, tries.next_aggregate = True, True, None
        elif now < self._no_trades_until:
            tries.is_begun = True
            return BackfillResult(task.symbol, task.gap, runs, begins_at=first_id)
        else:
            tries.first_of_all = first_id
        return BackfillResult(task.symbol, task.gap, runs)

    def _first_came(
        self, task: TradesRequest, rows: Sequence[TradeRange], now: int
    ) -> BackfillResult:
        """Return where it begins if historicalTrades knows of no older trade either."""
        tries = self._tries_of(task)
        first_of_all, tries.first_of_all = tries.first_of_all, None
        tries.back_count, tries.next_aggregate = 0, None
        if rows and rows[0].first_id == first_of_all:
            tries.is_begun, tries.not_before = True, now
            return BackfillResult(task.symbol, task.gap, begins_at=first_of_all)
        self._delay(tries, now)
        return BackfillResult(task.symbol, task.gap, error="where it begins is not known yet")

    def _looked_again(
        self,
        task: AggregatesRequest,
        rows: Sequence[Aggregate],
        valid: Sequence[TradeRange],
        now: int,
    ) -> BackfillResult:
        """Return what aggregates say about ids that historicalTrades does not have."""
        gap, tries = task.gap, self._tries_of(task)
        page = valid if tries.page_end is None else [tries.page_end, *valid]
        tries.next_aggregate = tries.page_end = None
        runs = _within(valid, gap.first_id, gap.last_id)
        absent = self._hear(task, _AGGREGATES, page, now)
        error = None
        if any(run.first_id <= gap.last_id and run.last_id >= gap.first_id for run in valid):
            tries.absence = None
            self._delay(tries, now)
            error = "aggTrades has trades that historicalTrades lacks"
        elif (gap.first_id, gap.last_id) not in absent:
            if page[-1].last_id < gap.first_id and len(rows) >= self._aggregates_page:
                tries.next_aggregate, tries.page_end = rows[-1].id + 1, page[-1]
                tries.not_before = now
            else:
                error = self._wait_for_word(gap, tries, _AGGREGATES, now)
        return self._repaired(task, runs, absent, error=error)

    def _wait_for_word(self, gap: Gap, tries: _Tries, who: int, now: int) -> str:
        """Have *gap* be asked about again when it is time; return why it is."""
        absence = tries.absence
        if absence is not None and absence.first_id == gap.first_id:
            if now < absence.due:
                tries.not_before = absence.due
                return _NOT_SURE
            if absence.words == who == _TRADES:
                tries.not_before, tries.failures = now, 0  # a second look may come at once
                return _NOT_SURE
        self._delay(tries, now)
        return "the answer does not hold the trades around it"

    def _hear(
        self, task: Task, who: int, runs: Sequence[TradeRange], now: int
    ) -> list[tuple[int, int]]:
        """Note of which gaps an answer says that there are no such trades; return those believed.

        An answer tells of every gap that lies between two of its rows.
        """
        gaps = self._gaps.get(task.symbol, ())
        start = bisect_left(gaps, runs[0].first_id if runs else 0, key=_first_id)
        end = bisect_left(gaps, runs[-1].first_id if runs else 0, key=_first_id)
        between = gaps[:end] if task.from_id == 0 else gaps[start:end]
        believed = []
        for gap in between:
            if not gap.is_start and self._is_around(
                task.symbol, runs, gap, is_from_zero=task.from_id == 0
            ):
                after = bisect_right(runs, gap.first_id, key=_first_id)
                around_ms = min(run.time for run in runs[after - 1 : after + 1]) if after else 0
                if self._record_confirmation(task.symbol, gap, who, around_ms, now):
                    believed.append((gap.first_id, gap.last_id))
        return believed

    def _record_confirmation(
        self, symbol: str, gap: Gap, who: int, around_ms: int, now: int
    ) -> bool:
        """Note that *who* says that *gap* does not exist; return whether that is believed now."""
        tries = self._tries[symbol, gap.last_id]
        absence = tries.absence
        if absence is None or absence.first_id != gap.first_id:
            absence = tries.absence = _Absence(gap.first_id)
        if now < absence.due:
            return False
        absence.words |= who
        absence.around_ms = around_ms
        if absence.words != _TRADES | _AGGREGATES:
            return False
        absence.words, absence.rounds = 0, absence.rounds + 1
        absence.said_at = now if absence.said_at is None else absence.said_at
        tries.failures = 0
        if absence.rounds > len(_SAID_AGAIN_AFTER_MS):
            tries.absence = None
            return True
        absence.due = absence.said_at + _SAID_AGAIN_AFTER_MS[absence.rounds - 1]
        tries.not_before = absence.due
        return False

    def _is_around(
        self, symbol: str, runs: Sequence[TradeRange], gap: Gap, *, is_from_zero: bool
    ) -> bool:
        """Whether *runs* hold the trades right before and right after *gap*, and none in it.

        Between those and the gap there may be other ids that are not known to exist either. Before
        id 0 there is no trade.
        """
        index = bisect_right(runs, gap.last_id, key=_first_id)
        if index == len(runs) or not (index or is_from_zero):
            return False
        first_id = runs[index - 1].last_id + 1 if index else 0
        return first_id <= gap.first_id and self._are_unknown(
            symbol, first_id, runs[index].first_id - 1
        )

    def _are_unknown(self, symbol: str, first_id: int, last_id: int) -> bool:
        """Whether none of these ids is known to exist."""
        unknown = self._unknown.get(symbol, ())
        index = max(0, bisect_right(unknown, first_id, key=_first_id) - 1)
        for gap in unknown[index:]:
            if first_id > last_id or not gap.first_id <= first_id <= gap.last_id:
                break
            first_id = gap.last_id + 1
        return first_id > last_id

    def _is_unknown(self, symbol: str, own: Gap, trade_id: int) -> bool:
        """Whether a trade is news, except for one from before the beginning of all."""
        if own.first_id <= trade_id <= own.last_id:
            return True
        unknown = self._unknown.get(symbol, ())
        index = bisect_right(unknown, trade_id, key=_first_id) - 1
        return index >= 0 and trade_id <= unknown[index].last_id and not unknown[index].is_start

    def _repaired(
        self,
        task: Task,
        runs: Sequence[TradeRange],
        absent: list[tuple[int, int]],
        *,
        begins_at: int | None = None,
        has_older: bool = False,
        older: TradeRange | None = None,
        error: str | None = None,
    ) -> BackfillResult:
        return BackfillResult(
            task.symbol,
            task.gap,
            runs,
            absent,
            self._clock,
            begins_at=begins_at,
            has_older=has_older,
            abandoned_through=None if older is None else min(older.last_id, task.gap.last_id),
            abandoned_before_ms=0 if older is None else older.time,
            error=error,
        )

    def _task(
        self, symbol: str, gap: Gap, tries: _Tries, now: int, oldest: int
    ) -> Task | BackfillResult:
        if gap.until_ms < oldest:
            return BackfillResult(
                symbol, gap, abandoned_through=gap.last_id, abandoned_before_ms=oldest
            )
        if not tries.is_begun and gap.since_ms < oldest:
            return self._beginning_task(symbol, gap, tries, oldest, is_oldest=True)
        absence = tries.absence
        if absence is not None and absence.first_id == gap.first_id and absence.words == _TRADES:
            return self._second_look(symbol, gap, tries, absence)
        is_by_id = tries.needs_ids or (gap.size < self._trades_page and not gap.is_start)
        if is_by_id and now >= self._no_trades_until:
            return self._trades_task(symbol, gap, oldest)
        if gap.is_start and not tries.is_begun:
            if tries.first_of_all is not None and now >= self._no_trades_until:
                # So few rows show that the host does not answer the newest ones instead.
                return TradesRequest(symbol, gap, 0, 2)
            return self._beginning_task(symbol, gap, tries, gap.since_ms)
        if tries.next_aggregate is not None:
            return AggregatesRequest(symbol, gap, tries.next_aggregate, None)
        # That of a beginning is no trade's time: the first one may come right after it.
        since_ms = gap.since_ms if gap.cause == START else gap.since_ms + DISORDER_MS
        return AggregatesRequest(symbol, gap, None, max(since_ms, oldest))

    @staticmethod
    def _beginning_task(
        symbol: str, gap: Gap, tries: _Tries, begins_ms: int, *, is_oldest: bool = False
    ) -> AggregatesRequest:
        """Ask where it begins, or begins to be young enough: for a page that has a trade before."""
        from_id = tries.next_aggregate
        start_ms = begins_ms - 2 * DISORDER_MS if from_id is None else None
        return AggregatesRequest(symbol, gap, from_id, start_ms, begins_ms, is_oldest)

    @staticmethod
    def _second_look(symbol: str, gap: Gap, tries: _Tries, absence: _Absence) -> AggregatesRequest:
        """Ask whether aggregates have what historicalTrades has not, since the trade before it."""
        from_id = tries.next_aggregate
        if from_id is None and not absence.around_ms:
            from_id = 0  # there is no trade before id 0
        start_ms = absence.around_ms if from_id is None else None
        return AggregatesRequest(symbol, gap, from_id, start_ms, is_second_look=True)

    def _trades_task(self, symbol: str, gap: Gap, oldest: int) -> TradesRequest:
        """Ask for single trades, from the one before the gap to the one after it.

        That shows that the answer is about this gap, and whether the exchange has got past it.
        """
        from_id = self._reach_back(symbol, gap, oldest)
        limit = min(self._trades_page, gap.last_id - from_id + 2)
        return TradesRequest(symbol, gap, from_id, limit)

    def _reach_back(self, symbol: str, gap: Gap, oldest: int) -> int:
        """Return the first id of the longest page that begins with a gap and ends after *gap*.

        It begins with the trade before that, if that fits into the page as well.
        """
        lowest = gap.last_id + 2 - self._trades_page
        from_id = self._id_before(symbol, gap)
        if from_id < lowest:
            from_id = gap.first_id - 1
        from_id = max(0, from_id)
        for earlier in reversed(self._gaps.get(symbol, ())):
            if earlier.first_id < from_id:
                if earlier.first_id <= lowest or earlier.is_start or earlier.since_ms < oldest:
                    break
                from_id = max(0, earlier.first_id - 1)
        return from_id

    def _id_before(self, symbol: str, gap: Gap) -> int:
        """Return the highest id below *gap* that is known to exist; -1 if there is none."""
        unknown = self._unknown.get(symbol, ())
        first_id = gap.first_id
        index = bisect_left(unknown, first_id, key=_first_id)
        while index and unknown[index - 1].last_id == first_id - 1:
            index -= 1
            first_id = unknown[index].first_id
        return first_id - 1

    def _late_task(self, now: int, clock: int) -> TradesRequest | None:
        """Return which absent ids to ask for once more, if it is time for any."""
        if not clock or now < self._no_trades_until:
            return None
        for symbol, gaps in self._absent.items():
            for gap in gaps:
                due = gap.absent_at + _ASKED_AGAIN_AFTER_MS[gap.looks]
                tries = self._tries[symbol, gap.last_id]
                if symbol not in self._busy and clock >= due and now >= tries.not_before:
                    self._busy[symbol] = gap
                    return self._trades_task(symbol, gap, 0)
        return None

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


def _first_id(gap: Gap | TradeRange) -> int:
    return gap.first_id


def _within(runs: Iterable[TradeRange], first_id: int, last_id: int) -> list[TradeRange]:
    return [run for run in runs if first_id <= run.first_id and run.last_id <= last_id]


def _last_before(runs: Iterable[TradeRange], time: int) -> TradeRange | None:
    """Return the last run of which it is certain that it and all before it are older than *time*.

    Since `T` may be in disorder, that takes one that is older by more than that, and from there on
    consecutive ids.
    """
    last = None
    for run in runs:
        if run.time >= time:
            break
        is_first_of_all = run.first_id == 0
        is_next = last is not None and run.first_id == last.last_id + 1
        if run.time < time - DISORDER_MS or is_first_of_all or is_next:
            last = run
    return last


def _holes(first_id: int, last_id: int, runs: Sequence[TradeRange]) -> Iterator[tuple[int, int]]:
    """Yield the ranges of ids from *first_id* to *last_id* that no run has."""
    expected = first_id
    for run in runs:
        if run.first_id > expected:
            yield expected, run.first_id - 1
        expected = run.last_id + 1
    if expected <= last_id:
        yield expected, last_id
