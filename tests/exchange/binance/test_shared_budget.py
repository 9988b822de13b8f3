"""A budget that several threads spend."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from bintrades.exchange.binance.shared_budget import SharedBudget

if TYPE_CHECKING:
    from collections.abc import Callable

    from bintrades.exchange.binance.budget import Budget

WAIT_S = 120.0
CALLS: list[Callable[[Budget], object]] = [
    lambda budget: budget.wait_ms(1, 0),
    lambda budget: budget.blocked_for(0),
    lambda budget: budget.banned_for(0),
    lambda budget: budget.record_weight(1, 0),
    lambda budget: budget.record_answer(0),
    lambda budget: budget.record_failure("no", 0, 500),
]


@pytest.mark.parametrize("call", CALLS)
def test_a_thread_waits_while_another_uses_the_budget(
    call: Callable[[Budget], object],
) -> None:
    budget = SharedBudget(6_000, 50)
    done = threading.Event()

    def use() -> None:
        call(budget)
        done.set()

    other = threading.Thread(target=use)

    with budget._lock:
        other.start()
        assert not done.wait(0.1)
    assert done.wait(WAIT_S)
    other.join(WAIT_S)


def test_it_is_the_budget_that_it_shares() -> None:
    budget = SharedBudget(6_000, 50, banned_for=2_000, now=1_000)
    assert budget.banned_for(1_500) == budget.wait_ms(1, 1_500) == 1_500

    assert [budget.wait_ms(2_000, 4_000), budget.wait_ms(2_000, 4_000)] == [0, 60_000]
    budget.record_failure("too much", 5_000, 429, 7)
    assert (budget.blocked_for(6_000), budget.last_error) == (6_000, "too much")
