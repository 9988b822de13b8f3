"""What gaps that are never repaired cost: nothing at a write, little when one of them changes."""

from __future__ import annotations

import statistics
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
from tests.line_meter import lines_run
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

    def record(self, *, skip: int = 0, late: Gap | None = None) -> int:
        """Have a trade come and be written; return the lines of Python that this ran."""
        self.time += INTERVAL_MS
        trade = make_trade(self.next_id + skip, self.time)
        if late is None:
            self.next_id = trade.trade_id + 1
        else:
            trade = make_trade(late.first_id, late.since_ms)

        def write() -> None:
            self.aggregator.add([trade], self.time)
            self.recording.tick(self.time, is_caught_up=True)

        return lines_run(write)


def costs(use: Callable[[Collector], int], path: Path) -> list[float]:
    """Return what *use* costs, with few gaps and with many: medians."""
    collectors = [Collector(path / str(count), count) for count in (FEW, MANY)]
    try:
        return [statistics.median(use(each) for _ in range(20)) for each in collectors]
    finally:
        for collector in collectors:
            collector.context.__exit__(None, None, None)


def test_gaps_that_do_not_change_cost_nothing_at_each_write(tmp_path: Path) -> None:
    few, many = costs(Collector.record, tmp_path)

    assert many == few


@pytest.mark.parametrize("change", ["one more", "one less"])
def test_a_gap_that_changes_costs_hardly_more_where_there_are_thousands_of_others(
    tmp_path: Path, change: str
) -> None:
    def use(collector: Collector) -> int:
        if change == "one more":
            return collector.record(skip=1)
        gaps = collector.aggregator.series["BTCUSDT"].gap_set.missing
        return collector.record(late=gaps[len(gaps) // 2])

    few, many = costs(use, tmp_path)

    assert many < few + 0.01 * MANY, "a longer search, nothing for each gap"


def test_a_checkpoint_of_the_same_gaps_is_equal_without_a_look_at_them() -> None:
    gaps = tuple(Gap(10 * n, 10 * n, n, n, GapCause.SKIPPED) for n in range(MANY))
    one, other = (Checkpoint(LedgerState(1, 1, gaps)) for _ in range(2))

    assert lines_run(lambda: one == other) < 10
