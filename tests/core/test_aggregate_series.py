"""Streams of aggregates: the bars are those of the trades, or say that they are approximate."""

from __future__ import annotations

from decimal import Decimal
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bintrades.core.aggregate_series import AggregateSeries, ApproximateSeries
from bintrades.core.aggregator import Aggregator
from bintrades.core.backfill_result import BackfillResult
from bintrades.core.series import Series
from bintrades.model import AggregateTrade, IdLaw, SeriesKey, Trade, TradeRange
from tests.core.aggregators import BTC, ETH, GRACE, collected, run_of
from tests.strategies import (
    INTERVAL,
    START,
    Written,
    bars_of,
    decimals,
    make_trade,
    splits,
    spot_key,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bintrades.model import Bar

OF_AGGREGATES = SeriesKey("binance", "spot", BTC, "aggTrade", IdLaw.DENSE)
OF_FUTURES = SeriesKey("binance", "usdm", BTC, "aggTrade", IdLaw.WITH_FILLERS)
HOUR = 3_600_000


def aggregator_of(key: SeriesKey, written: Written | None = None, now: int = 0) -> Aggregator:
    aggregator = Aggregator([key], interval_ms=INTERVAL, grace_ms=GRACE)
    if written is not None:
        aggregator.resume(written.checkpoints)
    aggregator.connected([BTC], now)
    for number in (1, 2):  # of a symbol that nobody wants: they confirm the clock, as two must
        aggregator.add([make_trade(number, symbol=ETH)], now)
    return aggregator


class Order(NamedTuple):
    """What one taker has traded at one price: trades, and one aggregate."""

    trades: list[Trade]
    aggregate: AggregateTrade


def order_of(number: int, trades: list[Trade]) -> Order:
    """Return *trades* with their aggregate, as the exchange makes it."""
    run = run_of(*trades)
    first = trades[0]
    return Order(
        trades,
        AggregateTrade(
            symbol=first.symbol,
            trade_id=run.first_id,
            time=run.time,
            event_time=first.event_time,
            price=run.price,
            quantity=run.quantity,
            is_buyer_maker=run.is_buyer_maker,
            last_trade_id=run.last_id,
            aggregate_id=number,
        ),
    )


@st.composite
def orders(draw: st.DrawFn, *, is_time_ordered: bool = False) -> list[Order]:
    """Draw orders of consecutive ids, within about four intervals; a later one may be earlier."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=12))
    first_ids = list(accumulate(sizes, initial=draw(st.integers(0, 3) | st.integers(4, 2**40))))
    steps = draw(
        st.lists(st.sampled_from([0, 1, 7, 900, 9_999]), min_size=len(sizes), max_size=len(sizes))
    )
    times = list(accumulate(steps, initial=START + draw(st.integers(0, INTERVAL - 1))))
    lag = draw(st.sampled_from([0, 3, 4_000]))
    made = []
    for number, (size, first_id, time) in enumerate(zip(sizes, first_ids, times, strict=False)):
        if not is_time_ordered:
            time -= draw(st.sampled_from([0, 0, 0, 1, 900]))
        price, is_buyer_maker = draw(decimals), draw(st.booleans())
        made.append(
            order_of(
                number,
                [
                    Trade(
                        symbol=BTC,
                        trade_id=trade_id,
                        time=time,
                        event_time=time + lag,
                        price=price,
                        quantity=draw(decimals),
                        is_buyer_maker=is_buyer_maker,
                    )
                    for trade_id in range(first_id, first_id + size)
                ],
            )
        )
    return made


def singles(trades: Iterable[Trade]) -> list[TradeRange]:
    return [run_of(trade) for trade in trades]


def all_of(made: Iterable[Order]) -> list[Trade]:
    return [trade for order in made for trade in order.trades]


def repair(aggregator: Aggregator, happened: Iterable[TradeRange]) -> None:
    """Have the exchange answer about each gap with all that it has in it, and that the rest is no
    more.
    """
    happened = list(happened)
    series = aggregator.series[BTC]
    for gap in series.gap_set.missing:
        ranges = [
            each
            for each in happened
            if gap.first_id <= each.first_id and each.last_id <= gap.last_id
        ]
        begins_at = ranges[0].first_id if gap.is_start and ranges else None
        absent = [(gap.first_id, gap.last_id)] if not ranges and not gap.is_start else []
        aggregator.fill(BackfillResult(BTC, gap, ranges, absent=absent, begins_at=begins_at))


@given(orders(), st.data())
def test_all_that_is_said_of_trades_is_said_of_their_aggregates(
    made: list[Order], data: st.DataObject
) -> None:
    """In any order, some twice, some lost and repaired, over restarts: at each step the same."""
    again = data.draw(st.lists(st.sampled_from(made), max_size=5))
    lost = data.draw(st.sets(st.integers(0, len(made) - 1)))
    arriving = [order for number, order in enumerate(made) if number not in lost] + again
    if data.draw(st.booleans()):
        arriving = data.draw(st.permutations(arriving))
    keys = spot_key(BTC), OF_AGGREGATES
    both = [aggregator_of(key) for key in keys]
    written = [Written(), Written()]
    now = 0
    for batch in data.draw(splits(arriving)):
        what = data.draw(st.sampled_from(["everything", "due", "bars", "nothing"]))
        pause = data.draw(st.sampled_from([0, 1, 600, 10_000, 30_000]))
        is_restarted = data.draw(st.sampled_from([False, False, True]))
        both[0].add([trade for order in batch for trade in order.trades], now)
        both[1].add([order.aggregate for order in batch], now)
        now += pause
        for each, journal in zip(both, written, strict=True):
            each.advance(now)
            journal.pending.update(collected(each, what, now))
        assert written[0].pending == written[1].pending
        if is_restarted:
            for place, journal in enumerate(written):
                journal.write()
                both[place] = aggregator_of(keys[place], journal, now)
        assert both[0].series[BTC].gap_set == both[1].series[BTC].gap_set

    runs = [run_of(*order.trades) for order in made]
    for each in both:
        repair(each, data.draw(st.sampled_from([runs, singles(all_of(made))])))
        assert not any(gap.has_ids for gap in each.series[BTC].gap_set.missing if not gap.is_start)
    for each, journal in zip(both, written, strict=True):
        journal.pending.update(each.collect(is_last=True))
        journal.write()

    assert written[0].closed == written[1].closed
    assert written[0].checkpoints.keys() == written[1].checkpoints.keys()


@given(orders(is_time_ordered=True), st.data())
def test_trades_of_an_aggregate_of_which_others_are_known_are_missing_until_they_come_singly(
    made: list[Order], data: st.DataObject
) -> None:
    aggregator = aggregator_of(OF_AGGREGATES)
    trades = all_of(made)
    aggregator.add([made[0].aggregate], 0)
    known_through = data.draw(st.integers(trades[0].trade_id, trades[-1].trade_id))
    aggregator.on_unusable(BTC, known_through, 0)  # its message could not be read
    for trade in data.draw(st.lists(st.sampled_from(trades), max_size=4)):
        for gap in aggregator.series[BTC].gap_set.missing:
            if gap.first_id <= trade.trade_id <= gap.last_id and not gap.is_start:
                aggregator.fill(BackfillResult(BTC, gap, singles([trade])))
    rest = made[1:]
    aggregator.add([order.aggregate for order in data.draw(st.permutations(rest))], 0)

    known = {trade.trade_id for trade in trades}
    missing = {
        trade_id
        for gap in aggregator.series[BTC].gap_set.missing
        if not gap.is_start
        for trade_id in range(gap.first_id, gap.last_id + 1)
    }
    assert missing <= known
    for gap in aggregator.series[BTC].gap_set.missing:
        if not gap.is_start:
            lacking = [t for t in trades if gap.first_id <= t.trade_id <= gap.last_id]
            aggregator.fill(BackfillResult(BTC, gap, singles(lacking)))

    bars = written_after(aggregator)
    assert bars == bars_of(trades)


def written_after(aggregator: Aggregator) -> dict[tuple[str, int], Bar]:
    written = Written()
    written.pending.update(aggregator.collect(is_last=True))
    written.write()
    return written.closed


def aggregate(
    first_id: int, last_id: int, number: int, time: int = START, **more: str
) -> AggregateTrade:
    return AggregateTrade(
        symbol=BTC,
        trade_id=first_id,
        time=time,
        event_time=time,
        price=Decimal(more.get("price", "1")),
        quantity=Decimal(more.get("quantity", "1")),
        is_buyer_maker=False,
        last_trade_id=last_id,
        aggregate_id=number,
    )


def gaps_of(aggregator: Aggregator) -> list[tuple[int, int]]:
    gaps = aggregator.series[BTC].gap_set.missing
    return [(gap.first_id, gap.last_id) for gap in gaps if not gap.is_start]


def test_the_series_is_chosen_by_what_its_stream_brings_and_what_its_ids_mean() -> None:
    classes = {
        key: type(aggregator_of(key).series[BTC])
        for key in (spot_key(BTC), OF_AGGREGATES, OF_FUTURES)
    }

    assert list(classes.values()) == [Series, AggregateSeries, ApproximateSeries]


def test_an_aggregate_behind_others_opens_a_gap_that_a_later_one_fills() -> None:
    aggregator = aggregator_of(OF_AGGREGATES)

    aggregator.add([aggregate(0, 3, 0), aggregate(9, 12, 2)], 0)
    assert gaps_of(aggregator) == [(4, 8)]
    aggregator.add([aggregate(4, 8, 1)], 0)

    assert gaps_of(aggregator) == []
    assert aggregator.duplicate_count == 0
    (bar,) = written_after(aggregator).values()
    assert (bar.trade_count, str(bar.quantity), bar.is_approximate) == (13, "3", False)


def test_an_aggregate_that_is_known_is_a_duplicate() -> None:
    aggregator = aggregator_of(OF_AGGREGATES)

    aggregator.add([aggregate(0, 3, 0), aggregate(4, 6, 1), aggregate(0, 3, 0)], 0)

    assert (aggregator.trade_count, aggregator.duplicate_count) == (2, 1)
    (bar,) = written_after(aggregator).values()
    assert bar.trade_count == 7


def test_ids_behind_those_that_are_known_of_an_aggregate_become_a_gap() -> None:
    aggregator = aggregator_of(OF_AGGREGATES)
    aggregator.add([aggregate(0, 3, 0)], 0)
    aggregator.on_unusable(BTC, 5, 0)

    aggregator.add([aggregate(4, 8, 1), aggregate(9, 9, 2)], 0)

    assert gaps_of(aggregator) == [(4, 5), (6, 8)]
    assert aggregator.trade_count == 2


@pytest.mark.parametrize("key", [OF_AGGREGATES, OF_FUTURES])
def test_the_exchange_has_restarted_ids_when_three_aggregates_say_so(key: SeriesKey) -> None:
    aggregator = aggregator_of(key)
    aggregator.add([aggregate(1_000, 1_004, 50)], 0)
    later = START + HOUR

    new = [aggregate(0, 1, 0, later), aggregate(2, 2, 1, later), aggregate(3, 6, 2, later)]
    aggregator.add(new, HOUR)

    assert aggregator.renumbered == [BTC]
    assert aggregator.series[BTC].gap_set.missing[-1].last_id == 2, "they are asked for"


class TestOnFutures:
    """There an aggregate's ids are more than its trades, and its time is that of the first."""

    def test_every_bar_is_approximate_and_counts_aggregates(self) -> None:
        aggregator = aggregator_of(OF_FUTURES)

        aggregator.add(
            [
                aggregate(10, 14, 1, price="2", quantity="3"),
                aggregate(15, 15, 2, price="4"),
                aggregate(16, 20, 3, START + INTERVAL),
            ],
            0,
        )

        first, second = written_after(aggregator).values()
        assert (first.trade_count, first.buy_count) == (2, 2)
        assert [first.quantity, first.value, first.close_price] == [
            Decimal(4),
            Decimal(10),
            Decimal(4),
        ]
        assert (first.first_trade_id, first.last_trade_id) == (10, 15)
        assert (first.is_approximate, second.is_approximate) == (True, True)

    def test_ids_between_aggregates_with_consecutive_numbers_are_no_trades(self) -> None:
        aggregator = aggregator_of(OF_FUTURES)

        aggregator.add([aggregate(10, 14, 1), aggregate(17, 18, 2), aggregate(19, 19, 3)], 0)

        assert gaps_of(aggregator) == []
        assert aggregator.collect().excluded == {BTC: [(15, 16)]}

    def test_all_ids_between_are_missing_where_an_aggregate_was_left_out(self) -> None:
        aggregator = aggregator_of(OF_FUTURES)

        aggregator.add([aggregate(10, 14, 1), aggregate(17, 18, 3), aggregate(21, 22, 4)], 0)
        assert gaps_of(aggregator) == [(15, 16)]
        aggregator.add([aggregate(15, 16, 2), aggregate(24, 24, 5)], 0)

        assert gaps_of(aggregator) == []
        (bar,) = written_after(aggregator).values()
        assert bar.trade_count == 5

    def test_what_comes_first_after_a_restart_leaves_open_what_lies_between(self) -> None:
        aggregator = aggregator_of(OF_FUTURES)
        aggregator.add([aggregate(10, 14, 1)], 0)
        written = Written()
        written.pending.update(aggregator.collect())
        written.write()

        aggregator = aggregator_of(OF_FUTURES, written)
        aggregator.add([aggregate(17, 18, 2), aggregate(20, 20, 3)], 0)

        assert gaps_of(aggregator) == [(15, 16)]

    def test_past_aggregates_count_as_one_trade_each(self) -> None:
        aggregator = aggregator_of(OF_FUTURES)
        aggregator.add([aggregate(10, 14, 1), aggregate(30, 30, 9)], 0)
        (gap,) = (g for g in aggregator.series[BTC].gap_set.missing if not g.is_start)
        ranges = [TradeRange(15, 20, Decimal(1), Decimal(2), START + 1, is_buyer_maker=True)]

        aggregator.fill(BackfillResult(BTC, gap, ranges))

        (bar,) = written_after(aggregator).values()
        assert (bar.trade_count, bar.sell_count, str(bar.quantity)) == (3, 1, "4")
        assert gaps_of(aggregator) == [(21, 29)]
