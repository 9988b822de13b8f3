"""What a bar says about its trades."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from bintrades.model import EXACT, Bar, Gap, GapCause, Trade, plain, utc
from bintrades.model.bar_fields import FIELDS, FieldKind
from bintrades.testing.bars import sample_bar
from tests.strategies import INTERVAL, START, bar_of, decimals, make_trade, trades_of

FIELDS_OF_THE_CONTRACT = {
    "symbol": str,
    "market": str,
    "open_time": datetime,
    "interval_seconds": int,
    "trade_count": int,
    "buy_count": int,
    "sell_count": int,
    "quantity": Decimal,
    "buy_quantity": Decimal,
    "sell_quantity": Decimal,
    "value": Decimal,
    "buy_value": Decimal,
    "sell_value": Decimal,
    "open_price": Decimal,
    "close_price": Decimal,
    "min_price": Decimal,
    "max_price": Decimal,
    "average_price": Decimal,
    "first_trade_id": int,
    "last_trade_id": int,
    "first_trade_time": datetime,
    "last_trade_time": datetime,
    "is_closed": bool,
    "is_complete": bool,
    "epoch": int,
    "version": int,
    "updated_at": datetime,
}
OF_FUTURES = {"excluded_count", "is_approximate"}
OF_COINM = {*OF_FUTURES, "contract_size"}


@st.composite
def parts_of_a_bar(draw: st.DrawFn, size: int = 3) -> list[list[Trade]]:
    """Draw the trades of one interval, dealt out to *size* bars, each of at least one trade."""
    trades = [
        replace_time(trade, START + trade.time % INTERVAL)
        for trade in draw(trades_of("BTCUSDT").filter(lambda trades: len(trades) >= size))
    ]
    owners = draw(
        st.lists(st.integers(0, size - 1), min_size=len(trades), max_size=len(trades)).filter(
            lambda owners: len(set(owners)) == size
        )
    )
    return [
        [trade for trade, owner in zip(trades, owners, strict=True) if owner == part]
        for part in range(size)
    ]


def replace_time(trade: Trade, time: int) -> Trade:
    return make_trade(
        trade.trade_id,
        time,
        price=str(trade.price),
        quantity=str(trade.quantity),
        is_buyer_maker=trade.is_buyer_maker,
    )


@given(parts_of_a_bar())
def test_parts_of_a_bar_merged_in_any_way_are_the_bar_of_all_their_trades(
    parts: list[list[Trade]],
) -> None:
    whole = bar_of([trade for part in parts for trade in part])
    a, b, c = map(bar_of, parts)

    assert a.merge(b) == b.merge(a)
    assert a.merge(b).merge(c) == a.merge(b.merge(c)) == c.merge(a).merge(b) == whole


def test_a_bar_merged_with_a_closed_one_is_closed() -> None:
    early = replace(bar_of([make_trade(1)]), is_closed=False)
    late = bar_of([make_trade(2)])

    assert early.merge(late).is_closed
    assert late.merge(early).is_closed
    assert not early.merge(replace(late, is_closed=False)).is_closed


@pytest.mark.parametrize(
    "other", [sample_bar(symbol="ETHUSDT"), sample_bar(open_time_ms=START + INTERVAL)]
)
def test_bars_of_different_symbols_or_intervals_do_not_merge(other: Bar) -> None:
    with pytest.raises(ValueError, match=re.escape(other.symbol)):
        sample_bar(open_time_ms=START).merge(other)


def test_a_stored_bar_has_the_fields_of_the_contract_and_their_types() -> None:
    fields = sample_bar().as_dict()

    assert {name: type(value) for name, value in fields.items()} == FIELDS_OF_THE_CONTRACT
    assert list(fields) == list(FIELDS_OF_THE_CONTRACT)


def test_every_field_of_a_stored_bar_is_an_attribute_of_the_same_value() -> None:
    bar = sample_bar()

    assert {name: getattr(bar, name) for name in FIELDS_OF_THE_CONTRACT} == bar.as_dict()


def test_the_table_has_the_fields_of_the_contract_in_their_order() -> None:
    names = [field.name for field in FIELDS]

    assert [name for name in names if name in FIELDS_OF_THE_CONTRACT] == list(
        FIELDS_OF_THE_CONTRACT
    )
    assert set(names) == FIELDS_OF_THE_CONTRACT.keys() | OF_COINM


@pytest.mark.parametrize(
    ("market", "more"),
    [("spot", set()), ("us", set()), ("usdm", OF_FUTURES), ("coinm", OF_COINM)],
)
def test_a_stored_bar_has_the_fields_of_its_market(market: str, more: set[str]) -> None:
    bar = sample_bar(market=market, contract_size=Decimal(100) if market == "coinm" else None)

    assert bar.as_dict().keys() == FIELDS_OF_THE_CONTRACT.keys() | more


def test_the_table_says_of_what_kind_each_field_is() -> None:
    types = {
        FieldKind.TEXT: str,
        FieldKind.TIME: datetime,
        FieldKind.INT: int,
        FieldKind.LONG: int,
        FieldKind.DECIMAL: Decimal,
        FieldKind.FLAG: bool,
    }

    more = {"excluded_count": int, "is_approximate": bool, "contract_size": Decimal}
    assert {field.name: types[field.kind] for field in FIELDS} == FIELDS_OF_THE_CONTRACT | more


def test_values_of_contracts_are_published_in_34_digits_rounded_once() -> None:
    third = Decimal("0." + "3" * 40)
    bar = sample_bar(
        market="coinm",
        quantity=Decimal(3),
        value=EXACT.add(third, third),
        buy_value=third,
        contract_size=Decimal("1E+2"),
    )
    fields = bar.as_dict()
    shown = {name: f"{fields[name]:f}" for name in ("value", "buy_value", "sell_value")}

    assert shown == {
        "value": "0." + "6" * 33 + "7",
        "buy_value": "0." + "3" * 34,
        "sell_value": "0." + "3" * 34,
    }
    assert bar.value == EXACT.add(third, third), "the attribute is not rounded"
    assert str(fields["contract_size"]) == "100"
    assert fields["average_price"] == Decimal("450." + "0" * 31)


def test_the_average_price_of_contracts_is_in_the_quote_asset() -> None:
    bar = sample_bar(
        market="coinm", quantity=Decimal(4), value=Decimal("0.008"), contract_size=Decimal(100)
    )

    assert bar.average_price == Decimal(50_000)


def test_buys_and_sells_add_up_to_all() -> None:
    bar = bar_of(
        [
            make_trade(1, price="0.1", quantity="0.1", is_buyer_maker=True),
            make_trade(2, price="0.2", quantity="0.2", is_buyer_maker=False),
        ]
    )

    assert (bar.trade_count, bar.buy_count, bar.sell_count) == (2, 1, 1)
    assert (bar.quantity, bar.buy_quantity, bar.sell_quantity) == tuple(
        map(Decimal, ["0.3", "0.2", "0.1"])
    )
    assert (bar.value, bar.buy_value, bar.sell_value) == tuple(
        map(Decimal, ["0.05", "0.04", "0.01"])
    )


def test_decimals_of_a_stored_bar_have_neither_trailing_zeros_nor_exponents() -> None:
    fields = sample_bar(
        quantity=Decimal("1.50000000"), value=Decimal("3E+2"), open_price=Decimal("0E-8")
    ).as_dict()

    shown = {name: str(fields[name]) for name in ("quantity", "value", "open_price")}
    assert shown == {"quantity": "1.5", "value": "300", "open_price": "0"}


@given(decimals | st.decimals(allow_nan=False, allow_infinity=False, places=4))
def test_a_plain_decimal_is_the_same_number_written_shortly(value: Decimal) -> None:
    shown = plain(value).as_tuple()

    assert plain(value) == value
    assert isinstance(shown.exponent, int)
    assert shown.exponent <= 0
    assert shown.exponent == 0 or shown.digits[-1] != 0


@given(st.integers(1, 10**60), st.integers(1, 10**60), st.integers(-40, 0))
def test_the_average_price_is_right_to_34_digits(value: int, quantity: int, exponent: int) -> None:
    bar = sample_bar(value=Decimal(value).scaleb(exponent, EXACT), quantity=Decimal(quantity))

    average = bar.average_price
    digits = average.as_tuple()
    assert isinstance(digits.exponent, int)
    assert len(digits.digits) <= 34
    exact = Fraction(bar.value) / Fraction(bar.quantity)
    if Fraction(average) != exact:
        assert len(digits.digits) == 34
    assert abs(Fraction(average) - exact) <= Fraction(10) ** digits.exponent / 2


def test_a_quotient_without_end_is_rounded_at_the_34th_digit() -> None:
    bar = sample_bar(value=Decimal(2), quantity=Decimal(3))

    assert str(bar.average_price) == "0." + "6" * 33 + "7"


@given(st.integers(0, 10**13 - 1))
def test_times_are_exact_to_the_millisecond_and_in_utc(time: int) -> None:
    moment = utc(time)

    assert moment.utcoffset() == timedelta(0)
    assert (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1) == time


def test_sums_that_would_be_rounded_by_the_usual_context_are_exact() -> None:
    large, small = Decimal(10) ** 30, Decimal(10) ** -18

    assert str(EXACT.add(large, small)) == "1" + "0" * 30 + "." + "0" * 17 + "1"


@given(st.integers(0, 60_000), st.integers(0, 60_000), st.integers(0, 6))
def test_a_gap_touches_the_intervals_in_which_its_trades_may_have_been(
    since: int, until: int, interval: int
) -> None:
    assume(since <= until)
    gap = Gap(1, 2, since, until, GapCause.SKIPPED)
    opened = interval * INTERVAL

    may_hold = any(opened <= time < opened + INTERVAL for time in (since, until)) or (
        since < opened and until >= opened + INTERVAL
    )
    assert gap.touches(opened, INTERVAL) == may_hold


def test_of_two_parts_of_different_epochs_the_higher_epoch_stays_as_it_is() -> None:
    rebuilt = sample_bar(trade_count=2, epoch=1, version=4)
    late = sample_bar(trade_count=5, first_trade_id=1, last_trade_id=5)

    assert rebuilt.merge(late) == late.merge(rebuilt) == rebuilt


def test_parts_of_one_epoch_are_added_up_in_that_epoch() -> None:
    early, late = (replace(bar_of([make_trade(number)]), epoch=2) for number in (1, 2))

    assert early.merge(late) == replace(bar_of([make_trade(1), make_trade(2)]), epoch=2)


versions = st.builds(
    sample_bar,
    epoch=st.integers(0, 2),
    trade_count=st.integers(1, 3),
    is_closed=st.booleans(),
    is_complete=st.booleans(),
    version=st.integers(1, 3),
)


@given(versions, versions)
def test_the_epoch_decides_between_two_versions_then_the_trades_then_what_is_whole(
    one: Bar, other: Bar
) -> None:
    named = ("epoch", "trade_count", "is_closed", "is_complete", "version")

    order = [tuple(getattr(bar, name) for name in named) for bar in (one, other)]
    assert (one.rank < other.rank) == (order[0] < order[1])
    assert (one.rank == other.rank) == (order[0] == order[1])


def test_a_bar_of_an_earlier_checkpoint_without_an_epoch_is_of_epoch_0() -> None:
    fields = list(msgspec.structs.astuple(sample_bar(epoch=3)))
    place = Bar.__struct_fields__.index("epoch")

    assert fields[place] == 3
    assert msgspec.convert(fields[:place], Bar) == sample_bar(epoch=0)
