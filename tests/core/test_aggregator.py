"""What the trades of all symbols become: exact bars, each closed at its time."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bintrades.core.aggregator import Aggregator
from bintrades.core.write_batch import WriteBatch
from tests.core.aggregators import (
    BTC,
    ETH,
    GRACE,
    MINUTE,
    SLOW,
    finished,
    new_aggregator,
    play,
    resumed,
    written_after,
)
from tests.line_meter import lines_run
from tests.strategies import (
    INTERVAL,
    START,
    SYMBOLS,
    arrivals,
    bar_of,
    bars_of,
    make_trade,
    spot_series,
    trades,
)

if TYPE_CHECKING:
    from bintrades.model import Trade


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
