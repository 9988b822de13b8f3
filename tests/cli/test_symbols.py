"""`bintrades symbols`: what is collected, since when and why, from the journal alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from bintrades.cli.dispatch import main
from bintrades.core.write_batch import WriteBatch
from bintrades.model.symbol_record import LeftBecause, SymbolRecord
from tests.journals import journal_at

if TYPE_CHECKING:
    from pathlib import Path

    from bintrades.journal.writer import Journal

SINCE, LEFT = 1_723_075_200_000, 1_723_161_600_500
RECORDS = {
    "BTCUSDT": SymbolRecord(SINCE, "BTCUSDT", "TRADING"),
    "币安人生USDT": SymbolRecord(SINCE, "*USDT", "HALT", returned_ms=LEFT),
    "AOLDUSDT": SymbolRecord(
        SINCE, "*USDT", "BREAK", left_ms=LEFT, left_because=LeftBecause.DELISTED
    ),
}


@pytest.fixture
def ini(tmp_path: Path) -> Path:
    path = tmp_path / "b.ini"
    path.write_text("[journal]\npath = bars.journal\n[stores]\nenabled =\n")
    return path


def write(path: Path, records: dict[str, SymbolRecord]) -> None:
    with journal_at(path.parent / "bars.journal") as journal:
        journal.write(WriteBatch(symbols=records), SINCE)


def shown(capsys: pytest.CaptureFixture[str], ini: Path, *words: str) -> str:
    assert main(["symbols", *words, "--config", str(ini)]) == 0
    return capsys.readouterr().out


def test_the_table_has_what_is_collected_first_and_then_what_has_left(
    ini: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(ini, RECORDS)

    head, _, first, second, third = shown(capsys, ini).splitlines()

    assert head.split("  ")[0] == "symbol"
    assert first.split() == ["BTCUSDT", "collected", "TRADING", "2024-08-08", "00:00:00", "BTCUSDT"]
    assert second.split()[:3] == ["币安人生USDT", "collected", "HALT"]
    assert second.split()[-2:] == ["2024-08-09", "00:00:00"]
    assert "left: delisted" in third
    assert third.rstrip().endswith("2024-08-09 00:00:00")


def test_programs_get_every_field(ini: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(ini, RECORDS)

    rows = json.loads(shown(capsys, ini, "--json"))

    assert [row["symbol"] for row in rows] == ["BTCUSDT", "币安人生USDT", "AOLDUSDT"]
    assert rows[2] == {
        "symbol": "AOLDUSDT",
        "is_collected": False,
        "status": "BREAK",
        "since": "2024-08-08T00:00:00.000+00:00",
        "why": "*USDT",
        "returned": None,
        "left": "2024-08-09T00:00:00.500+00:00",
        "left_because": "delisted",
    }


def test_names_are_printed_a_line_each(ini: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(ini, {**RECORDS, "BAD\n\x1b[2J": RECORDS["BTCUSDT"]})

    names = shown(capsys, ini, "--names").splitlines()

    assert names == [r"BAD\n\x1b[2J", "BTCUSDT", "币安人生USDT", "AOLDUSDT"]


def test_nothing_on_record_is_said_as_well(ini: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(ini, {})

    assert shown(capsys, ini) == "no symbols yet\n"
    assert json.loads(shown(capsys, ini, "--json")) == []


def test_a_status_cannot_move_the_cursor(ini: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(ini, {"BTCUSDT": SymbolRecord(SINCE, "*", "x\x1b[2J\n")})

    assert "\x1b" not in shown(capsys, ini)


def test_a_record_is_a_row_of_its_own_and_an_invalid_one_is_forgotten(journal: Journal) -> None:
    journal.write(WriteBatch(symbols=RECORDS), SINCE)
    journal.write(WriteBatch(symbols={"BTCUSDT": RECORDS["AOLDUSDT"]}), SINCE)
    connection = journal._file.connection
    connection.execute("UPDATE facts SET value = '{' WHERE name = 'symbol AOLDUSDT'")

    found = journal.get_symbol_records()

    assert found.keys() == {"BTCUSDT", "币安人生USDT"}
    assert found["BTCUSDT"] == RECORDS["AOLDUSDT"]
