"""What is not known of a symbol: None in memory, a number in tables and spares, as ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint
from bintrades.journal.rows import checkpoint_from_row, checkpoint_row
from bintrades.journal.spare import Spare, read_spare, spare_file, write_spare
from bintrades.model import Gap, GapCause

if TYPE_CHECKING:
    from pathlib import Path

NOON = 1_723_118_400_000
NOTHING = Checkpoint(LedgerState(None, None, ()))
WANTED = Checkpoint(LedgerState(None, NOON, ()))
OPEN = Checkpoint(LedgerState(8, NOON, ()))
CLOSED = Checkpoint(LedgerState(8, NOON, ()), closed_through=0)


@pytest.mark.parametrize(
    ("checkpoint", "row"),
    [
        (NOTHING, (None, 0, "[]", -1)),
        (WANTED, (None, NOON, "[]", -1)),
        (OPEN, (8, NOON, "[]", -1)),
        (CLOSED, (8, NOON, "[]", 0)),
    ],
)
def test_a_row_of_a_checkpoint_is_as_it_was_and_is_read_back(
    checkpoint: Checkpoint, row: tuple[object, ...]
) -> None:
    assert checkpoint_row(checkpoint) == row
    assert checkpoint_from_row("BTCUSDT", (*row, None, None), (), ()) == checkpoint


def test_an_earlier_program_can_read_a_spare(tmp_path: Path) -> None:
    journal = tmp_path / "bars.journal"
    gap = Gap(3, 5, NOON, NOON, GapCause.SKIPPED)
    absent = Gap(6, 6, NOON, NOON, GapCause.SKIPPED, absent_at=NOON, looks=1)
    known = Checkpoint(LedgerState(8, NOON, (gap,), (absent,)), closed_through=NOON)
    spare = Spare("spot", 10_000, {"A": NOTHING, "B": WANTED, "C": OPEN, "D": CLOSED, "E": known})

    write_spare(journal, spare)

    content = msgspec.json.decode(spare_file(journal).read_bytes().split(b"\n")[1])
    stored = {name: each["ledger"] for name, each in content["checkpoints"].items()}
    assert [stored[name]["last_time"] for name in "ABCDE"] == [0, *[NOON] * 4]
    through = [content["checkpoints"][name]["closed_through"] for name in "ABCDE"]
    assert through == [-1, -1, -1, 0, NOON]
    assert stored["E"]["gaps"][0].get("absent_at", 0) == 0, "where it is left out it is 0"
    assert stored["E"]["absent"][0]["absent_at"] == NOON
    assert read_spare(journal) == spare
