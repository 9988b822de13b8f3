"""The plan's requests carried out within the budget, one at a time. No thread.

What the exchange answers goes into the same inbox as what the streams bring, one page at a time,
so that it cannot crowd out live trades.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

from bintrades.core.backfill_result import BackfillResult
from bintrades.exchange.ban import Ban
from bintrades.exchange.binance.backfill_plan import TradesRequest
from bintrades.exchange.binance.budget import BANS, Budget
from bintrades.exchange.binance.rest import RestClient, RestError
from bintrades.exchange.events import Event, LatestTrade, RateLimited
from bintrades.util.clocks import now_ms, utc_ms
from bintrades.util.logs import LimitedLog
from bintrades.util.text import storable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bintrades.exchange.binance.backfill_plan import AggregatesRequest, BackfillPlan
    from bintrades.exchange.binance.history import History
    from bintrades.model import Gap

log = logging.getLogger(__name__)

T = TypeVar("T")

LOOK_EVERY_MS = 250
"""How often a plan without a task that is due is asked again."""

_AUDIT_EVERY_MS = 400  # a tenth of the exchange's limit at the most
_MINUTE_MS = 60_000
_NOT_FOUND = 404


class Backfill:
    """Asks for what is missing. Every call comes from one thread.

    *clock* gives the exchange's time, 0 while unknown; *now* the monotonic and *utc* the local
    clock.
    """

    def __init__(
        self,
        rest: RestClient,
        history: History,
        plan: BackfillPlan,
        budget: Budget,
        *,
        put: Callable[[Event], None],
        clock: Callable[[], int],
        now: Callable[[], int] = now_ms,
        utc: Callable[[], int] = utc_ms,
    ) -> None:
        self.request_count = 0
        self._rest = rest
        self._history = history
        self._plan = plan
        self._budget = budget
        self._put = put
        self._clock = clock
        self._now = now
        self._utc = utc
        self._quiet: dict[str, None] = {}
        self._audited_at = 0
        self._limited = LimitedLog(log, every_s=60.0)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be asked."""
        return not self._quiet and self._plan.is_empty

    def tell(self, symbol: str, gaps: Iterable[Gap]) -> None:
        """Say what is missing of *symbol* now."""
        self._plan.update(symbol, gaps, self._now())

    def check_idle(self, symbols: Iterable[str]) -> None:
        """Have the exchange asked whether *symbols* are quiet or their streams dead."""
        self._quiet.update(dict.fromkeys(symbols))

    def step(self) -> int:
        """Do one thing, if there is one; return how long to wait before the next, milliseconds."""
        if self._quiet and self._now() - self._audited_at >= _AUDIT_EVERY_MS:
            return self._audit()
        clock = self._clock()
        task = self._plan.next_task(self._now(), clock) if clock else None
        if task is None:
            return LOOK_EVERY_MS
        if not isinstance(task, BackfillResult):
            if wait := self._wait_for_budget(self._history.weight(task)):
                self._plan.put_back(task)  # the gap may fill, or grow too old, meanwhile
                return wait
            task = self._carry_out(task)
        self._put(task)
        return 0

    def _carry_out(self, task: TradesRequest | AggregatesRequest) -> BackfillResult:
        try:
            if isinstance(task, TradesRequest):
                runs = self._ask(lambda: self._history.trades(task))
                return self._plan.trades_came(task, runs, self._now())
            rows = self._ask(lambda: self._history.aggregates(task))
            return self._plan.aggregates_came(task, rows, self._now())
        except RestError as error:
            if error.status == _NOT_FOUND and isinstance(task, TradesRequest):
                return self._plan.trades_not_found(task, storable(str(error)), self._now())
            return self._plan.failed(task, storable(str(error)), self._now())

    def _audit(self) -> int:
        """Ask about one quiet symbol; return how long to wait, milliseconds."""
        if wait := self._wait_for_budget(self._history.newest_weight):
            return wait
        self._audited_at = self._now()
        symbol = next(iter(self._quiet))
        del self._quiet[symbol]
        try:
            run = self._ask(lambda: self._history.newest(symbol))
        except RestError:
            return 0  # said in the log; the symbol is suspected again if it stays quiet
        if run is not None:
            self._put(LatestTrade(symbol, run.last_id, run.time, self._now()))
        return 0

    def _ask(self, request: Callable[[], T]) -> T:
        """Carry out *request* and keep the books; raises RestError."""
        self.request_count += 1
        self._rest.used_weight = None  # an old count is not that of this minute
        try:
            answer = request()
        except RestError as error:
            self._record_failure(error)
            raise
        finally:
            if self._rest.used_weight is not None:
                self._budget.record_weight(
                    self._rest.used_weight, self._now(), self._rest.minute_left_ms
                )
        self._budget.record_answer(self._now())
        return answer

    def _record_failure(self, error: RestError) -> None:
        now = self._now()
        self._budget.record_failure(str(error), now, error.status, error.retry_after_s)
        if error.status in BANS:
            self._put(RateLimited(Ban.for_the_next(self._budget.banned_for(now), self._utc())))
        self._limited.warning(
            "backfill_failed",
            "a request for lost trades failed; it is made again",
            error=str(error),
        )

    def _wait_for_budget(self, weight: int) -> int:
        """Spend *weight* and return 0, or return how long to wait, no longer than a look."""
        wait = self._budget.wait_ms(weight, self._now())
        if wait > _MINUTE_MS:
            self._limited.warning(
                "backfill_rate_limited",
                "no lost trades are asked for, since the exchange refuses requests",
                seconds=wait // 1000,
                error=self._budget.last_error,
            )
        return min(wait, LOOK_EVERY_MS)
