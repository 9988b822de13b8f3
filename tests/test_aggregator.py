"""What the trades of all symbols become: exact bars, each closed at its time."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from itertools import count, pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bintrades.aggregator import Aggregator
from bintrades.changes import Changes
from bintrades.model import Gap
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
    trades,
)

if TYPE_CHECKING:
    from bintrades.model import Bar, Trade

GRACE = 500
BTC, ETH, UNICODE = SYMBOLS


def new_aggregator(now: int = 0) -> Aggregator:
    """Return an aggregator with one connection that carries all symbols."""
    aggregator = Aggregator(SYMBOLS, market="spot", interval_ms=INTERVAL, grace_ms=GRACE)
    aggregator.connected(SYMBOLS, now)
    return aggregator


def resumed(written: Written, now: int = 0) -> Aggregator:
    """Return an aggregator that goes on from what was written."""
    aggregator = Aggregator(SYMBOLS, market="spot", interval_ms=INTERVAL, grace_ms=GRACE)
    aggregator.resume(written.ledgers, written.unclosed, written.stored_through)
    aggregator.connected(SYMBOLS, now)
    return aggregator


def written_after(aggregator: Aggregator, *, is_last: bool = True) -> Written:
    """Return what is written after everything was collected."""
    written = Written()
    written.pending.update(aggregator.collect(is_last=is_last))
    written.write()
    return written


def finished(aggregator: Aggregator) -> list[Bar]:
    """Return the bars that the aggregator has ready for the stores."""
    return list(aggregator.collect().finished.values())


def play(steps: list[Step], *, is_restarting: bool) -> Written:
    """Take *steps* as the recorder would, then once more all that was lost by the restarts."""
    written = Written()
    aggregator = new_aggregator()
    now = 0
    for step in steps:
        aggregator.add(step.trades, now)
        now += step.pause_ms
        aggregator.advance(now)
        if step.is_collected:
            written.pending.update(aggregator.collect())
            if step.is_written:
                written.write()
        if is_restarting and step.is_restarted:
            written.pending = Changes()
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
        gaps = written.ledgers[symbol].gaps if ids else ()
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

    aggregator.advance(1_000_000 + 6_000 + GRACE)
    assert finished(aggregator) == [bar_of([make_trade(1, START + 4_000)])]


def test_the_clock_stands_still_while_there_is_no_connection() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(1)], now=0)
    aggregator.disconnected(SYMBOLS, now=1_000)

    for now in range(2_000, 3_600_000, 60_000):
        aggregator.advance(now)
    assert finished(aggregator) == []
    assert aggregator.market_time == START + 1_000

    aggregator.connected(SYMBOLS, now=3_600_000)
    aggregator.advance(3_600_000 + INTERVAL + GRACE - 1_000 - 1)
    assert finished(aggregator) == []
    aggregator.advance(3_600_000 + INTERVAL + GRACE - 1_000)
    assert len(finished(aggregator)) == 1


def test_a_symbol_whose_connection_is_gone_keeps_its_bars_open() -> None:
    aggregator = Aggregator(SYMBOLS, market="spot", interval_ms=INTERVAL, grace_ms=GRACE)
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
    aggregator.advance(INTERVAL + GRACE)

    assert len(finished(aggregator)) == 1


def test_after_a_reconnect_a_symbol_gets_the_grace_to_speak_before_its_bars_close() -> None:
    aggregator = Aggregator(SYMBOLS, market="spot", interval_ms=INTERVAL, grace_ms=GRACE)
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

    aggregator.advance(closes_at)
    assert BTC in {bar.symbol for bar in finished(aggregator)}


def test_a_trade_stamped_long_ago_turns_no_clock_back() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(5, START + 9_000)], now=0)
    aggregator.add([make_trade(4, START, event_time=START)], now=0)

    assert aggregator.market_time == START + 9_000


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


def test_a_bar_closed_early_takes_no_trade_twice() -> None:
    aggregator = new_aggregator()
    happened = [make_trade(1), make_trade(2, START + 2 * INTERVAL)]
    aggregator.add(happened, 0)
    aggregator.collect()

    aggregator.add(happened, 0)

    assert not aggregator.collect()
    assert aggregator.duplicate_count == 2


def test_the_first_bar_is_wanted_whole_since_its_interval_began() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(100, START + 4_000)], 0)

    state = aggregator.collect().ledgers[BTC]

    assert state.gaps == (Gap(0, 99, START, START + 4_000, "start"),)
    assert aggregator.gap_count == 1


def test_a_skipped_id_is_a_gap_until_it_comes() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(0), make_trade(2, START + 2)], 0)
    assert aggregator.gap_count == 1

    aggregator.add([make_trade(1, START + 1)], 0)

    assert aggregator.gap_count == 0
    assert aggregator.collect().ledgers[BTC].gaps == ()


def test_the_last_collect_finishes_open_bars_as_unclosed() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(1)], 0)

    changes = aggregator.collect(is_last=True)

    assert changes.finished == {(BTC, START): bar_of([make_trade(1)], is_closed=False)}
    assert not changes.unfinished


def test_open_bars_are_checkpointed_when_they_have_grown() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(1)], 0)
    assert aggregator.collect().unfinished == {
        (BTC, START): bar_of([make_trade(1)], is_closed=False)
    }
    assert not aggregator.collect().unfinished

    aggregator.add([make_trade(2)], 0)

    (bar,) = aggregator.collect().unfinished.values()
    assert bar.trade_count == 2
    assert not aggregator.has_bars


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

    (gap,) = after.collect().ledgers[BTC].gaps
    assert (gap.first_id, gap.last_id) == (1, 9)
    assert (gap.since_ms, gap.until_ms) == (START, START + 60_000)


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

    after = Aggregator([BTC], market="spot", interval_ms=INTERVAL, grace_ms=GRACE)
    after.resume(written.ledgers, [], written.stored_through)

    assert not after.collect(is_last=True)


def test_one_write_makes_up_for_several_that_failed() -> None:
    aggregator = new_aggregator()
    pending = Changes()
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
    assert list(pending.unfinished) == [(BTC, START + 2 * INTERVAL)]
    assert not pending.amendments
    assert pending.ledgers[BTC].next_id == 5


def test_an_amendment_that_could_not_be_written_waits_for_the_bar_or_the_next_one() -> None:
    key = (BTC, START)
    pending = Changes(amendments={key: bar_of([make_trade(1)])})
    pending.update(Changes(amendments={key: bar_of([make_trade(2)])}))

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
