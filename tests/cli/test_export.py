"""What `bintrades export` writes: exactly the bars that there are, in any form, in flat memory."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from bintrades import arrow
from bintrades.cli import main
from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.model import Gap, GapCause
from bintrades.testing.bars import OPEN_TIME_MS, sample_bars
from tests.checkout import REPOSITORY
from tests.engines import need_package
from tests.journals import by_key, journal_at, stored

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bintrades.model import Bar

GAP = Gap(5, 6, OPEN_TIME_MS + 605_000, OPEN_TIME_MS + 608_000, GapCause.RECONNECT)
"""In the 61st bar of those of BTCUSDT."""

PLUGIN = """
from bintrades import hookimpl
from bintrades.testing.bars import sample_bars

@hookimpl
def store_bars(bars): pass

@hookimpl
def read_bars(symbol, since, until):
    for bar in sample_bars(3, symbol=symbol):
        if since <= bar.open_time < until:
            yield bar
"""


def fill(path: Path, bars: dict[str, list[Bar]], *gaps: Gap) -> None:
    """Write a journal, of which all is proven but for *gaps* of BTCUSDT."""
    with journal_at(path) as journal:
        for symbol, some in bars.items():
            closed = [bar for bar in some if bar.is_closed]
            end_ms = closed[-1].end_time_ms
            saved = Checkpoint(
                LedgerState(10**7, end_ms, gaps if symbol == "BTCUSDT" else ()),
                tuple(bar for bar in some if not bar.is_closed),
                closed_through=closed[-1].open_time_ms,
                proven_ms=end_ms,
                covered_since_ms=OPEN_TIME_MS,
            )
            batch = WriteBatch(finished=by_key(closed), checkpoints={symbol: saved})
            journal.write(batch, OPEN_TIME_MS)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return the configuration of a journal of two symbols, and of a store that can be read."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "shelf.py").write_text(PLUGIN, encoding="utf-8")
    path = tmp_path / "bintrades.ini"
    path.write_text(
        "[journal]\npath = a.journal\n[plugins]\npath = plugins\n[stores]\nenabled = shelf\n",
        encoding="utf-8",
    )
    btc, eth = sample_bars(360), sample_bars(181, symbol="ETHUSDT")
    btc[5] = replace(btc[5], value=Decimal("12345678901234567890.123456789012345678"))
    eth[-1] = replace(eth[-1], is_closed=False)
    fill(tmp_path / "a.journal", {"ETHUSDT": eth, "BTCUSDT": btc}, GAP)
    return path


class Exported:
    """Runs the command, and says what it has said."""

    def __init__(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._config = config
        self._capsys = capsys
        self.err = ""

    def __call__(self, *arguments: str, to: str = "") -> Path:
        """Write a file beside the configuration and return its path."""
        path = self._config.with_name(to)
        status = self.run(*arguments, "--to", str(path))
        assert status == 0, self.err
        return path

    def run(self, *arguments: str) -> int:
        """Return the exit status."""
        status = main(["export", *arguments, "--config", str(self._config)])
        out, self.err = self._capsys.readouterr()
        assert out == ""
        return status


@pytest.fixture
def export(config: Path, capsys: pytest.CaptureFixture[str]) -> Exported:
    """Return what runs the command."""
    return Exported(config, capsys)


def closed_bars(config: Path) -> list[Bar]:
    """Return what an export of everything has."""
    path = config.with_name("a.journal")
    return [bar for name in ("BTCUSDT", "ETHUSDT") for bar in stored(path, name) if bar.is_closed]


def files(folder: Path) -> set[str]:
    """Return what is in a folder but for what belongs to the journal."""
    return {path.name for path in folder.iterdir() if not path.name.startswith("a.journal")}


def rows_of(path: Path) -> Any:
    """Return the table in a Parquet file."""
    import pyarrow.parquet

    return pyarrow.parquet.read_table(path)


def test_parquet_has_every_closed_bar_exactly_sorted_and_says_so(
    config: Path, export: Exported
) -> None:
    import pyarrow.parquet

    path = export("ethusdt", "BTCUSDT", to="bars.parquet")

    assert list(arrow.bars_of(rows_of(path))) == closed_bars(config)
    file = pyarrow.parquet.ParquetFile(path)
    assert file.schema_arrow.equals(arrow.schema("spot"))
    metadata = file.schema_arrow.metadata
    assert metadata[b"bintrades:interval_seconds"] == b"10"
    assert metadata.items() >= arrow.schema("spot").metadata.items()
    group = file.metadata.row_group(0)
    assert [file.schema.column(each.column_index).name for each in group.sorting_columns] == [
        "symbol",
        "open_time",
    ]
    assert group.column(0).compression == "ZSTD"
    assert export.err == (
        f"{path}: 540 bars of 2 of 2 symbols, 1 not proven to be whole; 1 holes, 10s in all:"
        " `bintrades coverage` lists them\n"
    )


def test_many_bars_become_several_row_groups(
    export: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.parquet

    monkeypatch.setattr("bintrades.cli.export_form._GROUP_ROWS", 200)
    monkeypatch.setattr("bintrades.cli.export_form._BATCH_ROWS", 100)

    file = pyarrow.parquet.ParquetFile(export("*", to="bars.parquet"))

    groups = [file.metadata.row_group(each).num_rows for each in range(file.num_row_groups)]
    assert groups == [200, 200, 140]


@pytest.mark.parametrize("ending", ["csv", "ndjson"])
def test_text_is_what_the_command_bars_prints(
    config: Path, export: Exported, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    since = ["--since", "2024-08-08", "--until", "2024-08-08T00:30"]
    assert main(["bars", "*", *since, "--format", ending, "--config", str(config)]) == 0
    printed = capsys.readouterr().out

    path = export("*", *since, to=f"bars.{ending}")

    assert path.read_text() == printed
    assert len(printed.splitlines()) == 360 + (ending == "csv")


@pytest.mark.parametrize("ending", ["csv.gz", "csv.zst", "ndjson.gz", "jsonl.zst"])
def test_text_may_be_compressed(export: Exported, ending: str) -> None:
    import pyarrow

    packed = export("BTCUSDT", to=f"packed.{ending}")
    form = "csv" if "csv" in ending else "ndjson"
    plain = export("BTCUSDT", to=f"plain.{form}").read_bytes()

    if ending.endswith("gz"):
        assert gzip.decompress(packed.read_bytes()) == plain
    else:
        with pyarrow.CompressedInputStream(str(packed), "zstd") as file:
            assert file.read() == plain
    assert packed.stat().st_size < len(plain) // 5


def test_longer_bars_have_what_is_missing_of_them(export: Exported) -> None:
    path = export("*", "--interval", "15m", to="bars.parquet")
    text = export("*", "--interval", "15m", to="bars.ndjson").read_text()

    rows = rows_of(path).to_pylist()
    lines = [json.loads(line) for line in text.splitlines()]
    assert len(rows) == len(lines) == 6
    assert [row["covered_seconds"] for row in rows] == [890, *[900] * 5]
    assert [line["covered_seconds"] for line in lines] == [890, *[900] * 5]
    assert [len(row["missing"]) for row in rows] == [1, *[0] * 5]
    assert [str(row["value"].normalize()) for row in rows][4:] == ["14877.000000000000009"] * 2
    assert [line["value"] for line in lines][4:] == ["14877.000000000000009"] * 2
    assert "1 not proven to be whole; 1 holes, 10s in all" in export.err


def test_a_longer_bar_that_is_not_over_is_left_out(export: Exported) -> None:
    text = export("BTCUSDT", "--interval", "40m", to="bars.ndjson").read_text()

    assert [json.loads(line)["open_time"][11:16] for line in text.splitlines()] == ["00:00"]


def test_a_value_that_does_not_fit_is_refused_by_name_and_no_file_is_there(
    config: Path, export: Exported
) -> None:
    bar = sample_bars(1, symbol="BIGUSDT", quantity=Decimal("1E+25"))
    fill(config.with_name("a.journal"), {"BIGUSDT": bar})
    before = files(config.parent)

    assert export.run("BIGUSDT", "--to", str(config.with_name("big.parquet"))) == 1

    assert "1 bars do not fit: BIGUSDT 2024-08-08 00:00:00+00:00: quantity 1E+25" in export.err
    assert files(config.parent) == before


def test_time_without_bars_makes_a_file_with_a_header(export: Exported) -> None:
    time = ["--since", "2020-01-01", "--until", "2020-01-02"]

    assert export("BTCUSDT", *time, to="none.csv").read_text().startswith("symbol,market,")
    assert rows_of(export("BTCUSDT", *time, to="none.parquet")).num_rows == 0
    assert ": 0 bars of BTCUSDT, 0 not proven to be whole; 1 holes, 1d in all" in export.err


@pytest.mark.parametrize("time", [["--since", "2030-01-01"], ["--until", "2020-01-01"]])
def test_time_of_which_nothing_is_known_is_not_said_to_have_no_holes(
    export: Exported, time: list[str]
) -> None:
    export("BTCUSDT", *time, to="none.csv")

    assert ": 0 bars of BTCUSDT" in export.err
    assert "; nothing of that time is proven" in export.err


def test_a_store_that_can_be_read_is_exported_as_well(export: Exported) -> None:
    path = export("BTCUSDT", "NEWUSDT", "--store", "shelf", to="bars.parquet")

    found = list(arrow.bars_of(rows_of(path)))
    assert [(bar.symbol, bar.open_time_ms) for bar in found[-3:]] == [
        ("NEWUSDT", OPEN_TIME_MS + each) for each in (0, 10_000, 20_000)
    ]


def test_a_store_is_exported_without_a_journal_too(config: Path, export: Exported) -> None:
    for file in config.parent.glob("a.journal*"):
        file.unlink()

    path = export("BTCUSDT", "--store", "shelf", to="bars.csv")

    assert len(path.read_text().splitlines()) == 4
    assert export.err == (
        f"{path}: 3 bars of BTCUSDT, 0 not proven to be whole; whether there are holes nobody knows"
        " without a journal\n"
    )
    assert export.run("*", "--store", "shelf", "--to", str(path.with_name("all.csv"))) == 1
    assert "name the symbols: there is no journal" in export.err


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["BTCUSDT", "--to", "bars.xlsx"], 2, "its ending says no form; known are .parquet, .csv"),
        (["BTCUSDT", "--to", "bars"], 2, "its ending says no form"),
        (["BTCUSDT", "--to", "a.parquet.gz"], 2, "parquet is compressed in itself; leave .gz out"),
        (["BTCUSDT", "--to", "-"], 2, "--to - needs --format: parquet, csv, ndjson"),
        (["*USDC", "--to", "a.csv"], 1, "*USDC: the journal has no bars of it; it has: BTCUSDT"),
        (["BTCUDST", "--to", "a.csv"], 1, "no trade of it was ever seen; did you mean 'BTCUSDT'?"),
        (["BTCUSDT", "--to", "a.csv", "--interval", "7s"], 2, "7s is no multiple of 10s"),
        (["BTCUSDT", "--to", "a.csv", "--store", "shell"], 2, "did you mean 'shelf'?"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(
    export: Exported,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    status: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = files(tmp_path)

    assert export.run(*arguments) == status

    assert said in export.err
    assert files(tmp_path) == before


def test_a_file_that_is_there_stays_unless_it_is_to_be_replaced(export: Exported) -> None:
    path = export("BTCUSDT", to="bars.csv")

    assert export.run("ETHUSDT", "--to", str(path)) == 1
    assert export.err == f"bintrades: {path}: is there already; --force replaces it\n"
    export("ETHUSDT", "--force", to="bars.csv")
    assert "BTCUSDT" not in path.read_text()


PROGRAM = """
import sys
from pathlib import Path
sys.modules.update(dict.fromkeys({hidden}))
from bintrades.cli import export_form, main
export_form._GROUP_ROWS = export_form._BATCH_ROWS = 1_000
status = main({arguments})
if Path("/proc/self/status").exists():
    print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0], file=sys.stderr)
sys.exit(status)
"""


def process(
    config: Path, *arguments: str, hidden: Sequence[str] = ()
) -> subprocess.CompletedProcess[bytes]:
    """Run the command as a process, without *hidden* modules; its memory is the last line."""
    words = ["export", *arguments, "--config", str(config)]
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(arguments=words, hidden=list(hidden))],
        capture_output=True,
        cwd=REPOSITORY,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_ten_times_as_many_bars_need_no_more_memory(tmp_path: Path, form: str) -> None:
    need_package("pyarrow")
    if not Path("/proc/self/status").exists():
        pytest.skip("nothing says here how much memory a process had at the most")
    peaks = []
    for count in (2_000, 20_000):
        config = tmp_path / f"{count}.ini"
        config.write_text(f"[journal]\npath = {count}.journal\n[stores]\nenabled =\n")
        fill(tmp_path / f"{count}.journal", {"BTCUSDT": sample_bars(count)})
        ended = process(config, "BTCUSDT", "--to", str(tmp_path / f"{count}.{form}"))
        assert ended.returncode == 0, ended.stderr
        peaks.append(int(ended.stderr.splitlines()[-1]))

    assert peaks[1] < peaks[0] + 15_000, "KiB"


def test_text_needs_no_pyarrow_and_what_does_says_how_to_have_it(
    config: Path, tmp_path: Path
) -> None:
    for ending in ("csv", "csv.gz", "ndjson"):
        to = str(tmp_path / f"bars.{ending}")
        assert process(config, "BTCUSDT", "--to", to, hidden=["pyarrow"]).returncode == 0
    for ending, what in (("parquet", "parquet"), ("csv.zst", "a file that ends with .zst")):
        to = str(tmp_path / f"bars.{ending}")
        ended = process(config, "BTCUSDT", "--to", to, hidden=["pyarrow"])
        assert ended.returncode == 1
        assert f"export to {what} needs pyarrow, which is not installed:" in ended.stderr.decode()
        assert "[arrow]'" in ended.stderr.decode()


def test_stdout_is_written_to_as_bars_are_read(config: Path) -> None:
    import pyarrow.parquet

    text = process(config, "ETHUSDT", "--to", "-", "--format", "csv")
    table = process(config, "ETHUSDT", "--to", "-", "--format", "parquet")

    assert len(text.stdout.splitlines()) == 181
    assert text.stderr.startswith(b"stdout: 180 bars of ETHUSDT, 0 not proven to be whole; no hol")
    assert pyarrow.parquet.read_table(io.BytesIO(table.stdout)).num_rows == 180


def test_a_reader_that_has_seen_enough_is_no_failure(config: Path) -> None:
    words = ["export", "*", "--to", "-", "--format", "csv", "--config", str(config)]
    with subprocess.Popen(
        [sys.executable, "-m", "bintrades", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=REPOSITORY,
    ) as running:
        assert running.stdout
        with contextlib.closing(running.stdout):
            running.stdout.read(10)

        assert running.wait(60) == 0
        assert running.stderr
        assert b"Traceback" not in running.stderr.read()
