"""Which idle streams are checked, and which are dead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bintrades.core.gap_ranges import DISORDER_MS
from bintrades.model import Gap, GapCause
from tests.core.aggregators import (
    BTC,
    ETH,
    LOOK,
    MINUTE,
    UNICODE,
    new_aggregator,
    repaired,
    resumed,
    run_of,
    start_gap,
    written_after,
)
from tests.strategies import (
    START,
    SYMBOLS,
    make_trade,
)

if TYPE_CHECKING:
    from bintrades.core.aggregator import Aggregator


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
    assert aggregator.series[BTC].gap_set.missing == ()


def test_a_stream_that_did_not_bring_a_trade_of_a_while_ago_is_dead_and_the_trade_is_missing() -> (
    None
):
    aggregator = quiet_minute()

    assert aggregator.on_latest_trade(BTC, 8, START + 30_000, MINUTE)

    since, until = START - DISORDER_MS, START + 30_000 + DISORDER_MS
    assert aggregator.series[BTC].gap_set.missing == (
        Gap(6, 8, since, until, GapCause.SILENT_STREAM),
    )
    assert not aggregator.on_latest_trade(BTC, 8, START + 30_000, MINUTE), "said once"


def test_a_trade_of_this_moment_may_be_on_its_way() -> None:
    aggregator = quiet_minute()

    assert not aggregator.on_latest_trade(BTC, 8, START + MINUTE - 100, MINUTE)
    aggregator.add([make_trade(6, START + MINUTE), make_trade(7, START + MINUTE)], MINUTE + 10)
    aggregator.add([make_trade(8, START + MINUTE)], MINUTE + 10)

    assert not aggregator.on_latest_trade(BTC, 9, START + MINUTE + 10_000, MINUTE + 10_000)
    assert aggregator.series[BTC].gap_set.missing == ()


def test_the_stream_of_a_busy_symbol_is_dead_when_a_trade_known_to_rest_still_has_not_come() -> (
    None
):
    aggregator = quiet_minute()
    assert not aggregator.on_latest_trade(BTC, 800, START + MINUTE, MINUTE)

    soon = MINUTE + 2 * LOOK
    assert BTC in aggregator.idle_symbols(soon), "it is looked at again soon"
    assert aggregator.on_latest_trade(BTC, 900, START + soon, soon)
    assert aggregator.series[BTC].gap_set.missing[0].last_id == 900


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

    assert [(gap.last_id, gap.cause) for gap in aggregator.series[BTC].gap_set.missing] == [
        (8, GapCause.RESTART)
    ]


def test_a_stream_that_never_brought_anything_is_missing_all_since_collecting_began() -> None:
    aggregator = new_aggregator()
    looks(aggregator, 0, MINUTE + LOOK)

    assert not aggregator.on_latest_trade(BTC, 8, START - 1, MINUTE), "that was before"
    assert aggregator.series[BTC].gap_set.missing == ()
    assert aggregator.on_latest_trade(BTC, 9, START + 30_000, MINUTE)
    assert aggregator.series[BTC].gap_set.missing == (start_gap(9, START, START + 30_000),)
    repaired(aggregator, run_of(make_trade(9, START + 30_000)), begins_at=9)
    assert aggregator.series[BTC].gap_set.missing == ()
    assert written_after(aggregator).bars[BTC, START + 30_000].trade_count == 1
