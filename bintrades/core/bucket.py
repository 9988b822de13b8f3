"""The sums that become a bar. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Self

from msgspec.structs import replace

from bintrades.model import DECIMAL128, EXACT, Bar

if TYPE_CHECKING:
    from bintrades.model import SeriesKey, Trade

_NOTHING = Decimal(0)


class Bucket:
    """The sums over the trades of one symbol and interval that have come so far.

    It begins empty; *trade* is one that will be added. What it keeps of a trade are the few values
    that a bar has: to hold on to whole trades makes a market of many symbols visibly slower.
    """

    __slots__ = (
        "buy_count",
        "buy_quantity",
        "buy_value",
        "close_price",
        "end_time",
        "first_id",
        "first_time",
        "is_approximate",
        "last_id",
        "last_time",
        "max_price",
        "min_price",
        "open_price",
        "open_time",
        "sell_count",
        "sell_quantity",
        "sell_value",
    )

    def __init__(self, open_time: int, end_time: int, trade: Trade) -> None:
        self.open_time = open_time
        self.end_time = end_time
        self.buy_count = self.sell_count = 0  # by the taker's side
        self.buy_quantity = self.sell_quantity = self.buy_value = self.sell_value = _NOTHING
        self.open_price = self.close_price = self.min_price = self.max_price = trade.price
        self.first_id = self.last_id = trade.trade_id
        self.first_time = self.last_time = trade.time
        self.is_approximate = False  # whether some of it are aggregates whose times are not exact

    def add(self, trade: Trade) -> None:
        """Count *trade*; the caller has set a decimal context that never rounds."""
        price = trade.price
        quantity = trade.quantity
        if trade.is_buyer_maker:
            self.sell_count += 1
            self.sell_quantity += quantity
            self.sell_value += price * quantity
        else:
            self.buy_count += 1
            self.buy_quantity += quantity
            self.buy_value += price * quantity
        if price < self.min_price:
            self.min_price = price
        elif price > self.max_price:
            self.max_price = price
        trade_id = trade.trade_id
        if trade_id > self.last_id:
            self.last_id = trade_id
            self.last_time = trade.time
            self.close_price = price
        elif trade_id < self.first_id:
            self.first_id = trade_id
            self.first_time = trade.time
            self.open_price = price

    def add_range(self, first: Trade, last_id: int) -> None:
        """Count trades with ids up to *last_id*; *first* is the first with the quantity of all."""
        self.add(first)
        count = last_id - first.trade_id
        if count == 0:
            return
        if first.is_buyer_maker:
            self.sell_count += count
        else:
            self.buy_count += count
        self._end_at(first, last_id)

    def add_aggregate(self, first: Trade, last_id: int) -> None:
        """Count what an aggregate stands for as one trade, since not all of its ids may be some."""
        self.add(first)
        self._end_at(first, last_id)
        self.is_approximate = True

    def _end_at(self, first: Trade, last_id: int) -> None:
        if last_id > self.last_id:
            self.last_id = last_id
            self.last_time = first.time
            self.close_price = first.price

    @classmethod
    def reopened(cls, bar: Bar) -> Self:
        """Return the bucket that continues *bar*."""
        bucket = cls.__new__(cls)
        bucket.open_time = bar.open_time_ms
        bucket.end_time = bar.end_time_ms
        bucket.buy_count = bar.buy_count
        bucket.buy_quantity = bar.buy_quantity
        bucket.buy_value = bar.buy_value
        bucket.sell_count = bar.sell_count
        bucket.sell_quantity = bar.sell_quantity
        bucket.sell_value = bar.sell_value
        bucket.open_price = bar.open_price
        bucket.close_price = bar.close_price
        bucket.min_price = bar.min_price
        bucket.max_price = bar.max_price
        bucket.first_id = bar.first_trade_id
        bucket.last_id = bar.last_trade_id
        bucket.first_time = bar.first_trade_time_ms
        bucket.last_time = bar.last_trade_time_ms
        bucket.is_approximate = bar.is_approximate
        return bucket

    def bar(self, symbol: str, market: str, *, is_closed: bool) -> Bar:
        """Return what has come so far; version and completeness are for the journal to say."""
        return Bar(
            symbol=symbol,
            market=market,
            open_time_ms=self.open_time,
            interval_ms=self.end_time - self.open_time,
            trade_count=self.buy_count + self.sell_count,
            buy_count=self.buy_count,
            quantity=EXACT.add(self.buy_quantity, self.sell_quantity),
            buy_quantity=self.buy_quantity,
            value=EXACT.add(self.buy_value, self.sell_value),
            buy_value=self.buy_value,
            open_price=self.open_price,
            close_price=self.close_price,
            min_price=self.min_price,
            max_price=self.max_price,
            first_trade_id=self.first_id,
            last_trade_id=self.last_id,
            first_trade_time_ms=self.first_time,
            last_trade_time_ms=self.last_time,
            is_closed=is_closed,
            is_approximate=self.is_approximate,
        )


class ContractBucket(Bucket):
    """The sums over trades whose quantities are contracts: values are in the base asset.

    What a trade is worth there is a quotient: it is taken to 34 digits, and those are added without
    rounding, so that the sum depends neither on the order of the trades nor on how bars are merged.
    """

    __slots__ = ("contract_size",)

    def __init__(self, open_time: int, end_time: int, trade: Trade, contract_size: Decimal) -> None:
        super().__init__(open_time, end_time, trade)
        self.contract_size = contract_size

    def add(self, trade: Trade) -> None:
        """Count *trade*; the caller has set a decimal context that never rounds."""
        buy_value, sell_value = self.buy_value, self.sell_value
        super().add(trade)  # which takes price times quantity for its value
        worth = DECIMAL128.divide(self.contract_size * trade.quantity, trade.price)
        if trade.is_buyer_maker:
            self.sell_value = sell_value + worth
        else:
            self.buy_value = buy_value + worth

    def bar(self, symbol: str, market: str, *, is_closed: bool) -> Bar:
        """Return what has come so far; version and completeness are for the journal to say."""
        bar = super().bar(symbol, market, is_closed=is_closed)
        return replace(bar, contract_size=self.contract_size)


def new_bucket(key: SeriesKey, open_time: int, end_time: int, trade: Trade) -> Bucket:
    """Return the empty bucket of an interval of a series; *trade* is one that will be added."""
    if key.contract_size is None:
        return Bucket(open_time, end_time, trade)
    return ContractBucket(open_time, end_time, trade, key.contract_size)


def reopened_bucket(key: SeriesKey, bar: Bar) -> Bucket:
    """Return the bucket of a series that continues *bar*."""
    if key.contract_size is None:
        return Bucket.reopened(bar)
    bucket = ContractBucket.reopened(bar)
    bucket.contract_size = key.contract_size
    return bucket
