"""Whatever happens to the connection, collecting goes on, and every bar tells the truth."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from bintrades.testing.exchange_simulator import ExchangeSimulator
from bintrades.testing.server_frames import encode_frame
from tests.end_to_end.collector import Collector, to_mongodb
from tests.end_to_end.market import documents
from tests.servers import HttpProxy, SocksProxy, server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pymongo.database import Database

    from tests.end_to_end.collector import Sections

START_MS = 1_720_000_000_000
STREAM = "btcusdt@trade"
WATCHFUL: Sections = {"binance": {"silence_timeout": "1s"}}


def refuse_for_a_while(exchange: ExchangeSimulator) -> None:
    exchange.refuse()
    exchange.cut_all()
    exchange.accept()


def answer_with_503_for_a_while(exchange: ExchangeSimulator) -> None:
    exchange.handshake_status(503, times=2)
    exchange.cut_all()


def cut_in_the_middle_of_a_frame(exchange: ExchangeSimulator) -> None:
    exchange.send_encoded(encode_frame(b"half a frame")[:-3])
    exchange.cut_all()


def announce_the_end_and_close(exchange: ExchangeSimulator) -> None:
    exchange.server_shutdown()
    exchange.close_all(1001, "going away")


ACCIDENTS: list[Callable[[ExchangeSimulator], None]] = [
    lambda exchange: exchange.close_all(1000),
    lambda exchange: exchange.close_all(1008, "Pong timeout"),
    lambda exchange: exchange.close_all(None),
    lambda exchange: exchange.cut_all(),
    lambda exchange: exchange.reset_all(),
    lambda exchange: exchange.send_encoded(b"\xff\xff nothing of RFC 6455"),
    cut_in_the_middle_of_a_frame,
    announce_the_end_and_close,
    refuse_for_a_while,
    answer_with_503_for_a_while,
]


def test_every_accident_is_followed_by_another_connection(
    exchange: ExchangeSimulator, tmp_path: Path
) -> None:
    with Collector(tmp_path, exchange) as collector:
        collector.start()
        exchange.wait_for_subscription(STREAM)
        for count, accident in enumerate(ACCIDENTS, 1):
            number = exchange.connections[0].number
            exchange.publish("BTCUSDT", "60000", "0.1", time_ms=START_MS + count)
            collector.wait_for_trades(count)
            accident(exchange)
            wait_for_a_subscription_after(exchange, number)
        assert collector.stop() == 0

        (bar,) = collector.bars().values()
        assert (bar.trade_count, bar.quantity) == (len(ACCIDENTS), Decimal("1.0"))
        assert collector.messages("ERROR") == []


def wait_for_a_subscription_after(exchange: ExchangeSimulator, number: int) -> None:
    """Wait until a connection younger than that one is subscribed."""
    exchange.wait_until(
        lambda: any(
            each.number > number and STREAM in each.streams for each in exchange.connections
        ),
        timeout_s=120,
    )


def test_a_stream_that_is_acknowledged_but_never_delivers_is_asked_for_again(
    exchange: ExchangeSimulator, tmp_path: Path
) -> None:
    exchange.mute(STREAM, "ethusdt@trade")
    with Collector(tmp_path, exchange, WATCHFUL) as collector:
        collector.start()
        collector.wait_for_log("though the connection is open", 2)
        exchange.mute()
        exchange.wait_for_subscription(STREAM)
        collector.wait_until(
            lambda: trade_until_stored(exchange, collector), lambda: "no trade came"
        )
        assert collector.stop() == 0


def trade_until_stored(exchange: ExchangeSimulator, collector: Collector) -> bool:
    exchange.publish("BTCUSDT", "60000", "0.1", time_ms=START_MS)
    return collector.trade_count() > 0


def test_trades_lost_with_a_connection_are_a_gap_until_they_come(
    exchange: ExchangeSimulator,
    mongodb_database: Database[dict[str, Any]],
    mongodb_uri: str,
    tmp_path: Path,
) -> None:
    store = to_mongodb(mongodb_uri, mongodb_database.name)
    with Collector(tmp_path, exchange, store) as collector:
        collector.start()
        exchange.wait_for_subscription(STREAM)
        exchange.publish("BTCUSDT", "1", "0.1", time_ms=START_MS)
        exchange.publish("BTCUSDT", "2", "0.1", time_ms=START_MS + 10_000)
        collector.wait_for_trades(2)
        exchange.close_all(1000)
        lost = exchange.record("BTCUSDT", "3", "0.2", time_ms=START_MS + 11_000)
        exchange.wait_for_subscription(STREAM)
        exchange.publish("BTCUSDT", "4", "0.1", time_ms=START_MS + 20_000)
        exchange.publish("BTCUSDT", "5", "0.1", time_ms=START_MS + 30_500)
        collector.wait_until(
            lambda: states(mongodb_database)[1:2] == [(1, False, 1)],
            lambda: f"{states(mongodb_database)}",
        )

        exchange.publish_trades([lost])
        collector.wait_until(
            lambda: states(mongodb_database)[1:3] == [(2, True, 2), (1, True, 2)],
            lambda: f"{states(mongodb_database)}",
        )
        assert collector.stop() == 0

    bar = documents(mongodb_database)[1]
    assert bar["quantity"] == Decimal("0.3")
    assert (bar["close_price"], bar["max_price"]) == (3, 3)


def states(database: Database[dict[str, Any]]) -> list[tuple[int, bool, int]]:
    """Return trade count, completeness and version of every bar."""
    return [(bar["trade_count"], bar["is_complete"], bar["version"]) for bar in documents(database)]


def test_the_bar_of_a_symbol_that_falls_silent_closes_by_the_exchanges_clock(
    exchange: ExchangeSimulator,
    mongodb_database: Database[dict[str, Any]],
    mongodb_uri: str,
    tmp_path: Path,
) -> None:
    """Its clock is a minute behind the other's, which is no reason to close its bar early."""
    store = to_mongodb(mongodb_uri, mongodb_database.name)
    with Collector(tmp_path, exchange, store) as collector:
        collector.start()
        exchange.wait_for_subscription(STREAM, "ethusdt@trade")
        exchange.publish("BTCUSDT", "60000", "1", time_ms=START_MS + 60_000)
        exchange.publish("ETHUSDT", "2600", "1", time_ms=START_MS)
        exchange.publish("BTCUSDT", "60000", "1", time_ms=START_MS + 65_000)
        let_pass(1.0, collector)
        exchange.publish("ETHUSDT", "2600", "1", time_ms=START_MS + 6_000)
        exchange.publish("BTCUSDT", "60000", "1", time_ms=START_MS + 70_500)
        collector.wait_until(
            lambda: len(documents(mongodb_database)) == 2,
            lambda: f"{documents(mongodb_database)}",
        )
        bitcoin, ether = documents(mongodb_database)
        assert collector.stop() == 0

    for bar in (bitcoin, ether):
        assert (bar["trade_count"], bar["is_closed"], bar["version"]) == (2, True, 1)


def test_bars_do_not_close_while_nothing_is_connected(
    exchange: ExchangeSimulator, tmp_path: Path
) -> None:
    with Collector(tmp_path, exchange) as collector:
        collector.start()
        exchange.wait_for_subscription(STREAM)
        exchange.publish("BTCUSDT", "60000", "1", time_ms=START_MS + 9_000)
        collector.wait_for_trades(1)
        exchange.refuse()
        exchange.cut_all()
        let_pass(2.0, collector)

        (bar,) = collector.bars().values()
        assert not bar.is_closed
        assert collector.stop() == 0


def let_pass(seconds: float, collector: Collector) -> None:
    """Let time go by, which is what a silence is made of."""
    until = time.monotonic() + seconds
    collector.wait_until(lambda: time.monotonic() > until, lambda: "time stands still")


def test_a_connection_that_only_pings_is_replaced_after_the_silence_timeout_again_and_again(
    tmp_path: Path,
) -> None:
    with ExchangeSimulator() as exchange, Collector(tmp_path, exchange, WATCHFUL) as collector:
        collector.start()
        exchange.wait_for_subscription(STREAM)
        took_s = [stalled_for_s(exchange, collector, count) for count in (1, 2)]

    assert max(took_s) < 5


def stalled_for_s(exchange: ExchangeSimulator, collector: Collector, count: int) -> float:
    """Return how long a stalled connection was kept, after *count* trades in all."""
    exchange.publish("BTCUSDT", "1", "1", time_ms=START_MS + count)
    collector.wait_for_trades(count)
    stalled = exchange.connections[0]
    stalled.stall(pings=True)
    started = time.monotonic()
    exchange.wait_until(
        lambda: any(
            client.number > stalled.number and STREAM in client.streams
            for client in exchange.connections
        ),
        60,
    )
    return time.monotonic() - started


@pytest.mark.parametrize("kind", [HttpProxy, SocksProxy])
def test_streams_and_rest_go_through_one_proxy_of_the_environment(
    kind: type[HttpProxy | SocksProxy], tmp_path: Path
) -> None:
    """Neither name can be resolved here: only the proxy knows them."""
    scheme = "http" if kind is HttpProxy else "socks5"
    sections: Sections = {
        "binance": {"stream_url": "ws://stream.invalid", "rest_url": "http://rest.invalid"},
        "symbols": {"include": "BTCUSDT*"},  # a pattern needs the exchange's list
        "repair": {"enabled": "yes"},
    }
    with ExchangeSimulator() as exchange:
        targets = {
            "stream.invalid": int(exchange.stream_url.rpartition(":")[2]),
            "rest.invalid": int(exchange.rest_url.rpartition(":")[2]),
        }
        with server(kind(targets).serve) as port:
            environ = {"ALL_PROXY": f"{scheme}://127.0.0.1:{port}"}
            with Collector(tmp_path, exchange, sections, environ=environ) as collector:
                assert collector.command("check").returncode == 0
                collector.start()
                exchange.wait_for_subscription(STREAM)
                exchange.publish("BTCUSDT", "1", "1")
                exchange.record("BTCUSDT", "1", "1")  # only REST has it
                exchange.publish("BTCUSDT", "1", "1")
                collector.wait_for_trades(3)
                assert collector.stop() == 0
