"""Small servers on loopback: proxies, and hosts that do not do what hosts should."""

from __future__ import annotations

import ipaddress
import os
import socket
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Sequence

    import pytest


def killed_after_this_process(pid: int) -> subprocess.Popen[bytes]:
    """Start a shell that waits for the end of this process, however it ends, and then kills *pid*.

    Whoever has ended *pid* kills the shell, which could otherwise hit another one of that number.
    """
    return subprocess.Popen(
        ["/bin/sh", "-c", f"read _; kill -9 {pid}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.defpath},
        start_new_session=True,
    )


@contextmanager
def server(
    serve: Callable[[socket.socket], None], host: str = "127.0.0.1", port: int = 0
) -> Iterator[int]:
    """Hand each connection to *serve*, on a thread of its own, until the end; yield the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    clients: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def serve_one(accepted: socket.socket) -> None:
        with accepted, suppress(OSError):
            serve(accepted)

    with socket.create_server((host, port), family=family) as listener:

        def accept() -> None:
            while True:
                try:
                    accepted, _ = listener.accept()
                except OSError:
                    return
                clients.append(accepted)
                threads.append(threading.Thread(target=serve_one, args=(accepted,)))
                threads[-1].start()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            for client in clients:
                with suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
            for each in threads:
                each.join(10)
            assert not any(each.is_alive() for each in threads)


@contextmanager
def swallowing(host: str, port: int = 0) -> Iterator[int]:
    """Listen, and let nobody in: the queue is full, so that every further SYN is swallowed."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=0) as listener:
        port = listener.getsockname()[1]
        waiting: list[socket.socket] = []
        try:
            while True:
                waiting.append(socket.socket(family))
                waiting[-1].settimeout(0.2)
                try:
                    waiting[-1].connect((host, port))
                except TimeoutError:
                    break
                assert len(waiting) < 100, "this machine lets everybody in"
            yield port
        finally:
            for each in waiting:
                each.close()


def say_nothing(accepted: socket.socket) -> None:
    """Read for ever, as a host does whose program hangs."""
    while accepted.recv(65_536):
        pass


def dripping(first: bytes, drop: bytes = b"x", pause_s: float = 0.02) -> Any:
    """Return what to serve: *first*, then a drop now and then, for ever."""

    def serve(accepted: socket.socket) -> None:
        accepted.sendall(first)
        wait = threading.Event()
        while not wait.wait(pause_s):
            accepted.sendall(drop)

    return serve


def flooding(first: bytes, flood: bytes, sent: list[int] | None = None) -> Any:
    """Return what to serve: *first*, then a flood for as long as somebody takes it."""

    def serve(accepted: socket.socket) -> None:
        accepted.recv(65_536)
        accepted.sendall(first)
        while True:
            accepted.sendall(flood)
            if sent is not None:
                sent.append(len(flood))

    return serve


Targets = int | dict[str, int]
"""Where on this machine a proxy leads: each host to a port of its own, or all to one port."""


class HttpProxy:
    """An HTTP proxy that knows CONNECT, and leads every host to this machine."""

    def __init__(
        self,
        targets: Targets,
        status: str = "200 Connection established",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.requests: list[str] = []
        self.heads: list[str] = []
        self._targets = targets
        self._status = status
        self._tls = tls

    def serve(self, accepted: socket.socket) -> None:
        """Serve one client."""
        if self._tls is not None:
            accepted = self._tls.wrap_socket(accepted, server_side=True)
        with accepted:
            request = b""
            while b"\r\n\r\n" not in request:
                request += accepted.recv(65_536)
            self.heads.append(request.decode())
            self.requests.append(self.heads[-1].partition("\r\n")[0])
            accepted.sendall(f"HTTP/1.1 {self._status}\r\nVia: a test\r\n\r\n".encode())
            if self._status.startswith("200"):
                host = self.requests[-1].split()[1].rpartition(":")[0]
                _connect(accepted, self._targets, host)


class SocksProxy:
    """A SOCKS5 proxy that leads every host to this machine."""

    def __init__(self, targets: Targets, credentials: tuple[str, str] | None = None) -> None:
        self.requests: list[tuple[str, int]] = []
        self.reply = 0
        self._targets = targets
        self._credentials = credentials

    def serve(self, accepted: socket.socket) -> None:
        """Serve one client."""
        _, count = _read(accepted, 2)
        methods = _read(accepted, count)
        method = 0 if self._credentials is None else 2
        if method not in methods:
            accepted.sendall(b"\x05\xff")
            return
        accepted.sendall(bytes([5, method]))
        if self._credentials is not None and not self._is_known(accepted):
            return
        _, command, _, kind = _read(accepted, 4)
        assert command == 1
        if kind == 3:
            host = _read(accepted, _read(accepted, 1)[0]).decode()
        else:
            host = str(ipaddress.ip_address(_read(accepted, 4 if kind == 1 else 16)))
        self.requests.append((host, int.from_bytes(_read(accepted, 2))))
        accepted.sendall(bytes([5, self.reply, 0, 1, 127, 0, 0, 1, 0, 0]))
        if not self.reply:
            _connect(accepted, self._targets, host)

    def _is_known(self, accepted: socket.socket) -> bool:
        _, size = _read(accepted, 2)
        user = _read(accepted, size).decode()
        password = _read(accepted, _read(accepted, 1)[0]).decode()
        is_known = (user, password) == self._credentials
        accepted.sendall(bytes([1, 0 if is_known else 1]))
        return is_known


@contextmanager
def slow_line(target_port: int, bytes_per_s: int) -> Iterator[int]:
    """Run a line to a port of this host over which clients send no more than *bytes_per_s*.

    What the other side answers comes at once.
    """

    def serve(accepted: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", target_port)) as target:
            threading.Thread(target=_carry, args=(target, accepted), daemon=True).start()
            with suppress(OSError):
                while data := accepted.recv(bytes_per_s // 50):
                    time.sleep(len(data) / bytes_per_s)
                    target.sendall(data)

    with server(serve) as port:
        yield port


def _read(accepted: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        part = accepted.recv(size - len(received))
        if not part:
            raise ConnectionError("the client has left")
        received += part
    return received


def _connect(accepted: socket.socket, targets: Targets, host: str) -> None:
    port = targets if isinstance(targets, int) else targets[host]
    with socket.create_connection(("127.0.0.1", port)) as target:
        back = threading.Thread(target=_carry, args=(target, accepted))
        back.start()
        _carry(accepted, target)
        back.join(10)


def _carry(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def name_addresses(
    monkeypatch: pytest.MonkeyPatch, addresses: Sequence[str], host: str = "exchange.test"
) -> None:
    """Let the name *host* have these addresses, in this order."""
    real = socket.getaddrinfo

    def getaddrinfo(asked: Any, port: Any, *args: Any, **options: Any) -> Any:
        if asked != host:
            return real(asked, port, *args, **options)
        return [
            found
            for address in addresses
            for found in real(address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
