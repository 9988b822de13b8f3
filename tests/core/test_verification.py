"""Bars against klines: what is wrong is found and located, and nothing untrue is concluded."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from bintrades.core.verification import Outcome, compare, contradicts_itself, unit_ms
from bintrades.model import EXACT
from tests.klines import MINUTE_MS, SECOND_MS, klines_of
from tests.strategies import INTERVAL, START, bars_of, make_trade, trades_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bintrades.core.verification import Comparison
    from bintrades.model import Bar, Kline, Trade

SYMBOL = "BTCUSDT"
END = START + 2 * MINUTE_MS
COVERED = ((START, END),)


def checked(
    bars: Iterable[Bar],
    trades: Sequence[Trade],
    kline_ms: int = MINUTE_MS,
    covered: Sequence[tuple[int, int]] = COVERED,
    surplus: Sequence[int] = (),
) -> list[Comparison]:
    """Compare *bars* with the klines of *trades*."""
    return against(bars, klines_of(trades, kline_ms, START, END), kline_ms, covered, surplus)


def against(
    bars: Iterable[Bar],
    klines: Iterable[Kline],
    kline_ms: int = MINUTE_MS,
    covered: Sequence[tuple[int, int]] = COVERED,
    surplus: Sequence[int] = (),
) -> list[Comparison]:
    """Compare *bars* with *klines*."""
    return list(
        compare(
            SYMBOL,
            bars,
            klines,
            START,
            END,
            interval_ms=INTERVAL,
            kline_ms=kline_ms,
            covered=covered,
            surplus=surplus,
        )
    )


def made_of(trades: Iterable[Trade]) -> list[Bar]:
    """Return the bars of trades of one symbol, oldest first."""
    return sorted(bars_of(trades).values(), key=lambda bar: bar.open_time_ms)


def outcomes(comparisons: Iterable[Comparison]) -> list[Outcome]:
    """Return the outcome of each unit."""
    return [each.outcome for each in comparisons]


def differing(comparisons: Iterable[Comparison]) -> list[int]:
    """Return the open times of the units that differ."""
    return [each.open_time_ms for each in comparisons if each.outcome is Outcome.DIFFERENT]


traded = trades_of(SYMBOL, is_time_ordered=True).filter(bool)
"""At least one trade, within the first of two minutes.

In the order of time: where a higher id has an earlier time, in another second, the exchange's
klines and a bar do not open or close with the same trade.
"""

kline_lengths = st.sampled_from([MINUTE_MS, SECOND_MS])


@given(trades_of(SYMBOL, is_time_ordered=True), kline_lengths)
def test_bars_and_klines_of_the_same_trades_are_equal(trades: list[Trade], kline_ms: int) -> None:
    found = checked(made_of(trades), trades, kline_ms)

    assert set(outcomes(found)) == {Outcome.EQUAL}
    assert len(found) == (END - START) // unit_ms(INTERVAL, kline_ms)


@given(traded, kline_lengths, st.data())
def test_a_lost_trade_is_found_in_its_bar(
    trades: list[Trade], kline_ms: int, data: st.DataObject
) -> None:
    lost = data.draw(st.sampled_from(trades))

    found = checked(made_of(each for each in trades if each != lost), trades, kline_ms)

    unit = unit_ms(INTERVAL, kline_ms)
    assert differing(found) == [lost.time // unit * unit]


@given(traded, kline_lengths, st.data())
def test_a_doubled_trade_is_found_in_its_bar(
    trades: list[Trade], kline_ms: int, data: st.DataObject
) -> None:
    doubled = data.draw(st.sampled_from(trades))

    found = checked(made_of([*trades, doubled]), trades, kline_ms)

    unit = unit_ms(INTERVAL, kline_ms)
    assert differing(found) == [doubled.time // unit * unit]
    (difference,) = [each.difference for each in found if each.difference]
    ours, theirs = difference.fields["trade_count"]
    assert ours == theirs + 1  # type: ignore[operator]


@given(traded, st.data())
def test_a_trade_in_the_wrong_bar_is_located_by_klines_of_a_second(
    trades: list[Trade], data: st.DataObject
) -> None:
    moved = data.draw(st.sampled_from(trades))
    wrong = replace(moved, time=moved.time + INTERVAL)
    others = [each for each in trades if each != moved]

    found = checked(made_of([*others, wrong]), trades, SECOND_MS)

    opens = moved.time // INTERVAL * INTERVAL
    assert differing(found) == [opens, opens + INTERVAL]


@given(traded, st.data())
def test_a_trade_in_the_wrong_bar_of_its_minute_makes_the_minute_suspect(
    trades: list[Trade], data: st.DataObject
) -> None:
    moved = data.draw(st.sampled_from(trades))
    assume(moved.time % MINUTE_MS < MINUTE_MS - INTERVAL)
    others = [each for each in trades if each != moved]
    # The trade keeps its time, and is counted by the bar after its own.
    bars = {bar.open_time_ms: bar for bar in made_of(others)}
    opens = moved.time // INTERVAL * INTERVAL + INTERVAL
    alone = replace(made_of([moved])[0], open_time_ms=opens)
    bars[opens] = bars[opens].merge(alone) if opens in bars else alone

    found = checked([bars[each] for each in sorted(bars)], trades)

    first = moved.time // MINUTE_MS * MINUTE_MS
    (minute,) = [each for each in found if each.open_time_ms == first]
    assert minute.outcome in (Outcome.SUSPECT, Outcome.DIFFERENT)
    assert minute.may_hide_more


@given(traded, st.data())
def test_a_bar_moved_by_one_interval_is_found(trades: list[Trade], data: st.DataObject) -> None:
    bars = {bar.open_time_ms: bar for bar in made_of(trades)}
    moved = data.draw(st.sampled_from(sorted(bars.values(), key=lambda bar: bar.open_time_ms)))
    del bars[moved.open_time_ms]
    opens = moved.open_time_ms + INTERVAL
    bars[opens] = replace(moved, open_time_ms=opens)
    wrong = [bars[each] for each in sorted(bars)]

    assert contradicts_itself(bars[opens])
    assert {moved.open_time_ms, opens} >= set(differing(checked(wrong, trades, SECOND_MS)))
    assert moved.open_time_ms in differing(checked(wrong, trades, SECOND_MS))
    assert any(each.may_hide_more for each in checked(wrong, trades))


SUMS = ("trade_count", "quantity", "buy_quantity", "value", "buy_value")
PRICES = ("open_price", "close_price", "min_price", "max_price")


@given(traded, st.sampled_from((*SUMS, *PRICES)), st.integers(0, 9), st.data())
def test_a_changed_digit_is_found_in_its_bar_and_field(
    trades: list[Trade], field: str, digit: int, data: st.DataObject
) -> None:
    bars = made_of(trades)
    place = data.draw(st.integers(0, len(bars) - 1))
    bar = bars[place]
    wrong = _with_digit(getattr(bar, field), digit, data)
    assume(wrong != getattr(bar, field) and (wrong or field != "trade_count"))
    if field in ("value", "buy_value"):
        off = abs(EXACT.subtract(wrong, getattr(bar, field)))
        assume(off > Decimal("2E-8") * len(trades))  # what is off by less, rounding may account for
    bars[place] = replace(bar, **{field: wrong})

    found = checked(bars, trades, SECOND_MS)

    assert differing(found) == [bar.open_time_ms]
    (difference,) = [each.difference for each in found if each.difference]
    assert set(difference.fields) == {field}
    assert difference.fields[field][0] == wrong
    if field in SUMS:
        assert differing(checked(bars, trades)) == [bar.open_time_ms // MINUTE_MS * MINUTE_MS]


def _with_digit(value: Any, digit: int, data: st.DataObject) -> Any:
    """Return *value* with one digit of its own replaced."""
    text = f"{value:f}" if isinstance(value, Decimal) else str(value)
    places = [place for place, char in enumerate(text) if char.isdigit()]
    place = data.draw(st.sampled_from(places))
    return type(value)(f"{text[:place]}{digit}{text[place + 1 :]}")


@given(trades_of(SYMBOL, is_time_ordered=True), kline_lengths, st.data())
def test_klines_that_are_missing_prove_no_difference(
    trades: list[Trade], kline_ms: int, data: st.DataObject
) -> None:
    klines = klines_of(trades, kline_ms, START, END)
    missing = data.draw(st.sets(st.sampled_from(range(len(klines)))))
    known = [kline for place, kline in enumerate(klines) if place not in missing]

    found = against(made_of(trades), known, kline_ms)

    assert set(outcomes(found)) <= {Outcome.EQUAL, Outcome.NO_KLINE}
    times = {kline.open_time_ms for kline in known}
    for each in found:
        if not any(
            each.open_time_ms <= time < each.open_time_ms + each.interval_ms for time in times
        ):
            assert each.outcome is Outcome.NO_KLINE


@given(traded, st.data())
def test_where_a_kline_is_missing_nothing_is_equal(
    trades: list[Trade], data: st.DataObject
) -> None:
    """Bars may lack the trades of just that one."""
    lost = data.draw(st.sampled_from(trades)).time // SECOND_MS * SECOND_MS
    known = [each for each in klines_of(trades, SECOND_MS, START, END) if each.open_time_ms != lost]
    bars = made_of(each for each in trades if each.time // SECOND_MS * SECOND_MS != lost)

    found = against(bars, known, SECOND_MS)

    unclear = [each for each in found if each.outcome is not Outcome.EQUAL]
    opens = lost // INTERVAL * INTERVAL
    assert [(each.open_time_ms, each.outcome) for each in unclear] == [(opens, Outcome.NO_KLINE)]


def test_a_single_bar_that_contradicts_itself_is_suspect_where_its_klines_agree() -> None:
    """Both sides may lack the same trade; or the exchange has left out an id."""
    trades = [make_trade(1, START + 1), make_trade(3, START + 2)]

    first, *others = checked(made_of(trades), trades, SECOND_MS)

    assert (first.outcome, first.contradicting) == (Outcome.SUSPECT, (START,))
    assert set(outcomes(others)) == {Outcome.EQUAL}


@given(traded, kline_lengths, st.data())
def test_bars_that_lack_trades_and_say_so_prove_no_difference(
    trades: list[Trade], kline_ms: int, data: st.DataObject
) -> None:
    lost = data.draw(st.sampled_from(trades))
    opens = lost.time // INTERVAL * INTERVAL
    bars = [
        replace(bar, is_complete=False) if bar.open_time_ms == opens else bar
        for bar in made_of(each for each in trades if each != lost)
    ]
    assume(any(bar.open_time_ms == opens for bar in bars))

    found = checked(bars, trades, kline_ms)

    unit = unit_ms(INTERVAL, kline_ms)
    assert differing(found) == []
    assert {each.open_time_ms for each in found if each.outcome is Outcome.INCOMPLETE} == {
        opens // unit * unit
    }


def test_an_interval_without_a_bar_outside_of_coverage_proves_nothing() -> None:
    trades = [make_trade(1, START + 1), make_trade(2, START + 10_001)]
    covered = ((START + 20_000, END),)

    found = checked(made_of(trades[:1]), trades, covered=covered)

    assert outcomes(found) == [Outcome.INCOMPLETE, Outcome.EQUAL]
    assert found[0].may_hide_more
    covered = ((START, START + 20_000),)
    assert outcomes(checked(made_of(trades[:1]), trades, covered=covered))[0] is Outcome.INCOMPLETE
    covered = ((START, START + 60_000),)
    assert outcomes(checked(made_of(trades[:1]), trades, covered=covered))[0] is Outcome.DIFFERENT


def test_a_whole_bar_outside_of_coverage_is_compared() -> None:
    trades = [make_trade(1, START + 1), make_trade(2, START + 2)]

    found = checked(made_of(trades[:1]), trades, SECOND_MS, covered=())

    assert differing(found) == [START]
    assert set(outcomes(found[1:])) == {Outcome.EQUAL}  # neither side has trades


def test_equal_sums_are_equal_wherever_they_are() -> None:
    trades = [make_trade(1, START + 1)]

    assert outcomes(checked(made_of(trades), trades, covered=())) == [Outcome.EQUAL, Outcome.EQUAL]


def test_an_open_bar_is_not_compared() -> None:
    trades = [make_trade(1, START + 1)]
    bars = [replace(bar, is_closed=False) for bar in made_of(trades)]

    assert outcomes(checked(bars, trades))[0] is Outcome.INCOMPLETE


def test_a_bar_where_the_exchange_has_no_trade_is_different() -> None:
    bars = made_of([make_trade(1, START + 1)])

    (found, _) = checked(bars, [])

    assert found.outcome is Outcome.DIFFERENT
    assert found.difference is not None
    assert found.difference.fields["trade_count"] == (1, 0)
    assert found.difference.fields["open_price"] == (Decimal(1), None)


def test_values_may_differ_by_the_rounding_of_each_trade_and_no_more() -> None:
    bars = made_of([make_trade(1, START + 1), make_trade(2, START + 2, is_buyer_maker=True)])
    (kline, _) = klines_of(
        [make_trade(1, START + 1), make_trade(2, START + 2, is_buyer_maker=True)],
        MINUTE_MS,
        START,
        END,
    )

    def with_values(value: str, buy_value: str) -> Outcome:
        changed = replace(kline, value=Decimal(value), buy_value=Decimal(buy_value))
        return against(bars, [changed])[0].outcome

    assert with_values("2.00000002", "1.00000001") is Outcome.EQUAL
    assert with_values("2.00000003", "1.00000001") is Outcome.DIFFERENT
    assert with_values("1.99999998", "0.99999999") is Outcome.EQUAL
    assert with_values("2.00000002", "1.00000002") is Outcome.DIFFERENT


def test_trailing_zeros_are_no_difference() -> None:
    trades = [make_trade(1, START + 1, price="1.50000000", quantity="2.0")]
    (kline, other) = klines_of([replace(trades[0], price=Decimal("1.5"))], MINUTE_MS, START, END)

    assert outcomes(against(made_of(trades), [kline, other])) == [Outcome.EQUAL, Outcome.EQUAL]


def test_a_unit_is_a_whole_number_of_bars_and_of_klines() -> None:
    assert unit_ms(10_000, MINUTE_MS) == MINUTE_MS
    assert unit_ms(10_000, SECOND_MS) == 10_000
    assert unit_ms(300_000, MINUTE_MS) == 300_000
    assert unit_ms(45_000, MINUTE_MS) == 180_000


def test_a_span_that_is_no_whole_number_of_units_is_refused() -> None:
    with pytest.raises(ValueError, match="no whole units of 60000 ms"):
        list(
            compare(
                SYMBOL,
                [],
                [],
                START + 1,
                END,
                interval_ms=INTERVAL,
                kline_ms=MINUTE_MS,
                covered=COVERED,
            )
        )


@given(traded, kline_lengths, st.data())
def test_a_bar_where_the_exchange_is_known_to_have_no_trades_counts_for_nothing(
    trades: list[Trade], kline_ms: int, data: st.DataObject
) -> None:
    bars = made_of(trades)
    surplus = data.draw(st.sampled_from(bars))
    marked = [replace(bar, is_complete=False) if bar == surplus else bar for bar in bars]
    of_others = [each for each in trades if each.time // INTERVAL * INTERVAL != at(surplus)]
    unit = unit_ms(INTERVAL, kline_ms)
    its_unit = at(surplus) // unit * unit

    found = checked(marked, of_others, kline_ms, surplus=[at(surplus)])
    assert {each.open_time_ms for each in found if each.outcome is Outcome.SURPLUS} == {its_unit}
    assert all(each.outcome is Outcome.EQUAL for each in found if each.open_time_ms != its_unit), (
        "what is beside it is compared as ever"
    )

    found = checked(marked, trades, kline_ms, surplus=[at(surplus)])
    assert differing(found) == [its_unit], "there are trades after all"
    found = checked(bars, of_others, kline_ms, surplus=[at(surplus)])
    assert differing(found) == [its_unit], "it says that it is complete"


def at(bar: Bar) -> int:
    return bar.open_time_ms
