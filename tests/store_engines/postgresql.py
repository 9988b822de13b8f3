"""PostgreSQL, for tests of all stores and for the benchmark."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.postgres_server import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def postgresql_options(folder: Path) -> Iterator[dict[str, str]]:
    """Run a server under *folder*; yield options of the store that lead to an empty database."""
    with PostgresServer(folder) as server:
        yield {"dsn": server.dsn}
