"""Trades that come from the backfill, and ids that do not exist."""

from __future__ import annotations

import pytest

from bintrades.core.backfill_result import BackfillResult
from bintrades.model import Gap, GapCause, GapOutcome
from tests.core.aggregators import (
    BTC,
    ETH,
    finished,
    new_aggregator,
    repaired,
    resumed,
    run_of,
    written_after,
)
from tests.strategies import (
    INTERVAL,
    START,
    Written,
    bar_of,
    bars_of,
    make_trade,
)


def test_repaired_trades_become_part_of_their_bars_as_if_they_had_come_one_by_one() -> None:
    happened = [
        make_trade(0, START + 9_000, price="5"),
        make_trade(1, START + 10_000, price="7", quantity="0.1", is_buyer_maker=True),
        make_trade(2, START + 10_000, price="7", quantity="0.2", is_buyer_maker=True),
        make_trade(3, START + 10_000, price="7", quantity="0.4", is_buyer_maker=True),
        make_trade(4, START + 12_000, price="3", quantity="0.7"),
        make_trade(5, START + 12_000, price="3", quantity="0.7"),
        make_trade(6, START + 13_000, price="4"),
        make_trade(7, START + 31_000, price="9"),
    ]
    aggregator = new_aggregator()
    aggregator.add([happened[0], happened[-1]], 0)

    repaired(aggregator, run_of(*happened[4:6]))
    repaired(aggregator, run_of(happened[6]))
    aggregator.fill(
        BackfillResult(BTC, aggregator.series[BTC].gap_set.missing[0], [run_of(*happened[1:4])])
    )

    assert aggregator.series[BTC].gap_set.missing == ()
    assert aggregator.repaired_count == 6
    assert written_after(aggregator).closed == bars_of(happened)


@pytest.mark.parametrize("is_restarted", [False, True])
def test_repaired_trades_from_before_the_beginning_make_no_bar_of_which_the_rest_is_not_wanted(
    is_restarted: bool,
) -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(9, START + 4_000)], 0)
    # Its neighbours come first: what is missing between them is no longer the beginning.
    happened = [make_trade(5, START + 1), make_trade(7, START + 20), make_trade(9, START + 4_000)]
    repaired(aggregator, *map(run_of, happened[:2]))
    if is_restarted:
        aggregator = resumed(written_after(aggregator))
    early = make_trade(6, START - 5)

    aggregator.fill(BackfillResult(BTC, Gap(6, 6, 0, 0, GapCause.SKIPPED), [run_of(early)]))

    assert [gap.first_id for gap in aggregator.series[BTC].gap_set.missing] == [0, 8]
    assert aggregator.series[BTC].gap_set.missing[0].since_ms == START
    changes = aggregator.collect(is_last=True)
    assert not changes.amendments
    assert {key: bar.trade_count for key, bar in changes.finished.items()} == {(BTC, START): 3}


def test_repaired_trades_of_an_interval_before_the_first_make_no_bar() -> None:
    aggregator = new_aggregator()
    newest = make_trade(9, START + INTERVAL + 500)
    aggregator.add([make_trade(6, START + INTERVAL + 4), newest], 0)
    early = make_trade(8, START + INTERVAL - 5)  # `T` falls back a little

    repaired(aggregator, run_of(early))

    changes = aggregator.collect(is_last=True)
    assert changes.finished.keys() == {(BTC, START + INTERVAL)}
    assert changes.checkpoints[BTC].covered_since_ms == START + INTERVAL


def test_a_live_trade_from_before_the_beginning_makes_no_bar_of_which_the_rest_is_not_wanted() -> (
    None
):
    trades = [make_trade(5, START + 4_000), make_trade(7, START + 5_000)]
    aggregator = new_aggregator()
    aggregator.add(trades[:1], 0)
    repaired(aggregator, begins_at=5)

    aggregator.add([make_trade(6, START - 1), trades[1]], 0)

    assert aggregator.series[BTC].gap_set.missing == ()
    finished = aggregator.collect(is_last=True).finished
    assert finished == {(BTC, START): bar_of(trades, is_closed=False)}


def test_ids_behind_the_beginning_may_turn_out_to_be_of_no_trade_that_is_wanted() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(9, START + 5_000)], 0)
    repaired(aggregator, begins_at=5)
    (rest,) = aggregator.series[BTC].gap_set.missing
    assert (rest.first_id, rest.is_start) == (5, False)

    aggregator.fill(BackfillResult(BTC, rest, unwanted=[(5, 7)]))

    assert [gap.first_id for gap in aggregator.series[BTC].gap_set.missing] == [8]
    changes = aggregator.collect(is_last=True)
    assert changes.resolved[-1] == (BTC, 5, 7, GapOutcome.UNWANTED)
    assert not changes.excluded


def test_a_run_of_which_a_part_is_known_is_left_to_be_asked_for_by_id() -> None:
    trades = [make_trade(trade_id, START + trade_id) for trade_id in range(6)]
    aggregator = new_aggregator()
    aggregator.add([trades[0], trades[2], trades[5]], 0)

    repaired(aggregator, run_of(*trades[2:4]), run_of(trades[4]))

    assert [(gap.first_id, gap.last_id) for gap in aggregator.series[BTC].gap_set.missing] == [
        (1, 1),
        (3, 3),
    ]
    assert aggregator.repaired_count == 1


def test_the_same_answer_twice_counts_once() -> None:
    trades = [make_trade(trade_id, START + trade_id) for trade_id in range(4)]
    aggregator = new_aggregator()
    aggregator.add([trades[0], trades[3]], 0)
    gap = aggregator.series[BTC].gap_set.missing[0]

    for _ in range(2):
        aggregator.fill(BackfillResult(BTC, gap, [run_of(*trades[1:3])]))

    assert written_after(aggregator).closed == bars_of(trades)


def test_a_repaired_bar_that_left_memory_is_amended_and_one_that_never_was_is_made() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(0, START), make_trade(9, START + 60_000)], 0)
    stored = Written()
    stored.pending.update(aggregator.collect())
    stored.write()
    late = [make_trade(1, START + 1), make_trade(2, START + 20_000), make_trade(3, START + 30_000)]

    repaired(aggregator, *(run_of(trade) for trade in late))
    changes = aggregator.collect(is_last=True)

    assert set(changes.amendments) == {(BTC, START)}
    stored.pending.update(changes)
    stored.write()
    happened = [make_trade(0, START), *late, make_trade(9, START + 60_000)]
    assert stored.closed == bars_of(happened)


def test_backfilled_bars_come_oldest_first() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(0, START), make_trade(5, START + 50_000)], 0)
    aggregator.collect()

    repaired(aggregator, *(run_of(make_trade(i, START + i * 10_000)) for i in (1, 2, 3, 4)))
    aggregator.add([make_trade(6, START + 61_000)], 0)

    times = [bar.open_time_ms for bar in finished(aggregator)]
    assert times == sorted(times)
    assert len(times) == 5


def test_why_ids_are_missing_no_longer_is_told_together_with_the_ledger() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(0, START), make_trade(9, START + 300)], 0)
    aggregator.add([make_trade(0, START, symbol=ETH)], 0)
    aggregator.collect()
    repaired(aggregator, absent=[(4, 5)])
    aggregator.add([make_trade(1, START + 20_000, symbol=ETH)], 0)

    others = aggregator.collect_bars()
    assert others.finished
    assert (BTC in others.checkpoints, others.resolved) == (False, [])

    changes = aggregator.collect()
    assert BTC in changes.checkpoints
    assert changes.resolved == [(BTC, 4, 5, GapOutcome.ABSENT)]


@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize("is_live", [False, True])
def test_a_trade_of_an_absent_id_amends_its_bar_exactly_once(
    is_restarted: bool, is_live: bool
) -> None:
    happened = [make_trade(0, START), make_trade(1, START + 10), make_trade(2, START + INTERVAL)]
    aggregator = new_aggregator()
    aggregator.add([happened[0], happened[2], make_trade(3, START + 2 * INTERVAL)], 0)
    repaired(aggregator, absent=[(1, 1)], absent_at=START + INTERVAL)
    written = written_after(aggregator)
    if is_restarted:
        aggregator = resumed(written)

    for _ in range(2):
        if is_live:
            aggregator.add([happened[1]], 1)
        else:
            aggregator.fill(
                BackfillResult(BTC, Gap(1, 1, 0, 0, GapCause.SKIPPED), [run_of(happened[1])])
            )
    changes = aggregator.collect(is_last=True)

    assert [(symbol, gap.first_id, gap.last_id) for symbol, gap in changes.reopened] == [
        (BTC, 1, 1)
    ]
    assert (aggregator.series[BTC].gap_set.missing, aggregator.series[BTC].gap_set.absent) == (
        (),
        (),
    )
    written.pending.update(changes)
    written.write()
    assert written.closed[BTC, START] == bar_of(happened[:2])


def test_that_absent_ids_were_confirmed_once_more_is_saved() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(0, START), make_trade(9, START + 300)], 0)
    repaired(aggregator, absent=[(1, 8)], absent_at=START + 700_000)
    assert aggregator.collect_due(0).checkpoints[BTC].ledger.absent[0].looks == 0

    (absent,) = aggregator.series[BTC].gap_set.absent
    aggregator.fill(BackfillResult(BTC, absent, absent=[(1, 8)], absent_at=START + 5_000_000))

    (saved,) = aggregator.collect_due(0).checkpoints[BTC].ledger.absent
    assert (saved.looks, saved.absent_at) == (1, START + 700_000)


def test_an_answer_is_noted_with_its_gap() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(0, START), make_trade(9, START + 300)], 0)

    repaired(aggregator, error="no answer")

    (gap,) = aggregator.series[BTC].gap_set.missing
    assert (gap.attempts, gap.last_error) == (1, "no answer")
    assert aggregator.collect().checkpoints[BTC].ledger.gaps == (gap,)


def test_the_requests_for_a_gap_are_told_though_the_last_one_filled_it() -> None:
    missing = make_trade(1, START + 100)
    aggregator = new_aggregator()
    aggregator.add([make_trade(0, START), make_trade(2, START + 300)], 0)
    aggregator.collect()
    repaired(aggregator, error="no answer")
    repaired(aggregator, run_of(missing))
    aggregator.add([make_trade(1, START + 20_000, symbol=ETH)], 0)

    aggregator.collect_bars()

    assert aggregator.series[BTC].gap_set.missing == ()
    assert aggregator.collect().attempts == {(BTC, 1): 2}
