"""Aggregates that stand in for trades which cannot be had: in bars, and on record."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bintrades.core.aggregator import Aggregator
from bintrades.core.backfill_result import BackfillResult
from bintrades.core.gap_ranges import DISORDER_MS
from bintrades.core.ledger import Ledger, LedgerState, with_lost
from bintrades.core.series import Awaited
from bintrades.model import ExcludedId, Gap, GapCause, IdLaw, SeriesKey, TradeRange
from tests.core.aggregators import BTC, GRACE, new_aggregator, resumed, run_of, written_after
from tests.strategies import INTERVAL, START, make_trade

if TYPE_CHECKING:
    from collections.abc import Sequence

LATER = START + 5 * INTERVAL


def aggregate(first_id: int, last_id: int, time: int, quantity: str = "1") -> TradeRange:
    return TradeRange(first_id, last_id, Decimal(2), Decimal(quantity), time, is_buyer_maker=False)


def with_gap() -> Aggregator:
    """Return an aggregator that lacks the trades 1 to 99, of about a minute."""
    aggregator = new_aggregator()
    aggregator.add([make_trade(0, START), make_trade(100, LATER)], 0)
    return aggregator


def approximate(aggregator: Aggregator, *aggregates: TradeRange) -> None:
    (gap, *_) = (gap for gap in missing(aggregator) if not gap.is_approximated)
    aggregator.fill(BackfillResult(BTC, gap, approximations=aggregates))


def missing(aggregator: Aggregator) -> Sequence[Gap]:
    return aggregator.series[BTC].gap_set.missing


def states(aggregator: Aggregator) -> list[tuple[int, int, bool]]:
    return [(gap.first_id, gap.last_id, gap.is_approximated) for gap in missing(aggregator)]


def test_aggregates_in_a_gap_are_in_bars_that_say_so_and_their_ids_stay_on_record() -> None:
    aggregator = with_gap()

    approximate(aggregator, aggregate(10, 19, START + 9_000, "3"), aggregate(20, 24, START + 9_500))

    assert states(aggregator) == [(1, 9, False), (10, 24, True), (25, 99, False)]
    bar = written_after(aggregator).bars[BTC, START]
    assert (bar.trade_count, str(bar.quantity), str(bar.value)) == (3, "5", "9")
    assert (bar.first_trade_id, bar.last_trade_id, bar.is_approximate) == (0, 24, True)


def test_the_bars_beside_are_of_trades_alone() -> None:
    aggregator = with_gap()

    approximate(aggregator, aggregate(10, 19, START + INTERVAL))

    bars = written_after(aggregator).bars
    assert {key[1]: bar.is_approximate for key, bar in bars.items()} == {
        START: False,
        START + INTERVAL: True,
        LATER: False,
    }


def test_an_aggregate_of_which_only_some_ids_are_missing_does_not_count() -> None:
    aggregator = with_gap()

    approximate(aggregator, aggregate(0, 5, START), aggregate(95, 100, LATER))

    assert states(aggregator) == [(1, 99, False)]
    assert all(not bar.is_approximate for bar in written_after(aggregator).bars.values())


@pytest.mark.parametrize("again", [(10, 19), (12, 15), (5, 12), (10, 99)])
def test_an_aggregate_counts_once(again: tuple[int, int]) -> None:
    aggregator = with_gap()
    approximate(aggregator, aggregate(10, 19, START + 9_000))

    approximate(aggregator, aggregate(*again, START + 9_000))

    assert states(aggregator) == [(1, 9, False), (10, 19, True), (20, 99, False)]
    assert written_after(aggregator).bars[BTC, START].trade_count == 2


def test_a_single_trade_of_which_an_aggregate_is_counted_is_a_duplicate() -> None:
    aggregator = with_gap()
    approximate(aggregator, aggregate(10, 19, START + 9_000))
    single = make_trade(12, START + 9_000)

    aggregator.add([single], 0)
    aggregator.fill(BackfillResult(BTC, missing(aggregator)[0], [run_of(single)]))

    assert aggregator.duplicate_count == 1
    assert states(aggregator) == [(1, 9, False), (10, 19, True), (20, 99, False)]
    assert written_after(aggregator).bars[BTC, START].trade_count == 2


def test_an_aggregate_amends_a_bar_that_is_stored() -> None:
    aggregator = with_gap()
    aggregator.advance(60_000)
    written = written_after(aggregator, is_last=False)
    assert not written.bars[BTC, START].is_approximate

    approximate(aggregator, aggregate(1, 9, START + 5, "7"))

    written.pending.update(aggregator.collect())
    assert written.pending.amendments
    written.write()
    bar = written.bars[BTC, START]
    assert (bar.trade_count, str(bar.quantity), bar.is_approximate) == (2, "8", True)


def test_what_is_approximated_is_so_after_a_restart() -> None:
    aggregator = with_gap()
    approximate(aggregator, aggregate(1, 99, START + 9_000))
    written = written_after(aggregator, is_last=False)

    aggregator = resumed(written)
    aggregator.add([make_trade(50, START + 9_000), make_trade(101, LATER)], 0)

    assert states(aggregator) == [(1, 99, True)]
    bar = written.bars[BTC, START]
    assert (bar.trade_count, bar.is_approximate) == (2, True)
    assert not aggregator.collect().amendments


def test_ids_for_which_aggregates_stand_in_are_neither_absent_nor_abandoned() -> None:
    ledger = Ledger(LedgerState(100, LATER, (gap_of(1, 99),)))
    ledger.approximate(10, 19, START)

    ledger.abandon(99, LATER)
    ledger.close_absent(1, 99, LATER)

    assert [(gap.first_id, gap.last_id) for gap in ledger.gaps] == [(10, 19)]
    assert not ledger.gaps[0].is_abandoned
    assert [(gap.first_id, gap.last_id) for gap in ledger.absent] == [(1, 9), (20, 99)]


def test_bars_of_trades_settle_what_was_approximated_and_nothing_else() -> None:
    ledger = Ledger(LedgerState(100, LATER, (gap_of(1, 99),)))
    ledger.approximate(10, 19, START)

    ledger.settle_approximated(5, 14)

    assert [(gap.first_id, gap.last_id, gap.is_approximated) for gap in ledger.gaps] == [
        (1, 9, False),
        (15, 19, True),
        (20, 99, False),
    ]


def test_what_was_approximated_is_wanted_again_where_its_bars_are_lost() -> None:
    approximated = replace(gap_of(10, 19), is_approximated=True)
    state = LedgerState(100, LATER, (approximated,))

    lost = with_lost(state, [replace(gap_of(15, 30), cause=GapCause.LOST)])

    assert [(gap.first_id, gap.last_id, gap.is_wanted) for gap in lost.gaps] == [
        (10, 14, False),
        (15, 19, True),
        (20, 30, True),
    ]


def gap_of(first_id: int, last_id: int) -> Gap:
    return Gap(first_id, last_id, START - DISORDER_MS, LATER + DISORDER_MS, GapCause.SKIPPED)


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12), st.integers(0, 3)), max_size=25),
    st.integers(1, 20),
)
def test_whatever_comes_each_id_is_missing_approximated_or_had_and_counted_once(
    events: list[tuple[int, int, int]], first_id: int
) -> None:
    """Trades and aggregates in any order, against sets of ids."""
    ledger = Ledger(LedgerState(61, LATER, (gap_of(first_id, 60),)))
    wanted, approximated = set(range(first_id, 61)), set[int]()
    for first, length, kind in events:
        ids = set(range(first, first + length + 1))
        if kind == 0:
            assert ledger.approximate(min(ids), max(ids), START) is (ids <= wanted)
            if ids <= wanted:
                wanted -= ids
                approximated |= ids
        elif kind == 1:
            assert ledger.admit_range(min(ids), max(ids), START) is (ids <= wanted)
            if ids <= wanted:
                wanted -= ids
        elif kind == 2 and first < 61:
            assert ledger.admit(first, START) is (first in wanted)
            wanted -= {first}
        else:
            ledger.settle_approximated(min(ids), max(ids))
            approximated -= ids

        found = {
            is_approximated: {
                number
                for gap in ledger.gaps
                if gap.is_approximated is is_approximated
                for number in range(gap.first_id, gap.last_id + 1)
            }
            for is_approximated in (False, True)
        }
        assert found == {False: wanted, True: approximated}
        ends = [(gap.first_id, gap.last_id) for gap in ledger.gaps]
        assert ends == sorted(ends)


def test_where_ids_are_no_fills_an_aggregate_shows_the_newest_fill() -> None:
    """Of the exchange's word, which names that one, nothing is awaited then."""
    key = SeriesKey("binance", "usdm", BTC, "trade", IdLaw.WITH_FILLERS)
    aggregator = Aggregator([key], interval_ms=INTERVAL, grace_ms=GRACE)
    aggregator.connected([BTC], 0)
    aggregator.add([make_trade(0, START), make_trade(1, START + 1)], 0)
    aggregator.on_unusable(BTC, 9, 0)
    aggregator.fill(
        BackfillResult(BTC, missing(aggregator)[-1], approximations=[aggregate(3, 9, START + 2)])
    )

    series = aggregator.series[BTC]

    assert states(aggregator) == [(2, 2, False), (3, 9, True)]
    assert not series.take_newest_id(9, START + 3, START + 3, 10)
    assert series.settle_awaited(20) is Awaited.CAME
    filler = ExcludedId(BTC, 5, START + 2, START + 2, Decimal(0), Decimal(0), False)
    aggregator.add([filler], 30)
    assert aggregator.duplicate_count == 1
