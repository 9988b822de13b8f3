"""Ids that restarted while nobody listened, and are higher than those that were had."""

from __future__ import annotations

import random
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from bintrades.core.aggregator import Aggregator
from bintrades.core.backfill_result import BackfillResult
from bintrades.core.gap_queue import FIRST_RETRY_S, LONGEST_RETRY_S
from bintrades.core.newest_ids import NewestIds
from bintrades.exchange.binance.backfill_plan import (
    Aggregate,
    AggregatesRequest,
    BackfillPlan,
    TradesRequest,
)
from bintrades.exchange.binance.spot import SPOT
from bintrades.journal.reader import JournalReader
from bintrades.model import Gap, GapCause, GapSet
from bintrades.util.backoff import Backoff
from tests.core.aggregators import written_after
from tests.journals import journal_at, stored
from tests.socketless_exchange import Database, as_run
from tests.strategies import INTERVAL, START, SYMBOLS, bars_of, make_trade, spot_series

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bintrades.core.write_batch import Checkpoint
    from bintrades.model import Trade

BTC = SYMBOLS[0]
HOUR = 3_600_000
WIPED = START + HOUR + 3_000
SECOND = 1_000


def trades_from(since: int, count: int) -> list[Trade]:
    """Return a trade each second, with ids from 0 on and prices of their own."""
    return [
        make_trade(i, since + i * SECOND, price=str(Decimal(i + 1) / 100)) for i in range(count)
    ]


class Collector:
    """An aggregator and its plan of backfill, which asks the exchange until nothing is missing."""

    def __init__(self, checkpoints: Mapping[str, Checkpoint] | None = None) -> None:
        self.aggregator = Aggregator(spot_series([BTC]), interval_ms=INTERVAL, grace_ms=500)
        if checkpoints:
            self.aggregator.resume(checkpoints)
        self.aggregator.connected([BTC], 0)
        self.plan = BackfillPlan(
            SPOT, 24 * HOUR, lambda: Backoff(FIRST_RETRY_S, LONGEST_RETRY_S, random.Random(1))
        )
        self.now = 0
        self.requests: Counter[type] = Counter()

    def hear(self, trades: Sequence[Trade]) -> None:
        """Take *trades* as a stream sends them, each when it happens."""
        for trade in trades:
            self.aggregator.add([trade], self.now)
            self.now += SECOND

    def repair(self, exchange: Sequence[Trade]) -> None:
        """Ask REST, which has the trades of *exchange*, for what is missing."""
        database = Database(exchange, page=SPOT.aggregate_trades.max_rows)
        end = self.now + HOUR
        while self.now < end:
            self.now += 250
            gaps = self.aggregator.series[BTC].gap_set
            self.plan.update(gaps, self.now)
            request = self.plan.next_request(self.now, exchange[-1].event_time)
            if request is None:
                if all(gap.is_abandoned for gap in gaps.missing):
                    return
                continue
            self.requests[type(request)] += 1
            if isinstance(request, TradesRequest):
                result = self.plan.on_trades(request, database.trades_from(request), self.now)
            elif isinstance(request, AggregatesRequest):
                rows = database.aggregates_from(request)
                result = self.plan.on_aggregates(request, rows, self.now)
            else:
                assert isinstance(request, BackfillResult)
                result = request
            self.aggregator.fill(result)
        raise AssertionError(f"still missing: {self.aggregator.series[BTC].gap_set}")


@pytest.mark.parametrize("known_count", [5, 51, 700, 1_650])
@pytest.mark.parametrize("is_word_first", [False, True])
def test_ids_that_restarted_while_away_and_are_higher_are_no_gap_of_the_ids_of_before(
    tmp_path: Path, known_count: int, is_word_first: bool
) -> None:
    old, new = trades_from(START, known_count), trades_from(WIPED, 1_820)
    with_a_gap = [trade for trade in old if trade.trade_id not in (1, 2)]
    with journal_at(tmp_path / "journal") as journal:
        before = Collector()
        before.hear(with_a_gap)
        journal.write(before.aggregator.collect(is_last=True), START)

        after = Collector(journal.checkpoints)
        if is_word_first:
            word = NewestIds({BTC: 1_699}, new[1_699].time + 6 * SECOND, 0)
            after.aggregator.on_newest_ids(word)
            after.now = 6_000
            after.aggregator.advance(after.now)
        after.hear(new[1_706:1_810])
        assert after.aggregator.renumbered == []
        after.repair(new[:1_810])
        after.hear(new[1_810:])
        journal.write(after.aggregator.collect(), START)
        (checkpoint,) = journal.checkpoints.values()
        bars = {bar.open_time_ms: bar for bar in stored(tmp_path / "journal")}
        report = JournalReader(tmp_path / "journal").coverage(BTC)

    assert after.aggregator.renumbered == [BTC]
    assert all(not gap.has_ids for gap in checkpoint.ledger.gaps), "on record, and lost for good"
    right = {key[1]: bar for key, bar in bars_of(new).items()}
    first, *others = sorted(time for time in right if time + INTERVAL <= new[-1].time)
    assert [bars[time].trade_count for time in others] == [INTERVAL // SECOND] * len(others)
    assert all(bars[time].is_complete for time in others)
    assert not bars[first].is_complete
    assert report is not None
    covered = report.coverage
    assert covered.spans[-1] == (others[0], others[-1] + INTERVAL)
    assert covered.holes[-1].until_ms == others[0]
    lost_since = old[-1].time - old[-1].time % INTERVAL
    assert covered.holes[-1].since_ms <= lost_since


def test_an_ordinary_gap_costs_no_request_more_than_itself() -> None:
    happened = trades_from(START, 5_000)
    collector = Collector()
    collector.hear([*happened[:20], *happened[500:510]])
    collector.repair(happened)
    collector.hear(happened[4_900:])
    collector.repair(happened)

    assert collector.requests == {TradesRequest: 2, AggregatesRequest: 4}
    assert collector.aggregator.series[BTC].gap_set.missing == ()


def test_ids_that_restarted_and_are_lower_are_noticed_by_the_gaps_of_the_ids_of_before() -> None:
    old, new = trades_from(START, 900), trades_from(WIPED, 800)
    collector = Collector()
    collector.hear([*old[:300], *old[400:]])
    missing = collector.aggregator.series[BTC].gap_set.missing

    collector.repair(new)

    assert collector.aggregator.renumbered == [BTC]
    lost = collector.aggregator.series[BTC].gap_set.missing
    assert (missing[0].since_ms, missing[0].until_ms) in [(g.since_ms, g.until_ms) for g in lost]
    assert (lost[0].cause, lost[0].has_ids, lost[0].until_ms) == ("renumbered", False, WIPED)
    collector.hear(new[700:])
    collector.repair(new)
    assert all(not gap.has_ids for gap in collector.aggregator.series[BTC].gap_set.missing)
    bars = written_after(collector.aggregator, is_last=False).closed
    right = {key: bar.trade_count for key, bar in bars_of(new).items()}
    whole = [key for key in right if WIPED < key[1] <= new[-1].time - INTERVAL]
    assert {key: bars[key].trade_count for key in whole} == {key: right[key] for key in whole}


@pytest.mark.parametrize("is_start_filled_first", [False, True])
def test_the_first_trades_of_a_listing_that_only_a_word_told_of_are_no_restarted_ids(
    is_start_filled_first: bool,
) -> None:
    began = START + 23_000
    happened = [make_trade(i, began + i * 50) for i in range(60)]
    collector = Collector()
    collector.now = 6_000
    word = NewestIds({BTC: 37}, happened[37].time + 50, collector.now)
    assert collector.aggregator.on_newest_ids(word)
    if is_start_filled_first:
        collector.repair(happened[:38])
    collector.hear(happened[41:])
    collector.repair(happened)

    assert collector.aggregator.renumbered == []
    assert collector.aggregator.series[BTC].gap_set.missing == ()
    assert collector.requests[AggregatesRequest] <= 4, "no doubt is worth a request"


def doubted() -> tuple[Collector, AggregatesRequest]:
    """Return a plan whose gap 10 to 12 was answered with a later trade 9, and what it asks then."""
    collector = Collector()
    gap = Gap(10, 12, START, START + 60_000, GapCause.UNUSABLE)
    collector.plan.update(GapSet(BTC, (gap,)), -HOUR)
    request = collector.plan.next_request(0, START + HOUR)
    assert isinstance(request, TradesRequest)
    page = [as_run(make_trade(i, START + 30_000)) for i in range(9, 14)]
    result = collector.plan.on_trades(request, page, 0)
    assert (result.ranges, result.absent, result.restarted_at) == ((), (), None)
    collector.plan.update(GapSet(BTC, (gap,), answers=1), 0)
    request = collector.plan.next_request(0, START + HOUR)
    assert isinstance(request, AggregatesRequest)
    assert (request.from_id, request.start_ms, request.is_of_all) == (0, None, True)
    return collector, request


def test_where_the_first_trade_of_all_is_older_ids_have_not_restarted() -> None:
    collector, request = doubted()
    first = Aggregate(0, as_run(make_trade(0, START - HOUR)))

    result = collector.plan.on_aggregates(request, [first], 0)

    assert (result.restarted_at, result.error) == (None, None)
    collector.plan.update(GapSet(BTC, (request.gap,), answers=2), 0)
    again = collector.plan.next_request(0, START + HOUR)
    assert isinstance(again, TradesRequest)
    page = [as_run(make_trade(i, START + 30_000)) for i in range(9, 14)]
    assert len(collector.plan.on_trades(again, page, 0).ranges) == 3


@pytest.mark.parametrize(("first_id", "restarted_at"), [(9, START + 20_000), (10, None)])
def test_newest_trades_in_the_place_of_the_first_of_all_show_nothing(
    first_id: int, restarted_at: int | None
) -> None:
    collector, request = doubted()
    first = Aggregate(70, as_run(make_trade(first_id, START + 20_000)))

    result = collector.plan.on_aggregates(request, [first], 0)

    assert result.restarted_at == restarted_at
    assert (result.error is None) == (restarted_at is not None)
    collector.plan.update(GapSet(BTC, (request.gap,), answers=2), 0)
    assert collector.plan.next_request(0, START + HOUR) is None, "it waits before it asks again"
