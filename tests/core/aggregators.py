"""Aggregators, and what they are given and give, for the tests of the core."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from bintrades.core.aggregator import Aggregator
from bintrades.core.backfill_result import BackfillResult
from bintrades.core.gap_ranges import DISORDER_MS
from bintrades.core.write_batch import WriteBatch
from bintrades.model import (
    Gap,
    TradeRange,
)
from tests.strategies import (
    INTERVAL,
    SYMBOLS,
    Step,
    Written,
    spot_series,
)

if TYPE_CHECKING:
    from bintrades.model import Bar, Trade

GRACE = 500
LOOK = 5_000
MINUTE = 60_000
SLOW = 15  # of ten seconds: the clock is carried forward a thousandth slower than time passes
BTC, ETH, UNICODE = SYMBOLS


def new_aggregator(now: int = 0) -> Aggregator:
    """Return an aggregator with one connection that carries all symbols."""
    aggregator = Aggregator(spot_series(SYMBOLS), interval_ms=INTERVAL, grace_ms=GRACE)
    aggregator.connected(SYMBOLS, now)
    return aggregator


def resumed(written: Written, now: int = 0) -> Aggregator:
    """Return an aggregator that goes on from what was written."""
    aggregator = Aggregator(spot_series(SYMBOLS), interval_ms=INTERVAL, grace_ms=GRACE)
    aggregator.resume(written.checkpoints)
    aggregator.connected(SYMBOLS, now)
    return aggregator


def start_gap(last_id: int, since: int, first_time: int) -> Gap:
    """Return the gap from the beginning to a first trade at *first_time*."""
    return Gap.beginning(last_id, since, first_time + DISORDER_MS)


def written_after(aggregator: Aggregator, *, is_last: bool = True) -> Written:
    """Return what is written after everything was collected."""
    written = Written()
    written.pending.update(aggregator.collect(is_last=is_last))
    written.write()
    return written


def finished(aggregator: Aggregator) -> list[Bar]:
    """Return the bars that the aggregator has ready for the stores."""
    return list(aggregator.collect().finished.values())


def collected(aggregator: Aggregator, what: str, now: int) -> WriteBatch:
    """Return what is to be written down, as the recorder would ask for it."""
    match what:
        case "everything":
            return aggregator.collect()
        case "due":
            return aggregator.collect_due(now)
        case "bars":
            return aggregator.collect_bars()
        case "one":
            return aggregator.collect_bars(1)
    return WriteBatch()


def play(steps: list[Step], *, is_restarting: bool) -> Written:
    """Take *steps* as the recorder would, then once more all that was lost by the restarts."""
    written = Written()
    aggregator = new_aggregator()
    now = 0
    for step in steps:
        aggregator.add(step.trades, now)
        now += step.pause_ms
        aggregator.advance(now)
        written.pending.update(collected(aggregator, step.collects, now))
        if step.is_written:
            written.write()
        if is_restarting and step.is_restarted:
            written.pending = WriteBatch()
            aggregator = resumed(written, now)
    if is_restarting:
        for step in steps:
            aggregator.add(step.trades, now)
            aggregator.advance(now)
    written.pending.update(aggregator.collect(is_last=True))
    written.write()
    return written


def run_of(*parts: Trade) -> TradeRange:
    """Return trades of one taker as the exchange's aggregate of them."""
    first, last = parts[0], parts[-1]
    quantity = sum((trade.quantity for trade in parts), Decimal(0))
    return TradeRange(
        first.trade_id, last.trade_id, first.price, quantity, first.time, first.is_buyer_maker
    )


def repaired(aggregator: Aggregator, *runs: TradeRange, symbol: str = BTC, **changes: Any) -> None:
    """Have the exchange answer about the newest gap."""
    gap = aggregator.series[symbol].gap_set.missing[-1]
    aggregator.fill(BackfillResult(symbol, gap, runs, **changes))
