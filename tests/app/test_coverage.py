"""Which share of the last hour and day the status says is covered."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from bintrades.app.coverage import BEHIND_MS, coverage_figures
from bintrades.app.monitoring.page_data import PageData
from bintrades.app.status import read_status
from bintrades.cli.status_text import format_status
from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.journal.reader import JournalReader
from bintrades.journal.writer import Journal
from bintrades.model import Gap, GapCause, utc
from bintrades.model.symbol_record import LeftBecause, SymbolRecord
from bintrades.testing.bars import OPEN_TIME_MS

if TYPE_CHECKING:
    from pathlib import Path

HOUR, DAY = 3_600_000, 86_400_000
UNTIL = OPEN_TIME_MS + 10 * DAY
NEWEST = UNTIL + BEHIND_MS


def gap(since: int, until: int, first_id: int = 5) -> Gap:
    return Gap(first_id, first_id, since, until - 1, GapCause.RECONNECT)


def saved(*gaps: Gap, proven: int | None = UNTIL, since: int = OPEN_TIME_MS) -> Checkpoint:
    return Checkpoint(
        LedgerState(1_000_000, OPEN_TIME_MS, gaps), proven_ms=proven, covered_since_ms=since
    )


def write(journal: Journal, **checkpoints: Checkpoint) -> None:
    journal.write(WriteBatch(checkpoints=checkpoints), OPEN_TIME_MS)


def test_before_anything_is_proven_there_is_no_share(journal: Journal, path: Path) -> None:
    write(journal, NEW=saved(proven=None))

    assert coverage_figures(JournalReader(path))["until"] is None
    assert "coverage" not in format_status(read_status(path, []))


def test_the_hour_and_the_day_end_some_minutes_before_the_newest_proof(
    journal: Journal, path: Path
) -> None:
    write(journal, BUSY=saved(proven=NEWEST), QUIET=saved(proven=UNTIL))

    assert coverage_figures(JournalReader(path)) == {
        "until": utc(UNTIL).isoformat(timespec="milliseconds"),
        "symbols": 2,
        "unproven_symbols": 0,
        "new_symbols": 0,
        "hour": {"share": 1.0, "worst": []},
        "day": {"share": 1.0, "worst": []},
    }
    shares = "coverage    100.00 % of the last hour, 100.00 % of the last day"
    assert f"{shares} before {utc(UNTIL):%F %T} UTC" in format_status(read_status(path, []))


@pytest.mark.parametrize("interval", [7_000, 10_000, 60_000, 90_000, 120_000, 150_000, 400_000])
@pytest.mark.parametrize("later", [0, 1, 3_999, 9_999, 61_500, 119_999])
def test_what_is_proven_only_once_a_minute_lacks_nothing_at_any_moment(
    tmp_path: Path, interval: int, later: int
) -> None:
    path = tmp_path / "journal"
    newest = UNTIL + later
    with closing(
        Journal(path, exchange="binance", market="spot", stream="trade", interval_ms=interval)
    ) as journal:
        write(journal, BUSY=saved(proven=newest), QUIET=saved(proven=newest - BEHIND_MS))

    found = coverage_figures(JournalReader(path))

    assert (found["hour"]["share"], found["day"]["share"]) == (1.0, 1.0)


@pytest.mark.parametrize("interval", [300_000, HOUR, DAY])
def test_of_long_bars_whole_ones_are_counted(tmp_path: Path, interval: int) -> None:
    path = tmp_path / "journal"
    newest = UNTIL - UNTIL % DAY + 10 * HOUR + 1_800_000
    with closing(
        Journal(path, exchange="binance", market="spot", stream="trade", interval_ms=interval)
    ) as journal:
        began = OPEN_TIME_MS - OPEN_TIME_MS % DAY
        write(journal, BUSY=saved(proven=newest, since=began))

    found = coverage_figures(JournalReader(path))

    assert (found["hour"]["share"], found["day"]["share"]) == (1.0, 1.0)


def test_what_lacks_most_is_named(journal: Journal, path: Path) -> None:
    write(
        journal,
        A=saved(proven=NEWEST),
        B=saved(gap(UNTIL - HOUR // 2, UNTIL)),
        C=saved(gap(UNTIL - DAY - HOUR, UNTIL - DAY // 2)),
        D=saved(gap(UNTIL - HOUR // 4, UNTIL)),
    )

    figures = coverage_figures(JournalReader(path))
    assert figures["hour"] == {
        "share": (1 + 0.5 + 1 + 0.75) / 4,
        "worst": [{"symbol": "B", "share": 0.5}, {"symbol": "D", "share": 0.75}],
    }
    assert [each["symbol"] for each in figures["day"]["worst"]] == ["C", "B", "D"]
    assert "; least of the day: C 50.00 %, B 97.91 %, D 98.95 %" in format_status(
        read_status(path, [])
    )


def test_time_before_a_symbol_was_collected_is_no_hole(journal: Journal, path: Path) -> None:
    old = {f"OLD{number}": saved(proven=NEWEST) for number in range(400)}
    write(journal, **old, NEW=saved(proven=NEWEST, since=UNTIL - 10_000))

    figures = coverage_figures(JournalReader(path))

    for window in ("hour", "day"):
        assert figures[window] == {"share": 1.0, "worst": []}
    assert (figures["symbols"], figures["new_symbols"]) == (401, 1)
    text = format_status(read_status(path, []))
    assert "; 1 of 401 symbols are collected for less than a day" in text


def test_of_a_new_symbol_counts_what_it_has_lost_since(journal: Journal, path: Path) -> None:
    lost = gap(UNTIL - HOUR // 12, UNTIL)
    write(journal, NEW=saved(lost, proven=NEWEST, since=UNTIL - HOUR // 3))

    figures = coverage_figures(JournalReader(path))

    assert figures["hour"] == {"share": 0.75, "worst": [{"symbol": "NEW", "share": 0.75}]}
    assert figures["day"] == figures["hour"]


def test_what_is_not_proven_up_to_the_end_is_lacking(journal: Journal, path: Path) -> None:
    late = UNTIL - HOUR // 8
    write(journal, FIRST=saved(proven=NEWEST), LATE=saved(proven=late, since=UNTIL - HOUR // 4))

    (worst,) = coverage_figures(JournalReader(path))["hour"]["worst"]

    assert worst == {"symbol": "LATE", "share": 0.5}


def test_time_in_which_the_collector_was_down_is_a_hole(journal: Journal, path: Path) -> None:
    down = gap(UNTIL - HOUR // 2, UNTIL - HOUR // 4)
    write(journal, A=saved(down, proven=NEWEST, since=UNTIL - HOUR))

    assert coverage_figures(JournalReader(path))["hour"]["share"] == 0.75


def test_in_the_first_minutes_there_is_no_share_yet(journal: Journal, path: Path) -> None:
    write(journal, FIRST=saved(proven=NEWEST, since=UNTIL))

    figures = coverage_figures(JournalReader(path))

    assert figures["hour"] == figures["day"] == {"share": None, "worst": []}
    text = format_status(read_status(path, []))
    assert "coverage    nothing was collected yet before" in text


def test_the_page_and_the_status_tell_the_same_shares(journal: Journal, path: Path) -> None:
    write(
        journal,
        FIRST=saved(proven=NEWEST),
        LATE=saved(proven=UNTIL - HOUR // 8, since=UNTIL - HOUR // 4),
        LOST=saved(gap(UNTIL - DAY // 4, UNTIL), since=UNTIL - DAY // 2),
    )

    rows = PageData(path).symbols_of(["FIRST", "LATE", "LOST"])["symbols"]
    of_page = {each["symbol"]: each["covered_ms"] / each["of_ms"] for each in rows}
    worst = coverage_figures(JournalReader(path))["day"]["worst"]

    assert {each["symbol"]: each["share"] for each in worst} | {"FIRST": 1.0} == of_page


def test_a_symbol_that_is_collected_no_more_does_not_lower_the_share(
    journal: Journal, path: Path
) -> None:
    write(journal, BUSY=saved(proven=NEWEST), GONE=saved(proven=UNTIL - DAY))

    figures = coverage_figures(JournalReader(path))
    assert (figures["symbols"], figures["unproven_symbols"]) == (1, 1)
    assert figures["day"]["share"] == 1.0
    assert "1 symbols left out" in format_status(read_status(path, []))


def test_three_thousand_symbols_with_gaps_take_a_moment(journal: Journal, path: Path) -> None:
    old = [gap(OPEN_TIME_MS + at * 100_000, OPEN_TIME_MS + at * 100_000, at) for at in range(50)]
    write(journal, **{f"S{place}": saved(*old, proven=NEWEST) for place in range(3_000)})
    started = time.process_time()

    figures = coverage_figures(JournalReader(path))

    assert (figures["symbols"], figures["day"]["share"]) == (3_000, 1.0)
    assert time.process_time() - started < 3


def test_a_symbol_that_has_left_is_missed_by_nobody(journal: Journal, path: Path) -> None:
    write(journal, STAYS=saved(proven=NEWEST), GONE=saved(proven=UNTIL - 10 * HOUR))
    assert coverage_figures(JournalReader(path))["day"]["worst"]
    gone = SymbolRecord(1, "*", left_ms=2, left_because=LeftBecause.DELISTED)

    journal.write(WriteBatch(symbols={"GONE": gone}), OPEN_TIME_MS)

    figures = coverage_figures(JournalReader(path))
    assert (figures["symbols"], figures["unproven_symbols"]) == (1, 0)
    assert figures["day"] == {"share": 1.0, "worst": []}
