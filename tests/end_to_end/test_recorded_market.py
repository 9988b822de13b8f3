"""Eleven minutes of a recorded market, played to the real process, become exactly its bars."""

from __future__ import annotations

import json
import random
import ssl
from collections import Counter
from typing import TYPE_CHECKING

import pytest
import trustme

from bintrades.net.tls import BUNDLE_VARIABLE
from bintrades.testing.exchange_simulator import ExchangeSimulator
from bintrades.testing.recordings import read_recording
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
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from pymongo.database import Database

    from tests.recordings import Recording

    Frames = list[tuple[int, bytes]]

STREAMS = ("btcusdt@trade", "ethusdt@trade")
TRADE = b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDT"%b}}'
BAD = (
    b"Pong timeout",
    b"",
    b"{",
    b"\xff\xfe\x00",
    TRADE % b"",
    TRADE % b',"t":4000000000,"p":"NaN","q":"1","T":1723161255342,"m":true',
    TRADE % b',"t":4000000000,"p":"-1","q":"1","T":1723161255342,"m":true',
    TRADE % b',"t":4000000000,"p":"1","q":"1","T":1723161255342000000,"m":true',
)
UNKNOWN = (
    b"null",
    b"[1, 2, 3]",
    b'{"stream":"btcusdt@trade","data":{"e":"tirade","E":1723161255343,"s":"BTCUSDT","t":1}}',
)
ANSWERS = (b'{"result":null,"id":99}', b'{"code":0,"msg":"Unknown property"}')
FOREIGN = (
    b'{"stream":"dogeusdt@trade","data":{"e":"trade","E":1723161255343,"s":"DOGEUSDT","t":7'
    b',"p":"1","q":"1","T":1723161255342,"m":true,"M":true}}',
)


def as_recorded(frames: Frames) -> Frames:
    return frames


def every_frame_twice(frames: Frames) -> Frames:
    return [frame for frame in frames for _ in range(2)]


def neighbours_swapped(frames: Frames) -> Frames:
    pairs = zip(frames[1::2], frames[::2], strict=False)
    return [*(frame for pair in pairs for frame in pair), *frames[len(frames) // 2 * 2 :]]


@pytest.mark.parametrize("change", [as_recorded, every_frame_twice, neighbours_swapped])
def test_every_bar_equals_the_one_computed_from_the_recording(
    change: Callable[[Frames], Frames],
    recorded_frames: Frames,
    exchange: ExchangeSimulator,
    mongodb_database: Database[dict[str, Any]],
    mongodb_uri: str,
    tmp_path: Path,
) -> None:
    store = to_mongodb(mongodb_uri, mongodb_database.name)
    with Collector(tmp_path, exchange, store) as collector:
        play_and_stop(collector, exchange, change(recorded_frames), len(recorded_frames))

    assert_stored(mongodb_database, recorded_frames)


@pytest.mark.parametrize("is_encrypted", [False, True], ids=["plain", "over TLS"])
def test_frames_cut_at_random_byte_positions_make_the_same_bars(
    is_encrypted: bool,
    recorded_frames: Frames,
    mongodb_database: Database[dict[str, Any]],
    mongodb_uri: str,
    tmp_path: Path,
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    store = to_mongodb(mongodb_uri, mongodb_database.name)
    environ = {BUNDLE_VARIABLE: str(tmp_path / "ca.pem")}
    with (
        ExchangeSimulator(tls=tls if is_encrypted else None) as exchange,
        Collector(tmp_path, exchange, store, environ=environ) as collector,
    ):
        exchange.split_writes(seed=3)
        play_and_stop(collector, exchange, recorded_frames, len(recorded_frames))

    assert_stored(mongodb_database, recorded_frames)


def test_junk_between_the_trades_costs_only_itself_and_does_not_flood_the_log(
    recorded_frames: Frames,
    exchange: ExchangeSimulator,
    mongodb_database: Database[dict[str, Any]],
    mongodb_uri: str,
    tmp_path: Path,
) -> None:
    rng = random.Random(2)
    mixed: list[tuple[int, bytes]] = []
    for frame in recorded_frames:
        mixed.append(frame)
        if rng.random() < 0.05:
            mixed.append((frame[0], rng.choice([*BAD, *UNKNOWN, *ANSWERS, *FOREIGN])))
    store = to_mongodb(mongodb_uri, mongodb_database.name)
    with Collector(tmp_path, exchange, store) as collector:
        play_and_stop(collector, exchange, mixed, len(recorded_frames))
        figures = collector.status()
        log_lines = collector.events

    assert_stored(mongodb_database, recorded_frames)
    payloads = Counter(payload for _, payload in mixed)
    assert figures["bad_messages"] == sum(payloads[bad] for bad in BAD)
    assert figures["unknown_messages"] == sum(payloads[unknown] for unknown in UNKNOWN)
    assert figures["foreign_trades"] == sum(payloads[foreign] for foreign in FOREIGN)
    assert len(log_lines) < 50


def test_a_whole_session_with_depth_and_tickers_among_the_trades_makes_the_same_bars(
    recorded: Recording,
    recorded_frames: Frames,
    exchange: ExchangeSimulator,
    mongodb_database: Database[dict[str, Any]],
    mongodb_uri: str,
    tmp_path: Path,
) -> None:
    session = list(read_recording(*recorded.session))
    noise_count = len(session) - len(recorded_frames)
    store = to_mongodb(mongodb_uri, mongodb_database.name)
    with Collector(tmp_path, exchange, store) as collector:
        play_and_stop(collector, exchange, session, len(recorded_frames))
        figures = collector.status()

    assert_stored(mongodb_database, recorded_frames)
    assert noise_count > 30_000
    assert (figures["unknown_messages"], figures["bad_messages"]) == (noise_count, 0)


def test_clocks_that_differ_by_seconds_do_not_disturb_each_other(
    recorded_frames: Frames,
    exchange: ExchangeSimulator,
    mongodb_database: Database[dict[str, Any]],
    mongodb_uri: str,
    tmp_path: Path,
) -> None:
    """With a clock for all, ETHUSDT would close each bar of BTCUSDT four seconds early.

    Played at two hundred times the speed, so that the journal is written in those seconds.
    """
    shifted = [(time_ns, ahead(frame, ms=7_000)) for time_ns, frame in recorded_frames]
    grace = {"bars": {"grace": "3s"}}  # so that a pause of the test itself closes no bar
    store = to_mongodb(mongodb_uri, mongodb_database.name)
    with Collector(tmp_path, exchange, store, grace) as collector:
        play_and_stop(collector, exchange, shifted, len(shifted), speed=200)

    stored = documents(mongodb_database)
    assert_same_bars(in_the_trades(stored), expected_bars(shifted))
    assert_only_the_first_and_last_are_incomplete(stored)
    assert {bar["version"] for bar in stored} == {1}


def ahead(frame: bytes, ms: int) -> bytes:
    """Return the frame with the times of ETHUSDT moved into the future."""
    message = json.loads(frame)
    if message["data"]["s"] == "ETHUSDT":
        message["data"]["E"] += ms
        message["data"]["T"] += ms
    return json.dumps(message).encode()


def play_and_stop(
    collector: Collector,
    exchange: ExchangeSimulator,
    frames: Frames,
    trade_count: int,
    *,
    speed: float | None = None,
) -> None:
    """Play, by default as fast as can be; stop when all trades are in the journal."""
    collector.start()
    exchange.wait_for_subscription(*STREAMS)
    exchange.play(frames, speed, to_everybody=True)
    collector.wait_for_trades(trade_count)
    assert collector.stop() == 0


def assert_stored(database: Database[dict[str, Any]], frames: Frames) -> None:
    stored = documents(database)
    expected = expected_bars(frames)
    assert len(expected) == BAR_COUNT
    assert_same_bars(in_the_trades(stored), expected)
    assert_only_the_first_and_last_are_incomplete(stored)
    last = dict(sorted(expected))  # by symbol: the recording ends in the middle of it
    for bar in stored:
        assert bar["is_closed"] or bar["open_time"] == last[bar["symbol"]]
