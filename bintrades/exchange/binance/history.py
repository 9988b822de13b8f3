"""Past trades of one market: the plan's requests made over REST, within the rate limit."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

from bintrades.exchange.binance.asking import ask
from bintrades.exchange.binance.backfill_plan import RecentRequest, TradesRequest
from bintrades.exchange.binance.newest_trades import NewestTrades, RefusedNamesError
from bintrades.exchange.binance.past_trades import PastTrades
from bintrades.exchange.binance.rest import RestError
from bintrades.util.clocks import now_ms
from bintrades.util.logs import LimitedLog

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bintrades.core.backfill_result import BackfillResult
    from bintrades.core.newest_ids import NewestIds
    from bintrades.exchange.binance.backfill_plan import BackfillPlan, Request
    from bintrades.exchange.binance.budget import Budget
    from bintrades.exchange.binance.futures_plan import FuturesPlan
    from bintrades.exchange.binance.market import Market
    from bintrades.exchange.binance.rest import RestClient
    from bintrades.model import TradeRange

T = TypeVar("T")

_UNAUTHORIZED, _NOT_FOUND = 401, 404
_TOO_OLD = -4166


class History:
    """A History, see exchange.port. Every call comes from one thread."""

    def __init__(
        self,
        rest: RestClient,
        market: Market,
        plan: BackfillPlan | FuturesPlan,
        budget: Budget,
        now: Callable[[], int] = now_ms,
    ) -> None:
        self.plan = plan
        self._rest = rest
        self._market = market
        self._budget = budget
        self._now = now
        self._past_trades = PastTrades(rest, market)
        self._newest_trades = NewestTrades(rest, market, now)
        self._limited = LimitedLog(log, every_s=60.0)
        self._said_of_key: str | None = None  # in the log

    def weight(self, request: Request) -> int:
        """Return what *request* costs of the minute's weight."""
        if isinstance(request, TradesRequest):
            return self._market.historical_trades.weight
        if isinstance(request, RecentRequest):
            return self._market.recent_trades.weight
        return self._market.aggregate_trades.weight

    def fetch(self, request: Request) -> BackfillResult:
        """Make *request* and return what the answer means. Raises RestError."""
        try:
            return self._fetch(request)
        except RestError as error:
            if error.code != _TOO_OLD:
                raise
            return self.plan.on_too_old(request, self._now())
        finally:
            self._report_key_problem()

    def _fetch(self, request: Request) -> BackfillResult:
        if isinstance(request, TradesRequest):
            return self.plan.on_trades(request, self._fetch_trades(request), self._now())
        if isinstance(request, RecentRequest):
            recent = self._ask(lambda: self._past_trades.recent(request.symbol))
            return self.plan.on_recent(request, recent, self._now())
        rows = self._ask(lambda: self._past_trades.aggregates(request))
        return self.plan.on_aggregates(request, rows, self._now())

    def _report_key_problem(self) -> None:
        """Say once that single trades of old cannot be had for want of an API key."""
        problem = self.plan.key_problem
        if problem is not None and problem != self._said_of_key:
            self._limited.warning(
                "old_trades_need_key",
                "lost trades that are older than the newest ones cannot be had singly",
                error=problem,
            )
        self._said_of_key = problem or self._said_of_key

    def newest_ids_weight(self, count: int) -> int:
        """Return what newest_ids() of so many symbols costs of the minute's weight."""
        return self._newest_trades.weight(count)

    def newest_ids(self, symbols: Sequence[str]) -> NewestIds:
        """Return the newest id of each of *symbols* that the exchange names.

        Raises RestError, also for an answer that does not say when it was given; NotOfferedError
        for a host that does not answer this.
        """
        try:
            return self._ask(lambda: self._newest_trades.ids(symbols))
        except RefusedNamesError:  # a delisted symbol, say: the next request names none
            if self._budget.wait_ms(self.newest_ids_weight(len(symbols)), self._now()):
                raise
            return self._ask(lambda: self._newest_trades.ids(symbols))

    def _fetch_trades(self, request: TradesRequest) -> list[TradeRange]:
        try:
            return self._ask(lambda: self._past_trades.trades(request))
        except RestError as error:
            if error.status == _NOT_FOUND:
                self.plan.record_missing_endpoint(self._now())
            elif error.status == _UNAUTHORIZED or error.is_for_the_key:
                self.plan.record_refused_key(self._now())
            raise

    def _ask(self, request: Callable[[], T]) -> T:
        return ask(request, self._rest, self._budget, self._now)
