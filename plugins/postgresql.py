"""Stores bars in a table of PostgreSQL: one row for each market, symbol and interval.

    [stores]
    enabled = postgresql

    [store:postgresql]
    dsn = postgresql://bintrades:${PGPASSWORD}@db.example.net/market
    schema = public
    table = bars

Schema and tables are made if they are not there; with the extension TimescaleDB in the database,
the table of the bars becomes a hypertable. A batch is copied into a temporary table, and goes from
there into the other by one statement that replaces a stored bar only by one of a higher rank. So
any number of collectors may write at once. Columns of type `numeric` hold every number exactly.
Coverage is in a second table beside that of the bars, TABLE_coverage.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from bintrades import (
    Bar,
    BintradesError,
    ConfigError,
    Option,
    OptionType,
    RejectedBars,
    hookimpl,
    require_library,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    import psycopg
    from psycopg import sql

    from bintrades import CoveredSpan

log = logging.getLogger(__name__)

_TIME = "timestamp with time zone"
COLUMNS = {
    "symbol": "text",
    "market": "text",
    "open_time": _TIME,
    "interval_seconds": "integer",
    "trade_count": "bigint",
    "buy_count": "bigint",
    "sell_count": "bigint",
    "quantity": "numeric",
    "buy_quantity": "numeric",
    "sell_quantity": "numeric",
    "value": "numeric",
    "buy_value": "numeric",
    "sell_value": "numeric",
    "open_price": "numeric",
    "close_price": "numeric",
    "min_price": "numeric",
    "max_price": "numeric",
    "average_price": "numeric",
    "contract_size": "numeric",
    "first_trade_id": "bigint",
    "last_trade_id": "bigint",
    "first_trade_time": _TIME,
    "last_trade_time": _TIME,
    "excluded_count": "bigint",
    "is_closed": "boolean",
    "is_complete": "boolean",
    "is_approximate": "boolean",
    "epoch": "integer",
    "version": "integer",
    "updated_at": _TIME,
}
"""The columns of a bar, in the order in which its fields are published."""

OF_SOME_MARKETS = {"contract_size", "excluded_count", "is_approximate"}
"""The columns that are NULL in bars of other markets."""

COVERAGE_COLUMNS = {
    "symbol": "text",
    "market": "text",
    "since": _TIME,
    "until": _TIME,
    "interval_seconds": "integer",
    "updated_at": _TIME,
}

DEFAULTS = {
    "application_name": "bintrades",
    "client_encoding": "utf8",
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "target_session_attrs": "read-write",  # of several hosts, the primary
    "tcp_user_timeout": "30000",
}
"""What holds where the dsn does not say: libpq would wait for ever for a host that is gone."""

SETTINGS = {"statement_timeout": "20s", "lock_timeout": "10s", "timezone": "UTC"}
"""Of each session."""

ANSWER_TIMEOUT_S = 40.0  # of a server that hangs, and so keeps none of its own timeouts
_ROWS_AT_ONCE = 5_000  # while reading
_LONGEST_NAME = 63  # bytes, of which _coverage needs its part

_KEY = "symbol, open_time, market"  # in this order, it serves queries without a market as well
_RANK = ("epoch", "trade_count", "is_closed", "is_complete", "version")

_UPSERT = f"""
    INSERT INTO {{table}} AS stored ({", ".join(COLUMNS)})
    SELECT DISTINCT ON ({_KEY}) {", ".join(COLUMNS)} FROM pg_temp.bintrades_batch
    ORDER BY {_KEY}, {" DESC, ".join(_RANK)} DESC
    ON CONFLICT ({_KEY}) DO UPDATE
    SET ({", ".join(COLUMNS)}) = ({", ".join(f"excluded.{name}" for name in COLUMNS)})
    WHERE ({", ".join(f"stored.{name}" for name in _RANK)})
        < ({", ".join(f"excluded.{name}" for name in _RANK)})"""  # noqa: S608 - of our names alone
"""In the order of the key, so that two collectors never wait for each other's rows."""

_BATCH = f"""
    CREATE TEMPORARY TABLE bintrades_batch ON COMMIT DELETE ROWS
    AS SELECT {", ".join(COLUMNS)} FROM {{table}} WITH NO DATA"""  # noqa: S608 - of our names alone

_ACKNOWLEDGE_WHEN_DURABLE = """
    SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') IN ('off', 'local')"""

_COLUMNS_OF = """
    SELECT attname, format_type(atttypid, atttypmod),
        attnotnull AND NOT atthasdef AND attidentity = ''
    FROM pg_attribute
    WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped"""

_IS_UNLOGGED = "SELECT relpersistence = 'u' FROM pg_class WHERE oid = to_regclass(%s)"

_SCHEMA_OF_TIMESCALEDB = """
    SELECT nspname FROM pg_extension JOIN pg_namespace ON extnamespace = pg_namespace.oid
    WHERE extname = 'timescaledb'"""

_MAKE_HYPERTABLE = """
    SELECT {schema}.create_hypertable(
        %s::regclass, {schema}.by_range('open_time', INTERVAL '7 days'),
        create_default_indexes => false)"""

_IDENTITY = """
    SELECT concat_ws('/', system_identifier, pg_database.oid, pg_class.oid,
                     pg_relation_filenode(pg_class.oid))
    FROM pg_control_system(), pg_database, pg_class
    WHERE datname = current_database() AND pg_class.oid = to_regclass(%s)"""

_READ = """
    SELECT symbol, market,
        (extract(epoch FROM open_time) * 1000)::bigint AS open_time_ms,
        interval_seconds * 1000 AS interval_ms,
        trade_count, buy_count, quantity, buy_quantity, value, buy_value,
        open_price, close_price, min_price, max_price, first_trade_id, last_trade_id,
        (extract(epoch FROM first_trade_time) * 1000)::bigint AS first_trade_time_ms,
        (extract(epoch FROM last_trade_time) * 1000)::bigint AS last_trade_time_ms,
        is_closed, is_complete, version,
        (extract(epoch FROM updated_at) * 1000)::bigint AS updated_at_ms,
        epoch, coalesce(excluded_count, 0) AS excluded_count,
        coalesce(is_approximate, false) AS is_approximate, contract_size
    FROM {table}
    WHERE symbol = %s AND market = %s AND open_time >= %s AND open_time < %s
    ORDER BY open_time"""

_UNCOVER = """
    DELETE FROM {coverage} AS stored
    USING unnest(%(symbols)s::text[], %(markets)s::text[], %(firsts)s::timestamptz[])
        AS told(symbol, market, first)
    WHERE stored.symbol = told.symbol AND stored.market = told.market
        AND stored.since >= told.first
        AND (stored.symbol, stored.market, stored.since) NOT IN (
            SELECT * FROM unnest(%(of_symbols)s::text[], %(of_markets)s::text[],
                                 %(since)s::timestamptz[]))"""

_CUT_OFF = """
    UPDATE {coverage} AS stored SET until = told.first, updated_at = now()
    FROM unnest(%(symbols)s::text[], %(markets)s::text[], %(firsts)s::timestamptz[])
        AS told(symbol, market, first)
    WHERE stored.symbol = told.symbol AND stored.market = told.market
        AND stored.since < told.first AND stored.until > told.first"""

_COVER = """
    INSERT INTO {coverage} AS stored (symbol, market, since, until, interval_seconds, updated_at)
    SELECT *, now() FROM unnest(%(of_symbols)s::text[], %(of_markets)s::text[],
        %(since)s::timestamptz[], %(until)s::timestamptz[], %(seconds)s::integer[])
    ON CONFLICT (symbol, market, since) DO UPDATE
    SET until = excluded.until, interval_seconds = excluded.interval_seconds, updated_at = now()
    WHERE (stored.until, stored.interval_seconds)
        IS DISTINCT FROM (excluded.until, excluded.interval_seconds)"""


def _name(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError("is no name")
    if len(f"{text}_coverage".encode(errors="replace")) > _LONGEST_NAME:
        raise ValueError("is too long")
    return text


_NAME = OptionType(_name, f"a name of 1 to {_LONGEST_NAME - len('_coverage')} bytes")


class Store:
    """One table of bars, and one of their coverage. All calls but check_store: one thread."""

    OPTIONS = (
        Option(
            "dsn",
            "postgresql://127.0.0.1:5432/bintrades",
            "server and database: a URI, or words as libpq has them, with TLS and what else it has",
            is_secret=True,  # a password may stand in it
        ),
        Option("schema", "public", "the schema of the tables", _NAME),
        Option("table", "bars", "the table of the bars; that of coverage is TABLE_coverage", _NAME),
    )

    def __init__(self) -> None:
        self._connection: psycopg.Connection[Any] | None = None
        self._names: dict[str, sql.Identifier] = {}
        self._is_warned = False

    @hookimpl
    def check_store(self, options: dict[str, str]) -> None:
        """Raise ConfigError if psycopg is not installed, or cannot read the dsn; no network."""
        require_library("psycopg", package="psycopg[binary]", extra="postgresql")
        _parameters(options["dsn"])

    @hookimpl
    def open_store(self, options: dict[str, str]) -> None:
        """Connect, and make what is missing of the schema and the tables.

        Raises ConfigError for a bad dsn, BintradesError where a table of the name is another one
        or a right is missing, psycopg.Error if there is no server, or it does not let us in.
        """
        import psycopg
        from psycopg import sql

        self.close_store()
        schema, table = options["schema"], options["table"]
        self._names = {
            "schema": sql.Identifier(schema),
            "table": sql.Identifier(schema, table),
            "coverage": sql.Identifier(schema, f"{table}_coverage"),
        }
        self._connection = psycopg.connect(**_parameters(options["dsn"]), autocommit=True)
        try:
            with self._transaction() as connection:
                self._set_up(connection)
        except psycopg.errors.InvalidColumnReference as error:
            self.close_store()
            raise _unusable(
                self._names["table"].as_string(), f"no unique index on {_KEY}"
            ) from error
        except psycopg.errors.InsufficientPrivilege as error:
            self.close_store()
            raise BintradesError(
                f"{error.diag.message_primary}: the user needs the rights CREATE on the schema or"
                " tables that are there; SELECT, INSERT and UPDATE on them, DELETE on that of"
                " coverage; and TEMPORARY on the database"
            ) from error
        except BaseException:
            self.close_store()
            raise

    @hookimpl
    def store_bars(self, bars: Sequence[Bar]) -> None:
        """Store *bars*, none in the place of one of the same or a higher rank.

        Raises RejectedBars for those that a column or a constraint does not take, TimeoutError if
        they take too long, psycopg.Error if they should come again.
        """
        rejected: list[tuple[Bar, str]] = []
        self._store(bars, rejected)
        if rejected:
            raise RejectedBars(rejected)

    @hookimpl
    def store_coverage(self, spans: Sequence[CoveredSpan]) -> None:
        """Store *spans* in the second table; those that are there already stay as they are.

        Raises psycopg.Error if they should come again.
        """
        firsts: dict[tuple[str, str], datetime] = {}
        for span in spans:
            firsts.setdefault((span.symbol, span.market), span.since)
        kept = [span for span in spans if not span.is_empty]
        told = {
            "symbols": [symbol for symbol, _ in firsts],
            "markets": [market for _, market in firsts],
            "firsts": list(firsts.values()),
            "of_symbols": [span.symbol for span in kept],
            "of_markets": [span.market for span in kept],
            "since": [span.since for span in kept],
            "until": [span.until for span in kept],
            "seconds": [span.interval_seconds for span in kept],
        }
        with self._transaction() as connection:
            for statement in (_UNCOVER, _CUT_OFF, _COVER):
                connection.execute(self._sql(statement), told)

    @hookimpl
    def read_bars(
        self, symbol: str, since: datetime, until: datetime, market: str
    ) -> Iterator[Bar]:
        """Yield the bars of *symbol* with since <= open time < until, oldest first.

        Raises psycopg.Error.
        """
        from psycopg.rows import class_row

        connection = self._connection
        if connection is None:
            raise BintradesError("open_store comes first")
        with (
            connection.transaction(),
            connection.cursor("bintrades_bars", row_factory=class_row(Bar)) as cursor,
        ):
            cursor.itersize = _ROWS_AT_ONCE
            yield from cursor.execute(self._sql(_READ), (symbol, market, since, until))

    @hookimpl
    def identify_store(self) -> str | None:
        """Return what changes with another server, database or table, and with TRUNCATE.

        Also with what writes the table anew, such as VACUUM FULL. Raises psycopg.Error.
        """
        with self._transaction() as connection:
            name = self._names["table"].as_string()
            row = connection.execute(_IDENTITY, [name]).fetchone()
        return None if row is None else str(row[0])

    @hookimpl
    def close_store(self) -> None:
        """Close the connection; does nothing if there is none."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _store(self, bars: Sequence[Bar], rejected: list[tuple[Bar, str]]) -> None:
        """Store *bars* in one transaction, or in halves if the server refuses one of them.

        So the server itself says what it does not take, and only that is set aside.
        """
        import psycopg

        try:
            self._upsert(bars)
        except (
            psycopg.DataError,
            psycopg.IntegrityError,
            psycopg.errors.ProgramLimitExceeded,  # a name that no index takes
            ValueError,
            OverflowError,
        ) as error:
            if not _lies_in_a_bar(error):
                raise
            if len(bars) == 1:
                rejected.append((bars[0], _reason(error)))
                return
            half = len(bars) // 2
            self._store(bars[:half], rejected)
            self._store(bars[half:], rejected)

    def _upsert(self, bars: Sequence[Bar]) -> None:
        with self._transaction() as connection, connection.cursor() as cursor:
            with cursor.copy("COPY pg_temp.bintrades_batch FROM STDIN") as copy:
                for bar in bars:
                    copy.write_row([*map(bar.as_dict().get, COLUMNS)])
            cursor.execute(self._sql(_UPSERT))

    def _set_up(self, connection: psycopg.Connection[Any]) -> None:
        """Make what is missing, and look at what is there."""
        for name, value in SETTINGS.items():
            connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        connection.execute(_ACKNOWLEDGE_WHEN_DURABLE)
        if connection.execute("SHOW fsync").fetchone() == ("off",) and not self._is_warned:
            self._is_warned = True  # a store is opened after each failure
            log.warning(
                "a power cut may take bars back that PostgreSQL has acknowledged, or ruin it: the"
                " server has fsync = off",
                extra={"event": "postgresql_not_durable"},
            )
        is_new = self._make(connection, "table", COLUMNS, _KEY)
        self._make(connection, "coverage", COVERAGE_COLUMNS, "symbol, market, since")
        if is_new:
            self._make_hypertable(connection)
        connection.execute(self._sql(_BATCH))
        connection.execute(self._sql(f"EXPLAIN {_UPSERT}"))  # which needs the key, and the rights

    def _make(
        self, connection: psycopg.Connection[Any], which: str, columns: Mapping[str, str], key: str
    ) -> bool:
        """Make a table, and return True, unless it is there.

        Raises BintradesError if it has other columns.
        """
        name = self._names[which].as_string()
        found = connection.execute(_COLUMNS_OF, [name]).fetchall()
        if found:
            there = {column: kind for column, kind, _ in found}
            problems = [
                f"{column} is {there.get(column, 'missing')} and must be {kind}"
                for column, kind in columns.items()
                if there.get(column) != kind
            ]
            problems += [
                f"{column} is NOT NULL, without a default, and not all bars have it"
                for column, _, is_needed in found
                if is_needed and column not in columns.keys() - OF_SOME_MARKETS
            ]
            if connection.execute(_IS_UNLOGGED, [name]).fetchone() == (True,):
                problems.append("it is UNLOGGED, so that a crash of the server empties it")
            if problems:
                raise _unusable(name, "; ".join(problems))
            return False
        schema = self._names["schema"].as_string()
        if connection.execute("SELECT to_regnamespace(%s)", [schema]).fetchone() == (None,):
            connection.execute(self._sql("CREATE SCHEMA {schema}"))
        declared = ", ".join(
            f"{column} {kind}{'' if column in OF_SOME_MARKETS else ' NOT NULL'}"
            for column, kind in columns.items()
        )
        connection.execute(self._sql(f"CREATE TABLE {{{which}}} ({declared}, PRIMARY KEY ({key}))"))
        return True

    def _make_hypertable(self, connection: psycopg.Connection[Any]) -> None:
        """Have TimescaleDB, where the database has it, keep the new table in parts of a week."""
        from psycopg import sql

        for (schema,) in connection.execute(_SCHEMA_OF_TIMESCALEDB).fetchall():
            function = sql.Identifier(schema)
            connection.execute(
                sql.SQL(_MAKE_HYPERTABLE).format(schema=function),
                [self._names["table"].as_string()],
            )

    def _sql(self, statement: str) -> sql.Composed:
        from psycopg import sql

        return sql.SQL(statement).format(**self._names)

    @contextmanager
    def _transaction(self) -> Iterator[psycopg.Connection[Any]]:
        """Yield the connection within a transaction; raise TimeoutError if that takes too long."""
        import psycopg

        connection = self._connection
        if connection is None:
            raise BintradesError("open_store comes first")
        with socket.socket(fileno=os.dup(connection.fileno())) as line:
            # The server keeps statement_timeout; but one that hangs does not, and psycopg waits.
            is_cut = threading.Event()
            timer = threading.Timer(ANSWER_TIMEOUT_S, _cut, [line, is_cut])
            timer.daemon = True
            timer.start()
            try:
                with connection.transaction():
                    yield connection
            except psycopg.errors.QueryCanceled as error:
                raise TimeoutError(str(error)) from error
            except psycopg.OperationalError as error:
                if not is_cut.is_set():
                    raise
                raise TimeoutError(f"no answer for {ANSWER_TIMEOUT_S:.0f} s") from error
            finally:
                timer.cancel()
                timer.join()


def _cut(line: socket.socket, is_cut: threading.Event) -> None:
    is_cut.set()
    with suppress(OSError):  # it is cut already
        line.shutdown(socket.SHUT_RDWR)


def _parameters(dsn: str) -> dict[str, Any]:
    """Return what libpq connects with; raise ConfigError without a word of the dsn itself."""
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        return DEFAULTS | conninfo_to_dict(dsn)
    except psycopg.ProgrammingError as error:
        hint = _hint(str(error))
    raise ConfigError(
        f"dsn: libpq cannot read it{hint}; allowed: postgresql://USER:PASSWORD@HOST:PORT/DATABASE,"
        " each / ? @ : % in user name and password percent-encoded, or host=HOST dbname=DATABASE"
        " and so on, a value with a space in it between quotes"
    )


def _hint(message: str) -> str:
    """Return what is meant by a misspelt parameter; other words of libpq may quote the password."""
    from psycopg.pq import Conninfo

    known = [option.keyword.decode() for option in Conninfo.get_defaults()]
    named = re.search(r'invalid (?:connection option|URI query parameter):? "(\w+)"', message)
    meant = difflib.get_close_matches(named[1], known, n=1) if named else []
    return f"; did you mean {meant[0]}?" if meant else ""


def _lies_in_a_bar(error: Exception) -> bool:
    """Whether *error* is about a value, or a constraint that a row does not keep.

    A row for which a table divided by the user has no part yet breaks no constraint of a name.
    """
    import psycopg

    return not isinstance(error, psycopg.IntegrityError) or bool(error.diag.constraint_name)


def _reason(error: Exception) -> str:
    """Return why a bar is refused, with the name of the column."""
    diag = getattr(error, "diag", None)
    if diag is None or diag.message_primary is None:
        return f"cannot be a row: {error}"
    column = re.search(r"column (\w+)", diag.context or "")
    return f"{column[1]}: {diag.message_primary}" if column else diag.message_primary


def _unusable(name: str, why: str) -> BintradesError:
    return BintradesError(
        f"{name} is there, but is no table of bars: {why}; name another one by the options schema"
        " and table, or rename this one"
    )
