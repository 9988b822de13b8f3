"""A ClickHouse for tests of what all stores have in common."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.clickhouse_server import ClickHouse
from tests.engines import need_package

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def clickhouse_options(folder: Path) -> Iterator[dict[str, str]]:
    """Run a server with its data under *folder*; yield the options of a store in it."""
    need_package("chdb")
    with ClickHouse(folder) as server:
        yield {"url": server.url}
