"""The market goes on while the collector is away; it comes back and no bar shows it."""

from __future__ import annotations

import random
from signal import SIGKILL, SIGTERM
from typing import TYPE_CHECKING, Any

from tests.end_to_end.market import assert_same_bars, documents, in_the_trades
from tests.end_to_end.stage import let_pass, market_going_on, trade_requests, wait_for_subscriptions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from signal import Signals

    from pymongo.database import Database

    from tests.end_to_end.collector import Collector, Sections
    from tests.end_to_end.stage import Stage


def end(collector: Collector, number: Signals) -> None:
    assert collector.stop(number) == (0 if number is SIGTERM else -SIGKILL)


def test_ten_kills_at_any_moment_during_one_recording_lose_and_double_nothing(
    stage: Stage,
) -> None:
    rng = random.Random(7)
    with stage.collector() as collector:
        stage.start(collector)
        with market_going_on(stage, seconds=5):
            for _ in range(10):
                let_pass(rng.uniform(0, 1.0), collector)
                end(collector, SIGKILL)
                collector.start()
        end_of_the_market(stage, collector)

    stage.assert_stored()


def test_no_restart_loses_what_the_market_did_meanwhile(stage: Stage) -> None:
    rng = random.Random(8)
    with stage.collector() as collector:
        stage.start(collector)
        with market_going_on(stage, seconds=5):
            for _ in range(3):
                let_pass(rng.uniform(0, 0.6), collector)
                end(collector, SIGTERM)
                stage.exchange.wait_for_connections(0)
                stage.start(collector)
        end_of_the_market(stage, collector)

    stage.assert_stored()


def end_of_the_market(stage: Stage, collector: Collector) -> None:
    """Have the last trades sent, and the collector stopped when it has everything."""
    wait_for_subscriptions(stage.exchange, 1)
    stage.send_rest()
    stage.wait_until_whole(collector)
    assert trade_requests(stage.exchange)
    assert collector.stop() == 0
    assert collector.messages("ERROR") == []


VICTIMS = [(0, SIGKILL), (1, SIGTERM), (1, SIGKILL)]
"""Which of two collectors ends when, and how."""


def end_in_turn(stage: Stage, collectors: Sequence[Collector], seed: int) -> None:
    """Play the market to two collectors of which one is always there, and misses something."""
    rng = random.Random(seed)
    for collector in collectors:
        collector.start()
    wait_for_subscriptions(stage.exchange, 2)
    part = len(stage.frames) // (len(VICTIMS) + 1)
    for number, how in VICTIMS:
        with market_going_on(stage, seconds=5, count=part):
            let_pass(rng.uniform(0.3, 0.8), *collectors)
            end(collectors[number], how)
        stage.send(300)
        collectors[number].start()
        wait_for_subscriptions(stage.exchange, 2)
    stage.send_rest()


def test_two_collectors_fill_one_database_whatever_happens_to_each(stage: Stage) -> None:
    with stage.collector(name="first") as first, stage.collector(name="second") as second:
        end_in_turn(stage, (first, second), seed=8)
        for collector in (first, second):
            stage.wait_until_whole(collector)
            assert collector.stop() == 0

    stage.assert_stored()


def test_what_one_collector_lacks_for_good_the_other_brings(
    stage: Stage, mongodb_database: Database[dict[str, Any]]
) -> None:
    stage.played = 0  # here nothing happens before somebody listens
    off: Sections = {"repair": {"enabled": "no"}}
    with stage.collector(off, name="first") as first, stage.collector(off, name="second") as second:
        end_in_turn(stage, (first, second), seed=9)
        for collector in (first, second):
            stage.wait_until_seen(collector)
            assert collector.stop() == 0
            assert collector.trade_count() < len(stage.frames)

    assert trade_requests(stage.exchange) == []
    stored = in_the_trades(documents(mongodb_database))
    assert_same_bars(stored, stage.bars)
