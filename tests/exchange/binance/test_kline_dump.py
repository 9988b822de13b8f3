"""Klines from files in the form of the public dumps."""

from __future__ import annotations

import zipfile
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from bintrades.core.verification import Outcome, compare
from bintrades.errors import BintradesError
from bintrades.exchange.binance.kline_dump import KlineDump, open_dumps
from bintrades.model import Kline
from tests.kline_dumps import DAY_MS, HEADER, dump_name, dump_row, zipped
from tests.klines import MINUTE_MS, SECOND_MS, klines_of
from tests.recordings import real_folder
from tests.references import recorded_trades
from tests.strategies import INTERVAL, START, bars_of, make_trade

if TYPE_CHECKING:
    from pathlib import Path

BTC = "BTCUSDT"
TRADES = [make_trade(number, START + number * 1_700, price="1.5") for number in range(1, 200)]
KLINES = klines_of(TRADES, MINUTE_MS, START, START + 5 * MINUTE_MS)
ROWS = [dump_row(kline) for kline in KLINES]


def written(folder: Path, *lines: str, name: str = f"{BTC}-1m-2024-08-08.csv") -> Path:
    """Write a dump and return where it is."""
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def read(path: Path) -> list[Kline]:
    """Return all klines of one file."""
    return list(KlineDump.named(path).klines())


def problem(path: Path) -> str:
    """Return why a file is refused."""
    with pytest.raises(BintradesError) as refused:
        read(path)
    return str(refused.value)


def test_rows_are_klines_exactly(tmp_path: Path) -> None:
    assert read(written(tmp_path, *ROWS)) == KLINES


def test_a_header_an_empty_line_and_a_byte_order_mark_say_nothing(tmp_path: Path) -> None:
    assert read(written(tmp_path, "\ufeff" + HEADER, *ROWS, "")) == KLINES
    assert read(written(tmp_path, "\ufeff" + ROWS[0], *ROWS[1:])) == KLINES


def test_times_are_milliseconds_or_microseconds_row_by_row(tmp_path: Path) -> None:
    mixed = [dump_row(kline, per_ms=1_000 if at % 2 else 1) for at, kline in enumerate(KLINES)]

    assert read(written(tmp_path, *mixed)) == KLINES


def test_a_zip_has_one_csv_in_it(tmp_path: Path) -> None:
    path = zipped(written(tmp_path, HEADER, *ROWS))

    assert read(path) == KLINES
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other.csv", "")
    assert problem(path) == f"{path}: has 2 CSV files in it; allowed: one"


def test_trailing_zeros_do_not_matter_and_small_numbers_are_exact(tmp_path: Path) -> None:
    row = f"{START},1,1.0,1.00000000,1,0.00000001,{START + 59_999},0.10000000,1,0,0.000,0"

    (kline,) = read(written(tmp_path, row))

    assert kline == Kline(
        START,
        MINUTE_MS,
        Decimal(1),
        Decimal(1),
        Decimal(1),
        Decimal(1),
        Decimal("1E-8"),
        Decimal("0.1"),
        1,
        Decimal(0),
        Decimal(0),
    )


@pytest.mark.parametrize(
    ("name", "symbol", "interval_ms", "days"),
    [
        ("BTCUSDT-1s-2024-08-08.csv", BTC, SECOND_MS, 1),
        ("BTCUSDT-1m-2024-08.zip", BTC, MINUTE_MS, 31),
        ("币安人生USDT-12h-2024-02-29.csv", "币安人生USDT", 12 * 3_600_000, 1),
        ("BTCUSDT_240927-1d-2024-12.csv", "BTCUSDT_240927", DAY_MS, 31),
    ],
)
def test_the_name_says_what_is_in_it(
    tmp_path: Path, name: str, symbol: str, interval_ms: int, days: int
) -> None:
    dump = KlineDump.named(tmp_path / name)

    assert (dump.symbol, dump.interval_ms) == (symbol, interval_ms)
    assert dump.until_ms - dump.since_ms == days * DAY_MS


@pytest.mark.parametrize(
    "name",
    [
        "BTCUSDT-2m-2024-08-08.csv",
        "BTCUSDT-1m.csv",
        "BTCUSDT-1m-2024-08-08.txt",
        "BTCUSDT-1w-2024-08.csv",
        "part-00000-1-c000.zip",
    ],
)
def test_a_name_that_says_too_little_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BintradesError, match="the name does not say what is in it; allowed: SYM"):
        KlineDump.named(tmp_path / name)


def test_a_day_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BintradesError, match="the name has no date"):
        KlineDump.named(tmp_path / "BTCUSDT-1m-2024-02-30.csv")


def _with(place: int, value: str) -> str:
    cells = ROWS[1].split(",")
    cells[place] = value
    return ",".join(cells)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1,2,3", "has 3 columns; allowed: 11 or more"),
        (_with(0, "yesterday"), "'yesterday' is no time in milliseconds or microseconds"),
        (_with(0, str(START + 1)), "which the name of the file does not allow"),
        (_with(0, str(START + DAY_MS)), "which the name of the file does not allow"),
        (_with(0, f"{START + MINUTE_MS}001"), "is no whole millisecond"),
        (ROWS[0], "not after the one before"),
        (_with(1, "1e5"), "'1e5' is no price, quantity or value"),
        (_with(5, "-1"), "'-1' is no price, quantity or value"),
        (_with(7, "NaN"), "'NaN' is no price, quantity or value"),
        (_with(8, "1.0"), "'1.0' is no count of trades"),
        (_with(10, ""), "'' is no price, quantity or value"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_line(tmp_path: Path, line: str, reason: str) -> None:
    path = written(tmp_path, HEADER, ROWS[0], line, *ROWS[2:])

    said = problem(path)

    assert said.startswith(f"{path}, line 3: ")
    assert reason in said


def test_what_is_no_text_or_no_zip_is_refused_by_name(tmp_path: Path) -> None:
    path = written(tmp_path, *ROWS)
    path.write_bytes(path.read_bytes() + b"\xff\xfe\n")
    assert f"{path}, after line " in problem(path)
    archive = tmp_path / f"{BTC}-1m-2024-08-08.zip"
    archive.write_bytes(b"not a zip")
    assert problem(archive) == f"{archive}: cannot be read: File is not a zip file"
    missing = tmp_path / f"{BTC}-1m-2024-08-09.csv"
    assert str(missing) in problem(missing)
    with pytest.raises(BintradesError, match="there is no such file"):
        open_dumps([missing])


def test_a_zip_that_is_cut_is_refused(tmp_path: Path) -> None:
    path = zipped(written(tmp_path, *ROWS))
    content = bytearray(path.read_bytes())
    content[60:200] = bytes(140)
    path.write_bytes(content)

    assert problem(path).startswith(str(path))


def test_files_are_told_apart_by_symbol_and_interval_and_read_as_one(tmp_path: Path) -> None:
    next_day = klines_of([], MINUTE_MS, START + DAY_MS, START + DAY_MS + 3 * MINUTE_MS)
    paths = [
        written(tmp_path, *map(dump_row, next_day), name=f"{BTC}-1m-2024-08-09.csv"),
        written(tmp_path, *ROWS),
        written(tmp_path, name=f"{BTC}-1s-2024-08-08.csv"),
        written(tmp_path, *ROWS[:1], name="ETHUSDT-1m-2024-08.csv"),
    ]

    btc_1s, btc_1m, eth = open_dumps(paths)

    assert (btc_1s.symbol, btc_1s.interval_ms, btc_1s.spans) == (
        BTC,
        SECOND_MS,
        [(START, START + DAY_MS)],
    )
    assert btc_1m.spans == [(START, START + 2 * DAY_MS)]
    assert eth.symbol == "ETHUSDT"
    everything = btc_1m.klines(BTC, MINUTE_MS, START, START + 2 * DAY_MS)
    assert everything == [*KLINES, *next_day]


def test_pages_are_read_forwards_and_again(tmp_path: Path) -> None:
    (dumps,) = open_dumps([written(tmp_path, *ROWS)])

    def page(first: int, last: int) -> list[Kline]:
        return dumps.klines(BTC, MINUTE_MS, START + first * MINUTE_MS, START + last * MINUTE_MS)

    assert page(0, 2) == KLINES[:2]
    assert page(2, 3) == KLINES[2:3]
    assert page(4, 9) == KLINES[4:]
    assert page(1, 3) == KLINES[1:3]
    assert page(3, 3) == []


def test_of_a_kline_that_two_files_have_one_is_read(tmp_path: Path) -> None:
    (dumps,) = open_dumps(
        [written(tmp_path, *ROWS), written(tmp_path, *ROWS, name=f"{BTC}-1m-2024-08.csv")]
    )

    assert dumps.klines(BTC, MINUTE_MS, 0, START + DAY_MS) == KLINES


def test_the_name_of_a_dump_is_that_of_its_day() -> None:
    assert dump_name(BTC, MINUTE_MS, START) == f"{BTC}-1m-2024-08-08"


@pytest.mark.parametrize("symbol", [BTC, "ETHUSDT"])
def test_bars_of_recorded_trades_are_the_klines_of_the_exchange_itself(
    tmp_path: Path, symbol: str
) -> None:
    folder = real_folder()
    if folder is None:
        pytest.skip("nobody has put the real recording here")
    recorded = folder.parent / "usdm_20240808"
    (csv,) = recorded.glob(f"usdm_{symbol}_1m_*.csv")
    path = written(tmp_path, *csv.read_text().splitlines(), name=f"{symbol}-1m-2024-08.csv")
    trades = recorded_trades(sorted(recorded.glob(f"usdm_{symbol.lower()}_*.trades.gz")))
    (dumps,) = open_dumps([path])
    first = min(trade.time for trade in trades) // MINUTE_MS * MINUTE_MS + MINUTE_MS
    last = max(trade.time for trade in trades) // MINUTE_MS * MINUTE_MS

    found = list(
        compare(
            symbol,
            sorted(bars_of(trades).values(), key=lambda bar: bar.open_time_ms),
            dumps.klines(symbol, MINUTE_MS, first, last),
            first,
            last,
            interval_ms=INTERVAL,
            kline_ms=MINUTE_MS,
            covered=((first, last),),
        )
    )

    assert len(found) >= 4
    assert {each.outcome for each in found} == {Outcome.EQUAL}
