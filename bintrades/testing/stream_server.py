"""The stream server: accepts clients, knows who is connected, and misbehaves on demand."""

from __future__ import annotations

import select
import socket
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from bintrades.testing.stream_connection import Received, Rules, StreamConnection, StreamMessage

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable

_RECEIVED_ON_RECORD = 10_000


class StreamServer:
    """The WebSocket side of the exchange. Every method may be called from any thread.

    What sends, sends to one connection after the other and blocks while a client does not read; a
    client that takes nothing for `slow_client_s` is cut off, so it holds up the others no longer.
    """

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None, rules: Rules) -> None:
        self.rules = rules
        self.muted: set[str] = set()
        self._tls = tls
        self._changed = threading.Condition()
        self._clients: list[StreamConnection] = []
        self._received: deque[Received] = deque(maxlen=_RECEIVED_ON_RECORD)
        self._accepted = 0
        self._refusal: int | None = None
        self._refusals_left: int | None = None
        self._stall: dict[str, bool] | None = None
        self._split_seed: int | None = None
        self._listener = _bind(host, port)
        self._address: tuple[str, int] = self._listener.getsockname()[:2]
        self._acceptor: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Return ws:// or wss:// with host and port, without a path."""
        scheme = "ws" if self._tls is None else "wss"
        return f"{scheme}://{self._address[0]}:{self._address[1]}"

    @property
    def connections(self) -> list[StreamConnection]:
        """The open connections, oldest first."""
        with self._changed:
            return [client for client in self._clients if client.is_open]

    @property
    def received(self) -> list[Received]:
        """The newest 10,000 messages of clients, in the order of arrival."""
        with self._changed:
            return list(self._received)

    def start(self) -> None:
        """Begin to accept clients."""
        self.accept()

    def stop(self) -> None:
        """Cut all connections and close the port."""
        self._stop_accepting()
        self._listener.close()
        self._end_all(StreamConnection.cut)

    def deliver(self, messages: Iterable[StreamMessage]) -> None:
        """Send messages to those who subscribed to them."""
        messages = list(messages)
        for client in self.connections:
            client.deliver(messages)

    def send_text(self, payload: str | bytes) -> None:
        """Send a text frame to everybody: an answer nobody asked for, junk, anything."""
        for client in self.connections:
            client.send_text(payload)

    def send_encoded(self, *writes: bytes) -> None:
        """Send bytes as they are to everybody: the fast path of a flood, or half a frame.

        Over TLS each argument becomes a record of its own; without TLS they are sent as one.
        """
        for client in self.connections:
            client.send_encoded(*writes)

    def send_ping(self, payload: bytes | None = None) -> None:
        """Ping everybody now; the payload is the time in ms by default."""
        for client in self.connections:
            client.send_ping(payload)

    def server_shutdown(self) -> None:
        """Announce to everybody that the server is about to go away."""
        raw = b'{"e":"serverShutdown","E":%d}' % self.rules.now_ms()
        combined = b'{"stream":"!serverShutdown","data":' + raw + b"}"
        self.deliver([StreamMessage(None, combined, raw)])

    def split_writes(self, seed: int | None) -> None:
        """Cut what is sent from now on at random byte positions, repeatably; None: no more."""
        with self._changed:
            self._split_seed = seed
            for client in self._clients:
                client.split_writes(seed)

    def close_all(self, code: int | None = 1000, reason: str = "") -> None:
        """Send everybody a close frame and end the connections; returns when they have ended."""
        self._end_all(lambda client: client.close(code, reason))

    def cut_all(self) -> None:
        """End all TCP connections without a close frame; returns when they have ended."""
        self._end_all(StreamConnection.cut)

    def reset_all(self) -> None:
        """End all TCP connections with RST; returns when they have ended."""
        self._end_all(StreamConnection.reset)

    def stall(self, *, pings: bool = True) -> None:
        """Keep all connections open, new ones too, but send neither data nor answers.

        What is published meanwhile is lost on the wire, as streams never replay. Without *pings*
        nothing at all is sent, as if the network had died.
        """
        with self._changed:
            self._stall = {"pings": pings}
            for client in self._clients:
                client.stall(pings=pings)

    def resume(self) -> None:
        """End a stall."""
        with self._changed:
            self._stall = None
            for client in self._clients:
                client.resume()

    def refuse(self) -> None:
        """Close the port: new connections are refused, those that stand are not touched."""
        if self._stop_accepting():
            self._listener.close()
            # Bound but not listening, so that no other program gets the port meanwhile.
            self._listener = _bind(*self._address)

    def accept(self) -> None:
        """Open the port, again after refuse()."""
        if self._acceptor is None:
            self._listener.listen(128)
            self._acceptor = threading.Thread(
                target=self._accept_clients, name="simulator-accept", daemon=True
            )
            self._acceptor.start()

    def handshake_status(self, status: int | None, times: int | None = None) -> None:
        """Answer upgrades with this HTTP status, the next *times* only or always; None: no more."""
        with self._changed:
            self._refusal, self._refusals_left = status, times

    def withhold_answers(self, is_withheld: bool = True) -> None:
        """Obey SUBSCRIBE and its relatives without an answer."""
        self.rules.sends_answers = not is_withheld

    def mute(self, *streams: str) -> None:
        """Acknowledge these streams and never send them; without names, no stream any more."""
        self.muted = set(streams)

    def wait_for_connections(self, count: int, timeout_s: float = 120.0) -> None:
        """Wait until exactly *count* connections are open; raises TimeoutError."""
        self.wait_until(
            lambda: len(self.connections) == count,
            timeout_s,
            lambda: f"{len(self.connections)} connections instead of {count}",
        )

    def wait_for_subscription(self, *streams: str, timeout_s: float = 120.0) -> None:
        """Wait until somebody is subscribed to each of the streams; raises TimeoutError."""

        def missing() -> set[str]:
            return set(streams).difference(*(client.streams for client in self.connections))

        self.wait_until(
            lambda: not missing(), timeout_s, lambda: f"nobody subscribed to {sorted(missing())}"
        )

    def wait_until(
        self,
        is_met: Callable[[], bool],
        timeout_s: float = 120.0,
        problem: Callable[[], str] = lambda: "the condition does not hold",
    ) -> None:
        """Wait until a condition holds, asking after each change and each client message.

        Raises TimeoutError, which says what the *problem* is, at the end of the time.
        """
        with self._changed:
            if not self._changed.wait_for(is_met, timeout_s):
                raise TimeoutError(f"{problem()} after {timeout_s} s")

    def next_refusal(self) -> int | None:
        """Return the HTTP status to answer the next upgrade with; called by connections."""
        with self._changed:
            if self._refusal is None or self._refusals_left == 0:
                return None
            if self._refusals_left is not None:
                self._refusals_left -= 1
            return self._refusal

    def record_change(self) -> None:
        """Wake those who wait for a condition; called by connections."""
        with self._changed:
            self._changed.notify_all()

    def record_received(self, received: Received) -> None:
        """Put a client's message on record; called by connections."""
        with self._changed:
            self._received.append(received)
            self._changed.notify_all()

    def _accept_clients(self) -> None:
        listener = self._listener
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        while threading.current_thread() is self._acceptor:
            if poll.poll(250):
                with suppress(OSError):
                    self._add_client(listener.accept()[0])

    def _add_client(self, sock: socket.socket) -> None:
        with self._changed:
            self._clients = [client for client in self._clients if not client.has_ended]
            self._accepted += 1
            client = StreamConnection(sock, self._accepted, self, self._tls)
            client.split_writes(self._split_seed)
            if self._stall is not None:
                client.stall(**self._stall)
            self._clients.append(client)
            client.start()

    def _stop_accepting(self) -> bool:
        acceptor, self._acceptor = self._acceptor, None
        if acceptor is None:
            return False
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes it at once where that is possible
        acceptor.join()
        return True

    def _end_all(self, end: Callable[[StreamConnection], None]) -> None:
        with self._changed:
            clients = list(self._clients)
        for client in clients:
            end(client)
        for client in clients:
            client.join()


def _bind(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock
