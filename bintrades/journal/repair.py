"""Puts bars that a command has made again in the place of the stored ones.

Whether a collector has the journal or not.
"""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

from bintrades.core.write_batch import WriteBatch
from bintrades.errors import JournalInUse
from bintrades.journal.reader import JournalReader
from bintrades.journal.writer import Journal
from bintrades.util.clocks import utc_ms

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from bintrades.journal.meta import JournalScope
    from bintrades.model import Bar

_LOOK_EVERY_S = 0.2


def replace_bars(
    path: Path, scope: JournalScope, bars: Iterable[Bar], *, within_s: float = 30.0
) -> list[Bar]:
    """Have *bars*, in the epoch after the stored ones, take their place; return which did not.

    They are refused where a gap on record touches them, where their end is not proven, and where
    they are still open: the log says so, of the collector if there is one. That has *within_s*
    seconds; what it does not take by then it takes later. Raises ConfigError and JournalError.
    """
    bars = list(bars)
    reader = JournalReader(path)
    try:
        journal = Journal(
            path,
            market=scope.market,
            interval_ms=scope.interval_ms,
            exchange=scope.exchange,
            stream=scope.stream,
        )
    except JournalInUse:
        reader.leave_rebuilt(bars)
        _wait_until_taken(reader, within_s)
    else:
        with closing(journal):
            batch = WriteBatch(rebuilt={(bar.symbol, bar.open_time_ms): bar for bar in bars})
            journal.write(batch, utc_ms(), exchange_ms=0)
    return [bar for bar in bars if not _is_in_place(reader, bar)]


def _wait_until_taken(reader: JournalReader, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while reader.has_rebuilt() and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY_S)


def _is_in_place(reader: JournalReader, bar: Bar) -> bool:
    stored = reader.bars(bar.symbol, bar.open_time_ms, bar.end_time_ms, 1)
    return bool(stored) and (stored[0].epoch, stored[0].trade_count) >= (
        bar.epoch,
        bar.trade_count,
    )
