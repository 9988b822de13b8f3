"""Bars as CSV, as JSON, by lines or not, and as a table, straight from the journal's rows.

The text is that of Bar.as_dict(): decimals without trailing zeros and without an exponent, times in
ISO 8601. What is stored as text stays text, so that hundreds of thousands take seconds. Pure.
"""

from __future__ import annotations

import csv
from decimal import Decimal
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from bintrades.cli.tables import table_pieces
from bintrades.errors import JournalError
from bintrades.journal.rows import COLUMN, stored_row
from bintrades.model import DECIMAL128, EXACT, plain, utc
from bintrades.model.bar_fields import FUTURES, IN_CONTRACTS, FieldKind, fields_of
from bintrades.util.text import as_json, showable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from bintrades.core.resample import LongerBar

_QUOTED = (FieldKind.TEXT, FieldKind.TIME, FieldKind.DECIMAL)
_COLUMNS = (
    *(("open", "open_price"), ("high", "max_price"), ("low", "min_price")),
    *(("close", "close_price"), ("quantity", "quantity"), ("value", "value")),
    *(("trades", "trade_count"), ("buys", "buy_count")),
)
"""Of the table: header and field. Before them comes the time, after them the ids."""

LONGER = ("covered_seconds", "missing")
"""What a longer bar has beyond the fields of a bar: for how many seconds of its interval it is
proven to have every trade, and the spans of which it is not."""

_OF_LONGER = len(COLUMN)  # there a row has them
_AMENDED = _OF_LONGER + len(LONGER)
_VERSION = COLUMN["version"]

_TO_THE_SECOND = len("2024-08-08T00:00:00")
_TO_THE_MINUTE = len("2024-08-08T00:00")


def longer_row(longer: LongerBar, *, is_amended: bool = False) -> tuple[Any, ...]:
    """Return a longer bar as a row of BAR_COLUMNS, then LONGER, then whether it was another one."""
    return (*stored_row(longer.bar), longer.covered_ms // 1_000, longer.missing, is_amended)


def is_amended(row: tuple[Any, ...]) -> bool:
    """Whether a bar is not the first version of it; of a longer one, whether its row says so."""
    return bool(row[_AMENDED]) if len(row) > _AMENDED else bool(row[_VERSION] != 1)


def csv_pieces(
    pages: Iterable[Iterable[tuple[Any, ...]]],
    market: str,
    interval_ms: int,
    *,
    is_longer: bool = False,
) -> Iterator[str]:
    """Yield pieces of a CSV text with a header, each of whole lines, one for each of *pages*.

    Rows are in the order of journal_bars.BAR_COLUMNS, or of longer_row() where *is_longer*. Raises
    JournalError for a row that has values of a wrong kind.
    """
    lines = _Lines()
    writer = csv.writer(lines, lineterminator="\n")
    header = (*_names(market), *(LONGER if is_longer else ()))
    for page in pages:
        if header:
            writer.writerow(header)
            header = ()
        if is_longer:
            rows = ([*_readable(row, market, interval_ms), *_in_csv(row)] for row in page)
            writer.writerows(rows)
        else:
            writer.writerows(_readable(row, market, interval_ms) for row in page)
        yield lines.take()
    if header:
        yield "\n"  # no bars


def json_pieces(
    pages: Iterable[Iterable[tuple[Any, ...]]],
    market: str,
    interval_ms: int,
    *,
    is_longer: bool = False,
) -> Iterator[str]:
    """Yield pieces of one JSON array, as csv_pieces does."""
    before = "[\n"
    form = _json_form(market, is_longer=is_longer)
    for page in pages:
        piece = [_as_object(row, market, interval_ms, form, is_longer=is_longer) for row in page]
        if piece:
            yield before + ",\n".join(piece)
            before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def ndjson_pieces(
    pages: Iterable[Iterable[tuple[Any, ...]]],
    market: str,
    interval_ms: int,
    *,
    is_longer: bool = False,
) -> Iterator[str]:
    """Yield pieces of JSON texts, one for each bar and each on a line, as csv_pieces does."""
    form = " ".join(map(str.strip, _json_form(market, is_longer=is_longer).split("\n"))) + "\n"
    form = form.replace("{ ", "{").replace(" }", "}")
    for page in pages:
        yield "".join(
            _as_object(row, market, interval_ms, form, is_longer=is_longer) for row in page
        )


def bar_table(
    pages: Iterable[Iterable[tuple[Any, ...]]],
    market: str,
    interval_ms: int,
    *,
    is_longer: bool = False,
    has_symbol: bool = False,
    marks_amended: bool = False,
) -> Iterator[str]:
    """Yield pieces of a table for people, as csv_pieces does.

    A * marks a bar that is not proven to be whole, a ~ one that aggregates stand in for, a + one
    that is still open. *has_symbol*: with a column for the symbol; *marks_amended*: and one that
    says which were written before and have changed since, or, of longer ones, were printed before.
    """
    headers = ["open time (UTC)", *(header for header, _ in _COLUMNS), "trade ids"]
    right = range(1, len(headers) - 1)
    if is_longer:
        headers.append("covered")
    if marks_amended:
        headers.append("")
    if has_symbol:
        headers.insert(0, "symbol")
        right = range(2, right.stop + 1)

    def line(row: tuple[Any, ...]) -> list[str]:
        texts = _readable(row, market, interval_ms)
        cells = _in_table(texts, market)
        if is_longer:
            cells.append(_share(row[_OF_LONGER] * 1_000, interval_ms))
        if marks_amended:
            cells.append("amended" if is_amended(row) else "")
        return [showable(row[0]), *cells] if has_symbol else cells

    return table_pieces(([line(row) for row in page] for page in pages), headers, right=right)


FORMS: dict[str, Callable[..., Iterator[str]]] = {
    "table": bar_table,
    "csv": csv_pieces,
    "json": json_pieces,
    "ndjson": ndjson_pieces,
}


def _as_object(
    row: tuple[Any, ...], market: str, interval_ms: int, form: str, *, is_longer: bool
) -> str:
    texts = _readable(row, market, interval_ms)
    texts[0], texts[1] = _quoted(texts[0]), _quoted(market)
    if is_longer:
        texts += _in_json(row)
    return form % tuple(texts)


def _in_csv(row: tuple[Any, ...]) -> list[str]:
    """Return what a longer row has beyond a bar: spans as ISO 8601 has them, with ; between."""
    seconds, missing = row[_OF_LONGER:_AMENDED]
    return [str(seconds), ";".join(f"{_time(since)}/{_time(until)}" for since, until in missing)]


def _in_json(row: tuple[Any, ...]) -> list[str]:
    seconds, missing = row[_OF_LONGER:_AMENDED]
    spans = (
        f'{{"since": "{_time(since)}", "until": "{_time(until)}"}}' for since, until in missing
    )
    return [str(seconds), f"[{', '.join(spans)}]"]


def _share(part_ms: int, whole_ms: int) -> str:
    """Return how much of an interval is covered: all only where it is all of it."""
    thousandths = part_ms * 1_000 // whole_ms
    return f"{thousandths // 10}.{thousandths % 10} %"


@cache
def _names(market: str) -> tuple[str, ...]:
    """Return the names of the fields of a bar of *market*, in their order."""
    return tuple(field.name for field in fields_of(market))


@cache
def _json_form(market: str, *, is_longer: bool) -> str:
    """Return how a bar of *market* is written as JSON, with a place for each of its texts."""
    lines = [
        f'  "{field.name}": ' + ('"%s"' if field.kind in _QUOTED else "%s")
        for field in fields_of(market)
    ]
    lines += [f'  "{name}": %s' for name in LONGER if is_longer]
    return " {\n" + ",\n".join(lines) + "\n }"


def _in_table(texts: list[str], market: str) -> list[str]:
    bar = dict(zip(_names(market), texts, strict=True))
    whole = "" if bar["is_complete"] == "true" else "*"
    if bar.get("is_approximate") == "true":
        whole = "~"
    mark = whole if bar["is_closed"] == "true" else "+"
    return [
        bar["open_time"][:_TO_THE_SECOND].replace("T", " ") + mark,
        *(bar[field] for _, field in _COLUMNS),
        f"{bar['first_trade_id']}-{bar['last_trade_id']}",
    ]


class _Lines:
    """A file for csv.writer whose content is taken piece by piece."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def write(self, text: str) -> None:
        self._parts.append(text)

    def take(self) -> str:
        parts, self._parts = self._parts, []
        return "".join(parts)


def _readable(row: tuple[Any, ...], market: str, interval_ms: int) -> list[str]:
    try:
        return _texts(row, market, interval_ms)
    except (ArithmeticError, TypeError, ValueError) as error:
        raise JournalError(
            f"the bar of {row[0]} that opens at {row[1]} cannot be read: {error!r};"
            " a collector that meets it takes it out and fetches its trades again"
        ) from error


def _texts(row: tuple[Any, ...], market: str, interval_ms: int) -> list[str]:
    """Return the fields of a bar in the order of fields_of(market).

    Spelt out, since a loop over the table takes a tenth longer for each of a million bars.
    """
    symbol, open_time, version, updated_at, is_closed, is_complete, trades, buys = row[:8]
    quantity, buy_quantity, value, buy_value, open_price, close_price, low, high = row[8:16]
    first_id, last_id, first_time, last_time, epoch, excluded, is_approximate, size = row[
        16:_OF_LONGER
    ]
    if market in IN_CONTRACTS:
        values, average, contract_size = _of_contracts(quantity, value, buy_value, size)
        contract = [contract_size]
    else:
        exact_value = Decimal(value)
        sold = EXACT.subtract(exact_value, Decimal(buy_value))
        values = [_decimal(value), _decimal(buy_value), _decimal(str(sold))]
        average = _decimal(str(DECIMAL128.divide(exact_value, Decimal(quantity))))
        contract = []
    is_future = market in FUTURES
    return [
        symbol,
        market,
        _time(open_time),
        str(interval_ms // 1000),
        str(trades),
        str(buys),
        str(trades - buys),
        _decimal(quantity),
        _decimal(buy_quantity),
        _decimal(str(EXACT.subtract(Decimal(quantity), Decimal(buy_quantity)))),
        *values,
        _decimal(open_price),
        _decimal(close_price),
        _decimal(low),
        _decimal(high),
        average,
        *contract,
        str(first_id),
        str(last_id),
        _time(first_time),
        _time(last_time),
        *([str(excluded)] if is_future else ()),
        "true" if is_closed else "false",
        "true" if is_complete else "false",
        *(["true" if is_approximate else "false"] if is_future else ()),
        str(epoch),
        str(version),
        _time(updated_at),
    ]


def _of_contracts(
    quantity: str, value: str, buy_value: str, contract_size: str | None
) -> tuple[list[str], str, str]:
    """Return the values, the average price and the size of contracts, as Bar.as_dict has them."""
    if contract_size is None:
        raise ValueError("its contracts have no size")
    exact_value, size = Decimal(value), Decimal(contract_size)
    values = (exact_value, Decimal(buy_value), EXACT.subtract(exact_value, Decimal(buy_value)))
    average = DECIMAL128.divide(EXACT.multiply(Decimal(quantity), size), exact_value)
    return (
        [_decimal(str(DECIMAL128.plus(each))) for each in values],
        _decimal(str(average)),
        _decimal(contract_size),
    )


def _decimal(text: str) -> str:
    """Return what str() made of a Decimal as plain() and the format `f` would have it."""
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{plain(Decimal(text)):f}"


def _time(time_ms: int) -> str:
    """Return what isoformat() says of utc(time_ms), to the millisecond."""
    minute, within = divmod(time_ms, 60_000)
    digits = str(100_000 + within)
    return f"{_minute(minute)}:{digits[1:3]}.{digits[3:]}+00:00"


@lru_cache(maxsize=16)  # a bar's times are close to each other
def _minute(minute: int) -> str:
    return utc(minute * 60_000).isoformat()[:_TO_THE_MINUTE]


@lru_cache(maxsize=16)
def _quoted(text: str) -> str:
    """Return *text* as it stands between the quotes of JSON."""
    return as_json(text)[1:-1]
