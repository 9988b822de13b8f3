"""Longer bars, by what the same trades would have made, and by what is proven of their time."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bintrades.core.resample import LongerBar, part_of, resample
from bintrades.core.spans import Span, union
from bintrades.model.bar_fields import FIELDS, MergeRule
from bintrades.testing.bars import OPEN_TIME_MS, sample_bar, sample_bars
from tests.strategies import INTERVAL, START, bars_of, trades

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bintrades.model import Bar, Trade

MINUTE = 6 * INTERVAL
ALWAYS = [(0, 2**50)]


@st.composite
def series(draw: st.DrawFn) -> list[Bar]:
    """Draw bars of futures with holes in time and in ids, some of them not whole."""
    places = sorted(draw(st.sets(st.integers(0, 40), max_size=25)))
    bars = []
    next_id = 1
    for place in places:
        count, excluded = draw(st.integers(1, 5)), draw(st.integers(0, 2))
        first_id = next_id + draw(st.integers(0, 2))
        next_id = first_id + count + excluded
        open_time_ms = START + place * INTERVAL
        bars.append(
            sample_bar(
                market="usdm",
                open_time_ms=open_time_ms,
                trade_count=count,
                excluded_count=excluded,
                first_trade_id=first_id,
                last_trade_id=next_id - 1,
                first_trade_time_ms=open_time_ms + draw(st.sampled_from([0, 17])),
                last_trade_time_ms=open_time_ms + draw(st.sampled_from([17, 9_999])),
                is_closed=draw(st.sampled_from([True, True, True, False])),
                is_complete=draw(st.sampled_from([True, True, True, False])),
                is_approximate=draw(st.sampled_from([False, False, True])),
                version=draw(st.integers(1, 3)),
                epoch=draw(st.integers(0, 2)),
                updated_at_ms=draw(st.integers(0, 9)),
            )
        )
    return bars


spans = st.lists(
    st.tuples(st.integers(-10, 50), st.integers(-10, 50)).map(
        lambda pair: (START + pair[0] * INTERVAL, START + pair[1] * INTERVAL)
    ),
    max_size=5,
).map(union)


@given(trades)
def test_a_longer_bar_is_the_one_that_the_same_trades_would_have_made(
    happened: list[Trade],
) -> None:
    shorter = sorted(bars_of(happened).items())

    made = {
        (symbol, longer.bar.open_time_ms): longer.bar
        for symbol, parts in groupby(shorter, key=lambda item: item[0][0])
        for longer in resample([bar for _, bar in parts], ALWAYS, MINUTE)
    }

    expected = bars_of(happened, MINUTE)
    assert made.keys() == expected.keys()
    for key, bar in made.items():
        parts = sum(
            symbol == key[0] and key[1] <= opened < key[1] + MINUTE
            for (symbol, opened), _ in shorter
        )
        assert bar == replace(expected[key], version=parts)


@given(series(), spans)
def test_two_steps_make_the_same_as_one(bars: list[Bar], covered: list[Span]) -> None:
    ended_ms = START + 20 * INTERVAL
    half = resample(bars, covered, MINUTE // 2, ended_ms)

    assert list(resample(half, covered, 4 * MINUTE, ended_ms)) == list(
        resample(bars, covered, 4 * MINUTE, ended_ms)
    )


@given(series(), spans)
def test_missing_is_every_interval_that_neither_a_whole_bar_nor_a_span_proves(
    bars: list[Bar], covered: list[Span]
) -> None:
    bar_at = {bar.open_time_ms: bar for bar in bars}

    for longer in resample(bars, covered, MINUTE):
        for opened in range(longer.bar.open_time_ms, longer.bar.end_time_ms, INTERVAL):
            bar = bar_at.get(opened)
            is_proven = (
                any(since <= opened < until for since, until in covered)
                if bar is None
                else bar.is_closed and bar.is_complete
            )
            is_missing = any(since <= opened < until for since, until in longer.missing)
            assert is_missing is not is_proven
        assert union(longer.missing) == list(longer.missing)
        assert longer.bar.is_complete is (longer.covered_ms == MINUTE)


@given(series(), spans)
def test_a_cut_between_two_longer_intervals_changes_none(
    bars: list[Bar], covered: list[Span]
) -> None:
    cut = START + 3 * MINUTE
    before = [bar for bar in bars if bar.open_time_ms < cut]
    after = [bar for bar in bars if bar.open_time_ms >= cut]

    pieces = [
        *resample(before, covered, MINUTE, ended_ms=cut),
        *resample(after, covered, MINUTE, ended_ms=cut),
    ]

    assert pieces == list(resample(bars, covered, MINUTE, ended_ms=cut))


def test_bars_are_taken_one_by_one_and_a_longer_one_is_given_away_with_the_next() -> None:
    taken: list[Bar] = []

    def bars() -> Iterator[Bar]:
        for bar in sample_bars(13):
            taken.append(bar)
            yield bar

    next(resample(bars(), ALWAYS, MINUTE))

    assert len(taken) == 7


def test_an_interval_without_a_bar_is_missing_unless_it_is_covered() -> None:
    bars = [sample_bars(6)[place] for place in (0, 1, 4)]
    hole = (OPEN_TIME_MS + 2 * INTERVAL, OPEN_TIME_MS + 4 * INTERVAL)
    end = (OPEN_TIME_MS + 5 * INTERVAL, OPEN_TIME_MS + MINUTE)

    (unproven,) = resample(bars, [], MINUTE)
    (half,) = resample(bars, [hole], MINUTE)
    (whole,) = resample(bars, [hole, end], MINUTE)

    assert unproven.missing == (hole, end)
    assert half.missing == (end,)
    assert (half.covered_ms, half.bar.is_complete) == (5 * INTERVAL, False)
    assert (whole.missing, whole.bar.is_complete) == ((), True)


@pytest.mark.parametrize("change", [{"is_closed": False}, {"is_complete": False}])
def test_a_part_that_is_not_whole_is_missing_even_where_its_time_is_covered(
    change: dict[str, bool],
) -> None:
    first, second = sample_bars(2)

    (longer,) = resample([first, replace(second, **change)], ALWAYS, MINUTE)

    assert longer.missing == part_of(replace(second, **change)).missing != ()
    assert not longer.bar.is_complete


@pytest.mark.parametrize(
    ("covered", "ended_ms", "is_closed"),
    [
        ([], 0, False),
        ([(0, OPEN_TIME_MS + MINUTE - INTERVAL)], 0, False),
        ([(0, OPEN_TIME_MS + MINUTE)], 0, True),
        ([], OPEN_TIME_MS + MINUTE, True),
    ],
)
def test_the_last_bar_is_closed_once_its_interval_is_known_to_be_over(
    covered: Sequence[Span], ended_ms: int, is_closed: bool
) -> None:
    (longer,) = resample(sample_bars(2), covered, MINUTE, ended_ms)

    assert longer.bar.is_closed is is_closed


def test_a_bar_before_another_one_is_closed_unless_a_part_of_it_is_not() -> None:
    bars = sample_bars(13)
    bars[7] = replace(bars[7], is_closed=False)

    assert [each.bar.is_closed for each in resample(bars, [], MINUTE)] == [True, False, False]


def test_ids_between_bars_are_excluded_where_no_trade_can_be_missing() -> None:
    first, _, third = sample_bars(3, market="usdm")
    later = replace(third, first_trade_id=10, last_trade_id=13, excluded_count=1)

    (covered,) = resample([first, later], ALWAYS, MINUTE)
    (unknown,) = resample([first, later], [], MINUTE)

    bar = covered.bar
    assert bar.last_trade_id - bar.first_trade_id + 1 == bar.trade_count + bar.excluded_count
    assert unknown.bar.excluded_count == 1


def test_any_amendment_of_a_part_makes_a_longer_bar_of_a_higher_rank() -> None:
    bars = sample_bars(6)
    rebuilt = replace(bars[2], epoch=1, trade_count=1, version=2)

    (before,) = resample(bars, ALWAYS, MINUTE)
    (after,) = resample([*bars[:2], rebuilt, *bars[3:]], ALWAYS, MINUTE)

    assert after.bar.rank > before.bar.rank


def test_a_bar_of_its_own_interval_stays_as_it_is() -> None:
    bars = sample_bars(3)

    assert list(resample(bars, ALWAYS, INTERVAL)) == [LongerBar(bar) for bar in bars]


def test_it_is_decided_for_every_field_that_merging_leaves_alone() -> None:
    of_the_series = {"symbol", "market", "contract_size", "open_time", "interval_seconds"}
    decided_here = {"is_complete", "epoch", "version", "updated_at", "excluded_count"}

    kept = {field.name for field in FIELDS if field.rule is MergeRule.KEPT}

    assert kept == of_the_series | decided_here


@pytest.mark.parametrize("interval_ms", [0, -60_000, 5_000, 15_000])
def test_an_interval_that_is_no_multiple_is_refused(interval_ms: int) -> None:
    with pytest.raises(ValueError, match=r"interval|multiple"):
        list(resample(sample_bars(1), ALWAYS, interval_ms))


@pytest.mark.parametrize(
    "second",
    [
        sample_bar(),
        sample_bar(open_time_ms=OPEN_TIME_MS - INTERVAL),
        sample_bar(open_time_ms=OPEN_TIME_MS + INTERVAL, symbol="ETHUSDT"),
        sample_bar(open_time_ms=OPEN_TIME_MS + INTERVAL, market="us"),
        sample_bar(open_time_ms=OPEN_TIME_MS + 2 * INTERVAL, interval_ms=2 * INTERVAL),
        sample_bar(open_time_ms=OPEN_TIME_MS + MINUTE, symbol="ETHUSDT"),
    ],
)
def test_bars_that_do_not_belong_together_are_refused(second: Bar) -> None:
    with pytest.raises(ValueError, match="bars of one series are added up, oldest first"):
        list(resample([sample_bar(), second], ALWAYS, MINUTE))
