"""How much the audit asks of the exchange, and what it does when that says no."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bintrades.errors import ExchangeError
from bintrades.exchange.binance.budget import Budget
from bintrades.exchange.events import Event, RateLimited
from bintrades.model import TradeRange
from bintrades.pipeline.audit.reference import BudgetSpent, LimitedReference, TooManyTrades
from bintrades.pipeline.audit.weight_share import WeightShare
from bintrades.util.runtime import Runtime
from tests.pipeline.audit.stage import BTC, MINUTE, market
from tests.references import TradesReference
from tests.strategies import START

if TYPE_CHECKING:
    from collections.abc import Callable


def limited(
    reference: TradesReference,
    budget: Budget,
    allowed: int,
    *,
    may_go_on: bool = True,
    now: Callable[[], int] = lambda: 0,
) -> tuple[LimitedReference, list[Event]]:
    events: list[Event] = []
    made = LimitedReference(
        reference,
        WeightShare(budget, allowed),
        budget,
        put=events.append,
        may_go_on=lambda: may_go_on,
        runtime=Runtime(now=now, utc=lambda: START),
    )
    return made, events


@given(st.lists(st.tuples(st.integers(0, 40_000), st.integers(1, 30)), max_size=60))
def test_no_minute_has_more_than_the_share(requests: list[tuple[int, int]]) -> None:
    share = WeightShare(Budget(6_000, 100), 50)
    spent: list[tuple[int, int]] = []
    now = 0
    for pause, weight in requests:
        now += pause
        wait = share.wait_ms(weight, now)
        if wait:
            assert share.wait_ms(weight, now + wait - 1), "it says how long exactly"
            now += wait
            assert share.wait_ms(weight, now) == 0
        spent.append((now, weight))

    for end, _ in spent:
        assert sum(weight for at, weight in spent if end - MINUTE < at <= end) <= 50


def test_a_request_that_weighs_more_than_the_share_may_go_alone() -> None:
    share = WeightShare(Budget(6_000, 100), 10)

    assert share.wait_ms(25, 0) == 0
    assert share.wait_ms(1, 1) == MINUTE - 1
    assert share.wait_ms(25, MINUTE) == 0


def test_what_the_audit_spends_the_others_cannot_and_what_they_spend_it_cannot() -> None:
    budget = Budget(100, 100)
    share = WeightShare(budget, 60)

    assert share.wait_ms(50, 0) == 0
    assert budget.wait_ms(50, 0) == 0
    assert share.wait_ms(5, 0) > 0, "the budget is spent"
    assert budget.wait_ms(1, 0) > 0
    assert share.wait_ms(10, MINUTE) == 0


def test_klines_of_many_pages_are_one_list() -> None:
    reference = TradesReference(market(), page=3)
    made, _ = limited(reference, Budget(6_000, 100), 300)

    klines = made.klines(BTC, MINUTE, (START, START + 10 * MINUTE))

    assert [kline.open_time_ms for kline in klines] == list(
        range(START, START + 10 * MINUTE, MINUTE)
    )
    assert (len(reference.asked), made.request_count) == (4, 4)


def test_without_weight_there_is_no_request() -> None:
    reference = TradesReference(market(), page=3)
    made, _ = limited(reference, Budget(6_000, 100), 4)

    with pytest.raises(BudgetSpent) as error:
        made.klines(BTC, MINUTE, (START, START + 10 * MINUTE))
    assert (error.value.wait_ms, len(reference.asked)) == (MINUTE, 2)
    with pytest.raises(BudgetSpent):
        made.trades_between(BTC, START, START + MINUTE)
    assert len(reference.asked) == 2


def test_klines_that_take_more_than_the_share_of_a_minute_are_had_in_several() -> None:
    reference = TradesReference(market(), page=3)
    now = 0
    made, _ = limited(reference, Budget(6_000, 100), 4, now=lambda: now)
    span = (START, START + 10 * MINUTE)
    with pytest.raises(BudgetSpent) as error:
        made.klines(BTC, MINUTE, span)
    now += error.value.wait_ms

    klines = made.klines(BTC, MINUTE, span)

    assert [kline.open_time_ms for kline in klines] == list(range(*span, MINUTE))
    assert len(reference.asked) == 4, "none was made twice"
    now += MINUTE
    with pytest.raises(BudgetSpent):
        made.klines(BTC, MINUTE, span)
    assert len(reference.asked) == 4 + 2, "what was given out is not kept"


def test_what_was_had_of_other_klines_is_forgotten() -> None:
    reference = TradesReference(market(), page=3)
    now = 0
    made, _ = limited(reference, Budget(6_000, 100), 4, now=lambda: now)
    for since in (START, START + MINUTE, START):
        now += MINUTE
        with pytest.raises(BudgetSpent):
            made.klines(BTC, MINUTE, (since, START + 10 * MINUTE))

    assert [since for _, _, since, _ in reference.asked[::2]] == [START, START + MINUTE, START]


def test_trades_for_which_others_leave_no_budget_are_asked_for_in_vain_twice() -> None:
    now = 0
    reference = TradesReference(market(), pages_of_trades=4)
    made, _ = limited(reference, Budget(60, 100), 300, now=lambda: now)
    seen = []
    for since in (START, START, START + MINUTE):
        with pytest.raises(BudgetSpent) as error:
            made.trades_between(BTC, since, START + 2 * MINUTE)
        seen.append(error.value.is_in_vain)
        now += error.value.wait_ms

    assert seen == [False, True, False]


def test_who_is_to_end_makes_no_request() -> None:
    reference = TradesReference(market())
    made, _ = limited(reference, Budget(6_000, 100), 300, may_go_on=False)

    with pytest.raises(BudgetSpent):
        made.klines(BTC, MINUTE, (START, START + MINUTE))
    assert reference.asked == []


def test_a_ban_is_known_to_the_next_process_and_kept_by_this_one() -> None:
    budget = Budget(6_000, 100)

    def ban() -> None:
        budget.record_failure("banned", 0, 418, retry_after_s=600)

    reference = TradesReference(market(), error="banned", on_request=ban)
    made, events = limited(reference, budget, 300)

    with pytest.raises(ExchangeError):
        made.klines(BTC, MINUTE, (START, START + MINUTE))
    with pytest.raises(BudgetSpent) as error:
        made.klines(BTC, MINUTE, (START, START + MINUTE))

    assert error.value.wait_ms == 600_000
    (event,) = events
    assert isinstance(event, RateLimited)
    assert event.ban.left_ms(START) == 600_000


def test_trades_come_as_the_exchange_has_them() -> None:
    trades = market()
    made, _ = limited(TradesReference(trades), Budget(6_000, 100), 300)

    found = made.trades_between(BTC, START, START + MINUTE)

    assert all(isinstance(each, TradeRange) for each in found)
    assert len(found) == sum(trade.time < START + MINUTE for trade in trades)


def test_trades_that_take_more_than_the_share_of_a_minute_are_given_up() -> None:
    share = 4 * TradesReference(()).trades_weight
    fits, _ = limited(TradesReference(market(), pages_of_trades=4), Budget(6_000, 100), share)
    assert fits.trades_between(BTC, START, START + MINUTE)
    with pytest.raises(BudgetSpent):  # of this minute nothing is left: it would do in the next
        fits.trades_between(BTC, START, START + MINUTE)

    beyond, _ = limited(TradesReference(market(), pages_of_trades=5), Budget(6_000, 100), share)
    with pytest.raises(TooManyTrades):
        beyond.trades_between(BTC, START, START + MINUTE)
