"""`bintrades rejected`: which bars stores refused, and why, from the journal alone."""

from __future__ import annotations

import csv
import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from bintrades.cli.dispatch import main
from bintrades.core.write_batch import WriteBatch
from bintrades.journal.cursor import Cursor
from bintrades.journal.reader import JournalReader
from bintrades.model import utc
from bintrades.testing.bars import sample_bars
from bintrades.util.redaction import remember_secrets
from tests.journals import NOW, by_key, journal_at

if TYPE_CHECKING:
    from pathlib import Path

BARS = sample_bars(2_500)


@pytest.fixture
def ini(tmp_path: Path) -> Path:
    """Return a configuration of a journal of which two stores have refused bars."""
    path = tmp_path / "b.ini"
    path.write_text("[journal]\npath = bars.journal\n[stores]\nenabled = mongodb, jsonl\n")
    journal = tmp_path / "bars.journal"
    with journal_at(journal) as writer:
        writer.write(WriteBatch(finished=by_key(BARS)), NOW)
    refuse(journal, "mongodb", {0: "too large", 2: 'has a "quote",\nand a line end'})
    refuse(journal, "gone", {1: "not with h!dden"})
    return path


def refuse(journal: Path, store: str, reasons: dict[int, str]) -> None:
    cursor = Cursor(journal, store)
    bars, sequence = cursor.next_bars(len(BARS))
    cursor.move(sequence, bars, [(bars[place], reason) for place, reason in reasons.items()])


def shown(capsys: pytest.CaptureFixture[str], ini: Path, *words: str) -> str:
    assert main(["rejected", *words, "--config", str(ini)]) == 0
    return capsys.readouterr().out


def test_refused_bars_are_listed_by_store_with_the_reason_and_when(
    ini: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head, _, gone, first, second = shown(capsys, ini).splitlines()

    assert head.split()[:3] == ["store", "market", "symbol"]
    assert gone.split()[:3] == ["gone", "spot", "BTCUSDT"]
    assert first.endswith("too large")
    assert f"{utc(BARS[0].open_time_ms):%Y-%m-%d %H:%M:%S}  " in first
    assert second.endswith(r'has a "quote",\nand a line end')


def test_of_one_store_for_programs(ini: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = json.loads(shown(capsys, ini, "mongodb", "--json"))

    assert first.pop("refused_at") <= second.pop("refused_at")
    assert first == {
        "store": "mongodb",
        "market": "spot",
        "symbol": "BTCUSDT",
        "open_time": BARS[0].open_time.isoformat(),
        "reason": "too large",
        "is_to_be_resent": False,
    }
    text = shown(capsys, ini, "mongodb", "--csv")
    rows = list(csv.DictReader(text.splitlines(keepends=True)))
    assert [row["reason"] for row in rows] == ["too large", 'has a "quote",\nand a line end']


def test_what_is_to_be_sent_again_is_marked(ini: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert JournalReader(ini.parent / "bars.journal").resend("mongodb") == 2

    (*_, first, second) = shown(capsys, ini, "mongodb").splitlines()

    assert f"{utc(BARS[0].open_time_ms):%Y-%m-%d %H:%M:%S}+ " in first
    assert f"{utc(BARS[2].open_time_ms):%Y-%m-%d %H:%M:%S}+ " in second


def test_where_no_bar_was_refused_that_is_said(
    ini: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shown(capsys, ini, "jsonl") == "no store has refused a bar\n"
    assert json.loads(shown(capsys, ini, "jsonl", "--json")) == []


def test_a_store_that_is_not_known_is_refused_with_a_suggestion(
    ini: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rejected", "mongo", "--config", str(ini)]) == 2
    assert "did you mean 'mongodb'?; known: gone, jsonl, mongodb" in capsys.readouterr().err


def test_however_many_there_are_they_are_read_page_by_page_each_once(
    ini: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refuse(ini.parent / "bars.journal", "all", dict.fromkeys(range(len(BARS)), "no"))
    before = json.loads(shown(capsys, ini, "all", "--json"))
    JournalReader(ini.parent / "bars.journal").resend("all")
    after = json.loads(shown(capsys, ini, "all", "--json"))

    for found in (before, after):
        assert [row["open_time"] for row in found] == [bar.open_time.isoformat() for bar in BARS]


def test_a_corrupt_row_hides_no_other(
    ini: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with closing(sqlite3.connect(ini.parent / "bars.journal")) as connection, connection:
        connection.execute("UPDATE rejected SET rejected_at = 'x' WHERE reason = 'too large'")

    (only,) = json.loads(shown(capsys, ini, "mongodb", "--json"))

    assert only["open_time"] == BARS[2].open_time.isoformat()
    assert "cannot be read" in caplog.text


def test_secrets_in_a_reason_are_hidden(ini: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = ini.read_text(encoding="utf-8") + "[store:jsonl]\nurl = mongodb://me:h!dden@db\n"
    ini.write_text(text, encoding="utf-8")
    try:
        assert "not with ***" in shown(capsys, ini, "gone")
    finally:
        remember_secrets(())
