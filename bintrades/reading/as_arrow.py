"""bintrades.bars() and bintrades.bar_batches(): bars as Arrow, of any multiple of the interval."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bintrades import arrow
from bintrades.core.resample import LongerBar, resample
from bintrades.core.spans import clipped
from bintrades.errors import BintradesError
from bintrades.model import utc
from bintrades.reading.moments import LAST_MS, Moment, interval_of, moment_ms, names_of
from bintrades.reading.sources import Known, Source, again_if_left, open_source

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator
    from datetime import timedelta

    import pandas
    import polars
    import pyarrow as pa

    from bintrades.core.spans import Span
    from bintrades.model import Bar


class Bars:
    """Bars in memory: a pyarrow.Table, and when every trade of a symbol is in them.

    Whatever reads Arrow takes it as it is: polars.DataFrame(bars), pyarrow.table(bars), and DuckDB
    a variable that holds its `table`.
    """

    def __init__(self, table: pa.Table, coverage: pa.Table) -> None:
        self.table = table
        """The bars in the schema of bintrades.arrow, sorted by symbol and open time."""
        self.coverage = coverage
        """symbol, since, until: spans of the time asked for in which every trade is in a bar, so
        that an interval without a bar had none. Between them nothing is proven."""

    def to_pandas(self) -> pandas.DataFrame:
        """Return a pandas.DataFrame whose columns are Arrow's: decimals stay exact, and numbers."""
        import pandas as pd

        return self.table.to_pandas(types_mapper=pd.ArrowDtype)

    def to_polars(self) -> polars.DataFrame:
        """Return a polars.DataFrame. Raises BintradesError for the values of contracts.

        They have more digits than polars has: leave those columns out, or round them yourself.
        """
        import polars as pl

        if wide := arrow.wide_columns(self.table.schema):
            raise BintradesError(
                f"polars has no decimals of more than 38 digits: {', '.join(wide)}; drop these"
                " columns of .table, or cast them there, which rounds"
            )
        frame = pl.from_arrow(self.table)
        assert isinstance(frame, pl.DataFrame)  # noqa: S101 - of a table it is one
        return frame

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __repr__(self) -> str:
        return f"<{len(self)} bars, {self.table.nbytes:,} bytes>"

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)


def bars(
    source: str | os.PathLike[str],
    symbols: str | Iterable[str] | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    interval: str | timedelta | None = None,
    *,
    store: str | None = None,
) -> Bars:
    """Return the bars of *symbols* with since <= open_time < until, in memory.

    *source* is a configuration file, whose journal is read, or with *store* its store of that name;
    or a journal. *symbols* is a name, several, or None for all. Times are aware datetimes, days of
    UTC, or text: "2026-11-27T10:00" is UTC, and "2h" is that long before the newest bar. *since* is
    the beginning of what is there unless it is said, *until* the end: the last bars may not be
    closed. *interval* is that of the bars, or a multiple of it such as "1m" or "1d": exact sums,
    which say what of their time is proven (docs/arrow.md).

    Raises BintradesError: nothing known of a symbol, nothing collected in that time, bars that have
    left the journal, a store that cannot be read. Any thread; all of it is read in this call.
    """
    request = _request(source, symbols, since, until, interval, store)
    return request.read()


def bar_batches(
    source: str | os.PathLike[str],
    symbols: str | Iterable[str] | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    interval: str | timedelta | None = None,
    *,
    store: str | None = None,
    rows: int = 10_000,
) -> pa.RecordBatchReader:
    """Return the same bars as record batches of at most *rows* rows, read as they are taken.

    Memory stays flat however many there are. Between two batches no journal is open; a store is, to
    the end or until the reader is dropped, and is read by the thread that takes the batches.
    Raises BintradesError as bars() does: here for what is wrong with the arguments, from the reader
    for what is met later.
    """
    if not isinstance(rows, int) or rows < 1:
        raise BintradesError(f"rows: {rows!r} is no number of rows; allowed: 1 and more")
    return _request(source, symbols, since, until, interval, store).reader(rows)


class _Span(NamedTuple):
    """What is to be read of a symbol."""

    symbol: str
    since_ms: int
    until_ms: int
    known: Known

    @property
    def covered(self) -> list[Span]:
        return clipped(self.known.covered, self.since_ms, self.until_ms)


class _Request:
    """What is to be read, from where."""

    def __init__(
        self,
        path: Path,
        store: str | None,
        symbols: list[str] | None,
        since: Moment | None,
        until: Moment | None,
        interval: str | timedelta | None,
    ) -> None:
        self._path, self._store = path, store
        self._symbols = symbols
        self._since, self._until, self._interval = since, until, interval
        self._coverage: list[tuple[str, Span]] = []

    def reader(self, rows: int) -> pa.RecordBatchReader:
        """Return the batches; what is wrong with the arguments is raised here."""
        batches = self._batches(rows)
        schema = next(batches)  # by then everything is open and checked
        return arrow.reader_of(schema, batches)

    def read(self) -> Bars:
        """Return all of it."""
        table = self.reader(rows=100_000).read_all()
        return Bars(table, arrow.coverage_table(self._coverage))

    def _batches(self, rows: int) -> Iterator[Any]:
        """Yield the schema, and then the batches."""
        with open_source(self._path, self._store) as source:
            interval_ms = interval_of(self._interval, source.interval_ms)
            is_longer = interval_ms != source.interval_ms
            names = source.symbols() if self._symbols is None else self._symbols
            if self._symbols is not None:
                for name in names:
                    source.check(name)
            since_ms, until_ms = self._times(source, interval_ms)
            yield arrow.schema(source.market, is_longer=is_longer)
            span = (since_ms, until_ms, interval_ms)
            bars = (bar for name in names for bar in self._bars(source, name, *span))
            of = arrow.batches_of_longer if is_longer else arrow.batches_of
            batches = of(bars, source.market, rows=rows)
            is_empty = True
            for batch in batches:
                is_empty = False
                yield batch
            if is_empty and not self._coverage:
                self._explain(source, names)

    def _times(self, source: Source, interval_ms: int) -> tuple[int | None, int]:
        """Return since when and until when, each the next multiple of the interval."""
        since_ms, until_ms = (
            None if moment is None else moment_ms(moment, name, source.newest_ms)
            for moment, name in ((self._since, "since"), (self._until, "until"))
        )
        if until_ms is None:
            until_ms = LAST_MS
        if since_ms is not None and since_ms >= until_ms:
            raise BintradesError(
                f"since, {utc(since_ms).isoformat()}, must be before until,"
                f" {utc(until_ms).isoformat()}"
            )
        if since_ms is not None:
            since_ms += -since_ms % interval_ms
        return since_ms, until_ms + -until_ms % interval_ms if until_ms < LAST_MS else until_ms

    def _bars(
        self, source: Source, symbol: str, since_ms: int | None, until_ms: int, interval_ms: int
    ) -> Iterator[Any]:
        """Yield the bars of *symbol*, or the longer ones, and note what is covered."""
        before = len(self._coverage)

        def read() -> Iterator[Bar | LongerBar]:
            del self._coverage[before:]
            span = self._span(source, symbol, since_ms, until_ms, interval_ms)
            if interval_ms == source.interval_ms:
                return _read(source, span)
            return _longer(source, span, interval_ms)

        return again_if_left(read)

    def _span(
        self, source: Source, symbol: str, since_ms: int | None, until_ms: int, interval_ms: int
    ) -> _Span:
        """Return what is to be read of *symbol*. Raises BintradesError if bars of it have left."""
        known = source.known(symbol)
        kept_ms = known.kept_since_ms
        if since_ms is None:
            since_ms = kept_ms + -kept_ms % interval_ms
        elif since_ms < kept_ms:
            raise BintradesError(
                f"{symbol}: the journal has its bars since {utc(kept_ms).isoformat()}, older ones"
                " have left it; ask for those, leave out since, or read a store: store='NAME'"
            )
        span = _Span(symbol, since_ms, until_ms, known)
        self._coverage += [(symbol, each) for each in span.covered]
        return span

    def _explain(self, source: Source, names: list[str]) -> None:
        """Raise BintradesError: there is no bar, and nobody knows that there were no trades."""
        spans = {name: source.known(name).covered for name in names}
        if not names:
            raise BintradesError("there are no bars yet, of no symbol")
        if not any(spans.values()):
            raise BintradesError(f"{', '.join(names[:10])}: no bars, and nothing of it is proven")
        first = min(covered[0][0] for covered in spans.values() if covered)
        last = max(covered[-1][1] for covered in spans.values() if covered)
        raise BintradesError(
            f"{', '.join(names[:10])}: nothing was collected in that time; what is proven begins"
            f" at {utc(first).isoformat()} and ends at {utc(last).isoformat()}"
        )


def _request(
    source: str | os.PathLike[str],
    symbols: str | Iterable[str] | None,
    since: Moment | None,
    until: Moment | None,
    interval: str | timedelta | None,
    store: str | None,
) -> _Request:
    return _Request(Path(source), store, names_of(symbols), since, until, interval)


def _read(source: Source, span: _Span) -> Iterator[Bar]:
    return source.read(span.symbol, span.since_ms, span.until_ms)


def _longer(source: Source, span: _Span, interval_ms: int) -> Iterator[LongerBar]:
    return resample(_read(source, span), span.covered, interval_ms, span.known.proven_ms)
