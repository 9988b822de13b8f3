"""Exact decimals: sums and products that never round, and their shortest text."""

from __future__ import annotations

import decimal
from decimal import Decimal

EXACT = decimal.Context(
    prec=8_000,
    rounding=decimal.ROUND_HALF_EVEN,
    traps=[decimal.Inexact, decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow],
)
"""Arithmetic that never rounds: a result that did not fit would raise decimal.Inexact.

No exchange's decoder takes a price or a quantity of more than 1,000 characters, so a product has
fewer than twice as many digits and a sum fewer than four times: 8,000 is never reached. A wide
context costs nothing, since the work depends on the digits that are there.
"""

DECIMAL128 = decimal.Context(prec=34, rounding=decimal.ROUND_HALF_EVEN)
"""34 significant digits, the precision of IEEE 754 decimal128, for the one quotient of a bar."""


def plain(value: Decimal) -> Decimal:
    """Return *value* without trailing zeros and without an exponent: 1.50000000 becomes 1.5."""
    value = value.normalize(EXACT)
    has_exponent = "+" in str(value)  # a tenth of the time that as_tuple() takes
    return value.quantize(Decimal(1), context=EXACT) if has_exponent else value
