"""Futures whose ids are used up by more than trades: every complete bar proves itself."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from bintrades.testing.exchange_simulator import ExchangeSimulator
from bintrades.testing.simulated_market import FILLS, SimulatedTrade
from tests.end_to_end.collector import Collector, to_mongodb
from tests.end_to_end.market import documents
from tests.end_to_end.stage import newest_connection, wait_for_subscription_after

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pymongo.database import Database

    from tests.end_to_end.collector import Sections

SYMBOLS = ("BTCUSDT", "ETHUSDT")
START = 1_723_161_300_000
USDM: Sections = {
    "binance": {"market": "usdm"},
    "repair": {"enabled": "yes", "weight_share": "100"},
    "audit": {"enabled": "no"},
    "proof": {"every": "1h"},  # the last trade of each symbol proves what is before
}
KINDS = ("MARKET", "RPI", "NA", "INSURANCE_FUND", "ADL", "SOMETHING_NEW")


@pytest.fixture
def exchange() -> Iterator[ExchangeSimulator]:
    """Run USD-M futures."""
    with ExchangeSimulator(market="usdm") as simulator:
        yield simulator


def generated(count: int) -> list[SimulatedTrade]:
    """Return what uses up the ids of both symbols within two minutes, a tenth of it no fills."""
    rng = random.Random(7)
    happened = []
    for number in range(count):
        for symbol in SYMBOLS:
            kind = rng.choices(KINDS, (85, 5, 6, 1, 1, 2))[0]
            price, quantity = f"{2_000 + rng.randint(0, 9)}.5", f"0.{rng.randint(1, 9)}"
            if kind == "NA":
                price = quantity = "0"
            time_ms = START + number * 120_000 // count
            happened.append(
                SimulatedTrade(
                    symbol, 1 + number, price, quantity, time_ms, time_ms, bool(number % 2), kind
                )
            )
    return happened


def test_complete_bars_account_for_every_id_whatever_was_lost(
    exchange: ExchangeSimulator,
    mongodb_database: Database[dict[str, Any]],
    mongodb_uri: str,
    tmp_path: Path,
) -> None:
    happened = generated(1_500)
    fills = [trade for trade in happened if trade.kind in FILLS]
    store = to_mongodb(mongodb_uri, mongodb_database.name)
    with Collector(tmp_path, exchange, store, USDM) as collector:
        before = newest_connection(exchange)
        collector.start()
        wait_for_subscription_after(exchange, before)
        exchange.publish_trades(happened[:1_600])
        exchange.add_trades(happened[1_600:2_100])  # lost, fillers among them
        before = newest_connection(exchange)
        exchange.cut_all()
        wait_for_subscription_after(exchange, before)
        exchange.publish_trades(happened[2_100:])
        collector.wait_until(
            lambda: collector.trade_count() == len(fills) and not collector.journal.gaps(),
            lambda: f"{collector.trade_count()} of {len(fills)}, {collector.journal.gaps()}",
        )
        assert collector.stop() == 0

    stored = documents(mongodb_database)
    complete = [bar for bar in stored if bar["is_complete"]]
    assert len(complete) >= 2 * 11  # of twelve of each symbol, the last may be waiting for proof
    for bar in stored:
        open_ms = round(bar["open_time"].timestamp() * 1000)
        own = [
            trade
            for trade in fills
            if trade.symbol == bar["symbol"] and trade.time_ms // 10_000 * 10_000 == open_ms
        ]
        assert bar["trade_count"] == len(own)
        assert (bar["first_trade_id"], bar["last_trade_id"]) == (own[0].trade_id, own[-1].trade_id)
    for bar in complete:
        ids = bar["last_trade_id"] - bar["first_trade_id"] + 1
        assert ids == bar["trade_count"] + bar["excluded_count"], bar
        assert not bar["is_approximate"]
    assert sum(bar["excluded_count"] for bar in complete) > 0
