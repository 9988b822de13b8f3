"""The turns of the audit: which symbol is compared when, and what follows from it. No thread."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bintrades.core.audit_schedule import AuditSchedule, AuditTimes, Suspect, next_page
from bintrades.core.spans import has, minus, union, whole
from bintrades.core.verification import Outcome
from bintrades.errors import ExchangeError, JournalError
from bintrades.model import DifferenceOutcome
from bintrades.pipeline.audit.findings import FindingCounts
from bintrades.pipeline.audit.reference import BudgetSpent
from bintrades.pipeline.audit.repair import Repair
from bintrades.util.backoff import Backoff
from bintrades.util.logs import LimitedLog
from bintrades.util.runtime import SYSTEM, Runtime
from bintrades.util.text import storable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bintrades.core.spans import Span
    from bintrades.core.verification import Comparison
    from bintrades.model import SeriesKey
    from bintrades.pipeline.audit.comparer import Comparer
    from bintrades.pipeline.audit.findings import Findings

log = logging.getLogger(__name__)

POLL_EVERY_MS = 250
_FIRST_RETRY_S, _LONGEST_RETRY_S = 5.0, 300.0


@dataclass(frozen=True, slots=True)
class AuditSnapshot:
    """What the audit has done; counts are since the start, times on the exchange's clock."""

    request_count: int = 0
    symbols: int = 0  # of which something can be compared
    verified_until: int | None = None
    """Before it all that can be compared is verified, or differs on record; None: not known yet."""

    counts: FindingCounts = field(default_factory=FindingCounts)
    error: str | None = None  # of the last request, or of the journal
    failed_count: int = 0  # of the requests


class Audit:
    """Compares one page of a symbol after the other. Every call comes from one thread.

    *exchange_time* gives the exchange's clock, 0 while unknown; *series* says which series the
    trades of a symbol are.
    """

    def __init__(
        self,
        symbols: Sequence[str],
        comparer: Comparer,
        findings: Findings,
        *,
        series: Callable[[str], SeriesKey],
        exchange_time: Callable[[], int],
        times: AuditTimes,
        runtime: Runtime = SYSTEM,
    ) -> None:
        self._comparer = comparer
        self._findings = findings
        self._exchange_time = exchange_time
        self._times = times
        self._now = runtime.now
        self._schedule = AuditSchedule(symbols, times, self._now())
        self._repair = Repair(comparer, findings, self._schedule, times, series)
        self._verified_until: dict[str, int] = {}
        self._rests_until = self._now()  # nothing is asked before
        self._backoff = Backoff(_FIRST_RETRY_S, _LONGEST_RETRY_S, runtime.rng)
        self._limited = LimitedLog(log, every_s=60.0)
        self._error: str | None = None
        self._failed_count = 0
        self._symbols = dict.fromkeys(symbols)
        self._ended: dict[str, int] = {}  # symbols of those that have left, and when; monotonic
        self.snapshot = AuditSnapshot()
        """The figures of this moment. Any thread."""

    def add(self, symbols: Iterable[str]) -> None:
        """Compare *symbols* as well from now on."""
        for symbol in symbols:
            self._ended.pop(symbol, None)
            if symbol not in self._symbols:
                self._symbols[symbol] = None
                self._schedule.give_turn(symbol, self._now() + self._times.behind_ms)

    def end(self, symbols: Iterable[str]) -> None:
        """Compare what there is of *symbols*, and nothing of them when that is old enough."""
        self._ended.update(dict.fromkeys(symbols, self._now()))

    def step(self) -> int:
        """Do one thing, if one is due; return how long to wait before the next, milliseconds."""
        now = self._now()
        clock = self._exchange_time()
        if not clock or now < self._rests_until:
            return POLL_EVERY_MS
        due = self._schedule.next(now)
        if due is None:
            return max(1, min(self._schedule.wait_ms(now), POLL_EVERY_MS))
        try:
            if isinstance(due, Suspect):
                self._repair.take(due, clock, now)
            else:
                self._take_turn(due, clock, now)
        except BudgetSpent as spent:
            if spent.is_in_vain and isinstance(due, Suspect):
                self._schedule.give_up(due, now)
            else:
                self._schedule.put_back()
                self._rests_until = now + spent.wait_ms
        except (ExchangeError, JournalError) as error:
            self._failed_count += isinstance(error, ExchangeError)
            if isinstance(due, str) and self._is_over(due, now):
                self._forget(due)  # the exchange may know it no longer
                return 0
            self._put_back(due, now + self._times.again_ms)
            self.fail(str(error), self._backoff.next_wait_s())
        except BaseException:
            self._put_back(due, now + self._times.every_ms)
            raise
        else:
            self._backoff.reset()
            self._error = None
        self._publish()
        return 0

    def fail(self, error: str, rest_s: float = _LONGEST_RETRY_S) -> None:
        """Record that nothing could be compared, and rest for a while."""
        self._rests_until = self._now() + int(1000 * rest_s)
        self._error = storable(error)
        self._limited.warning(
            "audit_failed",
            "bars cannot be compared with the exchange's klines now; it is tried again",
            error=error,
        )
        self._publish()

    def _put_back(self, due: Suspect | str, at: int) -> None:
        if isinstance(due, Suspect):
            self._schedule.add_suspect(due, at)
        else:
            self._schedule.give_turn(due, at)

    def _take_turn(self, symbol: str, clock: int, now: int) -> None:
        """Compare the oldest page of *symbol* that is not verified."""
        comparer, reader = self._comparer, self._comparer.reader
        comparable = comparer.comparable(symbol, clock)
        within = (comparable[0][0], comparable[-1][1]) if comparable else (0, 0)
        verified = whole(reader.verified(symbol, within), comparer.unit_ms)
        stays = self._units_that_stay(symbol, within)
        surplus = self._units_with_surplus(symbol, within)
        left_out = union([*minus(stays, surplus), *self._schedule.left_out(symbol, now)])
        has_more = False
        if page := next_page(comparable, [*verified, *left_out], comparer.page_ms):
            span, has_more = page
            looked = comparer.compare(symbol, span, comparable)
            verified += self._conclude(symbol, looked, left_out, clock, now)
        if comparable:
            left = minus(comparable, [*verified, *stays, *surplus])
            self._verified_until[symbol] = left[0][0] if left else comparable[-1][1]
        if not has_more and self._is_over(symbol, now):
            self._forget(symbol)
            return
        wait = self._times.every_ms if comparable else self._times.again_ms
        wait = self._times.backlog_ms if has_more else wait
        self._schedule.give_turn(symbol, now + wait)

    def _is_over(self, symbol: str, now: int) -> bool:
        """Whether a symbol has left, for so long that its last bars could be compared."""
        ended_at = self._ended.get(symbol)
        return ended_at is not None and now - ended_at >= 2 * self._times.behind_ms

    def _forget(self, symbol: str) -> None:
        """Give a symbol no further turn."""
        for known in (self._symbols, self._ended, self._verified_until):
            known.pop(symbol, None)
        self._schedule.forget(symbol)

    def _units_that_stay(self, symbol: str, within: Span) -> list[Span]:
        """Return the units of *symbol* that will always differ."""
        unit = self._comparer.unit_ms
        starts = [
            each.open_time_ms // unit * unit
            for each in self._comparer.reader.differences(symbol, within)
            if each.outcome is DifferenceOutcome.STAYS
        ]
        return [(start, start + unit) for start in starts]

    def _units_with_surplus(self, symbol: str, within: Span) -> list[Span]:
        """Return the units of *symbol* with a bar of that time where the exchange has no trades.

        They are compared now and then: it may have some there one day.
        """
        unit = self._comparer.unit_ms
        starts = [time // unit * unit for time in self._comparer.surplus(symbol, within)]
        return [(start, start + unit) for start in starts]

    def _conclude(
        self,
        symbol: str,
        looked: Sequence[Comparison],
        left_out: Sequence[Span],
        clock: int,
        now: int,
    ) -> list[Span]:
        """Record what a page has shown, but of what was *left_out*; return what is verified."""
        spans: dict[Outcome, list[Span]] = {outcome: [] for outcome in Outcome}
        for each in looked:
            spans[each.outcome].append((each.open_time_ms, each.open_time_ms + each.interval_ms))
        equal = union(spans[Outcome.EQUAL])
        self._findings.add_equal(
            symbol,
            equal,
            clock,
            self._comparer.read_through,
            but_for_surplus=spans[Outcome.SURPLUS],
        )
        for span in (*spans[Outcome.DIFFERENT], *spans[Outcome.SUSPECT]):
            if not has(left_out, span):
                self._schedule.add_suspect(Suspect(symbol, span), now + self._times.again_ms)
        unclear = [
            span
            for outcome in (Outcome.NO_KLINE, Outcome.INCOMPLETE, Outcome.SURPLUS)
            for span in spans[outcome]
        ]
        self._schedule.postpone(symbol, minus(unclear, left_out), now)
        return equal

    def _publish(self) -> None:
        self.snapshot = AuditSnapshot(
            self._comparer.reference.request_count,
            len(self._verified_until),
            min(self._verified_until.values(), default=None),
            self._findings.counts,
            self._error,
            self._failed_count,
        )
