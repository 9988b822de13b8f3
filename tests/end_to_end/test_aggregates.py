"""A recorded session of spot's aggregates: the same bars as from the trades under them."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from bintrades.testing.exchange_simulator import ExchangeSimulator
from bintrades.testing.simulated_market import SimulatedTrade
from tests.end_to_end.collector import Collector
from tests.recordings import recorded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.end_to_end.collector import Sections

SESSION = "spot_aggtrade_20210404/BINANCE-ee25be.0.2021-04-04.8980a80.gz"
SYMBOLS = ("BTCUSDT", "DOTUSDT", "ETHUSDT")


@pytest.fixture(scope="module")
def frames() -> list[bytes]:
    """Return the aggregates of the session as they were received."""
    with gzip.open(recorded(SESSION), "rt", encoding="utf-8") as lines:
        found = [line.partition(": ")[2].strip() for line in lines if '@aggTrade","data"' in line]
    return [frame.encode() for frame in found if frame.startswith('{"stream"')]


@pytest.fixture
def exchange() -> Iterator[ExchangeSimulator]:
    """Run spot with the symbols of the session."""
    with ExchangeSimulator(SYMBOLS) as simulator:
        yield simulator


def trades_under(frames: list[bytes]) -> list[SimulatedTrade]:
    """Split each aggregate into the trades that it covers, the first with most of the quantity."""
    trades = []
    for frame in frames:
        event = json.loads(frame)["data"]
        count = event["l"] - event["f"]
        units = int(event["q"].replace(".", ""))
        for trade_id in range(event["f"], event["l"] + 1):
            part = units - count if trade_id == event["f"] else 1
            quantity = f"{part // 10**8}.{part % 10**8:08d}"
            trades.append(
                SimulatedTrade(
                    event["s"], trade_id, event["p"], quantity, event["T"], event["E"], event["m"]
                )
            )
    return trades


def collected(
    exchange: ExchangeSimulator, folder: Path, stream: str, frames: list[bytes], count: int
) -> dict[tuple[str, int], dict[str, Any]]:
    """Return all that a collector of that stream makes of the session, but for when it did."""
    sections: Sections = {
        "binance": {"stream": stream},
        "symbols": {"include": " ".join(SYMBOLS)},
        "audit": {"enabled": "no"},
    }
    folder.mkdir()
    with Collector(folder, exchange, sections) as collector:
        collector.start()
        names = [f"{symbol.lower()}@{stream}" for symbol in SYMBOLS]
        exchange.wait_for_subscription(*names)
        if stream == "trade":
            exchange.publish_trades(trades_under(frames))
        else:
            exchange.play([(0, frame) for frame in frames])
        collector.wait_for_trades(count)
        assert collector.stop() == 0
        return {key: bar.as_dict() for key, bar in collector.bars().items()}


def test_bars_of_aggregates_equal_those_of_the_trades_under_them(
    exchange: ExchangeSimulator, frames: list[bytes], tmp_path: Path
) -> None:
    count = len(trades_under(frames))
    of_aggregates = collected(exchange, tmp_path / "aggTrade", "aggTrade", frames, count)
    of_trades = collected(exchange, tmp_path / "trade", "trade", frames, count)

    for bars in (of_aggregates, of_trades):
        for bar in bars.values():
            for name in ("updated_at", "version", "is_complete", "is_closed"):
                bar.pop(name, None)
    assert (len(frames), count) == (1_910, 2_142)
    assert of_aggregates == of_trades
