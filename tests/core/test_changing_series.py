"""Series that begin and end while others go on."""

from __future__ import annotations

import pytest

from bintrades.core.aggregator import Aggregator
from bintrades.core.backfill_result import BackfillResult
from bintrades.core.gap_ranges import DISORDER_MS
from bintrades.core.newest_ids import NewestIds
from bintrades.core.proof import LAG_MS
from bintrades.core.write_batch import WriteBatch
from bintrades.model import IdLaw, SeriesKey
from tests.core.aggregators import BTC, ETH, GRACE, finished, run_of, start_gap
from tests.strategies import INTERVAL, START, make_trade, spot_series

BTC_KEY, ETH_KEY = spot_series([BTC, ETH])


def of_bitcoin(now: int = 0) -> Aggregator:
    """Return an aggregator of one symbol, with a connection, that knows what time it is."""
    aggregator = Aggregator([BTC_KEY], interval_ms=INTERVAL, grace_ms=GRACE)
    aggregator.connected([BTC], now)
    aggregator.add([make_trade(0, START + 1), make_trade(1, START + 2)], now)
    return aggregator


def test_a_symbol_that_is_added_has_bars_like_any_other() -> None:
    aggregator = of_bitcoin()

    aggregator.add_series(ETH_KEY, now=0)
    aggregator.carried([ETH], 0)
    aggregator.add([make_trade(0, START + 3, symbol=ETH)], 0)
    aggregator.add([make_trade(2, START + INTERVAL + GRACE)], 20_000)
    aggregator.advance(20_000)

    assert {bar.symbol for bar in finished(aggregator)} == {BTC, ETH}
    assert aggregator.foreign_count == 0


def test_all_trades_of_a_new_listing_are_wanted_since_it_was_not_listed() -> None:
    aggregator = of_bitcoin()

    aggregator.add_series(ETH_KEY, since=START - 3 * INTERVAL + 7, now=0)
    aggregator.add([make_trade(5, START + 3, symbol=ETH)], 0)

    gaps = aggregator.series[ETH].gap_set.missing
    assert gaps == (start_gap(4, START - 3 * INTERVAL, START + 3),)


def test_of_a_symbol_that_has_long_traded_they_are_wanted_since_the_interval_began() -> None:
    aggregator = of_bitcoin()

    aggregator.add_series(ETH_KEY, now=0)
    aggregator.add([make_trade(1_000, START + 3, symbol=ETH)], 0)

    assert aggregator.series[ETH].gap_set.missing == (start_gap(999, START, START + 3),)


def test_what_is_wanted_of_a_new_symbol_outlasts_a_crash() -> None:
    aggregator = of_bitcoin()
    aggregator.collect()

    aggregator.add_series(ETH_KEY, since=START - INTERVAL, now=0)

    checkpoint = aggregator.collect_due(0).checkpoints[ETH]
    assert checkpoint.ledger.last_time == checkpoint.covered_since_ms == START - INTERVAL


def test_before_anybody_knows_the_time_the_first_trade_says_since_when() -> None:
    aggregator = Aggregator([BTC_KEY], interval_ms=INTERVAL, grace_ms=GRACE)
    aggregator.add_series(ETH_KEY, now=0)

    aggregator.add([make_trade(7, START + INTERVAL + 1, symbol=ETH)], 0)

    (gap,) = aggregator.series[ETH].gap_set.missing
    assert gap.since_ms == START + INTERVAL


def test_a_symbol_that_is_removed_hands_out_all_there_is_of_it_and_nothing_of_others() -> None:
    aggregator = of_bitcoin()
    aggregator.add_series(ETH_KEY, now=0)
    aggregator.add([make_trade(0, START + 3, symbol=ETH)], 0)

    changes = aggregator.remove_series(ETH)

    assert [(key[0], bar.is_closed) for key, bar in changes.finished.items()] == [(ETH, False)]
    assert changes.checkpoints[ETH].ledger.next_id == 1
    assert [bar.trade_count for bar in changes.checkpoints[ETH].open_bars] == [1]
    assert changes.checkpoints.keys() == {ETH}
    assert aggregator.symbols == {BTC}
    aggregator.advance(60_000)
    aggregator.collect(is_last=True)


def test_what_comes_of_a_removed_symbol_is_of_nobody() -> None:
    aggregator = of_bitcoin()
    aggregator.add_series(ETH_KEY, now=0)
    aggregator.add([make_trade(9, START + 3, symbol=ETH)], 0)
    aggregator.remove_series(ETH)

    aggregator.add([make_trade(10, START + 4, symbol=ETH)], 0)

    assert aggregator.foreign_count == 1
    assert ETH not in aggregator.collect().checkpoints


def test_an_answer_about_a_removed_symbol_changes_nothing() -> None:
    aggregator = of_bitcoin()
    aggregator.add_series(ETH_KEY, now=0)
    aggregator.add([make_trade(3, START + 3, symbol=ETH)], 0)
    (gap,) = aggregator.series[ETH].gap_set.missing
    aggregator.remove_series(ETH)

    aggregator.fill(BackfillResult(ETH, gap, [run_of(make_trade(2, START + 2, symbol=ETH))]))

    assert aggregator.repaired_count == 0


def test_a_symbol_that_returns_goes_on_from_its_checkpoint() -> None:
    aggregator = of_bitcoin()
    aggregator.add_series(ETH_KEY, now=0)
    aggregator.add([make_trade(0, START + 3, symbol=ETH)], 0)
    checkpoint = aggregator.remove_series(ETH).checkpoints[ETH]

    aggregator.add_series(ETH_KEY, checkpoint, now=0)
    aggregator.add([make_trade(4, START + 9, symbol=ETH)], 0)

    (gap,) = aggregator.series[ETH].gap_set.missing
    assert (gap.first_id, gap.last_id, gap.cause) == (1, 3, "restart")
    changes = WriteBatch()
    changes.update(aggregator.collect(is_last=True))
    assert [bar.trade_count for key, bar in changes.finished.items() if key[0] == ETH] == [2]


def of_ether(*times: int, ids: list[int] | None = None) -> Aggregator:
    """Return an aggregator with a second symbol that has traded at these times."""
    aggregator = of_bitcoin()
    aggregator.add_series(ETH_KEY, now=0)
    aggregator.carried([ETH], 0)
    numbers = ids or range(len(times))
    for number, time in zip(numbers, times, strict=True):
        aggregator.add([make_trade(number, time, symbol=ETH)], 0)
    aggregator.collect()
    return aggregator


def test_of_a_symbol_that_ends_while_it_is_traded_no_half_a_bar_is_left() -> None:
    until = START + INTERVAL
    aggregator = of_ether(START + 3, until + 1_000, until + 2_000)

    changes = aggregator.remove_series(ETH, until)

    checkpoint = changes.checkpoints[ETH]
    assert not changes.finished
    assert (checkpoint.ledger.next_id, checkpoint.proven_ms) == (1, until)
    assert (checkpoint.open_bars, checkpoint.closed_through) == ((), START)
    aggregator.add_series(ETH_KEY, checkpoint, now=0)
    aggregator.add([make_trade(5, until + 9_000, symbol=ETH)], 0)
    (gap,) = aggregator.series[ETH].gap_set.missing
    assert (gap.first_id, gap.last_id) == (1, 4)
    assert until - DISORDER_MS <= gap.since_ms <= until


def test_what_has_closed_while_a_symbol_was_to_end_stays_proven() -> None:
    until = START + INTERVAL
    aggregator = of_ether(START + 3, until + 1_000, until + INTERVAL + 2_000)

    changes = aggregator.remove_series(ETH, until)

    checkpoint = changes.checkpoints[ETH]
    assert (checkpoint.ledger.next_id, checkpoint.proven_ms) == (2, until + INTERVAL)
    assert (checkpoint.open_bars, checkpoint.closed_through) == ((), until)


@pytest.mark.parametrize(
    ("times", "ids"),
    [
        ([3, INTERVAL + 1_000, INTERVAL + 2_000], [0, 1, 3]),  # one is missing
        ([3, 5], [0, 1]),  # the bar of before is open
    ],
)
def test_where_that_cannot_be_the_open_bar_is_handed_out_as_it_is(
    times: list[int], ids: list[int]
) -> None:
    aggregator = of_ether(*(START + time for time in times), ids=ids)

    changes = aggregator.remove_series(ETH, START + INTERVAL)

    assert [bar.trade_count for bar in changes.finished.values()] == [2]
    assert changes.checkpoints == {} or changes.checkpoints[ETH].open_bars


def test_a_symbol_is_settled_when_its_last_bar_is_closed_and_proven() -> None:
    aggregator = of_bitcoin()
    until = START + INTERVAL
    assert not aggregator.is_settled(BTC, until), "it is open"

    aggregator.advance(60_000)
    assert not aggregator.is_settled(BTC, until), "it is closed, but a trade may be missing"

    aggregator.add([make_trade(2, START + INTERVAL + 1)], 60_000)
    assert aggregator.is_settled(BTC, until), "the next trade proves it"


def test_a_symbol_without_a_bar_is_settled_when_it_is_known_that_there_was_no_trade() -> None:
    aggregator = of_bitcoin()
    aggregator.add_series(ETH_KEY, now=0)
    aggregator.carried([ETH], 0)
    until = START + INTERVAL
    aggregator.advance(60_000)
    assert not aggregator.is_settled(ETH, until), "its first trades may be lost on the way"
    assert aggregator.is_settled(ETH, until, has_word=False), "nobody can say so"

    aggregator.on_newest_ids(NewestIds({BTC: 1, ETH: None}, until + LAG_MS, 15_000))

    assert aggregator.is_settled(ETH, until)


def test_before_it_is_known_since_when_trades_are_wanted_no_symbol_is_settled() -> None:
    aggregator = Aggregator([BTC_KEY, ETH_KEY], interval_ms=INTERVAL, grace_ms=GRACE)
    aggregator.connected([BTC, ETH], 0)
    assert not aggregator.is_settled(ETH, 0), "nothing has come of any symbol"

    aggregator.add([make_trade(0, START + 1), make_trade(1, START + 2)], 1_000)
    assert not aggregator.is_settled(ETH, 0), "its trades since then may be lost"

    aggregator.on_newest_ids(NewestIds({BTC: 1, ETH: None}, START + LAG_MS, 6_000))
    assert aggregator.is_settled(ETH, 0)


def test_a_proven_bar_does_not_show_that_nothing_came_after_it() -> None:
    aggregator = of_bitcoin()
    until = START + 3 * INTERVAL
    aggregator.add([make_trade(2, START + INTERVAL + 1)], 10_000)
    aggregator.advance(60_000)
    aggregator.on_newest_ids(NewestIds({BTC: 2}, START + 2 * INTERVAL + LAG_MS, 25_000))
    assert aggregator.unproven_count == 0
    assert not aggregator.is_settled(BTC, until)

    aggregator.on_newest_ids(NewestIds({BTC: 2}, until + LAG_MS, 35_000))

    assert aggregator.is_settled(BTC, until)


@pytest.mark.parametrize(
    "key",
    [
        BTC_KEY,
        SeriesKey("binance", "usdm", ETH, "trade", IdLaw.DENSE),
        SeriesKey("binance", "spot", ETH, "aggTrade", IdLaw.DENSE),
    ],
)
def test_a_series_of_another_market_or_one_that_is_there_is_refused(key: SeriesKey) -> None:
    aggregator = of_bitcoin()

    with pytest.raises(ValueError, match=r"market|already"):
        aggregator.add_series(key, now=0)

    assert aggregator.symbols == {BTC}
