"""The bytes of a stored bar: those of bson.encode, whatever the numbers, or none at all."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import bson
import pytest
from bson.decimal128 import Decimal128
from bson.errors import BSONError
from bson.int64 import Int64
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from bintrades.model import EXACT
from bintrades.stores.mongodb.bar_bson import document, encode
from bintrades.testing.bars import sample_bar

if TYPE_CHECKING:
    from bintrades import Bar

REFUSED = (ValueError, ArithmeticError, BSONError)


def decimal(digits: int, exponent: int) -> Decimal:
    return Decimal(digits).scaleb(exponent, EXACT)


anything = st.builds(decimal, st.integers(-(10**36), 10**36), st.integers(-60, 40))
usual = st.builds(decimal, st.integers(0, 10**16), st.integers(-12, 0))
zeros = st.builds(Decimal, st.sampled_from(["0", "-0", "0E-8", "0E+3", "0E-7000", "-0.000"]))
extremes = st.builds(Decimal, st.sampled_from(["1E-6176", "1E-6177", "1E+40", "9" * 34, "9" * 35]))
decimals = usual | anything | zeros | extremes
longs = st.integers(0, 2**40) | st.integers(-(2**63) - 1, 2**63)
times = st.integers(0, 2**41) | st.integers(-(10**15), 10**15)

DECIMALS = ("quantity", "buy_quantity", "value", "buy_value", "open_price", "close_price")
PRICES = ("min_price", "max_price")
LONGS = (
    *("trade_count", "buy_count", "first_trade_id", "last_trade_id", "version", "epoch"),
    "excluded_count",
)
TIMES = ("open_time_ms", "first_trade_time_ms", "last_trade_time_ms", "updated_at_ms")
FLAGS = ("is_closed", "is_complete", "is_approximate")

bars = st.builds(
    lambda fields: sample_bar(**fields),
    st.fixed_dictionaries(
        {},
        optional={
            "symbol": st.text(),
            "market": st.sampled_from(["spot", "usdm", "coinm"]) | st.text(),
            "contract_size": st.none() | decimals,
            "interval_ms": st.sampled_from([1_000, 10_000, 86_400_000, 2**50]),
            **dict.fromkeys((*DECIMALS, *PRICES), decimals),
            **dict.fromkeys(LONGS, longs),
            **dict.fromkeys(TIMES, times),
            **dict.fromkeys(FLAGS, st.booleans()),
        },
    ),
)


@given(bars)
@example(sample_bar(symbol="币安人生USDT", value=Decimal("9999999999999999.999999999999999999")))
@example(sample_bar(version=2**31, symbol="nul\0within"))
@example(sample_bar(quantity=Decimal(0)))
@example(sample_bar(updated_at_ms=-1))
@example(sample_bar(updated_at_ms=253_402_300_800_000))
@example(sample_bar(symbol="\ud800"))
def test_a_bar_is_encoded_byte_for_byte_as_its_document_is(bar: Bar) -> None:
    try:
        expected = bson.encode(document(bar))
    except REFUSED as error:
        with pytest.raises(type(error)):
            encode(bar)
    else:
        assert encode(bar) == expected


@given(st.sampled_from((*DECIMALS, *PRICES)), decimals)
def test_every_decimal_is_encoded_as_bson_does(name: str, value: Decimal) -> None:
    bar = replace(sample_bar(), **{name: value})
    try:
        expected = bson.encode(document(bar))
    except REFUSED:
        return
    assert encode(bar) == expected


@given(st.integers(0, 10**36), st.integers(0, 20))
def test_a_decimal_is_stored_exactly_or_not_at_all(digits: int, places: int) -> None:
    value = Decimal((0, tuple(map(int, str(digits))), -places))
    bar = sample_bar(value=value, buy_value=Decimal(0), quantity=Decimal(1))
    fits = len(str(digits).rstrip("0")) <= 34

    with nullcontext() if fits else pytest.raises(ValueError, match="34 digits"):
        assert document(bar)["value"].to_decimal() == value
        assert bson.decode(encode(bar))["value"].to_decimal() == value


def test_a_number_of_too_many_digits_is_refused_by_name() -> None:
    bar = sample_bar(max_price=Decimal("1." + "1" * 34))

    with pytest.raises(ValueError, match="max_price has more than the 34 digits"):
        encode(bar)


def test_every_field_has_its_published_bson_type() -> None:
    stored = document(sample_bar())

    types = {name: type(value) for name, value in stored.items()}

    dates = ["open_time", "first_trade_time", "last_trade_time", "updated_at"]
    longs = ["trade_count", "buy_count", "sell_count", "first_trade_id", "last_trade_id"]
    decimals = [
        *("quantity", "buy_quantity", "sell_quantity", "value", "buy_value", "sell_value"),
        *("open_price", "close_price", "min_price", "max_price", "average_price"),
    ]
    assert types == {
        "symbol": str,
        "market": str,
        "interval_seconds": int,
        "is_closed": bool,
        "is_complete": bool,
        "epoch": int,
        "version": int,
        **dict.fromkeys(dates, datetime),
        **dict.fromkeys(longs, Int64),
        **dict.fromkeys(decimals, Decimal128),
    }


@pytest.mark.parametrize("number", ["0E-8", "0", "1E-8", "1.20E-7", "1E+15", "9" * 34, "0.10"])
def test_the_quick_encoding_is_used_for_every_usual_bar(
    monkeypatch: pytest.MonkeyPatch, number: str
) -> None:
    def not_needed(_: object) -> None:
        raise AssertionError("the slow way")

    monkeypatch.setattr("bintrades.stores.mongodb.bar_bson.document", not_needed)

    bar = sample_bar(value=Decimal(number), buy_value=Decimal(0), quantity=Decimal(1))

    assert bson.decode(encode(bar))["value"].to_decimal() == Decimal(number)


def test_a_bar_that_divides_by_nothing_is_no_document() -> None:
    with pytest.raises(ArithmeticError):
        encode(sample_bar(quantity=Decimal(0)))
