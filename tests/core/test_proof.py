"""Up to when the trades of a symbol are proven to be known, and what proves it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bintrades.core.aggregator import Aggregator
from bintrades.core.gap_ranges import DISORDER_MS
from bintrades.core.newest_ids import NEWEST_WITHIN_MS, NewestIds
from bintrades.core.proof import LAG_MS
from bintrades.model import GapCause
from tests.core.aggregators import BTC, ETH, GRACE, new_aggregator, start_gap
from tests.strategies import INTERVAL, START, SYMBOLS, make_trade, spot_series

if TYPE_CHECKING:
    from bintrades.core.write_batch import Checkpoint
    from bintrades.model import Gap

SECOND = 1_000


def after_two_trades() -> Aggregator:
    """Return an aggregator in the middle of an interval, which knows what time it is."""
    aggregator = new_aggregator()
    aggregator.add([make_trade(0, START + 1), make_trade(0, START + 1, symbol=ETH)], 1)
    aggregator.add([make_trade(1, START + 4_000)], 4_000)
    return aggregator


def word(aggregator: Aggregator, at: int, **ids: int | None) -> bool:
    """Have the exchange say, so long after the start, which its newest trades are."""
    return aggregator.on_newest_ids(NewestIds(ids, START + at, at))


def saved(aggregator: Aggregator, symbol: str = BTC) -> Checkpoint:
    """Return what is written down of *symbol*."""
    for each in aggregator.series.values():
        each._saved = None
    aggregator._unsaved.update(aggregator.series)
    return aggregator.collect().checkpoints[symbol]


def proven(aggregator: Aggregator, symbol: str = BTC) -> int | None:
    """Return up to when *symbol* is proven, after the start."""
    time = saved(aggregator, symbol).proven_ms
    return None if time is None else time - START


def unproven(aggregator: Aggregator, now: int, older_than_ms: int) -> list[str]:
    """Return what needs proof, but for the symbol of which nothing ever came."""
    return [name for name in aggregator.unproven(now, older_than_ms) if name in (BTC, ETH)]


def missing(aggregator: Aggregator) -> list[Gap]:
    """Return what is missing of BTC beside its beginning."""
    return [gap for gap in aggregator.series[BTC].gap_set.missing if not gap.is_start]


def test_the_next_trade_proves_all_before_it() -> None:
    aggregator = after_two_trades()
    assert proven(aggregator) == 4_000

    aggregator.add([make_trade(2, START + 12_000)], 12_000)

    assert proven(aggregator) == 12_000


def test_a_trade_beyond_the_next_proves_as_much_since_the_gap_is_on_record() -> None:
    aggregator = after_two_trades()

    aggregator.add([make_trade(5, START + 12_000)], 12_000)

    assert proven(aggregator) == 12_000
    assert [(gap.first_id, gap.last_id) for gap in missing(aggregator)] == [(2, 4)]


@pytest.mark.parametrize("time", [START + 500, START + 4_000])
def test_no_trade_takes_back_what_is_proven(time: int) -> None:
    aggregator = after_two_trades()
    assert proven(aggregator) == 4_000

    aggregator.add([make_trade(2, time)], 5_000)

    assert proven(aggregator) == 4_000


def test_neither_time_that_passes_nor_another_symbols_trades_prove_anything() -> None:
    aggregator = after_two_trades()

    aggregator.add([make_trade(1, START + 60_000, symbol=ETH)], 60_000)
    aggregator.advance(60_000)

    assert (proven(aggregator), proven(aggregator, ETH)) == (4_000, 60_000)
    assert unproven(aggregator, 60_000, 3_600_000) == [BTC], "its bar has closed"


def test_the_exchanges_word_proves_what_is_a_few_seconds_older_if_its_newest_id_is_known() -> None:
    aggregator = after_two_trades()

    assert word(aggregator, 60_000, BTCUSDT=1)

    assert proven(aggregator) == 60_000 - LAG_MS
    assert proven(aggregator, ETH) == 1


def test_a_word_whose_time_is_ahead_of_that_of_the_trades_proves_no_more_than_they_show() -> None:
    aggregator = after_two_trades()

    assert aggregator.on_newest_ids(NewestIds({BTC: 1, ETH: 0}, START + 30_000, 4_000))

    assert aggregator.clock(4_000) == START + 4_000, "no bar closes by it"
    assert proven(aggregator, ETH) == 1


@pytest.mark.parametrize("is_first", [True, False])
def test_however_often_its_time_is_ahead_it_is_believed_as_far_as_trades_show(
    is_first: bool,
) -> None:
    aggregator = new_aggregator()
    if is_first:
        assert aggregator.on_newest_ids(NewestIds({}, START + 8_000, 0))
    aggregator.add([make_trade(0, START + SECOND, symbol=ETH)], SECOND)
    for second in range(1, 121):
        aggregator.add([make_trade(second, START + second * SECOND)], second * SECOND)
        if second % 10 == 0:
            at = START + (second + 8) * SECOND
            word = NewestIds({ETH: 0}, at, second * SECOND + 500)
            assert aggregator.on_newest_ids(word)

    assert proven(aggregator, ETH) == 120 * SECOND + 1_500 - LAG_MS
    assert is_first or aggregator.clock(120 * SECOND) == START + 120 * SECOND


def test_a_late_clock_does_not_have_a_trade_be_missing_from_before_the_one_before() -> None:
    aggregator = after_two_trades()
    aggregator.disconnected(SYMBOLS, 5_000)  # and the clock stands still
    aggregator.connected(SYMBOLS, 3_600_000)
    late = START + 3_600_000
    aggregator.add([make_trade(2, late, symbol=ETH)], 3_600_100)
    aggregator.on_unusable(ETH, 3, 3_600_110)

    gap = aggregator.series[ETH].gap_set.missing[-1]
    assert (gap.first_id, gap.since_ms) == (3, late - DISORDER_MS)


def test_a_word_that_lacks_a_trade_is_stale_however_late_trades_come() -> None:
    aggregator = after_two_trades()
    aggregator.disconnected(SYMBOLS, 5_000)  # and the clock stands still
    aggregator.connected(SYMBOLS, 15_000)
    aggregator.add([make_trade(2, START + 10_000)], 20_000)  # ten seconds on its way

    assert not word(aggregator, 20_500, **{BTC: 1, ETH: 0})
    assert proven(aggregator, ETH) == 1


def test_an_older_word_takes_nothing_back() -> None:
    aggregator = after_two_trades()
    word(aggregator, 60_000, BTCUSDT=1)

    word(aggregator, 30_000, BTCUSDT=1)

    assert proven(aggregator) == 60_000 - LAG_MS


def test_a_lower_id_proves_nothing() -> None:
    aggregator = after_two_trades()

    word(aggregator, 3_600_000, BTCUSDT=0)

    assert proven(aggregator) == 4_000


def test_a_word_without_a_trade_that_it_should_know_proves_nothing_of_any_symbol() -> None:
    aggregator = after_two_trades()

    assert not word(aggregator, 4_000 + LAG_MS + 1, BTCUSDT=0, ETHUSDT=0)
    assert not word(aggregator, 4_000 + LAG_MS + 1, BTCUSDT=None, ETHUSDT=0)
    assert proven(aggregator, ETH) == 1

    assert word(aggregator, 4_000 + LAG_MS, BTCUSDT=0, ETHUSDT=0)
    assert proven(aggregator, ETH) == 4_000


def test_a_stale_word_is_known_by_a_trade_before_the_newest_as_well() -> None:
    aggregator = after_two_trades()
    aggregator.mark_newest()
    for second in range(5, 40):  # it trades every second, so that the newest is always young
        trade_id = second - 3
        aggregator.add([make_trade(trade_id, START + 1_000 * second)], 1_000 * second)
        if second % 10 == 0:
            aggregator.mark_newest()

    assert not word(aggregator, 39_500, BTCUSDT=10, ETHUSDT=0)
    assert proven(aggregator, ETH) == 1

    assert word(aggregator, 39_500, BTCUSDT=27, ETHUSDT=0), "of nine seconds ago: it may lag"


def test_no_trade_for_a_day_proves_as_much_where_the_day_begins_before_what_is_proven() -> None:
    aggregator = after_two_trades()
    word(aggregator, NEWEST_WITHIN_MS // 2, BTCUSDT=1)
    said_at = NEWEST_WITHIN_MS + 4_000  # so much after the newest trade
    word(aggregator, said_at, BTCUSDT=None)
    assert proven(aggregator) == said_at - LAG_MS

    word(aggregator, 3 * NEWEST_WITHIN_MS, BTCUSDT=None)

    assert proven(aggregator) == said_at - LAG_MS


def test_no_trade_for_a_day_proves_nothing_where_one_of_that_day_is_known() -> None:
    aggregator = after_two_trades()

    word(aggregator, NEWEST_WITHIN_MS - 2 * LAG_MS, BTCUSDT=None)

    assert proven(aggregator) == 4_000


def test_a_trade_that_the_exchange_has_and_that_comes_is_no_gap() -> None:
    aggregator = after_two_trades()
    word(aggregator, 30_000, BTCUSDT=3)

    aggregator.add([make_trade(2, START + 29_000), make_trade(3, START + 29_500)], 31_000)
    aggregator.advance(60_000)

    assert missing(aggregator) == []
    assert proven(aggregator) == 29_500


def test_a_trade_that_the_exchange_has_and_that_does_not_come_is_a_gap() -> None:
    aggregator = after_two_trades()
    aggregator.advance(30_000)
    word(aggregator, 30_000, BTCUSDT=3)

    aggregator.advance(30_000 + LAG_MS - 1)
    assert missing(aggregator) == []
    aggregator.advance(30_000 + LAG_MS)

    (gap,) = missing(aggregator)
    assert (gap.first_id, gap.last_id, gap.cause) == (2, 3, GapCause.SILENT_STREAM)
    assert gap.since_ms <= START + 4_000
    assert gap.until_ms >= START + 31_000
    assert proven(aggregator) == 30_000 - LAG_MS


def test_while_events_wait_a_trade_is_not_overdue() -> None:
    aggregator = after_two_trades()
    word(aggregator, 30_000, BTCUSDT=3)

    aggregator.advance(31_000)  # whatever the clock shows: the events are of then

    assert missing(aggregator) == []


def test_a_stream_that_did_not_send_a_trade_that_it_should_have_is_dead() -> None:
    aggregator = after_two_trades()
    word(aggregator, 20_000, BTCUSDT=1)  # now it is in step

    word(aggregator, 30_000, BTCUSDT=3)
    aggregator.advance(30_000 + LAG_MS)

    assert aggregator.dead_streams == [BTC]
    assert [gap.cause for gap in missing(aggregator)] == [GapCause.SILENT_STREAM]


def test_what_was_missed_before_it_was_connected_is_no_fault_of_the_stream() -> None:
    aggregator = after_two_trades()
    aggregator.disconnected(SYMBOLS, 5_000)
    aggregator.connected(SYMBOLS, 29_000)

    word(aggregator, 30_000, BTCUSDT=3)
    aggregator.advance(30_000 + LAG_MS)

    assert aggregator.dead_streams == []
    assert [gap.cause for gap in missing(aggregator)] == [GapCause.RECONNECT]
    assert proven(aggregator) == 30_000 - LAG_MS


def test_trades_are_found_while_nothing_is_connected() -> None:
    aggregator = after_two_trades()
    aggregator.disconnected(SYMBOLS, 5_000)

    word(aggregator, 60_000, BTCUSDT=3)
    aggregator.advance(60_000 + LAG_MS)

    (gap,) = missing(aggregator)
    assert (gap.first_id, gap.last_id, gap.cause) == (2, 3, GapCause.RECONNECT)


def test_a_symbol_of_which_no_trade_ever_came_begins_with_what_the_exchange_has() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(0, START + 1), make_trade(1, START + 2)], 2)

    word(aggregator, 3_000, ETHUSDT=77)

    missing = aggregator.series[ETH].gap_set.missing
    assert missing == (start_gap(77, START, START + 4_000),)
    assert saved(aggregator, ETH).ledger.next_id == 78
    assert proven(aggregator, ETH) == 3_000 - LAG_MS
    assert saved(aggregator, ETH).covered_since_ms == START


def test_where_no_symbol_trades_it_begins_when_it_began_to_listen() -> None:
    aggregator = new_aggregator(now=1_000)

    word(aggregator, 2_000, BTCUSDT=7)  # trades of a moment ago may still be on their way
    assert aggregator.series[BTC].gap_set.missing == ()
    word(aggregator, 61_000, BTCUSDT=9)

    assert aggregator.series[BTC].gap_set.missing == (start_gap(9, START, START + 62_000),)


def test_trades_that_come_behind_the_first_word_begin_where_they_are() -> None:
    aggregator = new_aggregator()

    word(aggregator, 1_000, BTCUSDT=9)
    aggregator.add([make_trade(9, START - 2_000), make_trade(10, START - 1_000)], 1_001)

    (gap,) = aggregator.series[BTC].gap_set.missing
    assert (gap.since_ms, gap.last_id) == (START - INTERVAL, 8)


def test_a_symbol_without_any_trade_is_wanted_from_where_none_is_proven() -> None:
    hour = 3_600_000
    aggregator = after_two_trades()
    aggregator = Aggregator(spot_series(SYMBOLS), interval_ms=INTERVAL, grace_ms=GRACE)
    aggregator.connected(SYMBOLS, 0)
    aggregator.add([make_trade(0, START + 1), make_trade(1, START + 2)], 2)

    word(aggregator, hour, ETHUSDT=None)
    assert proven(aggregator, ETH) == hour - LAG_MS
    aggregator.add([make_trade(9, START + 2 * hour, symbol=ETH)], 2 * hour)

    (gap,) = aggregator.series[ETH].gap_set.missing
    assert gap.since_ms == START + hour - INTERVAL
    assert saved(aggregator, ETH).covered_since_ms == START, "nothing happened since then"


def test_the_proof_outlasts_a_restart() -> None:
    aggregator = after_two_trades()
    word(aggregator, 60_000, BTCUSDT=1)
    known = {BTC: saved(aggregator)}

    after = Aggregator(spot_series(SYMBOLS), interval_ms=INTERVAL, grace_ms=GRACE)
    after.resume(known)
    after.connected(SYMBOLS, 0)
    after.add([make_trade(4, START + 90_000), make_trade(9, START + 90_000, symbol=ETH)], 90_000)

    (gap,) = missing(after)
    assert (gap.first_id, gap.last_id, gap.cause) == (2, 3, GapCause.RESTART)
    assert gap.since_ms > START + 50_000, "no earlier than was proven"
    assert proven(after) == 90_000


def test_a_message_that_nobody_agrees_with_proves_nothing() -> None:
    aggregator = new_aggregator()
    far = START + 10**11

    aggregator.add([make_trade(0, far)], 0)
    assert proven(aggregator) is None
    aggregator.add([make_trade(0, START, symbol=ETH)], 1)
    aggregator.add([make_trade(1, START + 1, symbol=ETH)], 2)

    assert (proven(aggregator) or 0) <= 1, "no later than it is"
    assert proven(aggregator, ETH) == 1


def test_a_bar_that_gets_proven_is_saved_at_once() -> None:
    aggregator = after_two_trades()
    aggregator.advance(20_000)
    assert aggregator.collect().finished.keys() == {(BTC, START), (ETH, START)}
    assert unproven(aggregator, 20_000, 3_600_000) == [BTC, ETH]

    word(aggregator, 20_000, BTCUSDT=1, ETHUSDT=0)
    due = aggregator.collect_due(20_001)

    assert due.checkpoints.keys() == {BTC, ETH}
    assert unproven(aggregator, 20_000, 3_600_000) == []


def test_a_proof_that_changes_no_bar_waits_for_others() -> None:
    aggregator = after_two_trades()
    word(aggregator, 20_000, BTCUSDT=1, ETHUSDT=0)
    aggregator.advance(20_000)
    aggregator.collect()

    word(aggregator, 80_000, BTCUSDT=1, ETHUSDT=0)

    assert not aggregator.collect_due(80_001)
    assert aggregator.collect_due(80_001 + 60_000).checkpoints.keys() == {BTC, ETH}


def test_a_symbol_needs_proof_if_it_has_none_of_late() -> None:
    aggregator = after_two_trades()

    assert unproven(aggregator, 4_000, 10_000) == []
    assert unproven(aggregator, 12_000, 10_000) == [ETH]
    assert unproven(aggregator, 30_000, 10_000) == [BTC, ETH]


def test_a_trade_that_could_not_be_used_lies_in_its_gap_though_the_clock_stood_still() -> None:
    aggregator = after_two_trades()
    aggregator.disconnected(SYMBOLS, 5_000)
    aggregator.connected(SYMBOLS, 17_000)

    aggregator.on_unusable(BTC, 2, 17_100)  # of 17 s: the clock shows 5 s
    aggregator.add([make_trade(3, START + 21_000)], 21_000)

    (gap,) = missing(aggregator)
    assert gap.touches(START + INTERVAL, INTERVAL), "nobody knows better than the trade after it"
    assert (gap.first_id, gap.last_id, gap.cause) == (2, 2, GapCause.UNUSABLE)
    aggregator.add([make_trade(4, START + 45_000)], 45_000)
    assert missing(aggregator) == [gap], "it is over"


def test_so_it_does_if_the_exchanges_word_comes_before_the_next_trade() -> None:
    aggregator = after_two_trades()
    aggregator.disconnected(SYMBOLS, 5_000)
    aggregator.connected(SYMBOLS, 17_000)
    aggregator.on_unusable(BTC, 2, 17_100)

    word(aggregator, 40_000, BTCUSDT=2)

    (gap,) = missing(aggregator)
    assert gap.until_ms >= START + 40_000
    assert proven(aggregator) == 40_000 - LAG_MS


def test_so_it_does_after_a_restart() -> None:
    aggregator = after_two_trades()
    aggregator.on_unusable(BTC, 2, 5_000)
    after = Aggregator(spot_series(SYMBOLS), interval_ms=INTERVAL, grace_ms=GRACE)
    after.resume({BTC: saved(aggregator)})
    after.connected(SYMBOLS, 0)

    after.add([make_trade(3, START + 32_000), make_trade(9, START + 32_000, symbol=ETH)], 32_000)

    (gap,) = missing(after)
    assert gap.touches(START + 2 * INTERVAL, INTERVAL)


def test_so_do_several_that_could_not_be_used_one_long_after_the_other() -> None:
    aggregator = after_two_trades()
    aggregator.on_unusable(BTC, 2, 5_000)
    aggregator.on_unusable(BTC, 3, 25_000)

    word(aggregator, 60_000, BTCUSDT=4)
    aggregator.advance(60_000 + LAG_MS)

    gaps = missing(aggregator)
    assert [(gap.first_id, gap.last_id) for gap in gaps] == [(2, 2), (3, 3), (4, 4)]
    assert all(gap.until_ms >= START + 60_000 for gap in gaps)
