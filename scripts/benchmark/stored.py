"""How soon bars are in the store, and what is written to disk meanwhile, as the market goes on."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pymongo

from scripts.benchmark.collector import run_collector, write_configuration
from scripts.benchmark.processes import Measured, Sender

if TYPE_CHECKING:
    from scripts.benchmark.load import Load

GRACE_MS = 500
DAY_S = 86_400
LONG_S = 40
"""Seconds from which a load is long enough for bars of ten seconds; others have bars of one."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What one run told."""

    measured: Measured
    latencies_ms: list[int]  # from the end of an interval plus grace until its bar was durable

    @property
    def written_a_day(self) -> float:
        """Bytes, if it went on like this."""
        return self.measured.written_bytes / self.measured.sending_s * DAY_S

    def latency_ms(self, percent: int) -> int:
        """Return what *percent* of the bars did not exceed."""
        return int(statistics.quantiles(self.latencies_ms, n=100)[percent - 1])


def interval_s(load: Load) -> int:
    """Return the length of the bars, of which there are to be some."""
    return 10 if load.trades >= LONG_S * load.trades_per_second else 1


def run_stored(load: Load, uri: str, journal: Path | None = None) -> Stored:
    """Measure a collector of a live *load* that stores into MongoDB, if there is a *uri*.

    It goes on with a copy of *journal*, if there is one.
    """
    sender = Sender(load)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if journal is not None:
            shutil.copy(journal, folder / "journal")
        options = {"file": str(folder / "stored")}
        collection = f"bars{time.time_ns()}"
        if uri:
            options |= {"uri": uri, "collection": collection}
        config = write_configuration(
            folder,
            load,
            sender,
            interval_s=interval_s(load),
            streams=400,
            store="timed",
            options=options,
        )
        now_ms = time.time_ns() // 1_000_000
        since_ms = now_ms - now_ms % (interval_s(load) * 1000)  # when the first bar may open
        measured = run_collector(config, sender, since_ms=since_ms)
        latencies = _latencies(folder / "stored")
    if uri:
        with pymongo.MongoClient[dict[str, Any]](uri) as client:
            client.bintrades.drop_collection(collection)
    sender.close()
    return Stored(measured, latencies)


def _latencies(path: Path) -> list[int]:
    """Return those of all bars but of the first interval, in which everything starts."""
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = [(int(end), int(stored)) for end, stored in (line.split() for line in lines)]
    first = min(end for end, _ in pairs)
    return [stored - end - GRACE_MS for end, stored in pairs if end > first]
