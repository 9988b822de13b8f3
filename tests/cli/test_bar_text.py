"""Bars as CSV and JSON: the text of Bar.as_dict(), however many there are."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bintrades.cli.bar_text import (
    FORMS,
    bar_table,
    csv_pieces,
    json_pieces,
    longer_row,
    ndjson_pieces,
)
from bintrades.core.ledger import LedgerState
from bintrades.core.resample import LongerBar
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.errors import JournalError
from bintrades.journal.rows import bar_from_row, bar_row, stored_row
from bintrades.testing.bars import OPEN_TIME_MS, sample_bar, sample_bars
from bintrades.util.text import as_json
from tests.checkout import REPOSITORY
from tests.journals import INTERVAL_MS, by_key, journal_at, with_proof

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bintrades.journal.writer import Journal
    from bintrades.model import Bar


def published(bar: Bar) -> dict[str, Any]:
    """Return the fields of *bar* with decimals and times as text, by way of as_dict()."""
    return {
        name: value
        if isinstance(value, (int, str))
        else format(value, "f")
        if isinstance(value, Decimal)
        else value.isoformat(timespec="milliseconds")
        for name, value in bar.as_dict().items()
    }


def slow_json(bars: Sequence[Bar]) -> str:
    return as_json(list(map(published, bars)), indent=1) + "\n"


def slow_csv(bars: Sequence[Bar]) -> str:
    text = io.StringIO()
    rows = [
        {
            name: str(value).lower() if isinstance(value, bool) else value
            for name, value in published(bar).items()
        }
        for bar in bars
    ]
    writer = csv.DictWriter(text, rows[0] if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


numbers = st.decimals(min_value=0, max_value=10**20, places=20) | st.sampled_from(
    [Decimal(text) for text in ("0", "0.00", "1E+5", "1.50E-12", "100", "0E-8", "5E-324", "0.10")]
)
amounts = numbers.filter(bool)
times = st.integers(0, 4 * 10**12)
ids = st.integers(0, 2**63 - 1)
bars = st.builds(
    sample_bar,
    symbol=st.sampled_from(["BTCUSDT", "币安人生USDT", 'A"B\\C', "A,B", "A\nB", "%s", "A\x1b[2J"]),
    open_time_ms=st.integers(0, 4 * 10**8).map(lambda index: index * INTERVAL_MS),
    trade_count=ids,
    buy_count=ids,
    quantity=amounts,
    buy_quantity=numbers,
    value=numbers,
    buy_value=numbers,
    open_price=numbers,
    close_price=numbers,
    min_price=numbers,
    max_price=numbers,
    first_trade_id=ids,
    last_trade_id=ids,
    epoch=st.integers(0, 2**31 - 1),
    first_trade_time_ms=times,
    last_trade_time_ms=times,
    is_closed=st.booleans(),
    is_complete=st.booleans(),
)


@given(st.lists(st.lists(bars, max_size=3), max_size=3), st.sampled_from(["spot", 'o"d', "a,b"]))
def test_the_text_is_that_of_the_published_fields_to_the_last_byte(
    parts: list[list[Bar]], market: str
) -> None:
    pages = [
        [bar_row(bar, bar.updated_at_ms, is_complete=bar.is_complete) for bar in part]
        for part in parts
    ]
    read = [bar_from_row(row, market, INTERVAL_MS) for page in pages for row in page]
    filled = [page for page in pages if page]  # as a reader gives them

    assert "".join(json_pieces(filled, market, INTERVAL_MS)) == slow_json(read)
    assert "".join(csv_pieces(filled, market, INTERVAL_MS)) == slow_csv(read)
    lines = "".join(as_json(published(bar)) + "\n" for bar in read)
    assert "".join(ndjson_pieces(filled, market, INTERVAL_MS)) == lines


HALF_MISSING = LongerBar(
    sample_bar(interval_ms=60_000, is_complete=False),
    ((OPEN_TIME_MS, OPEN_TIME_MS + 10_000), (OPEN_TIME_MS + 40_000, OPEN_TIME_MS + 60_000)),
)


def test_of_a_longer_bar_every_form_says_how_much_of_it_is_proven() -> None:
    pages = [[longer_row(HALF_MISSING)], [longer_row(LongerBar(HALF_MISSING.bar))]]
    spans = [
        ("2024-08-08T00:00:00.000+00:00", "2024-08-08T00:00:10.000+00:00"),
        ("2024-08-08T00:00:40.000+00:00", "2024-08-08T00:01:00.000+00:00"),
    ]
    text = {
        form: "".join(pieces(pages, "spot", 60_000, is_longer=True))
        for form, pieces in FORMS.items()
    }

    part, whole = csv.DictReader(io.StringIO(text["csv"]))
    assert part["covered_seconds"] == "30"
    assert part["missing"] == ";".join(map("/".join, spans))
    assert (whole["covered_seconds"], whole["missing"]) == ("60", "")
    part, whole = json.loads(text["json"])
    assert part["interval_seconds"] == 60
    assert part["covered_seconds"] == 30
    assert part["missing"] == [{"since": since, "until": until} for since, until in spans]
    assert whole["missing"] == []
    assert [json.loads(line) for line in text["ndjson"].splitlines()] == [part, whole]
    _head, _rule, *lines = text["table"].splitlines()
    assert [line.split()[-2:] for line in lines] == [["50.0", "%"], ["100.0", "%"]]


def test_a_table_of_several_symbols_names_them_and_marks_what_was_amended() -> None:
    rows = [stored_row(sample_bar()), stored_row(sample_bar(symbol="币安人生USDT", version=2))]

    head, _rule, first, second = "".join(
        bar_table([rows], "spot", INTERVAL_MS, has_symbol=True, marks_amended=True)
    ).splitlines()

    assert head.split()[:3] == ["symbol", "open", "time"]
    assert first.split()[0] == "BTCUSDT"
    assert first.split()[-1] == "3700000000-3700000002"
    assert second.split()[0] == "币安人生USDT"
    assert second.split()[-1] == "amended"


@pytest.mark.parametrize("field", [8, 12, 6, 18])
@pytest.mark.parametrize("pieces", FORMS.values())
def test_a_row_that_cannot_be_read_is_an_error_that_names_its_bar(field: int, pieces: Any) -> None:
    row = list(bar_row(sample_bar(), 0, is_complete=True))
    row[field] = "12x4"

    said = f"BTCUSDT that opens at {OPEN_TIME_MS} cannot be read: .* takes it out and fetches"
    with pytest.raises(JournalError, match=said):
        list(pieces([[tuple(row)]], "spot", INTERVAL_MS))


def config_with(folder: Path, count: int) -> Path:
    """Return the configuration of a collector whose journal has so many bars of BTCUSDT."""
    config = folder / f"{count}.ini"
    config.write_text(f"[stores]\nenabled =\n[journal]\npath = {count}.journal\n", encoding="utf-8")
    with journal_at(folder / f"{count}.journal") as journal:
        fill(journal, count)
    return config


def fill(journal: Journal, count: int) -> None:
    rows = sample_bars(count)
    closed_through = rows[-1].open_time_ms
    state = LedgerState(3 * count + 1, closed_through + 9_999, ())
    checkpoint = with_proof(Checkpoint(state, (), closed_through), rows[-1:])
    journal.write(WriteBatch(finished=by_key(rows), checkpoints={"BTCUSDT": checkpoint}), 0)


def command(config: Path, form: str, *, code: str = "") -> subprocess.Popen[str]:
    """Start `bintrades bars` with all bars, after *code*."""
    arguments = ["bars", "BTCUSDT", "--config", str(config), "--last", "9999d", "--format", form]
    program = f"""
from bintrades.cli import main
{textwrap.dedent(code)}
main({arguments})
"""
    program += "finish()\n" if code else ""
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )


PEAK = """
import sys, tracemalloc

def finish():
    print(tracemalloc.get_traced_memory()[1], file=sys.stderr)

tracemalloc.start()
"""


def count_of(form: str, text: str) -> int:
    """Return how many bars *text* has."""
    if form == "table":
        _head, rule, *lines = text.splitlines()
        assert set(rule) == {"-", " "}
        return len(lines)
    if form == "ndjson":
        return len([json.loads(line) for line in text.splitlines()])
    return len(list(csv.DictReader(io.StringIO(text))) if form == "csv" else json.loads(text))


@pytest.mark.parametrize("form", FORMS)
def test_many_bars_are_printed_in_the_memory_that_few_need(tmp_path: Path, form: str) -> None:
    peaks = {}
    for count in (2_000, 10_000):
        with command(config_with(tmp_path, count), form, code=PEAK) as process:
            out, said = process.communicate()
        assert process.returncode == 0, said
        assert count_of(form, out) == count
        peaks[count] = int(said)

    assert peaks[10_000] < peaks[2_000] + 1_000_000, "bytes"


@pytest.mark.parametrize("form", FORMS)
def test_the_first_bar_is_out_before_the_last_is_read_and_nobody_waits_for_its_reader(
    tmp_path: Path, form: str
) -> None:
    count = 20_000
    config = config_with(tmp_path, count)
    with command(config, form) as process:
        assert process.stdout
        beginning = process.stdout.readline() + process.stdout.readline()
        with closing(sqlite3.connect(config.with_suffix(".journal"))) as connection:
            last = OPEN_TIME_MS + INTERVAL_MS * (count - 1)
            with connection:
                connection.execute("DELETE FROM bars WHERE open_time = ?", (last,))
            # A reader that stops reading holds no transaction, or the log could not be emptied.
            (is_busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        text = beginning + process.stdout.read()

    assert not is_busy
    assert process.returncode == 0
    assert count_of(form, text) == count - 1, "what was deleted meanwhile was not read before"


def test_open_bars_stand_in_their_place_among_the_others_and_count(tmp_path: Path) -> None:
    half, more = (replace(bar, is_closed=False, trade_count=5) for bar in sample_bars(12)[10:])
    config = config_with(tmp_path, 10)
    with journal_at(tmp_path / "10.journal") as journal:
        earlier = replace(half, trade_count=2)
        state = LedgerState(40, OPEN_TIME_MS, ())
        journal.write(
            WriteBatch(
                finished=by_key([earlier]),
                checkpoints={"BTCUSDT": Checkpoint(state, (half, more), 0)},
            ),
            0,
        )

    with command(config, "json") as process:
        read = json.loads(process.communicate()[0])

    assert [(bar["trade_count"], bar["version"]) for bar in read[9:]] == [(3, 1), (5, 2), (5, 1)]
    assert [bar["is_complete"] for bar in read[9:]] == [True, False, False]
