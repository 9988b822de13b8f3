"""A bar as a BSON document: field by field for people, and at once for a million of them.

`document` says what a stored bar is; `encode` gives the very bytes that bson.encode makes of it, in
a fraction of the time: the layout is fixed, and a Decimal128 is put together from an integer, where
bson works through a tuple of digits.
"""

from __future__ import annotations

import struct
from decimal import Decimal
from functools import cache, lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import bson
from bson.decimal128 import Decimal128
from bson.int64 import Int64

from bintrades.model import DECIMAL128
from bintrades.model.bar_fields import FIELDS, ROUNDED, FieldKind, fields_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bintrades.model import Bar

    Document = dict[str, Any]

_TYPES = {
    FieldKind.TIME: ("\x09", "Q"),
    FieldKind.INT: ("\x10", "i"),
    FieldKind.LONG: ("\x12", "q"),
    FieldKind.DECIMAL: ("\x13", "16s"),
    FieldKind.FLAG: ("\x08", "?"),
}
"""For each kind of field the tag of its type in BSON, and how struct writes it."""

_DECIMAL = FieldKind.DECIMAL
_LONGS = frozenset(field.name for field in FIELDS if field.kind is FieldKind.LONG)
_TEXTS = 2  # symbol and market, the first fields, which alone have no fixed length
_times = attrgetter(*(field.attribute for field in FIELDS if field.kind is FieldKind.TIME))

_LENGTH = struct.Struct("<i")

_TOO_LARGE = 10**34  # 34 digits are what a Decimal128 holds
_EXPONENTS = tuple((6176 - places) << 113 for places in range(4_300))  # int() takes no more digits
_LAST_MS = 253_402_300_799_999  # of the year 9999: what Python, and so a reader, can make a date of


def document(bar: Bar) -> Document:
    """Return *bar* as it is stored, field by field.

    Raises ValueError for a number of too many digits, OverflowError for an impossible time.
    """
    fields = bar.as_dict()
    for name, value in fields.items():
        if name in _LONGS:
            fields[name] = Int64(value)
        elif isinstance(value, Decimal):
            fields[name] = _decimal128(name, value)
    return fields


def encode(bar: Bar) -> bytes:
    """Return what bson.encode makes of document(bar).

    Raises ValueError, OverflowError or BSONError if the bar cannot be a document.
    """
    try:
        return _encode(bar)
    except (struct.error, ValueError, ArithmeticError, IndexError, TypeError):
        return bson.encode(document(bar))  # which it can do, or can say why not


def _encode(bar: Bar) -> bytes:
    if max(_times(bar)) > _LAST_MS:
        raise ValueError("a time that may be none")
    layout = _layout(bar.market)
    values = list(layout.values(bar))
    if bar.contract_size is not None:
        for place in layout.rounded:
            values[place] = DECIMAL128.plus(values[place])
    values[layout.decimals] = _encode_decimals(values[layout.decimals])
    arguments = layout.arguments.copy()
    arguments[1::2] = values
    body = _names(bar.symbol, bar.market) + layout.packed.pack(*arguments)
    return _LENGTH.pack(_LENGTH.size + len(body)) + body


class _Layout(NamedTuple):
    """Where the fields of the bars of a market are, but for the first two."""

    values: attrgetter[Any]
    decimals: slice
    """Where the decimals are: side by side, since to gather them one by one takes longer."""
    rounded: list[int]
    """Places of those that are rounded where quantities are contracts."""
    packed: struct.Struct
    arguments: list[object]
    """What is packed: each header, and a place for its value."""


@cache
def _layout(market: str) -> _Layout:
    fields = fields_of(market)[_TEXTS:]
    kinds = [field.kind for field in fields]
    headers = [f"{_TYPES[field.kind][0]}{field.name}\0".encode() for field in fields]
    forms = [_TYPES[kind][1] for kind in kinds]
    return _Layout(
        attrgetter(*(field.attribute for field in fields)),
        slice(kinds.index(_DECIMAL), len(kinds) - kinds[::-1].index(_DECIMAL)),
        [place for place, field in enumerate(fields) if field.name in ROUNDED],
        struct.Struct("<" + "".join(map("{0}s{1}".format, map(len, headers), forms)) + "x"),
        [argument for header in headers for argument in (header, None)],
    )


@lru_cache(maxsize=10_000)
def _names(symbol: str, market: str) -> bytes:
    """Return the first two fields, which are the same in all bars of a symbol."""
    fields = (b"\x02symbol\0", symbol.encode()), (b"\x02market\0", market.encode())
    return b"".join(header + _LENGTH.pack(len(text) + 1) + text + b"\0" for header, text in fields)


def _encode_decimals(values: Iterable[Decimal]) -> list[bytes]:
    """Return the bytes of each value as a Decimal128, trailing zeros gone.

    The form is the binary integer one of IEEE 754: an exponent, and the digits as an integer.
    Raises ValueError for what does not fit, or needs a closer look.
    """
    texts = list(map(str, values))
    if "E" in "".join(texts):
        texts = [format(value, "f") for value in values]
    if "-" in "".join(texts):
        raise ValueError("is negative")
    encoded = []
    for text in texts:
        whole, _, fraction = text.partition(".")
        fraction = fraction.rstrip("0")
        number = int(whole + fraction)
        if number >= _TOO_LARGE:
            raise ValueError("has too many digits")
        encoded.append((_EXPONENTS[len(fraction)] | number).to_bytes(16, "little"))
    return encoded


def _decimal128(name: str, value: Decimal) -> Decimal128:
    try:
        return Decimal128(value)
    except ArithmeticError:
        raise ValueError(f"{name} has more than the 34 digits of a Decimal128: {value}") from None
