"""The forms of exported bars: CSV and JSON by lines, as they are or compressed, and Parquet."""

from __future__ import annotations

import gzip
import io
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from bintrades import arrow
from bintrades.cli.bar_text import csv_pieces, ndjson_pieces
from bintrades.cli.extras import lacking
from bintrades.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import Any

    from bintrades.journal.rows import Row

PARQUET = "parquet"
FORMS = (PARQUET, "csv", "ndjson")

_ENDINGS = {".parquet": PARQUET, ".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson"}
_PACKED = (".gz", ".zst")
_BATCH_ROWS = 5_000
_GROUP_ROWS = 100_000
"""Of a row group of Parquet: some 10 MB, and what has to be in memory at a time."""


class Form(NamedTuple):
    """How bars are written."""

    name: str
    """One of FORMS."""
    packing: str
    """.gz, .zst or nothing."""

    @property
    def is_parquet(self) -> bool:
        """Whether it is made of bars, and not of rows."""
        return self.name == PARQUET


class Bars(NamedTuple):
    """What all bars of an export have in common."""

    market: str
    interval_ms: int
    is_longer: bool


def form_of(path: Path | None, name: str | None) -> Form:
    """Return the form that the ending of *path* says, or *name*; a path of None is stdout.

    Raises ConfigError for an ending that says none, and for what does not go together.
    """
    if path is None:
        if name is None:
            raise ConfigError(f"--to - needs --format: {', '.join(FORMS)}")
        return Form(name, "")
    endings = [ending.lower() for ending in path.suffixes]
    packing = endings.pop() if endings and endings[-1] in _PACKED else ""
    name = name or _ENDINGS.get(endings[-1] if endings else "")
    if name is None:
        known = ", ".join(_ENDINGS)
        raise ConfigError(
            f"--to {path}: its ending says no form; known are {known}, all but .parquet also with"
            " .gz or .zst behind; --format says it whatever the ending is"
        )
    if name == PARQUET and packing:
        raise ConfigError(f"--to {path}: parquet is compressed in itself; leave {packing} out")
    return Form(name, packing)


def require_libraries(form: Form) -> None:
    """Raise BintradesError unless what *form* needs is installed."""
    if form.is_parquet or form.packing == ".zst":
        try:
            import pyarrow.parquet  # noqa: F401 - whether it can be
        except ImportError as error:
            what = PARQUET if form.is_parquet else f"a file that ends with {form.packing}"
            raise lacking(f"export to {what}", "pyarrow", "arrow") from error


def write_rows(file: BinaryIO, form: Form, bars: Bars, pages: Iterable[Sequence[Row]]) -> None:
    """Write *pages* of rows, or of longer_row() where they are longer, as CSV or JSON by lines."""
    pieces = csv_pieces if form.name == "csv" else ndjson_pieces
    empty: list[Sequence[Row]] = [[]]  # a header is there, whether bars are or not
    with _packed(file, form.packing) as packed:
        for piece in pieces(
            chain(empty, pages), bars.market, bars.interval_ms, is_longer=bars.is_longer
        ):
            packed.write(piece.encode())


@contextmanager
def _packed(file: BinaryIO, packing: str) -> Iterator[Any]:
    if packing == ".gz":
        with gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as packed:
            yield packed
    elif packing == ".zst":
        import pyarrow

        kept = pyarrow.PythonFile(_KeptOpen(file), "w")
        with pyarrow.CompressedOutputStream(kept, "zstd") as packed:
            yield packed
    else:
        yield file


class _KeptOpen(io.RawIOBase):
    """A file that stays open when this is closed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._file.write(data)


def write_parquet(file: BinaryIO, bars: Bars, found: Iterator[Any]) -> None:
    """Write bars, or longer ones, sorted by symbol and time, as Parquet with the published schema.

    Compressed with zstd, in row groups that say that they are sorted. The metadata is that of
    arrow.schema(), and `bintrades:interval_seconds`. Raises UnfitBars.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = arrow.schema(bars.market, is_longer=bars.is_longer)
    seconds = str(bars.interval_ms // 1_000).encode()
    schema = schema.with_metadata({**schema.metadata, b"bintrades:interval_seconds": seconds})
    batches = (
        arrow.batches_of_longer(found, bars.market, rows=_BATCH_ROWS)
        if bars.is_longer
        else arrow.batches_of(found, bars.market, rows=_BATCH_ROWS)
    )
    sorting = pq.SortingColumn.from_ordering(
        schema, [(column, "ascending") for column in arrow.KEY]
    )
    with pq.ParquetWriter(file, schema, compression="zstd", sorting_columns=sorting) as writer:
        for group in _groups(batches):
            table = pa.Table.from_batches(group).replace_schema_metadata(schema.metadata)
            writer.write_table(table, row_group_size=_GROUP_ROWS)


def _groups(batches: Iterator[Any]) -> Iterator[list[Any]]:
    """Yield batches that make a row group together."""
    group: list[Any] = []
    rows = 0
    for batch in batches:
        group.append(batch)
        rows += batch.num_rows
        if rows >= _GROUP_ROWS:
            yield group
            group, rows = [], 0
    if group:
        yield group
