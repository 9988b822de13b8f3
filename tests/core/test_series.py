"""What the trades of one symbol become: sums, gaps and checkpoints."""

from __future__ import annotations

import decimal
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING

from bintrades.core.aggregator import Aggregator
from bintrades.core.backfill_result import BackfillResult
from bintrades.core.gap_ranges import DISORDER_MS
from bintrades.core.ledger import LedgerState
from bintrades.core.newest_ids import NewestIds
from bintrades.core.proof import LAG_MS
from bintrades.core.series import Series, Taken
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.model import EXACT, Gap, GapCause, GapOutcome
from tests.core.aggregators import (
    BTC,
    ETH,
    GRACE,
    MINUTE,
    finished,
    new_aggregator,
    repaired,
    resumed,
    run_of,
    start_gap,
    written_after,
)
from tests.strategies import (
    INTERVAL,
    START,
    SYMBOLS,
    bar_of,
    make_trade,
    spot_series,
)

if TYPE_CHECKING:
    from bintrades.model import Trade


def test_a_bar_is_the_sum_of_its_trades() -> None:
    happened = [
        make_trade(10, START + 1, price="3", quantity="2", is_buyer_maker=True),
        make_trade(11, START + 2, price="5", quantity="1"),
        make_trade(12, START + 2, price="2", quantity="4"),
        make_trade(13, START + 3, price="4", quantity="1", is_buyer_maker=True),
    ]
    aggregator = new_aggregator()
    aggregator.add(happened, 0)

    (bar,) = written_after(aggregator).closed.values()

    assert (bar.symbol, bar.market, bar.open_time_ms) == (BTC, "spot", START)
    assert (bar.interval_seconds, bar.trade_count, bar.buy_count) == (10, 4, 2)
    assert [bar.quantity, bar.buy_quantity] == [Decimal(8), Decimal(5)]
    assert [bar.value, bar.buy_value] == [Decimal(23), Decimal(13)]
    assert [bar.open_price, bar.close_price] == [Decimal(3), Decimal(4)]
    assert [bar.min_price, bar.max_price] == [Decimal(2), Decimal(5)]
    assert (bar.first_trade_id, bar.last_trade_id) == (10, 13)
    assert (bar.first_trade_time_ms, bar.last_trade_time_ms) == (START + 1, START + 3)


def test_the_sum_of_a_tenth_and_two_tenths_is_three_tenths() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(1, quantity="0.1"), make_trade(2, quantity="0.2")], 0)

    (bar,) = written_after(aggregator).bars.values()

    assert str(bar.quantity) == "0.3"


def test_sums_of_products_keep_every_digit() -> None:
    price, quantity = "123456789.12345678", "98765432198.76543219"
    aggregator = new_aggregator()
    aggregator.add([make_trade(1, price=price, quantity=quantity)], 0)
    aggregator.add([make_trade(2, price="0.00000001", quantity="0.00000001")], 0)

    (bar,) = written_after(aggregator).bars.values()

    units = 12345678912345678 * 9876543219876543219 + 1  # of 1e-16
    assert bar.value == Decimal(f"{units}E-16")
    assert int(str(bar.value).replace(".", "")) == units


def test_a_trade_on_the_boundary_opens_the_next_bar() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(1, START + INTERVAL - 1), make_trade(2, START + INTERVAL)], 0)

    bars = written_after(aggregator).bars

    assert {key: bar.trade_count for key, bar in bars.items()} == {
        (BTC, START): 1,
        (BTC, START + INTERVAL): 1,
    }


def test_the_time_of_the_trade_decides_the_interval_not_that_of_the_event() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(1, START + 9_999, event_time=START + 10_003)], 0)

    assert list(written_after(aggregator).bars) == [(BTC, START)]


def test_open_and_close_price_go_by_trade_id_not_by_arrival() -> None:
    first, middle, last = (make_trade(i, START, price=str(i)) for i in (1, 2, 3))
    aggregator = new_aggregator()
    aggregator.add([middle, last, first], 0)

    (bar,) = written_after(aggregator).bars.values()

    assert [bar.open_price, bar.close_price] == [Decimal(1), Decimal(3)]


def test_open_and_close_price_go_by_trade_id_not_by_time() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(1, START + 5, price="1"), make_trade(2, START, price="2")], 0)

    (bar,) = written_after(aggregator).bars.values()

    assert [bar.open_price, bar.close_price] == [Decimal(1), Decimal(2)]
    assert (bar.first_trade_time_ms, bar.last_trade_time_ms) == (START + 5, START)


def test_neighbouring_bars_join_without_a_hole() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(i, START + 3_000 * i) for i in range(1, 20)], 0)

    bars = sorted(written_after(aggregator).bars.values(), key=lambda bar: bar.open_time_ms)

    for bar, following in pairwise(bars):
        assert bar.last_trade_id + 1 == following.first_trade_id
    assert all(bar.trade_count == bar.last_trade_id - bar.first_trade_id + 1 for bar in bars)


def test_an_interval_without_trades_has_no_bar() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(1), make_trade(2, START + 5 * INTERVAL)], 0)

    assert list(written_after(aggregator).bars) == [(BTC, START), (BTC, START + 5 * INTERVAL)]


def test_a_late_trade_amends_its_bar_and_no_other() -> None:
    late = make_trade(2, START + 1, price="9", event_time=START + 3 * INTERVAL)
    aggregator = new_aggregator()
    aggregator.add([make_trade(1), make_trade(3, START + 2 * INTERVAL)], 0)
    written = written_after(aggregator, is_last=False)
    assert written.bars[BTC, START] == bar_of([make_trade(1)])

    aggregator.add([late], 0)
    changes = aggregator.collect()

    assert changes.amendments == {(BTC, START): bar_of([late])}
    assert not changes.finished.keys() & changes.amendments.keys()
    written.pending.update(changes)
    written.write()
    assert written.bars[BTC, START] == bar_of([make_trade(1), late])


def test_late_trades_of_one_bar_are_one_amendment() -> None:
    parts = [make_trade(i, START + i) for i in (2, 3, 4)]
    aggregator = new_aggregator()
    aggregator.add([make_trade(1), make_trade(5, START + 2 * INTERVAL)], 0)
    aggregator.collect()

    aggregator.add(parts, 0)

    assert aggregator.collect().amendments == {(BTC, START): bar_of(parts)}


def test_a_late_trade_before_the_bar_was_collected_is_simply_part_of_it() -> None:
    late = make_trade(2, START + 1)
    aggregator = new_aggregator()
    aggregator.add([make_trade(1), make_trade(3, START + 2 * INTERVAL), late], 0)

    changes = aggregator.collect()

    assert changes.finished[BTC, START] == bar_of([make_trade(1), late])
    assert not changes.amendments


def test_a_late_trade_of_an_interval_that_had_none_is_a_bar_of_its_own() -> None:
    late = make_trade(2, START + INTERVAL)
    aggregator = new_aggregator()
    aggregator.add([make_trade(1), make_trade(3, START + 3 * INTERVAL)], 0)
    aggregator.collect()

    aggregator.add([late], 0)
    aggregator.advance(GRACE)

    assert finished(aggregator) == [bar_of([late])]


def test_what_was_lost_and_came_again_before_the_next_checkpoint_is_in_that_one() -> None:
    aggregator = new_aggregator()
    happened = [make_trade(trade_id, START + trade_id) for trade_id in range(5)]
    aggregator.add(happened, 0)
    aggregator.collect()
    lost = Gap(1, 3, START, START + 10, GapCause.LOST)

    aggregator.lose(BTC, [lost])
    aggregator.fill(BackfillResult(BTC, lost, [run_of(*happened[1:4])]))

    assert aggregator.series[BTC].gap_set.missing == ()
    assert BTC in aggregator.collect().checkpoints, "the journal has them as missing"


def test_a_bar_closed_early_takes_no_trade_twice() -> None:
    aggregator = new_aggregator()
    happened = [make_trade(1), make_trade(2, START + 2 * INTERVAL)]
    aggregator.add(happened, 0)
    aggregator.collect()

    aggregator.add(happened, 0)

    assert not aggregator.collect()
    assert aggregator.duplicate_count == 2


def test_a_symbol_that_first_trades_after_a_loss_is_wanted_since_the_collector_began() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(7, START + 1)], 0)
    aggregator.disconnected(SYMBOLS, 1)
    aggregator.connected(SYMBOLS, 2)
    aggregator.add([make_trade(9, START + 3 * INTERVAL, symbol=ETH)], 3)

    (gap,) = aggregator.series[ETH].gap_set.missing

    assert (gap.first_id, gap.last_id, gap.is_start) == (0, 8, True)
    assert (gap.since_ms, gap.until_ms) == (START, START + 3 * INTERVAL + DISORDER_MS)


def test_a_symbol_whose_first_trades_were_lost_is_wanted_since_any_symbol_was_heard() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(7, START + 1)], 0)
    aggregator.add([make_trade(9, START + 2 * INTERVAL + 5, symbol=ETH)], 1)

    assert aggregator.series[ETH].gap_set.missing == (
        start_gap(8, START, START + 2 * INTERVAL + 5),
    )


def test_what_is_wanted_of_symbols_that_have_not_traded_yet_outlasts_a_crash() -> None:
    before = new_aggregator()
    assert not before.has_just_begun
    before.add([make_trade(7, START + 1)], 0)
    assert before.has_just_begun
    written = written_after(before, is_last=False)
    assert not before.has_just_begun

    after = resumed(written)
    after.add([make_trade(9, START + 3 * INTERVAL + 5, symbol=ETH)], 0)

    assert after.series[ETH].gap_set.missing == (start_gap(8, START, START + 3 * INTERVAL + 5),)


def test_a_symbol_added_later_is_wanted_from_then_on() -> None:
    before = Aggregator(spot_series([BTC]), interval_ms=INTERVAL, grace_ms=GRACE)
    before.add([make_trade(7, START + 1)], 0)
    written = written_after(before)

    after = resumed(written)
    after.add([make_trade(8, START + 6 * INTERVAL)], 0)
    after.add([make_trade(9, START + 7 * INTERVAL + 5, symbol=ETH)], 0)

    (gap,) = after.series[ETH].gap_set.missing
    assert gap.since_ms == START + 6 * INTERVAL


def test_the_first_bar_is_wanted_whole_since_its_interval_began() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(100, START + 4_000)], 0)

    state = aggregator.collect().checkpoints[BTC].ledger

    assert state.gaps == (start_gap(99, START, START + 4_000),)


def test_a_skipped_id_is_a_gap_until_it_comes() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(0), make_trade(2, START + 2)], 0)
    assert len(aggregator.series[BTC].gap_set.missing) == 1

    aggregator.add([make_trade(1, START + 1)], 0)

    assert aggregator.series[BTC].gap_set.missing == ()
    assert aggregator.collect().checkpoints[BTC].ledger.gaps == ()


def saved_once(aggregator: Aggregator) -> list[Trade]:
    """Have BTC trade and be saved; return trades of the same bar, each the next one."""
    aggregator.add([make_trade(1)], 0)
    aggregator.collect()
    return [make_trade(trade_id, START + 1) for trade_id in range(2, 2_000)]


def test_a_symbol_that_only_traded_a_little_need_not_be_saved_yet() -> None:
    aggregator = new_aggregator()
    more = saved_once(aggregator)

    aggregator.add(more[:499], 0)

    assert not aggregator.collect_due(1_000)
    assert aggregator.collect().checkpoints[BTC].open_bars[0].trade_count == 500


def test_a_symbol_is_saved_after_five_hundred_trades() -> None:
    aggregator = new_aggregator()
    more = saved_once(aggregator)
    for first in (0, 500):
        aggregator.add(more[first : first + 499], 0)
        assert not aggregator.collect_due(1_000)

        aggregator.add([more[first + 499]], 0)

        (bar,) = aggregator.collect_due(1_000).checkpoints[BTC].open_bars
        assert bar.trade_count == first + 501
    assert not aggregator.collect_due(2_000)


def test_a_symbol_is_saved_within_a_minute_of_its_first_trade_that_is_not() -> None:
    aggregator = new_aggregator()
    second, third, *_ = saved_once(aggregator)
    for trade, traded_at in ((second, 500_000), (third, 1_000_000)):
        aggregator.add([trade], traded_at)
        saved_at = [
            now
            for now in range(traded_at, traded_at + 3 * MINUTE, 1_000)
            if BTC in aggregator.collect_due(now).checkpoints
        ]

        assert len(saved_at) == 1, "and not again without a trade"
        assert traded_at < saved_at[0] <= traded_at + MINUTE


def test_symbols_that_are_saved_because_a_minute_has_passed_are_not_saved_all_at_once() -> None:
    symbols = [f"C{number}USDT" for number in range(3_000)]
    aggregator = Aggregator(spot_series(symbols), interval_ms=86_400_000, grace_ms=GRACE)
    aggregator.connected(symbols, 0)
    for trade_id in (1, 2):
        aggregator.add([make_trade(trade_id, symbol=symbol) for symbol in symbols], 0)
        if trade_id == 1:
            aggregator.collect()

    sizes = [len(aggregator.collect_due(now).checkpoints) for now in range(0, MINUTE + 1, 1_000)]

    assert sum(sizes) == 3_000
    assert max(sizes) <= 3_000 // 20


def test_a_symbol_is_saved_as_soon_as_a_bar_of_it_has_finished() -> None:
    aggregator = new_aggregator()
    second, *_ = saved_once(aggregator)

    aggregator.add([second, make_trade(3, START + INTERVAL + GRACE)], 0)

    changes = aggregator.collect_due(1)
    assert changes.finished.keys() == {(BTC, START)}
    assert changes.checkpoints[BTC].ledger.next_id == 4
    assert changes.checkpoints[BTC].closed_through == START


def test_a_symbol_is_saved_as_soon_as_a_bar_of_it_is_amended() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(1), make_trade(3, START + 2 * INTERVAL)], 0)
    aggregator.collect()

    aggregator.add([make_trade(2, START + 1)], 0)

    changes = aggregator.collect_due(1)
    assert changes.amendments.keys() == {(BTC, START)}
    assert changes.checkpoints[BTC].ledger.gaps == aggregator.series[BTC].gap_set.missing


def test_a_symbol_is_saved_as_soon_as_what_is_missing_of_it_changes() -> None:
    aggregator = new_aggregator()
    saved_once(aggregator)
    due = []

    aggregator.add([make_trade(8, START + 1)], 0)
    due.append(aggregator.collect_due(1))
    aggregator.add([make_trade(2, START + 1)], 0)
    due.append(aggregator.collect_due(1))
    repaired(aggregator, error="down")
    due.append(aggregator.collect_due(1))
    repaired(aggregator, absent=[(3, 5)])
    due.append(aggregator.collect_due(1))
    aggregator.on_newest_ids(NewestIds({BTC: 9}, START + 1_000, 1))
    aggregator.advance(1 + LAG_MS)
    due.append(aggregator.collect_due(1))

    missing = [
        [(gap.first_id, gap.last_id) for gap in changes.checkpoints[BTC].ledger.gaps[1:]]
        for changes in due
    ]
    assert missing == [[(2, 7)], [(3, 7)], [(3, 7)], [(6, 7)], [(6, 7), (9, 9)]]
    assert due[3].resolved == [(BTC, 3, 5, GapOutcome.ABSENT)]
    assert not aggregator.collect_due(2)


def test_a_symbol_is_saved_when_it_trades_for_the_first_time() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(1, symbol=ETH)], 0)
    assert aggregator.collect().checkpoints[BTC].ledger.next_id is None

    aggregator.add([make_trade(0)], 0)

    assert aggregator.collect_due(1).checkpoints[BTC].ledger.next_id == 1


def test_a_bar_cut_by_a_restart_is_continued_as_one_bar() -> None:
    first, second = make_trade(1, START, price="5"), make_trade(2, START + 9_999, price="7")
    before = new_aggregator()
    before.add([first], 0)
    written = written_after(before)

    after = resumed(written)
    assert after.open_bar_count == 1
    after.add([second, make_trade(3, START + 2 * INTERVAL)], 0)
    written.pending.update(after.collect())
    written.write()

    assert written.bars[BTC, START] == bar_of([first, second])


def test_a_bar_closed_before_a_restart_is_amended_after_it() -> None:
    first, late = make_trade(1), make_trade(2, START + 1)
    before = new_aggregator()
    before.add([first, make_trade(3, START + 2 * INTERVAL)], 0)
    written = written_after(before)

    after = resumed(written)
    after.add([late], 0)
    written.pending.update(after.collect())
    written.write()

    assert written.bars[BTC, START] == bar_of([first, late])


def test_a_restart_makes_a_gap_of_what_was_missed() -> None:
    before = new_aggregator()
    before.add([make_trade(0, START)], 0)
    after = resumed(written_after(before))

    after.add([make_trade(10, START + 60_000)], 0)

    (gap,) = after.collect().checkpoints[BTC].ledger.gaps
    assert (gap.first_id, gap.last_id) == (1, 9)
    assert (gap.since_ms, gap.until_ms) == (START - DISORDER_MS, START + 60_000 + DISORDER_MS)


def test_a_bar_stored_before_a_restart_is_kept_though_the_highest_id_is_of_an_earlier_bar() -> None:
    second_bar = [make_trade(10, START + INTERVAL + 1)]
    before = new_aggregator()
    before.add([make_trade(9, START), *second_bar, make_trade(11, START + INTERVAL - 1)], 0)
    before.advance(2 * INTERVAL + GRACE)
    written = written_after(before)
    assert written.bars[BTC, START + INTERVAL] == bar_of(second_bar)

    late = make_trade(12, START + INTERVAL + 2)
    after = resumed(written)
    after.add([late, make_trade(13, START + 3 * INTERVAL)], 0)
    written.pending.update(after.collect())
    written.write()

    assert written.bars[BTC, START + INTERVAL] == bar_of([*second_bar, late])


def test_a_gap_is_named_after_what_made_it() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(0, START), make_trade(2, START)], 0)
    aggregator.disconnected(SYMBOLS, 0)
    aggregator.connected(SYMBOLS, 0)
    aggregator.add([make_trade(4, START), make_trade(6, START)], 0)
    restarted = resumed(written_after(aggregator))
    restarted.add([make_trade(8, START), make_trade(10, START)], 0)

    causes = [gap.cause for gap in restarted.series[BTC].gap_set.missing]
    assert causes == [
        GapCause.SKIPPED,
        GapCause.RECONNECT,
        GapCause.SKIPPED,
        GapCause.RESTART,
        GapCause.SKIPPED,
    ]


def test_a_second_connection_that_comes_or_goes_is_no_reconnect() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(0, START)], 0)
    aggregator.connected(SYMBOLS, 0)
    aggregator.disconnected(SYMBOLS, 0)
    aggregator.add([make_trade(2, START)], 0)

    assert [gap.cause for gap in aggregator.series[BTC].gap_set.missing] == [GapCause.SKIPPED]


def a_series(state: LedgerState | None = None) -> tuple[Series, WriteBatch]:
    """Return a series that nobody connects, resumed from a state if one is given, and its sink."""
    (key,) = spot_series([BTC])
    changes = WriteBatch()
    checkpoint = Checkpoint(state) if state else None
    return Series(key, changes, checkpoint, interval_ms=INTERVAL, grace_ms=GRACE), changes


def taken(series: Series, trade: Trade, event_time: int | None = None) -> Taken:
    time = trade.event_time if event_time is None else event_time
    with decimal.localcontext(EXACT):
        return series.take(trade, time, time, 0)


def test_a_trade_comes_back_as_what_it_was() -> None:
    series, changes = a_series()

    assert taken(series, make_trade(5)) is Taken.COUNTED, "it opens a bar"
    assert taken(series, make_trade(6)) is Taken.NEXT
    assert taken(series, make_trade(6)) is Taken.DUPLICATE
    assert taken(series, make_trade(8)) is Taken.COUNTED, "it opens a gap"
    assert taken(series, make_trade(7)) is Taken.COUNTED, "it fills that"
    assert taken(series, make_trade(9)) is Taken.NEXT
    assert taken(series, make_trade(10, START + INTERVAL + GRACE)) is Taken.COUNTED
    (bar,) = changes.finished.values()
    assert (bar.first_trade_id, bar.last_trade_id, bar.trade_count) == (5, 9, 5)
    assert series.due == START + 2 * INTERVAL + GRACE


def test_what_is_missing_is_one_value_until_it_changes() -> None:
    series, _ = a_series()
    taken(series, make_trade(5))
    assert series.take_gap_set() is None, "nothing is missing"

    taken(series, make_trade(8))

    gaps = series.take_gap_set()
    assert gaps is not None
    assert (gaps.symbol, gaps.absent, gaps.answers) == (BTC, (), 0)
    assert [(gap.first_id, gap.last_id) for gap in gaps.missing] == [(6, 7)]
    assert series.gap_set is gaps
    assert series.take_gap_set() is None
    taken(series, make_trade(9))
    assert series.gap_set is gaps


def test_every_answer_of_the_backfill_is_counted_with_what_is_missing_after_it() -> None:
    series, _ = a_series()
    taken(series, make_trade(5))
    taken(series, make_trade(8))
    asked = series.gap_set.missing[0]

    series.fill(BackfillResult(BTC, asked, error="no answer"))
    assert (series.gap_set.answers, series.gap_set.missing[0].attempts) == (1, 1)

    of_before_the_ids_restarted = Gap(90, 91, START, START, GapCause.SKIPPED)
    series.fill(BackfillResult(BTC, of_before_the_ids_restarted, absent=[(90, 91)], absent_at=1))
    assert (series.gap_set.answers, series.gap_set.absent) == (2, ())

    series.fill(BackfillResult(BTC, asked, absent=[(6, 7)], absent_at=1))
    gaps = series.take_gap_set()
    assert gaps is not None
    assert (gaps.answers, gaps.missing) == (3, ())
    assert [(gap.first_id, gap.last_id) for gap in gaps.absent] == [(6, 7)]


def test_what_is_missing_after_a_restart_is_news() -> None:
    gap = Gap(2, 3, START, START, GapCause.SKIPPED)
    series, _ = a_series(LedgerState(9, START, (gap,)))

    gaps = series.take_gap_set()

    assert gaps is not None
    assert (gaps.missing, gaps.answers) == ((gap,), 0)
