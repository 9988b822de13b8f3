"""executemany of INSERT."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import duckdb

from bintrades import Bar

if TYPE_CHECKING:
    from collections.abc import Sequence

_TYPES = {str: "VARCHAR", int: "BIGINT", bool: "BOOLEAN", datetime: "TIMESTAMPTZ"}
_TYPES[Decimal] = "DECIMAL(38, 18)"
_LEFT_OUT = "average_price"  # of which 34 digits would be rounded


def write_plain(options: dict[str, str], batches: Sequence[Sequence[Bar]]) -> None:
    """Insert each batch in a transaction, into a table with the primary key, all the time open."""
    names = [name for name in batches[0][0].as_dict() if name != _LEFT_OUT]
    fields = batches[0][0].as_dict()
    columns = ", ".join(f"{name} {_TYPES[type(fields[name])]}" for name in names)
    places = ", ".join("?" * len(names))
    insert = f"INSERT INTO bars VALUES ({places})"  # noqa: S608 - of placeholders alone
    with duckdb.connect(options["path"]) as connection:
        connection.execute(
            f"CREATE TABLE bars ({columns}, PRIMARY KEY (symbol, open_time, market))"
        )
        for batch in batches:
            rows = [[fields[name] for name in names] for fields in map(Bar.as_dict, batch)]
            connection.begin()
            connection.executemany(insert, rows)
            connection.commit()
