"""Strict spelling of the numbers in a message. Pure.

Python's Decimal accepts more than any exchange writes: underscores, spaces around a number, digits
of all scripts. Checking each number would cost as much as all the rest of decoding, and the
characters of such a spelling occur in no message but in the names of symbols, where they can be
told apart. So a whole batch is searched for them first.
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

PlainNumber = Annotated[str, msgspec.Meta(pattern=r"^[0-9.eE+-]+\Z")]
"""The text of a number: ASCII digits with a point, perhaps an exponent."""

_STRANGE_ASCII = b"_ \\"  # an underscore, a space, or a backslash, which could be any of them
_NO_DIGITS = bytes(
    byte
    for byte in range(256)
    # Of what is beyond ASCII, the letters from U+4000 to U+9FFF, which have no digits among them.
    if (byte < 0x80 and byte not in _STRANGE_ASCII) or 0x80 <= byte < 0xC0 or 0xE4 <= byte < 0xEA
)
# Symbols have underscores after a letter, as BTCUSD_PERP and BTCUSDT_261225 do. No number has one
# there but words such as infinity, which are out of every range. (It begins with the underscore
# itself, which is searched for many times faster.)
_strange_underscore = re.compile(rb"_(?<![CDTcdt]_)").search

_is_plain = re.compile(r"[0-9.eE+-]+").fullmatch


class _Numbers(msgspec.Struct, gc=False):
    price: str | float = msgspec.field(name="p")
    quantity: str | float = msgspec.field(name="q")


class _Combined(msgspec.Struct, gc=False):
    data: _Numbers


_combined = msgspec.json.Decoder(list[_Combined])


def check_numbers(array: bytes) -> None:
    """Raise ValueError for a price or quantity in *array* that is not spelt strictly.

    *array* is JSON, a list of good trades of a combined stream.
    """
    if array.isascii():
        has_underscore = b"_" in array and _strange_underscore(array)
        if b" " not in array and b"\\" not in array and not has_underscore:
            return
    elif not array.translate(None, _NO_DIGITS):
        return
    for message in _combined.decode(array):
        for number in (message.data.price, message.data.quantity):
            if isinstance(number, str) and not _is_plain(number):
                raise ValueError(f"not a number: {number!r}")
