"""Keeps the bars as Parquet files, in a folder or an S3 bucket: for pandas, polars, DuckDB, Spark.

    [stores]
    enabled = mongodb, parquet

    [store:parquet]
    path = var/parquet           ; or s3://bucket/folder

    PATH/market=spot/date=2026-11-25/bars-1300.parquet

A file has all bars of a market that open within one hour (option `file`), sorted by symbol and
time, so a bar is in one file, whose name follows from the bar. A file is only ever replaced as a
whole, in one step: who reads the folder sees each bar once, or not yet, at any moment.

A batch is durable in PATH/_log first, a file each, which readers pass over, and is merged into the
files by and by (option `publish`). That may be interrupted anywhere, and done again: of two
versions of a bar the one of the higher rank stays, and a batch leaves the log after its bars have
arrived. Several collectors may write into one path.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import re
import time
import uuid
from bisect import bisect_right
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace

from bintrades import (
    BintradesError,
    ConfigError,
    CoveredSpan,
    Option,
    OptionType,
    RejectedBars,
    UnfitBars,
    arrow,
    hookimpl,
    option_types,
    require_library,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    import pyarrow as pa

    from bintrades import Bar

_LOG, _COVERAGE, _MARK = "_log", "_coverage", "_bintrades.json"  # readers pass over an underscore
_ENDINGS = (".parquet", ".arrow")
_FILE_MINUTES = {"10m": 10, "1h": 60, "1d": 1_440}
_PUBLISH = option_types.duration("0s", "1d")
_MOST_WAITING = 300_000  # bars in the log before they are merged in any case: some 100 MB
_ROWS = 100_000  # of a row group
_BEST_FIRST = [
    *(("symbol", "ascending"), ("open_time", "ascending"), ("epoch", "descending")),
    *(("trade_count", "descending"), ("is_closed", "descending")),
    *(("is_complete", "descending"), ("version", "descending")),
]
_LOCK_WITHIN_S = 60.0
_ABANDONED_S = 3_600.0  # no file takes so long to be written


def _endpoint(text: str) -> str:
    return str(option_types.url("http", "https").parse(text)) if text else ""


def _path(text: str) -> str:
    if text.startswith("s3://"):
        if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^/]+)*/?", text):
            raise ValueError("is no s3://BUCKET/FOLDER")
        return text
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", text):
        raise ValueError("is neither a path nor s3://BUCKET/FOLDER")
    return str(option_types.path().parse(text))


class Store:
    """One folder of bars. A section [store:NAME] with `plugin = parquet` is another one."""

    OPTIONS = (
        Option(
            "path",
            "var/parquet",
            "the folder of the files",
            OptionType(_path, "a path, relative to the configuration's folder, or s3://BUCKET/..."),
        ),
        Option(
            "file",
            "1h",
            "the time of which a file has the bars; 10m for thousands of symbols, 1d for a few",
            option_types.choice(*_FILE_MINUTES),
        ),
        Option(
            "publish",
            "5m",
            "how long a bar may be in the log alone, where readers do not see it",
            _PUBLISH,
        ),
        Option(
            "endpoint",
            "",
            "the address of an S3 that is not Amazon's",
            OptionType(_endpoint, "http:// or https://, a host, perhaps a :port, or nothing"),
        ),
        Option("region", "", "region of the bucket; empty: AWS_REGION of the environment"),
        Option("access_key_id", "", "key of S3; empty: as the environment, or the machine, has it"),
        Option("secret_access_key", "", "the secret of the key", is_secret=True),
    )

    def __init__(self) -> None:
        self._place: _Folder | _Bucket | None = None
        self._file = timedelta()
        self._publish_s = 0.0
        self._waiting = 0  # bars in the log
        self._due = 0.0  # when they are merged, on the monotonic clock
        self._unseen: dict[tuple[str, str], int] = {}  # open time of the oldest, by series
        self._untold: dict[tuple[str, str], list[CoveredSpan]] = {}  # of bars that wait
        self._options: dict[str, str] = {}
        self._id = ""

    @hookimpl
    def check_store(self, options: dict[str, str]) -> None:
        """Refuse options that cannot go together, and say which library is missing."""
        require_library("pyarrow", extra="parquet")
        if options["path"].startswith("s3://"):
            require_library("obstore", extra="parquet")
            if bool(options["access_key_id"]) != bool(options["secret_access_key"]):
                raise ConfigError("access_key_id and secret_access_key: give both, or none")

    @hookimpl
    def open_store(self, options: dict[str, str]) -> None:
        """Find the place, or make it, and see that it is one of ours."""
        self.check_store(options)
        self._place = None
        is_s3 = options["path"].startswith("s3://")
        place = _Bucket(options) if is_s3 else _Folder(Path(_path(options["path"])))
        self._file = timedelta(minutes=_FILE_MINUTES[options["file"].lower()])
        self._publish_s = _PUBLISH.parse(options["publish"]) / 1_000
        self._options = options
        self._identify(place)
        place.tidy()
        self._unseen = {}  # since all that waits is merged before anything is covered
        self._waiting = len(place.names(_LOG))  # of which others may be at work
        self._due = time.monotonic()
        self._place = place

    @hookimpl
    def store_bars(self, bars: Sequence[Bar]) -> None:
        """Put the bars into the log, which is durable, and merge it into the files if it is due."""
        place = self._opened()
        self._publish_if_due()  # what could not be before: else the log would grow with each try
        rejected: list[tuple[Bar, str]] = []
        of_market = attrgetter("market")
        for market, group in groupby(sorted(bars, key=of_market), of_market):
            table = _table(list(group), market, rejected)
            if table.num_rows:
                if not self._waiting:
                    self._due = time.monotonic() + self._publish_s
                name = f"{_LOG}/{time.time_ns():020}-{uuid.uuid4().hex}.arrow"
                place.put(name, _as_log(table), None)
                self._waiting += table.num_rows
        for bar in bars if self._waiting else ():  # else all were refused
            oldest = self._unseen.get((bar.market, bar.symbol), bar.open_time_ms)
            self._unseen[bar.market, bar.symbol] = min(oldest, bar.open_time_ms)
        self._publish_if_due()
        if rejected:
            raise RejectedBars(rejected)

    @hookimpl
    def store_coverage(self, spans: Sequence[CoveredSpan]) -> None:
        """Replace what is stored of each symbol from its first span on.

        Bars that only the log has are covered once they are in the files: until then, a reader of
        the coverage would take it that there were no trades. What waits for that is told again
        after a start.
        """
        self._opened()
        self._publish_if_due()
        for series, group in groupby(spans, attrgetter("market", "symbol")):
            if series in self._unseen or series in self._untold:
                self._untold[series] = _told_after(self._untold.get(series, []), list(group))
        self._cover([self._of_what_is_seen(span) for span in spans])

    def _of_what_is_seen(self, span: CoveredSpan) -> CoveredSpan:
        """Return the span as far as readers have the bars in it."""
        unseen = self._unseen.get((span.market, span.symbol), span.until_ms)
        return replace(span, until_ms=min(span.until_ms, max(span.since_ms, unseen)))

    def _cover(self, spans: Sequence[CoveredSpan]) -> None:
        place = self._opened()
        by_market = attrgetter("market")
        with self._locked():
            for market, group in groupby(sorted(spans, key=by_market), by_market):
                told = list(group)
                is_there = False
                while not is_there:
                    name = f"{_COVERAGE}/market={market}.parquet"
                    found = place.find(name)
                    with _named(name):
                        stored = [] if found is None else _spans(found.source, market)
                    data = _as_parquet(_coverage_table(_covered(stored, told)))
                    is_there = place.put(name, data, found and found.tag)

    @hookimpl
    def read_bars(
        self, symbol: str, since: datetime, until: datetime, market: str
    ) -> Iterator[Bar]:
        """Yield the bars of the files, and of the log, file by file."""
        import pyarrow as pa
        import pyarrow.compute as pc

        place = self._opened()
        wanted = (
            (pc.field("symbol") == symbol)
            & (pc.field("open_time") >= since)
            & (pc.field("open_time") < until)
        )
        logged = [  # first: what leaves the log meanwhile is in a file by then
            table.filter(wanted) for _, table in _read_log(place) if _market_of(table) == market
        ]
        waiting = self._by_file(pa.concat_tables(logged)) if logged else {}
        files = set(self._files(market, since, until)) | {
            self._name(market, start) for start in waiting
        }
        by_name = {self._name(market, start): table for start, table in waiting.items()}
        for name in sorted(files):
            found = place.find_in_part(name)
            with _named(name):
                tables = [] if found is None else [_read(found.source, wanted)]
            if name in by_name:
                tables.append(by_name[name])
            if tables:
                best = _best(pa.concat_tables(tables))
                named = pa.repeat(market, best.num_rows)
                yield from arrow.bars_of(best.append_column("market", named))

    @hookimpl
    def identify_store(self) -> str:
        """Return the id that was made with the place, and goes with it.

        A place that was emptied gets another one.
        """
        self._identify(self._opened())
        return self._id

    @hookimpl
    def close_store(self) -> None:
        """Merge what is in the log, so that readers have all there is."""
        try:
            if self._place is not None and (self._waiting or self._untold):
                self._publish()
        finally:
            self._place = None

    def _opened(self) -> _Folder | _Bucket:
        if self._place is None:
            raise RuntimeError("open_store comes before all others")
        return self._place

    def _identify(self, place: _Folder | _Bucket) -> None:
        identity = _identity_of(place, self._options)
        if identity != self._id:
            self._untold = {}  # of another place
        self._id = identity

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep others from replacing files, in the place that was opened and in no other.

        In one that was emptied meanwhile, files would be taken for somebody else's.
        """
        place = self._opened()
        with place.lock():
            if _mark_of(place, self._options).get("id") != self._id:
                raise BintradesError(
                    f"{self._options['path']} was emptied or replaced, so it is opened again"
                )
            yield

    def _publish_if_due(self) -> None:
        if not self._waiting and not self._untold:
            return
        if self._waiting >= _MOST_WAITING or time.monotonic() >= self._due:
            self._publish()

    def _publish(self) -> None:
        """Merge the log into the files; what cannot be merged now stays in the log."""
        import pyarrow as pa

        place = self._opened()
        with self._locked():
            log = _read_log(place)
            while True:
                names, tables = _some_of(log)
                if not names:
                    break
                for market, of_market in tables.items():
                    for start, rows in self._by_file(pa.concat_tables(of_market)).items():
                        self._merge(self._name(market, start), rows)
                place.delete(names)
        self._waiting = 0
        self._unseen = {}
        if self._untold:
            self._cover([span for told in self._untold.values() for span in told])
            self._untold = {}

    def _merge(self, name: str, rows: pa.Table) -> None:
        place = self._opened()
        is_there = False
        while not is_there:
            found = place.find(name)
            with _named(name):
                data = _merged(found and found.source, rows)
            is_there = data is None or place.put(name, data, found and found.tag)

    def _by_file(self, rows: pa.Table) -> dict[datetime, pa.Table]:
        """Return the rows of each file by the time with which it begins."""
        import pyarrow as pa
        import pyarrow.compute as pc

        span = self._file // timedelta(microseconds=1)
        times = rows["open_time"].cast(pa.int64())
        starts = pc.multiply(pc.divide(times, span), span)
        return {
            datetime.fromtimestamp(start.as_py() // 1_000_000, UTC): rows.filter(
                pc.equal(starts, start)
            )
            for start in pc.unique(starts)
        }

    def _name(self, market: str, start: datetime) -> str:
        return f"market={market}/date={start:%Y-%m-%d}/bars-{start:%H%M}.parquet"

    def _files(self, market: str, since: datetime, until: datetime) -> Iterator[str]:
        """Yield the names of the files that are there and may have bars of that time."""
        place = self._opened()
        first, last = self._name(market, since - self._file), self._name(market, until)
        for day in place.folders(f"market={market}"):
            if Path(first).parent.name <= day <= Path(last).parent.name:
                for name in place.names(f"market={market}/{day}"):
                    if first <= name <= last:
                        yield name


class _Found(NamedTuple):
    """A file that is there."""

    source: pa.NativeFile
    tag: str | None
    """What tells this version of it from any other, where a place has such a thing."""


class _Folder:
    """A folder of this machine. A file is written beside the others, synced and then renamed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        _make_folder(root / _LOG)

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders in *folder*, in order."""
        with suppress(FileNotFoundError):
            return sorted(each.name for each in (self._root / folder).iterdir() if each.is_dir())
        return []

    def names(self, folder: str) -> list[str]:
        """Return the names of the whole files in *folder*, from the root on, in order."""
        with suppress(FileNotFoundError):
            names = (each.name for each in (self._root / folder).iterdir())
            return sorted(f"{folder}/{name}" for name in names if name.endswith(_ENDINGS))
        return []

    def is_strange(self) -> bool:
        """Whether there is anything."""
        return any(each.name != _LOG for each in self._root.iterdir())

    def find(self, name: str) -> _Found | None:
        """Return the file, if it is there."""
        import pyarrow as pa

        with suppress(FileNotFoundError):
            return _Found(pa.OSFile(str(self._root / name)), None)
        return None

    find_in_part = find

    def put(self, name: str, data: pa.Buffer, _tag: str | None) -> bool:
        """Have *data* be the file, durably; whoever replaces one holds the lock."""
        target = self._root / name
        _make_folder(target.parent)
        temporary = self._root / _LOG / f"{uuid.uuid4().hex}.tmp"
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except BaseException:  # such as of a full disk, where each attempt would leave its part
            temporary.unlink(missing_ok=True)
            raise
        _sync(target.parent)
        return True

    def delete(self, names: Iterable[str]) -> None:
        """Remove files."""
        for name in names:
            (self._root / name).unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep others, in this process or any, from replacing files."""
        deadline = time.monotonic() + _LOCK_WITHIN_S
        _make_folder(self._root / _LOG)
        with (self._root / _LOG / "lock").open("ab") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise OSError(f"another collector keeps {file.name} locked") from None
                    time.sleep(0.05)
            try:
                yield
            finally:  # not by closing alone: a process forked meanwhile has the file open, too
                fcntl.flock(file, fcntl.LOCK_UN)

    def tidy(self) -> None:
        """Remove what a crash left half-written."""
        for file in (self._root / _LOG).glob("*.tmp"):
            with suppress(FileNotFoundError):
                if time.time() - file.stat().st_mtime > _ABANDONED_S:
                    file.unlink()


class _Bucket:
    """A folder of a bucket: an object is whole or not there, and is replaced if nobody else did."""

    def __init__(self, options: dict[str, str]) -> None:
        from obstore.store import S3Store

        bucket, _, folder = options["path"].removeprefix("s3://").partition("/")
        names = ("endpoint", "region", "access_key_id", "secret_access_key")
        given: dict[str, Any] = {name: options[name] for name in names if options[name]}
        self._bucket = S3Store(
            bucket,
            prefix=folder.strip("/") or None,
            client_options={
                "allow_http": options["endpoint"].startswith("http://"),
                "connect_timeout": "5s",
                "timeout": "60s",
            },
            retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=20)},
            **given,
        )

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders in *folder*, in order."""
        import obstore

        found = _ask(obstore.list_with_delimiter, self._bucket, folder)["common_prefixes"]
        return sorted(name.rpartition("/")[2] for name in found)

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in *folder*, from the root on, in order."""
        import obstore

        found = _ask(obstore.list_with_delimiter, self._bucket, folder)["objects"]
        return sorted(each["path"] for each in found if each["path"].endswith(_ENDINGS))

    def is_strange(self) -> bool:
        """Whether there is anything."""
        import obstore

        found = _ask(obstore.list_with_delimiter, self._bucket)
        return bool(found["common_prefixes"] or found["objects"])

    def find(self, name: str) -> _Found | None:
        """Return the object, if it is there, as it is now."""
        import obstore
        import pyarrow as pa

        with suppress(FileNotFoundError):
            got = _ask(obstore.get, self._bucket, name)
            tag = got.meta["e_tag"]
            return _Found(pa.BufferReader(pa.py_buffer(got.bytes())), tag)
        return None

    def find_in_part(self, name: str) -> _Found | None:
        """Return it, if it is there, and fetch what is read of it only."""
        import pyarrow as pa

        with suppress(FileNotFoundError):
            return _Found(pa.PythonFile(_Object(self._bucket, name), "r"), None)
        return None

    def put(self, name: str, data: pa.Buffer, tag: str | None) -> bool:
        """Have *data* be the object, unless another one than that of *tag* is there."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        try:
            mode: Any = "create" if tag is None else {"e_tag": tag}
            _ask(obstore.put, self._bucket, name, data.to_pybytes(), mode=mode)
        except (AlreadyExistsError, PreconditionError):
            return False
        return True

    def delete(self, names: Iterable[str]) -> None:
        """Remove objects."""
        import obstore

        _ask(obstore.delete, self._bucket, list(names))

    def lock(self) -> AbstractContextManager[None]:
        """Keep nobody out: who replaces an object says which one."""
        return nullcontext()

    def tidy(self) -> None:
        """Do nothing: an object is never half-written."""


def _ask(ask: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Return what the bucket answers; an error without the pages that obstore adds to it."""
    from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

    try:
        return ask(*arguments, **options)
    except (AlreadyExistsError, PreconditionError):
        raise
    except BaseError as error:
        raise OSError(str(error).partition("\n")[0]) from None


class _Object(io.RawIOBase):
    """An object of a bucket, of which only what is asked for is fetched."""

    def __init__(self, bucket: Any, name: str) -> None:
        import obstore

        self._bucket = bucket
        self._name = name
        self._size: int = _ask(obstore.head, bucket, name)["size"]
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        import obstore

        count = min(len(buffer), self._size - self._at)
        if count > 0:
            part = _ask(obstore.get_range, self._bucket, self._name, start=self._at, length=count)
            buffer[:count] = bytes(part)
            self._at += count
        return max(count, 0)


def _mark_of(place: _Folder | _Bucket, options: dict[str, str]) -> dict[str, Any]:
    """Return what the place says of itself; nothing where it says nothing.

    Raises BintradesError where nobody can know what it says.
    """
    found = place.find(_MARK)
    if found is None:
        return {}
    try:
        mark: dict[str, Any] = json.loads(found.source.read())
        return {name: mark[name] for name in ("file", "schema_version", "id")}
    except (ValueError, TypeError, KeyError):
        raise BintradesError(
            f"{options['path']}: {_MARK} is damaged; restore it, or name another path, which gets"
            " the bars of the journal"
        ) from None


def _identity_of(place: _Folder | _Bucket, options: dict[str, str]) -> str:
    """Return the id of the place; one is given to it if there is nothing.

    Raises BintradesError for a place that is not ours, or not as the options say.
    """
    import pyarrow as pa

    ours = {"file": options["file"].lower(), "schema_version": arrow.SCHEMA_VERSION}
    with place.lock():
        mark_there = _mark_of(place, options)
        if not mark_there:
            if place.is_strange() and place.find(_MARK) is None:  # no other one was quicker
                raise BintradesError(
                    f"{options['path']} has other things than bars, which stay as they are: name"
                    " another path, and it is made"
                )
            mark = json.dumps(ours | {"id": uuid.uuid4().hex}).encode()
            place.put(_MARK, pa.py_buffer(mark), None)
            mark_there = _mark_of(place, options)  # whoever has put it there
    for name, value in ours.items():
        if mark_there[name] != value:
            raise BintradesError(
                f"{options['path']} has files with {name} = {mark_there[name]}, not {value}: leave"
                " it as it was, or name another path, which gets the bars of the journal"
            )
    return str(mark_there["id"])


def _table(bars: list[Bar], market: str, rejected: list[tuple[Bar, str]]) -> pa.Table:
    """Return *bars* but those that do not fit, which go to *rejected*."""
    import pyarrow as pa

    try:
        batch = arrow.batch_of(bars, market)
    except UnfitBars as error:
        rejected += error.unfit
        unfit = {id(bar) for bar, _ in error.unfit}
        batch = arrow.batch_of([bar for bar in bars if id(bar) not in unfit], market)
    return pa.Table.from_batches([batch]).drop_columns(["market"])  # it is in the path


def _as_log(table: pa.Table) -> pa.Buffer:
    import pyarrow as pa

    names = [field.remove_metadata() for field in table.schema]  # more than a few bars have
    table = table.cast(pa.schema(names, table.schema.metadata))
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _read_log(place: _Folder | _Bucket) -> Iterator[tuple[str, pa.Table]]:
    """Yield name and rows of each batch in the log, oldest first."""
    import pyarrow as pa

    for name in place.names(_LOG):
        found = place.find(name)
        if found is not None:  # else another one has merged it meanwhile
            with _named(name):
                table = pa.ipc.open_stream(found.source).read_all()
            yield name, table


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Say of which file it is that it cannot be read."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        raise BintradesError(f"{name} cannot be read: {error}") from error


def _some_of(
    log: Iterator[tuple[str, pa.Table]],
) -> tuple[list[str], dict[str, list[pa.Table]]]:
    """Return the next names and rows of the log, by market, as many as may be in memory."""
    names: list[str] = []
    tables: dict[str, list[pa.Table]] = {}
    count = 0
    for name, table in log:
        names.append(name)
        tables.setdefault(_market_of(table), []).append(table)
        count += table.num_rows
        if count >= _MOST_WAITING:
            break
    return names, tables


def _schema(market: str) -> pa.Schema:
    """Return that of a file: the market is in its path."""
    whole = arrow.schema(market)
    return whole.remove(whole.get_field_index("market"))


def _market_of(table: pa.Table) -> str:
    market: bytes = table.schema.metadata[b"bintrades:market"]
    return market.decode()


def _read(source: pa.NativeFile, wanted: Any) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.read_table(source, filters=wanted)


def _best(rows: pa.Table) -> pa.Table:
    """Return the best version of each bar, sorted; of equal ones the first."""
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = rows.take(pc.sort_indices(rows, _BEST_FIRST))
    if rows.num_rows < 2:
        return rows
    symbols, times = rows["symbol"], rows["open_time"]
    is_other = pc.or_(
        pc.not_equal(symbols.slice(1), symbols.slice(0, len(symbols) - 1)),
        pc.not_equal(times.slice(1), times.slice(0, len(times) - 1)),
    )
    return rows.filter(pa.chunked_array([pa.array([True]), *is_other.chunks]))


def _merged(old: pa.NativeFile | None, rows: pa.Table) -> pa.Buffer | None:
    """Return the file of the *old* one's bars and *rows*; None if no row is better than them.

    A row group of the old file at a time, since both are sorted.
    """
    import pyarrow as pa

    rows = _marked(_best(rows), is_new=True)
    sink = pa.BufferOutputStream()
    begin = 0
    is_changed = False
    with _Writer(sink, _schema(_market_of(rows))) as writer:
        for group in _row_groups(old) if old is not None else ():
            there = _marked(group, is_new=False)
            end = _place_behind(rows, there)
            best = _best(pa.concat_tables([there, rows.slice(begin, end - begin)]))
            is_changed |= writer.write(best)
            begin = end
        is_changed |= writer.write(rows.slice(begin))
    return sink.getvalue() if is_changed else None


def _row_groups(file: pa.NativeFile) -> Iterator[pa.Table]:
    import pyarrow.parquet as pq

    stored = pq.ParquetFile(file)
    return (stored.read_row_group(number) for number in range(stored.num_row_groups))


def _marked(rows: pa.Table, *, is_new: bool) -> pa.Table:
    import pyarrow as pa

    return rows.append_column("is_new", pa.repeat(is_new, rows.num_rows))


def _place_behind(rows: pa.Table, group: pa.Table) -> int:
    """Return how many of *rows*, which are sorted, do not come behind the last one of *group*."""

    def key(table: pa.Table, number: int) -> tuple[str, datetime]:
        return table["symbol"][number].as_py(), table["open_time"][number].as_py()

    last = key(group, group.num_rows - 1)
    return bisect_right(range(rows.num_rows), last, key=lambda number: key(rows, number))


class _Writer:
    """Writes sorted tables, the column is_new left out, in row groups of _ROWS."""

    def __init__(self, sink: pa.NativeFile, schema: pa.Schema) -> None:
        import pyarrow.parquet as pq

        self._writer = pq.ParquetWriter(sink, schema, **_FORMAT)
        self._waiting: list[pa.Table] = []

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_error: object) -> None:
        self._flush()
        self._writer.close()

    def write(self, rows: pa.Table) -> bool:
        """Take *rows*; return whether any of them is new."""
        import pyarrow.compute as pc

        if not rows.num_rows:
            return False
        self._waiting.append(rows.drop_columns(["is_new"]))
        if sum(each.num_rows for each in self._waiting) >= _ROWS:
            self._flush()
        return bool(pc.any(rows["is_new"]).as_py())

    def _flush(self) -> None:
        import pyarrow as pa

        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting), row_group_size=_ROWS)
            self._waiting = []


_FORMAT = {"compression": "zstd", "use_dictionary": ["symbol"]}  # others cost more than they save


def _as_parquet(table: pa.Table) -> pa.Buffer:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _spans(source: pa.NativeFile, market: str) -> list[CoveredSpan]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(source)
    since, until = (
        pa.compute.divide(table[name].cast(pa.int64()), 1_000).to_pylist()
        for name in ("since", "until")
    )
    seconds = table["interval_seconds"].to_pylist()
    return [
        CoveredSpan(symbol, market, since_ms, until_ms, each * 1_000)
        for symbol, since_ms, until_ms, each in zip(
            table["symbol"].to_pylist(), since, until, seconds, strict=True
        )
    ]


def _covered(stored: list[CoveredSpan], told: list[CoveredSpan]) -> list[CoveredSpan]:
    """Return the spans of a market after *told*, sorted by symbol."""
    by_symbol: dict[str, list[CoveredSpan]] = {}
    for span in stored:
        by_symbol.setdefault(span.symbol, []).append(span)
    for symbol, group in groupby(told, attrgetter("symbol")):
        new = list(group)
        kept = _cut(by_symbol.get(symbol, []), new[0].since_ms)
        by_symbol[symbol] = kept + [span for span in new if not span.is_empty]
    return [span for symbol in sorted(by_symbol) for span in by_symbol[symbol]]


def _cut(spans: list[CoveredSpan], since_ms: int) -> list[CoveredSpan]:
    """Return what of *spans* is before that time."""
    return [
        replace(span, until_ms=min(span.until_ms, since_ms))
        for span in spans
        if span.since_ms < since_ms
    ]


def _told_after(earlier: list[CoveredSpan], new: list[CoveredSpan]) -> list[CoveredSpan]:
    """Return what both say of a symbol: its spans from the first one's `since` on."""
    kept = _cut(earlier, new[0].since_ms)
    return kept + [span for span in new if not span.is_empty] if kept else new


def _coverage_table(spans: list[CoveredSpan]) -> pa.Table:
    import pyarrow as pa

    time_type = pa.timestamp("us", "UTC")
    return pa.table(
        {
            "symbol": pa.array([span.symbol for span in spans], pa.string()),
            "since": pa.array([span.since for span in spans], time_type),
            "until": pa.array([span.until for span in spans], time_type),
            "interval_seconds": pa.array([span.interval_seconds for span in spans], pa.int64()),
        }
    )


def _make_folder(folder: Path) -> None:
    """Make *folder*, and those above it, durably."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    """Have the names in *folder* survive a power cut."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
