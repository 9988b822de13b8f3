"""Bars made again of the exchange's own records."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bintrades.core.rebuild import rebuilt_bar, rebuilt_bars
from bintrades.model import IdLaw, SeriesKey, TradeRange
from tests.klines import ranges_of
from tests.strategies import INTERVAL, START, bars_of, make_trade, spot_key, trades_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bintrades.model import Bar, Trade

OPEN_TIMES = range(START, START + 6 * INTERVAL, INTERVAL)


def rebuilt(trades: Sequence[TradeRange], stored_epoch: int | None = 0) -> Bar | None:
    """Return the bar of *trades* of the first interval."""
    return rebuilt_bar(
        trades,
        stored_epoch,
        key=spot_key("BTCUSDT"),
        open_time_ms=START,
        interval_ms=INTERVAL,
    )


@given(trades_of("BTCUSDT"))
def test_a_rebuilt_bar_is_that_of_the_trades_in_the_next_epoch(trades: list[Trade]) -> None:
    for (symbol, open_time), bar in bars_of(trades).items():
        members = [each for each in trades if each.time // INTERVAL * INTERVAL == open_time]
        again = rebuilt_bar(
            ranges_of(members),
            4,
            key=spot_key(symbol),
            open_time_ms=open_time,
            interval_ms=INTERVAL,
        )
        assert again == replace(bar, epoch=5)


def test_ranges_of_trades_count_each_of_them() -> None:
    first, last = make_trade(7, START), make_trade(9, START + 5, is_buyer_maker=True)
    (one, other) = ranges_of([first, replace(last, quantity=last.quantity * 2)])

    bar = rebuilt([one, TradeRange(8, 9, other.price, other.quantity, other.time, True)])

    assert bar is not None
    assert (bar.trade_count, bar.buy_count, bar.first_trade_id, bar.last_trade_id) == (3, 1, 7, 9)
    assert (bar.quantity, bar.sell_quantity) == (Decimal(3), Decimal(2))


def test_a_bar_that_was_not_stored_is_in_the_first_epoch_of_rebuilt_ones() -> None:
    bar = rebuilt(ranges_of([make_trade(1, START)]), None)

    assert bar is not None
    assert (bar.epoch, bar.is_closed, bar.is_complete) == (1, True, True)


def test_without_trades_there_is_no_bar() -> None:
    assert rebuilt([]) is None


def test_a_trade_of_another_interval_is_refused() -> None:
    with pytest.raises(ValueError, match="is of another bar"):
        rebuilt(ranges_of([make_trade(1, START + INTERVAL)]))


def again(
    stored: Iterable[Bar],
    trades: Iterable[Trade],
    open_times: Iterable[int] = OPEN_TIMES,
    others: Iterable[Bar] = (),
) -> list[Bar]:
    """Return the bars that take the place of *stored* ones where the exchange has *trades*."""
    return rebuilt_bars(
        stored,
        ranges_of(trades),
        open_times,
        key=spot_key("BTCUSDT"),
        interval_ms=INTERVAL,
        others=others,
    )


changes: dict[str, Callable[[Bar], Bar | None]] = {
    "none": lambda bar: bar,
    "gone": lambda _: None,
    "wrong": lambda bar: replace(bar, trade_count=bar.trade_count + 1),
    "not complete": lambda bar: replace(bar, is_complete=False),
}


@given(trades_of("BTCUSDT"), st.data())
def test_what_is_made_again_are_the_bars_that_are_not_those_of_the_trades(
    trades: list[Trade], data: st.DataObject
) -> None:
    right = {bar.open_time_ms: replace(bar, epoch=2) for bar in bars_of(trades).values()}
    names = {time: data.draw(st.sampled_from(sorted(changes))) for time in right}
    stored = [changes[names[time]](bar) for time, bar in right.items()]
    wanted = data.draw(st.sets(st.sampled_from(OPEN_TIMES)).map(sorted))

    found = again([bar for bar in stored if bar is not None], trades, wanted)

    assert found == [
        replace(right[time], epoch=1 if names[time] == "gone" else 3)
        for time in wanted
        if names.get(time, "none") != "none"
    ]
    assert again(found, trades, [bar.open_time_ms for bar in found]) == []


@given(trades_of("BTCUSDT").filter(bool), st.booleans())
def test_a_bar_where_the_exchange_has_no_trades_is_the_same_but_not_complete(
    trades: list[Trade], is_closed: bool
) -> None:
    right = [bar for _, bar in sorted(bars_of(trades).items())]
    times = [bar.open_time_ms for bar in right]
    stored = [replace(bar, is_closed=is_closed, epoch=5) for bar in right]

    found = again(stored, [], times)

    assert found == [replace(bar, is_closed=True, is_complete=False, epoch=6) for bar in stored]
    assert again(found, [], times) == [], "it says so"
    after_all = again(found, trades, times)
    assert after_all == [replace(bar, epoch=7) for bar in right], "should there be trades after all"


def test_the_epoch_is_beyond_that_which_another_place_has() -> None:
    trade = make_trade(1, START)
    (right,) = bars_of([trade]).values()
    wrong = replace(right, trade_count=5, epoch=2)

    assert [bar.epoch for bar in again([wrong], [trade], others=[replace(right, epoch=7)])] == [8]
    assert [bar.epoch for bar in again([wrong], [], others=[replace(right, epoch=1)])] == [3]
    assert [bar.epoch for bar in again([], [trade], others=[replace(right, epoch=4)])] == [5]
    assert again([], [], others=[right]) == [], "there is nothing that could be wrong"


FUTURES = SeriesKey("binance", "usdm", "BTCUSDT", "trade", IdLaw.WITH_FILLERS)


def test_a_rebuilt_bar_of_futures_counts_the_ids_that_no_trade_has() -> None:
    times = {3: -1, 5: 0, 6: 1, 9: 2, 10: INTERVAL, 12: 3, 15: INTERVAL + 1}  # 10 is before 12
    trades = ranges_of([make_trade(each, START + time) for each, time in times.items()])

    bars = rebuilt_bars((), trades, [START, START + INTERVAL], key=FUTURES, interval_ms=INTERVAL)

    assert [(bar.trade_count, bar.excluded_count) for bar in bars] == [(4, 3), (2, 3)]


@given(trades_of("BTCUSDT", is_time_ordered=True), st.sets(st.integers(0, 40)))
def test_every_rebuilt_bar_of_futures_proves_itself(
    trades: list[Trade], left_out: set[int]
) -> None:
    fills = [each for index, each in enumerate(trades) if index not in left_out]

    bars = rebuilt_bars((), ranges_of(fills), OPEN_TIMES, key=FUTURES, interval_ms=INTERVAL)

    assert [bar.trade_count for bar in bars] == [bar.trade_count for bar in of_times(fills)]
    for bar in bars:
        assert bar.last_trade_id - bar.first_trade_id + 1 == bar.trade_count + bar.excluded_count


def of_times(trades: list[Trade]) -> list[Bar]:
    bars = {bar.open_time_ms: bar for bar in bars_of(trades).values()}
    return [bars[time] for time in OPEN_TIMES if time in bars]
