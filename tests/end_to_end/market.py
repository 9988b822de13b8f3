"""What the exchange sent, and the bars that this makes, computed with as little code as can be."""

from __future__ import annotations

import decimal
import json
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from bson.decimal128 import Decimal128

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pymongo.database import Database

    from bintrades.model import Bar

    Frame = tuple[int, bytes]
    Fields = dict[str, Any]
    Key = tuple[str, datetime]

INTERVAL_MS = 10_000
BAR_COUNT = 132
"""Bars of a recording of two symbols in eleven minutes, none of them without a trade."""
_NOT_IN_THE_TRADES = {"_id", "is_closed", "is_complete", "epoch", "version", "updated_at"}


def trades_of(frames: Iterable[Frame]) -> list[Fields]:
    """Return the trades among recorded frames, once each, by symbol and id."""
    messages = (json.loads(frame) for _, frame in frames)
    events = (message["data"] for message in messages if "data" in message)
    trades = {(event["s"], event["t"]): event for event in events if event.get("e") == "trade"}
    return [trades[key] for key in sorted(trades)]


def expected_bars(frames: Iterable[Frame]) -> dict[Key, Fields]:
    """Return all that the trades determine of each bar, as contract.md names it."""
    return bars_of(trades_of(frames))


def bars_of(trades: Iterable[Fields], market: str = "spot") -> dict[Key, Fields]:
    """Return the same of trades of a market, in the order of their ids."""
    intervals: dict[tuple[str, int], list[Fields]] = defaultdict(list)
    for trade in trades:
        intervals[trade["s"], trade["T"] // INTERVAL_MS].append(trade)
    with decimal.localcontext(prec=100):
        bars = [_expected_bar(members, market) for _, members in sorted(intervals.items())]
    return {(bar["symbol"], bar["open_time"]): bar for bar in bars}


def _expected_bar(trades: list[Fields], market: str) -> Fields:
    buys = [trade for trade in trades if not trade["m"]]
    sells = [trade for trade in trades if trade["m"]]
    prices = [Decimal(trade["p"]) for trade in trades]
    first, last = trades[0], trades[-1]
    quotient = decimal.Context(prec=34).divide(_value(trades), _quantity(trades))
    own: Fields = {}
    if market == "usdm":  # complete, each id between the first and the last is one or the other
        own["excluded_count"] = last["t"] - first["t"] + 1 - len(trades)
        own["is_approximate"] = False
    return own | {
        "symbol": first["s"],
        "market": market,
        "open_time": _utc(first["T"] // INTERVAL_MS * INTERVAL_MS),
        "interval_seconds": 10,
        "trade_count": len(trades),
        "buy_count": len(buys),
        "sell_count": len(sells),
        "quantity": _quantity(trades),
        "buy_quantity": _quantity(buys),
        "sell_quantity": _quantity(sells),
        "value": _value(trades),
        "buy_value": _value(buys),
        "sell_value": _value(sells),
        "open_price": prices[0],
        "close_price": prices[-1],
        "min_price": min(prices),
        "max_price": max(prices),
        "average_price": quotient,
        "first_trade_id": first["t"],
        "last_trade_id": last["t"],
        "first_trade_time": _utc(first["T"]),
        "last_trade_time": _utc(last["T"]),
    }


def _quantity(trades: list[Fields]) -> Decimal:
    return sum((Decimal(trade["q"]) for trade in trades), Decimal(0))


def _value(trades: list[Fields]) -> Decimal:
    return sum((Decimal(trade["p"]) * Decimal(trade["q"]) for trade in trades), Decimal(0))


def _utc(time_ms: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)


def documents(
    database: Database[Fields], matching: Mapping[str, object] | None = None
) -> list[Fields]:
    """Return the bars that MongoDB holds, by symbol and open time, with Decimal for Decimal128."""
    return [
        {
            name: value.to_decimal() if isinstance(value, Decimal128) else value
            for name, value in document.items()
        }
        for document in database["bars"].find(matching).sort([("symbol", 1), ("open_time", 1)])
    ]


def stored_trade_count(database: Database[Fields]) -> int:
    """Return how many trades the bars in MongoDB have together."""
    return sum(document["trade_count"] for document in database["bars"].find())


def in_the_trades(stored: Iterable[Fields]) -> dict[Key, Fields]:
    """Return the fields of stored bars that trades determine, and no two of one key."""
    bars: dict[Key, Fields] = {}
    for document in stored:
        key = document["symbol"], document["open_time"]
        assert key not in bars, f"{key} is stored twice"
        bars[key] = {
            name: value for name, value in document.items() if name not in _NOT_IN_THE_TRADES
        }
    return bars


def in_the_journal(bars: Iterable[Bar]) -> dict[Key, Fields]:
    """Return the same of bars of the journal."""
    return in_the_trades(bar.as_dict() for bar in bars)


def assert_same_bars(stored: dict[Key, Fields], expected: dict[Key, Fields]) -> None:
    """Assert that all bars are there and equal, naming the first one that is not."""
    assert sorted(stored) == sorted(expected)
    for key, bar in expected.items():
        assert stored[key] == bar


def assert_only_the_first_and_last_are_incomplete(stored: list[Fields]) -> None:
    """Assert that every bar but the first and the last of each symbol has all trades.

    The collector came into the middle of the first one, and without repair it stays a part. Of the
    last one nothing proves that it has all trades: neither a later one nor the exchange's word.
    """
    times: dict[str, list[datetime]] = defaultdict(list)
    for bar in stored:
        times[bar["symbol"]].append(bar["open_time"])
    incomplete = [(bar["symbol"], bar["open_time"]) for bar in stored if not bar["is_complete"]]
    assert incomplete == sorted((symbol, end) for symbol in times for end in ends(times[symbol]))


def ends(times: list[datetime]) -> set[datetime]:
    """Return the first and the last."""
    return {min(times), max(times)}
