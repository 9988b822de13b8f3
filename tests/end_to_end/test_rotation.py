"""Connections are replaced, or doubled, so that no trade has to be fetched at all."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.end_to_end.machine.sitecustomize import CLOCK, SPEED
from tests.end_to_end.stage import (
    let_pass,
    market_going_on,
    trade_requests,
    wait_for_subscription_after,
    wait_for_subscriptions,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bintrades.testing.stream_connection import StreamConnection
    from tests.end_to_end.collector import Collector, Sections
    from tests.end_to_end.stage import Stage

FAST = {SPEED: "5"}
"""So that connections overlap for a second instead of five."""


@contextmanager
def collecting_without_rest(
    stage: Stage, sections: Sections, environ: dict[str, str] | None = None
) -> Iterator[Collector]:
    """Play the market, of which only the very beginning may be asked for over REST."""
    redundancy = int(str(sections.get("binance", {}).get("redundancy", 1)))
    with stage.collector(sections, environ=environ) as collector:
        stage.start(collector)
        # One that comes later may be read first, and has trades of the next interval alone.
        wait_for_subscriptions(stage.exchange, redundancy)
        stage.send(1_000)
        stage.wait_until_whole(collector)
        for_the_beginning = trade_requests(stage.exchange)
        yield collector
        stage.send_rest()
        stage.wait_until_whole(collector)
        assert collector.stop() == 0
        assert trade_requests(stage.exchange) == for_the_beginning
    stage.assert_stored()


def test_rotation_loses_nothing_even_for_a_moment(stage: Stage) -> None:
    rotating: Sections = {"binance": {"rotate_after": "10s"}}
    with (
        collecting_without_rest(stage, rotating, FAST),
        market_going_on(stage, seconds=5),
    ):
        wait_for_the_next(stage)
        wait_for_the_next(stage)


def test_an_announced_end_loses_nothing_even_for_a_moment(stage: Stage) -> None:
    with (
        collecting_without_rest(stage, {}, FAST),
        market_going_on(stage, seconds=3),
    ):
        stage.exchange.server_shutdown()
        wait_for_the_next(stage)


def test_an_announced_end_is_answered_though_the_local_clock_was_set_back(
    stage: Stage, tmp_path: Path
) -> None:
    clock = tmp_path / "clock"
    clock.write_text("0")
    with (
        collecting_without_rest(stage, {}, {**FAST, CLOCK: str(clock)}),
        market_going_on(stage, seconds=3),
    ):
        clock.write_text("-3600")
        stage.exchange.server_shutdown()
        wait_for_the_next(stage)


def wait_for_the_next(stage: Stage) -> None:
    """Wait until a connection has taken over from the oldest."""
    old = stage.exchange.connections[0]
    wait_for_subscription_after(stage.exchange, old.number)
    assert old.is_open, "the new connection must be there before the old one goes"
    wait_until_gone(stage, old)


def test_the_cut_after_24_hours_is_repaired_where_it_comes_unannounced(stage: Stage) -> None:
    with stage.collector({"binance": {"rotate_after": "24h"}}) as collector:
        stage.start(collector)
        with market_going_on(stage, seconds=3):
            for _ in range(3):
                (old,) = stage.exchange.connections
                stage.exchange.close_all(1001, "24 hours")
                wait_for_subscription_after(stage.exchange, old.number)
                let_pass(0.3, collector)
        stage.send_rest()
        stage.wait_until_whole(collector)
        assert collector.stop() == 0

    stage.assert_stored()


LOSSES: list[Callable[[StreamConnection], None]] = [
    lambda connection: connection.cut(),
    lambda connection: connection.reset(),
    lambda connection: connection.close(1000),
    lambda connection: connection.close(1008, "Pong timeout"),
]


def test_with_redundancy_the_loss_of_either_connection_costs_no_request(stage: Stage) -> None:
    with (
        collecting_without_rest(stage, {"binance": {"redundancy": 2}}) as collector,
        market_going_on(stage, seconds=5),
    ):
        for lose in LOSSES:
            wait_for_subscriptions(stage.exchange, 2)
            let_pass(0.2, collector)  # what the other one still carries alone has arrived
            oldest = stage.exchange.connections[0]
            lose(oldest)
            wait_until_gone(stage, oldest)
            wait_for_subscription_after(stage.exchange, oldest.number)


def wait_until_gone(stage: Stage, connection: StreamConnection) -> None:
    stage.exchange.wait_until(lambda: not connection.is_open, timeout_s=120)
