"""Which request to make next for which gap of a futures market, and what its answer means. Pure.

Of the past, futures tell less than spot, and ids that are no fills are not in it:

- /trades has the newest 1,000 single trades, for everybody: those of seconds or of days, as busy as
  the symbol is. So it is asked at once, before anything else, and one answer serves all gaps of its
  symbol. It may be stale: one that ends before a gap does is asked for again. Only when two answers
  begin after a gap is it held to be out of reach. An empty one is taken for an outage.
- historicalTrades tells older single trades only to those who send an API key, and is dear: it is
  asked about holes that a minute's weight of an address could pay for, 12 pages of 500 ids. A page
  is a range of ids: a short one is not the last.
- aggTrades is the rest: it has 48 hours, but an aggregate has the time of its first trade only, and
  ids between its first and its last may be none. Those that lie wholly in a gap stand in for its
  trades, approximately, and so does what is left of one into which an answer of /trades began:
  that answer has the quantities of the others. Of one into which a stream broke off nobody knows
  them, so that such an edge stays missing until single trades can be had or it is too old.

Ids that rows are around, in one answer, are no fills and so excluded: between two single trades, or
between two aggregates whose own numbers, which have no holes, follow each other. But in a burst,
/trades may lack rows that it has a moment later: a hole of more than a few ids, or one of the last
seconds, is believed only once a later and newer answer of it has the same, or one of the others
agrees. At the edge of a
page nothing is known. What is not urgent takes two thirds of the weight that may be used, evenly in
time, so that what is urgent finds some left at any moment.

A stream of aggregates is filled by aggregates alone, its bars being approximate anyway.
"""

from __future__ import annotations

import decimal
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from bintrades.core.backfill_result import BackfillResult
from bintrades.core.gap_queue import BackfillTiming, GapQueue
from bintrades.core.gap_ranges import DISORDER_MS
from bintrades.core.renumbering import contradicted_in
from bintrades.core.spans import clipped, has, union
from bintrades.exchange.binance.backfill_plan import (
    KEY_REFUSED,
    KEY_RETRY_MS,
    NO_KEY,
    Aggregate,
    AggregatesRequest,
    RecentRequest,
    Request,
    TradesRequest,
)
from bintrades.exchange.binance.past_rows import last_before, within
from bintrades.model import EXACT, GapCause, unnumbered_gaps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from bintrades.core.gap_queue import Backoff, QueuedGap
    from bintrades.core.renumbering import KnownTrade
    from bintrades.core.spans import Span
    from bintrades.core.unknown_ids import UnknownIds
    from bintrades.exchange.binance.market import Market
    from bintrades.model import Gap, GapSet, TradeRange

_FIRST_REQUEST_AFTER_MS = 250  # a gap fills by itself, too, but what /trades has passes quickly
_STALE_REST_MS = 500
_STALE_RESTS = 10  # that short; then longer and longer ones
_TRIES = 2  # of /trades with an answer that does not reach back to a gap
_MOST_FAILURES = 6  # of /trades in a row, until others are asked about a gap
_MINUTE_MS = 60_000
_FEW_IDS = 5  # in a row, that are no fills, are nothing unusual
_AGREES_AFTER_MS = 1_000  # /trades may lack in a burst what it has after that
_SETTLED_MS = 10_000  # and of trades older than that, lacks none
_WAIT_MS = 600_000  # between two looks at what waits for single trades, or to be too old
_SHORTEST_SPAN_MS = 1_000  # of time, that is searched for what is young enough

_TOO_OLD = "the exchange tells no trades of then any more: they are too old"
_NOT_YET = "the exchange does not have it all yet"
_NOTHING = "the exchange has nothing there yet"
_OTHER_ANSWER = "the answer is not about what was asked for"
_NOT_TOLD = "single trades that the exchange does not tell any more; aggregates are no help there"

_Span = tuple[int, int]
"""First and last id."""


@dataclass(slots=True)
class _Progress:
    """How far a gap was asked about."""

    failures: int = 0  # answers of /trades in a row that were of no use
    fruitless: int = 0  # answers of /trades from behind the gap that told nothing of it
    stale_rests: int = 0
    asks_numbers: bool = False  # single trades left something: do aggregates go around it?
    has_no_singles: bool = False  # they are too old to be told, although aggregates are not
    start_ms: int | None = None  # since when aggregates are young enough; None: nobody said no
    next_aggregate: int | None = None
    page_end: Aggregate | None = None  # the one before that, of the same walk
    back_steps: int = 0  # how often the one before the gap was looked for further back
    first_aggregate: int = -1  # the earliest that was found on the way back
    first_trade: int = 0  # and its first trade
    first_time: int = 0  # with its time
    too_old_aggregate: int = -1  # the latest that was asked for in vain on the way back
    is_begun: bool = False  # it begins at the first of all
    doubted: KnownTrade | None = None  # of which an answer has a later trade: have ids restarted?
    is_trusted: bool = False  # they have not: the exchange has trades from before that one

    def forget_page(self) -> None:
        """Begin the walk over aggregates anew, by time."""
        self.next_aggregate = self.page_end = None
        self.back_steps, self.first_aggregate, self.too_old_aggregate = 0, -1, -1


class _Hole(NamedTuple):
    """Ids that an answer of /trades goes around."""

    ids: _Span
    seen_at: int  # for the first time
    newest_id: int  # of that answer


class _Edge(NamedTuple):
    """The first trades of an answer of /trades, all of one price and taker: others lie before.

    Their ids have no hole: in an answer that lacks some for a moment, there would be one.
    """

    trades: tuple[TradeRange, ...]

    @classmethod
    def of(cls, rows: Sequence[TradeRange]) -> _Edge:
        trades = [rows[0]]
        for row in rows[1:]:
            if row.first_id != trades[-1].last_id + 1 or not _are_alike(row, rows[0]):
                break
            trades.append(row)
        return cls(tuple(trades))

    @property
    def first_id(self) -> int:
        return self.trades[0].first_id

    def part_before(self, aggregate: TradeRange) -> TradeRange | None:
        """Return what of *aggregate* lies before the edge; None: nothing, or it cannot be said."""
        last_id = self.trades[-1].last_id
        is_cut = aggregate.first_id < self.first_id <= aggregate.last_id <= last_id
        if not is_cut or not _are_alike(aggregate, self.trades[0]):
            return None
        known = [each.quantity for each in self.trades if each.last_id <= aggregate.last_id]
        with decimal.localcontext(EXACT):
            left = aggregate.quantity - sum(known)
        if left <= 0:
            return None
        return replace(aggregate, last_id=self.first_id - 1, quantity=left)


@dataclass(slots=True)
class _Told:
    """What answers about one symbol were about: they are of no more use for those ids."""

    numbering: int = 0  # how often trades without ids were lost, as where ids restart
    newest: int = -1  # where /trades began, at the highest
    second: int = -1  # and in another answer
    aggregated: tuple[Span, ...] = ()  # ids that aggregates cover without a break, ends exclusive
    holes: tuple[_Hole, ...] = ()  # that /trades goes around, until it does so again
    edges: tuple[_Edge, ...] = ()  # of answers of /trades before which trades are missing

    def add_window(self, rows: Sequence[TradeRange], unknown: UnknownIds) -> None:
        """Record where an answer of /trades begins; *unknown* are the ids that were so until it."""
        self.second, self.newest = sorted((self.second, self.newest, rows[0].first_id))[1:]
        self.edges = tuple(
            each
            for each in (*self.edges, _Edge.of(rows))
            if unknown.cover(each.first_id - 1, each.first_id - 1)
        )

    def add_aggregated(self, covered: Iterable[Span], gaps: Iterable[Gap]) -> None:
        """Record what of *gaps* aggregates have *covered*. Of others they were not used yet."""
        spans = union(covered)
        parts = [each for gap in gaps for each in clipped(spans, gap.first_id, gap.last_id + 1)]
        self.aggregated = tuple(union((*self.aggregated, *parts)))

    def agreed(self, holes: Iterable[_Span], newest_id: int, now: int) -> list[_Span]:
        """Return which *holes* an earlier answer of /trades had, and remember the others."""
        agreed: list[_Span] = []
        known = {each.ids: each for each in self.holes}
        left = [each for each in self.holes if each.ids[1] > newest_id]  # not seen this time
        for ids in holes:
            hole = known.get(ids) or _Hole(ids, now, newest_id)
            if now >= hole.seen_at + _AGREES_AFTER_MS and newest_id > hole.newest_id:
                agreed.append(ids)
            else:
                left.append(hole)
        self.holes = tuple(left)
        return agreed

    def is_passed(self, gap: Gap) -> bool:
        """Whether two answers of /trades began after *gap*."""
        return self.second > gap.last_id

    def is_aggregated(self, gap: Gap) -> bool:
        """Whether aggregates have told all that they tell of *gap*."""
        return has(self.aggregated, (gap.first_id, gap.last_id + 1))


class FuturesPlan:
    """What to ask about the gaps of all symbols, as backfill_plan.BackfillPlan has it for spot.

    *is_of_aggregates*: the stream that is collected has aggregates. *allowed* gives what all
    requests may weigh in a minute; None: what the market allows.
    """

    def __init__(
        self,
        market: Market,
        max_age_ms: int,
        new_backoff: Callable[[], Backoff],
        timing: BackfillTiming | None = None,
        *,
        has_key: bool = False,
        is_of_aggregates: bool = False,
        allowed: Callable[[], int] | None = None,
    ) -> None:
        self._reach = max_age_ms if market.history_ms is None else market.history_ms
        self._max_age = min(max_age_ms, self._reach)
        self._page_ids = market.historical_trades.max_rows
        self._aggregates_page = market.aggregate_trades.max_rows
        self._singles_weight = market.historical_trades.weight
        self._aggregates_weight = market.aggregate_trades.weight
        pages = max(1, market.weight_per_minute // self._singles_weight)
        self._most_ids = pages * self._page_ids
        self._allowed = allowed or (lambda: market.weight_per_minute)
        self._is_of_aggregates = is_of_aggregates
        self._has_key = has_key
        self._no_key_until = 0  # when to try a key again that was refused
        self._queue: GapQueue[_Progress] = GapQueue(
            frozenset(),
            _Progress,
            new_backoff,
            timing or BackfillTiming(first_request_after_ms=_FIRST_REQUEST_AFTER_MS),
        )
        self._told: dict[str, _Told] = {}
        self._others_at = 0  # not before that is anything asked that is not urgent
        self._now = self._clock = 0
        self.key_problem: str | None = None
        """Why old single trades are not told, once some were wanted; None: no problem."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is missing that will be asked for."""
        return self._queue.is_empty

    def update(self, gaps: GapSet, now: int) -> None:
        """Take over the gaps of a symbol as the ledger has them."""
        self._queue.update(gaps, now)
        numbering = max((gap.ordinal for gap in unnumbered_gaps(gaps.missing)), default=0)
        told = self._told.get(gaps.symbol)
        if not self._queue.missing(gaps.symbol):
            self._told.pop(gaps.symbol, None)
        elif told is None or told.numbering != numbering:
            self._told[gaps.symbol] = _Told(numbering)  # of before ids restarted, nothing is true

    def next_request(self, now: int, clock: int) -> Request | BackfillResult | None:
        """Return what to ask next, or what can be said without asking; None: nothing yet."""
        self._now, self._clock = now, clock
        entry = self._queue.take_most_urgent(now, self._urgency)
        if entry is not None:
            return RecentRequest(entry.symbol, entry.gap)
        while (entry := self._queue.take(now)) is not None:
            if entry.gap.until_ms < clock - self._max_age:
                return self._abandon(entry)
            request = self._request(entry) if now >= self._others_at else None
            if request is not None:
                return request
            if now < self._others_at:
                self._queue.put_back(entry.symbol)
                return None
            entry.due = now + _WAIT_MS
            lack = self._lack_of_singles()
            if lack is not None and lack != entry.gap.last_error:
                self._queue.record_result(entry.symbol, entry.gap)
                return BackfillResult(entry.symbol, entry.gap, error=lack)
            self._queue.put_back(entry.symbol)
        return None

    def put_back(self, request: Request) -> None:
        """Take back *request*, which cannot be made now: by then it may be another one."""
        self._queue.put_back(request.symbol)

    def failed(self, request: Request, error: str, now: int) -> BackfillResult:
        """Record that *request* brought no answer."""
        entry = self._record(request, now)
        if isinstance(request, RecentRequest):
            entry.progress.failures += 1
        self._queue.back_off(entry, now)
        return BackfillResult(request.symbol, request.gap, error=error)

    def record_missing_endpoint(self, now: int) -> None:
        """Record that the host says that it has no historicalTrades."""
        self._no_key_until = now + KEY_RETRY_MS
        self.key_problem = "this host has no historicalTrades"

    def record_refused_key(self, now: int) -> None:
        """Record that the exchange refuses the API key: it is sent again much later."""
        self._no_key_until = now + KEY_RETRY_MS
        self.key_problem = KEY_REFUSED

    def on_too_old(self, request: Request, now: int) -> BackfillResult:
        """Return what it means that the exchange refuses to look back so far."""
        if isinstance(request, RecentRequest):
            return self.failed(request, _TOO_OLD, now)  # which makes no sense of the newest ones
        oldest = self._clock + (now - self._now) - self._reach  # an answer may take seconds
        entry = self._record(request, now)
        progress, gap = entry.progress, request.gap
        is_surely_young = gap.since_ms - DISORDER_MS >= oldest
        entry.due = now
        if isinstance(request, TradesRequest):
            progress.has_no_singles = True
            return self._result(request)
        if isinstance(request, AggregatesRequest) and request.is_of_all:
            entry.progress = _Progress(is_trusted=True)  # the first of all is older than that
            return self._result(request)
        number = request.from_id or 0
        if isinstance(request, AggregatesRequest) and request.start_ms is not None:
            younger = (request.start_ms + gap.until_ms + 1) // 2
            if gap.until_ms - younger > _SHORTEST_SPAN_MS:
                progress.start_ms = younger  # some of it may be young enough
                return self._result(request)
        elif progress.back_steps == 0:
            progress.forget_page()  # the walk was too slow: where it was is too old by now
            return self._result(request)
        elif 1 < progress.first_aggregate - number < self._aggregates_page:
            progress.too_old_aggregate = number
            progress.next_aggregate = (number + progress.first_aggregate) // 2
            return self._result(request)  # what lies between may be young enough
        elif gap.is_start and is_surely_young:
            # The aggregate before the first one is too old, and so from before the beginning.
            begins_at = min(progress.first_trade, gap.last_id + 1)
            progress.forget_page()
            return self._result(request, begins_at=begins_at, has_older=True)
        if progress.back_steps == 0:
            return self._result(
                request,
                abandoned_through=gap.last_id,
                abandoned_before_ms=gap.until_ms,
                error=_TOO_OLD,
            )
        last_id, until = min(gap.last_id, progress.first_trade - 1), progress.first_time
        progress.forget_page()
        if not is_surely_young:
            return self._result(
                request, abandoned_through=last_id, abandoned_before_ms=until, error=_TOO_OLD
            )
        # The aggregate before the first one is from before the gap: no trade lies between them.
        between = list(self._queue.unknown_ids(request.symbol).within(gap.first_id, last_id))
        if gap.cause is GapCause.START:
            # Where a beginning was told by the last row of an answer, older trades may be in it.
            return self._result(request, unwanted=between)
        return self._result(request, (), between)

    def on_recent(
        self, request: RecentRequest, rows: Sequence[TradeRange], now: int
    ) -> BackfillResult:
        """Return what the newest single trades say; *rows* have ascending ids."""
        entry = self._record(request, now)
        progress, gap = entry.progress, request.gap
        if not rows:
            progress.failures += 1
            self._queue.back_off(entry, now)
            return self._result(request, error=_NOTHING)
        if self._doubts_ids(entry, rows, now):
            return self._result(request)
        told = self._told_of(request.symbol)
        told.add_window(rows, self._queue.unknown_ids(request.symbol))
        begins_at, has_older, wanted = self._beginning(entry, rows)
        # Among the wanted ones may be an older one by its time, which is a fill all the same.
        since_first = [each for each in rows if wanted and each.first_id >= wanted[0].first_id]
        ranges, around = self._singles(
            request.symbol, gap, wanted, shown=since_first, begins_at=begins_at
        )
        doubted = [
            each for each in around if each[1] - each[0] >= _FEW_IDS or self._is_young(each, rows)
        ]
        agreed = told.agreed(doubted, rows[-1].last_id, now)
        unsure = set(doubted) - set(agreed)
        excluded = self._unknown_in(request.symbol, gap, set(around) - unsure)
        error = None
        if rows[-1].last_id <= gap.last_id:
            error = _NOT_YET
            progress.failures += 1
            progress.stale_rests += 1
            if progress.stale_rests <= _STALE_RESTS:
                entry.retry_at(now + _STALE_REST_MS)
            else:
                self._queue.back_off(entry, now)
        else:
            progress.failures = 0
            if begins_at is None and not _is_any_in(gap, ranges, excluded):
                progress.fruitless += 1
            is_unsure = _is_any_in(gap, (), unsure)
            entry.retry_at(now + _AGREES_AFTER_MS if is_unsure else now)
            if rows[0].first_id > gap.first_id and not _is_start(entry) and told.is_passed(gap):
                error = self._lack_of_singles()
        return self._result(
            request, ranges, excluded, begins_at=begins_at, has_older=has_older, error=error
        )

    def _is_young(self, hole: _Span, rows: Sequence[TradeRange]) -> bool:
        """Whether trades with the ids of *hole*, which *rows* are around, may be on their way."""
        behind = rows[bisect_right(rows, hole[1], key=attrgetter("first_id"))]
        return behind.time > self._clock - _SETTLED_MS

    def on_trades(
        self, request: TradesRequest, rows: Sequence[TradeRange], now: int
    ) -> BackfillResult:
        """Return what old single trades say; *rows* have ascending ids."""
        entry = self._record(request, now)
        self._no_key_until, self.key_problem = 0, None
        if self._doubts_ids(entry, rows, now):
            return self._result(request)
        gap = request.gap
        is_from_zero = request.from_id == 0
        ranges, around = self._singles(request.symbol, gap, rows, is_from_zero=is_from_zero)
        excluded = self._unknown_in(request.symbol, gap, around)
        if _is_any_in(gap, ranges, excluded):
            entry.retry_at(now)
            return self._result(request, ranges, excluded)
        entry.progress.asks_numbers = True
        self._queue.back_off(entry, now)
        return self._result(request, ranges, excluded, error=_NOT_YET)

    def on_aggregates(
        self, request: AggregatesRequest, rows: Sequence[Aggregate], now: int
    ) -> BackfillResult:
        """Return what aggregates say; *rows* have ascending ids."""
        entry = self._record(request, now)
        progress = entry.progress
        valid = [trades for _, trades in rows if trades is not None]
        if not valid:
            progress.forget_page()
            if rows:
                progress.next_aggregate = rows[-1].id + 1
            progress.failures = 0  # perhaps /trades is of use by now
            self._queue.back_off(entry, now)
            return self._result(request, error=_NOTHING)
        if request.is_of_all:
            return self._on_first_of_all(entry, request, valid[0], now)
        if self._doubts_ids(entry, valid, now):
            return self._result(request)
        is_first_of_all = request.from_id == 0 and rows[0].id in (0, 1, progress.first_aggregate)
        if request.from_id is not None and rows[0].id != request.from_id and not is_first_of_all:
            if rows[0].id == progress.first_aggregate:
                progress.next_aggregate = 0  # there is none before it, it seems
                entry.due = now
                return self._result(request)
            progress.forget_page()
            self._queue.back_off(entry, now)
            return self._result(request, error=_OTHER_ANSWER)
        if _is_start(entry):
            return self._on_beginning(entry, request, rows, is_first_of_all=is_first_of_all)
        is_begun = progress.page_end is not None or is_first_of_all
        if not is_begun and valid[0].first_id > request.gap.first_id:
            self._step_back(entry, rows[0].id, valid[0])
            return self._result(request)
        return self._fill(entry, request, rows, is_from_zero=is_first_of_all)

    def _fill(
        self,
        entry: QueuedGap[_Progress],
        request: AggregatesRequest,
        rows: Sequence[Aggregate],
        *,
        is_from_zero: bool,
    ) -> BackfillResult:
        """Return what a page of aggregates stands in for, and what it goes around."""
        symbol, gap, progress = request.symbol, request.gap, entry.progress
        page = rows if progress.page_end is None else [progress.page_end, *rows]
        unknown = self._queue.unknown_ids(symbol)
        wanted = [each.gap for each in self._queue.entries(symbol) if self._takes_aggregates(each)]
        valid = [trades for _, trades in rows if trades is not None]
        approximations = [each for of in wanted for each in within(valid, of.first_id, of.last_id)]
        approximations += self._parts_before_edges(symbol, valid)
        excluded: list[_Span] = []
        covered: list[Span] = []
        if is_from_zero and rows[0].trades is not None:
            excluded += unknown.within(0, rows[0].trades.first_id - 1)
            covered.append((0, rows[0].trades.last_id + 1))
        for earlier, later in _neighbours(page):
            excluded += unknown.within(earlier.last_id + 1, later.first_id - 1)
            covered.append((earlier.first_id, later.last_id + 1))
        entries = self._queue.entries(symbol)
        used = [each.gap for each in entries if not (_is_start(each) or self._is_urgent(each))]
        self._told_of(symbol).add_aggregated(covered, used)
        is_done = valid[-1].last_id > gap.last_id
        progress.forget_page()
        if not is_done:
            progress.next_aggregate = rows[-1].id + 1
            progress.page_end = rows[-1]
        brought = [*((each.first_id, each.last_id) for each in approximations), *excluded]
        error = None
        if is_done:
            progress.asks_numbers = False
            if not _is_any_left(gap, brought):
                entry.retry_at(self._now)
            else:
                self._queue.back_off(entry, self._now)
                error = self._lack_of_singles()
        elif len(rows) < self._aggregates_page:
            self._queue.back_off(entry, self._now)
            error = _NOT_YET
        else:
            entry.retry_at(self._now)
        return self._result(request, (), excluded, approximations=approximations, error=error)

    def _parts_before_edges(
        self, symbol: str, aggregates: Sequence[TradeRange]
    ) -> Iterator[TradeRange]:
        """Yield what is missing of *aggregates* into which an answer of /trades began.

        But not where single trades are to be had. What lies between may have been filled meanwhile.
        """
        told, unknown = self._told_of(symbol), self._queue.unknown_ids(symbol)
        gaps = [
            each.gap
            for each in self._queue.entries(symbol)
            if self._takes_aggregates(each) and not self._may_take_singles(each)
        ]
        for aggregate in aggregates if told.edges else ():
            for edge in told.edges:
                part = edge.part_before(aggregate)
                if part is None or any(unknown.within(edge.first_id, aggregate.last_id)):
                    continue
                for gap in gaps:
                    yield from within([part], gap.first_id, gap.last_id)

    def _on_beginning(
        self,
        entry: QueuedGap[_Progress],
        request: AggregatesRequest,
        rows: Sequence[Aggregate],
        *,
        is_first_of_all: bool,
    ) -> BackfillResult:
        """Return where what is wanted begins, if these aggregates tell it."""
        progress = entry.progress
        valid = [trades for _, trades in rows if trades is not None]
        begins_at, has_older, _ = self._beginning(entry, valid, is_first_of_all=is_first_of_all)
        if begins_at is not None:
            progress.forget_page()
            # Answers of /trades could not tell where it begins, but may have all that is wanted.
            progress.fruitless = progress.failures = 0
            entry.retry_at(self._now)
            return self._result(request, begins_at=begins_at, has_older=has_older)
        if is_first_of_all:
            progress.forget_page()
            self._queue.back_off(entry, self._now)
            return self._result(request, error="where it begins is not known yet")
        self._step_back(entry, rows[0].id, valid[0])
        return self._result(request)

    def _step_back(self, entry: QueuedGap[_Progress], first: int, trades: TradeRange) -> None:
        """Have aggregates from before the number *first* be asked for: one, then ever a page.

        Or half of what lies behind one that is too old. *trades* are those of the first.
        """
        progress = entry.progress
        distance = 1 if progress.back_steps == 0 else max(1, self._aggregates_page - 1)
        progress.first_aggregate = first
        progress.first_trade, progress.first_time = trades.first_id, trades.time
        progress.next_aggregate = max(0, first - distance)
        if progress.next_aggregate < progress.too_old_aggregate:
            progress.next_aggregate = (progress.too_old_aggregate + first) // 2
        progress.back_steps += 1
        entry.due = self._now

    @staticmethod
    def _beginning(
        entry: QueuedGap[_Progress], rows: Sequence[TradeRange], *, is_first_of_all: bool = False
    ) -> tuple[int | None, bool, Sequence[TradeRange]]:
        """Return at which id *gap* begins, whether older trades are seen, and the rows after that.

        Of a gap that begins nowhere these are all, or, as long as it is not known, the new ones.
        """
        gap = entry.gap
        if not _is_start(entry):
            return None, False, rows
        older = last_before(rows, gap.since_ms)
        if older is not None:
            begins_at = min(older.last_id, gap.last_id) + 1
            return begins_at, True, [each for each in rows if each.first_id >= begins_at]
        young = [each for each in rows if each.time >= gap.since_ms]
        if is_first_of_all or rows[0].first_id == 0:
            begins_at = min(rows[0].first_id, gap.last_id + 1)
            entry.progress.is_begun = begins_at == 0
            return begins_at, False, rows
        return None, False, young

    def _singles(
        self,
        symbol: str,
        gap: Gap,
        rows: Sequence[TradeRange],
        *,
        shown: Sequence[TradeRange] | None = None,
        begins_at: int | None = None,
        is_from_zero: bool = False,
    ) -> tuple[list[TradeRange], list[_Span]]:
        """Return which of *rows* are wanted, and around which unknown ids those *shown* go.

        Of the gap that stands for a beginning they are taken if it is the one that is asked about.
        """
        unknown = self._queue.unknown_ids(symbol)
        ranges = [
            each
            for each in rows
            if unknown.is_wanted(each.first_id)
            or (gap.is_start and gap.first_id <= each.first_id <= gap.last_id)
        ]
        pairs = pairwise(rows if shown is None else shown)
        around = [(earlier.last_id + 1, later.first_id - 1) for earlier, later in pairs]
        if rows and (is_from_zero or begins_at is not None):
            around.insert(0, (begins_at or 0, rows[0].first_id - 1))
        return ranges, [ids for ids in around if any(unknown.within(*ids))]

    def _unknown_in(self, symbol: str, gap: Gap, around: Iterable[_Span]) -> list[_Span]:
        """Return which ids of *around* are unknown, but for a beginning that is not *gap*."""
        unknown = self._queue.unknown_ids(symbol)
        lowest = 0
        start = next((each for each in self._queue.missing(symbol) if each.is_start), None)
        if start is not None and not gap.is_start:
            lowest = start.last_id + 1
        excluded: list[_Span] = []
        for first_id, last_id in sorted(around):
            excluded += unknown.within(max(first_id, lowest), last_id)
        return excluded

    def _is_urgent(self, entry: QueuedGap[_Progress]) -> bool:
        """Whether /trades may have what is missing, for now."""
        progress = entry.progress
        if self._is_of_aggregates or progress.doubted is not None:
            return False
        if entry.gap.until_ms < self._clock - self._max_age:
            return False
        is_passed = self._told_of(entry.symbol).is_passed(entry.gap)
        is_tried = progress.fruitless >= _TRIES or progress.failures >= _MOST_FAILURES
        return not is_passed and not is_tried

    def _urgency(self, entry: QueuedGap[_Progress]) -> int:
        """Return how soon /trades will have passed a gap: that of a busy symbol first; 0: never."""
        if not self._is_urgent(entry):
            return 0
        gap = entry.gap
        return 1 + gap.size * _MINUTE_MS // max(1, gap.until_ms - gap.since_ms)

    def _may_take_singles(self, entry: QueuedGap[_Progress]) -> bool:
        """Whether old single trades can be had of what is missing, now or once it is short."""
        if self._is_of_aggregates or entry.progress.has_no_singles or _is_start(entry):
            return False
        return self._has_usable_key

    def _takes_singles(self, entry: QueuedGap[_Progress]) -> bool:
        """Whether old single trades are asked for what is missing."""
        if not self._may_take_singles(entry):
            return False
        return entry.gap.size <= self._most_ids or self._is_aggregated(entry)

    def _takes_aggregates(self, entry: QueuedGap[_Progress]) -> bool:
        """Whether aggregates may stand in for what is missing."""
        if _is_start(entry) or self._is_urgent(entry) or self._is_aggregated(entry):
            return False
        return not self._takes_singles(entry)

    def _is_aggregated(self, entry: QueuedGap[_Progress]) -> bool:
        return self._told_of(entry.symbol).is_aggregated(entry.gap)

    @property
    def _has_usable_key(self) -> bool:
        return self._has_key and self._now >= self._no_key_until

    def _request(self, entry: QueuedGap[_Progress]) -> Request | None:
        """Return what to ask about a gap that /trades does not have; None: nothing helps now."""
        progress, gap, symbol = entry.progress, entry.gap, entry.symbol
        if progress.doubted is not None:
            return AggregatesRequest(symbol, gap, 0, None, is_of_all=True)
        is_aggregated = self._is_aggregated(entry)
        if self._takes_singles(entry) and (is_aggregated or not progress.asks_numbers):
            return self._trades_request(entry)
        if is_aggregated and not _is_start(entry):
            return None
        if progress.next_aggregate is not None:
            return AggregatesRequest(symbol, gap, progress.next_aggregate, None)
        since_ms = gap.since_ms - 2 * DISORDER_MS if _is_start(entry) else gap.since_ms
        oldest = self._clock - self._max_age
        return AggregatesRequest(symbol, gap, None, max(since_ms, oldest, progress.start_ms or 0))

    def _trades_request(self, entry: QueuedGap[_Progress]) -> TradesRequest:
        """Ask for a whole page of ids, which weighs no more: some before the gap, some after it.

        Those show that the page goes around what it lacks.
        """
        gap = entry.gap
        spare = max(self._page_ids - gap.size, 0) // 2
        before = max(1, self._page_ids // 10, spare)
        return TradesRequest(entry.symbol, gap, max(0, gap.first_id - before), self._page_ids)

    def _record(self, request: Request, now: int) -> QueuedGap[_Progress]:
        """Record that there is a result of *request*, and have what is not urgent wait a while."""
        self._now = now
        if isinstance(request, TradesRequest):
            self._others_at = now + self._rest_after(self._singles_weight)
        elif isinstance(request, AggregatesRequest):
            self._others_at = now + self._rest_after(self._aggregates_weight)
        return self._queue.record_result(request.symbol, request.gap)

    def _rest_after(self, weight: int) -> int:
        """Return how long what is not urgent waits after a request of *weight*, milliseconds.

        The weight that may be used is known by its present value only: the exchange tells it.
        """
        return 3 * _MINUTE_MS * weight // max(1, 2 * self._allowed())

    def _told_of(self, symbol: str) -> _Told:
        return self._told.setdefault(symbol, _Told())

    def _lack_of_singles(self) -> str | None:
        """Return why single trades cannot be had that are wanted now; None: they can."""
        if self._is_of_aggregates:
            return _NOT_TOLD
        if not self._has_key:
            self.key_problem = NO_KEY
        return None if self._has_usable_key else self.key_problem

    def _doubts_ids(
        self, entry: QueuedGap[_Progress], rows: Sequence[TradeRange], now: int
    ) -> bool:
        """Whether *rows* may be of ids that have restarted: then the first trade of all is due."""
        if entry.progress.is_trusted:
            return False
        unknown = self._queue.unknown_ids(entry.symbol)
        doubted = contradicted_in(entry.gap, self._queue.missing(entry.symbol), rows, unknown)
        if doubted is None:
            return False
        entry.progress, entry.due = _Progress(doubted=doubted), now
        return True

    def _on_first_of_all(
        self,
        entry: QueuedGap[_Progress],
        request: AggregatesRequest,
        first: TradeRange,
        now: int,
    ) -> BackfillResult:
        """Return whether ids have restarted: then even the *first* of all is later than known."""
        doubted = entry.progress.doubted
        if doubted is None or first.time <= doubted.time:
            entry.progress = _Progress(is_trusted=True)
            entry.due = now
            return self._result(request)
        self._queue.back_off(entry, now)
        if first.first_id > doubted.trade_id:  # not what was asked for
            return self._result(request, error="which trade is the first of all is not known yet")
        entry.progress = _Progress()
        self._told.pop(request.symbol, None)
        return self._result(request, restarted_at=first.time)

    def _abandon(self, entry: QueuedGap[_Progress]) -> BackfillResult:
        """Give up a gap all of whose trades are too old."""
        self._queue.record_result(entry.symbol, entry.gap)
        reason = f"older than {self._max_age / 3_600_000:g} h: {_TOO_OLD}"
        return BackfillResult(
            entry.symbol,
            entry.gap,
            abandoned_through=entry.gap.last_id,
            abandoned_before_ms=self._clock - self._max_age,
            abandoned_because=reason,
            error=reason,
        )

    def _result(
        self,
        request: Request,
        ranges: Sequence[TradeRange] = (),
        excluded: Sequence[_Span] = (),
        *,
        approximations: Sequence[TradeRange] = (),
        unwanted: Sequence[_Span] = (),
        begins_at: int | None = None,
        has_older: bool = False,
        abandoned_through: int | None = None,
        abandoned_before_ms: int = 0,
        restarted_at: int | None = None,
        error: str | None = None,
    ) -> BackfillResult:
        return BackfillResult(
            request.symbol,
            request.gap,
            ranges,
            excluded=excluded,
            approximations=approximations,
            unwanted=unwanted,
            begins_at=begins_at,
            has_older=has_older,
            abandoned_through=abandoned_through,
            abandoned_before_ms=abandoned_before_ms,
            abandoned_from=request.gap.first_id,  # others are asked about by themselves
            abandoned_because=None if abandoned_through is None else error,
            restarted_at=restarted_at,
            error=error,
        )


def _are_alike(one: TradeRange, other: TradeRange) -> bool:
    """Whether an aggregate may have the trades of both."""
    return (one.price, one.is_buyer_maker) == (other.price, other.is_buyer_maker)


def _is_start(entry: QueuedGap[_Progress]) -> bool:
    """Whether it stands for a beginning, and where that is is not known yet."""
    return entry.gap.is_start and not entry.progress.is_begun


def _neighbours(page: Sequence[Aggregate]) -> Iterator[tuple[TradeRange, TradeRange]]:
    """Yield the trades of each two aggregates of *page* whose numbers follow each other."""
    for earlier, later in pairwise(page):
        if later.id == earlier.id + 1 and earlier.trades is not None and later.trades is not None:
            yield earlier.trades, later.trades


def _is_any_in(gap: Gap, ranges: Iterable[TradeRange], ids: Iterable[_Span]) -> bool:
    """Whether *ranges* or *ids* have something of *gap*."""
    spans = (*((each.first_id, each.last_id) for each in ranges), *ids)
    return any(first <= gap.last_id and last >= gap.first_id for first, last in spans)


def _is_any_left(gap: Gap, brought: Iterable[_Span]) -> bool:
    """Whether *gap* has an id that is in none of *brought*."""
    spans = union((first_id, last_id + 1) for first_id, last_id in brought)
    return not has(spans, (gap.first_id, gap.last_id + 1))
