"""Whatever happens between the exchange and the collector, every trade is stored in the end."""

from __future__ import annotations

import random
import ssl
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from bintrades.net.tls import BUNDLE_VARIABLE
from bintrades.testing.exchange_simulator import ExchangeSimulator
from bintrades.testing.server_frames import encode_frame
from tests.end_to_end.machine.sitecustomize import HOSTS, SPEED
from tests.end_to_end.stage import (
    Stage,
    newest_connection,
    trade_requests,
    wait_for_subscription_after,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pymongo.database import Database

    from tests.end_to_end.collector import Collector, Sections
    from tests.end_to_end.market import Fields, Frame, Key

CLOSE_CODES = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 1013, 1014, 3000, 4000, None)
WATCHFUL: Sections = {"binance": {"silence_timeout": "1s"}}


def cut_in_the_middle_of_a_frame(exchange: ExchangeSimulator) -> None:
    exchange.send_encoded(encode_frame(b"half a frame")[:-3])
    exchange.cut_all()


def close_with(code: int | None) -> Callable[[ExchangeSimulator], None]:
    return lambda exchange: exchange.close_all(code)


ENDS: list[Callable[[ExchangeSimulator], None]] = [
    *map(close_with, CLOSE_CODES),
    lambda exchange: exchange.cut_all(),
    lambda exchange: exchange.reset_all(),
    cut_in_the_middle_of_a_frame,
]


def test_no_end_of_a_connection_loses_a_trade(stage: Stage) -> None:
    with finished(stage) as collector:
        for end in ENDS:
            stage.send(1_500)
            stage.wait_until_seen(collector)  # or the backoff would rightly grow
            number = newest_connection(stage.exchange)
            end(stage.exchange)
            stage.lose(300)
            wait_for_subscription_after(stage.exchange, number)


def test_no_trade_is_lost_while_connections_are_refused(stage: Stage) -> None:
    with finished(stage) as collector:
        stage.send(10_000)
        stage.wait_until_seen(collector)
        stage.exchange.refuse()
        stage.exchange.cut_all()
        stage.lose(10_000)
        collector.wait_for_log("ConnectionRefusedError", 2)
        stage.exchange.accept()
        stage.exchange.wait_for_subscription("btcusdt@trade", "ethusdt@trade")


@pytest.mark.parametrize("pings", [False, True], ids=["half open", "with pings only"])
def test_a_connection_that_brings_nothing_any_more_is_replaced(pings: bool, stage: Stage) -> None:
    stage.exchange.rules.ping_every_s = 0.5
    with finished(stage, WATCHFUL) as collector:
        stage.send(10_000)
        stage.wait_until_seen(collector)
        (dead,) = stage.exchange.connections
        dead.stall(pings=pings)
        stage.send(1_000)  # into the void
        wait_for_subscription_after(stage.exchange, dead.number)
        assert "no data for" in collector.log


def test_no_trade_is_lost_while_the_exchanges_names_cannot_be_resolved(
    stage: Stage, tmp_path: Path
) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("stream.exchange.test rest.exchange.test")
    urls: Sections = {
        "binance": {
            "stream_url": stage.exchange.stream_url.replace("127.0.0.1", "stream.exchange.test"),
            "rest_url": stage.exchange.rest_url.replace("127.0.0.1", "rest.exchange.test"),
        }
    }
    with finished(stage, urls, environ={HOSTS: str(hosts)}) as collector:
        stage.send(10_000)
        stage.wait_until_seen(collector)
        hosts.write_text("")
        stage.exchange.cut_all()
        stage.lose(10_000)
        collector.wait_for_log("Temporary failure in name resolution", 2)
        hosts.write_text("stream.exchange.test rest.exchange.test")
        stage.exchange.wait_for_subscription("btcusdt@trade", "ethusdt@trade")


def test_no_trade_is_lost_while_the_exchanges_certificate_is_not_to_be_trusted(
    recorded_frames: list[Frame],
    recorded_bars: dict[Key, Fields],
    mongodb_database: Database[dict[str, Any]],
    mongodb_uri: str,
    tmp_path: Path,
) -> None:
    trusted, stranger = trustme.CA(), trustme.CA()
    trusted.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trusted.issue_cert("127.0.0.1").configure_cert(tls)
    with ExchangeSimulator(tls=tls) as exchange:
        stage = Stage(
            recorded_frames, recorded_bars, exchange, mongodb_database, mongodb_uri, tmp_path
        )
        with finished(stage, environ={BUNDLE_VARIABLE: str(tmp_path / "ca.pem")}) as collector:
            stage.send(10_000)
            stage.wait_until_seen(collector)
            stranger.issue_cert("127.0.0.1").configure_cert(tls)
            exchange.cut_all()
            stage.lose(10_000)
            collector.wait_for_log("certificate verify failed", 2)
            trusted.issue_cert("127.0.0.1").configure_cert(tls)
            exchange.wait_for_subscription("btcusdt@trade", "ethusdt@trade")


def test_frames_that_vanish_are_fetched(stage: Stage) -> None:
    rng = random.Random(6)
    with finished(stage):
        while stage.played < 30_000:
            stage.send_some(1_000, share=0.95, rng=rng)


def test_a_symbol_that_trades_first_while_the_connection_is_lost_is_fetched(stage: Stage) -> None:
    with finished(stage) as collector:
        stage.exchange.mute("ethusdt@trade")
        stage.send(50)
        collector.wait_until(lambda: collector.trade_count() > 0, lambda: "nothing came")
        number = newest_connection(stage.exchange)
        stage.exchange.close_all(1001)
        stage.exchange.mute()
        stage.lose(5_000)
        wait_for_subscription_after(stage.exchange, number)


def test_a_stream_that_is_acknowledged_but_dead_is_found_out_while_others_deliver(
    stage: Stage,
) -> None:
    with finished(stage, environ={SPEED: "20"}) as collector:
        stage.send(10_000)
        stage.wait_until_seen(collector)
        stage.exchange.mute("ethusdt@trade")
        stage.send(10_000, speed=20)
        collector.wait_for_log("a stream is dead")
        stage.exchange.mute()
        stage.send(3_000, speed=20)
        assert most_often_asked_for(stage.exchange, b"ethusdt@trade") > 1


def most_often_asked_for(exchange: ExchangeSimulator, stream: bytes) -> int:
    """Return how often one connection asked for a stream, of that which did so most often."""
    asked = Counter(
        each.connection
        for each in exchange.received
        if b'"SUBSCRIBE"' in each.payload and stream in each.payload
    )
    return max(asked.values())


@contextmanager
def finished(
    stage: Stage, *sections: Sections, environ: dict[str, str] | None = None
) -> Iterator[Collector]:
    """Run a collector through an accident, then through the rest of the market, and look."""
    with stage.collector(*sections, environ=environ) as collector:
        stage.start(collector)
        yield collector
        assert collector.log.count("connected") > 0
        stage.send_rest()
        stage.wait_until_whole(collector)
        assert trade_requests(stage.exchange)
        assert collector.stop() == 0
        assert collector.messages("ERROR") == []
    stage.assert_stored()
