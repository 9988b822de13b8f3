"""The published Arrow schema: bars to record batches and back, exactly or not at all."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bintrades import arrow
from bintrades.core.resample import part_of, resample
from bintrades.errors import BintradesError, UnfitBars
from bintrades.model import DECIMAL128, EXACT
from bintrades.model.bar_fields import fields_of
from bintrades.testing.bars import OPEN_TIME_MS, sample_bar, sample_bars
from tests.strategies import bars_of, trades

if TYPE_CHECKING:
    from pathlib import Path

    from bintrades.model import Bar, Trade

MARKETS = ("spot", "us", "usdm", "coinm")
SIZE = Decimal(100)


def bar_of_contracts(**changes: Any) -> Bar:
    """Return a bar of coinm whose values are sums of quotients of 34 digits."""
    parts = [
        DECIMAL128.divide(EXACT.multiply(SIZE, Decimal(quantity)), Decimal(price))
        for quantity, price in [(3, "63211.7"), (7, "63211.9"), (11, "9.137")]
    ]
    value = EXACT.add(EXACT.add(parts[0], parts[1]), parts[2])
    return sample_bar(
        market="coinm",
        contract_size=SIZE,
        quantity=Decimal(21),
        buy_quantity=Decimal(7),
        value=value,
        buy_value=parts[1],
        **changes,
    )


def bars_of_market(market: str) -> list[Bar]:
    if market == "coinm":
        return [bar_of_contracts(excluded_count=2, is_approximate=True, is_complete=False)]
    if market == "usdm":
        return sample_bars(3, market=market, excluded_count=4, epoch=1, version=3)
    return sample_bars(3, market=market, is_closed=False)


@pytest.mark.parametrize("market", MARKETS)
def test_the_columns_are_the_published_fields_but_for_the_average(market: str) -> None:
    names = [field.name for field in fields_of(market) if field.name != "average_price"]

    assert arrow.schema(market).names == names


def test_types_and_metadata_are_the_published_ones() -> None:
    schema = arrow.schema("spot")
    kinds = {str(field.type) for field in schema}

    assert kinds == {
        *("string", "int64", "bool", "timestamp[us, tz=UTC]", "decimal128(38, 18)"),
    }
    assert not any(field.nullable for field in schema)
    assert schema.metadata == {
        b"bintrades:schema_version": b"1",
        b"bintrades:market": b"spot",
        b"bintrades:key": b"symbol,open_time",
    }
    assert set(arrow.KEY) < set(schema.names)


def test_only_the_three_values_of_contracts_are_wide() -> None:
    assert {
        field.name for field in arrow.schema("coinm") if str(field.type) == "decimal256(76, 40)"
    } == {"value", "buy_value", "sell_value"}


@pytest.mark.parametrize("market", MARKETS)
def test_a_batch_holds_the_published_values_and_gives_the_same_bars_back(market: str) -> None:
    bars = bars_of_market(market)

    batch = arrow.batch_of(bars, market)

    assert batch.schema.equals(arrow.schema(market), check_metadata=True)
    assert list(arrow.bars_of(batch)) == bars
    for row, bar in zip(batch.to_pylist(), bars, strict=True):
        published = bar.as_dict()
        del published["average_price"]
        rounded = {
            name: DECIMAL128.plus(value) if market == "coinm" and name.endswith("value") else value
            for name, value in row.items()
        }
        assert rounded == published


@given(trades)
def test_bars_of_any_trades_come_back_as_they_were(happened: list[Trade]) -> None:
    bars = list(bars_of(happened).values())
    table = pa.Table.from_batches(arrow.batches_of(bars, "spot", rows=7), arrow.schema("spot"))

    assert list(arrow.bars_of(table)) == bars


def test_no_bars_are_an_empty_batch_of_the_schema() -> None:
    batch = arrow.batch_of([], "spot")

    assert (batch.num_rows, batch.schema) == (0, arrow.schema("spot"))
    assert list(arrow.bars_of(batch)) == []
    assert list(arrow.batches_of([], "spot")) == []


def test_batches_take_only_the_bars_that_they_hold() -> None:
    bars = iter(sample_bars(5))

    first = next(arrow.batches_of(bars, "spot", rows=2))

    assert first.num_rows == 2
    assert len(list(bars)) == 3


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"value": Decimal("0.0000000000000000001"), "buy_value": Decimal(0)},
            "value 1E-19 has 19 digits behind the point: there is room for 18",
        ),
        (
            {"max_price": Decimal(10) ** 20},
            "max_price 100000000000000000000 has 21 digits before the point: there is room for 20",
        ),
        ({"open_price": Decimal("NaN")}, "open_price NaN is no number"),
        ({"trade_count": 2**63}, f"trade_count {2**63} is no whole number of 64 bits"),
        (
            {"updated_at_ms": 2**60},
            f"updated_at {2**60} is no time in 64 bits of microseconds",
        ),
        ({"market": "us"}, "market 'us' is not 'spot'"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(changes: dict[str, Any], reason: str) -> None:
    bad = replace(sample_bars(2)[1], **changes)

    with pytest.raises(UnfitBars, match="1 bars do not fit: BTCUSDT 2024-08-08 00:00:10") as caught:
        arrow.batch_of([sample_bar(), bad], "spot")

    ((bar, why),) = caught.value.unfit
    assert bar == bad
    assert reason in why


@pytest.mark.parametrize("text", ["0E+50", "1." + 60 * "0", "1E+3", "-0", "0E-40"])
@pytest.mark.parametrize("name", ["open_price", "quantity", "buy_value"])
def test_zeros_that_say_nothing_need_no_room(name: str, text: str) -> None:
    bar = replace(sample_bar(), **{name: Decimal(text)})

    assert list(arrow.bars_of(arrow.batch_of([bar], "spot"))) == [bar]


def test_what_was_sold_is_exact_to_the_last_digit_that_there_is_room_for() -> None:
    most = Decimal("9" * 20 + "." + "9" * 18)
    bars = [sample_bar(quantity=most, buy_quantity=Decimal(bought)) for bought in ("0.1", "0")]

    batch = arrow.batch_of(bars, "spot")

    assert batch.column("sell_quantity").to_pylist() == [bar.sell_quantity for bar in bars]
    assert list(arrow.bars_of(batch)) == bars


def test_contracts_without_a_size_do_not_fit() -> None:
    with pytest.raises(UnfitBars, match="contract_size None is no number"):
        arrow.batch_of([replace(bar_of_contracts(), contract_size=None)], "coinm")


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_a_decimal_is_held_exactly_or_refused(value: Decimal) -> None:
    bar = sample_bar(open_price=value)
    shortest = value.normalize(EXACT)
    fits = int(shortest.as_tuple().exponent) >= -18 and shortest.adjusted() < 20

    if fits or not value:
        (back,) = arrow.bars_of(arrow.batch_of([bar], "spot"))
        assert back.open_price == value
    else:
        with pytest.raises(UnfitBars, match="open_price"):
            arrow.batch_of([bar], "spot")


def test_longer_bars_say_for_how_long_they_are_covered_and_what_is_missing() -> None:
    first, *_, last = sample_bars(6)
    (longer,) = resample([first, last], [], 60_000)

    batch = arrow.batch_of_longer([longer, part_of(first)], "spot")

    assert batch.schema.equals(arrow.schema("spot", is_longer=True), check_metadata=True)
    assert batch.column("covered_seconds").to_pylist() == [20, 10]
    ((missing,), whole) = batch.column("missing").to_pylist()
    assert [missing[name].timestamp() * 1_000 for name in ("since", "until")] == [
        *(OPEN_TIME_MS + 10_000, OPEN_TIME_MS + 50_000),
    ]
    assert whole == []
    assert list(arrow.bars_of(batch)) == [longer.bar, first]


@pytest.mark.parametrize("market", MARKETS)
def test_average_prices_are_those_of_the_bars_to_the_places_that_fit(market: str) -> None:
    bars = bars_of_market(market)

    prices = arrow.average_price(arrow.batch_of(bars, market))

    unit = Decimal(1).scaleb(-18)
    assert prices.type == pa.decimal128(38, 18)
    assert prices.to_pylist() == [bar.average_price.quantize(unit) for bar in bars]
    assert arrow.average_price(arrow.batch_of(bars, market), 2).type == pa.decimal128(38, 2)


@pytest.mark.parametrize("market", MARKETS)
def test_a_parquet_file_gives_the_same_bars_back(market: str, tmp_path: Path) -> None:
    bars = bars_of_market(market)
    file = tmp_path / "bars.parquet"

    pq.write_table(pa.Table.from_batches([arrow.batch_of(bars, market)]), file)

    assert list(arrow.bars_of(pq.read_table(file))) == bars


def test_columns_of_another_order_and_type_are_read_where_no_value_changes() -> None:
    batch = arrow.batch_of(sample_bars(2), "spot")
    other = pa.table(
        {
            name: batch.column(name).cast(pa.timestamp("ns", "Europe/Berlin"))
            if name.endswith("_time")
            else batch.column(name)
            for name in reversed(batch.schema.names)
        }
    ).append_column("mine", pa.array([1, 2]))

    assert list(arrow.bars_of(other)) == sample_bars(2)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("quantity", None, "a bar has a column 'quantity'"),
        ("trade_count", pa.array([None], pa.int64()), "'trade_count': 1 rows have no value"),
        ("trade_count", pa.array([1.5]), "column 'trade_count' of double"),
        ("open_price", pa.array([0.5]), "column 'open_price' of double: a float is not exact"),
        ("open_time", pa.array([1], pa.timestamp("us", "UTC")), "column 'open_time' of timestamp"),
    ],
)
def test_a_column_that_is_none_of_a_bar_is_refused(
    column: str, values: pa.Array | None, message: str
) -> None:
    table = pa.Table.from_batches([arrow.batch_of([sample_bar()], "spot")]).drop_columns([column])
    if values is not None:
        table = table.append_column(column, values)

    with pytest.raises(BintradesError, match=message):
        list(arrow.bars_of(table))


def test_the_package_does_without_pyarrow_until_it_is_used() -> None:
    program = """
import sys
sys.modules["pyarrow"] = None  # as if it were not installed
import bintrades.arrow
try:
    bintrades.arrow.schema("spot")
except bintrades.BintradesError as error:
    print(error)
"""

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.stdout.startswith("needs pyarrow, which is not installed: ")
    assert done.stdout.endswith("[arrow]'\n")
