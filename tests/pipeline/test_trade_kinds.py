"""Kinds of futures trades, counted and reported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bintrades.exchange.batch import Decoded
from bintrades.pipeline.trade_kinds import TradeKinds

if TYPE_CHECKING:
    import pytest


def decoded(*unknown: tuple[str, str], **kinds: int) -> Decoded:
    return Decoded(kinds=kinds, unknown_kinds=list(unknown))


def test_trades_are_counted_by_kind_over_all_batches() -> None:
    kinds = TradeKinds()

    kinds.take(decoded(MARKET=5, NA=1))
    kinds.take(decoded(MARKET=2))

    assert kinds.counts == {"MARKET": 7, "NA": 1}


def test_an_unknown_kind_is_reported_once_for_each_symbol(caplog: pytest.LogCaptureFixture) -> None:
    kinds = TradeKinds()

    for _ in range(3):
        kinds.take(decoded(("BTCUSDT", "NEW"), ("BTCUSDT", "NEW"), ("ETHUSDT", "NEW"), NEW=3))
    kinds.take(decoded(("BTCUSDT", "OTHER"), OTHER=1))

    assert [(record.symbol, record.kind) for record in caplog.records] == [  # type: ignore[attr-defined]
        ("BTCUSDT", "NEW"),
        ("ETHUSDT", "NEW"),
        ("BTCUSDT", "OTHER"),
    ]


def test_kinds_without_end_cost_bounded_memory_and_lines(caplog: pytest.LogCaptureFixture) -> None:
    kinds = TradeKinds()

    for number in range(5_000):
        kinds.take(decoded(("BTCUSDT", f"K{number}"), **{f"K{number}": 1, "MARKET": 1}))

    assert sum(kinds.counts.values()) == 10_000
    assert kinds.counts["MARKET"] == 5_000
    assert len(kinds.counts) <= 31
    assert len(caplog.records) == 1_000
