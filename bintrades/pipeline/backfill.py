"""Missing trades asked for within the rate limit, one request at a time. No thread.

What the exchange answers goes into the same inbox as what the streams bring, one page at a time,
so that it cannot crowd out live trades.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Generic

from bintrades.core.backfill_result import BackfillResult
from bintrades.core.ban import Ban
from bintrades.errors import ExchangeError, NotOfferedError
from bintrades.exchange.events import Event, RateLimited
from bintrades.exchange.port import RequestT
from bintrades.util.backoff import Backoff
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

_FIRST_RETRY_S, _LONGEST_RETRY_S = 5.0, 60.0  # of the newest ids
_NOT_OFFERED_WAITS_MS = (60_000, 600_000, 3_600_000)  # until a host that had none is asked again
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
        self.request_count = 0  # of both kinds: for what is missing, for the newest ids
        self.failed_count = 0
        self.newest_ids_count = 0  # of these, those for the newest ids
        self.newest_ids_failed_count = 0
        self._history = history
        self._plan = history.plan
        self._budget = budget
        self._put = put
        self._exchange_time = exchange_time
        self._now = runtime.now
        self._utc = runtime.utc
        self._poll_every = poll_every_ms
        self.proof_error: str | None = None  # why the newest ids are not known; None: they are
        self._unproven: dict[str, None] = {}
        self._has_newest_ids = False  # whether the host has ever named them
        self._not_offered_count = 0  # how often it has said that it has none, before
        self._newest_ids_at = 0  # not before they are asked for again
        self._is_turn_of_gaps = False  # they were asked for last
        self._proof_backoff = Backoff(_FIRST_RETRY_S, _LONGEST_RETRY_S, runtime.rng)
        self._banned_until = self._end_of_ban()
        self._limited = LimitedLog(log, every_s=60.0)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be asked."""
        return not self._unproven and self._plan.is_empty

    def update(self, gaps: GapSet) -> None:
        """Take over what is missing of a symbol."""
        self._plan.update(gaps, self._now())

    def prove(self, symbols: Iterable[str]) -> None:
        """Have the exchange asked for the newest trades of *symbols*."""
        self._unproven.update(dict.fromkeys(symbols))

    def step(self) -> int:
        """Do one thing, if there is one; return how long to wait before the next, milliseconds.

        The newest ids and what is missing take turns: where the exchange answers slowly, either
        may be wanted again by the time that it has been had.
        """
        is_proof_due = bool(self._unproven) and self._now() >= self._newest_ids_at
        if is_proof_due and not self._is_turn_of_gaps:
            self._is_turn_of_gaps = True
            return self._ask_for_newest_ids()
        time = self._exchange_time()
        request = self._plan.next_request(self._now(), time) if time else None
        if request is None:
            return self._ask_for_newest_ids() if is_proof_due else self._poll_every
        self._is_turn_of_gaps = False
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
            self.failed_count += 1
            self._log_failure(error)
            return self._plan.failed(request, storable(str(error)), self._now())
        finally:
            self._publish_ban()

    def _ask_for_newest_ids(self) -> int:
        """Ask for the newest trades of all symbols that need it; return how long to wait."""
        symbols = list(self._unproven)
        if wait := self._wait_for_budget(self._history.newest_ids_weight(len(symbols))):
            return wait
        self.request_count += 1
        self.newest_ids_count += 1
        try:
            newest = self._history.newest_ids(symbols)
        except ExchangeError as error:
            self.failed_count += 1
            self.newest_ids_failed_count += 1
            self._put_off_newest_ids(error)
        else:
            self._unproven.clear()
            self._proof_backoff.reset()
            self._has_newest_ids = True
            self.proof_error = None
            self._put(newest)
        finally:
            self._publish_ban()
        return 0

    def _put_off_newest_ids(self, error: ExchangeError) -> None:
        """Ask for them again later: much later where the host has no such thing."""
        self.proof_error = storable(str(error))
        wait_ms = int(self._proof_backoff.next_wait_s() * 1000)
        if isinstance(error, NotOfferedError) and not self._has_newest_ids:
            last = len(_NOT_OFFERED_WAITS_MS) - 1
            wait_ms = _NOT_OFFERED_WAITS_MS[min(self._not_offered_count, last)]
            self._not_offered_count += 1
        self._newest_ids_at = self._now() + wait_ms
        self._limited.warning(
            "newest_ids_failed",
            "the exchange does not say which trades are its newest: until it does, bars of quiet"
            " symbols are not proven to be complete, and say so",
            error=str(error),
            seconds=wait_ms // 1000,
        )

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
