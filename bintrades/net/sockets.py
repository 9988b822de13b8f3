"""Sockets on which every exchange has a deadline and a size: plain ones, and TLS over another one.

A timeout of the socket alone bounds no exchange: a server that sends a byte a second never runs
into it. Here an Allowance bounds all that is read and written under it. For TLS the raw socket is
read in bulk and decrypted through memory, since SSLSocket.recv gives no more than one record a
call. Both have the part of the socket interface that websocket-client and http.client use.
"""

from __future__ import annotations

import io
import ssl
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from bintrades.net.addresses import Address

RECEIVE_BYTES = 256 * 1024
_RECORD_BYTES = 16 * 1024  # a TLS record holds no more
_FILE_BUFFER_BYTES = 64 * 1024


class Allowance:
    """The time that some exchange may take in all, and its bytes at most; None: any number."""

    def __init__(self, seconds: float, max_bytes: int | None = None) -> None:
        self._seconds = seconds
        self._until = time.monotonic() + seconds
        self._max_bytes = max_bytes
        self._bytes = 0

    def left_s(self) -> float:
        """Return how many seconds are left; raises TimeoutError when there are none."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"timed out: not whole after {self._seconds:g} s")
        return left

    def room(self, wanted: int) -> int:
        """Return how many of the *wanted* bytes may come; raises ConnectionError for none."""
        if self._max_bytes is None:
            return wanted
        if self._bytes >= self._max_bytes:
            raise ConnectionError(f"more than {self._max_bytes} bytes came")
        return min(wanted, self._max_bytes - self._bytes)

    def count(self, size: int) -> None:
        """Note that so many bytes came."""
        self._bytes += size


class Socket(ABC):
    """An open socket that belongs to one thread. What is done under *allowance* is bounded by it.

    settimeout() bounds a single read or write besides.
    """

    peer: Address
    _open_files = 0
    _is_closing = False

    @property
    @abstractmethod
    def allowance(self) -> Allowance:
        """The limit of everything from now on; may be set at any time."""

    @allowance.setter
    @abstractmethod
    def allowance(self, allowance: Allowance) -> None: ...

    @abstractmethod
    def recv_into(self, view: memoryview) -> int:
        """As socket.recv_into."""

    @abstractmethod
    def receive_all(self) -> bytes:
        """Return what has come, waiting until there is something; nothing at the end."""

    @abstractmethod
    def sendall(self, data: bytes) -> None:
        """As socket.sendall."""

    @abstractmethod
    def settimeout(self, timeout_s: float | None) -> None:
        """As socket.settimeout."""

    @abstractmethod
    def gettimeout(self) -> float | None:
        """As socket.gettimeout."""

    @abstractmethod
    def fileno(self) -> int:
        """As socket.fileno."""

    @abstractmethod
    def shutdown(self, how: int) -> None:
        """As socket.shutdown."""

    @abstractmethod
    def _close(self) -> None: ...

    def recv(self, size: int) -> bytes:
        """Return up to *size* bytes, none at the end; as socket.recv."""
        buffer = bytearray(size)
        return bytes(buffer[: self.recv_into(memoryview(buffer))])

    def send(self, data: bytes) -> int:
        """Send all of *data*; return its length, as socket.send may."""
        self.sendall(data)
        return len(data)

    def makefile(self, mode: str = "rb", *_: Any, **__: Any) -> io.BufferedReader:
        """As socket.makefile, for reading."""
        if mode != "rb":
            raise ValueError(f"{mode}: only rb is possible")
        self._open_files += 1
        return io.BufferedReader(_SocketFile(self), _FILE_BUFFER_BYTES)

    def close(self) -> None:
        """Let go of the socket; as socket.close, not before the files made of it are closed."""
        self._is_closing = True
        if not self._open_files:
            self._close()

    def file_closed(self) -> None:
        """Note that one of the files made of it is closed."""
        self._open_files -= 1
        if self._is_closing:
            self.close()


class _SocketFile(io.RawIOBase):
    def __init__(self, read_from: Socket) -> None:
        self._socket = read_from

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._socket.recv_into(memoryview(buffer))

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._socket.file_closed()


class PlainSocket(Socket):
    """A connected socket of the system."""

    def __init__(self, raw: socket.socket, peer: Address, allowance: Allowance) -> None:
        self.peer = peer
        self._raw = raw
        self._allowance = allowance
        self._timeout_s: float | None = None
        self._view = memoryview(bytearray())

    @property
    def allowance(self) -> Allowance:
        """The limit of everything from now on."""
        return self._allowance

    @allowance.setter
    def allowance(self, allowance: Allowance) -> None:
        self._allowance = allowance

    def recv_into(self, view: memoryview) -> int:
        """As socket.recv_into."""
        size = self._allowance.room(len(view))
        self._set_timeout()
        try:
            count = self._raw.recv_into(view, size)
        except TimeoutError:
            self._allowance.left_s()  # which says it better, if that is the reason
            raise
        self._allowance.count(count)
        return count

    def receive_all(self) -> bytes:
        """Return what has come, waiting until there is something; nothing at the end."""
        if not self._view:
            self._view = memoryview(bytearray(RECEIVE_BYTES))
        return bytes(self._view[: self.recv_into(self._view)])

    def sendall(self, data: bytes) -> None:
        """As socket.sendall, whose timeout is for all of *data*."""
        self._set_timeout()
        self._raw.sendall(data)

    def settimeout(self, timeout_s: float | None) -> None:
        """As socket.settimeout."""
        self._timeout_s = timeout_s

    def gettimeout(self) -> float | None:
        """As socket.gettimeout."""
        return self._timeout_s

    def fileno(self) -> int:
        """As socket.fileno."""
        return self._raw.fileno()

    def shutdown(self, how: int) -> None:
        """As socket.shutdown."""
        self._raw.shutdown(how)

    def _close(self) -> None:
        self._raw.close()

    def _set_timeout(self) -> None:
        left = self._allowance.left_s()
        self._raw.settimeout(left if self._timeout_s is None else min(left, self._timeout_s))


class TlsSocket(Socket):
    """A client's TLS over another socket.

    Making one shakes hands; raises ssl.SSLError (ssl.SSLCertVerificationError) or OSError.
    """

    def __init__(self, raw: Socket, context: ssl.SSLContext, server_hostname: str) -> None:
        self.peer = raw.peer
        self._raw = raw
        self._encrypted = memoryview(bytearray(RECEIVE_BYTES))
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_hostname=server_hostname
        )
        self._until_done(self._tls.do_handshake)

    @property
    def allowance(self) -> Allowance:
        """The limit of everything from now on; bytes are counted before they are decrypted."""
        return self._raw.allowance

    @allowance.setter
    def allowance(self, allowance: Allowance) -> None:
        self._raw.allowance = allowance

    def recv_into(self, view: memoryview) -> int:
        """As socket.recv_into."""
        try:
            count: int = self._until_done(lambda: self._tls.read(len(view), view))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return 0
        return count

    def receive_all(self) -> bytes:
        """Return everything that has come, waiting until there is something; none at the end."""
        while True:
            received, is_at_end = self._decrypt()
            if received or is_at_end:
                return received
            self._fill()

    def sendall(self, data: bytes) -> None:
        """As socket.sendall."""
        self._until_done(lambda: self._tls.write(data))

    def settimeout(self, timeout_s: float | None) -> None:
        """As socket.settimeout."""
        self._raw.settimeout(timeout_s)

    def gettimeout(self) -> float | None:
        """As socket.gettimeout."""
        return self._raw.gettimeout()

    def fileno(self) -> int:
        """As socket.fileno."""
        return self._raw.fileno()

    def shutdown(self, how: int) -> None:
        """As socket.shutdown."""
        self._raw.shutdown(how)

    def _close(self) -> None:
        self._raw.close()

    def _decrypt(self) -> tuple[bytes, bool]:
        """Return what can be decrypted now, and whether the other side has ended."""
        parts: list[bytes] = []
        read = self._tls.read
        try:
            while part := read(_RECORD_BYTES):
                parts.append(part)
        except ssl.SSLWantReadError:
            self._flush()
            return b"".join(parts), False
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            pass
        return b"".join(parts), True

    def _until_done(self, step: Callable[[], Any]) -> Any:
        """Repeat *step*, carrying bytes between it and the raw socket, until it is through."""
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
            else:
                self._flush()
                return result

    def _fill(self) -> None:
        size = self._raw.recv_into(self._encrypted)
        if size:
            self._incoming.write(self._encrypted[:size])
        else:
            self._incoming.write_eof()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._raw.sendall(self._outgoing.read())
