"""What `bintrades gaps` knows of the trades that are or were missing."""

from __future__ import annotations

import itertools
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from bintrades.cli.gap_report import gap_rows, gap_table
from bintrades.cli.output import array_pieces
from bintrades.core.ledger import LedgerState
from bintrades.errors import JournalError
from bintrades.journal.reader import JournalReader
from bintrades.model import Gap, GapCause, GapOutcome
from bintrades.util.text import as_json
from tests.journals import finished, journal_at
from tests.strategies import START as NOON

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

OPEN = Gap(40, 41, NOON + 4_000, NOON + 4_005, GapCause.SKIPPED, 3, "GET https://...: 500")
OLD = Gap(30, 34, NOON - 9_000, NOON - 5_000, GapCause.RESTART, is_abandoned=True)
ENDED = Gap(10, 19, NOON + 1_000, NOON + 1_500, GapCause.RECONNECT, 1)
UNICODE = "币安人生USDT"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a journal that knows of a gap of each kind."""
    path = tmp_path / "bars.journal"
    first = Gap.beginning(98, NOON, NOON + 3_000)
    with journal_at(path) as journal:
        states = {
            "BTCUSDT": LedgerState(100, NOON, (ENDED, OLD, OPEN)),
            UNICODE: LedgerState(100, NOON, (first,)),
        }
        journal.write(finished(**states), NOON)
        changes = finished(BTCUSDT=LedgerState(100, NOON, (OLD, OPEN)))
        changes.resolved = [("BTCUSDT", 15, 19, GapOutcome.ABSENT)]
        journal.write(changes, NOON)
    return path


def summary(rows: Iterable[dict[str, Any]]) -> list[tuple[str, str, int, int]]:
    return [(row["state"], row["symbol"], row["first_id"], row["last_id"]) for row in rows]


def table(path: Path, symbol: str | None = None) -> str:
    return "".join(gap_table(gap_rows(JournalReader(path), symbol)))


def test_open_abandoned_repaired_and_absent_ranges_are_listed_oldest_first(path: Path) -> None:
    assert summary(gap_rows(JournalReader(path))) == [
        ("abandoned", "BTCUSDT", 30, 34),
        ("open", UNICODE, 0, 98),
        ("repaired", "BTCUSDT", 10, 14),
        ("absent", "BTCUSDT", 15, 19),
        ("open", "BTCUSDT", 40, 41),
    ]


def test_one_symbol_can_be_asked_for(path: Path) -> None:
    assert summary(gap_rows(JournalReader(path), UNICODE)) == [("open", UNICODE, 0, 98)]
    assert list(gap_rows(JournalReader(path), "XRPUSDT")) == []


def test_a_range_is_told_with_its_times_its_cause_its_tries_and_the_last_error(path: Path) -> None:
    *_, row = gap_rows(JournalReader(path))

    assert row == {
        "state": "open",
        "symbol": "BTCUSDT",
        "first_id": 40,
        "last_id": 41,
        "is_start": False,
        "kind": "ids",
        "since": "2024-08-08T00:00:04.000+00:00",
        "until": "2024-08-08T00:00:04.005+00:00",
        "cause": "skipped",
        "attempts": 3,
        "last_error": "GET https://...: 500",
    }


def test_people_see_a_line_for_each_range(path: Path) -> None:
    head, _rule, *lines = table(path).splitlines()

    assert head.split("  ")[0] == "state"
    assert len(lines) == 5
    assert lines[0].split() == [
        *("abandoned", "BTCUSDT", "30-34", "5"),
        *("2024-08-07", "23:59:51.000", "2024-08-07", "23:59:55.000", "restart", "0"),
    ]
    assert lines[-1].endswith("skipped    3        GET https://...: 500")


def test_columns_stand_below_each_other_whatever_the_script_of_a_symbol(path: Path) -> None:
    _head, _rule, *lines = table(path).splitlines()

    columns = [line.index("2024-") + sum(char in "币安人生" for char in line) for line in lines]
    assert len(set(columns)) == 1


def test_nobody_knows_how_many_trades_came_before_the_first_one_that_was_seen(path: Path) -> None:
    (line,) = table(path, UNICODE).splitlines()[2:]

    assert "unknown" in line
    assert " 99 " not in line


def test_no_listed_symbol_and_no_error_moves_the_cursor_or_makes_a_row(path: Path) -> None:
    forged = "A\x1b[2J\nrepaired  BTCUSDT\x9b"
    with journal_at(path) as journal:
        gap = replace(OPEN, last_error=f"\x1b[31m{forged} at ftp://me:hidden@host")
        journal.write(finished(**{forged: LedgerState(100, NOON, (gap,))}), NOON)

    page = table(path, forged)
    (row,) = gap_rows(JournalReader(path), forged)

    _head, _rule, line, end = page.split("\n")
    assert not end
    assert line.isprintable()
    assert r"A\x1b[2J\nrepaired  BTCUSDT\x9b" in line
    assert line.endswith("at ftp://***@host")
    assert row["last_error"].endswith("at ftp://***@host")


def test_without_gaps_that_is_said(path: Path) -> None:
    assert "".join(gap_table([])) == "no gaps\n"


def test_without_a_journal_there_is_nothing_to_list(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="no journal yet"):
        list(gap_rows(JournalReader(tmp_path / "none")))


def test_gaps_of_one_moment_are_in_the_order_of_symbol_and_id(tmp_path: Path) -> None:
    path = tmp_path / "bars.journal"
    gaps = (replace(OPEN, first_id=1, last_id=2), replace(OPEN, first_id=5, last_id=6))
    with journal_at(path) as journal:
        journal.write(finished(B=LedgerState(9, NOON, gaps), A=LedgerState(9, NOON, gaps)), NOON)

    assert summary(gap_rows(JournalReader(path))) == [
        ("open", "A", 1, 2),
        ("open", "A", 5, 6),
        ("open", "B", 1, 2),
        ("open", "B", 5, 6),
    ]


def test_for_programs_they_are_one_json_array(path: Path) -> None:
    reader = JournalReader(path)

    for symbol in (None, "XRPUSDT"):
        text = "".join(array_pieces(gap_rows(reader, symbol)))
        assert text == as_json(list(gap_rows(reader, symbol)), indent=1) + "\n"


@pytest.mark.parametrize("symbol", [None, "BTCUSDT"])
def test_thousands_are_all_listed_in_order_though_many_began_at_once(
    tmp_path: Path, symbol: str | None
) -> None:
    count = 2_500
    path = tmp_path / "journal"
    with journal_at(path) as journal:
        gaps = tuple(
            Gap(3 * n, 3 * n, NOON + n // 900, NOON + n, GapCause.SKIPPED) for n in range(2 * count)
        )
        states = {name: LedgerState(10 * count, NOON, gaps) for name in ("BTCUSDT", "ETHUSDT")}
        journal.write(finished(**states), NOON)
        states = {
            name: LedgerState(10 * count, NOON, gaps[:count]) for name in ("BTCUSDT", "ETHUSDT")
        }
        journal.write(finished(**states), NOON)

    rows = list(gap_rows(JournalReader(path), symbol))

    keys = [(row["since"], row["symbol"], row["first_id"]) for row in rows]
    assert keys == sorted(set(keys))
    assert len(keys) == (2 if symbol else 4) * count
    assert {row["state"] for row in rows} == {"open", "repaired"}


def test_the_table_is_printed_as_it_is_read_in_the_memory_that_few_gaps_need(
    tmp_path: Path,
) -> None:
    peaks = {}
    for count in (2_000, 40_000):
        path = tmp_path / f"{count}.journal"
        gaps = tuple(Gap(3 * n, 3 * n, NOON + n, NOON + n, GapCause.SKIPPED) for n in range(count))
        with journal_at(path) as journal:
            journal.write(finished(BTCUSDT=LedgerState(10 * count, NOON, gaps)), NOON)
        del gaps
        read = itertools.count()
        rows = (row for row, _ in zip(gap_rows(JournalReader(path)), read, strict=False))
        tracemalloc.start()

        pieces = gap_table(rows)
        beginning = next(pieces)
        read_before_the_first_line = next(read)
        lines = beginning.count("\n") + sum(piece.count("\n") for piece in pieces)

        peaks[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert lines == 2 + count
        assert read_before_the_first_line < count

    assert peaks[40_000] < peaks[2_000] + 1_000_000, "bytes"
