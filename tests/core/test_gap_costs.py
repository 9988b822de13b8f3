"""What gaps that are never repaired cost: nothing at a write, little when one of them changes."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import pytest

from bintrades.core.aggregator import Aggregator
from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint
from bintrades.exchange.binance.trade_messages import decode_trades as decode
from bintrades.model import Gap, GapCause
from bintrades.pipeline.ingest import Ingest, IngestHooks
from bintrades.pipeline.proof_schedule import ProofSchedule
from bintrades.testing.bars import OPEN_TIME_MS
from tests.journals import INTERVAL_MS, finished, journal_at
from tests.strategies import make_trade, spot_series

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FEW, MANY = 100, 20_000
START = OPEN_TIME_MS + 10 * INTERVAL_MS


class Collector:
    """A recording of one symbol with gaps on record that are older than all that comes."""

    def __init__(self, path: Path, gap_count: int) -> None:
        self.next_id = 10 * gap_count + 10
        self.time = START
        gaps = tuple(
            Gap(
                10 * n,
                10 * n + 1,
                START - MANY + n,
                START - MANY + n,
                GapCause.SKIPPED,
                is_abandoned=True,
            )
            for n in range(gap_count)
        )
        with journal_at(path) as journal:
            journal.write(finished(BTCUSDT=LedgerState(self.next_id, START, gaps)), START)
        self.context = journal_at(path)
        self.journal = self.context.__enter__()
        self.aggregator = Aggregator(spot_series(["BTCUSDT"]), interval_ms=INTERVAL_MS, grace_ms=0)
        self.aggregator.resume(self.journal.checkpoints)
        self.recording = Ingest(
            self.aggregator,
            self.journal,
            IngestHooks(
                status=str,
                on_bars=lambda: None,
                on_gaps=lambda _gaps: None,
                on_unproven=lambda _symbols: None,
                on_dead_stream=lambda _symbol: None,
            ),
            decode=decode,
            proof=ProofSchedule(60_000, INTERVAL_MS),
            checkpoint_every_ms=0,
            now=START,
            utc=lambda: self.time,
        )

    def record(self, *, skip: int = 0, late: Gap | None = None) -> float:
        """Have a trade come and be written; return the seconds of CPU that it took."""
        self.time += INTERVAL_MS
        trade = make_trade(self.next_id + skip, self.time)
        if late is None:
            self.next_id = trade.trade_id + 1
        else:
            trade = make_trade(late.first_id, late.since_ms)
        started = time.process_time()
        self.aggregator.add([trade], self.time)
        self.recording.tick(self.time, is_caught_up=True)
        return time.process_time() - started


def costs(use: Callable[[Collector, int], float], path: Path) -> list[float]:
    """Return the seconds of CPU that *use* takes, with few gaps and with many: medians."""
    collectors = [Collector(path / str(count), count) for count in (FEW, MANY)]
    try:
        for collector in collectors:
            use(collector, 0)  # what is only done once
        rounds = [[use(each, number) for each in collectors] for number in range(1, 40)]
    finally:
        for collector in collectors:
            collector.context.__exit__(None, None, None)
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def test_gaps_that_do_not_change_cost_nothing_at_each_write(tmp_path: Path) -> None:
    few, many = costs(lambda collector, _: collector.record(), tmp_path)

    assert many < 1.5 * few


@pytest.mark.parametrize("change", ["one more", "one less"])
def test_a_gap_that_changes_costs_little_more_where_there_are_thousands_of_others(
    tmp_path: Path, change: str
) -> None:
    def use(collector: Collector, number: int) -> float:
        if change == "one more":
            return collector.record(skip=1)
        gaps = collector.aggregator.series["BTCUSDT"].gap_set.missing
        return collector.record(late=gaps[len(gaps) // 2])

    few, many = costs(use, tmp_path)

    assert many < few + 0.1e-6 * MANY, "copying a list of pointers, nothing for each gap"


def test_a_checkpoint_of_the_same_gaps_is_equal_without_a_look_at_them() -> None:
    gaps = tuple(Gap(10 * n, 10 * n, n, n, GapCause.SKIPPED) for n in range(MANY))
    one, other = (Checkpoint(LedgerState(1, 1, gaps)) for _ in range(2))

    started = time.process_time()
    assert all(one == other for _ in range(1_000))

    assert time.process_time() - started < 0.05, "the same tuple, so a microsecond each"
