"""The exchange's side of an audit: klines and trades, asked for within a share of the weight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bintrades.core.ban import Ban
from bintrades.exchange.events import Event, RateLimited
from bintrades.pipeline.audit.weight_share import WINDOW_MS
from bintrades.util.runtime import SYSTEM, Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bintrades.core.spans import Span
    from bintrades.exchange.port import RateBudget, Reference
    from bintrades.model import Kline, TradeRange
    from bintrades.pipeline.audit.weight_share import WeightShare

_LOOK_AGAIN_MS = 250


class BudgetSpent(Exception):  # noqa: N818 - named for what is the case
    """A request may not be made before *wait_ms* have passed.

    *is_in_vain* where that is so for the second time amidst the same answer, which has to be had
    at once: others spend what it takes.
    """

    def __init__(self, wait_ms: int, *, is_in_vain: bool = False) -> None:
        super().__init__(wait_ms)
        self.wait_ms = wait_ms
        self.is_in_vain = is_in_vain


class TooManyTrades(Exception):  # noqa: N818 - named for what is the case
    """All trades of a span are never had within the share of a minute."""


class LimitedReference:
    """A Reference of which no more is asked than a share of the weight allows.

    *may_go_on* is asked before each request. All methods raise BudgetSpent where a request may not
    be made now, and ExchangeError. Belongs to one thread.
    """

    def __init__(
        self,
        reference: Reference,
        share: WeightShare,
        budget: RateBudget,
        *,
        put: Callable[[Event], None],
        may_go_on: Callable[[], bool] = lambda: True,
        runtime: Runtime = SYSTEM,
    ) -> None:
        self.request_count = 0
        self.kline_ms, *finer = reference.kline_intervals_ms
        """The length of the klines that cover most."""
        self.fine_kline_ms = finer[-1] if finer else None
        self._reference = reference
        self._share = share
        self._budget = budget
        self._put = put
        self._may_go_on = may_go_on
        self._now = runtime.now
        self._utc = runtime.utc
        self._banned_until = self._end_of_ban()
        self._kept: dict[tuple[str, int, Span], list[Kline]] = {}  # of one span at the most
        self._asked_in_vain: tuple[str, Span] | None = None

    def klines(self, symbol: str, kline_ms: int, span: Span) -> list[Kline]:
        """Return all klines of *span*, in as many requests as it takes.

        What was had when the budget was spent is kept for the next call, if that is for the same:
        it ends, however little may be asked in a minute.
        """
        wanted = symbol, kline_ms, span
        klines = self._kept.pop(wanted, [])
        self._kept.clear()
        since, until = klines[-1].open_time_ms + kline_ms if klines else span[0], span[1]
        while since < until:
            try:
                self._ask(self._reference.klines_weight(kline_ms, since, until))
            except BudgetSpent:
                self._kept[wanted] = klines
                raise
            try:
                page = self._reference.klines(symbol, kline_ms, since, until)
            finally:
                self._publish_ban()
            if not page:
                break
            klines += page
            since = page[-1].open_time_ms + kline_ms
        return klines

    def trades_between(self, symbol: str, since: int, until: int) -> Sequence[TradeRange]:
        """Return all trades of a span, lowest id first.

        A part of them is of no use, and asked for again later. Raises TooManyTrades where that is
        in vain: those that it takes are more than the share of a minute.
        """
        waits: list[int] = []
        used = 0

        def may_ask(weight: int) -> bool:
            nonlocal used
            try:
                self._ask(weight)
            except BudgetSpent as spent:
                if used and used + weight > self._share.allowed:
                    raise TooManyTrades(symbol, since, until) from spent
                # What was had is asked for again: only with all of a minute is that of use.
                waits.append(max(spent.wait_ms, WINDOW_MS) if used else spent.wait_ms)
                return False
            used += weight
            return True

        try:
            trades = self._reference.trades_between(symbol, since, until, may_ask)
        finally:
            self._publish_ban()
        asked_in_vain, self._asked_in_vain = self._asked_in_vain, None
        if trades is None:
            wanted = symbol, (since, until)
            self._asked_in_vain = wanted if used else asked_in_vain
            is_in_vain = used > 0 and wanted == asked_in_vain
            raise BudgetSpent(max(waits, default=_LOOK_AGAIN_MS), is_in_vain=is_in_vain)
        return trades

    def _ask(self, weight: int) -> None:
        """Spend *weight* of the budget, or raise BudgetSpent."""
        if not self._may_go_on():
            raise BudgetSpent(_LOOK_AGAIN_MS)
        if wait := self._share.wait_ms(weight, self._now()):
            raise BudgetSpent(wait)
        self.request_count += 1

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
