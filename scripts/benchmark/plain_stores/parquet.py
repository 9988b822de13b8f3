"""A file for each batch, with pyarrow."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bintrades import Bar

_DECIMAL = pa.decimal128(38, 18)


def write_plain(options: dict[str, str], batches: Sequence[Sequence[Bar]]) -> None:
    """Write each batch as a file that is synced: thousands of them a day, and bars twice."""
    folder = Path(options["path"])
    folder.mkdir(parents=True)
    for number, batch in enumerate(batches):
        rows = [bar.as_dict() for bar in batch]
        names = [name for name in rows[0] if name != "average_price"]
        columns = {name: [row[name] for row in rows] for name in names}
        table = pa.table(
            {
                name: pa.array(values, _DECIMAL if "price" in name or _is_sum(name) else None)
                for name, values in columns.items()
            }
        )
        path = folder / f"{number:08}.parquet"
        with path.open("wb") as file:
            pq.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())


def _is_sum(name: str) -> bool:
    return name.endswith(("quantity", "value"))
