"""The backfill over the port alone: an exchange that answers out of a dictionary."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from bintrades.core.backfill_result import BackfillResult
from bintrades.core.gap_queue import BackfillTiming, GapQueue, QueuedGap
from bintrades.errors import ExchangeError
from bintrades.exchange.events import LatestTrade, RateLimited
from bintrades.model import Gap, GapCause, GapSet, TradeRange
from bintrades.pipeline.backfill import POLL_EVERY_MS, Backfill
from bintrades.util.backoff import Backoff
from bintrades.util.runtime import Runtime

if TYPE_CHECKING:
    from bintrades.exchange.events import Event

NOON = 1_723_118_400_000
BTC, ETH = "BTC-USD", "ETH-USD"
GAP = Gap(5, 7, NOON, NOON + 1_000, GapCause.RESTART)
WEIGHT = 3


def trades(*ids: int) -> list[TradeRange]:
    return [TradeRange(i, i, Decimal(1), Decimal(1), NOON + i, False) for i in ids]


class Ask(NamedTuple):
    """A request of this exchange: it answers any gap whole."""

    symbol: str
    gap: Gap


class Plan:
    """A BackfillPlan of an exchange with one endpoint and pages without end."""

    def __init__(self) -> None:
        self.queue: GapQueue[None] = GapQueue(
            frozenset(("trades",)),
            lambda: None,
            lambda: Backoff(1.0, 300.0),
            BackfillTiming(first_request_after_ms=0),
        )

    @property
    def is_empty(self) -> bool:
        return self.queue.is_empty

    def update(self, gaps: GapSet, now: int) -> None:
        self.queue.update(gaps, now)

    def next_request(self, now: int, clock: int) -> Ask | BackfillResult | None:
        entry: QueuedGap[None] | None = self.queue.take(now)
        assert clock
        return None if entry is None else Ask(entry.symbol, entry.gap)

    def put_back(self, request: Ask) -> None:
        self.queue.put_back(request.symbol)

    def failed(self, request: Ask, error: str, now: int) -> BackfillResult:
        self.queue.back_off(self.queue.record_result(request.symbol, request.gap), now)
        return BackfillResult(request.symbol, request.gap, error=error)


class History:
    """The trades of this exchange, and what it says when it is asked."""

    def __init__(self) -> None:
        self.plan = Plan()
        self.trades = {BTC: trades(*range(10))}
        self.error: str | None = None
        self.latest_trade_weight = 1
        self.asked: list[Ask | str] = []

    def weight(self, request: Ask) -> int:
        return WEIGHT * len(request.symbol)

    def fetch(self, request: Ask) -> BackfillResult:
        self._refuse(request)
        gap = request.gap
        self.plan.queue.record_result(request.symbol, gap)
        return BackfillResult(
            request.symbol, gap, self.trades[request.symbol][gap.first_id : gap.last_id + 1]
        )

    def latest_trade(self, symbol: str) -> TradeRange | None:
        self._refuse(symbol)
        return self.trades[symbol][-1] if symbol in self.trades else None

    def _refuse(self, request: Ask | str) -> None:
        self.asked.append(request)
        if self.error is not None:
            raise ExchangeError(self.error)


class Budget:
    """A RateBudget that allows what the test says."""

    def __init__(self) -> None:
        self.last_error: str | None = None
        self.wait = 0
        self.banned_until = 0
        self.spent: list[int] = []

    def wait_ms(self, weight: int, now: int) -> int:
        del now
        if not self.wait:
            self.spent.append(weight)
        return self.wait

    def blocked_for(self, now: int) -> int:
        return self.banned_for(now)

    def banned_for(self, now: int) -> int:
        return max(0, self.banned_until - now)


@dataclass
class Stage:
    """A backfill, what it asks of whom, and what it puts into the inbox."""

    now: int = 1_000
    history: History = field(default_factory=History)
    budget: Budget = field(default_factory=Budget)
    inbox: list[Event] = field(default_factory=list)
    clock: int = NOON

    def __post_init__(self) -> None:
        self.backfill: Backfill[Ask] = Backfill(
            self.history,
            self.budget,
            put=self.inbox.append,
            exchange_time=lambda: self.clock,
            runtime=Runtime(now=lambda: self.now, utc=lambda: NOON),
        )


def test_a_gap_is_fetched_for_its_weight_and_the_answer_goes_into_the_inbox() -> None:
    stage = Stage()
    stage.backfill.update(GapSet(BTC, (GAP,)))

    assert stage.backfill.step() == 0

    assert stage.inbox == [BackfillResult(BTC, GAP, trades(5, 6, 7))]
    assert stage.budget.spent == [WEIGHT * len(BTC)]
    assert stage.backfill.request_count == 1
    assert stage.backfill.step() == POLL_EVERY_MS, "the ledger has not counted the answer yet"
    stage.backfill.update(GapSet(BTC, (), answers=1))
    assert stage.backfill.is_idle


def test_nothing_is_asked_before_the_exchanges_time_is_known() -> None:
    stage = Stage(clock=0)
    stage.backfill.update(GapSet(BTC, (GAP,)))

    assert stage.backfill.step() == POLL_EVERY_MS
    assert stage.history.asked == []


def test_a_request_beyond_the_budget_is_put_back_and_made_later() -> None:
    stage = Stage()
    stage.backfill.update(GapSet(BTC, (GAP,)))
    stage.budget.wait = 10_000

    assert stage.backfill.step() == POLL_EVERY_MS, "no longer: the gap may fill meanwhile"
    assert stage.history.asked == []

    stage.budget.wait = 0
    assert stage.backfill.step() == 0
    assert stage.history.asked == [Ask(BTC, GAP)]


def test_a_failure_goes_to_the_ledger_and_the_gap_is_asked_for_again() -> None:
    stage = Stage()
    stage.backfill.update(GapSet(BTC, (GAP,)))
    stage.history.error = "no \ud800"

    stage.backfill.step()

    (result,) = stage.inbox
    assert isinstance(result, BackfillResult)
    assert result.error is not None
    assert result.error.encode(), "it must fit into the journal"
    stage.history.error = None
    stage.backfill.update(GapSet(BTC, (GAP,), answers=1))
    stage.now += 1_000
    assert stage.backfill.step() == 0
    assert stage.inbox[-1] == BackfillResult(BTC, GAP, trades(5, 6, 7))


def test_a_ban_is_told_once_for_as_long_as_it_lasts() -> None:
    stage = Stage()
    stage.history.error = "too much"
    stage.budget.banned_until = stage.now + 5_000
    for answers in range(3):
        stage.backfill.update(GapSet(BTC, (GAP,), answers=answers))
        stage.now += 1_000
        stage.backfill.step()
    stage.budget.banned_until += 60_000
    stage.backfill.check_idle([BTC])
    stage.backfill.step()

    bans = [event.ban for event in stage.inbox if isinstance(event, RateLimited)]
    assert [ban.left_ms(NOON) for ban in bans] == [4_000, 62_000]


def test_a_ban_from_before_the_start_is_known_already() -> None:
    stage = Stage(budget=Budget())
    stage.budget.banned_until = 9_000
    stage = Stage(budget=stage.budget, now=2_000)
    stage.history.error = "too much"
    stage.backfill.check_idle([BTC])

    stage.backfill.step()

    assert stage.inbox == []


def test_idle_symbols_are_checked_one_at_a_time_and_before_gaps() -> None:
    stage = Stage()
    stage.backfill.update(GapSet(BTC, (GAP,)))
    stage.backfill.check_idle([BTC, ETH])
    stage.backfill.check_idle([BTC])

    assert stage.backfill.step() == 0
    assert stage.inbox == [LatestTrade(BTC, 9, NOON + 9, stage.now)]
    stage.backfill.step()
    stage.now += 1_000
    stage.backfill.step()

    assert stage.history.asked == [BTC, Ask(BTC, GAP), ETH]
    assert len(stage.inbox) == 2, "a symbol without trades has no latest one"


def test_an_idle_check_that_fails_is_not_repeated_by_itself() -> None:
    stage = Stage()
    stage.history.error = "no"
    stage.backfill.check_idle([BTC])

    assert stage.backfill.step() == 0

    assert (stage.inbox, stage.backfill.is_idle) == ([], True)
