"""The exchange's clock, as trades and REST tell it, right or wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bintrades.core.exchange_clock import ExchangeClock
from bintrades.core.newest_ids import NewestIds
from tests.core.aggregators import (
    BTC,
    ETH,
    GRACE,
    MINUTE,
    SLOW,
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
    make_trade,
)


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


def test_a_trade_stamped_long_ago_turns_no_clock_back() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(5, START + 9_000)], now=0)
    aggregator.add([make_trade(4, START, event_time=START)], now=0)

    assert aggregator.clock(0) == START + 9_000


def test_what_cannot_be_undone_goes_by_no_clock_that_only_one_trade_tells() -> None:
    aggregator = new_aggregator()
    days_ago = START - 4 * 86_400_000
    assert aggregator.confirmed_clock(0) == 0

    aggregator.on_newest_ids(NewestIds({}, days_ago, 10))
    assert aggregator.clock(10) == days_ago
    assert aggregator.confirmed_clock(10) == 0

    for trade_id in (1, 2, 3):
        aggregator.add([make_trade(trade_id, START + trade_id)], 20 + trade_id)
    assert aggregator.confirmed_clock(23) == aggregator.clock(23) >= START


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
    assert aggregator.series[ETH].gap_set.missing == (
        start_gap(4, START, START + INTERVAL + 2_000),
    )


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
    assert aggregator.series[BTC].gap_set.missing[0].is_abandoned

    aggregator.add([make_trade(10, START + 200)], 0)

    assert not aggregator.series[BTC].gap_set.missing[0].is_abandoned
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


def test_an_answer_of_another_time_than_trades_show_is_not_believed() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(5, START), make_trade(5, START, symbol=ETH)], 0)

    for now in (1_000, 30_000):
        assert not aggregator.on_newest_ids(NewestIds({BTC: 5, ETH: 5}, FAR, now))
        assert not aggregator.on_newest_ids(NewestIds({BTC: 5, ETH: 5}, START - 90_000, now))

    assert aggregator.clock(30_000) <= START + 30_000
    assert aggregator.collect().checkpoints[BTC].proven_ms == START


def test_one_answer_from_the_far_future_does_not_move_the_clock() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(5, START), make_trade(5, START, symbol=ETH)], 0)

    aggregator.on_newest_ids(NewestIds({}, FAR, 2 * MINUTE))

    assert aggregator.clock(2 * MINUTE) <= START + 2 * MINUTE


def test_the_clock_leaps_when_an_answer_and_a_trade_say_so() -> None:
    hour = 3_600_000
    aggregator = new_aggregator()
    aggregator.add([make_trade(5, START), make_trade(5, START, symbol=ETH)], 0)

    aggregator.on_newest_ids(NewestIds({}, START + hour, MINUTE))
    assert aggregator.clock(MINUTE) < START + hour
    aggregator.add([make_trade(6, START + hour + MINUTE)], 2 * MINUTE)

    assert aggregator.clock(2 * MINUTE) == START + hour + MINUTE


def test_in_a_silent_market_the_clock_leaps_when_two_answers_say_so() -> None:
    hour = 3_600_000
    aggregator = new_aggregator()
    aggregator.add([make_trade(5, START), make_trade(5, START, symbol=ETH)], 0)
    aggregator.disconnected(SYMBOLS, 1_000)
    aggregator.connected(SYMBOLS, hour)

    aggregator.on_newest_ids(NewestIds({}, START + hour, hour))
    assert aggregator.clock(hour) < START + hour
    aggregator.on_newest_ids(NewestIds({}, START + hour + MINUTE, hour + MINUTE))

    assert aggregator.clock(hour + MINUTE) == START + hour + MINUTE


def test_an_answer_that_agrees_confirms_what_one_trade_tells() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(5, START)], 0)
    assert aggregator.confirmed_clock(0) == 0

    aggregator.on_newest_ids(NewestIds({}, START - 800, 100))

    assert aggregator.confirmed_clock(100) == aggregator.clock(100) >= START


def test_old_trades_say_nothing_of_the_exchanges_clock() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(0, START), make_trade(9, START + 300)], 0)

    repaired(aggregator, run_of(make_trade(5, START + 60_000)))

    assert aggregator.clock(0) == START + 300
    assert finished(aggregator) == []


def test_a_local_clock_that_runs_fast_never_gets_ahead_of_the_exchange() -> None:
    aggregator = new_aggregator()
    for second in range(0, 86_400, 3):
        fast = second * 1_000 + second // 2  # 500 millionths
        aggregator.add([make_trade(second, START + second * 1_000)], fast)

    assert aggregator.clock(fast) == START + second * 1_000


@given(st.integers(0, 900_000), st.integers(0, 10**9))
def test_at_the_end_of_the_delay_the_clock_has_come_as_far_to_the_millisecond(
    left: int, passed: int
) -> None:
    clock = ExchangeClock()
    clock.connected(0)
    clock.judge(make_trade(1), make_trade(1), 0)
    clock.advance(START, 0)

    delay = clock.delay_until(START + left, passed)

    assert clock.at(passed + delay) >= START + left - 1
    assert delay == 0 or clock.at(passed) < START + left


def test_a_clock_stands_still_without_a_connection_and_goes_on_with_the_next() -> None:
    clock = ExchangeClock()
    assert (clock.at(5), clock.is_running) == (0, False)
    clock.connected(0)
    clock.connected(0)
    clock.judge(make_trade(1), make_trade(2), 0)

    clock.disconnected(100)
    assert clock.at(1_000) == START + 999, "one is left"
    clock.disconnected(1_000)
    assert clock.at(9_000) == START + 999
    clock.connected(9_000)
    assert clock.at(9_100) == START + 1_099


def test_a_batch_tells_whether_it_has_set_the_clock_back() -> None:
    clock = ExchangeClock()
    ahead, right = make_trade(1, START + 10**9), make_trade(2)

    assert clock.judge(ahead, ahead, 0) == (START + 10**9, False)
    assert clock.judge(right, right, 0) == (START, True)
