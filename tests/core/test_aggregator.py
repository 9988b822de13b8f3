"""What the trades of all symbols become: exact bars, each closed at its time."""

from __future__ import annotations

import sys
from decimal import Decimal
from itertools import count, pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bintrades.core.aggregator import Aggregator
from bintrades.core.backfill_result import BackfillResult
from bintrades.core.ban import Ban
from bintrades.core.ledger import DISORDER_MS, LedgerState
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.model import (
    ABSENT,
    LOST,
    RECONNECT,
    RESTART,
    SILENT_STREAM,
    SKIPPED,
    Gap,
    GapCause,
    TradeRange,
)
from tests.strategies import (
    INTERVAL,
    START,
    SYMBOLS,
    Step,
    Written,
    arrivals,
    bar_of,
    bars_of,
    make_trade,
    spot_series,
    trades,
)

if TYPE_CHECKING:
    from collections.abc import Callable

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


@settings(deadline=None)
@given(st.data(), trades)
def test_any_order_duplication_and_batching_gives_exactly_the_bars_of_the_trades(
    data: st.DataObject, happened: list[Trade]
) -> None:
    steps = data.draw(arrivals(happened))

    written = play(steps, is_restarting=False)

    assert written.closed == bars_of(happened)


@settings(deadline=None, max_examples=200)
@given(st.data(), trades)
def test_restarts_at_any_moment_change_no_bar_once_the_lost_trades_have_come_again(
    data: st.DataObject, happened: list[Trade]
) -> None:
    steps = data.draw(arrivals(happened))

    written = play(steps, is_restarting=True)

    assert written.closed == bars_of(happened)


@settings(deadline=None)
@given(st.data(), trades)
def test_when_all_trades_have_come_no_id_is_missing_but_those_before_the_first(
    data: st.DataObject, happened: list[Trade]
) -> None:
    written = play(data.draw(arrivals(happened)), is_restarting=False)

    for symbol in SYMBOLS:
        ids = [trade.trade_id for trade in happened if trade.symbol == symbol]
        gaps = written.checkpoints[symbol].ledger.gaps if ids else ()
        missing = [(gap.first_id, gap.last_id) for gap in gaps]
        assert missing == ([(0, min(ids) - 1)] if ids and min(ids) > 0 else [])


@settings(deadline=None)
@given(st.data(), trades)
def test_every_trade_is_counted_as_new_or_as_a_duplicate(
    data: st.DataObject, happened: list[Trade]
) -> None:
    aggregator = new_aggregator()
    steps = data.draw(arrivals(happened))
    for step in steps:
        aggregator.add(step.trades, 0)

    assert aggregator.trade_count == len(happened)
    assert aggregator.duplicate_count == sum(len(step.trades) for step in steps) - len(happened)


@pytest.mark.parametrize("is_last", [False, True])
def test_nothing_new_means_nothing_to_write(is_last: bool) -> None:
    aggregator = new_aggregator()
    assert not aggregator.collect(is_last=is_last)

    aggregator.add([make_trade(1)], 0)
    assert aggregator.collect()
    assert not aggregator.collect()

    aggregator.add([make_trade(1)], 0)
    assert not aggregator.collect()


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


def test_symbols_have_bars_of_their_own() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(1, symbol=symbol) for symbol in SYMBOLS], 0)

    assert set(written_after(aggregator).bars) == {(symbol, START) for symbol in SYMBOLS}


def test_trades_of_a_symbol_that_nobody_asked_for_are_counted_and_make_no_bar() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(1, symbol="DOGEUSDT"), make_trade(1)], 0)

    assert aggregator.foreign_count == 1
    assert list(written_after(aggregator).bars) == [(BTC, START)]


def test_a_bar_closes_when_the_symbols_own_events_have_passed_its_end_and_the_grace() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(1), make_trade(2, START + INTERVAL + GRACE - 1)], 0)
    assert finished(aggregator) == []

    aggregator.add([make_trade(3, START + INTERVAL + GRACE)], 0)

    assert finished(aggregator) == [bar_of([make_trade(1)])]


def test_a_trade_within_the_grace_still_belongs_to_its_bar() -> None:
    late = make_trade(2, START + 1, event_time=START + INTERVAL + GRACE - 1)
    aggregator = new_aggregator()
    aggregator.add([make_trade(1), make_trade(3, START + INTERVAL + 5), late], 0)
    aggregator.add([make_trade(4, START + INTERVAL + GRACE)], 0)

    assert finished(aggregator) == [bar_of([make_trade(1), late])]


def test_the_time_of_the_event_closes_a_bar_not_that_of_the_trade() -> None:
    last = make_trade(2, START + 1, event_time=START + INTERVAL + GRACE)
    aggregator = new_aggregator()
    aggregator.add([make_trade(1), last], 0)

    assert finished(aggregator) == [bar_of([make_trade(1), last])]


def test_each_of_several_open_bars_has_its_own_grace() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(1), make_trade(2, START + INTERVAL)], 0)
    aggregator.add([make_trade(3, START + 2 * INTERVAL + GRACE - 1)], 0)
    assert finished(aggregator) == [bar_of([make_trade(1)])]

    aggregator.add([make_trade(4, START + 2 * INTERVAL + GRACE)], 0)
    assert finished(aggregator) == [bar_of([make_trade(2, START + INTERVAL)])]


def test_a_bar_does_not_wait_for_a_next_trade_when_its_symbol_falls_silent() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(1), make_trade(1, symbol=ETH)], now=0)
    aggregator.add([make_trade(2, START + INTERVAL + GRACE - 1, symbol=ETH)], now=10_000)
    aggregator.advance(10_000)
    assert finished(aggregator) == []

    aggregator.add([make_trade(3, START + INTERVAL + GRACE, symbol=ETH)], now=10_001)
    aggregator.advance(10_001)

    assert {bar.symbol for bar in finished(aggregator)} == {BTC, ETH}


def test_bars_close_by_the_time_that_has_passed_when_the_whole_market_is_silent() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(1, START + 4_000)], now=1_000_000)

    aggregator.advance(1_000_000 + 6_000 + GRACE - 1)
    assert finished(aggregator) == []

    aggregator.advance(1_000_000 + 6_000 + GRACE + SLOW)
    assert finished(aggregator) == [bar_of([make_trade(1, START + 4_000)])]


def test_the_clock_stands_still_while_there_is_no_connection() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(1)], now=0)
    aggregator.disconnected(SYMBOLS, now=1_000)

    for now in range(2_000, 3_600_000, 60_000):
        aggregator.advance(now)
    assert finished(aggregator) == []
    assert aggregator.clock(3_600_000) == START + 999

    aggregator.connected(SYMBOLS, now=3_600_000)
    aggregator.advance(3_600_000 + INTERVAL + GRACE - 1_000 - 1)
    assert finished(aggregator) == []
    aggregator.advance(3_600_000 + INTERVAL + GRACE - 1_000 + SLOW)
    assert len(finished(aggregator)) == 1


def test_a_symbol_whose_connection_is_gone_keeps_its_bars_open() -> None:
    aggregator = Aggregator(spot_series(SYMBOLS), interval_ms=INTERVAL, grace_ms=GRACE)
    aggregator.connected([BTC], 0)
    aggregator.connected([ETH], 0)
    aggregator.add([make_trade(1), make_trade(1, symbol=ETH)], 0)
    aggregator.disconnected([BTC], 1)
    aggregator.advance(5 * INTERVAL)

    assert [bar.symbol for bar in finished(aggregator)] == [ETH]


def test_a_symbol_on_two_connections_goes_on_with_the_one_that_is_left() -> None:
    aggregator = new_aggregator()
    aggregator.connected(SYMBOLS, 0)
    aggregator.add([make_trade(1)], 0)
    aggregator.disconnected(SYMBOLS, 1)
    aggregator.advance(INTERVAL + GRACE + SLOW)

    assert len(finished(aggregator)) == 1


def test_after_a_reconnect_a_symbol_gets_the_grace_to_speak_before_its_bars_close() -> None:
    aggregator = Aggregator(spot_series(SYMBOLS), interval_ms=INTERVAL, grace_ms=GRACE)
    aggregator.connected([BTC], 0)
    aggregator.connected([ETH], 0)
    aggregator.add([make_trade(1), make_trade(1, symbol=ETH)], 0)
    aggregator.disconnected([BTC], 1)
    aggregator.add([make_trade(2, START + 3 * INTERVAL, symbol=ETH)], 3 * INTERVAL)
    aggregator.connected([BTC], 3 * INTERVAL)

    aggregator.advance(3 * INTERVAL + GRACE - 1)
    assert [bar.symbol for bar in finished(aggregator)] == [ETH]

    aggregator.advance(3 * INTERVAL + GRACE)
    assert [bar.symbol for bar in finished(aggregator)] == [BTC]


def test_a_bar_that_was_due_without_a_connection_closes_once_there_is_one_again() -> None:
    aggregator = Aggregator(spot_series(SYMBOLS), interval_ms=INTERVAL, grace_ms=GRACE)
    aggregator.connected([BTC], 0)
    aggregator.connected([ETH], 0)
    aggregator.add([make_trade(1)], 0)
    aggregator.disconnected([BTC], 1)
    aggregator.advance(2 * INTERVAL)
    assert finished(aggregator) == []

    aggregator.connected([BTC], 2 * INTERVAL)
    aggregator.advance(2 * INTERVAL + GRACE + 1)

    assert finished(aggregator) == [bar_of([make_trade(1)])]


def test_a_symbol_that_closed_a_bar_by_a_trade_and_falls_silent_then_has_the_next_one_closed() -> (
    None
):
    aggregator = new_aggregator()
    aggregator.add([make_trade(1)], 0)
    second = make_trade(2, START + INTERVAL + GRACE)
    aggregator.add([second], INTERVAL + GRACE)
    assert finished(aggregator) == [bar_of([make_trade(1)])]
    aggregator.advance(INTERVAL + GRACE)

    aggregator.advance(2 * INTERVAL + GRACE + SLOW)

    assert finished(aggregator) == [bar_of([second])]


def test_a_bar_closes_at_its_end_and_grace_though_its_symbol_spoke_a_moment_before() -> None:
    aggregator = new_aggregator()
    due = INTERVAL + GRACE
    first = make_trade(1)
    aggregator.add([first, make_trade(2, START + INTERVAL)], INTERVAL)
    aggregator.add([make_trade(3, START + due - 1)], due - 1)

    aggregator.advance(due + 98)
    assert finished(aggregator) == [], "more may be about to come"
    assert aggregator.next_look_in(due + 98) <= 2

    aggregator.advance(due + 100)
    assert finished(aggregator) == [bar_of([first])]


def test_of_thousands_of_bars_that_close_together_the_first_do_not_wait_for_the_last() -> None:
    symbols = [f"C{number}USDT" for number in range(1_000)]
    aggregator = Aggregator(spot_series(symbols), interval_ms=INTERVAL, grace_ms=GRACE)
    aggregator.connected(symbols, 0)
    aggregator.add([make_trade(1, symbol=symbol) for symbol in symbols], 0)
    assert aggregator.next_look_in(0) >= INTERVAL + GRACE
    due = INTERVAL + GRACE + SLOW
    closed = []

    while aggregator.next_look_in(due) == 0:
        aggregator.advance(due)
        closed.append(len(finished(aggregator)))

    assert sum(closed) == 1_000
    assert 0 < max(closed) <= 250


@pytest.mark.parametrize("skew", [-7_000, 7_000])
def test_symbols_whose_clocks_differ_do_not_disturb_each_others_bars(skew: int) -> None:
    aggregator = new_aggregator()
    happened = []
    for step in range(1, 201):
        now = 100 * step
        pair = [
            make_trade(step, START + now),
            make_trade(step, START + now + skew, symbol=ETH),
        ]
        happened += pair
        for trade in pair:
            aggregator.add([trade], now)
            aggregator.advance(now)

    changes = aggregator.collect()

    assert not changes.amendments
    complete = {
        key: bar
        for key, bar in bars_of(happened).items()
        if bar.end_time_ms + GRACE <= START + 20_000 + (skew if key[0] == ETH else 0)
    }
    assert changes.finished == complete


@pytest.mark.parametrize("skew", [-3_000, 3_000])
def test_a_silent_symbol_closes_by_its_own_view_of_the_clock(skew: int) -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(1, START + 5_000, symbol=ETH)], now=0)
    aggregator.add([make_trade(1, START + 5_000 + skew)], now=0)
    closes_at = 5_000 - skew + GRACE

    for now in range(0, closes_at, 100):
        aggregator.add([make_trade(now + 2, START + 5_000 + now, symbol=ETH)], now)
        aggregator.advance(now)
    assert BTC not in {bar.symbol for bar in finished(aggregator)}

    aggregator.advance(closes_at + SLOW)
    assert BTC in {bar.symbol for bar in finished(aggregator)}


def test_a_trade_stamped_long_ago_turns_no_clock_back() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(5, START + 9_000)], now=0)
    aggregator.add([make_trade(4, START, event_time=START)], now=0)

    assert aggregator.clock(0) == START + 9_000


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


def test_what_cannot_be_undone_goes_by_no_clock_that_only_one_trade_tells() -> None:
    aggregator = new_aggregator()
    days_ago = START - 4 * 86_400_000
    assert aggregator.confirmed_clock(0) == 0

    aggregator.on_latest_trade("ETHUSDT", 7, days_ago, 10)
    assert aggregator.clock(10) == days_ago
    assert aggregator.confirmed_clock(10) == 0

    for trade_id in (1, 2, 3):
        aggregator.add([make_trade(trade_id, START + trade_id)], 20 + trade_id)
    assert aggregator.confirmed_clock(23) == aggregator.clock(23) >= START


def test_what_was_lost_and_came_again_before_the_next_checkpoint_is_in_that_one() -> None:
    aggregator = new_aggregator()
    happened = [make_trade(trade_id, START + trade_id) for trade_id in range(5)]
    aggregator.add(happened, 0)
    aggregator.collect()
    lost = Gap(1, 3, START, START + 10, LOST)

    aggregator.lose(BTC, [lost])
    aggregator.repair(BackfillResult(BTC, lost, [run_of(*happened[1:4])]))

    assert aggregator.gaps(BTC) == ()
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

    (gap,) = aggregator.gaps(ETH)

    assert (gap.first_id, gap.last_id, gap.is_start) == (0, 8, True)
    assert (gap.since_ms, gap.until_ms) == (START, START + 3 * INTERVAL + DISORDER_MS)


def test_a_symbol_whose_first_trades_were_lost_is_wanted_since_any_symbol_was_heard() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(7, START + 1)], 0)
    aggregator.add([make_trade(9, START + 2 * INTERVAL + 5, symbol=ETH)], 1)

    assert aggregator.gaps(ETH) == (start_gap(8, START, START + 2 * INTERVAL + 5),)


def test_what_is_wanted_of_symbols_that_have_not_traded_yet_outlasts_a_crash() -> None:
    before = new_aggregator()
    assert not before.has_just_begun
    before.add([make_trade(7, START + 1)], 0)
    assert before.has_just_begun
    written = written_after(before, is_last=False)
    assert not before.has_just_begun

    after = resumed(written)
    after.add([make_trade(9, START + 3 * INTERVAL + 5, symbol=ETH)], 0)

    assert after.gaps(ETH) == (start_gap(8, START, START + 3 * INTERVAL + 5),)


def test_a_symbol_added_later_is_wanted_from_then_on() -> None:
    before = Aggregator(spot_series([BTC]), interval_ms=INTERVAL, grace_ms=GRACE)
    before.add([make_trade(7, START + 1)], 0)
    written = written_after(before)

    after = resumed(written)
    after.add([make_trade(8, START + 6 * INTERVAL)], 0)
    after.add([make_trade(9, START + 7 * INTERVAL + 5, symbol=ETH)], 0)

    (gap,) = after.gaps(ETH)
    assert gap.since_ms == START + 6 * INTERVAL


def test_a_symbol_that_the_exchange_says_has_not_traded_is_wanted_from_then_on() -> None:
    hour = 3_600_000
    aggregator = new_aggregator()
    aggregator.add([make_trade(7, START + 1)], 0)
    aggregator.add([make_trade(8, START + hour)], hour)

    assert not aggregator.on_latest_trade(ETH, 5, START - 1, hour)
    aggregator.add([make_trade(9, START + 2 * hour, symbol=ETH)], 2 * hour)

    (gap,) = aggregator.gaps(ETH)
    assert START + hour - 60_000 - INTERVAL <= gap.since_ms <= START + hour - 60_000


def old_and_new(aggregator: Aggregator) -> tuple[list[Trade], list[Trade]]:
    """Have trades come with ids from 100 on, then, in the same interval, from 0 on."""
    old = [make_trade(100 + i, START + i) for i in range(5)]
    new = [make_trade(i, START + 6_000 + 1_000 * i) for i in range(10)]
    aggregator.add(old, 0)
    aggregator.collect()
    aggregator.add(new, 0)
    return old, new


def test_ids_that_restart_are_recorded_from_the_next_interval_on() -> None:
    aggregator = new_aggregator()
    old, new = old_and_new(aggregator)

    assert aggregator.renumbered == [BTC]
    lost, _before, beginning = aggregator.gaps(BTC)
    assert (lost.cause, lost.is_abandoned, lost.first_id < 0) == ("renumbered", True, True)
    assert (lost.since_ms, lost.until_ms) == (old[-1].time - DISORDER_MS, START + INTERVAL - 1)
    assert beginning == start_gap(5, START + INTERVAL, new[6].time)
    repaired(aggregator, *map(run_of, new[4:6]), begins_at=4)

    changes = aggregator.collect(is_last=True)
    assert changes.finished[BTC, START] == bar_of(old), "ids of two numberings do not mix"
    assert changes.finished[BTC, START + INTERVAL] == bar_of(new[4:], is_closed=False)
    assert lost in changes.checkpoints[BTC].ledger.gaps


def test_ids_that_restarted_during_a_restart_are_noticed() -> None:
    before = new_aggregator()
    before.add([make_trade(900, START)], 0)
    after = resumed(written_after(before))

    after.add([make_trade(i, START + 5 * INTERVAL + i) for i in range(9)], 0)

    assert after.renumbered == [BTC]
    assert [(gap.since_ms, gap.cause) for gap in after.gaps(BTC)] == [
        (START - DISORDER_MS, "renumbered"),
        (START, "renumbered"),
        (START + INTERVAL, "start"),
    ]


def test_what_was_missing_before_ids_restarted_stays_on_record_without_ids() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(500, START), make_trade(505, START + 2 * INTERVAL)], 0)
    missing = aggregator.gaps(BTC)[-1]
    for month in (5, 50):
        times = [START + (month + i) * INTERVAL for i in range(3)]
        aggregator.add([make_trade(i, time) for i, time in enumerate(times)], 0)

    assert aggregator.renumbered == [BTC, BTC]
    lost = [gap for gap in aggregator.gaps(BTC) if gap.first_id < 0]
    assert [gap.first_id for gap in lost] == list(range(-len(lost), 0))
    assert (missing.since_ms, missing.until_ms) in [(gap.since_ms, gap.until_ms) for gap in lost]
    assert not any(gap.touches(START + 51 * INTERVAL, INTERVAL) for gap in lost)


def test_trades_of_before_may_be_lost_until_the_first_of_those_whose_ids_restart() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(500, START)], 0)
    aggregator.add([make_trade(i, START + 3 * INTERVAL + 100 + i) for i in range(5)], 0)

    (lost, *_) = aggregator.gaps(BTC)

    assert (lost.cause, lost.until_ms) == ("renumbered", START + 3 * INTERVAL + 100)


@pytest.mark.parametrize("has_older", [False, True])
def test_a_trade_of_the_new_ids_from_before_the_beginning_shows_that_nothing_after_it_is_lost(
    has_older: bool,
) -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(500, START)], 0)
    new = [make_trade(i, START + 3 * INTERVAL + i) for i in range(3, 6)]
    aggregator.add(new, 0)

    repaired(aggregator, *map(run_of, new[:2]), begins_at=3, has_older=has_older)

    lost = aggregator.gaps(BTC)[0]
    assert lost.cause == "renumbered"
    assert lost.until_ms == (START + INTERVAL - 1 if has_older else START + 3 * INTERVAL + 3)


def test_repaired_trades_of_before_do_not_count_once_ids_restarted() -> None:
    aggregator = new_aggregator()
    old, new = old_and_new(aggregator)
    assert new[2].time < START + INTERVAL <= new[4].time
    repaired(aggregator, *map(run_of, new[2:6]), begins_at=2)
    aggregator.add([make_trade(11, new[9].time)], 0)

    repaired(aggregator, run_of(make_trade(10, START + 9_000)))

    assert [gap.cause for gap in aggregator.gaps(BTC)] == ["renumbered", "renumbered"]
    changes = aggregator.collect(is_last=True)
    assert changes.finished[BTC, START] == bar_of(old)
    assert changes.finished[BTC, START + INTERVAL] == bar_of(
        [*new[4:], make_trade(11, new[9].time)], is_closed=False
    )
    assert (BTC, START) not in changes.amendments


def test_an_answer_about_a_gap_of_before_the_ids_restarted_abandons_nothing_of_after() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(500, START), make_trade(505, START + 1_000)], 0)
    asked = aggregator.gaps(BTC)[-1]
    aggregator.add([make_trade(i, START + 3 * INTERVAL + i) for i in range(5)], 0)
    before = aggregator.gaps(BTC)
    assert asked not in before

    aggregator.repair(
        BackfillResult(
            BTC, asked, abandoned_through=asked.last_id, abandoned_before_ms=START + 5_000
        )
    )

    assert aggregator.gaps(BTC) == before
    assert not before[-1].is_abandoned


def test_trades_that_rest_had_before_the_stream_do_not_begin_the_ids_anew() -> None:
    happened = [make_trade(i, START + i * INTERVAL) for i in range(1, 9)]
    aggregator = new_aggregator()
    aggregator.add([make_trade(0, START), make_trade(10**9, START + 5)], 0)
    repaired(aggregator, *map(run_of, happened))

    aggregator.add(happened, 0)

    assert aggregator.renumbered == []
    assert aggregator.duplicate_count == len(happened)


def test_a_bad_message_does_not_begin_the_ids_anew() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(100, START)], 0)
    for number in range(1, 9):  # an old id with a new time, now and then
        aggregator.add([make_trade(50, START + INTERVAL - 1), make_trade(50, START + 9_000)], 0)
        aggregator.add([make_trade(100 + number, START + number)], 0)

    assert aggregator.renumbered == []
    assert aggregator.duplicate_count == 16
    assert [gap.cause for gap in aggregator.gaps(BTC)] == ["start"]


def test_real_duplicates_never_begin_the_ids_anew() -> None:
    happened = [make_trade(i, START + 40 * i) for i in range(1, 200)]
    aggregator = new_aggregator()
    aggregator.add(happened, 0)

    aggregator.add(happened, 0)

    assert aggregator.renumbered == []


@pytest.mark.parametrize("delay", [0, 10**11])
def test_a_message_from_the_far_future_does_not_move_the_clock(delay: int) -> None:
    far = START + 10**11
    aggregator = new_aggregator()
    aggregator.add([make_trade(1, START, event_time=START + 1)], 0)

    aggregator.add([make_trade(2, far - delay, event_time=far)] * 2, 1)
    aggregator.add([make_trade(3, START + 3, event_time=START + 4)], 2)

    assert START <= aggregator.clock(10) <= START + 100
    assert not aggregator.collect().finished
    assert aggregator.trade_count == 3


def test_the_clock_leaps_when_two_trades_say_so_as_after_a_long_outage() -> None:
    hour = 3_600_000
    aggregator = new_aggregator()
    aggregator.add([make_trade(1, START)], 0)

    aggregator.add([make_trade(2, START + hour)], 1)
    assert aggregator.clock(1) < START + hour
    aggregator.add([make_trade(1, START + hour + 5, symbol=ETH)], 2)

    assert aggregator.clock(2) == START + hour + 5
    aggregator.advance(GRACE + INTERVAL)
    assert (BTC, START) in aggregator.collect().finished


FAR = START + 10**11  # more than three years


def test_a_first_trade_of_all_from_the_far_future_is_not_believed_once_another_contradicts() -> (
    None
):
    aggregator = new_aggregator()
    aggregator.add([make_trade(1, FAR)], 0)
    aggregator.add([make_trade(8, START + 4_000)], 1)

    assert START <= aggregator.clock(10) <= START + 4_100
    aggregator.add([make_trade(5, START + INTERVAL + 2_000, symbol=ETH)], 2)
    assert aggregator.gaps(ETH) == (start_gap(4, START, START + INTERVAL + 2_000),)


def test_a_first_batch_that_begins_with_a_trade_from_the_far_future_sets_the_right_clock() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(1, FAR), make_trade(2, START), make_trade(1, symbol=ETH)], 0)

    assert aggregator.clock(10) <= START + 10


def test_gaps_that_were_held_to_be_too_old_by_a_wrong_clock_are_asked_for_after_all() -> None:
    before = new_aggregator()
    before.add([make_trade(0, START), make_trade(9, START + 100)], 0)
    aggregator = resumed(written_after(before))
    aggregator.add([make_trade(1, FAR, symbol=ETH)], 0)
    repaired(aggregator, abandoned_through=8, abandoned_before_ms=FAR - 3_600_000)
    assert aggregator.gaps(BTC)[0].is_abandoned

    aggregator.add([make_trade(10, START + 200)], 0)

    assert not aggregator.gaps(BTC)[0].is_abandoned
    assert not aggregator.collect().checkpoints[BTC].ledger.gaps[0].is_abandoned


def test_a_clock_with_which_no_trade_agrees_is_set_back_when_two_say_so() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(1, FAR), make_trade(2, FAR + 1)], 0)
    aggregator.add([make_trade(1, START, symbol=ETH), make_trade(2, START, symbol=ETH)], MINUTE - 1)
    assert aggregator.clock(MINUTE) >= FAR, "these may just be late"

    aggregator.add([make_trade(3, START + 5, symbol=ETH)], MINUTE)

    assert START <= aggregator.clock(MINUTE) <= START + 100


def test_trades_that_a_stalled_connection_brings_late_do_not_set_the_clock_back() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(1, START), make_trade(1, START, symbol=ETH)], 0)
    for second in range(1, 300):
        now = second * 1_000
        aggregator.add([make_trade(1 + second, START + now)], now)
        aggregator.add([make_trade(1 + second, START + second, symbol=ETH)], now)

    assert aggregator.clock(now) == START + now


@pytest.mark.parametrize("is_first", [False, True])
def test_a_newest_trade_from_the_far_future_does_not_move_the_clock(is_first: bool) -> None:
    aggregator = new_aggregator()
    if not is_first:
        aggregator.add([make_trade(5, START), make_trade(5, START, symbol=ETH)], 0)

    aggregator.on_latest_trade(BTC, 8, FAR, MINUTE)
    aggregator.on_latest_trade(BTC, 8, FAR, 2 * MINUTE)
    aggregator.add([make_trade(6, START + 2 * MINUTE, symbol=ETH)], 2 * MINUTE)

    assert START <= aggregator.clock(2 * MINUTE) <= START + 2 * MINUTE
    assert is_first or aggregator.gaps(BTC)[-1].last_id == 8, "that trade is missing all the same"


def test_the_clock_leaps_when_two_newest_trades_say_so_however_far_apart_they_are() -> None:
    hour = 3_600_000
    aggregator = new_aggregator()
    aggregator.add([make_trade(5, START), make_trade(5, START, symbol=ETH)], 0)

    aggregator.on_latest_trade(BTC, 8, START + hour, MINUTE)
    assert aggregator.clock(MINUTE) < START + hour
    aggregator.on_latest_trade(BTC, 9, START + 2 * hour, 2 * MINUTE)

    assert aggregator.clock(2 * MINUTE) == START + hour


def test_the_first_bar_is_wanted_whole_since_its_interval_began() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(100, START + 4_000)], 0)

    state = aggregator.collect().checkpoints[BTC].ledger

    assert state.gaps == (start_gap(99, START, START + 4_000),)


def test_a_skipped_id_is_a_gap_until_it_comes() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(0), make_trade(2, START + 2)], 0)
    assert len(aggregator.gaps(BTC)) == 1

    aggregator.add([make_trade(1, START + 1)], 0)

    assert aggregator.gaps(BTC) == ()
    assert aggregator.collect().checkpoints[BTC].ledger.gaps == ()


def test_the_last_collect_finishes_open_bars_as_unclosed() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(1)], 0)

    changes = aggregator.collect(is_last=True)

    half = bar_of([make_trade(1)], is_closed=False)
    assert changes.finished == {(BTC, START): half}
    assert changes.checkpoints[BTC].open_bars == (half,), "to be continued after a restart"


def test_open_bars_are_checkpointed_when_one_has_grown() -> None:
    early, late = make_trade(1), make_trade(2, START + INTERVAL)
    aggregator = new_aggregator()
    aggregator.add([early], 0)
    half = bar_of([early], is_closed=False)
    assert aggregator.collect().checkpoints[BTC].open_bars == (half,)
    assert not aggregator.collect()

    aggregator.add([late], 0)

    assert aggregator.collect().checkpoints[BTC].open_bars == (
        half,
        bar_of([late], is_closed=False),
    )
    assert not aggregator.waiting_bar_count


def test_a_bar_that_closes_leaves_the_checkpoint_though_no_trade_comes() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(1)], 0)
    assert aggregator.collect().checkpoints[BTC].open_bars

    aggregator.advance(INTERVAL + GRACE + SLOW)

    changes = aggregator.collect_bars()
    assert changes.finished.keys() == {(BTC, START)}
    assert changes.checkpoints[BTC].open_bars == ()


def with_bars_of(symbols: list[str]) -> Aggregator:
    """Return an aggregator in which a bar of each of *symbols* has closed."""
    aggregator = Aggregator(spot_series(symbols), interval_ms=INTERVAL, grace_ms=GRACE)
    aggregator.connected(symbols, 0)
    for symbol in symbols:
        close_another(aggregator, symbol, 0)
    return aggregator


def close_another(aggregator: Aggregator, symbol: str, number: int) -> None:
    """Have bar *number* of *symbol* close, by its own next trade."""
    open_time = START + number * INTERVAL
    aggregator.add([make_trade(2 * number, open_time, symbol=symbol)], 0)
    aggregator.add([make_trade(2 * number + 1, open_time + INTERVAL + GRACE, symbol=symbol)], 0)


def test_a_part_of_the_bars_is_collected_in_the_order_of_names_round_and_round() -> None:
    aggregator = with_bars_of(["D", "B", "A", "E", "C"])
    taken = [list(aggregator.collect_bars(2).finished)]

    close_another(aggregator, "A", 1)
    close_another(aggregator, "E", 1)
    while aggregator.waiting_bar_count:
        taken.append(list(aggregator.collect_bars(2).finished))

    names = [sorted({symbol for symbol, _ in keys}) for keys in taken]
    assert names == [["A", "B"], ["C", "D"], ["A", "E"]]
    assert taken[2].count(("E", START)) + taken[2].count(("E", START + INTERVAL)) == 2
    assert aggregator.collect_bars(2) == WriteBatch()


def test_bars_that_are_not_collected_yet_are_not_in_a_checkpoint_either() -> None:
    aggregator = with_bars_of(["A", "B"])
    aggregator.collect_bars(1)

    assert aggregator.waiting_bar_count == 1
    rest = aggregator.collect_due(0)
    assert rest.finished.keys() == {("B", START)}
    assert rest.checkpoints.keys() == {"B"}
    assert rest.checkpoints["B"].closed_through == START


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
    assert changes.checkpoints[BTC].ledger.gaps == aggregator.gaps(BTC)


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
    aggregator.on_latest_trade(BTC, 9, START, MINUTE)
    due.append(aggregator.collect_due(1))

    missing = [
        [(gap.first_id, gap.last_id) for gap in changes.checkpoints[BTC].ledger.gaps[1:]]
        for changes in due
    ]
    assert missing == [[(2, 7)], [(3, 7)], [(3, 7)], [(6, 7)], [(6, 7), (9, 9)]]
    assert due[3].resolved == [(BTC, 3, 5, ABSENT)]
    assert not aggregator.collect_due(2)


def test_a_symbol_is_saved_when_it_trades_for_the_first_time() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(1, symbol=ETH)], 0)
    assert aggregator.collect().checkpoints[BTC].ledger.next_id is None

    aggregator.add([make_trade(0)], 0)

    assert aggregator.collect_due(1).checkpoints[BTC].ledger.next_id == 1


def lines_run(function: Callable[[], object]) -> int:
    """Return how many lines of Python are run by *function*: a cost that is always the same."""
    lines = 0

    def trace(_frame: object, event: str, _argument: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return lines


def cost_of_three_bars(symbol_count: int) -> int:
    """Return what it costs to look 300 times, in 30 s, after 10 symbols that trade among many."""
    symbols = [f"C{number}USDT" for number in range(symbol_count)]
    aggregator = Aggregator(spot_series(symbols), interval_ms=INTERVAL, grace_ms=GRACE)
    aggregator.connected(symbols, 0)
    aggregator.add([make_trade(1, symbol=symbol) for symbol in symbols], 0)
    while aggregator.next_look_in(MINUTE) == 0:
        aggregator.advance(MINUTE)
    assert len(aggregator.collect().finished) == symbol_count
    bars = 0

    def tick() -> None:
        nonlocal bars
        for step in range(300):
            now = MINUTE + 100 * step
            batch = [make_trade(step + 2, START + now, symbol=name) for name in symbols[:10]]
            aggregator.add(batch, now)
            aggregator.advance(now)
            aggregator.next_look_in(now)
            collect = aggregator.collect_due if step % 10 == 0 else None
            changes = collect(now) if collect else aggregator.collect_bars()
            bars += len(changes.finished)

    lines = lines_run(tick)
    assert bars == 20
    return lines


def test_symbols_that_do_not_trade_cost_nothing() -> None:
    assert cost_of_three_bars(3_000) <= 1.05 * cost_of_three_bars(10)


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


def test_a_continued_bar_without_a_further_trade_closes_by_the_market() -> None:
    before = new_aggregator()
    before.add([make_trade(1)], 0)
    written = written_after(before)

    after = resumed(written)
    after.add([make_trade(1, START + INTERVAL + GRACE, symbol=ETH)], GRACE)
    after.advance(GRACE)

    assert after.collect().finished == {(BTC, START): bar_of([make_trade(1)])}


def test_what_is_known_of_a_symbol_no_longer_collected_is_left_alone() -> None:
    before = new_aggregator()
    before.add([make_trade(1, symbol=ETH)], 0)
    written = written_after(before)

    after = Aggregator(spot_series([BTC]), interval_ms=INTERVAL, grace_ms=GRACE)
    after.resume(written.checkpoints)

    assert not after.collect(is_last=True)


def test_one_write_makes_up_for_several_that_failed() -> None:
    aggregator = new_aggregator()
    pending = WriteBatch()
    for trade in (
        make_trade(1),
        make_trade(3, START + 1),
        make_trade(4, START + 2 * INTERVAL),
        make_trade(2, START + 2, event_time=START),
    ):
        aggregator.add([trade], 0)
        pending.update(aggregator.collect())

    whole = bar_of([make_trade(1), make_trade(2, START + 2), make_trade(3, START + 1)])
    assert pending.finished == {(BTC, START): whole}
    (still_open,) = pending.checkpoints[BTC].open_bars
    assert still_open.open_time_ms == START + 2 * INTERVAL
    assert not pending.amendments
    assert pending.checkpoints[BTC].ledger.next_id == 5


def test_of_two_bans_the_later_one_is_written() -> None:
    batch = WriteBatch(ban=Ban(1, 0))
    assert batch, "it is to be written even alone"

    batch.update(WriteBatch())
    assert batch.ban == Ban(1, 0)
    batch.update(WriteBatch(ban=Ban(2, 0)))
    assert batch.ban == Ban(2, 0)


def test_of_two_words_about_the_same_thing_the_later_one_is_written() -> None:
    bars = [bar_of([make_trade(i)]) for i in (1, 2)]
    checkpoints = [Checkpoint(LedgerState(i, START, ())) for i in (1, 2)]
    words = [
        WriteBatch(
            finished={(BTC, START): bar},
            checkpoints={BTC: checkpoint},
            resolved=[(BTC, number, number, ABSENT)],
            attempts={(BTC, 7): number},
        )
        for number, (bar, checkpoint) in enumerate(zip(bars, checkpoints, strict=True))
    ]

    words[0].update(words[1])

    assert words[0].finished == {(BTC, START): bars[1]}
    assert words[0].checkpoints == {BTC: checkpoints[1]}
    assert words[0].attempts == {(BTC, 7): 1}
    assert words[0].resolved == [(BTC, number, number, ABSENT) for number in (0, 1)]


def test_an_amendment_that_could_not_be_written_waits_for_the_bar_or_the_next_one() -> None:
    key = (BTC, START)
    pending = WriteBatch(amendments={key: bar_of([make_trade(1)])})
    pending.update(WriteBatch(amendments={key: bar_of([make_trade(2)])}))

    assert pending.amendments == {key: bar_of([make_trade(1), make_trade(2)])}
    assert replace(pending.amendments[key], is_closed=True) == pending.amendments[key]


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


@settings(deadline=None)
@given(
    st.sampled_from([-7_000, 3_000, 7_000]),
    st.lists(st.tuples(st.sampled_from(["", BTC, ETH, BTC + ETH]), st.integers(1, 2_500))),
)
def test_whatever_the_rhythm_no_bar_closes_before_its_symbols_own_clock_says_so(
    skew: int, steps: list[tuple[str, int]]
) -> None:
    aggregator = new_aggregator()
    now = 0
    next_id = {BTC: count(), ETH: count()}
    for who, pause in [(BTC, 100), (ETH, 100)] * 2 + steps:
        now += pause
        batch: list[Trade] = []
        if BTC in who:
            batch.append(make_trade(next(next_id[BTC]), START + now))
        if ETH in who:
            batch.append(make_trade(next(next_id[ETH]), START + now + skew, symbol=ETH))
        aggregator.add(batch, now)
        aggregator.advance(now)

    changes = aggregator.collect()

    assert not changes.amendments
    for bar in changes.finished.values():
        assert bar.end_time_ms + GRACE <= START + now + (skew if bar.symbol == ETH else 0)


def run_of(*parts: Trade) -> TradeRange:
    """Return trades of one taker as the exchange's aggregate of them."""
    first, last = parts[0], parts[-1]
    quantity = sum((trade.quantity for trade in parts), Decimal(0))
    return TradeRange(
        first.trade_id, last.trade_id, first.price, quantity, first.time, first.is_buyer_maker
    )


def repaired(aggregator: Aggregator, *runs: TradeRange, symbol: str = BTC, **changes: Any) -> None:
    """Have the exchange answer about the newest gap."""
    gap = aggregator.gaps(symbol)[-1]
    aggregator.repair(BackfillResult(symbol, gap, runs, **changes))


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
    aggregator.repair(BackfillResult(BTC, aggregator.gaps(BTC)[0], [run_of(*happened[1:4])]))

    assert aggregator.gaps(BTC) == ()
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

    aggregator.repair(BackfillResult(BTC, Gap(6, 6, 0, 0, GapCause.SKIPPED), [run_of(early)]))

    assert [gap.first_id for gap in aggregator.gaps(BTC)] == [0, 8]
    assert aggregator.gaps(BTC)[0].since_ms == START
    changes = aggregator.collect(is_last=True)
    assert not changes.amendments
    assert {key: bar.trade_count for key, bar in changes.finished.items()} == {(BTC, START): 3}


def test_a_live_trade_from_before_the_beginning_makes_no_bar_of_which_the_rest_is_not_wanted() -> (
    None
):
    trades = [make_trade(5, START + 4_000), make_trade(7, START + 5_000)]
    aggregator = new_aggregator()
    aggregator.add(trades[:1], 0)
    repaired(aggregator, begins_at=5)

    aggregator.add([make_trade(6, START - 1), trades[1]], 0)

    assert aggregator.gaps(BTC) == ()
    finished = aggregator.collect(is_last=True).finished
    assert finished == {(BTC, START): bar_of(trades, is_closed=False)}


def test_a_run_of_which_a_part_is_known_is_left_to_be_asked_for_by_id() -> None:
    trades = [make_trade(trade_id, START + trade_id) for trade_id in range(6)]
    aggregator = new_aggregator()
    aggregator.add([trades[0], trades[2], trades[5]], 0)

    repaired(aggregator, run_of(*trades[2:4]), run_of(trades[4]))

    assert [(gap.first_id, gap.last_id) for gap in aggregator.gaps(BTC)] == [(1, 1), (3, 3)]
    assert aggregator.repaired_count == 1


def test_the_same_answer_twice_counts_once() -> None:
    trades = [make_trade(trade_id, START + trade_id) for trade_id in range(4)]
    aggregator = new_aggregator()
    aggregator.add([trades[0], trades[3]], 0)
    gap = aggregator.gaps(BTC)[0]

    for _ in range(2):
        aggregator.repair(BackfillResult(BTC, gap, [run_of(*trades[1:3])]))

    assert written_after(aggregator).closed == bars_of(trades)


def test_old_trades_say_nothing_of_the_exchanges_clock() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(0, START), make_trade(9, START + 300)], 0)

    repaired(aggregator, run_of(make_trade(5, START + 60_000)))

    assert aggregator.clock(0) == START + 300
    assert finished(aggregator) == []


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
    assert changes.resolved == [(BTC, 4, 5, ABSENT)]


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
            aggregator.repair(
                BackfillResult(BTC, Gap(1, 1, 0, 0, GapCause.SKIPPED), [run_of(happened[1])])
            )
    changes = aggregator.collect(is_last=True)

    assert [(symbol, gap.first_id, gap.last_id) for symbol, gap in changes.reopened] == [
        (BTC, 1, 1)
    ]
    assert (aggregator.gaps(BTC), aggregator.absent(BTC)) == ((), ())
    written.pending.update(changes)
    written.write()
    assert written.closed[BTC, START] == bar_of(happened[:2])


def test_that_absent_ids_were_confirmed_once_more_is_saved() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(0, START), make_trade(9, START + 300)], 0)
    repaired(aggregator, absent=[(1, 8)], absent_at=START + 700_000)
    assert aggregator.collect_due(0).checkpoints[BTC].ledger.absent[0].looks == 0

    (absent,) = aggregator.absent(BTC)
    aggregator.repair(BackfillResult(BTC, absent, absent=[(1, 8)], absent_at=START + 5_000_000))

    (saved,) = aggregator.collect_due(0).checkpoints[BTC].ledger.absent
    assert (saved.looks, saved.absent_at) == (1, START + 700_000)


def test_an_answer_is_noted_with_its_gap() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(0, START), make_trade(9, START + 300)], 0)

    repaired(aggregator, error="no answer")

    (gap,) = aggregator.gaps(BTC)
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

    assert aggregator.gaps(BTC) == ()
    assert aggregator.collect().attempts == {(BTC, 1): 2}


def test_a_gap_is_named_after_what_made_it() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(0, START), make_trade(2, START)], 0)
    aggregator.disconnected(SYMBOLS, 0)
    aggregator.connected(SYMBOLS, 0)
    aggregator.add([make_trade(4, START), make_trade(6, START)], 0)
    restarted = resumed(written_after(aggregator))
    restarted.add([make_trade(8, START), make_trade(10, START)], 0)

    causes = [gap.cause for gap in restarted.gaps(BTC)]
    assert causes == [SKIPPED, RECONNECT, SKIPPED, RESTART, SKIPPED]


def test_a_second_connection_that_comes_or_goes_is_no_reconnect() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(0, START)], 0)
    aggregator.connected(SYMBOLS, 0)
    aggregator.disconnected(SYMBOLS, 0)
    aggregator.add([make_trade(2, START)], 0)

    assert [gap.cause for gap in aggregator.gaps(BTC)] == [SKIPPED]


def looks(aggregator: Aggregator, begin: int, end: int, talker: str = ETH) -> dict[str, list[int]]:
    """Look for quiet symbols every few seconds while *talker* trades; return who, and when."""
    found: dict[str, list[int]] = {}
    for now in range(begin, end, LOOK):
        aggregator.add([make_trade(now, START + now, symbol=talker)], now)
        for symbol in aggregator.idle_symbols(now):
            found.setdefault(symbol, []).append(now)
    return found


def test_a_symbol_that_falls_silent_is_suspected_after_a_minute_and_then_ever_more_rarely() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(0, START), make_trade(0, START, symbol=UNICODE)], 0)

    found = looks(aggregator, LOOK, 20 * MINUTE)

    assert found[BTC] == [MINUTE, 2 * MINUTE, 4 * MINUTE, 8 * MINUTE, 16 * MINUTE]
    assert found[UNICODE] == found[BTC]
    assert ETH not in found


def test_a_symbol_that_never_traded_since_it_was_connected_is_suspected_as_well() -> None:
    assert MINUTE in looks(new_aggregator(), 0, 2 * MINUTE)[BTC]


def test_a_symbol_that_is_seldom_traded_is_left_in_peace_for_four_times_its_habit() -> None:
    aggregator = new_aggregator()
    for number in range(6):  # a trade every 50 seconds
        at = number * 50_000
        aggregator.add([make_trade(number, START + at)], at)
        assert BTC not in looks(aggregator, at + LOOK, at + 50_000)
    silent_since = 5 * 50_000

    (first, *_) = looks(aggregator, silent_since + 50_000, silent_since + 8 * MINUTE)[BTC]

    assert 4 * 40_000 <= first - silent_since <= 4 * 50_000


def test_a_symbol_without_a_connection_is_not_suspected() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(0, START)], 0)
    aggregator.disconnected(SYMBOLS, 0)

    assert aggregator.idle_symbols(10 * MINUTE) == []


def quiet_minute() -> Aggregator:
    """Return an aggregator in whose second minute one symbol alone trades."""
    aggregator = new_aggregator()
    aggregator.add([make_trade(trade_id, START) for trade_id in range(6)], 0)
    looks(aggregator, LOOK, MINUTE + LOOK)
    return aggregator


def test_a_symbol_whose_newest_trade_is_known_is_only_quiet() -> None:
    aggregator = quiet_minute()

    assert not aggregator.on_latest_trade(BTC, 5, START, MINUTE)
    assert aggregator.gaps(BTC) == ()


def test_a_stream_that_did_not_bring_a_trade_of_a_while_ago_is_dead_and_the_trade_is_missing() -> (
    None
):
    aggregator = quiet_minute()

    assert aggregator.on_latest_trade(BTC, 8, START + 30_000, MINUTE)

    since, until = START - DISORDER_MS, START + 30_000 + DISORDER_MS
    assert aggregator.gaps(BTC) == (Gap(6, 8, since, until, SILENT_STREAM),)
    assert not aggregator.on_latest_trade(BTC, 8, START + 30_000, MINUTE), "said once"


def test_a_trade_of_this_moment_may_be_on_its_way() -> None:
    aggregator = quiet_minute()

    assert not aggregator.on_latest_trade(BTC, 8, START + MINUTE - 100, MINUTE)
    aggregator.add([make_trade(6, START + MINUTE), make_trade(7, START + MINUTE)], MINUTE + 10)
    aggregator.add([make_trade(8, START + MINUTE)], MINUTE + 10)

    assert not aggregator.on_latest_trade(BTC, 9, START + MINUTE + 10_000, MINUTE + 10_000)
    assert aggregator.gaps(BTC) == ()


def test_the_stream_of_a_busy_symbol_is_dead_when_a_trade_known_to_rest_still_has_not_come() -> (
    None
):
    aggregator = quiet_minute()
    assert not aggregator.on_latest_trade(BTC, 800, START + MINUTE, MINUTE)

    soon = MINUTE + 2 * LOOK
    assert BTC in aggregator.idle_symbols(soon), "it is looked at again soon"
    assert aggregator.on_latest_trade(BTC, 900, START + soon, soon)
    assert aggregator.gaps(BTC)[0].last_id == 900


def test_a_dead_stream_is_looked_at_again_within_a_minute() -> None:
    aggregator = quiet_minute()
    looks(aggregator, MINUTE + LOOK, 7 * MINUTE)
    now = 8 * MINUTE
    assert BTC in aggregator.idle_symbols(now)
    assert aggregator.on_latest_trade(BTC, 8, START + MINUTE, now)

    assert BTC in looks(aggregator, now + LOOK, now + MINUTE + 2 * LOOK)


def test_a_market_of_one_dead_stream_is_found_out_by_the_time_that_passes() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(5, START)], 0)
    aggregator.idle_symbols(LOOK)

    assert aggregator.on_latest_trade(BTC, 8, START + 30_000, MINUTE)


def test_what_was_traded_while_nobody_listened_is_missing_but_its_stream_is_not_dead() -> None:
    written = written_after(quiet_minute())
    aggregator = resumed(written, 5 * MINUTE)
    looks(aggregator, 5 * MINUTE, 6 * MINUTE + LOOK)

    assert not aggregator.on_latest_trade(BTC, 8, START + 4 * MINUTE, 6 * MINUTE)

    assert [(gap.last_id, gap.cause) for gap in aggregator.gaps(BTC)] == [(8, RESTART)]


def test_a_stream_that_never_brought_anything_is_missing_all_since_collecting_began() -> None:
    aggregator = new_aggregator()
    looks(aggregator, 0, MINUTE + LOOK)

    assert not aggregator.on_latest_trade(BTC, 8, START - 1, MINUTE), "that was before"
    assert aggregator.gaps(BTC) == ()
    assert aggregator.on_latest_trade(BTC, 9, START + 30_000, MINUTE)
    assert aggregator.gaps(BTC) == (start_gap(9, START, START + 30_000),)
    repaired(aggregator, run_of(make_trade(9, START + 30_000)), begins_at=9)
    assert aggregator.gaps(BTC) == ()
    assert written_after(aggregator).bars[BTC, START + 30_000].trade_count == 1


def test_a_local_clock_that_runs_fast_never_gets_ahead_of_the_exchange() -> None:
    aggregator = new_aggregator()
    for second in range(0, 86_400, 3):
        fast = second * 1_000 + second // 2  # 500 millionths
        aggregator.add([make_trade(second, START + second * 1_000)], fast)

    assert aggregator.clock(fast) == START + second * 1_000
