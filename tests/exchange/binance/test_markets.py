"""The table of markets and the names of streams."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bintrades.exchange.binance.markets import MARKETS
from bintrades.exchange.binance.spot import TRADES


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("BTCUSDT", "btcusdt@trade"),
        ("1000SATSUSDT", "1000satsusdt@trade"),
        ("币安人生USDT", "币安人生usdt@trade"),
        ("ÄÏUSDT", "ÄÏusdt@trade"),
    ],
)
def test_a_stream_has_the_symbols_name_with_its_ascii_letters_lowered(
    symbol: str, name: str
) -> None:
    assert TRADES.name_of(symbol) == name


@given(st.text(), st.text())
def test_symbols_of_one_name_differ_at_most_in_the_case_of_ascii_letters(a: str, b: str) -> None:
    lowered = [bytes(symbol, "utf-8", "surrogatepass").lower() for symbol in (a, b)]

    assert (TRADES.name_of(a) == TRADES.name_of(b)) == (lowered[0] == lowered[1])


def test_a_market_is_found_by_its_own_name() -> None:
    assert all(market.name == name for name, market in MARKETS.items())
