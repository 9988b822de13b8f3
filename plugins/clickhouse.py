"""Stores bars in ClickHouse, one row for each version of a bar; readers see the best of each.

    [stores]
    enabled = mongodb, clickhouse

    [store:clickhouse]
    url = http://127.0.0.1:8123
    database = default
    table = bars

The table is a ReplacingMergeTree. Its column `rank` is one number made of what orders two versions
of a bar (epoch, trade_count, is_closed, is_complete, version, and the later updated_at of two that
are alike), so any number of collectors may write at once, in any order. The view `<table>_best` has
the best version of each bar; `<table>_coverage` has the spans in which the bars are all there is.
"""

from __future__ import annotations

import logging
import re
import uuid
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, Inexact, InvalidOperation
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bintrades import (
    Bar,
    BintradesError,
    ConfigError,
    Option,
    OptionType,
    RejectedBars,
    hookimpl,
    option_types,
    require_library,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from clickhouse_connect.driver.client import Client

    from bintrades import CoveredSpan

log = logging.getLogger(__name__)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_COLUMNS = {
    "market": "LowCardinality(String)",
    "symbol": "LowCardinality(String)",
    "open_time": "DateTime64(3, 'UTC')",
    "interval_seconds": "UInt32",
    "trade_count": "Int64",
    "buy_count": "Int64",
    "sell_count": "Int64",
    "quantity": "Decimal(38, 18)",
    "buy_quantity": "Decimal(38, 18)",
    "sell_quantity": "Decimal(38, 18)",
    "value": "Decimal(76, 40)",  # of coinm: quotients of 34 digits that begin far behind the point
    "buy_value": "Decimal(76, 40)",
    "sell_value": "Decimal(76, 40)",
    "open_price": "Decimal(38, 18)",
    "close_price": "Decimal(38, 18)",
    "min_price": "Decimal(38, 18)",
    "max_price": "Decimal(38, 18)",
    "contract_size": "Nullable(Decimal(38, 18))",
    "first_trade_id": "Int64",
    "last_trade_id": "Int64",
    "first_trade_time": "DateTime64(3, 'UTC')",
    "last_trade_time": "DateTime64(3, 'UTC')",
    "excluded_count": "Int64",
    "is_closed": "Bool",
    "is_complete": "Bool",
    "is_approximate": "Bool",
    "epoch": "UInt32",
    "version": "UInt32",
    "updated_at": "DateTime64(3, 'UTC')",
}
_ELSEWHERE = {"contract_size": None, "excluded_count": 0, "is_approximate": False}
"""What stands for the fields that the bars of some markets do not have."""

_RANK = (  # 32, 64, 1, 1, 32 and 64 bits
    "bitShiftLeft(toUInt256(epoch), 162) + bitShiftLeft(toUInt256(trade_count), 98)"
    " + bitShiftLeft(toUInt256(is_closed), 97) + bitShiftLeft(toUInt256(is_complete), 96)"
    " + bitShiftLeft(toUInt256(version), 64) + toUInt256(toUnixTimestamp64Milli(updated_at))"
)
_DURABLE = "fsync_after_insert = 1, fsync_part_directory = 1"
_BARS = f"""CREATE TABLE IF NOT EXISTS {{table}} (
    {", ".join(f"{name} {kind} CODEC(ZSTD)" for name, kind in _COLUMNS.items())},
    rank UInt256 MATERIALIZED {_RANK} CODEC(ZSTD)
) ENGINE = ReplacingMergeTree(rank) PARTITION BY toYYYYMM(open_time)
ORDER BY (market, symbol, open_time) SETTINGS {_DURABLE}"""
_BEST = f"""CREATE VIEW IF NOT EXISTS {{table}}_best AS
SELECT {", ".join(_COLUMNS)}, if(contract_size IS NULL, divideDecimal(value, quantity, 40),
    divideDecimal(multiplyDecimal(quantity, assumeNotNull(contract_size), 18), value, 40)
) AS average_price FROM {{table}} FINAL"""  # noqa: S608 - plain names

_SPAN = {
    "market": "LowCardinality(String)",
    "symbol": "LowCardinality(String)",
    "since": "DateTime64(3, 'UTC')",
    "until": "DateTime64(3, 'UTC')",
    "interval_seconds": "UInt32",
    "version": "UInt64",
    "is_deleted": "UInt8",
}
_COVERAGE = f"""CREATE TABLE IF NOT EXISTS {{table}}_coverage (
    {", ".join(f"{name} {kind}" for name, kind in _SPAN.items())},
    updated_at DateTime64(3, 'UTC') DEFAULT now64(3)
) ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY (market, symbol, since) SETTINGS {_DURABLE}"""

_TIMEOUT_EXCEEDED = 159  # a code of ClickHouse


def _name() -> OptionType:
    def parse(text: str) -> str:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", text):
            raise ValueError("is no plain name")
        return text

    return OptionType(parse, "letters, digits and _, 100 at most, no digit in front")


_TIMEOUT = option_types.duration("1s", "10m")


class Store:
    """One table of bars, with its view and its table of coverage."""

    OPTIONS = (
        Option(
            "url",
            "http://127.0.0.1:8123",
            "the HTTP interface of the server",
            option_types.url("http", "https"),
        ),
        Option("user", "default", "who logs in"),
        Option("password", "", "their password", is_secret=True),
        Option("database", "default", "the database, which must exist", _name()),
        Option("table", "bars", "the table, made if it is not there", _name()),
        Option("timeout", "30s", "for how long a request may take", _TIMEOUT),
        Option(
            "ca_file",
            "",
            "certificates to trust with https, in the place of those of the system",
            option_types.optional_path(),
        ),
    )

    def __init__(self) -> None:
        self._client: Client | None = None
        self._table = ""

    @hookimpl
    def check_store(self, options: dict[str, str]) -> None:
        """Raise ConfigError without the library, or where an option does not fit another."""
        require_library("clickhouse_connect", package="clickhouse-connect", extra="clickhouse")
        if options["ca_file"] and not options["url"].startswith("https://"):
            raise ConfigError("ca_file: only of use where url begins with https://")

    @hookimpl
    def open_store(self, options: dict[str, str]) -> None:
        """Connect; make the table, its view and that of coverage where they are not there.

        Raises BintradesError for a table that cannot hold bars, and what the library raises where
        the server is away, or does not let us in.
        """
        self.check_store(options)
        self.close_store()
        client = _client_of(options)
        try:
            with _in_time():
                _make(client, options["table"])
        except BaseException:
            _close(client)
            raise
        self._client, self._table = client, options["table"]

    @hookimpl
    def store_bars(self, bars: Sequence[Bar]) -> None:
        """Insert the bars, in one request that returns once the server has them on its disk.

        Raises TimeoutError where that takes too long.
        """
        rows, rejected = [], []
        for bar in bars:
            try:
                rows.append(_row(bar))
            except (ValueError, OverflowError) as error:
                rejected.append((bar, str(error)))
        if rows:
            self._insert(self._table, _COLUMNS, rows)
        if rejected:
            raise RejectedBars(rejected)

    @hookimpl
    def store_coverage(self, spans: Sequence[CoveredSpan]) -> None:
        """Insert the spans, and what takes away or cuts off the stored ones that they replace."""
        client, table = self._opened(), f"{self._table}_coverage"
        stored: dict[Any, list[Any]] = {}
        with _in_time():
            ((version,),) = _rows(client, f"SELECT max(version) FROM {table}")  # noqa: S608 - a name
            for market, symbol, *span in _rows(
                client,
                f"SELECT market, symbol, since, until, interval_seconds FROM {table} FINAL"  # noqa: S608
                " WHERE until > fromUnixTimestamp64Milli({since:Int64})",
                since=_ms(min(span.since for span in spans)),
            ):
                stored.setdefault((market, symbol), []).append(span)
        rows = []
        for series, group in groupby(spans, key=attrgetter("market", "symbol")):
            told = list(group)
            first = told[0].since
            after = {span.since: span for span in told if not span.is_empty}
            for since, until, interval in stored.get(series, ()):
                if since < first < until:
                    rows.append((*series, since, first, interval, version + 1, 0))
                elif since >= first and since not in after:
                    rows.append((*series, since, until, interval, version + 1, 1))
            rows += (
                (*series, span.since, span.until, span.interval_seconds, version + 1, 0)
                for span in after.values()
            )
        if rows:
            self._insert(table, _SPAN, rows)

    @hookimpl
    def identify_store(self) -> str | None:
        """Return the UUID that the server gave the table: it goes with the table.

        None for a database that gives none.
        """
        with _in_time():
            found = _rows(
                self._opened(),
                "SELECT uuid FROM system.tables"
                " WHERE database = currentDatabase() AND name = {table:String}",
                table=self._table,
            )
        return next((uuid.hex for (uuid,) in found if uuid.int), None)

    @hookimpl
    def read_bars(
        self, symbol: str, since: datetime, until: datetime, market: str
    ) -> Iterator[Bar]:
        """Yield the best version of each bar with since <= open time < until, oldest first."""
        columns = [name for name in _COLUMNS if not name.startswith("sell_")]
        rows = self._opened().query_row_block_stream(
            f"SELECT {', '.join(columns)} FROM {self._table}_best"  # noqa: S608 - plain names
            " WHERE market = {market:String} AND symbol = {symbol:String}"
            " AND open_time >= fromUnixTimestamp64Milli({since:Int64})"
            " AND open_time < fromUnixTimestamp64Milli({until:Int64}) ORDER BY open_time",
            {"market": market, "symbol": symbol, "since": _ms(since), "until": _ms(until)},
            query_formats={"DateTime64": "int"},
        )
        with rows as blocks:
            for block in blocks:
                for row in block:
                    yield _bar(dict(zip(columns, row, strict=True)))

    @hookimpl
    def close_store(self) -> None:
        """Close the connections; does nothing if there are none."""
        client, self._client = self._client, None
        if client is not None:
            _close(client)

    def _opened(self) -> Client:
        if self._client is None:
            raise BintradesError("open_store comes first")
        return self._client

    def _insert(self, table: str, columns: dict[str, str], rows: Sequence[Sequence[Any]]) -> None:
        """Insert *rows*, those too that the server knows of a like insert, whose rows may be gone.

        It leaves out an insert of the same content as one before, unless each has its own token.
        """
        with _in_time():
            self._opened().insert(
                table,
                rows,
                list(columns),
                column_type_names=list(columns.values()),
                settings={"insert_deduplication_token": uuid.uuid4().hex},
            )


def _client_of(options: dict[str, str]) -> Client:
    """Return a client of its own connections, which has asked the server for its version."""
    import clickhouse_connect
    from clickhouse_connect.driver.httputil import get_pool_manager

    seconds = max(1, _TIMEOUT.parse(options["timeout"]) // 1_000)
    url = urlsplit(options["url"])
    with _in_time():
        return clickhouse_connect.get_client(
            interface=url.scheme,
            host=url.hostname,
            port=url.port or (8443 if url.scheme == "https" else 8123),
            proxy_path=url.path,
            username=options["user"],
            password=options["password"],
            database=options["database"],
            connect_timeout=5,
            send_receive_timeout=seconds + 5,  # so that the server is the first to give up
            pool_mgr=get_pool_manager(ca_cert=options["ca_file"] or None),
            autogenerate_session_id=False,
            compress=False,  # a few kilobytes a second, which are not worth the work
            client_name="bintrades",
            settings={
                "async_insert": 0,  # which would answer before anything is on the disk
                "wait_end_of_query": 1,
                "max_execution_time": seconds,
            },
        )


def _close(client: Client) -> None:
    client.close_connections()
    client.close()


def _rows(client: Client, query: str, **parameters: object) -> list[Any]:
    return list(client.query(query, parameters, tz_mode="aware").result_rows)


@contextmanager
def _in_time() -> Iterator[None]:
    """Raise TimeoutError for what took too long, as the server or the library says it."""
    from clickhouse_connect.driver.exceptions import ClickHouseError
    from urllib3.exceptions import ReadTimeoutError

    try:
        yield
    except ClickHouseError as error:
        is_late = getattr(error, "code", None) == _TIMEOUT_EXCEEDED
        if is_late or isinstance(error.__cause__, ReadTimeoutError):
            raise TimeoutError(f"ClickHouse did not answer in time: {error}") from error
        raise


def _make(client: Client, table: str) -> None:
    """Make what is not there; what is there stays as it is, and needs no right to make it.

    Raises BintradesError where it is of another shape.
    """
    engines = dict(
        _rows(
            client,
            "SELECT name, engine FROM system.tables WHERE database = currentDatabase()"
            " AND startsWith(name, {table:String})",
            table=table,
        )
    )
    if engines.get(f"{table}_best", "View") != "View":
        raise BintradesError(
            f"{table}_best is no view, so it cannot be the one of {table}; it is left as it is;"
            " name another table in [store:...] table, or move it away"
        )
    for name, statement, columns in (
        (table, _BARS, _COLUMNS | {"rank": "UInt256"}),
        (f"{table}_coverage", _COVERAGE, _SPAN),
        (f"{table}_best", _BEST, None),
    ):
        if name not in engines:
            client.command(statement.format(table=table))
        elif columns is not None:
            _refuse_another_shape(client, name, columns)


def _refuse_another_shape(client: Client, table: str, columns: dict[str, str]) -> None:
    """Raise BintradesError unless the table has what we write, and keeps the best of each key."""
    there = dict(
        _rows(
            client,
            "SELECT name, type FROM system.columns"
            " WHERE database = currentDatabase() AND table = {table:String}",
            table=table,
        )
    )
    ((engine, full, key),) = _rows(
        client,
        "SELECT engine, engine_full, sorting_key FROM system.tables"
        " WHERE database = currentDatabase() AND name = {table:String}",
        table=table,
    )
    faults = [
        f"{name} is {there[name]}, not {kind}" if name in there else f"there is no {name}"
        for name, kind in columns.items()
        if there.get(name) != kind
    ]
    versioned = "rank" if "rank" in columns else "version, is_deleted"
    if not re.search(rf"ReplacingMergeTree\((.*, )?{versioned}\)", full):
        faults.append(f"its engine is {engine}, not ReplacingMergeTree({versioned})")
    if key != (expected := ", ".join([*columns][:3])):
        faults.append(f"it is ordered by ({key}), not by ({expected})")
    if faults:
        raise BintradesError(
            f"the table {table} cannot be used: {'; '.join(faults)}; it is left as it is; name"
            " another one in [store:...] table, or move it away"
        )
    if engine == "ReplacingMergeTree" and "fsync_after_insert = 1" not in full:
        log.warning(
            "a power cut may take bars back that ClickHouse has acknowledged: to prevent it,"
            " ALTER TABLE %s MODIFY SETTING %s",
            table,
            _DURABLE,
            extra={"event": "clickhouse_not_synced"},
        )


def _whole(bits: int) -> Callable[[int], int]:
    def fitting(value: int) -> int:
        if not 0 <= value < 2**bits:
            raise ValueError(f"{value} is not in the column's range, 0 to 2**{bits} - 1")
        return value

    return fitting


def _exact(digits: int, places: int) -> Callable[[Decimal | None], Decimal | None]:
    context = Context(prec=digits, traps=[Inexact, InvalidOperation])
    unit = Decimal(1).scaleb(-places)

    def fitting(value: Decimal | None) -> Decimal | None:
        try:
            return None if value is None else value.quantize(unit, context=context)
        except Inexact:
            given = len(f"{value:f}".partition(".")[2].rstrip("0"))
            raise ValueError(f"{given} decimal places, the column takes {places}") from None
        except InvalidOperation:
            raise ValueError(
                f"{value} has more than the {digits - places} digits before the point that the"
                " column takes"
            ) from None

    return fitting


_FITTING: dict[str, Callable[[Any], Any]] = {
    "UInt32": _whole(32),
    "Int64": _whole(63),
    "Decimal(38, 18)": _exact(38, 18),
    "Nullable(Decimal(38, 18))": _exact(38, 18),
    "Decimal(76, 40)": _exact(76, 40),
}
_CHECKS = [(name, _FITTING.get(kind)) for name, kind in _COLUMNS.items()]


def _row(bar: Bar) -> list[Any]:
    """Return the bar as a row; raises ValueError with what does not fit, by name.

    OverflowError for an impossible time.
    """
    fields = _ELSEWHERE | bar.as_dict()
    row = []
    for name, fitting in _CHECKS:
        try:
            row.append(fields[name] if fitting is None else fitting(fields[name]))
            if name == "symbol":
                bar.symbol.encode()  # half of a character is no text
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return row


def _ms(moment: datetime) -> int:
    """Return milliseconds, which are the same in every time zone of a server."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def _bar(fields: dict[str, Any]) -> Bar:
    """Return the bar of a row, whose times are milliseconds."""
    for name in ("open_time", "first_trade_time", "last_trade_time", "updated_at"):
        fields[f"{name}_ms"] = fields.pop(name)
    fields["interval_ms"] = 1_000 * fields.pop("interval_seconds")
    return Bar(**fields)
