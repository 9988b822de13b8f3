"""Bars to try a store with."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from bintrades.model import Bar, CoveredSpan

OPEN_TIME_MS = 1_723_075_200_000
"""The first sample bar opens here: 2024-08-08 00:00:00 UTC."""


def sample_bar(**changes: Any) -> Bar:
    """Return a valid bar of three trades, with *changes* to its fields."""
    open_time_ms = changes.get("open_time_ms", OPEN_TIME_MS)
    fields: dict[str, Any] = {
        "symbol": "BTCUSDT",
        "market": "spot",
        "open_time_ms": open_time_ms,
        "interval_ms": 10_000,
        "trade_count": 3,
        "buy_count": 1,
        "quantity": Decimal("0.00300000"),
        "buy_quantity": Decimal("0.00100000"),
        "value": Decimal("165.3000000000000001"),
        "buy_value": Decimal("55.1000000000000001"),
        "open_price": Decimal("55000.01"),
        "close_price": Decimal("55200.00"),
        "min_price": Decimal("55000.01"),
        "max_price": Decimal("55200.00"),
        "first_trade_id": 3_700_000_000,
        "last_trade_id": 3_700_000_002,
        "first_trade_time_ms": open_time_ms + 17,
        "last_trade_time_ms": open_time_ms + 9_999,
        "updated_at_ms": open_time_ms + 10_500,
    }
    return Bar(**(fields | changes))


def sample_bars(count: int, **changes: Any) -> list[Bar]:
    """Return *count* consecutive bars of one symbol, oldest first, with joining trade ids."""
    return [
        sample_bar(
            open_time_ms=OPEN_TIME_MS + 10_000 * index,
            first_trade_id=3 * index + 1,
            last_trade_id=3 * index + 3,
            **changes,
        )
        for index in range(count)
    ]


def sample_span(
    since: int, until: int, *, symbol: str = "BTCUSDT", market: str = "spot"
) -> CoveredSpan:
    """Return the span from the n-th sample bar to the one that is not covered any more."""
    return CoveredSpan(
        symbol, market, OPEN_TIME_MS + 10_000 * since, OPEN_TIME_MS + 10_000 * until, 10_000
    )
