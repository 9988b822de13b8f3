"""A MongoDB server of limited throughput: it takes some writes of a bulk and refuses the others."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import bson

if TYPE_CHECKING:
    from collections.abc import Iterator

Document = dict[str, Any]

_HEADER = struct.Struct("<iiii")  # length, request, what it answers, kind of message
_OP_MSG = 2013
_MORE_TO_COME = 2
_LISTS = {"insert": "documents", "update": "updates"}


class _Message(NamedTuple):
    """An OP_MSG: a command or an answer, and the list of documents that may go with it."""

    request: int
    answers: int
    flags: int
    body: Document
    documents: list[Document]

    @classmethod
    def of(cls, raw: bytes) -> _Message:
        _, request, answers, _ = _HEADER.unpack_from(raw)
        (flags,) = struct.unpack_from("<I", raw, 16)
        body: Document = {}
        documents: list[Document] = []
        at = 20
        while at < len(raw):
            (size,) = struct.unpack_from("<i", raw, at + 1)
            section = raw[at + 1 : at + 1 + size]
            if raw[at] == 0:
                body = bson.decode(section)
            else:
                documents = bson.decode_all(section[section.index(0, 4) + 1 :])
            at += 1 + size
        return cls(request, answers, flags, body, documents)

    def raw(self) -> bytes:
        body = dict(self.body)
        if self.documents:
            body[_LISTS[next(iter(body))]] = self.documents
        content = struct.pack("<IB", self.flags, 0) + bson.encode(body)
        return _HEADER.pack(16 + len(content), self.request, self.answers, _OP_MSG) + content


class ThrottledServer:
    """Stands before a real server, which does all that it is asked to but for what is too much.

    Of each bulk of inserts or updates it lets *room* through, the first ones. Each of the others is
    answered with *code* and *message*, as a write that the server did not do. Runs inside a `with`
    block.
    """

    def __init__(self, host: str, port: int, *, code: int, message: str, room: int) -> None:
        self.room = room
        self.bulks: list[int] = []
        """How many writes each bulk had."""
        self._server = (host, port)
        self.code = code
        self._message = message
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = [self._listener]
        self._threads: list[threading.Thread] = []

    @property
    def uri(self) -> str:
        """How a client gets here and not to the server behind."""
        return f"mongodb://127.0.0.1:{self._listener.getsockname()[1]}/?directConnection=true"

    def __enter__(self) -> ThrottledServer:
        self._start(self._accept)
        return self

    def __exit__(self, *_error: object) -> None:
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join()

    def _start(self, target: Any, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
            except OSError:
                return
            self._sockets += [client, server]
            self._start(self._serve, client, server)

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError), client, server:
            while True:
                asked = _receive(client)
                if _HEADER.unpack_from(asked)[3] == _OP_MSG:
                    message = _Message.of(asked)
                    if next(iter(message.body)) in _LISTS:
                        client.sendall(self._write(message, server))
                        continue
                server.sendall(asked)
                for answer in _answers(server):
                    client.sendall(answer)

    def _write(self, message: _Message, server: socket.socket) -> bytes:
        """Have the server do as much as there is room for; return the answer to all of it."""
        count = len(message.documents)
        self.bulks.append(count)
        answer = _Message(0, message.request, 0, {"ok": 1.0, "n": 0}, [])
        if self.room:
            server.sendall(message._replace(documents=message.documents[: self.room]).raw())
            answer = _Message.of(_receive(server))
        refused = [
            {"index": index, "code": self.code, "errmsg": self._message}
            for index in range(self.room, count)
        ]
        if refused:
            answer.body["writeErrors"] = [*answer.body.get("writeErrors", []), *refused]
        return answer.raw()


def _answers(server: socket.socket) -> Iterator[bytes]:
    """Yield the answer, and those that follow it without a question."""
    while True:
        raw = _receive(server)
        yield raw
        kind = _HEADER.unpack_from(raw)[3]
        if kind != _OP_MSG or not struct.unpack_from("<I", raw, 16)[0] & _MORE_TO_COME:
            return


def _receive(connection: socket.socket) -> bytes:
    """Return one message; raises EOFError at the end."""
    raw = b""
    length = _HEADER.size
    while len(raw) < length:
        more = connection.recv(length - len(raw))
        if not more:
            raise EOFError
        raw += more
        if len(raw) == _HEADER.size:
            (length, *_) = _HEADER.unpack(raw)
    return raw
