"""The benchmark measures what it says, and gives no figure where the sums are not exact."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pymongo
import pytest

from bintrades import hookimpl
from bintrades.stores.mongodb.store import MongoStore
from bintrades.testing.mongod import URI_VARIABLE
from scripts.benchmark.collector import check
from scripts.benchmark.journals import make_journal, move_to_the_end
from scripts.benchmark.load import START_MS, Load, Sums, generate
from scripts.benchmark.stores import STORES, bars_to_write, measure
from tests.engines import missing_engine
from tests.journals import open_journal, stored

ROOT = Path(__file__).parent.parent
TIMEOUT_S = 280


def benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmark with as little as it can do."""
    command = [sys.executable, "-m", "scripts.benchmark", "--scale", "0.001", *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def benchmark_of_stores(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run that of the stores, once, with few bars."""
    command = [sys.executable, "-m", "scripts.benchmark.stores", "--repeat", "1"]
    return subprocess.run(
        [*command, "--bars", "2000", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def rows(output: str) -> list[list[str]]:
    """Return the cells of the rows of all tables, without their heads."""
    lines = [line for line in output.splitlines() if line.startswith("|")]
    heads = [index for index, line in enumerate(lines) if line.startswith("|-")]
    left = [line for n, line in enumerate(lines) if n not in heads and n + 1 not in heads]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in left]


def number(text: str) -> float:
    return float(text.replace(",", ""))


def test_a_trade_is_measured_beside_the_plain_way() -> None:
    done = benchmark("--only", "flood-1,paced-5")

    assert done.returncode == 0, done.stderr
    flood, paced = rows(done.stdout)
    assert flood[:3] == ["flood", "1", "300"]
    assert paced[:3] == ["5,000 trades/s", "3,000", "100"]
    assert all(number(each) > 0 for each in (*flood[3:6], *paced[3:6]))


def test_a_market_that_goes_on_by_the_clock_is_stored_and_timed() -> None:
    done = benchmark("--only", "live-400,old-journal")

    assert done.returncode == 0, done.stderr
    fresh, old = rows(done.stdout)
    assert fresh[:3] == ["2,000 trades/s", "400", "0"]
    assert old[:3] == ["2,000 trades/s", "400", "2,000"]
    for row in (fresh, old):
        p50, p99, worst = map(number, row[-3:])
        assert 0 < p50 <= p99 <= worst


def test_a_backlog_is_measured_beside_plain_inserts(
    mongodb_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URI_VARIABLE, mongodb_uri)
    done = benchmark("--only", "backlog")

    assert done.returncode == 0, done.stderr
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        assert client.bintrades.list_collection_names() == [], "it leaves nothing behind"
    ((bars, per_second, cpu_us, plain, ratio, _),) = rows(done.stdout)
    assert bars == "1,000"
    assert min(map(number, (per_second, cpu_us, plain, ratio))) > 0


def test_a_row_that_does_not_exist_is_refused_with_those_that_do() -> None:
    done = benchmark("--only", "flud")

    assert done.returncode == 1
    assert "no row is named 'flud'" in done.stderr
    assert "old-journal, backlog" in done.stderr


def test_an_old_journal_is_what_the_collector_would_have_written(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    make_journal(path, 25, 10)
    move_to_the_end(path, "store")

    bars = stored(path, "C004USDT")

    assert [bar.open_time_ms for bar in bars] == [START_MS, START_MS + 10_000, START_MS + 20_000]
    open_journal(path).close()


def test_sums_that_are_not_exact_give_no_figure(tmp_path: Path) -> None:
    make_journal(tmp_path / "journal", 1, 1)
    right = Sums(17, 8, 1_234_567_000, 8192048151623000000000)
    wrong = Sums(17, 8, 1_234_567_000, 8192048151623000000001)

    check(tmp_path / "journal", {"C000USDT": right}, 0)
    with pytest.raises(ValueError, match=r"C000USDT: sent .* but the journal has"):
        check(tmp_path / "journal", {"C000USDT": wrong}, 0)


def test_the_trades_of_a_load_add_up_and_their_ids_begin_at_nothing() -> None:
    made = generate(Load("", 1_000, 7), start_ms=5_000)

    assert sum(sums.trades for sums in made.sums.values()) == len(made.frames) == 1_000
    assert b'"t":0,' in made.frames[0]
    assert b'"T":5000,' in made.frames[0]


def test_each_store_of_the_project_is_measured_beside_plain_code_for_its_engine() -> None:
    plugins = {path.stem for path in (ROOT / "plugins").glob("[!_]*.py")}

    assert plugins | {"mongodb"} == {*STORES}


@pytest.mark.parametrize("store", STORES)
def test_a_store_is_measured_beside_plain_code_for_its_engine(store: str) -> None:
    done = benchmark_of_stores(store)

    assert done.returncode == 0, done.stderr
    (row,) = rows(done.stdout) or [[f"left out: {done.stderr}"]]
    if row[0].startswith("left out"):
        missing_engine(row[0])
    assert row[0] == store
    assert all(number(each) > 0 for each in row[1:])


def test_no_speed_is_told_of_a_store_that_does_not_have_what_was_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @hookimpl
    def store_nothing(store: MongoStore, bars: object) -> None:
        del store, bars

    batches = bars_to_write(1_000)
    monkeypatch.setattr(MongoStore, "store_bars", store_nothing)

    with pytest.raises(AssertionError, match="differs"):
        measure("mongodb", batches)
