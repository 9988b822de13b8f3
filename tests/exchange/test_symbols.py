"""What a list of names and patterns selects from the symbols that the exchange lists."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from bintrades.exchange.symbols import SymbolInfo, is_pattern, nearest_names, select

if TYPE_CHECKING:
    from random import Random

LISTED = [
    SymbolInfo(symbol, is_delisted)
    for symbol, is_delisted in [
        ("ETHUSDT", False),
        ("BTCUSDT", False),
        ("币安人生USDT", False),
        ("LUNAUSDT", True),
        ("SOLUSDT", False),
        ("ETHBTC", False),
        ("BTCUPUSDT", False),
    ]
]


def test_names_come_in_the_order_in_which_they_were_given_each_once() -> None:
    selection = select(["ETHBTC", "BTCUSDT", "ETHBTC"], [], LISTED)

    assert selection.symbols == ("ETHBTC", "BTCUSDT")


def test_a_pattern_takes_every_symbol_but_the_delisted_ones() -> None:
    selection = select(["*USDT"], [], LISTED)

    assert selection.symbols == ("BTCUPUSDT", "BTCUSDT", "ETHUSDT", "SOLUSDT", "币安人生USDT")


def test_a_question_mark_is_one_character() -> None:
    assert select(["?????USDT"], [], LISTED).symbols == ("BTCUPUSDT",)
    assert select(["????USDT"], [], LISTED).symbols == ("币安人生USDT",)


def test_names_of_delisted_and_unlisted_symbols_are_taken() -> None:
    names = ["LUNAUSDT", "BTCUSD", "币安人USDT", "NOTHINGLIKEIT"]

    assert select(names, [], LISTED).symbols == tuple(names)


def test_the_nearest_names_are_those_that_are_spelt_alike() -> None:
    assert nearest_names("BTCUSD", LISTED)[0] == "BTCUSDT"
    assert nearest_names("币安人USDT", LISTED)[0] == "币安人生USDT"
    assert nearest_names("LUNAUSD", LISTED) == []  # LUNAUSDT is delisted
    assert nearest_names("NOTHINGLIKEIT", LISTED) == []


def test_a_name_of_another_market_has_its_nearest_ones_too() -> None:
    contracts = [SymbolInfo("ETHUSD_PERP"), SymbolInfo("BTCUSD_PERP"), SymbolInfo("BTCUSD_261225")]

    assert nearest_names("BTCUSDT", contracts) == ["BTCUSD_PERP"]


def test_excluded_names_and_patterns_are_left_out() -> None:
    selection = select(["*", "NOTYET"], ["ETHBTC", "*UP*", "NOT*"], LISTED)

    assert selection.symbols == ("BTCUSDT", "ETHUSDT", "SOLUSDT", "币安人生USDT")


def test_a_pattern_that_nothing_fits_is_reported() -> None:
    selection = select(["*EUR", "BTC*", "LUNA*"], ["BTC*"], LISTED)

    assert (selection.symbols, selection.unmatched) == ((), ("*EUR", "LUNA*"))


def test_nothing_listed_leaves_the_names() -> None:
    selection = select(["BTCUSDT", "*USDT"], [], [])

    assert selection.symbols == ("BTCUSDT",)
    assert selection.unmatched == ("*USDT",)


symbols = st.text("AB.币", min_size=1, max_size=4)
names = st.lists(st.text("AB.币*?", min_size=1, max_size=4))
listings = st.lists(
    st.builds(SymbolInfo, symbol=symbols, is_delisted=st.booleans()),
    unique_by=lambda info: info.symbol,
)


@given(names, names, listings)
def test_a_symbol_is_taken_exactly_when_it_is_included_and_not_excluded(
    include: list[str], exclude: list[str], listed: list[SymbolInfo]
) -> None:
    alive = {info.symbol for info in listed if not info.is_delisted}
    literals = {name for name in include if not is_pattern(name)}
    wanted = literals | {
        symbol for symbol in alive for name in include if fnmatchcase(symbol, name)
    }

    selection = select(include, exclude, listed)

    assert set(selection.symbols) == {
        symbol for symbol in wanted if not any(fnmatchcase(symbol, name) for name in exclude)
    }
    assert len(selection.symbols) == len(set(selection.symbols))


@given(names, names, listings, st.randoms())
def test_the_order_of_the_listing_does_not_matter(
    include: list[str], exclude: list[str], listed: list[SymbolInfo], random: Random
) -> None:
    shuffled = list(listed)
    random.shuffle(shuffled)

    assert select(include, exclude, shuffled) == select(include, exclude, listed)
