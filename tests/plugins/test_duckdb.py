"""What a file of DuckDB holds after a batch, and who can read it meanwhile."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from bintrades import BintradesError, RejectedBars
from bintrades.model.bar_fields import FIELDS, FieldKind, fields_of
from bintrades.testing.bars import sample_bar, sample_bars, sample_span
from bintrades.testing.store_contract import StoreContract
from tests.engines import need_package

need_package("duckdb")

import duckdb  # noqa: E402

from plugins import duckdb as plugin  # noqa: E402
from plugins.duckdb import COLUMNS, COVERAGE_COLUMNS, Store  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bintrades import Bar

ROOT = Path(__file__).parents[2]
EVER = (datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))
KINDS = {
    FieldKind.TEXT: "VARCHAR",
    FieldKind.TIME: "TIMESTAMP WITH TIME ZONE",
    FieldKind.INT: "INTEGER",
    FieldKind.LONG: "BIGINT",
    FieldKind.DECIMAL: "DECIMAL(38,18)",
    FieldKind.FLAG: "BOOLEAN",
}
ANOTHER_PROCESS = """
import sys
import duckdb

with duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "reads"):
    print("open", flush=True)
    sys.stdin.readline()
"""
WRITING_PROCESS = """
import sys
from bintrades.testing.bars import sample_bars
from plugins.duckdb import Store

store = Store()
store.open_store({"path": sys.argv[1]})
for number in range(100_000):
    store.store_bars(sample_bars(50, symbol=f"S{number}USDT"))
    print(number, flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "bars.duckdb"


@pytest.fixture
def store(path: Path) -> Store:
    store = Store()
    store.check_store()
    store.open_store({"path": str(path)})
    return store


def stored_in(path: Path, table: str = "bars") -> list[dict[str, Any]]:
    with duckdb.connect(path, read_only=True) as connection:
        found = connection.execute(f"FROM {table} ORDER BY ALL")
        names = [column[0] for column in found.description]
        rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    return [{name: row[name] for name in row if name in names_of(row["market"])} for row in rows]


def names_of(market: str) -> set[str]:
    return {field.name for field in fields_of(market)} | set(COVERAGE_COLUMNS)


def without_average(bar: Bar) -> dict[str, Any]:
    return {name: value for name, value in bar.as_dict().items() if name != "average_price"}


def read(store: Store, market: str = "spot", symbol: str = "BTCUSDT") -> list[Bar]:
    return list(store.read_bars(symbol, *EVER, market))


@contextmanager
def another_process(path: Path, does: str) -> Iterator[None]:
    """Have another process keep the file open."""
    command = [sys.executable, "-c", ANOTHER_PROCESS, str(path), does]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        try:
            yield
        finally:
            process.communicate(b"\n")


class TestTheContract(StoreContract):
    name = "duckdb"
    folder = ROOT / "plugins"

    @pytest.fixture
    def options(self, path: Path) -> dict[str, str]:
        self.path = path
        return {"path": str(path)}

    def stored(self) -> list[dict[str, Any]]:
        return stored_in(self.path)

    def covered(self) -> list[dict[str, Any]]:
        spans = stored_in(self.path, "bars_coverage")
        return [{name: span[name] for name in span if name != "updated_at"} for span in spans]


def test_the_columns_are_the_published_fields_but_for_the_average() -> None:
    fields = [field for field in FIELDS if field.name != "average_price"]

    assert list(COLUMNS.items()) == [(field.name, KINDS[field.kind]) for field in fields]
    assert set(COVERAGE_COLUMNS) == {*sample_span(0, 1).as_dict(), "updated_at"}


def test_bars_of_all_markets_are_exact_and_come_back(store: Store, path: Path) -> None:
    usdm = sample_bar(market="usdm", excluded_count=4, is_approximate=True, is_complete=False)
    coinm = sample_bar(
        market="coinm",
        contract_size=Decimal(100),
        value=Decimal("0.000000123456789012"),
        buy_value=Decimal("0.000000000000000001"),
    )
    bars = [sample_bar(), usdm, coinm]

    store.store_bars(bars)

    assert [bar for market in ("spot", "usdm", "coinm") for bar in read(store, market)] == bars
    by_market = {row["market"]: row for row in stored_in(path)}
    assert by_market == {bar.market: without_average(bar) for bar in bars}


def test_a_bar_that_the_columns_do_not_hold_is_refused_by_name_and_the_others_are_stored(
    store: Store, path: Path
) -> None:
    bars = sample_bars(8)
    refused = {
        1: replace(bars[1], value=Decimal("0." + "3" * 36)),
        2: replace(bars[2], buy_quantity=Decimal("1" * 21)),
        3: replace(bars[3], last_trade_id=2**63),
        4: replace(bars[4], version=2**31),
        5: replace(bars[5], symbol="\ud800"),
        6: replace(bars[6], open_time_ms=10**15),
    }

    with pytest.raises(RejectedBars) as error:
        store.store_bars([refused.get(number, bar) for number, bar in enumerate(bars)])

    assert [bar for bar, _ in error.value.rejected] == list(refused.values())
    reasons = [reason for _, reason in error.value.rejected]
    assert reasons[0] == "value: 36 decimal places, the column takes 18"
    assert reasons[1] == "buy_quantity: 21 digits before the point, the column takes 20"
    assert reasons[2].startswith("last_trade_id: 9223372036854775808 is too large")
    assert reasons[3].startswith("version: 2147483648 is too large")
    assert "surrogates not allowed" in reasons[4]
    assert "date value out of range" in reasons[5]
    assert read(store) == [bars[0], bars[7]]
    assert len(stored_in(path)) == 2

    with pytest.raises(RejectedBars):
        store.store_bars(list(refused.values()))


def test_a_batch_with_several_versions_of_a_bar_leaves_the_best_one(store: Store) -> None:
    versions = [sample_bar(trade_count=count, version=count) for count in (5, 9, 7)]

    store.store_bars(versions)

    assert read(store) == [versions[1]]


def test_between_two_batches_another_process_reads_the_file(store: Store, path: Path) -> None:
    store.store_bars(sample_bars(2))

    with another_process(path, "reads"):
        assert read(store) == sample_bars(2)
        assert len(stored_in(path)) == 2


@pytest.mark.parametrize("does", ["reads", "writes"])
def test_a_batch_waits_for_who_has_the_file_open_and_comes_again_if_that_is_long(
    store: Store, path: Path, does: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = sample_bars(2)
    with another_process(path, does):
        with monkeypatch.context() as patch:
            patch.setattr(plugin, "LOCK_TIMEOUT_S", 0.2)
            with pytest.raises(TimeoutError, match=r"others have .* open"):
                store.store_bars([first])
        monkeypatch.setattr(plugin, "LOCK_TIMEOUT_S", 300.0)
        waiting = threading.Thread(target=store.store_bars, args=([first, second],))
        waiting.start()
    waiting.join()

    assert read(store) == [first, second]


def test_nothing_acknowledged_is_lost_or_doubled_when_the_collector_is_killed(path: Path) -> None:
    command = [sys.executable, "-c", WRITING_PROCESS, str(path)]
    acknowledged = 0
    for _ in range(3):
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
            assert process.stdout is not None
            for _ in range(6):
                acknowledged = max(acknowledged, int(process.stdout.readline()) + 1)
            process.kill()
            acknowledged += len(process.stdout.read().splitlines())
        rows = stored_in(path)
        symbols = {row["symbol"] for row in rows}

        assert {f"S{number}USDT" for number in range(acknowledged)} <= symbols
        assert len(rows) == 50 * len(symbols)


def test_two_stores_of_one_process_leave_the_best_of_each_bar(path: Path) -> None:
    bars = sample_bars(50)
    failures: list[Exception] = []

    def write(parity: int) -> None:
        store = Store()
        store.open_store({"path": str(path)})
        for version in range(1, 6):
            best = [
                replace(bar, trade_count=100 * version + (number + parity) % 2)
                for number, bar in enumerate(bars)
            ]
            while True:
                try:
                    store.store_bars(best)
                    break
                except (duckdb.TransactionException, duckdb.ConstraintException):
                    continue  # the other one was faster: as the collector, we come again
                except Exception as error:
                    failures.append(error)
                    return

    Store().open_store({"path": str(path)})
    threads = [threading.Thread(target=write, args=(parity,)) for parity in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert [row["trade_count"] for row in stored_in(path)] == [501] * 50


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("ALTER TABLE bars DROP COLUMN updated_at", "updated_at is missing"),
        ("ALTER TABLE bars ALTER value TYPE DOUBLE", "value is DOUBLE and must be DECIMAL"),
        ("ALTER TABLE bars ADD COLUMN note VARCHAR", "note is none of ours"),
        (
            "CREATE TABLE other AS FROM bars; DROP TABLE bars; ALTER TABLE other RENAME TO bars",
            "the primary key must be symbol, open_time, market",
        ),
    ],
)
def test_a_table_of_another_shape_is_refused_and_left_as_it_is(
    store: Store, path: Path, change: str, complaint: str
) -> None:
    store.store_bars(sample_bars(2))
    with duckdb.connect(path) as connection:
        connection.execute(change)
    before = stored_in(path)

    with pytest.raises(BintradesError, match=f"is there, but is no table of ours: .*{complaint}"):
        store.open_store({"path": str(path)})

    assert stored_in(path) == before


def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Buy low, sell high.\n" * 500)

    with pytest.raises(duckdb.IOException, match="not a valid DuckDB database file"):
        Store().open_store({"path": str(path)})

    assert path.read_text() == "Buy low, sell high.\n" * 500


def test_a_file_is_another_one_once_its_bars_are_gone(store: Store, path: Path) -> None:
    store.store_bars([sample_bar()])
    seen = [store.identify_store()]
    with duckdb.connect(path) as connection:
        connection.execute("DROP TABLE bars")
    assert store.identify_store() is None
    store.open_store({"path": str(path)})
    seen.append(store.identify_store())
    path.unlink()
    store.open_store({"path": str(path)})
    seen.append(store.identify_store())

    assert None not in seen
    assert len(set(seen)) == 3


def test_many_bars_are_read_in_parts_and_need_not_be_read_to_the_end(store: Store) -> None:
    bars = sample_bars(plugin._ROWS_AT_ONCE + 2)
    store.store_bars(bars)

    assert read(store) == bars
    reading = store.read_bars("BTCUSDT", *EVER, "spot")
    assert next(reading) == bars[0]
    del reading
    store.store_bars([replace(bars[0], version=2)])

    assert next(store.read_bars("BTCUSDT", *EVER, "spot")).version == 2


def test_a_batch_that_takes_too_long_is_to_come_in_smaller_ones(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(plugin, "STATEMENT_TIMEOUT_S", 0.2)
        patch.setattr(
            plugin,
            "_UPSERT",
            "SELECT ?, sum(a.range ^ b.range) FROM range(10000000) a, range(10000000) b",
        )
        patch.setattr(plugin, "_row", lambda bar: [bar.symbol])
        with pytest.raises(TimeoutError, match="not written in"):
            store.store_bars([sample_bar()])
    store.store_bars([sample_bar()])

    assert read(store) == [sample_bar()]


def test_a_span_that_has_not_changed_is_not_written_again(store: Store, path: Path) -> None:
    store.store_coverage([sample_span(0, 3), sample_span(5, 6)])
    before = stored_in(path, "bars_coverage")
    store.store_coverage([sample_span(0, 3), sample_span(5, 7)])
    after = stored_in(path, "bars_coverage")

    changed = [row for row in after if row not in before]
    assert [row["since"] for row in changed] == [sample_span(5, 7).since]


def test_the_queries_of_the_page_work(store: Store, path: Path) -> None:
    page = (ROOT / "docs" / "stores.md").read_text(encoding="utf-8")
    section = page.partition("\n## duckdb\n")[2].partition("\n## ")[0]
    store.store_bars(sample_bars(60))

    queries = re.findall(r"```sql\n(.*?)```", section, re.DOTALL)
    with duckdb.connect(path, read_only=True) as connection:
        newest, minutes = [connection.execute(query).fetchall() for query in queries]

    bars = sample_bars(60)
    assert newest == [(bar.open_time, bar.close_price, 3) for bar in bars[:-7:-1]]
    sums = [Decimal("991.8000000000000006"), Decimal("0.018")]
    assert minutes[0] == (bars[0].open_time, *sums, 18, True)
    assert len(minutes) == 10
    for option in Store.OPTIONS:
        assert f"| {option.name} | `{option.default}` | {option.meaning} |" in section
    for name, kind in COLUMNS.items():
        assert re.search(rf"`{name}`[^|]* \| {re.escape(kind)} \|", section), name
