"""A client's socket as the simulator uses it: one thread reads while others write in turn."""

from __future__ import annotations

import select
import socket
import ssl
import struct
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_READ_BYTES = 65_536


class Transport:
    """A blocking socket that is read with a timeout; a write fails if nothing goes for too long."""

    def __init__(self, sock: socket.socket, write_timeout_s: float) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        microseconds = int(write_timeout_s * 1_000_000)
        timeval = struct.pack("ll", *divmod(microseconds, 1_000_000))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)
        self.socket = sock
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def handshake(self) -> None:
        """Agree on encryption; without TLS there is nothing to do."""

    def receive(self, timeout_s: float) -> bytes | None:
        """Return bytes, b"" at the end of the connection, None when nothing came in time."""
        if not self._poll.poll(timeout_s * 1000):
            return None
        return self.socket.recv(_READ_BYTES)

    def send(self, writes: Sequence[bytes], separately: bool) -> None:
        """Send all bytes; *separately* makes each item a system call of its own."""
        for each in writes if separately else (b"".join(writes),):
            self.socket.sendall(each)

    def send_close(self) -> None:
        """Announce the end of an encrypted connection; without TLS there is nothing to do."""


class TlsTransport(Transport):
    """TLS over memory buffers, because an SSLSocket must not be read and written at the same time.

    Each item of a send becomes a TLS record of its own, as a server that writes frame by frame
    would make it (items over 16 KiB become several).
    """

    def __init__(self, sock: socket.socket, write_timeout_s: float, tls: ssl.SSLContext) -> None:
        super().__init__(sock, write_timeout_s)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = tls.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._lock = threading.Lock()

    def handshake(self) -> None:
        """Do the TLS handshake. Raises OSError if it fails or takes more than some seconds."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                data = super().receive(10)
                if not data:
                    raise ConnectionError("no TLS handshake") from None
                self._incoming.write(data)
            else:
                return
            finally:
                self._flush()

    def receive(self, timeout_s: float) -> bytes | None:
        """Return decrypted bytes, b"" at the end of the connection, None when there are none."""
        plain = self._decrypt(b"")  # the end of the handshake may bring the first of it
        if plain is not None:
            return plain
        data = super().receive(timeout_s)
        return self._decrypt(data) if data else data

    def send(self, writes: Sequence[bytes], separately: bool) -> None:
        """Encrypt and send each item as a record; *separately* adds a system call for each."""
        for each in writes:
            with self._lock:
                self._tls.write(each)
            if separately:
                self._flush()
        self._flush()

    def send_close(self) -> None:
        """Send close_notify."""
        with self._lock, suppress(ssl.SSLError):
            self._tls.unwrap()
        self._flush()

    def _decrypt(self, data: bytes) -> bytes | None:
        plain = bytearray()
        with self._lock:
            self._incoming.write(data)
            try:
                while chunk := self._tls.read(_READ_BYTES):
                    plain += chunk
            except ssl.SSLWantReadError:
                return bytes(plain) or None
            except ssl.SSLZeroReturnError:
                pass
        return bytes(plain)

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self.socket.sendall(data)


class Turns:
    """A lock that is granted in turn, so that a flood cannot starve an answer or a ping."""

    def __init__(self) -> None:
        self._turnstile = threading.Lock()
        self._lock = threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold the lock."""
        with self._turnstile:
            self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    def is_free(self, within_s: float) -> bool:
        """Whether whoever holds the lock lets go of it within a time."""
        if self._lock.acquire(timeout=within_s):
            self._lock.release()
            return True
        return False
