"""Klines of a simulated exchange: sums over its own record, in the form of its answers. Pure."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal
from typing import TYPE_CHECKING

from bintrades.testing.market_messages import base_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bintrades.testing.simulated_market import SimulatedTrade

_EXACT = Context(prec=200, rounding=ROUND_HALF_EVEN)
_EIGHT_PLACES = Decimal("1E-8")
_NOTHING = Decimal(0)


def klines_of(
    trades: Sequence[SimulatedTrade],
    length_ms: int,
    start: int | None,
    end: int,
    limit: int,
    contract_size: int | None = None,
) -> list[list[object]]:
    """Return rows of klines that open from *start* to *end*, the first ones, or the newest.

    The exchange has a kline for every interval since the first trade; one without trades repeats
    the last price. With a contract size, values are in the base asset.
    """
    by_time: dict[int, list[SimulatedTrade]] = {}
    for trade in trades:
        by_time.setdefault(trade.time_ms // length_ms * length_ms, []).append(trade)
    if not by_time:
        return []
    first = min(by_time)
    times = range(first, end + 1, length_ms)
    if start is None:
        wanted = times[-limit:]
    else:
        begin = max(first, start + -start % length_ms)
        wanted = range(begin, end + 1, length_ms)[:limit]
    before = [each for each in by_time if wanted and each < wanted[0]]
    price = by_time[max(before)][-1].price if before else trades[0].price
    rows = []
    for open_time in wanted:
        members = by_time.get(open_time, [])
        rows.append(_row(members, open_time, length_ms, price, contract_size))
        price = members[-1].price if members else price
    return rows


def _row(
    trades: Sequence[SimulatedTrade],
    open_time: int,
    length_ms: int,
    last_price: str,
    contract_size: int | None,
) -> list[object]:
    prices = [trade.price for trade in trades] or [last_price]
    buys = [trade for trade in trades if not trade.buyer_is_maker]
    return [
        open_time,
        prices[0],
        max(prices, key=Decimal),
        min(prices, key=Decimal),
        prices[-1],
        _quantity(trades),
        open_time + length_ms - 1,
        _value(trades, contract_size),
        len(trades),
        _quantity(buys),
        _value(buys, contract_size),
        "0",
    ]


def _quantity(trades: Sequence[SimulatedTrade]) -> str:
    total = _NOTHING
    for trade in trades:
        total = _EXACT.add(total, Decimal(trade.quantity))
    return f"{total:f}"


def _value(trades: Sequence[SimulatedTrade], contract_size: int | None) -> str:
    """Return the sum of the values as the exchange has it.

    Each is rounded before, but of contracts only the sum is.
    """
    total = _NOTHING
    if contract_size is not None:
        for trade in trades:
            total = _EXACT.add(total, base_value(trade, contract_size))
        return f"{total.quantize(_EIGHT_PLACES, ROUND_HALF_UP):f}"
    for trade in trades:
        value = _EXACT.multiply(Decimal(trade.price), Decimal(trade.quantity))
        total = _EXACT.add(total, value.quantize(_EIGHT_PLACES, context=_EXACT))
    return f"{total:f}"
