"""A recorded session of USD-M futures against the exchange's own klines of the same minutes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bintrades.core.verification import Outcome, compare
from bintrades.exchange.batch import Batch
from bintrades.exchange.binance.kline_dump import open_dumps
from bintrades.exchange.binance.trade_messages import decode_futures_trades
from bintrades.testing.recordings import read_recording
from tests.klines import MINUTE_MS
from tests.recordings import recorded
from tests.strategies import INTERVAL, bars_of

if TYPE_CHECKING:
    from pathlib import Path

MIDNIGHT = 1_723_161_600_000
HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
    "taker_buy_quote_volume,ignore"
)


def dumps_of(lines: list[str], symbol: str, folder: Path) -> list[Path]:
    """Write the klines into files as the exchange publishes them, one of each day."""
    paths = []
    for day, is_before in (("2024-08-08", True), ("2024-08-09", False)):
        rows = [line for line in lines if (int(line.split(",")[0]) < MIDNIGHT) == is_before]
        path = folder / f"{symbol}-1m-{day}.csv"
        path.write_text("\n".join([HEADER, *rows]), encoding="utf-8")
        paths.append(path)
    return paths


@pytest.mark.parametrize(
    ("symbol", "klines", "count"),
    [
        ("BTCUSDT", "usdm_BTCUSDT_1m_20240808T2355-20240809T0005.csv", 21_313),
        ("ETHUSDT", "usdm_ETHUSDT_1m_20240808T2354-20240809T0005.csv", 14_076),
    ],
)
def test_bars_of_the_trades_equal_the_klines_in_every_full_minute(
    tmp_path: Path, symbol: str, klines: str, count: int
) -> None:
    session = recorded(f"usdm_20240808/usdm_{symbol.lower()}_20240808.trades.gz")
    lines = recorded(f"usdm_20240808/{klines}").read_text(encoding="utf-8").split()

    decoded = decode_futures_trades(Batch([frame for _, frame in read_recording(session)]))
    (dump,) = open_dumps(dumps_of(lines, symbol, tmp_path))

    assert decoded.kinds == {"MARKET": count}
    since, until = MIDNIGHT - 5 * MINUTE_MS, MIDNIGHT
    bars = [bar for bar in bars_of(decoded.trades).values() if since <= bar.open_time_ms < until]
    compared = list(
        compare(
            symbol,
            sorted(bars, key=lambda bar: bar.open_time_ms),
            dump.klines(symbol, MINUTE_MS, since, until),
            since,
            until,
            interval_ms=INTERVAL,
            kline_ms=MINUTE_MS,
            covered=[(since, until)],
        )
    )
    assert [each.outcome for each in compared] == [Outcome.EQUAL] * 5
