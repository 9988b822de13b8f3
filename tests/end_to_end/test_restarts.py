"""The collector ends, in good order or not, and starts again: no bar shows it."""

from __future__ import annotations

import random
import threading
from signal import SIGKILL, SIGTERM
from typing import TYPE_CHECKING, Any

import pytest

from tests.end_to_end.collector import Collector, to_mongodb
from tests.end_to_end.market import (
    BAR_COUNT,
    assert_only_the_first_and_last_are_incomplete,
    assert_same_bars,
    documents,
    expected_bars,
    in_the_trades,
)

if TYPE_CHECKING:
    from pathlib import Path
    from signal import Signals

    from pymongo.database import Database

    from bintrades.testing.exchange_simulator import ExchangeSimulator

    Frames = list[tuple[int, bytes]]

STREAMS = ("btcusdt@trade", "ethusdt@trade")


def cut(frames: Frames, seed: int, parts: int) -> list[Frames]:
    """Return the frames in consecutive parts of random lengths."""
    places = sorted(random.Random(seed).sample(range(1, len(frames)), parts - 1))
    return [
        frames[start:end] for start, end in zip([0, *places], [*places, len(frames)], strict=True)
    ]


def start(collector: Collector, exchange: ExchangeSimulator) -> None:
    """Start the collector and wait until it listens."""
    collector.start()
    exchange.wait_for_subscription(*STREAMS)


def end(collector: Collector, exchange: ExchangeSimulator, number: Signals) -> None:
    """End the process and see the exchange notice."""
    assert collector.stop(number) == (0 if number is SIGTERM else -SIGKILL)
    exchange.wait_for_connections(0)


def end_in_a_flood(
    collector: Collector, exchange: ExchangeSimulator, frames: Frames, number: Signals
) -> None:
    """End the process when about half of what is played at full speed is in the journal."""
    flood = threading.Thread(target=exchange.play, args=(frames,))
    flood.start()
    collector.wait_until(
        lambda: collector.trade_count() > len(frames) // 2,
        lambda: f"{collector.trade_count()} trades",
    )
    end(collector, exchange, number)
    flood.join(60)


def newest_ids(collector: Collector) -> dict[str, int]:
    """Return the newest trade id of each symbol in the journal."""
    return {symbol: bar.last_trade_id for (symbol, _), bar in collector.bars().items()}


def assert_stored(database: Database[dict[str, Any]], frames: Frames) -> None:
    stored = documents(database)
    assert len(stored) == BAR_COUNT
    assert_same_bars(in_the_trades(stored), expected_bars(frames))
    assert_only_the_first_and_last_are_incomplete(stored)


def test_sigterm_stores_the_open_bars_and_the_next_start_continues_them(
    recorded_frames: Frames,
    exchange: ExchangeSimulator,
    mongodb_database: Database[dict[str, Any]],
    mongodb_uri: str,
    tmp_path: Path,
) -> None:
    played: Frames = []
    store = to_mongodb(mongodb_uri, mongodb_database.name)
    with Collector(tmp_path, exchange, store) as collector:
        for part in cut(recorded_frames, seed=4, parts=3):
            start(collector, exchange)
            exchange.play(part)
            played += part
            collector.wait_for_trades(len(played))
            end(collector, exchange, SIGTERM)
            stored = in_the_trades(documents(mongodb_database))
            assert_same_bars(stored, expected_bars(played))

    assert_stored(mongodb_database, recorded_frames)


def test_kill_9_loses_nothing_that_was_checkpointed(
    recorded_frames: Frames,
    exchange: ExchangeSimulator,
    mongodb_database: Database[dict[str, Any]],
    mongodb_uri: str,
    tmp_path: Path,
) -> None:
    played: Frames = []
    store = to_mongodb(mongodb_uri, mongodb_database.name)
    with Collector(tmp_path, exchange, store) as collector:
        for part in cut(recorded_frames, seed=5, parts=3):
            start(collector, exchange)
            exchange.play(part)
            played += part
            collector.wait_for_trades(len(played))
            end(collector, exchange, SIGKILL)
        start(collector, exchange)
        end(collector, exchange, SIGTERM)

    assert_stored(mongodb_database, recorded_frames)


@pytest.mark.parametrize("number", [SIGTERM, SIGKILL])
def test_what_is_sent_again_after_an_end_in_a_flood_is_counted_once(
    number: Signals,
    recorded_frames: Frames,
    exchange: ExchangeSimulator,
    mongodb_database: Database[dict[str, Any]],
    mongodb_uri: str,
    tmp_path: Path,
) -> None:
    store = to_mongodb(mongodb_uri, mongodb_database.name)
    with Collector(tmp_path, exchange, store) as collector:
        start(collector, exchange)
        end_in_a_flood(collector, exchange, recorded_frames, number)
        start(collector, exchange)
        exchange.play(recorded_frames)
        collector.wait_for_trades(len(recorded_frames))
        end(collector, exchange, SIGTERM)

    assert_stored(mongodb_database, recorded_frames)


def test_what_kill_9_loses_is_a_gap_and_its_bars_are_incomplete(
    recorded_frames: Frames,
    exchange: ExchangeSimulator,
    mongodb_database: Database[dict[str, Any]],
    mongodb_uri: str,
    tmp_path: Path,
) -> None:
    # A hundred trades happen while nobody listens, should the rest all be saved when the end comes.
    first, second = recorded_frames[:20_000], recorded_frames[20_100:]
    expected = expected_bars(recorded_frames)
    store = to_mongodb(mongodb_uri, mongodb_database.name)
    with Collector(tmp_path, exchange, store) as collector:
        start(collector, exchange)
        end_in_a_flood(collector, exchange, first, SIGKILL)
        start(collector, exchange)
        exchange.play(second)
        newest = {symbol: bar["last_trade_id"] for (symbol, _), bar in expected.items()}
        collector.wait_until(
            lambda: newest_ids(collector) == newest,
            lambda: f"{newest_ids(collector)} instead of {newest}",
        )
        end(collector, exchange, SIGTERM)
        gaps = [gap for gaps in collector.journal.gaps().values() for gap in gaps]

    stored = documents(mongodb_database)
    lost_count = sum(gap.size for gap in gaps if gap.cause != "start")
    assert lost_count > 0
    assert sum(bar["trade_count"] for bar in stored) + lost_count == len(recorded_frames)
    complete = [bar for bar in stored if bar["is_complete"]]
    assert len(complete) > 60
    for key, bar in in_the_trades(complete).items():
        assert bar == expected[key]
