"""executemany of INSERT."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bintrades import Bar

_TYPES = {str: "text", int: "bigint", bool: "boolean", Decimal: "numeric", datetime: "timestamptz"}


def write_plain(options: dict[str, str], batches: Sequence[Sequence[Bar]]) -> None:
    """Insert each batch in a transaction, into a table with the primary key."""
    fields = batches[0][0].as_dict()
    columns = ", ".join(f"{name} {_TYPES[type(value)]}" for name, value in fields.items())
    places = ", ".join(["%s"] * len(fields))
    insert = f"INSERT INTO bars VALUES ({places})".encode()  # noqa: S608 - of placeholders alone
    with psycopg.connect(options["dsn"], autocommit=True) as connection:
        connection.execute(
            f"CREATE TABLE bars ({columns}, PRIMARY KEY (symbol, open_time, market))".encode()
        )
        for batch in batches:
            rows = [tuple(bar.as_dict().values()) for bar in batch]
            with connection.transaction(), connection.cursor() as cursor:
                cursor.executemany(insert, rows)
