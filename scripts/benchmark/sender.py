"""The exchange of the benchmark: a process that sends frames made beforehand, and little else.

It answers the WebSocket handshake, SUBSCRIBE and the one REST question about symbols. After the
last frame it sends a ping on every connection: the pong says that everything before was read.
"""

from __future__ import annotations

import base64
import hashlib
import json
import select
import socket
import ssl
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from scripts.benchmark.load import Frames, Load, frame, generate, symbols

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

CHUNK = 500
"""Frames in one write of a flood, some 80 KiB."""

SETTLES_S = 1.0
"""Between the last subscription and the first trade, for whoever is measured to come to rest."""

_PREPARE_US = 30  # to make a trade of a live load, after the moment of the first one is known


class Client:
    """One WebSocket connection, after its handshake."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.has_answered = False
        self._sending = threading.Lock()
        self._received = b""
        request = b""
        while b"\r\n\r\n" not in request:
            request += self._receive()
        key = request.lower().partition(b"sec-websocket-key:")[0]
        key = request[len(key) + 18 :].split(b"\r\n", 1)[0].strip()
        digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()  # noqa: S324
        self.sock.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
        )

    def read(self) -> list[str]:
        """Handle what has come; return the streams it subscribes to. Raises EOFError at the end."""
        self._received += self._receive()
        wanted = []
        while len(self._received) >= 2:
            length, start = self._received[1] & 0x7F, 2
            if length == 126:
                length, start = int.from_bytes(self._received[2:4], "big"), 4
            end = start + 4 + length
            if len(self._received) < end:
                break
            opcode = self._received[0] & 0x0F
            mask, body = self._received[start : start + 4], self._received[start + 4 : end]
            text = bytes(byte ^ mask[index % 4] for index, byte in enumerate(body))
            self._received = self._received[end:]
            self.has_answered |= opcode == 10
            if opcode == 1:
                wanted += self._answer(json.loads(text))
        return wanted

    def _answer(self, request: dict[str, object]) -> list[str]:
        self.send(frame(json.dumps({"result": None, "id": request["id"]}).encode()))
        streams = request.get("params")
        return streams if isinstance(streams, list) else []

    def send(self, data: bytes) -> None:
        """Send whole frames. Any thread."""
        with self._sending:
            self.sock.sendall(data)

    def _receive(self) -> bytes:
        data = self.sock.recv(65536)
        while isinstance(self.sock, ssl.SSLSocket) and (pending := self.sock.pending()):
            data += self.sock.recv(pending)
        if not data:
            raise EOFError("the collector closed the connection")
        return data


def send_loads(harness: Connection, load: Load, certificate: str) -> None:
    """Run as a process: send *load* once for each "serve" of the *harness*, until it says None.

    *certificate* is the path of a PEM file with key and chain, empty for no TLS.
    """
    made = generate(load)
    listener = socket.create_server(("127.0.0.1", 0))
    rest = ThreadingHTTPServer(("127.0.0.1", 0), _rest_handler(load))
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    harness.send((listener.getsockname()[1], rest.server_port, made.sums))
    while harness.recv() is not None:
        clients = _accept_until_subscribed(listener, load, certificate)
        begins_ms = 0
        if load.is_live:
            threading.Thread(target=_answer, args=(set(clients),), daemon=True).start()
            prepare_s = 2 * SETTLES_S + load.trades * _PREPARE_US / 1e6
            begins_ms = int((time.time() + prepare_s) * 1_000)
            made = generate(load, begins_ms)
            _sleep_until(begins_ms / 1_000 - SETTLES_S)
        harness.send("subscribed")
        harness.recv()
        if load.trades_per_second:
            _sleep_until(begins_ms / 1_000)
            _pace(load, made, clients)
        else:
            _flood(load, made, clients)
        _wait_until_read(load, set(clients))
        harness.send("read")
        harness.recv()
        for client in set(clients):
            client.send(frame(b"\x03\xe8", opcode=8))
            client.sock.close()


def _accept_until_subscribed(listener: socket.socket, load: Load, certificate: str) -> list[Client]:
    """Return, for each stream of *load*, the connection that wants it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if certificate else None
    if context:
        context.load_cert_chain(certificate)
    clients: dict[socket.socket, Client] = {}
    subscribed: dict[str, Client] = {}
    while len(subscribed) < load.symbols:
        for ready in select.select([listener, *clients], [], [])[0]:
            if ready is listener:
                sock = listener.accept()[0]
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock = context.wrap_socket(sock, server_side=True) if context else sock
                clients[sock] = Client(sock)
            else:
                client = clients[ready]
                subscribed.update(dict.fromkeys(client.read(), client))
    return [subscribed[stream] for stream in load.streams]


def _flood(load: Load, made: Frames, clients: list[Client]) -> None:
    for start in range(0, load.trades, CHUNK):
        _send(load, made, clients, range(start, min(start + CHUNK, load.trades)))


def _pace(load: Load, made: Frames, clients: list[Client]) -> None:
    """Send what is due every millisecond."""
    sent, started = 0, time.perf_counter()
    while sent < load.trades:
        due = min(load.trades, int((time.perf_counter() - started) * load.trades_per_second))
        _send(load, made, clients, range(sent, due))
        sent = due
        time.sleep(0.001)


def _send(load: Load, made: Frames, clients: list[Client], numbers: range) -> None:
    batches: dict[Client, list[bytes]] = {}
    for number in numbers:
        batches.setdefault(clients[made.streams[number]], []).append(made.frames[number])
    for client, batch in batches.items():
        if load.is_tls:  # as a server that writes frame by frame: each its own record
            for one in batch:
                client.send(one)
        else:
            client.send(b"".join(batch))


def _sleep_until(at_s: float) -> None:
    time.sleep(max(0.0, at_s - time.time()))


def _answer(clients: set[Client]) -> None:
    """Read what collectors say meanwhile, until the end of the connections."""
    by_socket = {client.sock: client for client in clients}
    with suppress(EOFError, OSError, ValueError):
        while True:
            for ready in select.select(by_socket, [], [])[0]:
                by_socket[ready].read()


def _wait_until_read(load: Load, clients: set[Client]) -> None:
    for client in clients:
        client.send(frame(b"all", opcode=9))
    for client in clients:
        while not client.has_answered:
            if load.is_live:
                time.sleep(0.01)  # it is read by another thread
            else:
                client.read()


def _rest_handler(load: Load) -> type[BaseHTTPRequestHandler]:
    listed = [
        {
            "symbol": name,
            "status": "TRADING",
            "baseAsset": name.removesuffix("USDT"),
            "quoteAsset": "USDT",
            "isSpotTradingAllowed": True,
            "filters": [],
        }
        for name in symbols(load.symbols)
    ]
    answers = {
        "/api/v3/exchangeInfo": {"timezone": "UTC", "serverTime": 0, "symbols": listed},
        "/api/v3/ping": {},
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers.get(self.path.partition("?")[0])
            body = json.dumps(answer if answer is not None else {"code": -1, "msg": "no"}).encode()
            self.send_response(200 if answer is not None else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            """Say nothing on stderr."""

    return Handler
