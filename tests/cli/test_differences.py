"""What `bintrades differences` prints."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bintrades.cli.dispatch import main
from bintrades.core.audit_result import BarsAudited
from bintrades.core.write_batch import WriteBatch
from bintrades.model import DifferenceOutcome, RecordedDifference
from bintrades.testing.bars import OPEN_TIME_MS
from tests.journals import journal_at

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

FOUND = RecordedDifference(
    *("BTCUSDT", OPEN_TIME_MS, 10_000, "trade_count 2", "trade_count 3"),
    *(OPEN_TIME_MS + 400_000, OPEN_TIME_MS + 700_000),
)
OTHER = replace(FOUND, symbol="ETHUSDT", outcome=DifferenceOutcome.STAYS)


def printed(
    path: Path, capsys: pytest.CaptureFixture[str], *options: str, found: bool = True
) -> str:
    config = path.with_name("bintrades.ini")
    config.write_text(f"[journal]\npath = {path}\n")
    with journal_at(path) as journal:
        if found:
            audited = [BarsAudited(each.symbol, differences=(each,)) for each in (FOUND, OTHER)]
            journal.write(WriteBatch(audited=audited), OPEN_TIME_MS)
        assert main(["differences", *options, "--config", str(config)]) == 0
    return capsys.readouterr().out


def test_each_difference_is_a_row_with_both_sides(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header, _, first, second = printed(path, capsys).splitlines()

    assert header.split("  ")[0] == "outcome"
    assert first.split() == (
        ["open", "BTCUSDT", "2024-08-08", "00:00:00", "10", "trade_count", "2", "trade_count", "3"]
    )
    assert second.startswith("stays")


def test_programs_get_all_that_is_on_record(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(printed(path, capsys, "ethusdt", "--json"))

    assert rows == [
        {
            "outcome": "stays",
            "symbol": "ETHUSDT",
            "open_time": "2024-08-08T00:00:00+00:00",
            "interval_seconds": 10,
            "ours": "trade_count 2",
            "theirs": "trade_count 3",
            "found_at": "2024-08-08T00:06:40.000+00:00",
            "changed_at": "2024-08-08T00:11:40.000+00:00",
        }
    ]


def test_without_any_it_says_so(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(path, capsys, found=False) == "no differences\n"
    assert json.loads(printed(path, capsys, "--json", found=False)) == []
