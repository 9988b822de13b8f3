"""An audit of a real journal, step by step, at times of the test's choosing."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bintrades.core.audit_result import BarRebuilt, BarsAudited
from bintrades.core.audit_schedule import AuditTimes
from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.exchange.binance.budget import Budget
from bintrades.journal.reader import JournalReader
from bintrades.pipeline.audit.audit import Audit
from bintrades.pipeline.audit.comparer import Comparer
from bintrades.pipeline.audit.covered import covered_spans
from bintrades.pipeline.audit.findings import Findings
from bintrades.pipeline.audit.reference import LimitedReference
from bintrades.pipeline.audit.weight_share import WeightShare
from bintrades.util.runtime import Runtime
from tests.journals import by_key
from tests.references import TradesReference
from tests.strategies import INTERVAL, START, bars_of, make_trade, spot_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bintrades.core.spans import Span
    from bintrades.exchange.events import Event
    from bintrades.journal.writer import Journal
    from bintrades.model import Bar, Trade

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
TIMES = AuditTimes()
BTC = "BTCUSDT"


def market(minutes: int = 10, *, symbol: str = BTC, seed: int = 1) -> list[Trade]:
    """Return trades of some minutes; some intervals and some minutes have none."""
    rng = random.Random(seed)
    times = sorted(
        START + rng.randrange(minutes * MINUTE) for _ in range(minutes * rng.randrange(3, 12))
    )
    return [
        make_trade(
            1_000 + place,
            time,
            symbol=symbol,
            price=f"{rng.randrange(1, 10**6)}E-4",
            quantity=f"{rng.randrange(1, 10**8)}E-8",
            is_buyer_maker=rng.random() < 0.5,
        )
        for place, time in enumerate(times)
    ]


class AuditStage:
    """A journal that has the bars of *trades*, and the audit of it; time moves by wait()."""

    def __init__(
        self,
        journal: Journal,
        trades: Sequence[Trade],
        *,
        minutes: int = 10,
        interval_ms: int = INTERVAL,
        mistake: Callable[[Bar], Bar | None] = lambda bar: bar,
        weight: int = 6_000,
        share: int = 300,
        times: AuditTimes = TIMES,
        reference: TradesReference | None = None,
    ) -> None:
        self.journal = journal
        self.reader = JournalReader(journal.path)
        self.symbols = sorted({trade.symbol for trade in trades})
        self.reference = reference or TradesReference(trades)
        self.end = START + minutes * MINUTE
        self.clock = self.end + times.behind_ms
        self.now = 0
        self.covered: dict[str, Sequence[Span]] = {
            symbol: [(START, self.end)] for symbol in self.symbols
        }
        """What is covered of each symbol; without an entry it is what the journal says."""
        self.takes_events = True
        self.before_commit: Callable[[Event], None] = lambda _: None
        self.events: list[Event] = []
        self.interval_ms = interval_ms
        self._write_bars(trades, mistake)
        runtime = Runtime(now=lambda: self.now, utc=lambda: self.clock)
        self.budget = Budget(weight, 100)
        limited = LimitedReference(
            self.reference,
            WeightShare(self.budget, share),
            self.budget,
            put=self._put,
            runtime=runtime,
        )
        comparer = Comparer(
            self.reader,
            limited,
            self._covered,
            interval_ms=interval_ms,
            behind_ms=times.behind_ms,
        )
        self.audit = Audit(
            self.symbols,
            comparer,
            Findings(self.reader, self._put),
            series=spot_key,
            exchange_time=lambda: self.clock,
            times=times,
            runtime=runtime,
        )

    def _write_bars(self, trades: Iterable[Trade], mistake: Callable[[Bar], Bar | None]) -> None:
        trades = list(trades)
        whole = bars_of(trades, self.interval_ms).values()
        bars = [mistake(replace(bar, is_complete=True)) for bar in whole]
        next_id = max(trade.trade_id for trade in trades) + 1
        checkpoint = Checkpoint(
            LedgerState(next_id, self.end, ()), (), self.end, self.end + HOUR, START
        )
        batch = WriteBatch(
            finished=by_key(bar for bar in bars if bar is not None),
            checkpoints=dict.fromkeys(self.symbols, checkpoint),
        )
        self.journal.write(batch, self.end)

    def _covered(self, symbol: str) -> Sequence[Span]:
        known = self.covered.get(symbol)
        return covered_spans(self.reader, symbol) if known is None else known

    def _put(self, event: Event) -> None:
        """Take an event as the Ingest does, written at once."""
        self.events.append(event)
        if not self.takes_events:
            return
        self.before_commit(event)
        if isinstance(event, BarRebuilt):
            self.journal.write(WriteBatch(rebuilt=by_key([event.bar])), self.clock)
        elif isinstance(event, BarsAudited):
            self.journal.write(WriteBatch(audited=[event]), self.clock)

    def wait(self, ms: int) -> None:
        """Have time pass, and the audit do all that is due meanwhile."""
        end = self.now + ms
        while self.now < end:
            wait = self.audit.step()
            passed = min(wait, end - self.now)
            self.now += passed
            self.clock += passed

    def stored(self, symbol: str = BTC) -> list[Bar]:
        """Return what the journal has."""
        return self.reader.bars(symbol, 0, 2**62, 2**31)

    def verified(self, symbol: str = BTC) -> list[Span]:
        """Return what is verified."""
        return self.reader.verified(symbol)
