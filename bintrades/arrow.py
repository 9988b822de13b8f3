"""The published Arrow schema of a bar: what every columnar store and every export has.

Bars to record batches and back, exactly: a value that does not fit is refused by name, never
rounded. Needs pyarrow, with the extra bintrades[arrow], where it is used: not to be imported. All
of it may be called from any thread.

    from bintrades import arrow
    batch = arrow.batch_of(bars, "spot")

A row is known by KEY within one market and one interval, and rows are sorted by it unless their
writer says otherwise. `average_price` has 34 significant digits, which no decimal of 38 with a
fixed scale holds, so it is no column: it follows from others, see average_price(). Where quantities
are contracts (`coinm`), values are sums of quotients of 34 digits, as the journal has them, not
rounded: those three columns have 76 digits, 40 of them behind the point.
"""

from __future__ import annotations

import decimal
from decimal import Decimal
from functools import cache
from itertools import islice, repeat
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from bintrades.errors import BintradesError, UnfitBars
from bintrades.model import DECIMAL128, EXACT, Bar
from bintrades.model.bar_fields import IN_CONTRACTS, ROUNDED, Field, FieldKind, fields_of
from bintrades.util.packages import install_hint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pyarrow as pa

    from bintrades.core.resample import LongerBar
    from bintrades.core.spans import Span

SCHEMA_VERSION = 1
"""Of what schema() returns. A column that is added does not change it, any other change does."""

KEY = ("symbol", "open_time")
"""The columns that tell one bar of a market and an interval from any other."""

COVERED_SECONDS, MISSING = "covered_seconds", "missing"
"""What a longer bar has beside the columns of a bar: for how many seconds of its interval it is
proven to have every trade, and the spans of which it is not, each a since and an until."""

_DIGITS, _PLACES = 38, 18
_WIDE_DIGITS, _WIDE_PLACES = 76, 40
_DIFFERENCES = {
    "sell_count": ("trade_count", "buy_count"),
    "sell_quantity": ("quantity", "buy_quantity"),
    "sell_value": ("value", "buy_value"),
}
_ROUNDING = decimal.Context(prec=_WIDE_DIGITS, rounding=decimal.ROUND_HALF_EVEN)
_INT64 = range(-(2**63), 2**63)
_ATTRIBUTES = Bar.__struct_fields__
_DEFAULTS = dict(zip(reversed(_ATTRIBUTES), reversed(Bar.__struct_defaults__), strict=False))
"""The values of the attributes that are no columns of every market."""


def schema(market: str, *, is_longer: bool = False) -> pa.Schema:
    """Return the schema of the bars of *market*, with the columns of longer ones or without.

    Text is string, whole numbers are int64, times timestamp('us', 'UTC'), decimals
    decimal128(38, 18); on `coinm` the three values are decimal256(76, 40), which readers that stop
    at 38 digits cannot read (DuckDB, polars, Spark). No column is ever null. The metadata has
    `bintrades:schema_version`, `bintrades:market` and `bintrades:key`.
    """
    pyarrow = _pyarrow()
    fields = [
        pyarrow.field(
            field.name, _type_of(field, market), nullable=False, metadata={"meaning": field.meaning}
        )
        for field in _columns(market)
    ]
    if is_longer:
        fields += [
            pyarrow.field(COVERED_SECONDS, pyarrow.int64(), nullable=False),
            pyarrow.field(MISSING, pyarrow.list_(_span_type()), nullable=False),
        ]
    return pyarrow.schema(
        fields,
        metadata={
            "bintrades:schema_version": str(SCHEMA_VERSION),
            "bintrades:market": market,
            "bintrades:key": ",".join(KEY),
        },
    )


def batch_of(bars: Sequence[Bar], market: str) -> pa.RecordBatch:
    """Return *bars* of *market* as one record batch, in their order.

    Raises UnfitBars with every bar that the schema cannot hold, and why.
    """
    return _made(bars, market, schema(market), [])


def batch_of_longer(bars: Sequence[LongerBar], market: str) -> pa.RecordBatch:
    """Return longer bars (see core.resample) as one record batch, as batch_of does."""
    pyarrow = _pyarrow()
    missing = [
        [{"since": since * 1_000, "until": until * 1_000} for since, until in each.missing]
        for each in bars
    ]
    more = [
        pyarrow.array([each.covered_ms // 1_000 for each in bars], pyarrow.int64()),
        pyarrow.array(missing, pyarrow.list_(_span_type())),
    ]
    return _made([each.bar for each in bars], market, schema(market, is_longer=True), more)


def batches_of(bars: Iterable[Bar], market: str, *, rows: int = 10_000) -> Iterator[pa.RecordBatch]:
    """Yield *bars* as record batches of at most *rows* rows, taking no more of them at a time."""
    remaining = iter(bars)
    while some := list(islice(remaining, rows)):
        yield batch_of(some, market)


def batches_of_longer(
    bars: Iterable[LongerBar], market: str, *, rows: int = 10_000
) -> Iterator[pa.RecordBatch]:
    """Do the same for longer bars."""
    remaining = iter(bars)
    while some := list(islice(remaining, rows)):
        yield batch_of_longer(some, market)


def reader_of(of: pa.Schema, batches: Iterable[pa.RecordBatch]) -> pa.RecordBatchReader:
    """Return what takes *batches* one by one."""
    return _pyarrow().RecordBatchReader.from_batches(of, batches)


def coverage_table(covered: Iterable[tuple[str, Span]]) -> pa.Table:
    """Return a table of symbol, since and until: spans in which every trade is in a bar."""
    pyarrow = _pyarrow()
    rows = [
        {"symbol": symbol, "since": since * 1_000, "until": until * 1_000}
        for symbol, (since, until) in covered
    ]
    fields = [pyarrow.field("symbol", pyarrow.string(), nullable=False), *_span_type()]
    return pyarrow.Table.from_pylist(rows, pyarrow.schema(fields))


def wide_columns(of: pa.Schema) -> list[str]:
    """Return the names of the decimals with more digits than the 38 that most readers have."""
    return [field.name for field in of if _pyarrow().types.is_decimal256(field.type)]


def bars_of(data: pa.RecordBatch | pa.Table) -> Iterator[Bar]:
    """Yield the bars of a record batch or a table that has the columns of schema().

    In any order, with others beside them, and whatever else a reader has made of their types, as
    long as each value is one of the schema. Bars of the result are equal to those that it was made
    of. Raises BintradesError for a column that is missing, and for a value that is none.
    """
    if hasattr(data, "to_batches"):
        for batch in data.to_batches():
            yield from bars_of(batch)
        return
    if not data.num_rows:
        return
    market = _market_of(data)
    columns = {field.attribute: field for field in _columns(market)}
    seconds = _values(data, columns["interval_seconds"], market)
    values = {"interval_ms": [each * 1_000 for each in seconds]}
    for name in _ATTRIBUTES:
        if name in columns:
            values[name] = _values(data, columns[name], market)
    yield from map(Bar, *(values.get(name, repeat(_DEFAULTS.get(name))) for name in _ATTRIBUTES))


def average_price(data: pa.RecordBatch | pa.Table, places: int = _PLACES) -> pa.Array:
    """Return the volume-weighted price of each row, decimal128(38, *places*), half to even.

    value / quantity, and where quantities are contracts quantity * contract_size / value: in 34
    digits, as Bar.average_price has them, and then rounded to *places* behind the point, which is
    what a column can hold.
    """
    pyarrow = _pyarrow()
    quantities = data.column("quantity").to_pylist()
    values = data.column("value").to_pylist()
    if "contract_size" in data.schema.names:
        sizes = data.column("contract_size").to_pylist()
        worth = map(EXACT.multiply, quantities, sizes)
        prices = map(DECIMAL128.divide, worth, values)
    else:
        prices = map(DECIMAL128.divide, values, quantities)
    unit = Decimal(1).scaleb(-places)
    return pyarrow.array(
        [price.quantize(unit, context=_ROUNDING) for price in prices],
        pyarrow.decimal128(_DIGITS, places),
    )


@cache
def _columns(market: str) -> tuple[Field, ...]:
    """Return the fields of a bar of *market* that are columns."""
    return tuple(field for field in fields_of(market) if not field.is_optional)


@cache
def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.compute
    except ImportError:
        raise BintradesError(
            f"needs pyarrow, which is not installed: {install_hint('pyarrow', 'arrow')}"
        ) from None
    return pyarrow


def _span_type() -> pa.DataType:
    pyarrow = _pyarrow()
    time = pyarrow.timestamp("us", "UTC")
    return pyarrow.struct(
        [pyarrow.field(name, time, nullable=False) for name in ("since", "until")]
    )


def _digits(field: Field, market: str) -> tuple[int, int]:
    """Return how many digits a decimal has, and how many of them are behind the point."""
    is_wide = market in IN_CONTRACTS and field.name in ROUNDED
    return (_WIDE_DIGITS, _WIDE_PLACES) if is_wide else (_DIGITS, _PLACES)


def _type_of(field: Field, market: str) -> pa.DataType:
    pyarrow = _pyarrow()
    if field.kind is FieldKind.DECIMAL:
        digits = _digits(field, market)
        return (pyarrow.decimal256 if digits[0] > _DIGITS else pyarrow.decimal128)(*digits)
    return {
        FieldKind.TEXT: pyarrow.string(),
        FieldKind.TIME: pyarrow.timestamp("us", "UTC"),
        FieldKind.INT: pyarrow.int64(),
        FieldKind.LONG: pyarrow.int64(),
        FieldKind.FLAG: pyarrow.bool_(),
    }[field.kind]


def _made(bars: Sequence[Bar], market: str, of: pa.Schema, more: list[pa.Array]) -> pa.RecordBatch:
    pyarrow = _pyarrow()
    fields = {field.name: field for field in _columns(market)}
    arrays = {}
    try:
        for name, field in fields.items():
            if name not in _DIFFERENCES:
                column = list(map(attrgetter(field.attribute), bars))
                arrays[name] = _array(column, field, of.field(name).type)
        for name in _DIFFERENCES:
            arrays[name] = _difference(bars, name, arrays, of.field(name).type)
    except (pyarrow.ArrowException, ArithmeticError, TypeError, ValueError) as error:
        if unfit := _unfit(bars, market):
            raise UnfitBars(unfit) from error
        raise
    is_of_market = set(arrays["market"].to_pylist()) <= {market}
    if not is_of_market or any(array.null_count for array in arrays.values()):
        raise UnfitBars(_unfit(bars, market))
    return pyarrow.RecordBatch.from_arrays([*map(arrays.__getitem__, fields), *more], schema=of)


def _shortest(value: Any) -> Any:
    """Return a number without zeros that say nothing; what is none as it is."""
    if not isinstance(value, Decimal) or not value.is_finite():
        return value
    return value.normalize(EXACT) if value else Decimal(0)


def _difference(bars: Sequence[Bar], name: str, of: dict[str, pa.Array], kind: pa.DataType) -> Any:
    """Return the column *name*, what takers sold, of those that it follows from.

    pyarrow subtracts decimals that have a digit to spare, in a tenth of the time that bars take.
    """
    pyarrow = _pyarrow()
    compute = pyarrow.compute
    whole, bought = map(of.__getitem__, _DIFFERENCES[name])
    if not pyarrow.types.is_decimal(kind):
        return compute.subtract_checked(whole, bought)
    make = pyarrow.decimal256 if kind.precision > _DIGITS else pyarrow.decimal128
    narrow = make(kind.precision - 1, kind.scale)
    try:
        return compute.subtract(whole.cast(narrow), bought.cast(narrow))
    except pyarrow.ArrowInvalid:
        return pyarrow.array([_shortest(getattr(bar, name)) for bar in bars], kind)


def _array(column: Sequence[Any], field: Field, kind: pa.DataType) -> pa.Array:
    pyarrow = _pyarrow()
    if field.kind is FieldKind.TIME:
        return pyarrow.array(column, pyarrow.timestamp("ms", "UTC")).cast(kind)
    try:
        return pyarrow.array(column, kind)
    except pyarrow.ArrowInvalid:
        if field.kind is not FieldKind.DECIMAL:
            raise
    # It counts zeros that say nothing as digits: 1.000 (with 60 of them), 0E+50.
    return pyarrow.array([_shortest(value) for value in column], kind)


def _unfit(bars: Sequence[Bar], market: str) -> list[tuple[Bar, str]]:
    """Return which of *bars* the schema cannot hold, and why."""
    found = []
    for bar in bars:
        problems = [_problem(bar, field, market) for field in _columns(market)]
        if why := "; ".join(filter(None, problems)):
            found.append((bar, why))
    return found


def _problem(bar: Bar, field: Field, market: str) -> str:
    """Return why a value does not fit, with its name; empty if it does."""
    value = getattr(bar, field.attribute)
    if field.name == "market":
        return "" if value == market else f"market {value!r} is not {market!r}"
    if field.kind is FieldKind.DECIMAL:
        reason = _why_not(value, *_digits(field, market))
    elif field.kind is FieldKind.TIME:
        is_time = isinstance(value, int) and value * 1_000 in _INT64
        reason = "" if is_time else "is no time in 64 bits of microseconds"
    elif field.kind in (FieldKind.INT, FieldKind.LONG):
        is_whole = isinstance(value, int) and value in _INT64
        reason = "" if is_whole else "is no whole number of 64 bits"
    elif field.kind is FieldKind.FLAG:
        reason = "" if isinstance(value, bool) else "is neither true nor false"
    else:
        reason = "" if isinstance(value, str) and _is_text(value) else "is no text"
    return reason and f"{field.name} {value!s} {reason}"


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _why_not(value: Any, digits: int, places: int) -> str:
    """Return why a decimal does not fit into *digits*, *places* of them behind the point."""
    if not isinstance(value, Decimal) or not value.is_finite():
        return "is no number"
    shortest = value.normalize(EXACT)
    if not shortest:
        return ""
    exponent = shortest.as_tuple().exponent
    assert isinstance(exponent, int)  # noqa: S101 - a finite number has one
    if -exponent > places:
        return f"has {-exponent} digits behind the point: there is room for {places}"
    if shortest.adjusted() + 1 > digits - places:
        return (
            f"has {shortest.adjusted() + 1} digits before the point:"
            f" there is room for {digits - places}"
        )
    return ""


def _market_of(data: pa.RecordBatch) -> str:
    markets = set(_column(data, "market").to_pylist())
    if len(markets) != 1:
        raise BintradesError(f"bars of one market are expected, not of {sorted(map(str, markets))}")
    (market,) = markets
    return str(market)


def _column(data: pa.RecordBatch, name: str) -> pa.Array:
    if name not in data.schema.names:
        raise BintradesError(f"a bar has a column {name!r}, which is not among {data.schema.names}")
    return data.column(name)


def _values(data: pa.RecordBatch, field: Field, market: str) -> list[Any]:
    """Return what is in a column as the attributes of bars. Raises BintradesError."""
    pyarrow = _pyarrow()
    column = _column(data, field.name)
    try:
        if field.kind is FieldKind.TIME:
            column = column.cast(pyarrow.timestamp("ms", "UTC")).cast(pyarrow.int64())
        elif field.kind is FieldKind.DECIMAL and pyarrow.types.is_floating(column.type):
            raise BintradesError(
                f"column {field.name!r} of {column.type}: a float is not exact; read decimals"
            )
        elif column.type != _type_of(field, market):
            column = column.cast(_type_of(field, market))
    except pyarrow.ArrowException as error:
        raise BintradesError(f"column {field.name!r} of {column.type}: {error}") from error
    if column.null_count:
        raise BintradesError(f"column {field.name!r}: {column.null_count} rows have no value")
    values: list[Any] = column.to_pylist()
    return values
