"""Where a verification takes its bars from: the journal, and stores that can be read."""

from __future__ import annotations

import sqlite3
import textwrap
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from bintrades.errors import BintradesError
from bintrades.journal.cursor import Cursor
from bintrades.journal.reader import JournalReader
from bintrades.pipeline.verification_sources import JournalBars, StoreBars
from bintrades.stores.loader import load_stores
from bintrades.testing.bars import OPEN_TIME_MS, sample_bars
from tests.journals import INTERVAL_MS, NOW, finished

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from bintrades.core.spans import Span
    from bintrades.journal.writer import Journal
    from bintrades.model import Bar

BTC = "BTCUSDT"
END = OPEN_TIME_MS + 4 * INTERVAL_MS
OPTIONS = {"token": "s3cr3tw0rd"}
PLUGIN = """
    from bintrades import Option, hookimpl

    class Store:
        OPTIONS = (Option("token", "", "what lets us in", is_secret=True),)
        bars = []

        @hookimpl
        def open_store(self, options):
            self.token = options["token"]

        @hookimpl
        def store_bars(self, bars):
            self.bars.extend(bars)

        @hookimpl
        def read_bars(self, symbol, since, until):
            if not self.bars:
                raise RuntimeError(f"nobody is let in by {self.token}")
            return self.bars
"""


def everything(_symbol: str) -> list[Span]:
    """Return that all of that time is covered."""
    return [(OPEN_TIME_MS, END)]


def test_of_what_has_left_the_journal_nothing_is_known(journal: Journal, path: Path) -> None:
    bars = sample_bars(4)
    journal.write(finished(*bars), NOW)
    source = JournalBars(JournalReader(path), everything)

    assert source.covered(BTC, 0, 2**62) == [(OPEN_TIME_MS, END)]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO pruned VALUES (?, ?)", (BTC, bars[1].open_time_ms))
    assert source.covered(BTC, 0, 2**62) == [(bars[2].open_time_ms, END)]
    assert source.covered(BTC, 0, bars[3].open_time_ms) == [
        (bars[2].open_time_ms, bars[3].open_time_ms)
    ]
    found = source.bars(BTC, 0, bars[3].open_time_ms)
    assert [bar.open_time_ms for bar in found] == [bar.open_time_ms for bar in bars[:3]]


def store_bars(folder: Path, path: Path, bars: Iterable[Bar]) -> StoreBars:
    """Return the bars of a store that has *bars*."""
    (folder / "mine.py").write_text(textwrap.dedent(PLUGIN), encoding="utf-8")
    (store,) = load_stores(["mine"], folder)
    store.open(OPTIONS)
    store.write(list(bars))
    return StoreBars(store, OPTIONS, JournalReader(path), everything, "spot")


def test_bars_of_another_market_or_length_are_others(
    journal: Journal, path: Path, tmp_path: Path
) -> None:
    bars = sample_bars(4)
    journal.write(finished(*bars), NOW)
    Cursor(path, "mine").move(2**40, [])
    others = [replace(bars[1], market="usdm"), replace(bars[2], interval_ms=60_000)]

    source = store_bars(tmp_path, path, [bars[0], *others, bars[3]])

    assert source.bars(BTC, OPEN_TIME_MS, END) == [bars[0], bars[3]]
    assert source.covered(BTC, bars[1].open_time_ms, 2**62) == [(bars[1].open_time_ms, END)]


def test_a_bar_that_a_store_is_still_to_get_is_not_held_against_it(
    journal: Journal, path: Path, tmp_path: Path
) -> None:
    bars = sample_bars(3)
    journal.write(finished(*bars), NOW)
    lesser = replace(bars[1], trade_count=2)
    better = replace(bars[2], trade_count=9)

    source = store_bars(tmp_path, path, [lesser, better])

    assert [
        (bar.open_time_ms, bar.trade_count, bar.is_complete)
        for bar in source.bars(BTC, OPEN_TIME_MS, END)
    ] == [
        (bars[0].open_time_ms, 3, False),
        (bars[1].open_time_ms, 3, False),
        (bars[2].open_time_ms, 9, True),
    ]


def test_why_a_store_cannot_be_read_is_said_without_its_secrets(
    journal: Journal, path: Path, tmp_path: Path
) -> None:
    journal.write(finished(*sample_bars(1)), NOW)
    source = store_bars(tmp_path, path, [])

    with pytest.raises(BintradesError, match=r"mine cannot be read: nobody is let in by \*\*\*"):
        source.bars(BTC, OPEN_TIME_MS, END)
