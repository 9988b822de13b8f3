"""A file."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.engines import need_package

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def duckdb_options(folder: Path) -> Iterator[dict[str, str]]:
    """Yield the options of a file in *folder* that is not there yet."""
    need_package("duckdb")
    yield {"path": str(folder / "bars.duckdb")}
