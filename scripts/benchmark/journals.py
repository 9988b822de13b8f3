"""Journals of some age, and how fast a store gets what waits in one."""

from __future__ import annotations

import subprocess
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pymongo
from msgspec.structs import replace

from bintrades.core.write_batch import WriteBatch
from bintrades.journal.cursor import Cursor
from bintrades.journal.writer import Journal
from bintrades.model import Bar
from scripts.benchmark.collector import command, show_log, write_configuration
from scripts.benchmark.load import START_MS, symbols
from scripts.benchmark.processes import Sender, cpu_seconds, ended

if TYPE_CHECKING:
    from scripts.benchmark.load import Load

INTERVAL_MS = 10_000
AT_ONCE = 20_000
PLAIN_BATCH = 1_000
TIMEOUT_S = 900.0

_BAR = Bar(
    symbol="",
    market="spot",
    open_time_ms=0,
    interval_ms=INTERVAL_MS,
    trade_count=17,
    buy_count=8,
    quantity=Decimal("12.34567"),
    buy_quantity=Decimal("5.60123"),
    value=Decimal("819204.8151623"),
    buy_value=Decimal("371640.0117"),
    open_price=Decimal("66355.12"),
    close_price=Decimal("66355.88"),
    min_price=Decimal("66354.9"),
    max_price=Decimal("66356.01"),
    first_trade_id=-17,  # the ids of a load begin at 0, and go on where those of old bars end
    last_trade_id=-1,
    first_trade_time_ms=0,
    last_trade_time_ms=0,
)


@dataclass(frozen=True, slots=True)
class Drained:
    """How a store got what waited for it, beside plain insert_many on the same server."""

    bars: int
    seconds: float
    cpu_s: float  # of the collector
    plain_per_second: float

    @property
    def per_second(self) -> float:
        """Bars."""
        return self.bars / self.seconds


def make_journal(
    path: Path, rows: int, symbol_count: int, *, interval_ms: int = INTERVAL_MS
) -> None:
    """Make a journal with *rows* bars of *symbol_count* symbols, of some days of 2024."""
    names = symbols(symbol_count)
    with closing(
        Journal(path, exchange="binance", market="spot", stream="trade", interval_ms=interval_ms)
    ) as journal:
        for start in range(0, rows, AT_ONCE):
            bars = {}
            for number in range(start, min(start + AT_ONCE, rows)):
                symbol = names[number % symbol_count]
                open_time = START_MS + number // symbol_count * interval_ms
                bars[symbol, open_time] = replace(
                    _BAR,
                    symbol=symbol,
                    open_time_ms=open_time,
                    interval_ms=interval_ms,
                    first_trade_time_ms=open_time + 7,
                    last_trade_time_ms=open_time + 811,
                )
            journal.write(WriteBatch(finished=bars), time.time_ns() // 1_000_000)


def move_to_the_end(path: Path, store: str) -> None:
    """Have it that *store* has every bar of a journal."""
    cursor = Cursor(path, store)
    while True:
        bars, sequence = cursor.next_bars(AT_ONCE)
        if not bars:
            return
        cursor.move(sequence, bars)


def drain(journal: Path, rows: int, load: Load, uri: str) -> Drained:
    """Measure how a real collector without trades brings *rows* bars of *journal* into MongoDB."""
    sender = Sender(load)
    collection = f"bars{time.time_ns()}"
    with tempfile.TemporaryDirectory() as name, pymongo.MongoClient[dict[str, Any]](uri) as client:
        folder = Path(name)
        journal.rename(folder / "journal")
        config = write_configuration(
            folder, load, sender, store="mongodb", options={"uri": uri, "collection": collection}
        )
        bars = client.bintrades[collection]
        sender.send("serve")
        try:
            with ended(subprocess.Popen(command(config))) as process:
                while not (first := bars.estimated_document_count()):
                    _wait(process)
                started, cpu_before = time.perf_counter(), cpu_seconds(process.pid)
                while bars.estimated_document_count() < rows:
                    _wait(process)
                    if time.perf_counter() - started > TIMEOUT_S:
                        raise TimeoutError(f"{bars.estimated_document_count()} of {rows} came")
                seconds = time.perf_counter() - started
                cpu_s = cpu_seconds(process.pid) - cpu_before
        except Exception:
            show_log(config)
            raise
        sender.kill()
        bars.drop()
        plain = client.bintrades[f"plain{time.time_ns()}"]
        plain_per_second = _insert_plainly(plain, rows)
        plain.drop()
    return Drained(rows - first, seconds, cpu_s, plain_per_second)


def _wait(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        raise RuntimeError(f"exit status {process.returncode} of {process.args!r}")
    time.sleep(0.02)


def _insert_plainly(collection: pymongo.collection.Collection[dict[str, Any]], rows: int) -> float:
    """Return how many ready small documents of floats a second insert_many brings in."""
    documents: list[dict[str, Any]] = [
        {
            "symbol": f"C{number % 400:03d}USDT",
            "time": START_MS + number // 400 * INTERVAL_MS,
            "open": 66355.12,
            "high": 66356.01,
            "low": 66354.9,
            "close": 66355.88,
            "volume": 12.34567 + number,
        }
        for number in range(min(rows, 200_000))
    ]
    started = time.perf_counter()
    for start in range(0, len(documents), PLAIN_BATCH):
        collection.insert_many(documents[start : start + PLAIN_BATCH])
    return len(documents) / (time.perf_counter() - started)
