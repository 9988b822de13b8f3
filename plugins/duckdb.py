"""Stores bars in a file of DuckDB: one row for each market, symbol and interval.

    [stores]
    enabled = duckdb

    [store:duckdb]
    path = var/bars.duckdb        ; relative to the configuration's folder

DuckDB lets in either one process that writes or any number that read. So the file is opened for
each batch and closed again: in between, others read it (`duckdb -readonly var/bars.duckdb`). While
one of them has it open, a batch waits for some seconds, and then comes again. Numbers with a
fraction are DECIMAL(38, 18); a bar with one that does not fit is refused, never rounded.
"""

from __future__ import annotations

import threading
import time
import uuid
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bintrades import (
    Bar,
    BintradesError,
    Option,
    RejectedBars,
    hookimpl,
    option_types,
    require_library,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import duckdb

    from bintrades import CoveredSpan

_TIME = "TIMESTAMP WITH TIME ZONE"
_DECIMAL = "DECIMAL(38,18)"
_PLACES, _WHOLE_DIGITS = 18, 20

COLUMNS = {
    "symbol": "VARCHAR",
    "market": "VARCHAR",
    "open_time": _TIME,
    "interval_seconds": "INTEGER",
    "trade_count": "BIGINT",
    "buy_count": "BIGINT",
    "sell_count": "BIGINT",
    "quantity": _DECIMAL,
    "buy_quantity": _DECIMAL,
    "sell_quantity": _DECIMAL,
    "value": _DECIMAL,
    "buy_value": _DECIMAL,
    "sell_value": _DECIMAL,
    "open_price": _DECIMAL,
    "close_price": _DECIMAL,
    "min_price": _DECIMAL,
    "max_price": _DECIMAL,
    "contract_size": _DECIMAL,
    "first_trade_id": "BIGINT",
    "last_trade_id": "BIGINT",
    "first_trade_time": _TIME,
    "last_trade_time": _TIME,
    "excluded_count": "BIGINT",
    "is_closed": "BOOLEAN",
    "is_complete": "BOOLEAN",
    "is_approximate": "BOOLEAN",
    "epoch": "INTEGER",
    "version": "INTEGER",
    "updated_at": _TIME,
}
"""The columns of a bar: its fields but for average_price, of which 34 digits would not fit."""

COVERAGE_COLUMNS = {
    "symbol": "VARCHAR",
    "market": "VARCHAR",
    "since": _TIME,
    "until": _TIME,
    "interval_seconds": "INTEGER",
    "updated_at": _TIME,
}

SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "threads": 2,
    "autoinstall_known_extensions": False,
}
"""Of each opening: the collector needs the cores, and nothing of the network."""

LOCK_TIMEOUT_S = 10.0  # for others who have the file open
STATEMENT_TIMEOUT_S = 20.0
_ROWS_AT_ONCE = 5_000  # while reading

_KEY = ("symbol", "open_time", "market")
_RANK = ("epoch", "trade_count", "is_closed", "is_complete", "version")
_LIMITS = {"BIGINT": 2**63, "INTEGER": 2**31}

_UPSERT = f"""
    INSERT INTO bars
    SELECT DISTINCT ON ({", ".join(_KEY)}) *
    FROM (SELECT {", ".join(f"unnest(?::{kind}[]) AS {name}" for name, kind in COLUMNS.items())})
    ORDER BY {", ".join(f"{name} DESC" for name in _RANK)}
    ON CONFLICT DO UPDATE
    SET {", ".join(f"{name} = excluded.{name}" for name in COLUMNS if name not in _KEY)}
    WHERE ({", ".join(f"bars.{name}" for name in _RANK)})
        < ({", ".join(f"excluded.{name}" for name in _RANK)})"""  # noqa: S608 - of our names alone

_READ = """
    SELECT symbol, market,
        epoch_ms(open_time) AS open_time_ms, interval_seconds * 1000 AS interval_ms,
        trade_count, buy_count, quantity, buy_quantity, value, buy_value,
        open_price, close_price, min_price, max_price, first_trade_id, last_trade_id,
        epoch_ms(first_trade_time) AS first_trade_time_ms,
        epoch_ms(last_trade_time) AS last_trade_time_ms,
        is_closed, is_complete, version, epoch_ms(updated_at) AS updated_at_ms,
        epoch, coalesce(excluded_count, 0) AS excluded_count,
        coalesce(is_approximate, false) AS is_approximate, contract_size
    FROM bars
    WHERE symbol = ? AND market = ? AND open_time >= ? AND open_time < ?
    ORDER BY open_time"""

_TOLD = """(
    SELECT unnest($symbols::VARCHAR[]) AS symbol, unnest($markets::VARCHAR[]) AS market,
        unnest($firsts::TIMESTAMPTZ[]) AS first) AS told"""

_KEPT = """(
    SELECT unnest($of_symbols::VARCHAR[]) AS symbol, unnest($of_markets::VARCHAR[]) AS market,
        unnest($since::TIMESTAMPTZ[]) AS since, unnest($until::TIMESTAMPTZ[]) AS until,
        unnest($seconds::INTEGER[]) AS interval_seconds, $now::TIMESTAMPTZ AS updated_at) AS kept"""

_NEW_COVERAGE = (
    f"""
    DELETE FROM bars_coverage AS stored USING {_TOLD}
    WHERE stored.symbol = told.symbol AND stored.market = told.market
        AND stored.since >= told.first
        AND NOT EXISTS (FROM {_KEPT} WHERE kept.symbol = stored.symbol
                        AND kept.market = stored.market AND kept.since = stored.since)""",  # noqa: S608
    f"""
    UPDATE bars_coverage AS stored SET until = told.first, updated_at = $now FROM {_TOLD}
    WHERE stored.symbol = told.symbol AND stored.market = told.market
        AND stored.since < told.first AND stored.until > told.first""",  # noqa: S608
    f"""
    INSERT INTO bars_coverage FROM {_KEPT}
    ON CONFLICT DO UPDATE SET until = excluded.until, updated_at = excluded.updated_at
    WHERE bars_coverage.until <> excluded.until""",
)


class Store:
    """One file. All calls but check_store belong to one thread."""

    OPTIONS = (Option("path", "var/bars.duckdb", "the file of the bars", option_types.path()),)

    def __init__(self) -> None:
        self._path: Path | None = None

    @hookimpl
    def check_store(self) -> None:
        """Raise ConfigError if duckdb is not installed; touches no file."""
        require_library("duckdb", extra="duckdb")

    @hookimpl
    def open_store(self, options: dict[str, str]) -> None:
        """Make the file and its tables if they are not there.

        Raises BintradesError if it holds tables of other columns, TimeoutError if others have it
        open, OSError or duckdb.Error if it cannot be opened.
        """
        self._path = Path(options["path"]).expanduser()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._transaction() as connection:
            if _make(connection, "bars", COLUMNS, _KEY):
                # Goes with the table, and so tells one from another: see identify_store.
                connection.execute(f"COMMENT ON TABLE bars IS 'bintrades {uuid.uuid4()}'")
            _make(connection, "bars_coverage", COVERAGE_COLUMNS, ("symbol", "market", "since"))

    @hookimpl
    def store_bars(self, bars: Sequence[Bar]) -> None:
        """Store *bars*, none in the place of one of the same or a higher rank.

        Raises RejectedBars for those that the columns do not hold, TimeoutError if others have the
        file open or it takes too long, duckdb.Error if they should come again.
        """
        rows: list[list[Any]] = []
        rejected: list[tuple[Bar, str]] = []
        for bar in bars:
            try:
                rows.append(_row(bar))
            except (ValueError, OverflowError) as error:
                rejected.append((bar, str(error)))
        if rows:
            with self._transaction() as connection:
                connection.execute(_UPSERT, [list(column) for column in zip(*rows, strict=True)])
        if rejected:
            raise RejectedBars(rejected)

    @hookimpl
    def store_coverage(self, spans: Sequence[CoveredSpan]) -> None:
        """Store *spans* in the second table; those that are there already stay as they are.

        Raises TimeoutError or duckdb.Error if they should come again.
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
            "now": datetime.now(UTC),
        }
        with self._transaction() as connection:
            for statement in _NEW_COVERAGE:
                named = {name: told[name] for name in told if f"${name}" in statement}
                connection.execute(statement, named)

    @hookimpl
    def read_bars(
        self, symbol: str, since: datetime, until: datetime, market: str
    ) -> Iterator[Bar]:
        """Yield the bars of *symbol* with since <= open time < until, oldest first.

        A collector waits with what it has to write meanwhile. Raises TimeoutError, duckdb.Error.
        """
        connection = self._connect(read_only=True)
        try:
            found = connection.execute(_READ, [symbol, market, since, until])
            names = [column[0] for column in found.description]
            while rows := found.fetchmany(_ROWS_AT_ONCE):
                for row in rows:
                    yield Bar(**dict(zip(names, row, strict=True)))
        finally:
            connection.close()

    @hookimpl
    def identify_store(self) -> str | None:
        """Return what was made with the table of the bars, and is copied with the file.

        Raises TimeoutError, duckdb.Error.
        """
        connection = self._connect(read_only=True)
        try:
            row = connection.execute(
                "SELECT comment FROM duckdb_tables() WHERE table_name = 'bars'"
                " AND database_name = current_database() AND schema_name = current_schema()"
            ).fetchone()
        finally:
            connection.close()
        return None if row is None else row[0]

    @hookimpl
    def close_store(self) -> None:
        """Do nothing: the file is open only while a batch is written."""

    @contextmanager
    def _transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a connection to the file, which is closed once the transaction is durable."""
        import duckdb

        connection = self._connect(read_only=False)
        timer = threading.Timer(STATEMENT_TIMEOUT_S, connection.interrupt)
        timer.daemon = True
        timer.start()
        try:
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")
        except duckdb.InterruptException as error:
            raise TimeoutError(f"not written in {STATEMENT_TIMEOUT_S:.0f} s") from error
        finally:
            timer.cancel()
            timer.join()
            connection.close()

    def _connect(self, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        """Open the file, or raise TimeoutError if others have it open for too long."""
        import duckdb

        if self._path is None:
            raise BintradesError("open_store comes first")
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                return duckdb.connect(self._path, read_only=read_only, config=SETTINGS)
            except duckdb.IOException as error:
                if "Could not set lock" not in str(error):
                    raise
                if time.monotonic() > deadline:
                    raise TimeoutError(f"others have {self._path} open: {error}") from error
            time.sleep(0.05)


def _make(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    columns: Mapping[str, str],
    key: tuple[str, ...],
) -> bool:
    """Make *table*, and return True, unless it is there.

    Raises BintradesError if it has other columns, or no such key.
    """
    of_table = f"table_name = '{table}' AND database_name = current_database()"
    there = dict(
        connection.execute(
            f"SELECT column_name, data_type FROM duckdb_columns() WHERE {of_table}"  # noqa: S608
        ).fetchall()
    )
    if not there:
        declared = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        connection.execute(f"CREATE TABLE {table} ({declared}, PRIMARY KEY ({', '.join(key)}))")
        return True
    keys = connection.execute(
        "SELECT constraint_column_names FROM duckdb_constraints()"  # noqa: S608
        f" WHERE constraint_type = 'PRIMARY KEY' AND {of_table}"
    ).fetchall()
    problems = [
        f"{name} is {there.get(name, 'missing')} and must be {kind}"
        for name, kind in columns.items()
        if there.get(name) != kind
    ]
    problems += [f"{name} is none of ours" for name in there if name not in columns]
    if {*key} not in [{*names} for (names,) in keys]:
        problems.append(f"the primary key must be {', '.join(key)}")
    if not problems and list(there) != list(columns):
        problems.append(f"the columns must be in this order: {', '.join(columns)}")
    if problems:
        raise BintradesError(
            f"the table {table} is there, but is no table of ours: {'; '.join(problems)}; name"
            " another file by the option path, or rename the table"
        )
    return False


def _row(bar: Bar) -> list[Any]:
    """Return the values of *bar* in the order of the columns; decimals as text, which is exact.

    Raises ValueError for what a column does not hold, OverflowError for an impossible time.
    """
    bar.symbol.encode()  # no text has half of a character
    fields = bar.as_dict()
    for name, value in fields.items():
        if isinstance(value, Decimal):
            fields[name] = _decimal(name, value)
        elif isinstance(value, int) and abs(value) >= _LIMITS.get(COLUMNS[name], 2):
            raise ValueError(
                f"{name}: {value} is too large for the column, which is {COLUMNS[name]}"
            )
    return [fields.get(name) for name in COLUMNS]


def _decimal(name: str, value: Decimal) -> str:
    text = format(value, "f")
    whole, _, fraction = text.partition(".")
    if name in COLUMNS and len(fraction) > _PLACES:
        raise ValueError(f"{name}: {len(fraction)} decimal places, the column takes {_PLACES}")
    if name in COLUMNS and len(whole.lstrip("-")) > _WHOLE_DIGITS:
        raise ValueError(
            f"{name}: {len(whole)} digits before the point, the column takes {_WHOLE_DIGITS}"
        )
    return text
