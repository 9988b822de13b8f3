"""A REST side on loopback that answers with what a test put there, and keeps what was asked."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from email.message import Message


@dataclass(frozen=True)
class Asked:
    """One request: its path, its parameters, its headers."""

    path: str
    params: dict[str, str]
    headers: Message


@dataclass
class CannedRest:
    """The server; what it answers is given by path, as a status and a body."""

    url: str = ""
    answers: dict[str, Callable[[dict[str, str]], tuple[int, bytes]]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def put(self, path: str, body: bytes | str, status: int = 200) -> None:
        """Answer *path* with *body* from now on."""
        answer = status, body.encode() if isinstance(body, str) else body
        self.answers[path] = lambda _params: answer

    def serve(self, path: str, answer: Callable[[dict[str, str]], object]) -> None:
        """Answer *path* with what *answer* makes of the parameters, as JSON."""
        self.answers[path] = lambda params: (200, json.dumps(answer(params)).encode())


@contextmanager
def canned_rest() -> Iterator[CannedRest]:
    """Serve until the end of the block."""
    canned = CannedRest()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            params = {name: values[0] for name, values in parse_qs(parts.query).items()}
            canned.asked.append(Asked(parts.path, params, self.headers))
            answer = canned.answers.get(parts.path)
            status, body = answer(params) if answer else (404, b"{}")
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            """Keep the test's output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        canned.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield canned
        finally:
            server.shutdown()
            thread.join(10)
