"""A request, and what the budget learns from its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from bintrades.exchange.binance.rest import RestError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bintrades.exchange.binance.budget import Budget
    from bintrades.exchange.binance.rest import RestClient

T = TypeVar("T")


def ask(request: Callable[[], T], rest: RestClient, budget: Budget, now: Callable[[], int]) -> T:
    """Make *request* over *rest* and record its outcome in *budget*. Raises RestError.

    *rest* is asked by one thread at a time.
    """
    rest.used_weight = None  # an old count is not that of this minute
    try:
        answer = request()
    except RestError as error:
        budget.record_failure(str(error), now(), error.status, error.retry_after_s)
        raise
    finally:
        if rest.used_weight is not None:
            budget.record_weight(rest.used_weight, now(), rest.minute_left_ms)
    budget.record_answer(now())
    return answer
