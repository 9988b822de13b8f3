"""What a table of PostgreSQL holds after a batch, whatever happens to the server in between."""

from __future__ import annotations

import random
import re
import threading
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from msgspec.structs import replace

from bintrades import BintradesError, ConfigError, RejectedBars
from bintrades.model.bar_fields import FIELDS, FieldKind, fields_of
from bintrades.options.option import checked
from bintrades.testing.bars import sample_bar, sample_bars, sample_span
from bintrades.testing.store_contract import StoreContract
from tests.engines import need_package

need_package("psycopg")

import psycopg  # noqa: E402
from psycopg import sql  # noqa: E402
from psycopg.rows import dict_row  # noqa: E402

from plugins import postgresql  # noqa: E402
from plugins.postgresql import COLUMNS, COVERAGE_COLUMNS, OF_SOME_MARKETS, Store  # noqa: E402
from tests.postgres_server import PostgresServer  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bintrades import Bar

    Connection = psycopg.Connection[tuple[Any, ...]]

PLUGINS = Path(__file__).parents[2] / "plugins"
DOCS = Path(__file__).parents[2] / "docs"
EVER = (datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))
KINDS = {
    FieldKind.TEXT: "text",
    FieldKind.TIME: "timestamp with time zone",
    FieldKind.INT: "integer",
    FieldKind.LONG: "bigint",
    FieldKind.DECIMAL: "numeric",
    FieldKind.FLAG: "boolean",
}


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    with PostgresServer(tmp_path_factory.mktemp("postgresql")) as server:
        yield server


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[PostgresServer]:
    """Run a server that may be killed, and change all that it wants to."""
    with PostgresServer(tmp_path) as server:
        yield server


@pytest.fixture
def options(server: PostgresServer) -> dict[str, str]:
    return {"dsn": server.dsn, "schema": f"Tests of {uuid.uuid4().hex}"}


@pytest.fixture
def connection(options: dict[str, str]) -> Iterator[Connection]:
    """Return the administrator's connection, which sees the tables of the store by their names."""
    with connected(options) as connection:
        yield connection
        connection.execute(
            sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(options["schema"]))
        )


@pytest.fixture
def store(options: dict[str, str], connection: Connection) -> Iterator[Store]:
    with opened(options) as store:
        yield store


class opened:  # noqa: N801 - used like a function
    """An open store, closed at the end."""

    def __init__(self, options: dict[str, str]) -> None:
        self._options = checked(Store.OPTIONS, options)
        self._store = Store()

    def __enter__(self) -> Store:
        self._store.check_store(self._options)
        self._store.open_store(self._options)
        return self._store

    def __exit__(self, *_error: object) -> None:
        self._store.close_store()


def connected(options: dict[str, str]) -> Connection:
    connection = psycopg.connect(options["dsn"], autocommit=True)
    path = sql.Identifier(options.get("schema", "public")).as_string()
    connection.execute("SELECT set_config('search_path', %s, false)", [f"{path}, public"])
    return connection


def stored_in(connection: Connection) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute("SELECT * FROM bars ORDER BY symbol, open_time, market").fetchall()
    return [
        {name: value for name, value in row.items() if name in names_of(row["market"])}
        for row in rows
    ]


def names_of(market: str) -> set[str]:
    return {field.name for field in fields_of(market)}


def read(store: Store, market: str = "spot", symbol: str = "BTCUSDT") -> list[Bar]:
    return list(store.read_bars(symbol, *EVER, market))


class TestTheContract(StoreContract):
    name = "postgresql"
    folder = PLUGINS

    @pytest.fixture
    def options(self, server: PostgresServer) -> Iterator[dict[str, str]]:
        options = {"dsn": server.dsn, "schema": f"Tests of {uuid.uuid4().hex}"}
        with connected(options) as self.connection:
            yield options

    def stored(self) -> list[dict[str, Any]]:
        return stored_in(self.connection)

    def covered(self) -> list[dict[str, Any]]:
        with self.connection.cursor(row_factory=dict_row) as cursor:
            spans = cursor.execute("SELECT * FROM bars_coverage").fetchall()
        return [{name: span[name] for name in span if name != "updated_at"} for span in spans]


def test_the_columns_are_the_published_fields_in_their_order() -> None:
    assert {field.name: KINDS[field.kind] for field in FIELDS} == COLUMNS
    assert list(COLUMNS) == [field.name for field in FIELDS]
    assert {field.name for field in FIELDS if field.markets is not None} == OF_SOME_MARKETS
    assert set(COVERAGE_COLUMNS) == {*sample_span(0, 1).as_dict(), "updated_at"}


def test_bars_of_all_markets_are_exact_and_come_back(store: Store, connection: Connection) -> None:
    usdm = sample_bar(market="usdm", excluded_count=4, is_approximate=True, is_complete=False)
    coinm = sample_bar(
        market="coinm",
        contract_size=Decimal(100),
        value=Decimal("0.0000001234567890123456789012345678901234"),  # 34 digits, 40 places
        buy_value=Decimal("0.0000000000000000000000000000000000000001"),
    )
    bars = [sample_bar(), usdm, coinm]

    store.store_bars(bars)

    assert [bar for market in ("spot", "usdm", "coinm") for bar in read(store, market)] == bars
    by_market = {row["market"]: row for row in stored_in(connection)}
    assert by_market == {bar.market: bar.as_dict() for bar in bars}
    nulls = "SELECT market FROM bars WHERE num_nulls(excluded_count, contract_size) = 2"
    assert connection.execute(nulls).fetchall() == [("spot",)]


def test_a_bar_that_a_column_does_not_take_is_refused_by_name_and_the_others_are_stored(
    store: Store, connection: Connection
) -> None:
    bars = sample_bars(20)
    refused = {
        3: replace(bars[3], last_trade_id=2**63),
        4: replace(bars[4], symbol="BTC\0USDT"),
        11: replace(bars[11], symbol="\ud800"),
        17: replace(bars[17], symbol=random.Random(1).randbytes(10_000).hex()),
        19: replace(bars[19], open_time_ms=10**15),
    }

    with pytest.raises(RejectedBars) as error:
        store.store_bars([refused.get(number, bar) for number, bar in enumerate(bars)])

    rejected = error.value.rejected
    assert [bar for bar, _ in rejected] == list(refused.values())
    reasons = [reason for _, reason in rejected]
    assert reasons[0].startswith("last_trade_id: value ")
    assert "out of range for type bigint" in reasons[0]
    assert re.search("NUL|0x00", reasons[1])
    assert "surrogates not allowed" in reasons[2]
    assert "index row" in reasons[3]
    assert "cannot be a row: " in reasons[4]
    assert read(store) == [bar for number, bar in enumerate(bars) if number not in refused]
    assert len(stored_in(connection)) == 15


def test_a_bar_that_breaks_a_constraint_of_the_user_is_refused(
    store: Store, connection: Connection
) -> None:
    connection.execute("ALTER TABLE bars ADD CONSTRAINT few CHECK (trade_count < 5)")
    first, second, third = sample_bars(3)
    second = replace(second, trade_count=6)

    with pytest.raises(RejectedBars, match="few") as error:
        store.store_bars([first, second, third])

    assert [bar for bar, _ in error.value.rejected] == [second]
    assert read(store) == [first, third]


def test_a_bar_for_which_the_user_has_made_no_partition_yet_comes_again(
    options: dict[str, str], store: Store, connection: Connection
) -> None:
    connection.execute("ALTER TABLE bars RENAME TO template")
    connection.execute(
        "CREATE TABLE bars (LIKE template INCLUDING ALL) PARTITION BY RANGE (open_time)"
    )
    with opened(options) as store:
        with pytest.raises(psycopg.IntegrityError, match="no partition"):
            store.store_bars(sample_bars(2))
        connection.execute("CREATE TABLE all_times PARTITION OF bars DEFAULT")
        store.store_bars(sample_bars(2))

        assert read(store) == sample_bars(2)


def test_a_batch_with_several_versions_of_a_bar_leaves_the_best_one(store: Store) -> None:
    versions = [sample_bar(trade_count=count, version=count) for count in (5, 9, 7)]

    store.store_bars(versions)

    assert read(store) == [versions[1]]


def test_two_collectors_that_write_at_once_leave_the_best_of_each_bar(
    options: dict[str, str], connection: Connection
) -> None:
    bars = sample_bars(200)
    failures: list[Exception] = []

    def write(parity: int) -> None:
        try:
            with opened(options) as store:
                for version in range(1, 21):
                    best = [
                        replace(bar, trade_count=100 * version + (number + parity) % 2)
                        for number, bar in enumerate(bars)
                    ]
                    store.store_bars(best if parity else best[::-1])
        except Exception as error:
            failures.append(error)

    with opened(options):
        threads = [threading.Thread(target=write, args=(parity,)) for parity in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert failures == []
    assert [row["trade_count"] for row in stored_in(connection)] == [2001] * 200


def test_nothing_acknowledged_is_lost_or_doubled_when_the_server_is_killed_under_load(
    own_server: PostgresServer,
) -> None:
    options = {"dsn": own_server.dsn}
    batches = [sample_bars(100, symbol=f"S{number:02}USDT") for number in range(40)]
    acknowledged: list[int] = []
    written = threading.Semaphore(0)

    def write() -> None:
        for number, batch in enumerate(batches):
            while True:
                try:
                    with opened(options) as store:
                        store.store_bars(batch)
                        break
                except psycopg.OperationalError:
                    continue
            acknowledged.append(number)
            written.release()

    with opened(options):
        thread = threading.Thread(target=write)
        thread.start()
    for _ in range(3):
        for _ in range(8):
            written.acquire()
        own_server.kill()
        before = list(acknowledged)
        own_server.start()
        with connected(options) as connection:
            symbols = {row["symbol"] for row in stored_in(connection)}
        assert {f"S{number:02}USDT" for number in before} <= symbols
    thread.join()

    with connected(options) as connection:
        there = stored_in(connection)
    assert there == [bar.as_dict() for batch in batches for bar in batch]


def test_after_a_lost_connection_the_store_is_opened_again(
    options: dict[str, str], store: Store, connection: Connection
) -> None:
    first, second = sample_bars(2)
    store.store_bars([first])
    connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'bintrades'"
    )

    with pytest.raises(psycopg.OperationalError):
        store.store_bars([second])
    store.open_store(checked(Store.OPTIONS, options))
    store.store_bars([first, second])

    assert read(store) == [first, second]


def test_a_server_that_hangs_is_given_up(
    own_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"dsn": own_server.dsn}
    with opened(options) as store:
        monkeypatch.setattr(postgresql, "ANSWER_TIMEOUT_S", 0.5)
        own_server.pause()
        with pytest.raises(TimeoutError, match="no answer"):
            store.store_bars([sample_bar()])
        own_server.go_on()
    monkeypatch.undo()

    with opened(options) as store:
        store.store_bars([sample_bar()])
        assert read(store) == [sample_bar()]


def test_a_batch_that_takes_the_server_too_long_is_to_come_in_smaller_ones(
    options: dict[str, str], connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(postgresql.SETTINGS, "statement_timeout", "300ms")
    with opened(options) as store:
        connection.execute(
            """CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN PERFORM pg_sleep(600); RETURN NEW; END'"""
        )
        connection.execute(
            "CREATE TRIGGER lingering BEFORE INSERT ON bars FOR EACH ROW EXECUTE FUNCTION linger()"
        )
        with pytest.raises(TimeoutError, match="statement timeout"):
            store.store_bars([sample_bar()])
        connection.execute("DROP TRIGGER lingering ON bars")
        store.store_bars([sample_bar()])

        assert read(store) == [sample_bar()]


def test_a_table_that_somebody_has_locked_is_waited_for_only_so_long(
    options: dict[str, str], connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(postgresql.SETTINGS, "lock_timeout", "300ms")
    with opened(options) as store:
        with connection.transaction():
            connection.execute("LOCK TABLE bars")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                store.store_bars([sample_bar()])
        store.store_bars([sample_bar()])

        assert read(store) == [sample_bar()]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("ALTER TABLE bars ALTER value TYPE double precision", "value is double precision"),
        ("ALTER TABLE bars ALTER value TYPE numeric(38, 8)", r"value is numeric\(38,8\)"),
        ("ALTER TABLE bars DROP epoch", "epoch is missing and must be integer"),
        ("ALTER TABLE bars DROP CONSTRAINT bars_pkey", "no unique index on symbol, open_time"),
        ("ALTER TABLE bars_coverage DROP until", "until is missing"),
        ("ALTER TABLE bars SET UNLOGGED", "it is UNLOGGED, so that a crash of the server empties"),
        ("ALTER TABLE bars_coverage SET UNLOGGED", "it is UNLOGGED"),
        (
            "TRUNCATE bars; ALTER TABLE bars ADD note text NOT NULL",
            "note is NOT NULL, without a default, and not all bars have it",
        ),
        (
            "TRUNCATE bars; ALTER TABLE bars ALTER contract_size SET NOT NULL",
            "contract_size is NOT NULL",
        ),
    ],
)
def test_a_table_of_another_shape_is_refused_and_left_as_it_is(
    options: dict[str, str], store: Store, connection: Connection, change: str, complaint: str
) -> None:
    store.store_bars(sample_bars(2))
    connection.execute(change.encode())
    before = connection.execute("SELECT * FROM bars").fetchall()

    with pytest.raises(BintradesError, match=f"is there, but is no table of bars: .*{complaint}"):
        store.open_store(checked(Store.OPTIONS, options))

    assert connection.execute("SELECT * FROM bars").fetchall() == before


def test_columns_and_indexes_that_the_user_adds_do_no_harm(
    options: dict[str, str], store: Store, connection: Connection
) -> None:
    connection.execute("ALTER TABLE bars ADD note text, ADD day date DEFAULT now() NOT NULL")
    connection.execute("CREATE INDEX ON bars USING brin (open_time)")

    store.open_store(checked(Store.OPTIONS, options))
    store.store_bars(sample_bars(3))

    assert read(store) == sample_bars(3)


def test_the_rights_that_lack_are_said(own_server: PostgresServer) -> None:
    password = own_server.password
    with connected({"dsn": own_server.dsn}) as connection:
        connection.execute(
            sql.SQL("CREATE USER collector PASSWORD {}").format(sql.Literal(password))
        )
        options = {
            "dsn": f"postgresql://collector:{quote(password, safe='')}"
            f"@127.0.0.1:{own_server.port}/postgres"
        }
        with pytest.raises(
            BintradesError, match=r"permission denied .* needs the rights CREATE on"
        ):
            opened(options).__enter__()
        with opened({"dsn": own_server.dsn}):
            connection.execute("GRANT SELECT, INSERT, UPDATE ON bars TO collector")
            with opened(options) as store:
                store.store_bars(sample_bars(3))
                assert read(store) == sample_bars(3)
                assert store.identify_store()


def test_a_password_is_never_shown() -> None:
    for dsn in (
        "postgresql://me:s3cr3t@word@host/bars?sslmod=require",
        "postgresql://me:s3cr3t%zz@host/bars",
        "host=db password=s3cr3t word",
        "host=db password='s3cr3t",
        "host=db password=two s3cr3t=5",
    ):
        with pytest.raises(ConfigError) as error:
            Store().check_store(checked(Store.OPTIONS, {"dsn": dsn}))
        assert "s3cr3t" not in str(error.value)
        assert "libpq cannot read it" in str(error.value)


def test_a_misspelt_parameter_gets_a_suggestion() -> None:
    for dsn in ("host=db sslmod=require", "postgresql://db/bars?sslmod=require"):
        with pytest.raises(ConfigError, match=r"did you mean sslmode\?"):
            Store().check_store(checked(Store.OPTIONS, {"dsn": dsn}))


@pytest.mark.parametrize("name", ["schema", "table"])
@pytest.mark.parametrize(("value", "fault"), [("", "no name"), ("é" * 28, "too long")])
def test_a_name_that_no_server_takes_is_refused(name: str, value: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name} = .*{fault}"):
        checked(Store.OPTIONS, {name: value})


def test_a_server_that_is_away_is_another_try_later(own_server: PostgresServer) -> None:
    own_server.stop()

    with pytest.raises(psycopg.OperationalError, match="refused"):
        opened({"dsn": own_server.dsn}).__enter__()


def test_a_table_is_another_one_once_its_bars_are_gone(
    options: dict[str, str], store: Store, connection: Connection
) -> None:
    store.store_bars([sample_bar()])
    seen = [store.identify_store()]
    connection.execute("TRUNCATE bars")
    seen.append(store.identify_store())
    connection.execute("DROP TABLE bars")
    assert store.identify_store() is None
    store.open_store(checked(Store.OPTIONS, options))
    seen.append(store.identify_store())
    with opened(options | {"table": "others"}) as other:
        seen.append(other.identify_store())

    assert None not in seen
    assert len(set(seen)) == 4


@pytest.mark.parametrize("given", ["off", "local", "on", "remote_apply"])
def test_a_commit_is_never_acknowledged_before_it_is_durable(
    options: dict[str, str], connection: Connection, given: str
) -> None:
    options["dsn"] += f" options='-c synchronous_commit={given}'"
    with opened(options) as store:
        connection.execute(
            """CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
            INSERT INTO public.seen_settings VALUES (current_setting('synchronous_commit'));
            RETURN NEW; END$$"""
        )
        connection.execute("CREATE TABLE IF NOT EXISTS public.seen_settings (setting text)")
        connection.execute("TRUNCATE public.seen_settings")
        connection.execute(
            "CREATE TRIGGER noting BEFORE INSERT ON bars FOR EACH ROW EXECUTE FUNCTION note()"
        )
        store.store_bars([sample_bar()])

        seen = connection.execute("SELECT setting FROM public.seen_settings").fetchall()
        assert seen == [("remote_apply" if given == "remote_apply" else "on",)]


def test_a_server_that_does_not_write_through_to_the_disk_is_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        PostgresServer(tmp_path, settings=("fsync=off",)) as server,
        opened(options := {"dsn": server.dsn}) as store,
    ):
        store.open_store(checked(Store.OPTIONS, options))

    (record,) = [each for each in caplog.records if each.name == "plugins.postgresql"]
    assert record.getMessage().endswith("the server has fsync = off")


def test_many_bars_are_read_in_parts_and_need_not_be_read_to_the_end(store: Store) -> None:
    bars = sample_bars(postgresql._ROWS_AT_ONCE + 2)
    store.store_bars(bars)

    assert read(store) == bars
    reading = store.read_bars("BTCUSDT", *EVER, "spot")
    assert next(iter(reading)) == bars[0]
    del reading
    store.store_bars([replace(bars[0], version=2)])

    assert next(iter(store.read_bars("BTCUSDT", *EVER, "spot"))).version == 2


def test_a_span_that_has_not_changed_is_not_written_again(
    store: Store, connection: Connection
) -> None:
    query = "SELECT since, updated_at, xmin::text FROM bars_coverage ORDER BY since"
    store.store_coverage([sample_span(0, 3), sample_span(5, 6)])
    before = connection.execute(query).fetchall()
    store.store_coverage([sample_span(0, 3), sample_span(5, 7)])
    after = connection.execute(query).fetchall()

    assert after[0] == before[0]
    assert after[1] != before[1]


def test_a_new_table_becomes_a_hypertable_where_there_is_timescaledb(tmp_path: Path) -> None:
    """With an extension of this name, and functions of the published signatures."""
    extension = tmp_path / "extension"
    extension.mkdir()
    (extension / "timescaledb.control").write_text("default_version = '1'\nrelocatable = false\n")
    (extension / "timescaledb--1.sql").write_text(
        """
        CREATE TYPE dimension_info AS (column_name name, width text);
        CREATE TABLE hypertables (relation regclass, dimension dimension_info, indexes boolean);
        CREATE FUNCTION by_range(
            column_name name, partition_interval anyelement DEFAULT NULL::bigint,
            partition_func regproc DEFAULT NULL
        ) RETURNS dimension_info LANGUAGE sql
        AS 'SELECT ROW(column_name, partition_interval)::@extschema@.dimension_info';
        CREATE FUNCTION create_hypertable(
            relation regclass, dimension dimension_info,
            create_default_indexes boolean DEFAULT true,
            if_not_exists boolean DEFAULT false, migrate_data boolean DEFAULT false,
            OUT hypertable_id integer, OUT created boolean
        ) LANGUAGE sql AS 'INSERT INTO @extschema@.hypertables
            VALUES (relation, dimension, create_default_indexes); SELECT 1, true';
        """
    )
    settings = [f"extension_control_path={tmp_path}:$system"]
    with PostgresServer(tmp_path / "server", settings=settings) as server:
        options = {"dsn": server.dsn, "table": 'its "bars"'}
        with connected(options) as connection:
            connection.execute("CREATE SCHEMA elsewhere")
            connection.execute("CREATE EXTENSION timescaledb SCHEMA elsewhere")
            for _ in range(2):
                with opened(options) as store:
                    store.store_bars([sample_bar()])

            made = connection.execute(
                "SELECT relation::text, (dimension).*, indexes FROM elsewhere.hypertables"
            ).fetchall()
            assert made == [('"its ""bars"""', "open_time", "7 days", False)]


def test_the_queries_of_the_page_work(store: Store, connection: Connection) -> None:
    page = (DOCS / "stores.md").read_text(encoding="utf-8")
    section = page.partition("\n## postgresql\n")[2].partition("\n## ")[0]
    store.store_bars(sample_bars(60))
    store.store_coverage([sample_span(0, 60)])

    queries = re.findall(r"```sql\n(.*?)```", section, re.DOTALL)
    newest, minutes, covered = [connection.execute(each.encode()).fetchall() for each in queries]

    bars = sample_bars(60)
    assert newest == [(bar.open_time, bar.average_price, 3) for bar in bars[:-7:-1]]
    first = (bars[0].open_time, *[Decimal("991.8000000000000006"), Decimal("0.018")], 18, True)
    assert minutes[0] == first
    assert len(minutes) == 10
    assert covered == [(True,)]
    for option in Store.OPTIONS:
        assert f"| {option.name} | `{option.default}` | {option.meaning} |" in section
    for name, kind in COLUMNS.items():
        assert re.search(rf"`{name}`[^|]* \| {kind} \|", section), name
