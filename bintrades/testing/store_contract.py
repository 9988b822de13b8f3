"""The promises of a storage plugin as tests, for the authors of plugins.

Put a subclass into a test module and pytest runs every promise against your plugin:

    class TestMyStore(StoreContract):
        name = "mystore"

        @pytest.fixture
        def options(self, tmp_path):
            self.path = tmp_path / "bars.db"
            return {"path": str(self.path)}

        def stored(self):
            return [...]  # everything in self.path, as Bar.as_dict() gives it

        def covered(self):  # where it has the hook store_coverage
            return [...]  # likewise, as CoveredSpan.as_dict() gives it

and, for assertions that show what differs, this line into conftest.py:

    pytest.register_assert_rewrite("bintrades.testing.store_contract")
"""

# ruff: noqa: D102 - the name of a test says it

from __future__ import annotations

import itertools
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from bintrades.errors import ConfigError
from bintrades.model.bar_fields import FIELDS, RANK
from bintrades.stores.loader import load_stores
from bintrades.testing.bars import sample_bar, sample_bars, sample_span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from bintrades.model import Bar, CoveredSpan
    from bintrades.stores.store import Store

_LONGEST = Decimal("9999999999999999.999999999999999999")
"""34 significant digits: what every store should hold exactly."""

_OPTIONAL = [field.name for field in FIELDS if field.is_optional]


class StoreContract:
    """Override `name`, `options` and `stored`; every test then runs against that plugin."""

    # Not an abstract class: pytest leaves out the tests of one without a word.

    name: str
    """Name of the plugin, as in `[stores] enabled`."""

    folder = Path("plugins")
    """Folder of drop-in plugins, for a plugin that is a file there."""

    @pytest.fixture
    def options(self) -> dict[str, str]:
        """Return options that lead to an empty store, another one for each test."""
        raise NotImplementedError(self._must("the fixture `options`"))

    def stored(self) -> list[dict[str, Any]]:
        """Return the bars that the store holds now, in any order, as Bar.as_dict() gives them.

        A store that leaves out `average_price` leaves it out here.
        """
        raise NotImplementedError(self._must("the method `stored`"))

    def covered(self) -> list[dict[str, Any]]:
        """Return the spans that the store holds, in any order, as CoveredSpan.as_dict() gives them.

        Of a plugin that has store_coverage.
        """
        raise NotImplementedError(self._must("the method `covered`"))

    def forget_epochs(self) -> None:
        """Take `epoch` out of what is stored; leave this as it is if it was always there."""

    @pytest.fixture
    def store(self, options: dict[str, str]) -> Iterator[Store]:
        """Return the plugin, loaded, checked and open."""
        (store,) = load_stores([self.name], self.folder)
        store.check(options)
        store.open(options)
        yield store
        store.close()

    @pytest.fixture
    def covering(self, store: Store) -> Store:
        """Return the same plugin if it takes coverage."""
        if not store.takes_coverage:
            pytest.skip(f"{self.name} has no store_coverage, which a plugin may leave out")
        return store

    def assert_covered(self, *spans: CoveredSpan) -> None:
        """Assert that the store holds exactly *spans*."""
        there = sorted(self.covered(), key=_place_of_span)
        assert there == sorted((span.as_dict() for span in spans), key=_place_of_span)

    def _must(self, override: str) -> str:
        return f"{type(self).__name__} must override {override} of StoreContract"

    def assert_stored(self, *bars: Bar) -> None:
        """Assert that the store holds exactly *bars*."""
        _assert_same(self.stored(), bars)

    def test_a_bar_is_stored_with_every_field_exactly(self, store: Store) -> None:
        bar = sample_bar()

        store.write([bar])

        self.assert_stored(bar)

    def test_the_smallest_the_largest_and_the_longest_number_are_exact(self, store: Store) -> None:
        bar = sample_bar(
            trade_count=2**62,
            first_trade_id=0,
            last_trade_id=2**63 - 1,
            value=_LONGEST,
            buy_value=_LONGEST,
            buy_quantity=Decimal(0),
            min_price=Decimal("1E-18"),
            max_price=Decimal("1E+15"),
        )

        store.write([bar])

        self.assert_stored(bar)

    def test_a_symbol_beyond_ascii_is_stored(self, store: Store) -> None:
        bar = sample_bar(symbol="币安人生USDT")

        store.write([bar])

        self.assert_stored(bar)

    def test_bars_of_several_markets_are_stored_beside_each_other(self, store: Store) -> None:
        spot = sample_bar()
        us = sample_bar(market="us", trade_count=4, last_trade_id=3_700_000_003)

        store.write([us])
        store.write([spot])

        self.assert_stored(spot, us)

    def test_the_same_bars_twice_are_stored_once(self, store: Store) -> None:
        bars = sample_bars(5)

        store.write(bars)
        store.write(bars)

        self.assert_stored(*bars)

    def test_a_bar_with_more_trades_replaces_the_stored_one(self, store: Store) -> None:
        first, second, third = sample_bars(3)
        amended = replace(second, trade_count=4, version=2, updated_at_ms=1)

        store.write([first, second, third])
        store.write([amended])

        self.assert_stored(first, amended, third)

    def test_a_newer_version_with_as_many_trades_replaces_the_stored_one(
        self, store: Store
    ) -> None:
        bar = sample_bar(is_closed=False, is_complete=False)
        newer = replace(bar, is_closed=True, is_complete=True, version=2)

        store.write([bar])
        store.write([newer])

        self.assert_stored(newer)

    def test_a_bar_with_fewer_trades_never_replaces_the_stored_one(self, store: Store) -> None:
        bars = sample_bars(3)
        poorer = [replace(bar, trade_count=2, version=9) for bar in bars]
        later = sample_bars(5)[3:]

        store.write(bars)
        store.write([*poorer, *later])

        self.assert_stored(*bars, *later)

    @pytest.mark.parametrize("version", [1, 5, 9])
    @pytest.mark.parametrize("lack", ["is_closed", "is_complete"])
    def test_a_bar_that_is_not_whole_never_replaces_a_whole_one_of_as_many_trades(
        self, store: Store, lack: str, version: int
    ) -> None:
        bar = sample_bar(version=5)

        store.write([bar])
        store.write([replace(bar, **{lack: False}, version=version, updated_at_ms=1)])

        self.assert_stored(bar)

    def test_an_unclosed_bar_never_replaces_a_closed_one_that_lacks_as_much(
        self, store: Store
    ) -> None:
        closed = sample_bar(is_complete=False)

        store.write([closed])
        store.write([replace(closed, is_closed=False, is_complete=True, version=2)])

        self.assert_stored(closed)

    def test_the_same_bar_of_a_journal_that_began_anew_changes_nothing(self, store: Store) -> None:
        bar = sample_bar(version=5)

        store.write([bar])
        store.write([replace(bar, version=1, updated_at_ms=1)])

        self.assert_stored(bar)

    def test_a_better_bar_of_a_journal_that_began_anew_replaces_the_stored_one(
        self, store: Store
    ) -> None:
        bar = sample_bar(is_complete=False, version=5)
        better = replace(bar, is_complete=True, version=1)

        store.write([bar])
        store.write([better])

        self.assert_stored(better)

    def test_two_collectors_end_with_the_best_of_each_bar_whoever_writes_last(
        self, store: Store
    ) -> None:
        bars = sample_bars(4)
        others = [
            replace(bars[0], trade_count=4, is_complete=False),
            replace(bars[1], trade_count=2, version=2),
            replace(bars[2], is_closed=False, version=2),
            replace(bars[3], version=2),
        ]

        for batch in (bars, others, bars):
            store.write(batch)

        self.assert_stored(others[0], bars[1], bars[2], others[3])

    def test_a_bar_of_a_higher_epoch_replaces_one_with_more_trades(self, store: Store) -> None:
        bar = sample_bar(version=5)
        rebuilt = replace(bar, epoch=1, trade_count=2, is_complete=False, version=1)

        store.write([bar])
        store.write([rebuilt])

        self.assert_stored(rebuilt)

    def test_a_bar_of_a_lower_epoch_never_replaces_one_with_fewer_trades(
        self, store: Store
    ) -> None:
        rebuilt = sample_bar(epoch=2, is_closed=False, is_complete=False)
        others = [replace(rebuilt, epoch=epoch, trade_count=9, version=9) for epoch in (0, 1)]

        store.write([rebuilt])
        for other in others:
            store.write([other])

        self.assert_stored(rebuilt)

    def test_of_any_two_versions_the_one_of_the_higher_rank_stays(self, store: Store) -> None:
        pairs = _pairs_of_versions(first_epochs=[0, 1])

        store.write([first for first, _ in pairs])
        store.write([second for _, second in pairs])

        self.assert_stored(*(_better(first, second) for first, second in pairs))

    def test_a_bar_that_is_stored_without_an_epoch_is_of_epoch_0(self, store: Store) -> None:
        pairs = _pairs_of_versions(first_epochs=[0])

        store.write([first for first, _ in pairs])
        self.forget_epochs()
        store.write([second for _, second in pairs])

        stored = [{"epoch": 0} | bar for bar in self.stored()]
        _assert_same(stored, [_better(first, second) for first, second in pairs])

    def test_versions_in_any_order_end_with_the_most_trades(self, store: Store) -> None:
        versions = [sample_bar(trade_count=count) for count in (5, 7, 3, 6)]

        for version in versions:
            store.write([version])

        self.assert_stored(sample_bar(trade_count=7))

    def test_bars_of_the_same_time_and_another_symbol_are_apart(self, store: Store) -> None:
        bars = [sample_bar(symbol=symbol) for symbol in ("BTCUSDT", "ETHUSDT", "btcusdt")]

        store.write(bars)

        self.assert_stored(*bars)

    def test_a_batch_of_many_bars_is_stored_whole(self, store: Store) -> None:
        bars = sample_bars(1_000) + sample_bars(1_000, symbol="ETHUSDT")

        store.write(bars)

        self.assert_stored(*bars)

    def test_stored_bars_are_there_after_closing_and_opening_again(
        self, store: Store, options: dict[str, str]
    ) -> None:
        first, second = sample_bars(2)

        store.write([first])
        store.close()
        store.open(options)
        store.write([second])

        self.assert_stored(first, second)

    def test_opening_an_open_store_and_closing_it_twice_do_no_harm(
        self, store: Store, options: dict[str, str]
    ) -> None:
        store.open(options)
        store.write([sample_bar()])
        store.close()
        store.close()

        self.assert_stored(sample_bar())

    def test_what_is_read_is_what_was_stored_oldest_first(self, store: Store) -> None:
        if not store.can_be_read:
            pytest.skip(f"{self.name} has no read_bars, which a plugin may leave out")
        bars = sample_bars(4)
        others = sample_bars(4, symbol="币安人生USDT")
        better = replace(bars[1], trade_count=4, version=2, is_complete=False)
        rebuilt = replace(bars[2], trade_count=2, epoch=1, version=3)

        store.write([bars[2], *others, bars[0], bars[3], bars[1]])
        store.write([better, rebuilt])

        since, until = bars[1].open_time_ms, bars[3].open_time_ms
        assert list(store.read(bars[0].symbol, since, until, "spot")) == [better, rebuilt]
        assert list(store.read(bars[0].symbol, since, until + 1, "spot")) == [
            better,
            rebuilt,
            bars[3],
        ]
        assert list(store.read("NONEUSDT", since, until, "spot")) == []

    def test_bars_of_one_market_are_read_beside_those_of_another(self, store: Store) -> None:
        if not store.can_be_read:
            pytest.skip(f"{self.name} has no read_bars, which a plugin may leave out")
        spot, usdm = (
            sample_bar(),
            sample_bar(market="usdm", trade_count=4, last_trade_id=3_700_000_003),
        )

        store.write([usdm])
        store.write([spot])

        span = spot.open_time_ms, spot.end_time_ms
        assert list(store.read(spot.symbol, *span, "spot")) == [spot]
        assert list(store.read(spot.symbol, *span, "usdm")) == [usdm]

    def test_a_span_of_coverage_grows_in_place(self, covering: Store) -> None:
        covering.cover([sample_span(0, 3), sample_span(5, 6)])
        covering.cover([sample_span(5, 9)])
        covering.cover([sample_span(5, 9)])

        self.assert_covered(sample_span(0, 3), sample_span(5, 9))

    def test_spans_of_coverage_join_and_split(self, covering: Store) -> None:
        covering.cover([sample_span(0, 3), sample_span(5, 6), sample_span(8, 9)])
        covering.cover([sample_span(0, 6), sample_span(8, 9)])
        self.assert_covered(sample_span(0, 6), sample_span(8, 9))

        covering.cover([sample_span(0, 1), sample_span(2, 6), sample_span(8, 9)])
        self.assert_covered(sample_span(0, 1), sample_span(2, 6), sample_span(8, 9))

    def test_what_is_not_covered_any_more_is_gone(self, covering: Store) -> None:
        covering.cover([sample_span(0, 2), sample_span(3, 5), sample_span(6, 9)])
        covering.cover([sample_span(3, 3), sample_span(7, 9)])
        self.assert_covered(sample_span(0, 2), sample_span(7, 9))

        covering.cover([sample_span(0, 0)])
        self.assert_covered()

    def test_a_span_that_reaches_beyond_the_first_one_told_is_cut_off_there(
        self, covering: Store
    ) -> None:
        covering.cover([sample_span(0, 9)])
        covering.cover([sample_span(4, 5)])

        self.assert_covered(sample_span(0, 4), sample_span(4, 5))

    def test_coverage_of_other_symbols_and_markets_stays_as_it_is(self, covering: Store) -> None:
        others = [
            sample_span(0, 5, symbol="币安人生USDT"),
            sample_span(0, 5, symbol="btcusdt"),
            sample_span(0, 5, market="usdm"),
        ]
        covering.cover([*others, sample_span(0, 5)])
        covering.cover([sample_span(0, 0)])

        self.assert_covered(*others)

    def test_coverage_of_many_symbols_is_stored_at_once(self, covering: Store) -> None:
        symbols = [f"S{number:04}USDT" for number in range(3_000)]
        for until in (3, 4):
            covering.cover([sample_span(0, until, symbol=symbol) for symbol in symbols])

        self.assert_covered(*(sample_span(0, 4, symbol=symbol) for symbol in symbols))

    def test_coverage_is_there_after_closing_and_opening_again(
        self, covering: Store, options: dict[str, str]
    ) -> None:
        covering.cover([sample_span(0, 3)])
        covering.close()
        covering.open(options)
        covering.cover([sample_span(0, 4)])

        self.assert_covered(sample_span(0, 4))

    def test_it_is_the_same_one_after_closing_and_opening_again(
        self, store: Store, options: dict[str, str]
    ) -> None:
        store.open(options)
        before = store.identity()
        store.write([sample_bar()])
        store.close()
        store.open(options)

        assert store.identity() == before

    def test_an_unknown_option_is_refused_by_name(
        self, store: Store, options: dict[str, str]
    ) -> None:
        with pytest.raises(ConfigError, match="no_such_option"):
            store.check(options | {"no_such_option": "1"})


def _pairs_of_versions(first_epochs: Sequence[int]) -> list[tuple[Bar, Bar]]:
    """Return two versions each of many bars: every combination of what decides between them."""
    flags = (False, True)
    firsts = itertools.product(first_epochs, (2, 3), flags, flags, (1, 2))
    seconds = itertools.product((0, 1), (2, 3), flags, flags, (1, 2))
    ranks = list(itertools.product(firsts, seconds))
    return [
        (replace(bar, **_ranked(first)), replace(bar, **_ranked(second), updated_at_ms=1))
        for bar, (first, second) in zip(sample_bars(len(ranks)), ranks, strict=True)
    ]


def _ranked(rank: tuple[object, ...]) -> dict[str, Any]:
    return dict(zip(RANK, rank, strict=True))


def _better(first: Bar, second: Bar) -> Bar:
    return second if second.rank > first.rank else first


def _assert_same(stored: Iterable[dict[str, Any]], bars: Iterable[Bar]) -> None:
    there = _sorted(stored)
    expected = _sorted(bar.as_dict() for bar in bars)
    for bar, fields in zip(expected, there, strict=False):
        for name in _OPTIONAL:
            if name not in fields:
                del bar[name]
    assert there == expected


def _place_of_span(span: dict[str, Any]) -> tuple[str, str, datetime]:
    return span["market"], span["symbol"], span["since"]


def _sorted(bars: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(bars, key=_place_of_bar)


def _place_of_bar(bar: dict[str, Any]) -> tuple[str, str, datetime, int]:
    return bar["market"], bar["symbol"], bar["open_time"], bar["version"]
