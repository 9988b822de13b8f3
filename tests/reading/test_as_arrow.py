"""bintrades.bars() and bar_batches(): what programs and notebooks read."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from msgspec.structs import replace

import bintrades
from bintrades import BintradesError, arrow
from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.model import Gap, GapCause, utc
from bintrades.reading.sources import JournalSource, Known
from bintrades.stores.loader import load_stores
from bintrades.testing.bars import OPEN_TIME_MS, sample_bar, sample_bars
from tests.checkout import REPOSITORY
from tests.journals import by_key, finished, journal_at

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bintrades.model import Bar

PLUGINS = REPOSITORY / "plugins"
NOW = OPEN_TIME_MS + 10**9
MINUTE = 60_000
MIDNIGHT = "2024-08-08T00:00"

PLUGIN = """
from pathlib import Path
import msgspec
from bintrades import Bar, hookimpl

class Store:
    @hookimpl
    def open_store(self, options):
        self.bars = msgspec.json.decode(Path("bars.json").read_bytes(), type=list[Bar])
        self.closed = Path("closed").absolute()

    @hookimpl
    def store_bars(self, bars):
        raise NotImplementedError

    @hookimpl
    def read_bars(self, symbol, since, until):
        for bar in self.bars:
            if bar.symbol == symbol and since <= bar.open_time < until:
                if bar.version == 99:
                    raise OSError("the shelf is broken")
                yield bar

    @hookimpl
    def close_store(self):
        self.closed.touch()
"""


def write(
    path: Path, bars: Iterable[Bar], *, gaps: tuple[Gap, ...] = (), market: str = "spot"
) -> None:
    """Write a journal of *bars* whose symbols are covered from midnight to their last bar."""
    ends: dict[str, int] = {}
    for bar in bars:
        ends[bar.symbol] = max(ends.get(bar.symbol, 0), bar.end_time_ms)
    saved = {
        symbol: Checkpoint(
            LedgerState(10**6, end - 1, gaps),
            closed_through=end - 10_000,
            proven_ms=end,
            covered_since_ms=OPEN_TIME_MS,
        )
        for symbol, end in ends.items()
    }
    with journal_at(path, market=market) as journal:
        journal.write(WriteBatch(finished=by_key(bars), checkpoints=saved), NOW)


def given(*parts: range, **changes: Any) -> list[Bar]:
    """Return the sample bars of these places: no trades in between."""
    bars = sample_bars(max(part.stop for part in parts), **changes)
    return [bars[place] for part in parts for place in part]


def opened(table: pa.Table) -> list[tuple[str, int]]:
    """Return the symbol and the time of each row, in seconds since midnight."""
    return [
        (row["symbol"], (row["open_time"] - utc(OPEN_TIME_MS)) // timedelta(seconds=1))
        for row in table.select(list(arrow.KEY)).to_pylist()
    ]


@pytest.fixture
def config(path: Path) -> Path:
    """Return a configuration file beside the journal, with a store that can be read."""
    folder = path.parent
    (folder / "plugins").mkdir()
    (folder / "plugins" / "shelf.py").write_text(PLUGIN)
    file = folder / "bintrades.ini"
    file.write_text(f"[journal]\npath = {path}\n[stores]\nenabled = shelf\n")
    return file


def put_on_shelf(config: Path, bars: list[Bar]) -> None:
    (config.parent / "bars.json").write_bytes(msgspec.json.encode(bars))


def test_the_bars_of_a_journal_are_a_table_sorted_by_symbol_and_time(path: Path) -> None:
    bars = [*sample_bars(3), *sample_bars(2, symbol="ETHUSDT")]
    write(path, bars)

    read = bintrades.bars(path)

    assert list(arrow.bars_of(read.table)) == [replace(bar, updated_at_ms=NOW) for bar in bars]
    assert read.table.schema.equals(arrow.schema("spot"), check_metadata=True)
    assert len(read) == 5


def test_a_configuration_names_the_journal(config: Path, path: Path) -> None:
    write(path, sample_bars(3))

    assert len(bintrades.bars(str(config), "BTCUSDT")) == 3


@pytest.mark.parametrize("symbols", ["ETHUSDT", ["ETHUSDT"], ("ETHUSDT", "ETHUSDT")])
def test_only_the_symbols_that_are_named_are_read(path: Path, symbols: str | list[str]) -> None:
    write(path, [*sample_bars(3), *sample_bars(2, symbol="ETHUSDT")])

    assert opened(bintrades.bars(path, symbols).table) == [("ETHUSDT", 0), ("ETHUSDT", 10)]


@pytest.mark.parametrize(
    ("since", "until", "seconds"),
    [
        ("2024-08-08T00:00:20", "2024-08-08T00:00:40", [20, 30]),
        ("2024-08-08T02:00:20+02:00", utc(OPEN_TIME_MS + 40_000), [20, 30]),
        ("2024-08-08 00:00:15Z", None, [20, 30, 40, 50]),
        (None, utc(OPEN_TIME_MS + 15_000), [0, 10]),
        ("20s", None, [40, 50]),
        ("30s", "10s", [30, 40]),
        (date(2024, 8, 8), date(2024, 8, 9), [0, 10, 20, 30, 40, 50]),
        (pd.Timestamp("2024-08-08T00:00:50Z"), None, [50]),
    ],
)
def test_times_may_be_said_in_several_ways(
    path: Path, since: Any, until: Any, seconds: list[int]
) -> None:
    write(path, sample_bars(6))

    read = bintrades.bars(path, "BTCUSDT", since, until)

    assert [second for _, second in opened(read.table)] == seconds


def test_longer_bars_say_what_of_their_time_is_proven(path: Path) -> None:
    gap = Gap(500, 501, OPEN_TIME_MS + 75_000, OPEN_TIME_MS + 78_000, GapCause.RECONNECT)
    write(path, given(range(3), range(9, 13)), gaps=(gap,))

    table = bintrades.bars(path, "BTCUSDT", interval="1m").table

    first, second, third = table.to_pylist()
    assert opened(table) == [("BTCUSDT", 0), ("BTCUSDT", 60), ("BTCUSDT", 120)]
    assert (first["trade_count"], first["is_complete"], first["missing"]) == (9, True, [])
    assert (second["trade_count"], second["is_complete"], second["covered_seconds"]) == (
        9,
        False,
        50,
    )
    assert second["missing"] == [
        {"since": utc(OPEN_TIME_MS + 70_000), "until": utc(OPEN_TIME_MS + 80_000)}
    ]
    assert (third["is_closed"], third["is_complete"], third["covered_seconds"]) == (
        False,
        False,
        10,
    )
    assert table.schema.equals(arrow.schema("spot", is_longer=True), check_metadata=True)


def test_longer_bars_are_those_that_open_in_the_time_and_each_is_whole(path: Path) -> None:
    write(path, sample_bars(24))

    table = bintrades.bars(
        path, "BTCUSDT", "2024-08-08T00:00:10", "2024-08-08T00:02:10", timedelta(minutes=1)
    ).table

    assert opened(table) == [("BTCUSDT", 60), ("BTCUSDT", 120)]
    assert table.column("trade_count").to_pylist() == [18, 18]


def test_coverage_says_where_an_interval_without_a_bar_had_no_trades(path: Path) -> None:
    gap = Gap(500, 501, OPEN_TIME_MS + 35_000, OPEN_TIME_MS + 38_000, GapCause.RECONNECT)
    write(path, given(range(2), range(5, 8)), gaps=(gap,))

    read = bintrades.bars(path, "BTCUSDT", "2024-08-08T00:00:10", "2024-08-08T00:01:10")

    assert read.coverage.to_pylist() == [
        {
            "symbol": "BTCUSDT",
            "since": utc(OPEN_TIME_MS + since),
            "until": utc(OPEN_TIME_MS + until),
        }
        for since, until in [(10_000, 30_000), (40_000, 70_000)]
    ]


def test_pandas_and_polars_get_exact_decimals(path: Path) -> None:
    write(path, sample_bars(2))
    read = bintrades.bars(path)

    frame = read.to_pandas()
    assert frame["value"].sum() == Decimal("330.6000000000000002")
    assert frame["open_time"].iloc[0] == pd.Timestamp(MIDNIGHT, tz="UTC")
    assert read.to_polars()["value"].sum() == Decimal("330.6000000000000002")
    assert pl.DataFrame(read).equals(read.to_polars())
    assert pa.table(read) == read.table


def test_values_of_contracts_are_for_pandas_and_polars_says_that_it_cannot(path: Path) -> None:
    bar = sample_bar(
        market="coinm", contract_size=Decimal(100), value=Decimal("0." + "3" * 36), buy_value=1
    )
    write(path, [replace(bar, buy_value=Decimal("0." + "1" * 40))], market="coinm")
    read = bintrades.bars(path)

    assert read.to_pandas()["value"].iloc[0] == bar.value
    with pytest.raises(BintradesError, match="more than 38 digits: value, buy_value, sell_value"):
        read.to_polars()


def test_batches_are_read_as_they_are_taken_and_no_journal_is_open_between_them(
    path: Path,
) -> None:
    write(path, [*sample_bars(3_000), *sample_bars(10, symbol="ETHUSDT")])
    reader = bintrades.bar_batches(path, rows=1_000)

    sizes = []
    for batch in reader:
        with closing(sqlite3.connect(path)) as connection:
            sizes.append(batch.num_rows)
            # What reads would be in its way.
            (is_busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            assert not is_busy

    assert sizes == [1_000, 1_000, 1_000, 10]


def test_a_journal_may_be_replaced_between_two_batches(path: Path, tmp_path: Path) -> None:
    write(path, sample_bars(2_000))
    reader = bintrades.bar_batches(path, rows=10)

    reader.read_next_batch()
    for file in tmp_path.glob("bars.journal*"):
        file.unlink()

    with pytest.raises(BintradesError, match="there is no journal yet"):
        reader.read_all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"symbols": "BTCUSTD"}, "BTCUSTD: no trade of it was ever seen; did you mean 'BTCUSDT'"),
        ({"symbols": []}, "symbols: none is named"),
        ({"symbols": 5}, "symbols: 5 is neither a name nor several"),
        ({"symbols": ["BTCUSDT", None]}, r"symbols: \[.*\] is neither a name nor several"),
        ({"since": 1_723_075_200_000}, "since: 1723075200000 is no time; allowed: "),
        ({"interval": 60}, "interval: 60 is none; allowed: such as '1m', or a timedelta"),
        ({"interval": timedelta(seconds=10, microseconds=5)}, "is no multiple of 10s"),
        ({"interval": "99999999999d"}, "is too long; allowed: up to 366d"),
        ({"since": "yesterday"}, "since: 'yesterday' is neither a time"),
        ({"until": datetime(2024, 8, 8)}, "until: 2024-08-08T00:00:00 has no time zone"),  # noqa: DTZ001
        ({"since": "2024-08-09", "until": "2024-08-08"}, "since, 2024-08-09T00:00:00.*before"),
        ({"interval": "1"}, "interval: '1' is not a whole number with a unit"),
        ({"interval": "15s"}, "interval: 15s is no multiple of 10s"),
        ({"interval": "0s"}, "interval: 0s is no multiple of 10s"),
        ({"interval": timedelta(seconds=5)}, "interval: 0:00:05 is no multiple of 10s"),
        ({"store": "mongodb"}, "is a journal; a store is named in a configuration file"),
        ({"since": "2030-01-01"}, "BTCUSDT: nothing was collected in that time; what is proven"),
        ({"until": "2024-08-07"}, "begins at 2024-08-08T00:00:00.* ends at 2024-08-08T00:00:20"),
    ],
)
def test_what_cannot_be_is_said(path: Path, arguments: dict[str, Any], message: str) -> None:
    write(path, sample_bars(2))

    with pytest.raises(BintradesError, match=message):
        bintrades.bars(path, **arguments)


def test_what_is_wrong_with_arguments_is_said_before_a_batch_is_asked_for(path: Path) -> None:
    write(path, sample_bars(2))

    with pytest.raises(BintradesError, match="no multiple"):
        bintrades.bar_batches(path, interval="15s")
    for rows in (0, -1):
        with pytest.raises(BintradesError, match=f"rows: {rows} is no number of rows"):
            bintrades.bar_batches(path, rows=rows)


def test_a_journal_that_has_nothing_yet_says_so(path: Path) -> None:
    with journal_at(path):
        pass

    with pytest.raises(BintradesError, match="there are no bars yet"):
        bintrades.bars(path)


def test_no_bars_where_no_trades_were_is_an_empty_table(path: Path) -> None:
    write(path, given(range(1), range(9, 10)))

    read = bintrades.bars(path, "BTCUSDT", "2024-08-08T00:00:20", "2024-08-08T00:00:40")

    assert (len(read), read.coverage.num_rows) == (0, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "bintrades.ini: cannot be read: No such file"),
        ("[journal]\npath = nothing.journal\n", "there is no journal yet"),
        ("nonsense", "bintrades.ini"),
    ],
)
def test_a_source_that_is_none_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "bintrades.ini"
    if content is not None:
        file.write_text(content)

    with pytest.raises(BintradesError, match=message):
        bintrades.bars(file)


def test_bars_that_have_left_the_journal_are_not_passed_over_in_silence(path: Path) -> None:
    write(path, sample_bars(12))
    with journal_at(path) as journal:
        assert journal.prune([], NOW + 1) == 11  # the newest one stays
        late = [replace(bar, open_time_ms=bar.open_time_ms + 2 * MINUTE) for bar in sample_bars(9)]
        journal.write(WriteBatch(finished=by_key(late)), NOW + 2)

    assert len(bintrades.bars(path, "BTCUSDT")) == 10
    for until in (None, "2024-08-08T00:01"):
        with pytest.raises(BintradesError, match="has its bars since 2024-08-08T00:01:50"):
            bintrades.bars(path, "BTCUSDT", MIDNIGHT, until)


def test_bars_that_leave_the_journal_while_they_are_read_are_an_error(path: Path) -> None:
    write(path, sample_bars(2_000))
    reader = bintrades.bar_batches(path, rows=10)
    reader.read_next_batch()

    with journal_at(path) as journal:
        journal.prune([], NOW + 1)

    with pytest.raises(BintradesError, match="have left the journal before they were read"):
        reader.read_all()


def test_bars_that_leave_the_journal_once_they_are_read_are_no_error(path: Path) -> None:
    """The oldest ones do so every minute, and to read all of a large journal takes longer."""
    with journal_at(path) as journal:
        for written_at, part in enumerate((range(100), range(100, 3_000))):
            ledger = LedgerState(10**6, OPEN_TIME_MS + part.stop * 10_000, ())
            journal.write(finished(*given(part), BTCUSDT=ledger), NOW + written_at * 10)
    reader = bintrades.bar_batches(path, rows=10)
    reader.read_next_batch()

    with journal_at(path) as journal:
        assert journal.prune([], NOW + 5) == 100

    assert reader.read_all().num_rows == 2_990


def test_a_journal_whose_oldest_bars_leave_as_they_are_asked_for_is_read_from_the_next_on(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with journal_at(path) as journal:
        for written_at, part in enumerate((range(9), range(9, 24))):
            ledger = LedgerState(10**6, OPEN_TIME_MS + part.stop * 10_000, ())
            journal.write(finished(*given(part), BTCUSDT=ledger), NOW + written_at * 10)
    known = JournalSource.known
    left: list[int] = []

    def known_before_they_leave(source: JournalSource, symbol: str) -> Known:
        found = known(source, symbol)
        if not left:
            with journal_at(path) as journal:
                left.append(journal.prune([], NOW + 5))
        return found

    monkeypatch.setattr(JournalSource, "known", known_before_they_leave)

    read = bintrades.bars(path, interval="1m")

    assert left == [9]
    assert read.table.column("trade_count").to_pylist() == [18, 18]


def test_a_store_is_read_in_the_folder_of_its_configuration_and_closed(
    config: Path, path: Path
) -> None:
    write(path, sample_bars(2))
    put_on_shelf(config, sample_bars(60))
    before = Path.cwd()

    read = bintrades.bars(config, "BTCUSDT", interval="1m", store="shelf")

    assert len(read) == 10
    assert Path.cwd() == before
    assert (config.parent / "closed").exists()


@pytest.mark.parametrize(("store", "place"), [("duckdb", "bars.duckdb"), ("parquet", "parquet")])
def test_a_store_of_files_is_read_from_another_folder(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str, place: str
) -> None:
    bars = sample_bars(60)
    write(path, bars[:2])
    (plugin,) = load_stores([store], PLUGINS)
    plugin.open({"path": str(path.parent / place)})
    plugin.write(bars)
    plugin.close()
    config = path.parent / "bintrades.ini"
    config.write_text(
        f"[journal]\npath = {path}\n[plugins]\npath = {PLUGINS}\n"
        f"[stores]\nenabled = {store}\n[store:{store}]\npath = {place}\n"
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)

    read = bintrades.bars(config, "BTCUSDT", store=store)

    assert len(read) == 60
    assert not list(elsewhere.iterdir())


def test_of_a_store_and_the_journal_the_better_version_of_each_bar_is_read(
    config: Path, path: Path
) -> None:
    better = replace(sample_bar(), trade_count=5, version=2)
    bars = sample_bars(5)
    write(path, [better, *bars[1:4]])
    put_on_shelf(config, [bars[0], replace(bars[1], epoch=1, trade_count=2), bars[4]])

    table = bintrades.bars(config, "BTCUSDT", store="shelf").table

    assert table.column("trade_count").to_pylist() == [5, 2, 3, 3, 3]


def test_where_the_journal_has_no_bars_any_more_it_does_not_speak_for_a_store(
    config: Path, path: Path
) -> None:
    write(path, given(range(1), range(7, 12)))
    put_on_shelf(config, given(range(1), range(7, 12)))
    before = bintrades.bars(config, "BTCUSDT", interval="1m", store="shelf").table
    with journal_at(path) as journal:
        assert journal.prune([], NOW + 1) == 5

    after = bintrades.bars(config, "BTCUSDT", interval="1m", store="shelf").table

    assert before.column("covered_seconds").to_pylist() == [60, 60]
    assert after.column("covered_seconds").to_pylist() == [10, 50]
    assert after.column("trade_count").to_pylist() == [3, 15]


def test_a_store_can_be_read_where_there_is_no_journal(config: Path) -> None:
    put_on_shelf(config, sample_bars(12))

    table = bintrades.bars(config, "BTCUSDT", "2024-08-08", interval="1m", store="shelf").table

    assert table.column("is_complete").to_pylist() == [True, True]
    assert table.column("is_closed").to_pylist() == [True, False]
    with pytest.raises(BintradesError, match="name the symbols: there is no journal"):
        bintrades.bars(config, store="shelf")
    with pytest.raises(BintradesError, match="say times: there is no journal"):
        bintrades.bars(config, "BTCUSDT", "1h", store="shelf")


def test_a_store_that_fails_is_named_and_closed(config: Path) -> None:
    put_on_shelf(config, [*sample_bars(2), sample_bar(open_time_ms=NOW, version=99)])
    with pytest.raises(BintradesError, match="shelf cannot be read: the shelf is broken"):
        bintrades.bars(config, "BTCUSDT", store="shelf")
    assert (config.parent / "closed").exists()

    (config.parent / "bars.json").unlink()
    with pytest.raises(BintradesError, match=r"shelf: cannot be opened: .*No such file"):
        bintrades.bars(config, "BTCUSDT", store="shelf")

    with pytest.raises(BintradesError, match="self: is not an enabled store; did you mean 'shelf'"):
        bintrades.bars(config, "BTCUSDT", store="self")


def test_a_reader_that_is_dropped_closes_its_store(config: Path) -> None:
    put_on_shelf(config, sample_bars(12))
    reader = bintrades.bar_batches(config, "BTCUSDT", store="shelf", rows=2)
    reader.read_next_batch()
    assert not (config.parent / "closed").exists()

    del reader

    assert (config.parent / "closed").exists()


def test_importing_the_package_brings_neither_arrow_nor_a_journal() -> None:
    program = (
        "import sys, bintrades; bintrades.Bar;"
        "print({'pyarrow', 'sqlite3', 'bintrades.reading'} & sys.modules.keys());"
        "print(bintrades.bars.__name__, bintrades.bar_batches.__name__)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.stdout == "set()\nbars bar_batches\n"


def test_a_name_that_the_package_does_not_have_is_an_error_as_ever() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'bras'"):
        _ = bintrades.bras
