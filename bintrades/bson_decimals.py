"""Decimals of MongoDB as decimal.Decimal, for programs that read bars with pymongo.

pymongo gives a bson.Decimal128 for each decimal, which has no arithmetic, so pandas can make
nothing of it: mean(), resample().sum() and astype(float) raise. With these options a collection
gives a decimal.Decimal, exact, and takes one, in documents and in queries:

    bars = client.bintrades.get_collection("bars", codec_options=CODEC_OPTIONS)
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from bson.codec_options import CodecOptions, TypeCodec, TypeRegistry
from bson.decimal128 import Decimal128


class DecimalCodec(TypeCodec):
    """A bson.Decimal128 is a decimal.Decimal, and the other way round."""

    python_type = Decimal
    bson_type = Decimal128

    def transform_python(self, value: Any) -> Decimal128:
        """Return what is stored; raises decimal.Inexact for more than 34 significant digits."""
        return Decimal128(value)

    def transform_bson(self, value: Any) -> Decimal:
        """Return what was stored, with all of its digits."""
        decimal: Decimal = value.to_decimal()
        return decimal


CODEC_OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=True, type_registry=TypeRegistry([DecimalCodec()])
)
"""For get_database, get_collection and with_options of pymongo: exact decimals, and times in UTC.

Other options of yours go on top: CODEC_OPTIONS.with_options(...)."""
