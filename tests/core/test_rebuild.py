"""Bars made again of the exchange's own records."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from msgspec.structs import replace

from bintrades.core.rebuild import rebuilt_bar
from bintrades.model import TradeRange
from tests.klines import ranges_of
from tests.strategies import INTERVAL, START, bars_of, make_trade, trades_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bintrades.model import Bar, Trade


def rebuilt(trades: Sequence[TradeRange], stored_epoch: int | None = 0) -> Bar | None:
    """Return the bar of *trades* of the first interval."""
    return rebuilt_bar(
        trades,
        stored_epoch,
        symbol="BTCUSDT",
        market="spot",
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
            symbol=symbol,
            market="spot",
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
