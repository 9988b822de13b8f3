"""The klines of the simulated exchange: its own sums over the fills."""

from __future__ import annotations

from bisect import bisect_left
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal, localcontext
from typing import TYPE_CHECKING

from tests.simulation.market import by_interval, value_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bintrades.model import Trade
    from tests.simulation.kinds import Kind
    from tests.simulation.market import Tape

_EIGHT_PLACES = Decimal("0.00000001")
_LAG_MS = 500  # behind the trades

Row = list[int | str]
_LENGTHS = {"1s": 1_000, "1m": 60_000}


def klines(
    tape: Tape, kind: Kind, interval: str, span: tuple[int, int], now: int, limit: int
) -> list[Row]:
    """Return the klines that open within *span*, its last moment included, as they are at *now*."""
    length = _LENGTHS[interval]
    since, until = span
    end = bisect_left(tape.trades, now - _LAG_MS, key=lambda trade: trade.event_time)
    trades = tape.trades[:end]
    if not trades:
        return []
    traded = by_interval(trades, length)
    first = max(-(-since // length) * length, min(traded))
    rows = _rows(traded, kind, length, first, min(until, now))
    return [row for row, _ in zip(rows, range(limit), strict=False)]


def _rows(
    traded: Mapping[int, Sequence[Trade]], kind: Kind, length: int, first: int, last: int
) -> Iterator[Row]:
    before = [time for time in traded if time < first]
    close = traded[max(before)][-1].price if before else Decimal(0)  # at first there is a trade
    for open_time in range(first, last + 1, length):
        within = traded.get(open_time, [])
        yield _row(within, kind, open_time, length, close)
        close = within[-1].price if within else close


def _row(trades: Sequence[Trade], kind: Kind, open_time: int, length: int, before: Decimal) -> Row:
    """Return one; without a trade its prices are that of the last one *before*."""
    bought = [trade for trade in trades if not trade.is_buyer_maker]
    prices = [trade.price for trade in trades] or [before]
    return [
        open_time,
        f"{prices[0]:f}",
        f"{max(prices):f}",
        f"{min(prices):f}",
        f"{prices[-1]:f}",
        f"{_quantity(trades):f}",
        open_time + length - 1,
        f"{_value(trades, kind):f}",
        len(trades),
        f"{_quantity(bought):f}",
        f"{_value(bought, kind):f}",
        "0",
    ]


def _quantity(trades: Sequence[Trade]) -> Decimal:
    return sum((trade.quantity for trade in trades), Decimal(0))


def _value(trades: Sequence[Trade], kind: Kind) -> Decimal:
    """Return the sum of their values: of spot cut to 8 places each, of contracts rounded once."""
    with localcontext() as context:
        context.prec = 200
        if not trades:
            return Decimal(0)
        size = kind.contract_size(trades[0].symbol)
        values = [value_of(trade, size) for trade in trades]
        if not kind.has_fillers:
            values = [value.quantize(_EIGHT_PLACES, ROUND_DOWN) for value in values]
        total = sum(values, Decimal(0))
        return total if size is None else total.quantize(_EIGHT_PLACES, ROUND_HALF_UP)
