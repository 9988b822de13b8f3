"""Which server answers: the one with the page, where the extra `web` is installed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from bintrades.app.monitoring.server import MonitoringServer

if TYPE_CHECKING:
    from pathlib import Path

    from bintrades.app.monitoring.endpoints import Endpoints
    from bintrades.app.monitoring.server import HttpWorker
    from bintrades.options.types import HostAndPort

_NEEDED = ("starlette", "uvicorn")


def make_server(listen: HostAndPort, endpoints: Endpoints, journal: Path) -> HttpWorker:
    """Return a server that is not started yet."""
    if not all(map(find_spec, _NEEDED)):
        return MonitoringServer(listen, endpoints)
    from bintrades.app.monitoring.web import WebServer

    return WebServer(listen, endpoints, journal)
