"""A Valkey that is durable, for tests of what all stores have in common."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def redis_options(folder: Path) -> Iterator[dict[str, str]]:
    """Run a server with its data under *folder*; yield the options of a store in it."""
    with RedisServer(folder) as server:
        yield {"url": server.url}
