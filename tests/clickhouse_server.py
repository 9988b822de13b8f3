"""A ClickHouse for tests: its engine (chdb) in a process of its own, behind its HTTP interface.

The engine is that of the server. What stands in front of it is as much of the HTTP interface as
clickhouse-connect uses: so a test can kill, pause and restart it as it can a server, and the tests
do not have half a gigabyte of engine in their own process, which may have one only.

    python -m tests.clickhouse_server FOLDER PORT PASSWORD    is that process
"""

from __future__ import annotations

import base64
import os
import re
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

_NO_SETTINGS = frozenset(
    {
        "client_protocol_version",
        "database",
        "enable_http_compression",
        "http_headers_progress_interval_ms",
        "query",
        "query_id",
        "send_progress_in_http_headers",
        "session_id",
        "wait_end_of_query",
    }
)
"""Parameters of a request that are no settings of the query; those of param_... are its own."""

_INSERT = re.compile(rb"\s*INSERT INTO (\S+) \(([^)]*)\) FORMAT Native\n")
_CODE = re.compile(r"Code: (\d+)")


class ClickHouse:
    """A server on loopback with its data under *folder*; it never outlives this process."""

    def __init__(self, folder: Path, password: str = "") -> None:
        self.password = password
        self.port = 0
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """Where its HTTP interface is."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> ClickHouse:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, at the port that it had before, and wait until it listens."""
        assert self._process is None, "it runs already"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(self._folder), str(self.port), self.password],
            cwd=Path(__file__).parents[1],
            env={**os.environ, "TZ": "Asia/Tokyo"},  # whatever that of the server is
            stdin=subprocess.PIPE,  # its end is that of the server
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        port = self._process.stdout.readline()
        assert port, "the server has ended, and said why on stderr"
        self.port = int(port)

    def kill(self) -> None:
        """Kill it at once (kill -9); does nothing if it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def pause(self) -> None:
        """Have it take requests, and answer none."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Have it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


class _Engine:
    """The engine, of which a process has one, used by one request at a time."""

    def __init__(self, folder: str) -> None:
        import clickhouse_connect

        self._client: Any = clickhouse_connect.get_client(interface="chdb", path=folder)
        self._settings: dict[str, str] = {}
        self._database = ""
        self._lock = threading.Lock()

    def answer(self, body: bytes, parameters: dict[str, str]) -> bytes:
        """Return what the server would to a request."""
        with self._lock:
            self._prepare(parameters)
            if insert := _INSERT.match(body):
                columns = insert[2].decode().replace("`", "").split(", ")
                self._client.raw_insert(
                    insert[1].decode(), columns, body[insert.end() :], fmt="Native"
                )
                return b""
            bound = {name[6:]: parameters[name] for name in parameters if name[:6] == "param_"}
            answer: bytes = self._client.raw_query(body.decode(), bound, use_database=False)
            return answer

    def _prepare(self, parameters: dict[str, str]) -> None:
        """Set what the request sets, where the one before it has not."""
        for name, value in parameters.items():
            if name in _NO_SETTINGS or name.startswith("param_"):
                continue
            if self._settings.get(name) != value:
                self._client.command(f"SET {name} = '{value}'")
                self._settings[name] = value
        if (database := parameters.get("database", "default")) != self._database:
            self._client.command(f"USE {database}")
            self._client.database = self._database = database


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    engine: _Engine
    password: str

    def do_POST(self) -> None:
        body = self._body()
        parameters = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        try:
            if not self._is_let_in():
                raise PermissionError("Code: 516. DB::Exception: Authentication failed")
            answer, code = self.engine.answer(body, parameters), ""
        except Exception as error:
            answer = str(error).encode()
            code = found[1] if (found := _CODE.search(str(error))) else "1002"
        self.send_response(500 if code else 200)
        if code:
            self.send_header("X-ClickHouse-Exception-Code", code)
        elif answer:
            self.send_header("X-ClickHouse-Format", "TabSeparated")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called
        """Say nothing of each request."""

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _is_let_in(self) -> bool:
        given = base64.b64encode(f"default:{self.password}".encode()).decode()
        return self.headers.get("Authorization") == f"Basic {given}"


def _serve(folder: str, port: str, password: str) -> None:
    _Request.engine, _Request.password = _Engine(folder), password
    with ThreadingHTTPServer(("127.0.0.1", int(port)), _Request) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(server.server_address[1], flush=True)  # noqa: T201 - for who has started it
        sys.stdin.read()


if __name__ == "__main__":
    _serve(*sys.argv[1:])
