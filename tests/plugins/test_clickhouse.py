"""The ClickHouse store keeps its promises, on the real engine behind its HTTP interface."""

from __future__ import annotations

import itertools
import threading
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import clickhouse_connect
import pytest
from msgspec.structs import replace

from bintrades import BintradesError, ConfigError, RejectedBars
from bintrades.model.bar_fields import fields_of
from bintrades.model.numbers import DECIMAL128
from bintrades.stores.loader import load_stores
from bintrades.testing.bars import OPEN_TIME_MS, sample_bar, sample_bars, sample_span
from bintrades.testing.store_contract import StoreContract
from tests.clickhouse_server import ClickHouse
from tests.engines import need_package

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clickhouse_connect.driver.client import Client

    from bintrades.model import Bar
    from bintrades.stores.store import Store

PLUGINS = Path(__file__).parents[2] / "plugins"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    """Run one server for the whole run; do not stop it."""
    need_package("chdb")
    with ClickHouse(tmp_path_factory.mktemp("clickhouse"), "p@ss/word") as server:
        yield server


@pytest.fixture(scope="session")
def session_client(server: ClickHouse) -> Iterator[Client]:
    """Return the one client of all tests, since each new one asks for all settings first."""
    with client_of({"url": server.url, "password": server.password}) as client:
        yield client


@pytest.fixture
def options(server: ClickHouse, session_client: Client) -> Iterator[dict[str, str]]:
    """Return the options of a store in a database of its own, dropped after the test."""
    database = f"test_{uuid.uuid4().hex}"
    session_client.database = "default"
    session_client.command(f"CREATE DATABASE {database} ENGINE = Atomic")
    yield {
        "url": server.url,
        "password": server.password,
        "database": database,
        "timeout": "60s",
    }
    session_client.database = "default"
    session_client.command(f"DROP DATABASE {database}")


@pytest.fixture
def client(session_client: Client, options: dict[str, str]) -> Client:
    """Return a client of the database, as a user of it has one."""
    session_client.database = options["database"]
    return session_client


@pytest.fixture
def store(options: dict[str, str]) -> Iterator[Store]:
    """Return an open store."""
    (store,) = load_stores(["clickhouse"], PLUGINS)
    store.open(options)
    yield store
    store.close()


def client_of(options: dict[str, str]) -> Client:
    return clickhouse_connect.get_client(
        dsn=options["url"],
        username="default",
        password=options.get("password", ""),
        database=options.get("database"),
        autogenerate_session_id=False,
        compress=False,
    )


def best(client: Client) -> list[dict[str, Any]]:
    """Return what readers find, each bar with the fields of its market, by symbol and time."""
    found = client.query(
        "SELECT * FROM bars_best ORDER BY market, symbol, open_time", tz_mode="aware"
    )
    return [
        {field.name: row[field.name] for field in fields_of(row["market"]) if field.name in row}
        for row in found.named_results()
    ]


class TestTheContract(StoreContract):
    name = "clickhouse"
    folder = PLUGINS

    @pytest.fixture
    def options(self, options: dict[str, str], client: Client) -> dict[str, str]:
        self.client = client
        return options

    def stored(self) -> list[dict[str, Any]]:
        return [without(bar, "average_price") for bar in best(self.client)]

    def covered(self) -> list[dict[str, Any]]:
        found = self.client.query(
            "SELECT symbol, market, since, until, interval_seconds FROM bars_coverage FINAL",
            tz_mode="aware",
        )
        return list(found.named_results())


def without(fields: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key != name}


_THIRD = DECIMAL128.divide(Decimal(1), Decimal(3))


def coinm_bar(**changes: Any) -> Bar:
    """Return a bar of contracts, whose values have 34 digits, and up to 40 decimal places."""
    return sample_bar(
        symbol="BTCUSD_PERP",
        market="coinm",
        quantity=Decimal(3),
        buy_quantity=Decimal(1),
        value=_THIRD.scaleb(-3, DECIMAL128),
        buy_value=_THIRD.scaleb(-6, DECIMAL128),
        contract_size=Decimal(100),
        excluded_count=2,
        is_approximate=True,
        **changes,
    )


def test_bars_of_contracts_are_stored_and_read_exactly(store: Store, client: Client) -> None:
    bar = coinm_bar()

    store.write([bar])

    (found,) = best(client)
    assert without(found, "average_price") == without(bar.as_dict(), "average_price")
    span = bar.open_time_ms, bar.end_time_ms
    assert list(store.read(bar.symbol, *span, "coinm")) == [bar]


@pytest.mark.parametrize("bar", [sample_bar(), coinm_bar()], ids=["spot", "coinm"])
def test_the_view_derives_the_average_price(store: Store, client: Client, bar: Bar) -> None:
    store.write([bar])

    (found,) = best(client)
    assert abs(found["average_price"] - bar.average_price) < Decimal("1E-28")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"min_price": Decimal("1E-19")},
            "min_price: 19 decimal places, the column takes 18",
        ),
        (
            {"value": Decimal("1E-41"), "buy_value": Decimal(0)},
            "value: 41 decimal places, the column takes 40",
        ),
        (
            {"max_price": Decimal("1E+20")},
            "max_price: 1[0E+]* has more than the 20 digits before the point",
        ),
        (
            {"last_trade_id": 2**63},
            "last_trade_id: 9223372036854775808 is not in the column's range",
        ),
        ({"version": 2**32}, "version: 4294967296 is not in the column's range"),
        ({"symbol": "A\ud800"}, "symbol: 'utf-8' codec can't encode character"),
        ({"open_time_ms": 10**15}, "1000000000000000 ms: date value out of range"),
    ],
)
def test_what_a_column_cannot_hold_is_refused_by_name_and_the_others_are_stored(
    store: Store, client: Client, changes: dict[str, Any], reason: str
) -> None:
    first, second, third = sample_bars(3)
    wrong = replace(second, **changes)

    with pytest.raises(RejectedBars, match=reason) as refused:
        store.write([first, wrong, third])

    assert [bar for bar, _ in refused.value.rejected] == [wrong]
    assert [bar["open_time"] for bar in best(client)] == [first.open_time, third.open_time]


def test_the_rank_of_a_row_orders_as_that_of_a_bar_to_the_ends_of_its_ranges(
    store: Store, client: Client
) -> None:
    ranks = list(itertools.product((0, 2**32 - 1), (1, 2**63 - 1), (0, 1), (0, 1), (1, 2**32 - 1)))
    bars = [
        replace(
            bar,
            epoch=epoch,
            trade_count=count,
            buy_count=1,
            is_closed=bool(closed),
            is_complete=bool(complete),
            version=version,
        )
        for bar, (epoch, count, closed, complete, version) in zip(
            sample_bars(len(ranks)), ranks, strict=True
        )
    ]

    store.write(bars)

    found = client.query("SELECT open_time FROM bars ORDER BY rank", tz_mode="aware")
    by_rank = sorted(bars, key=lambda bar: bar.rank)
    assert [moment for (moment,) in found.result_rows] == [bar.open_time for bar in by_rank]


def test_a_merge_of_the_server_keeps_what_readers_saw(store: Store, client: Client) -> None:
    bars = sample_bars(3)
    store.write(bars)
    store.write([replace(bar, trade_count=2, version=9) for bar in bars])
    before = best(client)

    client.command("OPTIMIZE TABLE bars FINAL")

    assert best(client) == before
    assert client.query("SELECT count() FROM bars").first_row == (3,)


def test_two_collectors_that_write_at_once_end_with_the_best_of_each_bar(
    store: Store, options: dict[str, str], client: Client
) -> None:
    bars = sample_bars(60)
    better = [replace(bar, trade_count=4 + (n % 2), version=2) for n, bar in enumerate(bars)]
    (other,) = load_stores(["clickhouse"], PLUGINS)
    other.open(options)
    versions = [(store, bars), (other, better)]

    def write(target: Store, batch: list[Bar]) -> None:
        for start in range(0, len(batch), 10):
            target.write(batch[start : start + 10])

    threads = [threading.Thread(target=write, args=version) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()

    assert [bar["trade_count"] for bar in best(client)] == [bar.trade_count for bar in better]


def test_a_server_that_is_killed_under_load_loses_and_doubles_nothing(tmp_path: Path) -> None:
    need_package("chdb")
    batches = [sample_bars(20, symbol=f"S{number}USDT") for number in range(12)]
    (store,) = load_stores(["clickhouse"], PLUGINS)
    with ClickHouse(tmp_path) as server:
        options = {"url": server.url}
        with client_of(options) as client:
            client.command("CREATE DATABASE bars ENGINE = Atomic")
        options["database"] = "bars"
        store.open(options)
        killer = threading.Thread(target=server.kill)
        stored = 0
        while stored < len(batches):
            if stored == 3 and not killer.ident:
                killer.start()
            try:
                store.write(batches[stored])
                stored += 1
            except clickhouse_connect.driver.exceptions.OperationalError:
                killer.join()
                server.start()
                store.open(options)
        killer.join()
        server.kill()
        server.start()

        with client_of(options) as client:
            found = {(bar["symbol"], bar["open_time"]) for bar in best(client)}
            count = client.query("SELECT count() FROM bars_best").first_row
        store.close()
    assert found == {(bar.symbol, bar.open_time) for batch in batches for bar in batch}
    assert count == (len(found),)


def test_a_server_that_takes_requests_and_answers_none_is_a_timeout(tmp_path: Path) -> None:
    need_package("chdb")
    (store,) = load_stores(["clickhouse"], PLUGINS)
    with ClickHouse(tmp_path) as server:
        store.open({"url": server.url})  # which takes long, as it is the first one
        store.open({"url": server.url, "timeout": "3s"})
        server.pause()
        with pytest.raises(TimeoutError, match="did not answer in time"):
            store.write(sample_bars(2))
        server.resume()
        store.open({"url": server.url})

        store.write(sample_bars(2))
        assert len(list(store.read("BTCUSDT", OPEN_TIME_MS, OPEN_TIME_MS + 20_000, "spot"))) == 2
        store.close()


def test_an_insert_that_the_server_gives_up_is_a_timeout(
    store: Store, options: dict[str, str], client: Client
) -> None:
    client.command("ALTER TABLE bars ADD CONSTRAINT slow CHECK sleep(2.9) = 0")
    store.open(options | {"timeout": "2s"})

    with pytest.raises(TimeoutError, match="did not answer in time"):
        store.write(sample_bars(1))


def test_no_server_is_another_try_later(options: dict[str, str]) -> None:
    (store,) = load_stores(["clickhouse"], PLUGINS)

    with pytest.raises(clickhouse_connect.driver.exceptions.OperationalError, match="refused"):
        store.open(options | {"url": "http://127.0.0.1:1"})


def test_a_wrong_password_is_said_and_not_shown(options: dict[str, str]) -> None:
    (store,) = load_stores(["clickhouse"], PLUGINS)
    wrong = options | {"password": "not/the@one"}

    with pytest.raises(
        clickhouse_connect.driver.exceptions.DatabaseError, match="Authentication failed"
    ) as refused:
        store.open(wrong)

    assert "not/the@one" not in str(refused.value)
    assert store.secrets(wrong) == {"not/the@one"}


def test_a_database_that_is_not_there_is_named(options: dict[str, str]) -> None:
    (store,) = load_stores(["clickhouse"], PLUGINS)

    with pytest.raises(
        clickhouse_connect.driver.exceptions.DatabaseError, match="nowhere does not exist"
    ):
        store.open(options | {"database": "nowhere"})


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        (
            "CREATE TABLE bars (symbol String, rank UInt8) ENGINE = ReplacingMergeTree(rank)"
            " ORDER BY symbol",
            r"the table bars cannot be used: there is no market; symbol is String, not"
            r" LowCardinality\(String\); .* it is ordered by \(symbol\), not by"
            r" \(market, symbol, open_time\); it is left as it is; name another one",
        ),
        (
            "CREATE TABLE bars (rank UInt256) ENGINE = MergeTree ORDER BY rank",
            r"its engine is MergeTree, not ReplacingMergeTree\(rank\)",
        ),
        (
            "CREATE TABLE bars_coverage (since Date) ENGINE = MergeTree ORDER BY since",
            r"the table bars_coverage cannot be used: .* since is Date, not",
        ),
        (
            "CREATE TABLE bars_best (symbol String) ENGINE = MergeTree ORDER BY symbol",
            "bars_best is no view",
        ),
    ],
)
def test_a_table_of_another_shape_is_left_as_it_is(
    options: dict[str, str], client: Client, statement: str, reason: str
) -> None:
    client.command(statement)
    name = statement.split()[2]
    before = client.query(f"SHOW CREATE TABLE {name}").first_row

    (store,) = load_stores(["clickhouse"], PLUGINS)
    with pytest.raises(BintradesError, match=reason):
        store.open(options)

    assert client.query(f"SHOW CREATE TABLE {name}").first_row == before


def test_a_table_that_the_user_has_made_with_more_columns_is_used_and_its_risk_said(
    store: Store,
    options: dict[str, str],
    client: Client,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client.command("ALTER TABLE bars ADD COLUMN note String DEFAULT 'mine'")
    client.command("ALTER TABLE bars RESET SETTING fsync_after_insert")
    store.open(options)
    store.write(sample_bars(1))

    assert client.query("SELECT note FROM bars").first_row == ("mine",)
    (record,) = [each for each in caplog.records if each.name.endswith("clickhouse")]
    assert "ALTER TABLE bars MODIFY SETTING fsync_after_insert = 1" in record.getMessage()


def test_what_was_deleted_is_there_again_once_it_is_sent_again(
    store: Store, client: Client
) -> None:
    # As a replicated table does from the start: it leaves out inserts that it has had already.
    client.command("ALTER TABLE bars MODIFY SETTING non_replicated_deduplication_window = 100")
    bars = sample_bars(3)
    store.write(bars)
    client.command("DELETE FROM bars WHERE true")

    store.write(bars)

    assert [bar["open_time"] for bar in best(client)] == [bar.open_time for bar in bars]


def test_a_table_that_was_made_anew_is_another_store(
    store: Store, options: dict[str, str], client: Client
) -> None:
    before = store.identity()
    client.command("DROP TABLE bars SYNC")
    store.open(options)

    assert before
    assert store.identity() not in (before, None)


def test_a_span_that_comes_back_after_it_was_taken_away_is_there_again(
    store: Store, client: Client
) -> None:
    for spans in ([sample_span(0, 3)], [sample_span(0, 0)], [sample_span(0, 2)]):
        store.cover(spans)

    found = client.query("SELECT until FROM bars_coverage FINAL", tz_mode="aware").result_rows
    assert found == [(sample_span(0, 2).until,)]


def test_certificates_without_tls_are_a_mistake(options: dict[str, str]) -> None:
    (store,) = load_stores(["clickhouse"], PLUGINS)

    with pytest.raises(ConfigError, match="ca_file: only of use where url begins with https"):
        store.check(options | {"ca_file": "ca.pem"})


def test_the_query_of_the_documentation_makes_candles_of_a_minute(
    store: Store, client: Client
) -> None:
    page = (PLUGINS.parent / "docs" / "stores.md").read_text("utf-8")
    query = page.partition("## clickhouse")[2].partition("```sql\n")[2].partition("```")[0]
    bars = sample_bars(12)
    store.write(bars)
    store.write(bars)

    rows = client.query(query, tz_mode="aware").result_rows

    first = datetime(2024, 8, 8, tzinfo=UTC)
    assert [row[0] for row in rows] == [first, first + timedelta(minutes=1)]
    assert [row[-2] for row in rows] == [6 * bars[0].value] * 2
