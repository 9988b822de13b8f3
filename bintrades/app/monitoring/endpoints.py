"""What a collector answers over HTTP, whatever carries it: probes, metrics, its status.

/healthz is answered from memory, so that neither a slow disk nor whoever reads the rest delays it.
What is read from the journal is read by one caller at a time, and shared for some seconds.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from prometheus_client.exposition import choose_encoder

from bintrades.app.health import CollectorState, stuck_workers, unready
from bintrades.app.monitoring.metrics import make_registry
from bintrades.app.status import live_status, waiting_bars
from bintrades.errors import JournalError
from bintrades.util.clocks import now_ms
from bintrades.util.text import as_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    Figures = Callable[[], dict[str, Any]]

_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json"
_KEPT_MS = 2_000

_HOW_TO_GET_THE_PAGE = (
    b"the page needs the extra web: python3 -m pip install 'bintrades[web]'"
    b" into the environment of the collector, and a restart\n"
)

LONGEST_PATH = 4_096
"""With its question, which only the page has."""

PATHS = ("/healthz", "/readyz", "/metrics", "/status")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a request."""

    status: HTTPStatus
    content_type: str
    body: bytes


class Endpoints:
    """The answers of one collector. Any thread.

    *figures* returns what the collector knows of itself, from memory; see figures.py.
    """

    def __init__(self, figures: Figures, journal: Path, stores: Sequence[str]) -> None:
        self.figures = figures
        self._journal = journal
        self._stores = stores
        self._registry = make_registry(self._status)
        self._reading = threading.Lock()
        self._last_status: dict[str, Any] = {}
        self._read_at = 0  # monotonic; 0: never

    def answer(self, path: str, accept: str = "") -> Answer:
        """Return the answer to a GET of *path*; *accept* is the request's header of that name."""
        if len(path) > LONGEST_PATH:
            return Answer(HTTPStatus.REQUEST_URI_TOO_LONG, _TEXT, b"the address is too long\n")
        match path.partition("?")[0]:
            case "/healthz":
                return _probe(stuck_workers(self.figures()))
            case "/readyz":
                return _probe(self._unready())
            case "/metrics":
                encode, content_type = choose_encoder(accept)
                return Answer(HTTPStatus.OK, content_type, encode(self._registry))
            case "/status":
                return Answer(HTTPStatus.OK, _JSON, as_json(self._status(), indent=2).encode())
            case "/":
                return Answer(HTTPStatus.NOT_FOUND, _TEXT, _HOW_TO_GET_THE_PAGE)
        found = f"there is nothing here; what there is: {', '.join(('/', *PATHS))}\n"
        return Answer(HTTPStatus.NOT_FOUND, _TEXT, found.encode())

    def _unready(self) -> list[str]:
        figures = self.figures()
        if figures["state"] != CollectorState.RUNNING:
            return unready(figures, {})
        try:
            return unready(figures, waiting_bars(self._journal, self._stores))
        except JournalError as error:
            return [*unready(figures, {}), str(error)]

    def _status(self) -> dict[str, Any]:
        """Return what `bintrades status --json` shows, some seconds old at the most."""
        with self._reading:
            if not self._read_at or now_ms() - self._read_at > _KEPT_MS:
                self._last_status = live_status(self.figures(), self._journal, self._stores)
                self._read_at = now_ms()
            return self._last_status


def _probe(problems: Iterable[str]) -> Answer:
    """Return what a probe is told: that all is well, or each problem on a line."""
    lines = list(problems)
    status = HTTPStatus.SERVICE_UNAVAILABLE if lines else HTTPStatus.OK
    return Answer(status, _TEXT, "".join(f"{line}\n" for line in lines or ["ok"]).encode())
