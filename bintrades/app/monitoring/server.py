"""The HTTP server of a plain installation: a thread that listens, and some that answer.

Whoever asks slowly, or asks for a lot, holds one of a bounded number for some seconds. Read-only:
GET and HEAD. It ends nothing: while its address cannot be had, it tries again.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from abc import abstractmethod
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from bintrades.app.monitoring.endpoints import Answer
from bintrades.util.logs import LimitedLog
from bintrades.util.worker import Worker
from bintrades.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    from bintrades.app.monitoring.endpoints import Endpoints
    from bintrades.options.types import HostAndPort

log = logging.getLogger(__name__)

_ANSWERED_AT_ONCE = 16
_REQUEST_WITHIN_S = 5.0
_ANSWER_WITHIN_S = 15.0
_ROOM_WITHIN_S = 0.5
_LOOK_EVERY_S = 0.5
_RETRY_S = 10.0
_BUSY = b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"


class HttpWorker(Worker):
    """Answers at one address until stopped; while it cannot be had, it tries again."""

    def __init__(self, listen: HostAndPort) -> None:
        super().__init__("http", lambda _: None)
        self._listen = listen
        self._stopping = threading.Event()
        self._limited = LimitedLog(log)

    @abstractmethod
    def serve(self) -> None:
        """Answer until stopped; raise OSError where the address cannot be had."""

    def stop(self) -> None:
        """End within a second. Any thread."""
        self._stopping.set()

    def run(self) -> None:
        """Listen and answer until stopped."""
        while not self._stopping.is_set():
            self.beat()
            try:
                self.serve()
            except OSError as error:
                self._limited.warning(
                    "http_unavailable",
                    "[http] listen: the address cannot be had, so nobody can ask for the state of"
                    " this collector over HTTP; give each collector a port of its own",
                    address=str(self._listen),
                    error=str(error),
                )
                self._stopping.wait(_RETRY_S)
            except Exception:
                log.exception("the HTTP server has failed", extra={"event": "http_failed"})
                self._stopping.wait(_RETRY_S)

    def say_where(self, port: int) -> None:
        """Log at which address answers are had."""
        address = self._listen._replace(port=port)
        log.info(
            "answering at http://%s",
            address,
            extra={"event": "http_started", "address": str(address)},
        )


class MonitoringServer(HttpWorker):
    """Answers with what comes with Python: all but the page."""

    def __init__(self, listen: HostAndPort, endpoints: Endpoints) -> None:
        super().__init__(listen)
        self._endpoints = endpoints

    def serve(self) -> None:
        """Answer until stopped; raise OSError where the address cannot be had."""
        with _Server(self._listen, self._endpoints) as server:
            self.say_where(server.server_port)
            server.timeout = _LOOK_EVERY_S
            while not self._stopping.is_set():
                self.beat()
                server.handle_request()
                server.end_late()


def answered(answer: Callable[[], Answer]) -> Answer:
    """Return what *answer* returns, or that it has failed, which the log has."""
    try:
        return answer()
    except Exception:
        log.exception("an HTTP request failed", extra={"event": "http_failed"})
        text = b"failed: the log has the reason\n"
        return Answer(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", text)


class _Server(ThreadingHTTPServer):
    """Answers each request in a thread of its own, of which there are only so many."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, listen: HostAndPort, endpoints: Endpoints) -> None:
        self.endpoints = endpoints
        self.address_family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
        self._free = threading.BoundedSemaphore(_ANSWERED_AT_ONCE)
        self._begun: dict[socket.socket, float] = {}  # when each was accepted; monotonic
        self._asking: dict[socket.socket, None] = {}  # those not read to their end, oldest first
        super().__init__((listen.host, listen.port), _Handler)

    def server_bind(self) -> None:
        """Bind without asking for the name of the address, which may take long."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_port = self.socket.getsockname()[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in another thread, or say at once that there is none left."""
        if not self._has_room():
            self._refuse(request)
            return
        self._begun[request] = time.monotonic()
        self._asking[request] = None
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # this machine allows no more threads now
            self._end(request)
            self._refuse(request)

    def _has_room(self) -> bool:
        """Take a place; where there is none, whoever has been asking for longest makes room."""
        if self._free.acquire(blocking=False):
            return True
        slowest = next(iter(list(self._asking)), None)
        if slowest is None:
            return False
        with suppress(OSError):
            slowest.shutdown(socket.SHUT_RDWR)
        return self._free.acquire(timeout=_ROOM_WITHIN_S)

    def has_asked(self, request: socket.socket) -> None:
        """Record that a request is read: it is answered, however many others ask."""
        self._asking.pop(request, None)

    def _refuse(self, request: socket.socket) -> None:
        request.setblocking(False)
        with suppress(OSError):
            request.sendall(_BUSY)
        self.shutdown_request(request)

    def _end(self, request: socket.socket) -> None:
        self._begun.pop(request, None)
        self._asking.pop(request, None)
        self._free.release()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, in the thread that was begun for it."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._end(request)

    def end_late(self) -> None:
        """Cut off whoever takes too long, a byte at a time, to ask or to take the answer."""
        latest = time.monotonic() - _ANSWER_WITHIN_S
        for request, begun in list(self._begun.items()):
            if begun < latest:
                with suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away: what fails here is logged by the handler."""


class _Handler(BaseHTTPRequestHandler):
    """One request, one answer, and the connection ends."""

    timeout = _REQUEST_WITHIN_S
    server: _Server

    def version_string(self) -> str:
        return f"bintrades/{__version__}"

    def do_GET(self) -> None:
        self._send(self._answer(), with_body=True)

    def do_HEAD(self) -> None:
        self._send(self._answer(), with_body=False)

    def _answer(self) -> Answer:
        self.server.has_asked(self.connection)
        accepted = self.headers.get("Accept", "")
        return answered(lambda: self.server.endpoints.answer(self.path, accepted))

    def _send(self, answer: Answer, *, with_body: bool) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if with_body:
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base
        log.debug(format, *args, extra={"event": "http_request"})
