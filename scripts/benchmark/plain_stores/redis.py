"""A hash for each bar, and a stream, in one pipeline that waits for the disk."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import redis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bintrades import Bar


def write_plain(options: dict[str, str], batches: Sequence[Sequence[Bar]]) -> None:
    """Write each batch by HSET, ZADD and XADD."""
    with redis.Redis.from_url(options["url"]) as client:
        for batch in batches:
            pipeline = client.pipeline(transaction=False)
            for bar in batch:
                fields = {name: _text(value) for name, value in bar.as_dict().items()}
                time = int(fields["open_time"])
                pipeline.hset(f"plain:{bar.symbol}:{time}", mapping=fields)
                pipeline.zadd(f"plain:{bar.symbol}", {str(time): time})
                pipeline.xadd(f"plain:{bar.symbol}:stream", fields, maxlen=1_000)
            pipeline.execute_command("WAITAOF", 1, 0, 30_000)
            pipeline.execute()


def _text(value: object) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return str(round(value.timestamp() * 1_000))
    return str(int(value)) if isinstance(value, bool) else str(value)
