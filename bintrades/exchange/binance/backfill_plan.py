"""Which request to Binance to make next for which gap, and what its answer means. Pure.

Small gaps are asked for by id (historicalTrades: exact rows, 25 weight for 1,000), large ones by
aggregates (aggTrades: 4 weight for 1,000, each covering one or more trades) and always paged by
id, never by time, which would lose trades of one millisecond at a page's edge. What aggregates
cannot tell exactly, at a gap's edges and around holes, stays a small gap and is asked for by id.
Frames that vanish here and there leave many small gaps: a page asked for by id fills all that it
reaches, for the same weight.

A host for market data only may lack historicalTrades. There, aggregates answer small
gaps as far as they can, too; the rest waits for single trades to be asked for again, an hour later.
So it is where they are told only to those who send an API key, and there is none, or one that is
refused; but the newest trades, which everybody is told, answer what they reach back to before that.

That ids do not exist takes both endpoints, each time (core/gap_queue.py). Where the wanted trades
begin is proven in the same way: by a trade from before, or by both saying, asked for the first of
all, that there is none. Where aggregates are all there is, they say it twice, the second time in a
page of another length: a host that answers the newest rows instead begins that one elsewhere.

An answer with a later trade of an id that was had is used for nothing: ids may have restarted, as
on test networks. The first trade of all is asked for then, which shows whether they have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from bintrades.core.backfill_result import BackfillResult
from bintrades.core.gap_queue import BackfillTiming, GapQueue
from bintrades.core.gap_ranges import DISORDER_MS
from bintrades.core.renumbering import contradicted_in
from bintrades.exchange.binance.past_rows import holes, last_before, within
from bintrades.model import GapCause

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bintrades.core.gap_queue import Backoff, QueuedGap
    from bintrades.core.renumbering import KnownTrade
    from bintrades.exchange.binance.market import Market
    from bintrades.model import Gap, GapSet, TradeRange

_TRADES, _AGGREGATES = "historicalTrades", "aggTrades"
_BACK_FACTOR = 16  # how much further back each time no trade from before the beginning is found
_NO_TRADES_FOR_MS = 3_600_000  # until a host that had no historicalTrades is asked for them again
_NO_TRADES = "this host has no historicalTrades, and aggregates do not tell these trades"
_NOT_YET = "the exchange does not have it all yet"
_NOT_ALL = "the exchange leaves out the first trades: older ones than it tells of were had"
_NEVER = 2**63
_FEW = 2  # rows, of the first of all: were they the newest ones, a longer page would begin earlier
_MOST_STALE = 3  # answers of /trades that end before a gap does, until aggregates are asked

KEY_RETRY_MS = 3_600_000
"""Until an API key that was refused is sent again."""

NO_KEY = (
    "single trades of that time are told only to those who send an API key: set [binance] api_key"
)
KEY_REFUSED = "the exchange refuses the API key, and tells no single trades of that time without"


class Aggregate(NamedTuple):
    """A row of aggTrades: its trades, and the aggregate's own id, which paging goes by."""

    id: int
    trades: TradeRange | None  # None: the exchange has marked it invalid


@dataclass(frozen=True, slots=True)
class TradesRequest:
    """Ask historicalTrades for rows from from_id on: up to the gap's end, and of gaps before it."""

    symbol: str
    gap: Gap
    from_id: int
    limit: int


@dataclass(frozen=True, slots=True)
class AggregatesRequest:
    """Ask aggTrades for a page, by aggregate id or, for the first, by time; else for the newest."""

    symbol: str
    gap: Gap
    from_id: int | None
    start_ms: int | None
    begins_ms: int | None = None  # a trade from before then shows where what is wanted begins
    is_oldest: bool = False  # begins_ms is how far back anything is fetched
    is_cross_check: bool = False  # of ids that historicalTrades does not have
    is_of_all: bool = False  # the first trade of all is wanted: have ids restarted?
    is_second_look: bool = False  # the first few of all are wanted: do those begin there, too?

    def limit(self, most: int) -> int:
        """Return how many rows to ask for, where a page has *most*."""
        return min(_FEW, most) if self.is_second_look else most


@dataclass(frozen=True, slots=True)
class RecentRequest:
    """Ask for the newest single trades of a symbol: they may reach back to the gap."""

    symbol: str
    gap: Gap


Request = TradesRequest | AggregatesRequest | RecentRequest


@dataclass(slots=True)
class _Progress:
    """How far a gap was asked about."""

    needs_ids: bool = False  # aggregates have answered what they can: ask by id
    has_no_recent: bool = False  # /trades has answered what it can
    stale_answers: int = 0  # of /trades, since aggregates: they ended before the gap does
    asks_newest: bool = False  # since nothing is as young as what is wanted
    is_begun: bool = False  # where it begins, or what of it is too old, is known
    back_steps: int = 0  # pages asked for further back to find that
    first_aggregate: int = 0  # the earliest that was found before that
    first_of_all: int | None = None  # id of the first trade of all, as aggregates said once
    next_aggregate: int | None = None
    page_end: TradeRange | None = None  # the last aggregate before that one
    doubted: KnownTrade | None = None  # of which an answer has a later trade: have ids restarted?
    is_trusted: bool = False  # they have not: the exchange has trades from before that one


class BackfillPlan:
    """What to ask about the gaps of all symbols.

    *now* is milliseconds on a clock that never goes back; *clock* is the exchange's time. Pages
    have as many rows as the endpoints of *market* answer.
    """

    def __init__(
        self,
        market: Market,
        max_age_ms: int,
        new_backoff: Callable[[], Backoff],
        timing: BackfillTiming | None = None,
        *,
        has_key: bool = True,
    ) -> None:
        self._max_age = max_age_ms
        self._needs_key = market.historical_trades.needs_key
        self._trades_page = market.historical_trades.max_rows
        self._aggregates_page = market.aggregate_trades.max_rows
        self._clock = 0
        self._queue = GapQueue(
            frozenset((_TRADES, _AGGREGATES)), _Progress, new_backoff, timing or BackfillTiming()
        )
        self._missing_endpoint_count = 0  # answers in a row that there is no historicalTrades
        self._no_trades_until = 0  # when to ask for single trades again
        self._no_trades = _NO_TRADES  # why not before
        self.key_problem: str | None = None
        """Why old single trades are not told, once some were wanted; None: no problem."""
        if self._needs_key and not has_key:
            self._no_trades_until, self._no_trades = _NEVER, NO_KEY

    @property
    def is_empty(self) -> bool:
        """Whether nothing is missing that will be asked for, and nothing of old is remembered."""
        return self._queue.is_empty

    def update(self, gaps: GapSet, now: int) -> None:
        """Take over the gaps of a symbol, and its absent ids, as the ledger has them."""
        self._queue.update(gaps, now)

    def next_request(self, now: int, clock: int) -> Request | BackfillResult | None:
        """Return what to ask next, or what can be said without asking; None: nothing yet."""
        self._clock = clock
        oldest = clock - self._max_age
        entry = self._queue.take(now)
        if entry is not None:
            if entry.gap.until_ms < oldest:
                return self._abandon(entry, oldest)
            return self._request(entry, now, oldest)
        if not clock or now < self._no_trades_until:
            return None
        entry = self._queue.take_absent(now, clock)
        if entry is None:
            return None
        if entry.progress.doubted is not None:
            return self._first_of_all_request(entry)
        return self._trades_request(entry, oldest=0)

    def put_back(self, request: Request) -> None:
        """Take back *request*, which cannot be made now: by then it may be another one."""
        self._queue.put_back(request.symbol)

    def failed(self, request: Request, error: str, now: int) -> BackfillResult:
        """Record that *request* brought no answer."""
        entry = self._queue.record_result(request.symbol, request.gap)
        self._queue.back_off(entry, now)
        return BackfillResult(request.symbol, request.gap, error=error)

    def record_missing_endpoint(self, now: int) -> None:
        """Record that the host says that it has no historicalTrades; the second time it counts."""
        self._missing_endpoint_count += 1
        if self._missing_endpoint_count > 1:
            self._no_trades_until, self._no_trades = now + _NO_TRADES_FOR_MS, _NO_TRADES

    def record_refused_key(self, now: int) -> None:
        """Record that the exchange refuses the API key: it is sent again much later."""
        self._no_trades_until, self._no_trades = now + KEY_RETRY_MS, KEY_REFUSED
        self.key_problem = KEY_REFUSED

    def on_too_old(self, request: Request, now: int) -> BackfillResult:
        """Return what it means that the exchange refuses to look back so far: as here it does not.

        So it is asked again later, as after any failure.
        """
        return self.failed(request, "the exchange refuses to look back so far", now)

    def on_recent(
        self, request: RecentRequest, rows: Sequence[TradeRange], now: int
    ) -> BackfillResult:
        """Return what the newest single trades say; *rows* have ascending ids."""
        gap = request.gap
        entry = self._queue.record_result(request.symbol, gap)
        if self._doubts_ids(entry, rows, self._queue.missing(request.symbol), now):
            return self._result(request)
        unknown = self._queue.unknown_ids(request.symbol)
        ranges = [each for each in rows if unknown.is_wanted(each.first_id)]
        absent = self._confirmed_absent(request, _TRADES, rows, now)
        if ranges:
            entry.backoff = None
        if rows and rows[-1].last_id > gap.last_id:
            entry.progress.has_no_recent = True
            entry.due = max(now, entry.due) if absent else now
            self._await_next_round(entry, now)
            return self._result(request, ranges, absent)
        entry.progress.stale_answers += 1
        self._queue.back_off(entry, now)
        return self._result(request, ranges, absent, error=_NOT_YET)

    def on_trades(
        self, request: TradesRequest, rows: Sequence[TradeRange], now: int
    ) -> BackfillResult:
        """Return what the answer to a TradesRequest means; *rows* have ascending ids."""
        self._missing_endpoint_count, self.key_problem = 0, None
        gap = request.gap
        entry = self._queue.record_result(request.symbol, gap)
        if entry.progress.first_of_all is not None:
            return self._on_first_trades(entry, request, rows, now)
        if self._doubts_ids(entry, rows, self._queue.missing(request.symbol), now):
            return self._result(request)
        unknown = self._queue.unknown_ids(request.symbol)
        own_ids = {each.first_id for each in rows if gap.first_id <= each.first_id <= gap.last_id}
        ranges = [
            each for each in rows if each.first_id in own_ids or unknown.is_wanted(each.first_id)
        ]
        if ranges:
            entry.backoff = None
        absent = self._confirmed_absent(request, _TRADES, rows, now)
        is_from_zero = request.from_id == 0
        if gap.is_absent and unknown.is_enclosed(gap, rows, is_from_zero=is_from_zero):
            absent.append((gap.first_id, gap.last_id))
        seen_through = rows[-1].last_id if rows else gap.first_id - 1
        error = None
        if seen_through < gap.last_id and len(rows) < request.limit:
            self._queue.back_off(entry, now)  # the exchange's database lags behind its streams
            error = _NOT_YET
        elif own_ids or (gap.first_id, gap.last_id) in absent:
            entry.due = now
        else:
            error = self._queue.await_confirmation(entry, _TRADES, now)
        return self._result(request, ranges, absent, error=error)

    def on_aggregates(
        self, request: AggregatesRequest, rows: Sequence[Aggregate], now: int
    ) -> BackfillResult:
        """Return what the answer to an AggregatesRequest means; *rows* have ascending ids."""
        entry = self._queue.record_result(request.symbol, request.gap)
        progress = entry.progress
        if request.is_second_look:
            few = [trades for _, trades in rows if trades is not None]
            return self._on_first_trades(entry, request, few, now)
        if not rows:
            progress.next_aggregate = progress.page_end = None
            if request.begins_ms is not None and request.start_ms is not None:
                # Perhaps the newest of all is older than what is wanted: that one shows it.
                progress.asks_newest, entry.due = True, now
                return self._result(request)
            self._queue.back_off(entry, now)
            return self._result(request, error="the exchange has nothing there yet")
        valid = [trades for _, trades in rows if trades is not None]
        if not valid:
            progress.next_aggregate = rows[-1].id + 1
            self._queue.back_off(entry, now)
            return self._result(request, error="the exchange has nothing valid there")
        if request.is_of_all:
            return self._on_first_of_all(entry, request, valid[0], now)
        if self._doubts_ids(entry, valid, (), now):
            return self._result(request)
        if request.is_cross_check:
            return self._on_cross_check(entry, request, rows, valid, now)
        if request.begins_ms is None or progress.is_begun:
            return self._fill(entry, request, rows, valid, None, now)
        older = last_before(valid, request.begins_ms)
        is_begun = valid[0].first_id == 0 or (
            valid[0].first_id <= request.gap.first_id and not request.gap.is_start
        )
        is_far = request.from_id == 0 and rows[-1].id < progress.first_aggregate
        if is_far or (older is None and not is_begun):
            return self._step_back(entry, request, rows, valid, now)
        return self._fill(entry, request, rows, valid, older, now)

    def _fill(
        self,
        entry: QueuedGap[_Progress],
        request: AggregatesRequest,
        rows: Sequence[Aggregate],
        valid: Sequence[TradeRange],
        older: TradeRange | None,
        now: int,
    ) -> BackfillResult:
        """Return what a page of aggregates fills; *older* is the last trade that is not wanted."""
        gap, progress = request.gap, entry.progress
        wanted_from = gap.first_id if older is None else max(gap.first_id, older.last_id + 1)
        if gap.is_start and not progress.is_begun and older is None:
            wanted_from = valid[0].first_id
        ranges = within(valid, wanted_from, gap.last_id)
        absent = self._confirmed_absent(request, _AGGREGATES, valid, now)
        is_beginning = gap.is_start and not request.is_oldest and not progress.is_begun
        is_older_left = request.is_oldest and wanted_from > gap.first_id
        last_id = valid[-1].last_id
        progress.is_begun = True
        progress.needs_ids = last_id >= gap.last_id
        progress.next_aggregate = None if progress.needs_ids else rows[-1].id + 1
        lacks_trades = progress.needs_ids and now < self._no_trades_until
        wait_until = min(self._no_trades_until, now + _NO_TRADES_FOR_MS)
        is_left = any(holes(wanted_from, gap.last_id, ranges))
        if lacks_trades and is_left and self._needs_key:
            self.key_problem = self._no_trades
        if ranges:
            entry.backoff = None
        progress.stale_answers = 0
        if last_id < gap.last_id and len(rows) < self._aggregates_page:
            self._queue.back_off(entry, now)
        elif self._await_next_round(entry, now):
            pass
        elif lacks_trades and not self._may_have_recent(entry):
            entry.retry_at(wait_until)
        elif lacks_trades and not ranges:
            self._queue.back_off(entry, now)
        else:
            entry.retry_at(now)
        return self._result(
            request,
            ranges,
            absent,
            begins_at=wanted_from if is_beginning else None,
            has_older=is_beginning and older is not None,
            older=older if is_older_left else None,
            error=self._no_trades if lacks_trades and is_left else None,
        )

    def _step_back(
        self,
        entry: QueuedGap[_Progress],
        request: AggregatesRequest,
        rows: Sequence[Aggregate],
        valid: Sequence[TradeRange],
        now: int,
    ) -> BackfillResult:
        """Have an earlier page asked for, since this one may lack the first of what is wanted.

        First that of the aggregate before; then the very first page: if even that begins here, the
        exchange has nothing older. Otherwise ever further back: aggregates may be left out.
        """
        gap, progress = request.gap, entry.progress
        if progress.back_steps == 0:
            progress.first_aggregate = rows[0].id
        entry.due = now
        wanted = [each for each in valid if each.time >= (request.begins_ms or 0)]
        ranges = within(wanted, gap.first_id, gap.last_id)
        if request.from_id == 0 and rows[0].id >= progress.first_aggregate:
            return self._on_nothing_older(entry, request, valid[0].first_id, ranges, now)
        if progress.back_steps == 0:
            progress.next_aggregate = max(0, progress.first_aggregate - 1)
        elif progress.back_steps == 1:
            progress.next_aggregate = 0
        else:
            distance = _BACK_FACTOR ** (progress.back_steps - 1)
            progress.next_aggregate = progress.first_aggregate - distance
        progress.back_steps += 1
        if progress.next_aggregate < 0:
            progress.next_aggregate, progress.back_steps = None, 0
            self._queue.back_off(entry, now)
        return self._result(request, ranges)

    def _on_nothing_older(
        self,
        entry: QueuedGap[_Progress],
        request: AggregatesRequest,
        first_id: int,
        ranges: Sequence[TradeRange],
        now: int,
    ) -> BackfillResult:
        """Have it asked for a second time whether *first_id* is the first trade of all."""
        progress, gap = entry.progress, request.gap
        if gap.is_start and first_id > gap.last_id + 1:
            # The trade behind the gap was had, or named: it is older than the first of all.
            progress.next_aggregate, progress.back_steps = None, 0
            self._queue.back_off(entry, now)
            return self._result(request, ranges, error=_NOT_ALL)
        progress.next_aggregate = 0
        if not gap.is_start:
            progress.is_begun, progress.needs_ids, progress.next_aggregate = True, True, None
        else:
            progress.first_of_all = first_id
        return self._result(request, ranges)

    def _on_first_trades(
        self,
        entry: QueuedGap[_Progress],
        request: TradesRequest | AggregatesRequest,
        rows: Sequence[TradeRange],
        now: int,
    ) -> BackfillResult:
        """Return where it begins if the second look at the first of all finds none older either."""
        progress = entry.progress
        first_of_all, progress.first_of_all = progress.first_of_all, None
        progress.back_steps, progress.next_aggregate = 0, None
        if rows and rows[0].first_id == first_of_all:
            progress.is_begun, progress.next_aggregate, entry.due = True, 0, now
            return self._result(request, begins_at=first_of_all)
        self._queue.back_off(entry, now)
        return self._result(request, error="where it begins is not known yet")

    def _on_cross_check(
        self,
        entry: QueuedGap[_Progress],
        request: AggregatesRequest,
        rows: Sequence[Aggregate],
        valid: Sequence[TradeRange],
        now: int,
    ) -> BackfillResult:
        """Return what aggregates say about ids that historicalTrades does not have."""
        gap, progress = request.gap, entry.progress
        page = valid if progress.page_end is None else [progress.page_end, *valid]
        progress.next_aggregate = progress.page_end = None
        ranges = within(valid, gap.first_id, gap.last_id)
        absent = self._confirmed_absent(request, _AGGREGATES, page, now)
        error = None
        if any(each.first_id <= gap.last_id and each.last_id >= gap.first_id for each in valid):
            entry.absence = None
            self._queue.back_off(entry, now)
            error = "aggTrades has trades that historicalTrades lacks"
        elif (gap.first_id, gap.last_id) not in absent:
            if page[-1].last_id < gap.first_id and len(rows) >= self._aggregates_page:
                progress.next_aggregate, progress.page_end = rows[-1].id + 1, page[-1]
                entry.due = now
            else:
                error = self._queue.await_confirmation(entry, _AGGREGATES, now)
                self._await_next_round(entry, now)
        return self._result(request, ranges, absent, error=error)

    def _await_next_round(self, entry: QueuedGap[_Progress], now: int) -> bool:
        """Have it be confirmed again that ids do not exist, if that is to come; return whether.

        The newest trades are asked again then, where they stand in for historicalTrades.
        """
        absence = entry.absence
        if not self._needs_key or absence is None or absence.first_id != entry.gap.first_id:
            return False
        if now >= absence.due:
            return False
        entry.progress.has_no_recent, entry.progress.stale_answers = False, 0
        entry.retry_at(absence.due)
        return True

    def _doubts_ids(
        self,
        entry: QueuedGap[_Progress],
        rows: Sequence[TradeRange],
        others: Sequence[Gap],
        now: int,
    ) -> bool:
        """Whether *rows* may be of ids that have restarted: then the first trade of all is due.

        They fill the gap of *entry*, and those of *others* that they reach.
        """
        if entry.progress.is_trusted:
            return False
        unknown = self._queue.unknown_ids(entry.symbol)
        doubted = contradicted_in(entry.gap, others, rows, unknown)
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
        return self._result(request, restarted_at=first.time)

    def _confirmed_absent(
        self, request: Request, endpoint: str, rows: Sequence[TradeRange], now: int
    ) -> list[tuple[int, int]]:
        """Return the ids that are believed not to exist, now that *endpoint* gave *rows*."""
        is_from_zero = not isinstance(request, RecentRequest) and request.from_id == 0
        return self._queue.confirm_absences(
            request.symbol, endpoint, rows, now, is_from_zero=is_from_zero
        )

    def _result(
        self,
        request: Request,
        ranges: Sequence[TradeRange] = (),
        absent: Sequence[tuple[int, int]] = (),
        *,
        begins_at: int | None = None,
        has_older: bool = False,
        older: TradeRange | None = None,
        restarted_at: int | None = None,
        error: str | None = None,
    ) -> BackfillResult:
        return BackfillResult(
            request.symbol,
            request.gap,
            ranges,
            absent,
            absent_at=self._clock,
            begins_at=begins_at,
            has_older=has_older,
            abandoned_through=None if older is None else min(older.last_id, request.gap.last_id),
            abandoned_before_ms=0 if older is None else older.time,
            restarted_at=restarted_at,
            error=error,
        )

    def _abandon(self, entry: QueuedGap[_Progress], oldest: int) -> BackfillResult:
        """Give up a gap all of whose trades are from before *oldest*."""
        self._queue.record_result(entry.symbol, entry.gap)
        return BackfillResult(
            entry.symbol,
            entry.gap,
            abandoned_through=entry.gap.last_id,
            abandoned_before_ms=oldest,
        )

    def _request(self, entry: QueuedGap[_Progress], now: int, oldest: int) -> Request:
        gap, progress = entry.gap, entry.progress
        has_trades = now >= self._no_trades_until
        if progress.doubted is not None:
            return self._first_of_all_request(entry)
        if not progress.is_begun and gap.since_ms < oldest:
            return self._beginning_request(entry, oldest, is_oldest=True)
        if entry.confirmed_by == {_TRADES}:
            return self._cross_check_request(entry)
        is_by_id = progress.needs_ids or (gap.size < self._trades_page and not gap.is_start)
        if is_by_id and has_trades:
            return self._trades_request(entry, oldest)
        if is_by_id and self._may_have_recent(entry):
            return RecentRequest(entry.symbol, gap)
        if gap.is_start and not progress.is_begun:
            if progress.first_of_all is not None:
                if has_trades:
                    return TradesRequest(entry.symbol, gap, 0, _FEW)
                return AggregatesRequest(entry.symbol, gap, 0, None, is_second_look=True)
            return self._beginning_request(entry, gap.since_ms)
        if progress.next_aggregate is not None:
            return AggregatesRequest(entry.symbol, gap, progress.next_aggregate, None)
        # That of a beginning is no trade's time: the first one may come right after it.
        since_ms = gap.since_ms if gap.cause == GapCause.START else gap.since_ms + DISORDER_MS
        return AggregatesRequest(entry.symbol, gap, None, max(since_ms, oldest))

    def _may_have_recent(self, entry: QueuedGap[_Progress]) -> bool:
        """Whether /trades is asked in the place of historicalTrades, which takes a key."""
        progress = entry.progress
        is_tried = progress.has_no_recent or progress.stale_answers >= _MOST_STALE
        return self._needs_key and not is_tried

    @staticmethod
    def _beginning_request(
        entry: QueuedGap[_Progress], begins_ms: int, *, is_oldest: bool = False
    ) -> AggregatesRequest:
        """Ask where it begins, or begins to be young enough: for a page that has a trade before."""
        progress = entry.progress
        from_id, asks_newest = progress.next_aggregate, progress.asks_newest
        progress.asks_newest = False
        is_by_time = from_id is None and not asks_newest
        start_ms = begins_ms - 2 * DISORDER_MS if is_by_time else None
        return AggregatesRequest(entry.symbol, entry.gap, from_id, start_ms, begins_ms, is_oldest)

    @staticmethod
    def _first_of_all_request(entry: QueuedGap[_Progress]) -> AggregatesRequest:
        """Ask for the first trade of all: from before what is known, unless ids have restarted."""
        return AggregatesRequest(entry.symbol, entry.gap, 0, None, is_of_all=True)

    @staticmethod
    def _cross_check_request(entry: QueuedGap[_Progress]) -> AggregatesRequest:
        """Ask whether aggregates have what historicalTrades has not, since the trade before it."""
        before_ms = 0 if entry.absence is None else entry.absence.time_before_ms
        from_id = entry.progress.next_aggregate
        if from_id is None and not before_ms:
            from_id = 0  # there is no trade before id 0
        start_ms = before_ms if from_id is None else None
        return AggregatesRequest(entry.symbol, entry.gap, from_id, start_ms, is_cross_check=True)

    def _trades_request(self, entry: QueuedGap[_Progress], oldest: int) -> TradesRequest:
        """Ask for single trades, from the one before the gap to the one after it.

        That shows that the answer is about this gap, and whether the exchange has got past it.
        """
        from_id = self._first_id_of_page(entry.symbol, entry.gap, oldest)
        limit = min(self._trades_page, entry.gap.last_id - from_id + 2)
        return TradesRequest(entry.symbol, entry.gap, from_id, limit)

    def _first_id_of_page(self, symbol: str, gap: Gap, oldest: int) -> int:
        """Return the first id of the longest page that begins with a gap and ends after *gap*.

        It begins with the trade before that, if that fits into the page as well.
        """
        lowest = gap.last_id + 2 - self._trades_page
        from_id = self._queue.unknown_ids(symbol).stretch_from(gap.first_id) - 1
        if from_id < lowest:
            from_id = gap.first_id - 1
        from_id = max(0, from_id)
        for earlier in reversed(self._queue.missing(symbol)):
            if earlier.first_id < from_id:
                if earlier.first_id <= lowest or earlier.is_start or earlier.since_ms < oldest:
                    break
                from_id = max(0, earlier.first_id - 1)
        return from_id
