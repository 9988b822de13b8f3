"""Files of klines in the form of Binance's public dumps: a CSV, or a zip with one in it.

The name says what is inside: `BTCUSDT-1m-2024-08-08.zip`, of a day or of a month, `.csv` likewise.
Rows are those of the REST side (docs: binance-public-data), with or without a header. Times are
milliseconds, or microseconds in newer files: each row shows by itself which.
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from bintrades.errors import BintradesError, ConfigError
from bintrades.model import Kline
from bintrades.util.durations import parse_duration
from bintrades.util.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    Row = list[str]

_NAME = re.compile(
    r"(?P<symbol>[^/]+)-(?P<interval>1s|1m|3m|5m|15m|30m|1h|2h|4h|6h|8h|12h|1d)"
    r"-(?P<year>[0-9]{4})-(?P<month>[0-9]{2})(-(?P<day>[0-9]{2}))?\.(csv|zip)"
)
_NAMES = "SYMBOL-1m-2024-08-08.csv or .zip, also of a month, with 1s to 1d for 1m"
_COLUMNS = 11  # and one more that says nothing
_FIRST_IN_MICROSECONDS = 10**14
_DIGITS = re.compile(r"[0-9]{1,19}")
_NUMBER = re.compile(r"[0-9]{1,40}(\.[0-9]{1,40})?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class KlineDump:
    """One file: which klines its name promises. Its content is read as it is asked for."""

    path: Path
    symbol: str
    interval_ms: int
    since_ms: int
    until_ms: int

    @classmethod
    def named(cls, path: Path) -> KlineDump:
        """Return the file of that name. Raises ConfigError for a name that says too little."""
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise ConfigError(f"{path}: the name does not say what is in it; allowed: {_NAMES}")
        try:
            first = datetime(
                int(match["year"]), int(match["month"]), int(match["day"] or 1), tzinfo=UTC
            )
        except ValueError as error:
            raise ConfigError(f"{path}: the name has no date: {error}") from error
        next_month = (first.replace(day=1) + timedelta(days=32)).replace(day=1)
        end = first + timedelta(days=1) if match["day"] else next_month
        return cls(path, match["symbol"], parse_duration(match["interval"]), _ms(first), _ms(end))

    def klines(self) -> Iterator[Kline]:
        """Yield all klines, oldest first.

        Raises BintradesError, which names file and line, for what cannot be read.
        """
        opened_before = self.since_ms - self.interval_ms
        with _lines(self.path) as lines:
            for number, row in _rows(self.path, lines):
                try:
                    kline = self._kline(row)
                    if kline.open_time_ms <= opened_before:
                        raise ValueError(f"it opens at {row[0]}, not after the one before")
                except (ValueError, InvalidOperation) as error:
                    raise BintradesError(f"{self.path}, line {number}: {error}") from error
                opened_before = kline.open_time_ms
                yield kline

    def _kline(self, row: Row) -> Kline:
        """Return the kline of *row*. Raises ValueError."""
        if len(row) < _COLUMNS:
            raise ValueError(f"has {len(row)} columns; allowed: {_COLUMNS} or more")
        open_time_ms = _time_ms(row[0])
        if open_time_ms % self.interval_ms or not self.since_ms <= open_time_ms < self.until_ms:
            raise ValueError(f"it opens at {row[0]}, which the name of the file does not allow")
        open_price, high, low, close, quantity = map(_number, row[1:6])
        if not _DIGITS.fullmatch(row[8]):
            raise ValueError(f"{one_line(row[8], 40)!r} is no count of trades")
        return Kline(
            open_time_ms=open_time_ms,
            interval_ms=self.interval_ms,
            open_price=open_price,
            max_price=high,
            min_price=low,
            close_price=close,
            quantity=quantity,
            value=_number(row[7]),
            trade_count=int(row[8]),
            buy_quantity=_number(row[9]),
            buy_value=_number(row[10]),
        )


class KlineDumps:
    """Files of one symbol and one interval, as a source of klines; read forwards, once."""

    may_be_revised = False

    def __init__(self, dumps: Sequence[KlineDump]) -> None:
        self.symbol = dumps[0].symbol
        self.interval_ms = dumps[0].interval_ms
        self._dumps = sorted(dumps, key=lambda dump: dump.since_ms)
        self._from_ms = 0  # where the iterator is
        self._next: Kline | None = None
        self._left = self._all()

    @property
    def spans(self) -> list[tuple[int, int]]:
        """What times the files are of, oldest first; neighbours are joined."""
        spans: list[tuple[int, int]] = []
        for dump in self._dumps:
            if spans and dump.since_ms <= spans[-1][1]:
                spans[-1] = (spans[-1][0], max(spans[-1][1], dump.until_ms))
            else:
                spans.append((dump.since_ms, dump.until_ms))
        return spans

    def intervals_ms(self, symbol: str) -> Sequence[int]:  # noqa: ARG002 - it has one symbol
        """Return the one length there is."""
        return (self.interval_ms,)

    def klines(self, symbol: str, interval_ms: int, since_ms: int, until_ms: int) -> list[Kline]:
        """Return the klines of that time, oldest first. Raises BintradesError."""
        if (symbol, interval_ms) != (self.symbol, self.interval_ms):
            raise ValueError(f"{symbol} {interval_ms}: these are of {self.symbol}")
        if since_ms < self._from_ms:
            self._left, self._next = self._all(), None
        found: list[Kline] = []
        while (kline := self._next or next(self._left, None)) is not None:
            self._next = kline
            if kline.open_time_ms >= until_ms:
                break
            if kline.open_time_ms >= since_ms:
                found.append(kline)
            self._next = None
        self._from_ms = until_ms
        return found

    def _all(self) -> Iterator[Kline]:
        """Yield the klines of all files; of one that two files have, the first."""
        through = -1
        for dump in self._dumps:
            for kline in dump.klines():
                if kline.open_time_ms > through:
                    through = kline.open_time_ms
                    yield kline


def open_dumps(paths: Iterable[Path]) -> list[KlineDumps]:
    """Return the files by symbol and interval. Raises ConfigError for what is no such file."""
    found: dict[tuple[str, int], list[KlineDump]] = {}
    for path in paths:
        dump = KlineDump.named(path)
        if not path.is_file():
            raise ConfigError(f"{path}: there is no such file")
        found.setdefault((dump.symbol, dump.interval_ms), []).append(dump)
    return [KlineDumps(found[key]) for key in sorted(found)]


def _rows(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, Row]]:
    """Yield the rows with their line numbers, without header and empty lines."""
    reader = csv.reader(lines)
    try:
        for row in reader:
            is_header = reader.line_num == 1 and row and not row[0][:1].isdigit()
            if row and not is_header:
                yield reader.line_num, row
    except csv.Error as error:
        raise BintradesError(f"{path}, line {reader.line_num}: {error}") from error
    except UnicodeDecodeError as error:
        raise BintradesError(f"{path}, after line {reader.line_num}: is no text") from error
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError) as error:
        raise BintradesError(f"{path}, after line {reader.line_num}: {error}") from error


@contextmanager
def _lines(path: Path) -> Iterator[Iterable[str]]:
    """Open the CSV, which may be the one in a zip. Raises BintradesError."""
    try:
        if path.suffix != ".zip":
            with path.open(encoding="utf-8-sig", newline="") as file:
                yield file
            return
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".csv")]
            if len(names) != 1:
                raise BintradesError(f"{path}: has {len(names)} CSV files in it; allowed: one")
            with archive.open(names[0]) as member:
                yield io.TextIOWrapper(member, encoding="utf-8-sig", newline="")
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise BintradesError(f"{path}: cannot be read: {error}") from error


def _time_ms(text: str) -> int:
    if not _DIGITS.fullmatch(text):
        raise ValueError(f"{one_line(text, 40)!r} is no time in milliseconds or microseconds")
    time = int(text)
    if time < _FIRST_IN_MICROSECONDS:
        return time
    if time % 1_000:
        raise ValueError(f"{text} is no whole millisecond")
    return time // 1_000


def _number(text: str) -> Decimal:
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{one_line(text, 40)!r} is no price, quantity or value")
    return Decimal(text)


def _ms(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(milliseconds=1)
