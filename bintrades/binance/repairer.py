"""The repairer thread: carries out the plan's requests within the budget.

What it fetches goes into the same inbox as what the streams bring, one page at a time, so that it
cannot crowd out live trades.
"""

from __future__ import annotations

import logging
import queue
import threading
from typing import TYPE_CHECKING, TypeVar

from bintrades.binance.budget import BLOCKED, Budget
from bintrades.binance.events import Blocked, Event, Newest
from bintrades.binance.rest import RestClient, RestError
from bintrades.clocks import now_ms, utc_ms
from bintrades.logs import LimitedLog
from bintrades.repair import Repaired, TradesTask
from bintrades.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bintrades.binance.history import History
    from bintrades.model import Gap
    from bintrades.repair import AggregatesTask, RepairPlan

log = logging.getLogger(__name__)

T = TypeVar("T")

_LOOK_EVERY_S = 0.25
_AUDIT_EVERY_MS = 400  # a tenth of the exchange's limit at the most
_MINUTE_MS = 60_000


class Repairer(Worker):
    """Asks for what is missing, for ever; *clock* gives the exchange's time, 0 while unknown."""

    def __init__(
        self,
        rest: RestClient,
        history: History,
        plan: RepairPlan,
        budget: Budget,
        *,
        put: Callable[[Event], None],
        clock: Callable[[], int],
        on_failure: Callable[[str], None],
    ) -> None:
        super().__init__("repairer", on_failure)
        self.request_count = 0
        self.last_error: str | None = None  # None: the last request was answered
        self._rest = rest
        self._history = history
        self._plan = plan
        self._budget = budget
        self._put = put
        self._clock = clock
        self._updates: queue.SimpleQueue[tuple[str, tuple[Gap, ...]] | None] = queue.SimpleQueue()
        self._quiet: dict[str, None] = {}
        self._audited_at = 0
        self._stopping = threading.Event()
        self._limited = LimitedLog(log, every_s=60.0)

    def tell(self, symbol: str, gaps: Iterable[Gap]) -> None:
        """Say what is missing of *symbol* now. Called by the aggregator's thread."""
        self._updates.put((symbol, tuple(gaps)))

    def suspect(self, symbols: Iterable[str]) -> None:
        """Have the exchange asked whether *symbols* are quiet or their streams dead. Any thread."""
        self._quiet.update(dict.fromkeys(symbols))

    def stop(self) -> None:
        """End after the request that is under way. Any thread."""
        self._stopping.set()
        self._updates.put(None)

    def run(self) -> None:
        """Ask, one request at a time, until stopped."""
        while not self._stopping.is_set():
            self._take_updates(wait=not self._work())

    def _take_updates(self, *, wait: bool) -> None:
        try:
            update = self._updates.get(timeout=_LOOK_EVERY_S if wait else 0.0)
            while update is not None:
                self._plan.update(*update, now_ms())
                update = self._updates.get_nowait()
        except queue.Empty:
            pass

    def _work(self) -> bool:
        """Do one thing; return whether there was one."""
        clock = self._clock()
        task = self._plan.next_task(now_ms(), clock) if clock else None
        if task is None:
            return self._audit()
        if not isinstance(task, Repaired):
            if not self._wait_for_budget(self._history.weight(task)):
                return False
            task = self._carry_out(task)
        self._put(task)
        return True

    def _carry_out(self, task: TradesTask | AggregatesTask) -> Repaired:
        try:
            if isinstance(task, TradesTask):
                runs = self._ask(lambda: self._history.trades(task))
                return self._plan.trades_came(task, runs, now_ms())
            rows = self._ask(lambda: self._history.aggregates(task))
            return self._plan.aggregates_came(task, rows, now_ms())
        except RestError as error:
            return self._plan.failed(task, str(error), now_ms())

    def _audit(self) -> bool:
        """Ask about one quiet symbol, if any and if the last time is long enough ago."""
        now = now_ms()
        if not self._quiet or now - self._audited_at < _AUDIT_EVERY_MS:
            return False
        if not self._wait_for_budget(self._history.newest_weight):
            return False
        self._audited_at = now
        symbol = next(iter(self._quiet))
        del self._quiet[symbol]
        try:
            run = self._ask(lambda: self._history.newest(symbol))
        except RestError:
            return True  # said in the log; the symbol is suspected again if it stays quiet
        if run is not None:
            self._put(Newest(symbol, run.last_id, run.time))
        return True

    def _ask(self, request: Callable[[], T]) -> T:
        """Carry out *request* and keep the books; raises RestError."""
        self.request_count += 1
        try:
            answer = request()
        except RestError as error:
            self.last_error = str(error)
            self._limited.warning(
                "a request for lost trades failed; it is made again", error=str(error)
            )
            if error.status in BLOCKED:
                self._budget.note_refusal(error.status, error.retry_after_s, utc_ms())
                self._put(Blocked(self._budget.blocked_until))
            raise
        finally:
            if self._rest.used_weight is not None:
                self._budget.note_used(self._rest.used_weight, utc_ms())
        self.last_error = None
        return answer

    def _wait_for_budget(self, weight: int) -> bool:
        """Wait until a request of *weight* may be made; False when stopped before."""
        while wait_ms := self._budget.wait_ms(weight, utc_ms()):
            if self._stopping.is_set():
                return False
            if wait_ms > _MINUTE_MS:
                self._limited.warning(
                    "no lost trades are asked for, since the exchange refuses requests",
                    seconds=wait_ms // 1000,
                    error=self.last_error,
                )
            self._take_updates(wait=True)
        return not self._stopping.is_set()
