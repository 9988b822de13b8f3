"""Which of several collectors has a symbol."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from bintrades.exchange.shards import Shard, shard_of
from bintrades.exchange.symbols import SymbolInfo, choose, select
from bintrades.model.symbol_record import LeftBecause

SYMBOLS = [f"S{number}USDT" for number in range(3_000)]


@given(st.text(min_size=1, max_size=20), st.integers(1, 50))
def test_each_symbol_has_one_shard(symbol: str, count: int) -> None:
    having = [number for number in range(1, count + 1) if Shard(number, count).has(symbol)]

    assert having == [shard_of(symbol, count)]


@given(st.integers(1, 20))
def test_a_shard_that_is_added_takes_symbols_and_nothing_else_moves(count: int) -> None:
    moved = {
        symbol: shard_of(symbol, count + 1)
        for symbol in SYMBOLS
        if shard_of(symbol, count) != shard_of(symbol, count + 1)
    }

    assert set(moved.values()) == {count + 1}
    assert abs(len(moved) - len(SYMBOLS) / (count + 1)) < 0.25 * len(SYMBOLS) / (count + 1) + 30


def test_shards_are_about_as_large_as_each_other() -> None:
    sizes = Counter(shard_of(symbol, 5) for symbol in SYMBOLS)

    assert sorted(sizes) == [1, 2, 3, 4, 5]
    assert max(sizes.values()) < 1.15 * min(sizes.values())


def test_the_shard_of_a_symbol_is_the_same_in_all_versions_and_on_all_machines() -> None:
    assert [shard_of(symbol, 5) for symbol in KNOWN] == list(KNOWN.values())


KNOWN = {"BTCUSDT": 1, "ETHUSDT": 1, "币安人生USDT": 2}


def test_all_shards_together_select_what_one_collector_would() -> None:
    listed = [SymbolInfo(symbol) for symbol in SYMBOLS]
    parts = [select(["*USDT"], ["S1*"], listed, (), Shard(number, 3)) for number in (1, 2, 3)]
    together = [symbol for part in parts for symbol in part.symbols]

    assert sorted(together) == sorted(select(["*USDT"], ["S1*"], listed).symbols)


def test_what_another_shard_has_now_is_selected_no_longer() -> None:
    listed = [SymbolInfo(symbol) for symbol in SYMBOLS[:50]]
    choice = choose(["*"], [], listed, SYMBOLS[:50], is_fresh=True, shard=Shard(1, 2))

    assert len(choice.wanted) + len(choice.gone) == 50
    assert set(choice.gone.values()) == {LeftBecause.DESELECTED}
