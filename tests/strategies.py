"""Trades, bars and byte streams for property tests, and naive answers to compare with."""

from __future__ import annotations

import decimal
import json
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import accumulate, groupby, pairwise
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from msgspec.structs import replace

from bintrades.core.write_batch import WriteBatch
from bintrades.model import EXACT, Bar, IdLaw, SeriesKey, Trade

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bintrades.core.write_batch import Checkpoint, Key

INTERVAL = 10_000
START = 1_723_075_200_000
"""2024-08-08 00:00:00 UTC in milliseconds: an interval opens here."""

SYMBOLS = ("BTCUSDT", "ETHUSDT", "币安人生USDT")

decimals = st.decimals(
    min_value=Decimal("0.00000001"), max_value=Decimal(10_000_000), places=8
) | st.sampled_from([Decimal("0.1"), Decimal("0.2"), Decimal("1E-8"), Decimal("1E+7")])
"""Prices and quantities, among them those that floats get wrong."""


def spot_series(symbols: Iterable[str]) -> list[SeriesKey]:
    """Return the series of *symbols* on a spot market."""
    return [spot_key(symbol) for symbol in symbols]


def spot_key(symbol: str) -> SeriesKey:
    """Return the series of the trades of *symbol* on a spot market."""
    return SeriesKey("binance", "spot", symbol, "trade", IdLaw.DENSE)


def make_trade(
    trade_id: int,
    time: int = START,
    *,
    symbol: str = "BTCUSDT",
    price: str = "1",
    quantity: str = "1",
    event_time: int | None = None,
    is_buyer_maker: bool = False,
) -> Trade:
    """Return a trade whose event came at the moment of the trade unless *event_time* says else."""
    return Trade(
        symbol=symbol,
        trade_id=trade_id,
        time=time,
        event_time=time if event_time is None else event_time,
        price=Decimal(price),
        quantity=Decimal(quantity),
        is_buyer_maker=is_buyer_maker,
    )


def raw_message(trade: Trade, **changes: Any) -> bytes:
    """Return *trade* as the exchange sends it under /ws, with *changes* to its fields."""
    fields = {
        "e": "trade",
        "E": trade.event_time,
        "s": trade.symbol,
        "t": trade.trade_id,
        "p": f"{trade.price:f}",
        "q": f"{trade.quantity:f}",
        "T": trade.time,
        "m": trade.is_buyer_maker,
        "M": True,
    }
    return json.dumps(fields | changes, ensure_ascii=False, separators=(",", ":")).encode()


def message(trade: Trade, **changes: Any) -> bytes:
    """Return *trade* as the exchange sends it under /stream, with *changes* to its fields."""
    name = json.dumps(f"{trade.symbol.lower()}@trade", ensure_ascii=False).encode()
    return b'{"stream":' + name + b',"data":' + raw_message(trade, **changes) + b"}"


@st.composite
def trades_of(draw: st.DrawFn, symbol: str, *, is_time_ordered: bool = False) -> list[Trade]:
    """Draw up to 20 trades of *symbol*, by consecutive id, within about four intervals."""
    size = draw(st.integers(0, 20))
    first_id = draw(st.integers(0, 3) | st.integers(4, 2**40))
    steps = draw(st.lists(st.sampled_from([0, 1, 7, 900, 9_999]), min_size=size, max_size=size))
    times = list(accumulate(steps, initial=START + draw(st.integers(0, INTERVAL - 1))))
    if not is_time_ordered:
        times = [time - draw(st.sampled_from([0, 0, 0, 1, 3_000])) for time in times]
    lag = draw(st.sampled_from([0, 3, 4_000]))
    return [
        Trade(
            symbol=symbol,
            trade_id=first_id + index,
            time=times[index],
            event_time=times[index] + lag,
            price=draw(decimals),
            quantity=draw(decimals),
            is_buyer_maker=draw(st.booleans()),
        )
        for index in range(size)
    ]


def trades_of_all(*, is_time_ordered: bool) -> st.SearchStrategy[list[Trade]]:
    """Return a strategy for what happened on the exchange: trades of all SYMBOLS, each once."""
    of_symbols = (trades_of(symbol, is_time_ordered=is_time_ordered) for symbol in SYMBOLS)
    return st.tuples(*of_symbols).map(lambda parts: [trade for part in parts for trade in part])


trades = trades_of_all(is_time_ordered=False)
"""A higher id may have an earlier time: the exchange does not promise otherwise."""

trades_in_order_of_time = trades_of_all(is_time_ordered=True)


@dataclass(frozen=True)
class Step:
    """A batch of trades that came together, and what happened after it."""

    trades: list[Trade]
    pause_ms: int
    collects: str  # what is saved: "everything", what is "due", "bars", those of "one" or "nothing"
    is_written: bool
    is_restarted: bool


@st.composite
def arrivals(draw: st.DrawFn, happened: Sequence[Trade]) -> list[Step]:
    """Draw a way for *happened* to arrive: in any order, some twice, in any batches."""
    again = draw(st.lists(st.sampled_from(happened), max_size=10)) if happened else []
    if draw(st.booleans()):
        order = sorted(happened, key=lambda trade: (trade.event_time, trade.trade_id)) + again
    else:
        order = draw(st.permutations([*happened, *again]))
    return [
        Step(
            trades=batch,
            pause_ms=draw(st.sampled_from([0, 1, 600, 10_000, 30_000])),
            collects=draw(st.sampled_from(["everything", "due", "due", "bars", "one", "nothing"])),
            is_written=draw(st.booleans()),
            is_restarted=draw(st.sampled_from([False, False, True])),
        )
        for batch in draw(splits(order))
    ]


@st.composite
def splits(draw: st.DrawFn, whole: Any) -> list[Any]:
    """Cut a sequence at random places, neighbouring ones and both ends among them."""
    places = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=12)))
    return [whole[start:stop] for start, stop in pairwise([0, *places, len(whole)])]


def bar_of(parts: Iterable[Trade], interval_ms: int = INTERVAL, **changes: Any) -> Bar:
    """Return the bar of trades of one symbol and interval, in the plainest way there is."""
    members = sorted(parts, key=lambda trade: trade.trade_id)
    buys = [trade for trade in members if not trade.is_buyer_maker]
    first, last = members[0], members[-1]
    prices = [trade.price for trade in members]
    with decimal.localcontext(EXACT):
        return Bar(
            symbol=first.symbol,
            market="spot",
            open_time_ms=first.time // interval_ms * interval_ms,
            interval_ms=interval_ms,
            trade_count=len(members),
            buy_count=len(buys),
            quantity=sum((trade.quantity for trade in members), Decimal(0)),
            buy_quantity=sum((trade.quantity for trade in buys), Decimal(0)),
            value=sum((trade.price * trade.quantity for trade in members), Decimal(0)),
            buy_value=sum((trade.price * trade.quantity for trade in buys), Decimal(0)),
            open_price=first.price,
            close_price=last.price,
            min_price=min(prices),
            max_price=max(prices),
            first_trade_id=first.trade_id,
            last_trade_id=last.trade_id,
            first_trade_time_ms=first.time,
            last_trade_time_ms=last.time,
            **changes,
        )


def bars_of(happened: Iterable[Trade], interval_ms: int = INTERVAL) -> dict[Key, Bar]:
    """Return the bars that the trades *happened* must become."""

    def key(trade: Trade) -> Key:
        return trade.symbol, trade.time // interval_ms * interval_ms

    return {
        bar: bar_of(parts, interval_ms) for bar, parts in groupby(sorted(happened, key=key), key)
    }


@dataclass
class Written:
    """What a journal holds, without a file: whole bars, and the checkpoints with them."""

    bars: dict[Key, Bar] = field(default_factory=dict)
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict)
    pending: WriteBatch = field(default_factory=WriteBatch)

    @property
    def closed(self) -> dict[Key, Bar]:
        """All bars as if their time had passed."""
        return {key: replace(bar, is_closed=True) for key, bar in self.bars.items()}

    def write(self) -> None:
        """Take over what is pending; a bar never loses a trade."""
        changes, self.pending = self.pending, WriteBatch()
        for key, bar in changes.finished.items():
            before = self.bars.get(key)
            assert before is None or before.trade_count <= bar.trade_count
            self.bars[key] = bar
        for key, part in changes.amendments.items():
            self.bars[key] = self.bars[key].merge(part) if key in self.bars else part
        self.checkpoints.update(changes.checkpoints)
