"""The one table of a bar's fields.

Whatever writes, reads or documents bars takes names, kinds and order from FIELDS, or, where a loop
would be too slow, has a test that compares.
"""

from __future__ import annotations

from enum import Enum, StrEnum, auto
from functools import cache
from typing import NamedTuple

FUTURES = frozenset({"usdm", "coinm"})
"""The markets whose ids are not all trades, and whose past cannot always be had trade by trade."""

IN_CONTRACTS = frozenset({"coinm"})
"""The markets whose quantities are contracts."""


class FieldKind(StrEnum):
    """What the values of a field are."""

    TEXT = "string"
    TIME = "date"  # to the millisecond
    INT = "int"  # 32 bits
    LONG = "long"  # 64 bits
    DECIMAL = "decimal"
    FLAG = "bool"


class MergeRule(Enum):
    """How a bar gets the value of a field from those of two parts of it."""

    KEPT = auto()  # the same in both, or for the journal to say
    SUM = auto()
    MIN = auto()
    MAX = auto()
    FIRST = auto()  # that of the part with the lowest trade id
    LAST = auto()  # that of the part with the highest trade id
    ANY = auto()  # true if it is in either
    DERIVED = auto()  # computed from other fields of the bar


class Field(NamedTuple):
    """A field of a stored bar. Bar has an attribute of its name."""

    name: str
    kind: FieldKind
    rule: MergeRule
    meaning: str
    is_optional: bool = False  # a store may leave it out: it follows from others, but for rounding
    markets: frozenset[str] | None = None  # on which it is published; None: on all

    @property
    def attribute(self) -> str:
        """Attribute of Bar with the bare value: of a time its milliseconds, else as published."""
        return f"{self.name}_ms" if self.kind is FieldKind.TIME else self.name


_TEXT, _TIME, _INT, _LONG, _DECIMAL, _FLAG = FieldKind
_KEPT, _SUM, _MIN, _MAX, _FIRST, _LAST, _ANY, _DERIVED = MergeRule

_COUNTS = "trades; by taker side: buy means that the taker bought (`m` is false)"
_QUANTITIES = "base asset, sum of q; `coinm`: contracts"
_VALUES = (
    "quote asset, sum of p*q, not rounded; `coinm`: base asset, sum of contract_size*q/p,"
    " rounded once to 34 digits"
)
_ENDS = "price of the first and last trade by id"
_EXTREMES = "lowest and highest price"
_AVERAGE = (
    "value / quantity (volume weighted), to 34 significant digits;"
    " `coinm`: quantity * contract_size / value"
)
_CONTRACT = "`coinm` only: what one contract is worth, in the quote asset"
_EXCLUDED = "`usdm` and `coinm` only: ids within the bar that are no fills of the order book"
_APPROXIMATE = (
    "`usdm` and `coinm` only. true: some of it are aggregates, which count as one trade each and"
    " may have ended in the next bar"
)
_IDS = "lowest and highest trade id"
_TIMES = "`T` of those trades (ms)"
_COMPLETE = "true: proven that every trade of the interval is in the bar"
_EPOCH = (
    "0; +1 each time the bar was rebuilt from the exchange's own records"
    " (documents of earlier versions have none: 0)"
)

FIELDS = (
    Field("symbol", _TEXT, _KEPT, "as the exchange writes it: `BTCUSDT`, `币安人生USDT`"),
    Field("market", _TEXT, _KEPT, "`spot`, `usdm`, `coinm` or `us`"),
    Field(
        "open_time", _TIME, _KEPT, "start of the interval, UTC, a multiple of it since the epoch"
    ),
    Field("interval_seconds", _INT, _KEPT, "10"),
    Field("trade_count", _LONG, _SUM, _COUNTS),
    Field("buy_count", _LONG, _SUM, _COUNTS),
    Field("sell_count", _LONG, _DERIVED, _COUNTS),
    Field("quantity", _DECIMAL, _SUM, _QUANTITIES),
    Field("buy_quantity", _DECIMAL, _SUM, _QUANTITIES),
    Field("sell_quantity", _DECIMAL, _DERIVED, _QUANTITIES),
    Field("value", _DECIMAL, _SUM, _VALUES),
    Field("buy_value", _DECIMAL, _SUM, _VALUES),
    Field("sell_value", _DECIMAL, _DERIVED, _VALUES),
    Field("open_price", _DECIMAL, _FIRST, _ENDS),
    Field("close_price", _DECIMAL, _LAST, _ENDS),
    Field("min_price", _DECIMAL, _MIN, _EXTREMES),
    Field("max_price", _DECIMAL, _MAX, _EXTREMES),
    Field("average_price", _DECIMAL, _DERIVED, _AVERAGE, is_optional=True),
    Field("contract_size", _DECIMAL, _KEPT, _CONTRACT, markets=IN_CONTRACTS),
    Field("first_trade_id", _LONG, _MIN, _IDS),
    Field("last_trade_id", _LONG, _MAX, _IDS),
    Field("first_trade_time", _TIME, _FIRST, _TIMES),
    Field("last_trade_time", _TIME, _LAST, _TIMES),
    Field("excluded_count", _LONG, _KEPT, _EXCLUDED, markets=FUTURES),
    Field("is_closed", _FLAG, _ANY, "false: written at a shutdown, before the interval ended"),
    Field("is_complete", _FLAG, _KEPT, _COMPLETE),
    Field("is_approximate", _FLAG, _ANY, _APPROXIMATE, markets=FUTURES),
    Field("epoch", _INT, _KEPT, _EPOCH),
    Field("version", _INT, _KEPT, "1, then +1 for each amendment"),
    Field("updated_at", _TIME, _KEPT, "when this version was made"),
)
"""The fields of a stored bar in the order in which they are published."""

ROUNDED = frozenset({"value", "buy_value", "sell_value"})
"""The fields that are published in 34 digits where quantities are contracts: sums of quotients."""


@cache
def fields_of(market: str) -> tuple[Field, ...]:
    """Return the fields of a bar of *market*."""
    return tuple(field for field in FIELDS if field.markets is None or market in field.markets)


RANK = ("epoch", "trade_count", "is_closed", "is_complete", "version")
"""The fields that order two versions of a bar: the first one that differs decides."""
