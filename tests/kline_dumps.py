"""Files in the form of the public dumps, of trades."""

from __future__ import annotations

import zipfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bintrades.util.durations import format_duration
from tests.klines import klines_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from bintrades.model import Kline, Trade

DAY_MS = 86_400_000
HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,"
    "taker_buy_volume,taker_buy_quote_volume,ignore"
)


def dump_row(kline: Kline, *, per_ms: int = 1) -> str:
    """Return a row of a dump, with times in units of which a millisecond has *per_ms*."""
    end = (kline.open_time_ms + kline.interval_ms) * per_ms - 1
    return (
        f"{kline.open_time_ms * per_ms},{kline.open_price:.8f},{kline.max_price:.8f},"
        f"{kline.min_price:.8f},{kline.close_price:.8f},{kline.quantity:.8f},{end},"
        f"{kline.value:.8f},{kline.trade_count},{kline.buy_quantity:.8f},{kline.buy_value:.8f},0"
    )


def dump_name(symbol: str, interval_ms: int, day_ms: int) -> str:
    """Return the name of the dump of a day, without its ending."""
    day = datetime.fromtimestamp(day_ms // 1_000, UTC).date().isoformat()
    return f"{symbol}-{format_duration(interval_ms)}-{day}"


def write_dump(
    folder: Path, symbol: str, trades: Iterable[Trade], interval_ms: int, day_ms: int
) -> Path:
    """Write the CSV of *day_ms*, with the klines that have trades of *symbol*."""
    own = [trade for trade in trades if trade.symbol == symbol]
    times = [trade.time for trade in own if day_ms <= trade.time < day_ms + DAY_MS]
    since = min(times) // interval_ms * interval_ms
    until = max(times) // interval_ms * interval_ms + interval_ms
    of_day = [trade for trade in own if since <= trade.time < until]
    path = folder / f"{dump_name(symbol, interval_ms, day_ms)}.csv"
    rows = map(dump_row, klines_of(of_day, interval_ms, since, until))
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


def zipped(path: Path) -> Path:
    """Put a CSV into a zip beside it and return that."""
    archive = path.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.write(path, path.name)
    return archive
