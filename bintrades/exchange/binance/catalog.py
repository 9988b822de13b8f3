"""The list of symbols, asked within the budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bintrades.errors import ExchangeError
from bintrades.exchange.binance.rest import RestClient, RestError
from bintrades.util.clocks import now_ms

if TYPE_CHECKING:
    from collections.abc import Callable

    from bintrades.exchange.binance.budget import Budget
    from bintrades.exchange.symbols import SymbolInfo


class Catalog:
    """The symbols of one market. Calls come from one thread at a time.

    *now* is the monotonic clock in milliseconds.
    """

    def __init__(self, rest: RestClient, budget: Budget, now: Callable[[], int] = now_ms) -> None:
        self._rest = rest
        self._budget = budget
        self._now = now

    def list_symbols(self) -> list[SymbolInfo]:
        """Ask for every symbol, delisted ones included, unless no request may be made now.

        Raises ExchangeError.
        """
        budget = self._budget
        if wait_ms := budget.wait_ms(self._rest.market.exchange_info.weight, self._now()):
            wait_s = wait_ms // 1000 + 1
            raise ExchangeError(
                f"not asked: no request may be made for {wait_s} s: {budget.last_error}"
            )
        try:
            listed = self._rest.exchange_symbols()
        except RestError as error:
            budget.record_failure(str(error), self._now(), error.status, error.retry_after_s)
            raise
        budget.record_answer(self._now())
        if self._rest.weight_per_minute is not None:
            budget.record_limit(self._rest.weight_per_minute)
        return listed
