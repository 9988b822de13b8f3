"""The plainest way to have bars in ClickHouse: a table, and an insert for each batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import clickhouse_connect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bintrades import Bar

_KINDS = {"_time": "DateTime64(3)", "_at": "DateTime64(3)", "_id": "Int64", "_count": "Int64"}
_OTHERS = {
    "symbol": "String",
    "market": "String",
    "interval_seconds": "Int64",
    "epoch": "Int64",
    "version": "Int64",
    "is_closed": "Bool",
    "is_complete": "Bool",
}


def write_plain(options: dict[str, str], batches: Sequence[Sequence[Bar]]) -> None:
    """Insert all bars of *batches* of the spot market, each batch durable before the next."""
    client = clickhouse_connect.get_client(
        dsn=options["url"],
        username=options.get("user", "default"),
        password=options.get("password", ""),
        database=options.get("database", "default"),
        compress=False,
    )
    names = [name for name in batches[0][0].as_dict() if name != "average_price"]
    columns = ", ".join(f"{name} {_kind(name)}" for name in names)
    client.command(
        f"CREATE TABLE IF NOT EXISTS plain ({columns}) ENGINE = ReplacingMergeTree(updated_at)"
        " ORDER BY (symbol, open_time) SETTINGS fsync_after_insert = 1, fsync_part_directory = 1"
    )
    for batch in batches:
        rows = []
        for bar in batch:
            fields = bar.as_dict()
            rows.append([fields[name] for name in names])
        client.insert("plain", rows, column_names=names)
    client.close()


def _kind(name: str) -> str:
    if name in _OTHERS:
        return _OTHERS[name]
    kinds = [kind for ending, kind in _KINDS.items() if name.endswith(ending)]
    return kinds[0] if kinds else "Decimal(38, 18)"
