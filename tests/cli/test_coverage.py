"""What `bintrades coverage` prints."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from bintrades.cli.coverage_text import lasting, percent
from bintrades.cli.dispatch import main
from bintrades.core.audit_result import BarsAudited
from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.model import Gap, GapCause
from bintrades.testing.bars import OPEN_TIME_MS
from tests.journals import INTERVAL_MS, journal_at

if TYPE_CHECKING:
    from pathlib import Path

MINUTE = 60_000
GAPS = (
    Gap(5, 6, OPEN_TIME_MS + 3_605_000, OPEN_TIME_MS + 3_608_000, GapCause.RECONNECT),
    Gap(7, 8, OPEN_TIME_MS + 3_610_000, OPEN_TIME_MS + 3_611_000, GapCause.RESTART),
)
PROVEN = OPEN_TIME_MS + 7_203_000


@pytest.fixture
def config(path: Path) -> str:
    """Return the configuration of a journal with two hours of two symbols, one of them whole."""
    file = path.with_name("bintrades.ini")
    file.write_text(f"[journal]\npath = {path}\n")
    with journal_at(path) as journal:
        saved = {
            symbol: Checkpoint(
                LedgerState(1_000, OPEN_TIME_MS, gaps),
                closed_through=OPEN_TIME_MS,
                proven_ms=proven,
                covered_since_ms=OPEN_TIME_MS,
            )
            for symbol, gaps, proven in (
                ("BTCUSDT", GAPS, PROVEN),
                ("ETHUSDT", (), PROVEN - MINUTE),
                ("NEWUSDT", (), None),
            )
        }
        audited = BarsAudited("BTCUSDT", ((OPEN_TIME_MS, OPEN_TIME_MS + 30 * MINUTE),))
        journal.write(WriteBatch(checkpoints=saved, audited=[audited]), OPEN_TIME_MS)
    return str(file)


def table(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    _, rule, *lines = capsys.readouterr().out.splitlines()
    ends = [len(column) for column in rule.split("  ")]
    rows = []
    for line in lines:
        place, row = 0, []
        for width in ends:
            row.append(line[place : place + width].strip())
            place += width + 2
        rows.append(row)
    return rows


def as_json(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return rows


def test_spans_holes_and_what_is_not_proven_are_rows_by_time(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["coverage", "btcusdt", "--config", config]) == 0

    day = "2024-08-08"
    assert table(capsys) == [
        ["BTCUSDT", "covered", f"{day} 00:00:00", f"{day} 01:00:00", "1h", "", "50.000 %", ""],
        [
            *("BTCUSDT", "hole", f"{day} 01:00:00", f"{day} 01:00:20", "20s", "", ""),
            "open: reconnect; open: restart",
        ],
        [
            *("BTCUSDT", "covered", f"{day} 01:00:20", f"{day} 02:00:00", "59m 40s"),
            *("", "0.000 %", ""),
        ],
        ["BTCUSDT", "not proven yet", f"{day} 02:00:00", "", "", "", "", ""],
        [
            *("BTCUSDT", "in all", f"{day} 00:00:00", f"{day} 02:00:00", "2h"),
            *("99.722 %", "25.000 %", ""),
        ],
    ]


def test_programs_get_all_symbols_of_which_anything_is_proven(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["coverage", "--json", "--config", config]) == 0

    btc, eth = as_json(capsys)
    assert btc == {
        "symbol": "BTCUSDT",
        "since": "2024-08-08T00:00:00.000+00:00",
        "until": "2024-08-08T02:00:00.000+00:00",
        "covered_seconds": 7_180.0,
        "share": 7_180 / 7_200,
        "spans": [
            {
                "since": "2024-08-08T00:00:00.000+00:00",
                "until": "2024-08-08T01:00:00.000+00:00",
                "verified_seconds": 1_800.0,
            },
            {
                "since": "2024-08-08T01:00:20.000+00:00",
                "until": "2024-08-08T02:00:00.000+00:00",
                "verified_seconds": 0.0,
            },
        ],
        "holes": [
            {
                "since": "2024-08-08T01:00:00.000+00:00",
                "until": "2024-08-08T01:00:20.000+00:00",
                "causes": [
                    {"state": "open", "cause": "reconnect"},
                    {"state": "open", "cause": "restart"},
                ],
            }
        ],
        "unproven_since": "2024-08-08T02:00:00.000+00:00",
    }
    assert (eth["symbol"], eth["share"], eth["holes"]) == ("ETHUSDT", 1, [])


def test_a_part_of_it_is_shown_by_times_and_by_durations_before_the_newest_proof(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    since = "2024-08-08T01:00:10"
    assert main(["coverage", "--json", "--since", since, "--until", "30m", "--config", config]) == 0

    btc, eth = as_json(capsys)
    assert btc["since"] == eth["since"] == "2024-08-08T01:00:10.000+00:00"
    assert btc["until"] == "2024-08-08T01:30:03.000+00:00"
    assert btc["holes"][0]["since"] == "2024-08-08T01:00:10.000+00:00"
    assert btc["unproven_since"] is None


def test_of_a_symbol_of_which_nothing_is_proven_it_says_so(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["coverage", "NEWUSDT", "--config", config]) == 0
    assert capsys.readouterr().out == "nothing is proven yet\n"

    assert main(["coverage", "NEWUSDT", "--json", "--config", config]) == 0
    assert as_json(capsys) == []


def test_a_symbol_that_is_proven_to_have_had_no_trade_is_listed(
    config: str, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quiet = Checkpoint(LedgerState(None, None, ()), proven_ms=PROVEN, covered_since_ms=OPEN_TIME_MS)
    with journal_at(path) as journal:
        journal.write(WriteBatch(checkpoints={"QUIETUSDT": quiet}), OPEN_TIME_MS)

    assert main(["coverage", "--json", "--config", config]) == 0
    assert [each["symbol"] for each in as_json(capsys)] == ["BTCUSDT", "ETHUSDT", "QUIETUSDT"]

    assert main(["coverage", "quietusdt", "--json", "--config", config]) == 0
    assert as_json(capsys)[0]["share"] == 1

    assert main(["gaps", "quietusdt", "--config", config]) == 0


def test_what_begins_after_all_that_is_proven_claims_no_other_end_of_it(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    since = ("--since", "2030-01-01")
    assert main(["coverage", "BTCUSDT", "--json", *since, "--config", config]) == 0
    (btc,) = as_json(capsys)
    assert (btc["spans"], btc["share"]) == ([], None)
    assert btc["unproven_since"] == "2024-08-08T02:00:00.000+00:00"

    assert main(["coverage", "BTCUSDT", *since, "--config", config]) == 0
    unproven = ["BTCUSDT", "not proven yet", "2024-08-08 02:00:00"]
    assert [row[:3] for row in table(capsys)] == [unproven]


@pytest.mark.parametrize("until", ["2024-08-08T00:05", "2024-08-08T00:01", "10h"])
def test_times_that_are_no_span_are_a_bad_command_line(
    config: str, until: str, capsys: pytest.CaptureFixture[str]
) -> None:
    times = ("--since", "2024-08-08T00:05", "--until", until)
    assert main(["coverage", *times, "--config", config]) == 2
    assert "--since must be before --until" in capsys.readouterr().err


def test_a_symbol_that_was_never_seen_is_a_failure(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["coverage", "NONEUSDT", "--config", config]) == 1
    assert "NONEUSDT: no trade of it was ever seen" in capsys.readouterr().err


def test_shares_are_rounded_down_so_that_only_all_of_it_is_100_percent() -> None:
    assert percent(10**9 - 1, 10**9) == "99.999 %"
    assert percent(10**9, 10**9) == "100.000 %"
    assert percent(0, 0) == "0.000 %"


def test_durations_are_for_people() -> None:
    assert lasting(2 * 86_400_000 + 3 * 3_600_000 + INTERVAL_MS) == "2d 3h 10s"
    assert lasting(0) == "0s"
