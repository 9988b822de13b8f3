"""The HTTP server with the page: one thread with an event loop, which itself waits for nothing.

Answers are made in threads beside it: probes in some of their own, figures in others, and those of
the page one at a time, so that who looks at it takes little from who records. Needs the extra web.
"""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from http import HTTPStatus
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from bintrades.app.monitoring.beside import Beside, BusyError
from bintrades.app.monitoring.endpoints import LONGEST_PATH, Answer
from bintrades.app.monitoring.live import Listener, Live
from bintrades.app.monitoring.page_data import MOST_SYMBOLS, BadQuestionError, PageData
from bintrades.app.monitoring.server import HttpWorker, answered
from bintrades.errors import JournalError
from bintrades.util.text import as_json
from bintrades.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from bintrades.app.monitoring.endpoints import Endpoints
    from bintrades.options.types import HostAndPort

_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    "/chart.js": ("chart.js", "text/javascript; charset=utf-8"),
}
_HEADERS = [
    ("Server", f"bintrades/{__version__}"),
    ("Connection", "close"),  # so that no connection is longer than its answer
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'"),
    ("X-Content-Type-Options", "nosniff"),
]
_TEXT, _JSON = "text/plain; charset=utf-8", "application/json"
_CONNECTIONS = 256
_ANSWER_WITHIN_S = 12.0
_CUT_OFF_AFTER_S = 15.0
_LOOK_EVERY_S = 0.5
_KEPT_S = 1.0
_MOST_KEPT = 64


class WebServer(HttpWorker):
    """Answers everything, the page included."""

    def __init__(self, listen: HostAndPort, endpoints: Endpoints, journal: Path) -> None:
        super().__init__(listen)
        self._endpoints = endpoints
        self._data = PageData(journal)

    def serve(self) -> None:
        """Answer until stopped; raise OSError where the address cannot be had."""
        family = socket.AF_INET6 if ":" in self._listen.host else socket.AF_INET
        with socket.create_server(tuple(self._listen), family=family, backlog=64) as listening:
            self.say_where(listening.getsockname()[1])
            asyncio.run(self._serve(listening))

    async def _serve(self, listening: socket.socket) -> None:
        config = uvicorn.Config(
            _Answers(self._endpoints, self._data).application,
            http=_Connection,
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            headers=_HEADERS,
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=0,
        )
        server = uvicorn.Server(config)
        beating = asyncio.create_task(self._beat(server))
        await server.serve(sockets=[listening])
        beating.cancel()

    async def _beat(self, server: uvicorn.Server) -> None:
        while not self._stopping.is_set():
            self.beat()
            await asyncio.sleep(_LOOK_EVERY_S)
        server.should_exit = True


class _Connection(H11Protocol):
    """A connection that is cut off when its request or its answer takes too long.

    That of a listener may last, as long as what is sent to it is taken. Where there are too many,
    whoever has been asking for longest makes room.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.made_at = self.loop.time()
        if len(self.connections) >= _CONNECTIONS - 1:
            self._make_room()
        super().connection_made(transport)
        self.loop.call_later(_CUT_OFF_AFTER_S, self._look)

    def _make_room(self) -> None:
        asking = [each for each in self.connections if isinstance(each, _Connection)]
        asking = [each for each in asking if each.scope is None]
        if asking:
            slowest = min(asking, key=lambda each: each.made_at)
            self.connections.discard(slowest)
            slowest.transport.abort()

    def _look(self) -> None:
        is_listening = self.scope is not None and self.scope["path"] == "/events"
        if self.transport.is_closing() and not self.transport.get_write_buffer_size():
            return
        if is_listening and not self.flow.write_paused and not self.transport.is_closing():
            self.loop.call_later(_CUT_OFF_AFTER_S, self._look)
        else:
            self.transport.abort()


class _Answers:
    """What is answered to which request. All methods run on the event loop."""

    def __init__(self, endpoints: Endpoints, data: PageData) -> None:
        self._endpoints = endpoints
        self._data = data
        self._alive = Beside("http-alive", at_once=2, waiting=30)
        self._ready = Beside("http-ready", at_once=2, waiting=30)
        self._figures = Beside("http-figures", at_once=2, waiting=30)
        self._page = Beside("http-page", at_once=1, waiting=60, rests=True)
        self._live = Live(data, self._page)
        self._kept: dict[str, tuple[float, asyncio.Task[Answer]]] = {}
        routes = [
            *(Route(path, self._file) for path in _FILES),
            Route("/api/{question}", self._api),
            Route("/events", self._events),
            Route("/{path:path}", self._told),
        ]
        self.application = Starlette(routes=routes)
        folder = files("bintrades.app.monitoring") / "page"
        self._files = {
            path: Answer(HTTPStatus.OK, kind, (folder / name).read_bytes())
            for path, (name, kind) in _FILES.items()
        }

    async def _file(self, request: Request) -> Response:
        return _response(self._files[request.url.path])

    async def _told(self, request: Request) -> Response:
        """Answer what the other server answers as well."""
        path = request.url.path
        answer = partial(self._endpoints.answer, path, request.headers.get("accept", ""))
        beside = {"/healthz": self._alive, "/readyz": self._ready}.get(path, self._figures)
        return _response(await _in_time(beside.call(partial(answered, answer))))

    async def _api(self, request: Request) -> Response:
        """Answer with data; who asks the same within a second gets the same answer."""
        asked = f"{request.url.path}?{request.url.query}"
        if len(asked) > LONGEST_PATH:
            return _response(_problem(HTTPStatus.REQUEST_URI_TOO_LONG, "the question is too long"))
        now = asyncio.get_running_loop().time()
        since, task = self._kept.get(asked, (now, None))
        if task is None or (task.done() and now - since > _KEPT_S):
            question, given = request.path_params["question"], dict(request.query_params)
            answer = partial(answered, partial(self._answer, question, given))
            task = asyncio.create_task(self._page.call(answer))
            self._keep(asked, now, task)
        return _response(await _in_time(asyncio.shield(task)))

    def _keep(self, asked: str, now: float, task: asyncio.Task[Answer]) -> None:
        for other, (since, kept) in list(self._kept.items()):
            if kept.done() and (now - since > _KEPT_S or len(self._kept) >= _MOST_KEPT):
                del self._kept[other]
        self._kept[asked] = (now, task)

    def _answer(self, question: str, given: dict[str, str]) -> Answer:
        """Answer in a thread beside."""
        try:
            text = as_json(self._data.answer(question, given))
        except BadQuestionError as error:
            return _problem(HTTPStatus.BAD_REQUEST, str(error))
        except JournalError as error:
            return _problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        return Answer(HTTPStatus.OK, _JSON, text.encode())

    async def _events(self, request: Request) -> Response:
        """Tell what is new until the listener goes."""
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        if self._live.is_full:
            return _response(_problem(HTTPStatus.SERVICE_UNAVAILABLE, "too many listen already"))
        symbols = request.query_params.get("symbols", "").split(",")[:MOST_SYMBOLS]
        return _Events(self._live, Listener(request.query_params.get("symbol", ""), symbols))


class _Events(StreamingResponse):
    """A response that lasts as long as its listener listens."""

    def __init__(self, live: Live, listener: Listener) -> None:
        super().__init__(listener.events(), media_type="text/event-stream")
        self._live = live
        self._listener = listener

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._live.listening(self._listener):
            await super().__call__(scope, receive, send)


async def _in_time(answer: Any) -> Answer:
    """Return *answer*, or what is said where it takes too long or too many wait for others."""
    try:
        found: Answer = await asyncio.wait_for(answer, _ANSWER_WITHIN_S)
    except TimeoutError:
        return _problem(HTTPStatus.SERVICE_UNAVAILABLE, "the answer takes too long")
    except BusyError:
        return _problem(HTTPStatus.SERVICE_UNAVAILABLE, "too many ask; try again")
    return found


def _problem(status: HTTPStatus, text: str) -> Answer:
    return Answer(status, _TEXT, f"{text}\n".encode())


def _response(answer: Answer) -> Response:
    response = Response(answer.body, answer.status, media_type=None)
    response.headers["Content-Type"] = answer.content_type
    return response
