"""Quantities in contracts: what bars say of them, and that the exchange's klines say the same."""

from __future__ import annotations

import decimal
import json
from collections import defaultdict
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bintrades.core.bucket import new_bucket, reopened_bucket
from bintrades.core.rebuild import rebuilt_bar
from bintrades.core.verification import Outcome, compare, contradicts_itself
from bintrades.model import EXACT, Bar, IdLaw, Kline, SeriesKey, Trade, TradeRange
from tests.recordings import real_folder
from tests.strategies import INTERVAL, START, make_trade

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

KEY = SeriesKey(
    "binance", "coinm", "BTCUSD_PERP", "trade", IdLaw.WITH_FILLERS, contract_size=Decimal(100)
)
EIGHT_PLACES = Decimal("1E-8")
SAMPLE = "coinm_aggtrade_kline_20210722.txt"
SIZES = {"BTC": Decimal(100)}  # of all other assets it is 10


@st.composite
def trades_of_an_interval(draw: st.DrawFn) -> list[Trade]:
    """Draw trades of one bar, lowest id first."""
    rows = draw(
        st.lists(
            st.tuples(
                st.decimals(min_value="0.001", max_value=100_000, places=3),
                st.integers(1, 10**6),
                st.booleans(),
            ),
            min_size=1,
            max_size=15,
        )
    )
    return [
        replace(
            make_trade(number, START + number, price=str(price), quantity=str(quantity)),
            is_buyer_maker=is_buyer_maker,
            symbol=KEY.symbol,
        )
        for number, (price, quantity, is_buyer_maker) in enumerate(rows, 1)
    ]


def bar_of(trades: Sequence[Trade]) -> Bar:
    bucket = new_bucket(KEY, START, START + INTERVAL, trades[0])
    with decimal.localcontext(EXACT):
        for trade in trades:
            bucket.add(trade)
    return bucket.bar(KEY.symbol, KEY.market, is_closed=True)


def exact_value(trades: Iterable[Trade]) -> Fraction:
    size = Fraction(KEY.contract_size or 0)
    return sum((size * Fraction(t.quantity) / Fraction(t.price) for t in trades), Fraction(0))


@given(trades_of_an_interval(), st.data())
def test_the_bar_is_the_same_in_whatever_order_its_trades_come(
    trades: list[Trade], data: st.DataObject
) -> None:
    assert bar_of(data.draw(st.permutations(trades))) == bar_of(trades)


@given(trades_of_an_interval(), st.data())
def test_parts_of_a_bar_that_are_merged_or_go_on_after_a_restart_are_the_whole(
    trades: list[Trade], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(1, len(trades)))
    first, rest = trades[:cut], trades[cut:]
    bucket = reopened_bucket(KEY, bar_of(first))
    with decimal.localcontext(EXACT):
        for trade in rest:
            bucket.add(trade)

    assert bucket.bar(KEY.symbol, KEY.market, is_closed=True) == bar_of(trades)
    if rest:
        assert bar_of(rest).merge(bar_of(first)) == bar_of(trades)


@given(trades_of_an_interval())
def test_the_value_is_that_of_the_base_asset_to_33_digits_at_least(trades: list[Trade]) -> None:
    bar, exact = bar_of(trades), exact_value(trades)
    buys = exact_value(trade for trade in trades if not trade.is_buyer_maker)

    assert abs(Fraction(bar.value) - exact) <= exact / 10**33
    assert abs(Fraction(bar.buy_value) - buys) <= buys / 10**33
    assert bar.contract_size == KEY.contract_size
    assert bar.as_dict()["value"].as_tuple().digits.__len__() <= 34
    assert not contradicts_itself(bar)
    shown = replace(bar, **{name: bar.as_dict()[name] for name in ("value", "buy_value")})
    assert not contradicts_itself(shown), "as a store gives it back"


def test_the_value_of_one_trade_is_its_contracts_in_the_base_asset() -> None:
    bar = bar_of([make_trade(1, price="30000", quantity="3", symbol=KEY.symbol)])

    assert f"{bar.value:f}" == "0.01"
    assert bar.average_price == 30_000
    assert contradicts_itself(replace(bar, value=Decimal("0.011")))
    assert contradicts_itself(replace(bar, value=Decimal("0.009")))


@given(trades_of_an_interval())
def test_a_bar_that_is_made_again_is_the_same(trades: list[Trade]) -> None:
    ranges = [
        TradeRange(t.trade_id, t.trade_id, t.price, t.quantity, t.time, t.is_buyer_maker)
        for t in trades
    ]
    again = rebuilt_bar(ranges, 0, key=KEY, open_time_ms=START, interval_ms=INTERVAL)

    assert again == replace(bar_of(trades), epoch=1)


def test_ids_between_the_trades_of_a_bar_that_is_made_again_are_excluded() -> None:
    price, quantity = Decimal(30_000), Decimal(3)
    ranges = [
        TradeRange(trade_id, trade_id, price, quantity, START, is_buyer_maker=True)
        for trade_id in (5, 6, 9)
    ]
    bar = rebuilt_bar(ranges, 0, key=KEY, open_time_ms=START, interval_ms=INTERVAL)

    assert bar is not None
    assert (bar.trade_count, bar.excluded_count) == (3, 2)
    assert not contradicts_itself(bar)


def kline(bar: Bar, **changes: Any) -> Kline:
    """Return the kline of a bar, its values rounded once, with *changes*."""
    fields: dict[str, Any] = {
        "open_time_ms": bar.open_time_ms,
        "interval_ms": INTERVAL,
        **{name: getattr(bar, name) for name in ("open_price", "max_price", "min_price")},
        **{name: getattr(bar, name) for name in ("close_price", "quantity", "trade_count")},
        "buy_quantity": bar.buy_quantity,
        "value": bar.value.quantize(EIGHT_PLACES, context=EXACT_ROUNDED),
        "buy_value": bar.buy_value.quantize(EIGHT_PLACES, context=EXACT_ROUNDED),
    }
    return Kline(**(fields | changes))


EXACT_ROUNDED = decimal.Context(prec=100, rounding=decimal.ROUND_HALF_UP)


def outcome(bar: Bar, theirs: Kline) -> Outcome:
    (comparison,) = compare(
        bar.symbol,
        [bar],
        [theirs],
        START,
        START + INTERVAL,
        interval_ms=INTERVAL,
        kline_ms=INTERVAL,
        covered=[(START, START + INTERVAL)],
    )
    return comparison.outcome


@given(trades_of_an_interval())
def test_a_kline_may_be_off_by_one_rounding_and_no_more(trades: list[Trade]) -> None:
    bar = bar_of(trades)
    off = Decimal("1.6E-8")  # with a tenth of a trade's rounding it would be near enough on spot

    assert outcome(bar, kline(bar)) is Outcome.EQUAL
    assert outcome(bar, kline(bar, value=EXACT.add(bar.value, off))) is Outcome.DIFFERENT
    assert outcome(bar, kline(bar, buy_value=EXACT.add(bar.buy_value, off))) is Outcome.DIFFERENT


def recorded() -> tuple[dict[str, list[dict[str, Any]]], dict[str, list[dict[str, Any]]]]:
    """Return the aggregates and the klines of each symbol, as they came."""
    folder = real_folder()
    path = folder.parent / "samples" / SAMPLE if folder else None
    if path is None or not path.is_file():
        pytest.skip(f"{SAMPLE} is not here: it is a recording of the real exchange")
    aggregates, klines = defaultdict(list), defaultdict(list)
    for line in path.read_text(encoding="utf-8").splitlines():
        data = json.loads(line.partition(": ")[2])["data"]
        if data["e"] == "aggTrade":
            aggregates[data["s"]].append(data)
        else:
            klines[data["s"]].append(data["k"])
    return aggregates, klines


def test_recorded_klines_have_the_values_that_bars_of_their_trades_have() -> None:
    aggregates, klines = recorded()
    compared = 0
    for symbol, of_symbol in klines.items():
        key = replace(KEY, symbol=symbol, contract_size=SIZES.get(symbol[:3], Decimal(10)))
        for earlier, later in pairwise(of_symbol):
            is_same = earlier["t"] == later["t"]  # a kline that grows, told a few times a second
            first = earlier["L"] + 1 if is_same else later["f"]
            rows = [
                row for row in aggregates[symbol] if first <= row["f"] and row["l"] <= later["L"]
            ]
            count = later["n"] - (earlier["n"] if is_same else 0)
            if not rows or sum(row["l"] - row["f"] + 1 for row in rows) != count:
                continue  # not all of it was recorded
            bar = bar_of_aggregates(key, rows)
            for name, ours in (
                ("v", bar.quantity),
                ("V", bar.buy_quantity),
                ("q", bar.value),
                ("Q", bar.buy_value),
            ):
                theirs = Decimal(later[name]) - (Decimal(earlier[name]) if is_same else 0)
                assert abs(theirs - ours) <= (EIGHT_PLACES if name in "qQ" else 0), (symbol, name)
            compared += 1

    assert compared == 5


def bar_of_aggregates(key: SeriesKey, rows: Iterable[dict[str, Any]]) -> Bar:
    ranges = [
        TradeRange(row["f"], row["l"], Decimal(row["p"]), Decimal(row["q"]), row["T"], row["m"])
        for row in rows
    ]
    minute = ranges[0].time // 60_000 * 60_000
    bar = rebuilt_bar(ranges, 0, key=key, open_time_ms=minute, interval_ms=60_000)
    assert bar is not None
    return bar
