"""The backfill over the port alone: an exchange that answers out of a dictionary."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

import pytest

from bintrades.core.backfill_result import BackfillResult
from bintrades.core.gap_queue import BackfillTiming, GapQueue, QueuedGap
from bintrades.core.newest_ids import NewestIds
from bintrades.errors import ExchangeError, NotOfferedError
from bintrades.exchange.events import RateLimited
from bintrades.model import Gap, GapCause, GapSet, TradeRange
from bintrades.pipeline.backfill import POLL_EVERY_MS, Backfill
from bintrades.pipeline.backfill_thread import BackfillThread
from bintrades.util.backoff import Backoff
from bintrades.util.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        self.has_newest_ids = True
        self.asked: list[Ask | list[str]] = []
        self.now = 1_000

    def weight(self, request: Ask) -> int:
        return WEIGHT * len(request.symbol)

    def fetch(self, request: Ask) -> BackfillResult:
        self._refuse(request)
        gap = request.gap
        self.plan.queue.record_result(request.symbol, gap)
        return BackfillResult(
            request.symbol, gap, self.trades[request.symbol][gap.first_id : gap.last_id + 1]
        )

    def newest_ids_weight(self, count: int) -> int:
        return 10 * count

    def newest_ids(self, symbols: Sequence[str]) -> NewestIds:
        self._refuse(list(symbols))
        if not self.has_newest_ids:
            raise NotOfferedError("404")
        known = {symbol: self.trades[symbol][-1].last_id for symbol in symbols if symbol == BTC}
        return NewestIds(known, NOON, self.now)

    def _refuse(self, request: Ask | list[str]) -> None:
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
    stage.backfill.prove([BTC])
    stage.backfill.step()

    bans = [event.ban for event in stage.inbox if isinstance(event, RateLimited)]
    assert [ban.left_ms(NOON) for ban in bans] == [4_000, 62_000]


def test_a_ban_from_before_the_start_is_known_already() -> None:
    stage = Stage(budget=Budget())
    stage.budget.banned_until = 9_000
    stage = Stage(budget=stage.budget, now=2_000)
    stage.history.error = "too much"
    stage.backfill.prove([BTC])

    stage.backfill.step()

    assert stage.inbox == []


def test_the_newest_ids_of_all_symbols_are_one_request_which_comes_before_gaps() -> None:
    stage = Stage()
    stage.backfill.update(GapSet(BTC, (GAP,)))
    stage.backfill.prove([BTC, ETH])
    stage.backfill.prove([BTC])

    assert stage.backfill.step() == 0
    assert stage.inbox == [NewestIds({BTC: 9}, NOON, 1_000)]
    assert stage.budget.spent == [20]
    stage.backfill.step()

    assert stage.history.asked == [[BTC, ETH], Ask(BTC, GAP)]


def test_gaps_have_their_turn_although_newest_ids_are_wanted_again_at_once() -> None:
    stage = Stage()
    stage.history.trades[ETH] = trades(*range(10))
    for symbol in (BTC, ETH):
        stage.backfill.update(GapSet(symbol, (GAP,)))
    for _ in range(5):
        stage.backfill.prove([BTC])
        stage.backfill.step()

    assert stage.history.asked == [[BTC], Ask(BTC, GAP), [BTC], Ask(ETH, GAP), [BTC]]


def test_newest_ids_that_could_not_be_had_are_asked_for_again_some_seconds_later() -> None:
    stage = Stage()
    stage.history.error = "no"
    stage.backfill.prove([BTC])

    assert stage.backfill.step() == 0
    assert (stage.inbox, stage.backfill.is_idle) == ([], False)
    assert stage.backfill.proof_error == "no"
    stage.backfill.step()
    assert len(stage.history.asked) == 1

    stage.history.error = None
    stage.now += 10_000
    stage.backfill.step()
    assert stage.inbox == [NewestIds({BTC: 9}, NOON, 1_000)]
    assert stage.backfill.proof_error is None


def test_requests_and_those_that_failed_are_counted_by_what_they_were_for() -> None:
    stage = Stage()
    thread = BackfillThread(stage.backfill, on_failure=pytest.fail)
    stage.backfill.prove([BTC])
    stage.backfill.update(GapSet(BTC, (GAP,)))
    for _ in range(2):  # in turns
        stage.backfill.step()
    assert thread.counts == {"backfill": (1, 0), "newest_ids": (1, 0)}

    stage.history.error = "no"
    stage.backfill.prove([BTC])
    stage.backfill.step()
    assert thread.counts == {"backfill": (1, 0), "newest_ids": (2, 1)}
    stage.backfill.update(GapSet("ETHUSDT", (GAP,)))
    stage.backfill.step()

    assert thread.counts == {"backfill": (2, 1), "newest_ids": (2, 1)}
    assert thread.request_count == 4


def test_a_host_without_newest_ids_is_asked_again_after_a_minute_and_then_once_an_hour() -> None:
    stage = Stage()
    stage.history.has_newest_ids = False
    stage.backfill.prove([BTC])
    asked_at = []
    for minute in range(200):
        count = len(stage.history.asked)
        stage.backfill.step()
        if len(stage.history.asked) > count:
            asked_at.append(minute)
        stage.now += 60_000

    assert asked_at == [0, 1, 11, 71, 131, 191]
    assert stage.backfill.proof_error == "404"


def test_a_host_that_had_newest_ids_is_asked_again_soon_when_it_says_that_it_has_none() -> None:
    stage = Stage()
    stage.backfill.prove([BTC])
    stage.backfill.step()
    stage.history.has_newest_ids = False
    stage.backfill.prove([BTC])
    stage.backfill.step()

    stage.now += 10_000
    stage.backfill.step()

    assert len(stage.history.asked) == 3


def test_newest_ids_wait_for_the_budget() -> None:
    stage = Stage()
    stage.budget.wait = 90
    stage.backfill.prove([BTC])

    assert stage.backfill.step() == 90
    assert stage.history.asked == []
