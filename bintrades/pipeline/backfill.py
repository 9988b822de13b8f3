"""Missing trades asked for within the rate limit, one request at a time. No thread.

What the exchange answers goes into the same inbox as what the streams bring, one page at a time,
so that it cannot crowd out live trades.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Generic

from bintrades.core.backfill_result import BackfillResult
from bintrades.core.ban import Ban
from bintrades.errors import ExchangeError
from bintrades.exchange.events import Event, LatestTrade, RateLimited
from bintrades.exchange.port import RequestT
from bintrades.util.logs import LimitedLog
from bintrades.util.runtime import SYSTEM, Runtime
from bintrades.util.text import storable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bintrades.exchange.port import History, RateBudget
    from bintrades.model import GapSet

log = logging.getLogger(__name__)

POLL_EVERY_MS = 250
"""How often a plan without a request that is due is asked again."""

_IDLE_CHECK_EVERY_MS = 400  # a tenth of the exchange's limit at the most
_LONG_WAIT_MS = 60_000


class Backfill(Generic[RequestT]):
    """Asks for what is missing. Every call comes from one thread.

    *exchange_time* gives the exchange's clock, 0 while unknown.
    """

    def __init__(
        self,
        history: History[RequestT],
        budget: RateBudget,
        *,
        put: Callable[[Event], None],
        exchange_time: Callable[[], int],
        runtime: Runtime = SYSTEM,
        poll_every_ms: int = POLL_EVERY_MS,
    ) -> None:
        self.request_count = 0
        self._history = history
        self._plan = history.plan
        self._budget = budget
        self._put = put
        self._exchange_time = exchange_time
        self._now = runtime.now
        self._utc = runtime.utc
        self._poll_every = poll_every_ms
        self._idle_symbols: dict[str, None] = {}
        self._idle_check_at = 0
        self._banned_until = self._end_of_ban()
        self._limited = LimitedLog(log, every_s=60.0)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be asked."""
        return not self._idle_symbols and self._plan.is_empty

    def update(self, gaps: GapSet) -> None:
        """Take over what is missing of a symbol."""
        self._plan.update(gaps, self._now())

    def check_idle(self, symbols: Iterable[str]) -> None:
        """Have the exchange asked whether *symbols* are idle or their streams dead."""
        self._idle_symbols.update(dict.fromkeys(symbols))

    def step(self) -> int:
        """Do one thing, if there is one; return how long to wait before the next, milliseconds."""
        if self._idle_symbols and self._now() - self._idle_check_at >= _IDLE_CHECK_EVERY_MS:
            return self._check_idle_symbol()
        time = self._exchange_time()
        request = self._plan.next_request(self._now(), time) if time else None
        if request is None:
            return self._poll_every
        if isinstance(request, BackfillResult):
            self._put(request)
            return 0
        if wait := self._wait_for_budget(self._history.weight(request)):
            self._plan.put_back(request)  # the gap may fill, or grow too old, meanwhile
            return wait
        self._put(self._fetch(request))
        return 0

    def _fetch(self, request: RequestT) -> BackfillResult:
        self.request_count += 1
        try:
            return self._history.fetch(request)
        except ExchangeError as error:
            self._log_failure(error)
            return self._plan.failed(request, storable(str(error)), self._now())
        finally:
            self._publish_ban()

    def _check_idle_symbol(self) -> int:
        """Ask about one idle symbol; return how long to wait, milliseconds."""
        if wait := self._wait_for_budget(self._history.latest_trade_weight):
            return wait
        self._idle_check_at = self._now()
        symbol = next(iter(self._idle_symbols))
        del self._idle_symbols[symbol]
        self.request_count += 1
        try:
            latest = self._history.latest_trade(symbol)
        except ExchangeError as error:
            self._log_failure(error)  # the symbol is checked again if it stays idle
        else:
            if latest is not None:
                self._put(LatestTrade(symbol, latest.last_id, latest.time, self._now()))
        finally:
            self._publish_ban()
        return 0

    def _publish_ban(self) -> None:
        """Have a ban outlast the process."""
        banned_until = self._end_of_ban()
        if banned_until > self._banned_until:
            self._banned_until = banned_until
            self._put(RateLimited(Ban.for_the_next(banned_until - self._now(), self._utc())))

    def _end_of_ban(self) -> int:
        """Return when the present ban ends, monotonic; 0: there is none."""
        now = self._now()
        left = self._budget.banned_for(now)
        return now + left if left else 0

    def _log_failure(self, error: ExchangeError) -> None:
        self._limited.warning(
            "backfill_failed",
            "a request for lost trades failed; it is made again",
            error=str(error),
        )

    def _wait_for_budget(self, weight: int) -> int:
        """Spend *weight* and return 0, or return how long to wait, no longer than a poll."""
        wait = self._budget.wait_ms(weight, self._now())
        if wait > _LONG_WAIT_MS:
            self._limited.warning(
                "backfill_rate_limited",
                "no lost trades are asked for, since the exchange refuses requests",
                seconds=wait // 1000,
                error=self._budget.last_error,
            )
        return min(wait, self._poll_every)
