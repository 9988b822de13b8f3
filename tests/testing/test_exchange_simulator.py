"""The simulator keeps to the exchange's documented protocol, and misbehaves only when told to."""

from __future__ import annotations

import gzip
import json
import random
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from decimal import Decimal
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

import pytest
import trustme
import urllib3
import websocket
from hypothesis import given
from hypothesis import strategies as st
from websocket import ABNF

from bintrades.testing.exchange_simulator import ExchangeSimulator, combined_payload
from bintrades.testing.recordings import generate_trades, read_recording
from bintrades.testing.server_frames import encode_frame
from bintrades.testing.simulated_market import SimulatedMarket, SimulatedTrade

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BTC, ETH = "btcusdt@trade", "ethusdt@trade"


@pytest.fixture
def exchange() -> Iterator[ExchangeSimulator]:
    with ExchangeSimulator(messages_per_second=None) as simulator:
        yield simulator


@contextmanager
def connected(url: str, **options: Any) -> Iterator[Any]:
    """Yield a client, typed as Any because the library's own annotations are incomplete."""
    ws: Any = websocket.create_connection(url, timeout=10, **options)
    try:
        yield ws
    finally:
        ws.shutdown()


@contextmanager
def client(exchange: ExchangeSimulator, path: str = "/stream") -> Iterator[Any]:
    known = {each.number for each in exchange.connections}
    with connected(exchange.stream_url + path) as ws:
        exchange.wait_until(lambda: any(c.number not in known for c in exchange.connections), 10)
        yield ws


def ask(ws: websocket.WebSocket, **message: Any) -> Any:
    ws.send(json.dumps(message, ensure_ascii=False))
    return receive(ws)


def receive(ws: websocket.WebSocket) -> Any:
    return json.loads(ws.recv())


def receive_close(ws: websocket.WebSocket) -> tuple[int, str]:
    while True:
        opcode, data = ws.recv_data()
        if opcode == ABNF.OPCODE_CLOSE:
            return int.from_bytes(data[:2], "big"), data[2:].decode()


def get(exchange: ExchangeSimulator, path: str, **params: Any) -> urllib3.BaseHTTPResponse:
    return get_from(exchange.rest_url, path, **params)


def get_from(rest_url: str, path: str, **params: Any) -> urllib3.BaseHTTPResponse:
    url = f"{rest_url}/api/v3/{path}"
    with urllib3.PoolManager(retries=False) as pool:
        return pool.request("GET", url, fields=params, timeout=10, retries=False)


def trade(
    trade_id: int,
    time_ms: int = 1000,
    price: str = "1",
    quantity: str = "2",
    symbol: str = "BTCUSDT",
) -> Any:
    return SimulatedTrade(symbol, trade_id, price, quantity, time_ms, time_ms, False)


def test_combined_stream_wraps_each_trade_with_its_name(exchange: ExchangeSimulator) -> None:
    with client(exchange, f"/stream?streams={BTC}/{ETH}") as ws:
        exchange.publish("BTCUSDT", "61837.63000000", Decimal("0.02"), time_ms=7, event_time_ms=9)
        assert ws.recv() == (
            '{"stream":"btcusdt@trade","data":{"e":"trade","E":9,"s":"BTCUSDT","t":1,'
            '"p":"61837.63000000","q":"0.02","T":7,"m":false,"M":true}}'
        )


def test_raw_stream_is_bare(exchange: ExchangeSimulator) -> None:
    with client(exchange, f"/ws/{BTC}/{ETH}") as ws:
        exchange.publish("ETHUSDT", 5, 2, buyer_is_maker=True)
        message = receive(ws)
        assert (message["s"], message["p"], message["m"]) == ("ETHUSDT", "5", True)


def test_trades_reach_only_their_subscribers_in_the_order_of_ids(
    exchange: ExchangeSimulator,
) -> None:
    with client(exchange) as ws:
        assert ask(ws, method="SUBSCRIBE", params=[BTC], id=1) == {"result": None, "id": 1}
        exchange.publish("ETHUSDT", 1, 1)
        for _ in range(3):
            exchange.publish("BTCUSDT", 1, 1)
        assert [receive(ws)["data"]["t"] for _ in range(3)] == [1, 2, 3]
        ask(ws, method="UNSUBSCRIBE", params=[BTC, "never@trade"], id=2)
        exchange.publish("BTCUSDT", 1, 1)
        assert ask(ws, method="LIST_SUBSCRIPTIONS", id=3) == {"result": [], "id": 3}


def test_symbols_beyond_ascii_are_lowered_only_in_their_ascii_letters() -> None:
    with ExchangeSimulator(("币安人生USDT",)) as exchange:
        with client(exchange) as ws:
            ask(ws, method="SUBSCRIBE", params=["币安人生usdt@trade"], id=1)
            exchange.publish("币安人生USDT", 1, 1)
            assert receive(ws)["stream"] == "币安人生usdt@trade"
        quoted = "/stream?streams=%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9Fusdt@trade"
        with client(exchange, quoted) as ws:
            exchange.publish("币安人生USDT", 1, 1)
            assert receive(ws)["data"]["s"] == "币安人生USDT"
        assert len(get(exchange, "historicalTrades", symbol="币安人生USDT").json()) == 2


def test_unknown_names_are_acknowledged_and_listed_and_stay_silent(
    exchange: ExchangeSimulator,
) -> None:
    with client(exchange) as ws:
        names = ["BTCUSDT@trade", "nonsense"]
        assert ask(ws, method="SUBSCRIBE", params=names, id="a1") == {"result": None, "id": "a1"}
        exchange.publish("BTCUSDT", 1, 1)
        assert ask(ws, method="LIST_SUBSCRIPTIONS", id=None) == {"result": names, "id": None}


def test_property_combined_switches_the_wrapping(exchange: ExchangeSimulator) -> None:
    with client(exchange, f"/ws/{BTC}") as ws:
        assert ask(ws, method="GET_PROPERTY", params=["combined"], id=1)["result"] is False
        ask(ws, method="SET_PROPERTY", params=["combined", True], id=2)
        exchange.publish("BTCUSDT", 1, 1)
        assert receive(ws)["stream"] == BTC


@pytest.mark.parametrize(
    ("message", "code", "text"),
    [
        ({"method": "SET_PROPERTY", "params": ["colour", True], "id": 1}, 0, "Unknown property"),
        ({"method": "SET_PROPERTY", "params": ["combined", 1], "id": 1}, 1, "expected Boolean"),
        ({"method": "FLY", "id": 1}, 2, "unknown variant `FLY`"),
        ({"id": 1}, 2, "missing field `method`"),
        ({"method": "SUBSCRIBE", "id": 1}, 2, "missing field `params`"),
        ({"method": "SUBSCRIBE", "params": [1], "id": 1}, 2, "invalid stream"),
        ({"method": "GET_PROPERTY", "params": ["combined", 1], "id": 1}, 2, "too many parameters"),
        ({"method": "LIST_SUBSCRIPTIONS", "id": 1.5}, 2, "request ID"),
    ],
)
def test_errors_come_in_both_shapes(message: dict[str, Any], code: int, text: str) -> None:
    with ExchangeSimulator(messages_per_second=None) as exchange, client(exchange) as ws:
        nested = ask(ws, **message)
        exchange.rules.error_shape = "flat"
        flat = ask(ws, **message)
    assert nested["error"]["code"] == flat["code"] == code
    assert text in nested["error"]["msg"]
    assert nested.get("id") == flat.get("id") == (1 if message["id"] == 1 else None)


def test_what_is_not_json_is_error_3_without_an_id(exchange: ExchangeSimulator) -> None:
    with client(exchange) as ws:
        ws.send("ping")
        assert receive(ws) == {
            "error": {"code": 3, "msg": "Invalid JSON: expected value at line 1 column 1"}
        }


def test_message_over_4096_bytes_is_neither_obeyed_nor_answered(
    exchange: ExchangeSimulator,
) -> None:
    def padded(size: int) -> str:
        message = {"method": "SUBSCRIBE", "params": [BTC], "id": 1}
        return json.dumps(message).ljust(size)

    with client(exchange) as ws:
        ws.send(padded(4097))
        assert ask(ws, method="LIST_SUBSCRIPTIONS", id=2) == {"result": [], "id": 2}
        ws.send(padded(4096))
        assert receive(ws) == {"result": None, "id": 1}


def test_sixth_message_within_a_second_costs_the_connection() -> None:
    with ExchangeSimulator() as exchange, client(exchange) as ws:
        for number in range(4):
            ask(ws, method="LIST_SUBSCRIPTIONS", id=number)
        ws.pong("")
        ws.ping("x")
        assert receive_close(ws) == (1008, "Too many requests")
        exchange.wait_for_connections(0)


def test_1025th_stream_is_refused_and_costs_the_connection(exchange: ExchangeSimulator) -> None:
    with client(exchange) as ws:
        for start in range(0, 1024, 256):
            names = [f"s{number}@trade" for number in range(start, start + 256)]
            assert ask(ws, method="SUBSCRIBE", params=names, id=1)["result"] is None
        assert ask(ws, method="SUBSCRIBE", params=[BTC], id=19) == {
            "error": {"code": 4, "msg": "Too many subscriptions"},
            "id": 19,
        }
        assert receive_close(ws) == (1008, "Invalid request")


def test_unanswered_ping_costs_the_connection_whatever_else_comes() -> None:
    with (
        ExchangeSimulator(
            ping_every_s=0.1, pong_deadline_s=0.3, messages_per_second=None
        ) as exchange,
        client(exchange) as ws,
    ):
        pings = []
        while (frame := ws.recv_frame()).opcode == ABNF.OPCODE_PING:  # which leaves pings to us
            pings.append(int(frame.data))
            ws.pong(b"unsolicited")
            assert len(pings) < 20
        assert (frame.opcode, frame.data[2:]) == (ABNF.OPCODE_CLOSE, b"Pong timeout")
        assert abs(pings[0] - time.time() * 1000) < 5000


def test_client_that_answers_pings_is_kept() -> None:
    with (
        ExchangeSimulator(
            ping_every_s=0.05, pong_deadline_s=0.2, messages_per_second=None
        ) as exchange,
        client(exchange, f"/stream?streams={BTC}") as ws,
    ):
        reader = threading.Thread(target=ws.recv)
        reader.start()
        exchange.wait_until(lambda: len(exchange.received) >= 10, 10)
        exchange.publish("BTCUSDT", 1, 1)
        reader.join()
        assert {each.kind for each in exchange.received} == {"pong"}


def test_ping_of_the_client_is_answered_with_its_payload(exchange: ExchangeSimulator) -> None:
    with client(exchange) as ws:
        ws.ping("abc")
        assert ws.recv_data(control_frame=True) == (ABNF.OPCODE_PONG, b"abc")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def test_tls_carries_frames_of_every_size_both_ways(
    authority: trustme.CA, server_tls: ssl.SSLContext, tmp_path: Path
) -> None:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with ExchangeSimulator(tls=server_tls) as exchange:
        assert exchange.stream_url.startswith("wss://")
        trusted = {"ca_certs": str(tmp_path / "ca.pem")}
        with connected(exchange.stream_url + "/stream", sslopt=trusted) as ws:
            assert ask(ws, method="SUBSCRIBE", params=[BTC], id=1)["id"] == 1
            texts = ["x" * size for size in (0, 125, 126, 65_535, 65_536, 300_000)]
            for text in texts:
                exchange.send_text(text)
            assert [ws.recv() for _ in texts] == texts
            exchange.close_all(1001, "bye")
            assert receive_close(ws) == (1001, "bye")


def test_request_that_comes_with_the_end_of_the_tls_handshake_is_read(
    authority: trustme.CA, server_tls: ssl.SSLContext
) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with ExchangeSimulator(tls=server_tls) as exchange:
        host, port = exchange.stream_url.removeprefix("wss://").split(":")
        with socket.create_connection((host, int(port)), timeout=5) as sock:
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    sock.sendall(outgoing.read())
                    incoming.write(sock.recv(65_536))
            tls.write(
                b"GET /stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MTIzNDU2Nzg5MDEyMzQ1Ng==\r\n\r\n"
            )
            sock.sendall(outgoing.read())
            exchange.wait_for_connections(1, timeout_s=5)


@given(st.binary(max_size=70_000), st.booleans())
def test_encoded_frame_is_read_back_by_websocket_client(payload: bytes, fin: bool) -> None:
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        writer = threading.Thread(target=ours.sendall, args=(encode_frame(payload, 2, fin),))
        writer.start()
        ws: Any = websocket.WebSocket()
        ws.sock = theirs
        frame = ws.recv_frame()
        writer.join()
    assert (frame.fin, frame.opcode, frame.data) == (int(fin), 2, payload)


def test_raw_bytes_arrive_as_they_are(exchange: ExchangeSimulator) -> None:
    with client(exchange) as ws:
        exchange.send_encoded(encode_frame(b"ab", fin=False)[:3])
        exchange.send_encoded(b"b" + encode_frame(b"cd", opcode=0))
        assert ws.recv() == "abcd"
        exchange.send_encoded(encode_frame(b"\x00", opcode=2))
        assert ws.recv_data() == (ABNF.OPCODE_BINARY, b"\x00")


def test_split_writes_change_no_byte(exchange: ExchangeSimulator) -> None:
    with client(exchange, f"/stream?streams={BTC}") as ws:
        exchange.split_writes(seed=3)
        trades = [exchange.publish("BTCUSDT", 1, number) for number in range(200)]
        assert [ws.recv().encode() for _ in trades] == [combined_payload(each) for each in trades]


def test_reset_is_seen_as_a_reset_and_a_cut_as_an_end(exchange: ExchangeSimulator) -> None:
    with client(exchange) as ws:
        exchange.reset_all()
        with pytest.raises(ConnectionResetError):
            ws.sock.recv(1)
    with client(exchange) as ws:
        exchange.cut_all()
        assert ws.sock.recv(1) == b""
    assert exchange.connections == []


def test_reset_ends_a_send_to_a_client_that_does_not_read(exchange: ExchangeSimulator) -> None:
    with client(exchange):
        flood = threading.Thread(target=exchange.send_encoded, args=(bytes(50_000_000),))
        flood.start()
        flood.join(0.2)
        assert flood.is_alive()
        exchange.reset_all()
        flood.join(5)
        assert not flood.is_alive()


def test_client_that_takes_nothing_is_cut_off_and_the_others_get_their_trades() -> None:
    with (
        ExchangeSimulator(slow_client_s=0.2) as exchange,
        client(exchange),
        client(exchange, f"/stream?streams={BTC}") as reading,
    ):
        exchange.connections[0].send_encoded(bytes(50_000_000))
        exchange.publish("BTCUSDT", 1, 1)
        assert receive(reading)["stream"] == BTC
        exchange.wait_for_connections(1)


def test_flood_does_not_starve_an_answer(exchange: ExchangeSimulator) -> None:
    with client(exchange) as ws:
        stopping = threading.Event()

        def flood() -> None:
            while not stopping.is_set():
                exchange.send_encoded(encode_frame(b"x") * 1000)

        flooding = threading.Thread(target=flood)
        flooding.start()
        ws.send('{"method":"LIST_SUBSCRIPTIONS","id":1}')
        count = 0
        while ws.recv() == "x":
            count += 1
        stopping.set()
        reader = threading.Thread(target=exchange.cut_all)
        reader.start()
        reader.join()
        flooding.join()
        assert count < 2_000_000


def test_stalled_connection_is_open_and_pinged_and_what_it_misses_is_lost(
    exchange: ExchangeSimulator,
) -> None:
    with client(exchange, f"/stream?streams={BTC}") as ws:
        exchange.stall()
        exchange.publish("BTCUSDT", 1, 1)
        exchange.send_ping(b"alive")
        frame = ws.recv_frame()
        assert (frame.opcode, frame.data) == (ABNF.OPCODE_PING, b"alive")
        exchange.resume()
        exchange.publish("BTCUSDT", 1, 1)
        assert receive(ws)["data"]["t"] == 2


def test_dead_network_says_nothing_and_keeps_the_socket() -> None:
    with (
        ExchangeSimulator(ping_every_s=0.01, pong_deadline_s=0.4) as exchange,
        client(exchange, f"/stream?streams={BTC}") as ws,
    ):
        assert ws.recv_frame().opcode == ABNF.OPCODE_PING  # never answered
        exchange.stall(pings=False)
        exchange.rules.ping_every_s = None
        exchange.publish("BTCUSDT", 1, 1)
        ws.ping("x")
        exchange.wait_until(lambda: bool(exchange.received), 5)
        with pytest.raises(TimeoutError):
            exchange.wait_for_connections(0, timeout_s=1)
        exchange.rules.pong_deadline_s = 60
        exchange.resume()
        exchange.publish("BTCUSDT", 1, 1)
        while (frame := ws.recv_frame()).opcode == ABNF.OPCODE_PING:
            pass  # sent before the network died
        assert b'"t":2' in frame.data


def test_refused_port_comes_back_as_the_same_and_leaves_connections_alone(
    exchange: ExchangeSimulator,
) -> None:
    url = exchange.stream_url
    with client(exchange, f"/stream?streams={BTC}") as ws:
        exchange.refuse()
        with pytest.raises(ConnectionRefusedError):
            websocket.create_connection(url + "/stream")
        exchange.publish("BTCUSDT", 1, 1)
        assert receive(ws)["stream"] == BTC
        exchange.accept()
        assert exchange.stream_url == url
        with client(exchange):
            assert len(exchange.connections) == 2


def test_handshake_is_refused_with_a_status_so_many_times(exchange: ExchangeSimulator) -> None:
    exchange.handshake_status(503, times=1)
    with pytest.raises(websocket.WebSocketBadStatusException, match="503"):
        websocket.create_connection(exchange.stream_url + "/stream")
    with client(exchange):
        pass
    with pytest.raises(websocket.WebSocketBadStatusException, match="404"):
        websocket.create_connection(exchange.stream_url + "/elsewhere")


def test_withheld_answer_and_muted_stream(exchange: ExchangeSimulator) -> None:
    with client(exchange) as ws:
        exchange.withhold_answers()
        exchange.mute(BTC)
        ws.send(json.dumps({"method": "SUBSCRIBE", "params": [BTC, ETH], "id": 1}))
        exchange.wait_for_subscription(BTC, ETH)
        exchange.publish("BTCUSDT", 1, 1)
        exchange.publish("ETHUSDT", 1, 1)
        assert receive(ws)["stream"] == ETH


def test_server_shutdown_is_announced_in_both_modes(exchange: ExchangeSimulator) -> None:
    with client(exchange) as combined, client(exchange, "/ws") as raw:
        exchange.server_shutdown()
        message = receive(combined)
        assert message["stream"] == "!serverShutdown"
        assert message["data"]["e"] == receive(raw)["e"] == "serverShutdown"


def test_waiting_in_vain_says_for_what(exchange: ExchangeSimulator) -> None:
    with pytest.raises(TimeoutError, match=r"nobody subscribed to \['btcusdt@trade'\]"):
        exchange.wait_for_subscription(BTC, timeout_s=0.01)
    with pytest.raises(TimeoutError, match="0 connections instead of 1"):
        exchange.wait_for_connections(1, timeout_s=0.01)


def test_played_frames_go_unchanged_to_subscribers_and_into_the_market(
    exchange: ExchangeSimulator, tmp_path: Path
) -> None:
    frames = [combined_payload(trade(number)) for number in (500, 501)]
    noise = b'{"stream":"btcusdt@depth","data":{"e":"depthUpdate"}}'
    path = tmp_path / "one.trades.gz"
    path.write_bytes(
        gzip.compress(b"".join(b"7 %b\n" % each for each in [frames[0], noise, frames[1], b"junk"]))
    )
    with client(exchange, f"/stream?streams={BTC}") as ws, client(exchange, f"/ws/{BTC}") as raw:
        exchange.play(read_recording(path))
        assert [ws.recv().encode() for _ in range(3)] == [*frames, b"junk"]
        assert [receive(raw)["t"] for _ in range(2)] == [500, 501]
        exchange.play(read_recording(path), to_everybody=True)
        assert [ws.recv().encode() for _ in range(2)] == [frames[0], noise]
    rows = get(exchange, "historicalTrades", symbol="BTCUSDT", fromId=500).json()
    assert [row["id"] for row in rows] == [500, 501]
    assert exchange.publish("BTCUSDT", 1, 1).trade_id == 502


def test_played_times_keep_their_distances_divided_by_the_speed(
    exchange: ExchangeSimulator,
) -> None:
    began_at = time.monotonic()
    exchange.play(((second * 10**9, b"x") for second in range(13)), speed=60)
    assert 0.2 <= time.monotonic() - began_at < 2


def test_recordings_are_merged_by_receive_time_and_a_wrong_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"1 a\n4 b\n"))
    (tmp_path / "b.gz").write_bytes(gzip.compress(b"2 c\n3 d e\n"))
    merged = list(read_recording(tmp_path / "a.gz", tmp_path / "b.gz"))
    assert merged == [(1, b"a"), (2, b"c"), (3, b"d e"), (4, b"b")]
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"1 a\nwss://example\n"))
    with pytest.raises(ValueError, match=r"a\.gz, line 2"):
        list(read_recording(tmp_path / "a.gz"))


@given(st.integers(), st.integers(1, 5))
def test_generated_trades_repeat_with_their_seed_and_have_consecutive_ids(
    seed: int, symbol_count: int
) -> None:
    symbols = [f"S{number}USDT" for number in range(symbol_count)]

    def generate() -> list[SimulatedTrade]:
        return list(islice(generate_trades(symbols, seed, 1000, rate=50, first_trade_id=7), 300))

    trades = generate()
    assert trades == generate()
    for symbol in symbols:
        ids = [each.trade_id for each in trades if each.symbol == symbol]
        assert ids == list(range(7, 7 + len(ids)))
    assert all(one.time_ms <= other.time_ms for one, other in pairwise(trades))
    assert all(Decimal(each.price) > 0 and Decimal(each.quantity) > 0 for each in trades)


def test_generated_trades_come_at_about_their_rate() -> None:
    trades = list(islice(generate_trades(["A", "B"], 1, 0, rate=50), 10_000))
    assert 180_000 < trades[-1].time_ms < 220_000


@given(st.permutations(range(10, 30)), st.integers(1, 30))
def test_market_keeps_trades_by_id_whatever_their_order(ids: list[int], keep: int) -> None:
    market = SimulatedMarket(["BTCUSDT"], 1)
    for trade_id in [*ids, *ids[:3]]:
        market.record(trade(trade_id))
        market.aggregates("BTCUSDT")
    assert [each.trade_id for each in market.page("BTCUSDT", 0, keep)] == list(range(10, 30))[:keep]
    assert [len(each.trades) for each in market.aggregates("BTCUSDT")] == [20]


def test_market_forgets_its_oldest_trades_and_keeps_the_ids_of_aggregates() -> None:
    market = SimulatedMarket(["BTCUSDT"], 1, keep=10)
    for number in [*range(1, 15), *range(16, 23)]:
        market.record(trade(number, time_ms=number))
    kept = [12, 13, 14, 16, 17, 18, 19, 20, 21, 22]
    assert [each.trade_id for each in market.page("BTCUSDT", 0, 1000)] == kept
    assert [each.aggregate_id for each in market.aggregates("BTCUSDT")] == list(range(12, 22))
    market.record(trade(15, time_ms=15))
    assert [each.aggregate_id for each in market.aggregates("BTCUSDT")] == list(range(12, 23))


def test_rest_fills_a_hole_on_the_wire_and_confirms_ids_that_never_were(
    exchange: ExchangeSimulator,
) -> None:
    with client(exchange, f"/stream?streams={BTC}") as ws:
        exchange.publish("BTCUSDT", "100.5", "0.3", time_ms=5)
        exchange.record("BTCUSDT", "0.00000003", "0.5", time_ms=6, buyer_is_maker=True)
        exchange.skip_ids("BTCUSDT", 2)
        exchange.publish("BTCUSDT", 1, 1)
        assert [receive(ws)["data"]["t"] for _ in range(2)] == [1, 5]
    rows = get(exchange, "historicalTrades", symbol="BTCUSDT", fromId=2, limit=2).json()
    assert [row["id"] for row in rows] == [2, 5]
    assert rows[0] == {
        "id": 2,
        "price": "0.00000003",
        "qty": "0.5",
        "quoteQty": "0.00000001",
        "time": 6,
        "isBuyerMaker": True,
        "isBestMatch": True,
    }


def test_aggregates_join_neighbours_of_one_price_side_and_time(exchange: ExchangeSimulator) -> None:
    exchange.add_trades(
        [
            trade(1, 10, quantity="0.10"),
            trade(2, 10, quantity="0.2"),
            trade(3, 11),
            trade(4, 11, price="3"),
            trade(6, 11, price="3"),
        ]
    )

    def ids(**params: Any) -> list[tuple[int, int, int]]:
        rows = get(exchange, "aggTrades", symbol="BTCUSDT", **params).json()
        return [(row["a"], row["f"], row["l"]) for row in rows]

    assert ids() == [(1, 1, 2), (2, 3, 3), (3, 4, 4), (4, 6, 6)]
    assert ids(limit=1) == ids(endTime=11, limit=1) == [(4, 6, 6)]
    assert ids(startTime=11, limit=2) == ids(fromId=2, limit=2) == [(2, 3, 3), (3, 4, 4)]
    assert ids(startTime=10, endTime=10) == [(1, 1, 2)]
    first = get(exchange, "aggTrades", symbol="BTCUSDT", fromId=1, limit=1).json()[0]
    assert first == {"a": 1, "p": "1", "q": "0.30", "f": 1, "l": 2, "T": 10, "m": False, "M": True}


def test_database_lags_behind_the_newest_trades(exchange: ExchangeSimulator) -> None:
    exchange.add_trades([trade(1, 10), trade(2, 20), trade(3, 20)])
    exchange.rest_lag(1)
    assert [row["id"] for row in get(exchange, "trades", symbol="BTCUSDT").json()] == [1, 2, 3]
    rows = get(exchange, "historicalTrades", symbol="BTCUSDT", fromId=2).json()
    assert [row["id"] for row in rows] == [2]
    assert [row["l"] for row in get(exchange, "aggTrades", symbol="BTCUSDT").json()] == [1]


@pytest.mark.parametrize(
    ("path", "params", "code"),
    [
        ("trades", {}, -1102),
        ("trades", {"symbol": "btcusdt"}, -1100),
        ("historicalTrades", {"symbol": "NOSUCH"}, -1121),
        ("historicalTrades", {"symbol": "BTCUSDT", "limit": 1001}, -1130),
        ("historicalTrades", {"symbol": "BTCUSDT", "fromId": "x"}, -1100),
        ("aggTrades", {"symbol": "BTCUSDT", "fromId": 1, "startTime": 1}, -1128),
        ("exchangeInfo", {"symbol": "NOSUCH"}, -1121),
        ("exchangeInfo", {"symbols": '["BTCUSDT","BTCUSDT"]'}, -1151),
        ("exchangeInfo", {"symbol": "BTCUSDT", "symbolStatus": "TRADING"}, -1128),
    ],
)
def test_wrong_request_gets_the_error_of_the_exchange_and_costs_weight(
    exchange: ExchangeSimulator, path: str, params: dict[str, Any], code: int
) -> None:
    answer = get(exchange, path, **params)
    assert (answer.status, answer.json()["code"]) == (400, code)
    assert int(answer.headers["X-MBX-USED-WEIGHT-1M"]) in (4, 20, 25)


def test_exchange_info_lists_symbols_with_their_status() -> None:
    with ExchangeSimulator({"BTCUSDT": "TRADING", "LUNAUSDT": "BREAK"}) as exchange:
        exchange.list_symbol("NEWBTC")

        def listed(**params: Any) -> dict[str, str]:
            body = get(exchange, "exchangeInfo", **params).json()
            return {each["symbol"]: each["status"] for each in body["symbols"]}

        assert listed() == {"BTCUSDT": "TRADING", "LUNAUSDT": "BREAK", "NEWBTC": "TRADING"}
        assert (
            listed(symbols='["LUNAUSDT"]') == listed(symbolStatus="BREAK") == {"LUNAUSDT": "BREAK"}
        )
        assert get(exchange, "exchangeInfo").json()["symbols"][2]["quoteAsset"] == "BTC"


def test_weight_is_counted_by_minute_of_the_clock_and_refused_beyond_the_limit() -> None:
    clock = [59_000]
    with ExchangeSimulator(weight_limit=30, now_ms=lambda: clock[0]) as exchange:
        used = [
            get(exchange, path, symbol="BTCUSDT").headers["X-MBX-USED-WEIGHT-1M"]
            for path in ("ping", "aggTrades", "trades")
        ]
        assert used == ["1", "5", "30"]
        refused = get(exchange, "time")
        assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
        assert refused.json()["code"] == -1003
        clock[0] += 1000
        assert get(exchange, "time").json() == {"serverTime": 60_000}


def test_rest_answers_what_it_is_told_so_many_times(exchange: ExchangeSimulator) -> None:
    exchange.rest_answer(418, {"Retry-After": "120"}, '{"code":-1003}', times=2, path="/ping")
    assert get(exchange, "time").status == 200
    answers = [get(exchange, "ping") for _ in range(3)]
    assert [each.status for each in answers] == [418, 418, 200]
    assert answers[0].headers["Retry-After"] == "120"
    exchange.rest_cut()
    with pytest.raises(urllib3.exceptions.ProtocolError):
        get(exchange, "ping")
    assert [each.status for each in exchange.rest_requests] == [200, 418, 418, 200, 0]


def test_delayed_rest_answer_does_not_hold_up_the_end() -> None:
    with ExchangeSimulator() as exchange:
        exchange.rest_delay(60)
        with (
            urllib3.PoolManager() as pool,
            pytest.raises(urllib3.exceptions.ReadTimeoutError),
        ):
            pool.request("GET", exchange.rest_url + "/api/v3/ping", timeout=0.1, retries=False)
        began_at = time.monotonic()
    assert time.monotonic() - began_at < 5


def test_http_connection_is_kept_alive(exchange: ExchangeSimulator) -> None:
    with urllib3.connection_from_url(exchange.rest_url, retries=False) as pool:
        assert pool.request("GET", "/api/v3/ping").json() == {}
        assert "connection" not in pool.request("GET", "/api/v3/nothing").headers
        assert pool.request("GET", "/api/v3/nothing").status == 404
        assert pool.num_connections == 1


A_DURATION = "a duration above 0, such as 90s, 10m or 2h, or a number of seconds above 0"


def simulate(*options: str) -> subprocess.Popen[str]:
    code = (
        "import argparse, sys; from bintrades.testing import simulate; "
        "parser = argparse.ArgumentParser(); simulate.add_arguments(parser); "
        "sys.exit(simulate.run(parser.parse_args()))"
    )
    ports = ("--stream-port", "0", "--rest-port", "0")
    return subprocess.Popen(
        [sys.executable, "-c", code, *ports, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_simulate_prints_its_urls_trades_now_and_ends_on_a_signal(number: signal.Signals) -> None:
    with simulate("--rate", "200", "--seed", "5") as process:
        assert process.stdout
        url = process.stdout.readline().removeprefix("streams: ").strip()
        rest = process.stdout.readline().removeprefix("rest: ").strip()
        with connected(f"{url}/stream?streams={BTC}/{ETH}") as ws:
            data = receive(ws)["data"]
            assert abs(data["T"] - time.time() * 1000) < 5000
            assert data["E"] == data["T"]
        symbols = get_from(rest, "exchangeInfo").json()["symbols"]
        assert [each["symbol"] for each in symbols] == ["BTCUSDT", "ETHUSDT"]
        past: dict[str, str | int] = {"symbol": "BTCUSDT", "startTime": 1, "limit": 1}
        oldest = get_from(rest, "aggTrades", **past).json()[0]
        assert 10_000 < data["T"] - oldest["T"] < 60_000
        process.send_signal(number)
        assert process.wait(10) == 0


def test_simulate_is_the_market_that_it_is_told_to_be() -> None:
    with simulate("--market", "coinm", "--rate", "1000") as process:
        assert process.stdout
        url = process.stdout.readline().removeprefix("streams: ").strip()
        with connected(f"{url}/stream?streams=btcusd_perp@trade/ethusd_perp@trade") as ws:
            kinds = {receive(ws)["data"]["X"] for _ in range(1_000)}
        assert kinds == {"MARKET", "NA"}
        process.terminate()
        assert process.wait(10) == 0


def test_simulate_plays_a_recording_to_its_first_subscriber(tmp_path: Path) -> None:
    path = tmp_path / "my recording.gz"
    path.write_bytes(gzip.compress(b"1 %b\n" % combined_payload(trade(9))))
    with simulate("--recording", str(path), "--duration", "30") as process:
        assert process.stdout
        url = process.stdout.readline().removeprefix("streams: ").strip()
        with connected(f"{url}/stream?streams={BTC}") as ws:
            assert receive(ws)["data"]["t"] == 9
        process.terminate()
        assert process.wait(10) == 0


def test_simulate_says_which_recording_it_cannot_read(tmp_path: Path) -> None:
    path = tmp_path / "missing.gz"
    with simulate("--recording", str(path)) as process:
        _, errors = process.communicate(timeout=10)
        assert process.returncode == 1
        assert str(path) in errors


@pytest.mark.parametrize(
    ("option", "allowed"),
    [
        ("--rate=inf", "a number from 0.001 to 1e+09"),
        ("--rate=nan", "a number from 0.001 to 1e+09"),
        ("--rate=0", "a number from 0.001 to 1e+09"),
        ("--rate=1e-310", "a number from 0.001 to 1e+09"),
        ("--speed=fast", "a number from 0.001 to inf"),
        ("--speed=0", "a number from 0.001 to inf"),
        ("--duration=0s", A_DURATION),
        ("--duration=0", A_DURATION),
        ("--duration=-5", A_DURATION),
        ("--duration=nan", A_DURATION),
        ("--duration=soon", A_DURATION),
        ("--history=0", "a whole number from 1 to 1000000000"),
        ("--history=1" + "0" * 400, "a whole number from 1 to 1000000000"),
        ("--history=1" + "0" * 5_000, "a whole number from 1 to 1000000000"),
        ("--seed=-1", f"a whole number from 0 to {2**62}"),
        ("--seed=x", f"a whole number from 0 to {2**62}"),
        ("--rest-port=70000", "a whole number from 0 to 65535"),
        ("--stream-port=8_080", "a whole number from 0 to 65535"),
    ],
)
def test_simulate_says_what_an_option_may_be(option: str, allowed: str) -> None:
    with simulate(option) as process:
        _, errors = process.communicate(timeout=10)
        assert process.returncode == 2
        assert f"argument {option.partition('=')[0]}: must be {allowed}\n" in errors


def test_simulate_ends_by_itself_after_a_duration() -> None:
    with simulate("--duration", "10ms") as process:
        assert process.wait(20) == 0


def test_simulate_needs_no_more_memory_for_many_trades_than_for_some() -> None:
    with simulate("--rate", "1e9", "--history", "2000") as process:
        assert process.stdout
        sizes: list[int] = []
        counts: list[int] = []
        for line in process.stdout:
            if found := re.match(r"([0-9]+) trades", line):
                counts.append(int(found[1]))
                sizes.append(resident_bytes(process.pid))
            if len(counts) == 2:
                break
        process.terminate()
        assert process.wait(10) == 0
    assert counts[1] - counts[0] > 20_000
    assert sizes[1] - sizes[0] < 2**21  # of the trades it has forgotten, less than 100 bytes each


def resident_bytes(pid: int) -> int:
    """Return the memory that a process has now."""
    asked = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True
    )
    return int(asked.stdout) * 1024


def test_a_market_with_a_history_keeps_each_symbols_share_of_it() -> None:
    market = SimulatedMarket(["AUSDT", "BUSDT"], 1, history=20)
    for number in range(1, 1_001):
        for symbol in ("AUSDT", "BUSDT", "CUSDT"):  # the last is listed by its first trade
            market.record(trade(number, symbol=symbol, time_ms=number))
    assert market.recorded == 3_000
    for symbol in ("AUSDT", "BUSDT", "CUSDT"):
        kept = [each.trade_id for each in market.page(symbol, 0, 1_000)]
        assert kept == list(range(kept[0], 1_001))
        assert 6 <= len(kept) <= 12
        assert len(market.aggregates(symbol)) == len(kept)
        forgotten = market.forgotten(symbol)
        assert forgotten is not None
        assert forgotten.trade_id == kept[0] - 1


def test_rest_never_calls_absent_what_it_has_forgotten() -> None:
    with ExchangeSimulator(["BTCUSDT"], history=10) as exchange:
        exchange.add_trades(trade(number, time_ms=number) for number in range(1, 22))
        kept = get(exchange, "historicalTrades", symbol="BTCUSDT", fromId=12).json()
        assert [row["id"] for row in kept] == list(range(12, 22))
        assert len(get(exchange, "aggTrades", symbol="BTCUSDT", startTime=12).json()) == 10
        assert len(get(exchange, "aggTrades", symbol="BTCUSDT", fromId=12).json()) == 10
        for path, query in (
            ("historicalTrades", {"fromId": 11}),
            ("aggTrades", {"fromId": 11}),
            ("aggTrades", {"startTime": 11}),
        ):
            refused = get(exchange, path, symbol="BTCUSDT", **query)
            assert refused.status == 503
            assert "forgotten the trades of BTCUSDT up to 11" in refused.json()["msg"]


def test_taken_port_is_an_error_at_once() -> None:
    with ExchangeSimulator() as exchange:
        port = int(exchange.stream_url.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"):
            ExchangeSimulator(stream_port=port)


def test_random_bytes_from_a_client_harm_nobody(exchange: ExchangeSimulator) -> None:
    host, port = exchange.stream_url.removeprefix("ws://").split(":")
    for seed in range(20):
        with socket.create_connection((host, int(port))) as sock:
            sock.sendall(random.Random(seed).randbytes(500))
    with client(exchange, f"/stream?streams={BTC}") as ws:
        ws.sock.sendall(random.Random(1).randbytes(500))
    with client(exchange, f"/stream?streams={BTC}") as ws:
        exchange.publish("BTCUSDT", 1, 1)
        assert receive(ws)["stream"] == BTC
