"""What may be a number in a message. Pure.

Python's Decimal takes more for one than any exchange writes: underscores, spaces around it, digits
of all scripts. To look at each number would cost as much as all the rest of decoding, and no
message holds what would be needed for such a one, except in the names of a few symbols. So it is
looked first whether a whole batch could have any.
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

PlainNumber = Annotated[str, msgspec.Meta(pattern=r"^[0-9.eE+-]+\Z")]
"""The text of a number as it may be: ASCII digits with a point, perhaps an exponent."""

_STRANGE_ASCII = b"_ \\"  # an underscore, a space, or a backslash, which could be any of them
_NO_DIGITS = bytes(
    byte
    for byte in range(256)
    # Of what is beyond ASCII, the letters from U+4000 to U+9FFF, which have no digits among them.
    if (byte < 0x80 and byte not in _STRANGE_ASCII) or 0x80 <= byte < 0xC0 or 0xE4 <= byte < 0xEA
)
_is_plain = re.compile(r"[0-9.eE+-]+").fullmatch


class _Numbers(msgspec.Struct, gc=False):
    price: str | float = msgspec.field(name="p")
    quantity: str | float = msgspec.field(name="q")


class _Combined(msgspec.Struct, gc=False):
    data: _Numbers


_combined = msgspec.json.Decoder(list[_Combined])


def check_numbers(array: bytes) -> None:
    """Raise ValueError if a price or quantity in *array* is written as no exchange does it.

    *array* is JSON, a list of good trades of a combined stream.
    """
    if array.isascii():
        if not any(byte in array for byte in (b"_", b" ", b"\\")):
            return
    elif not array.translate(None, _NO_DIGITS):
        return
    for message in _combined.decode(array):
        for number in (message.data.price, message.data.quantity):
            if isinstance(number, str) and not _is_plain(number):
                raise ValueError(f"not a number: {number!r}")
