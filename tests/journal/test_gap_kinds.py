"""The kinds of gaps, which neither tables nor spares of earlier programs spell out."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import msgspec
import pytest

from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint
from bintrades.journal.rows import gap_from_row, gap_row
from bintrades.journal.spare import Spare, read_spare, spare_file, write_spare
from bintrades.model import Gap, GapCause

if TYPE_CHECKING:
    from pathlib import Path

SINCE, UNTIL = 1_000, 2_000
GAPS = (
    Gap.unnumbered(SINCE, UNTIL, GapCause.RENUMBERED, ordinal=2),
    Gap.unnumbered(SINCE, UNTIL, GapCause.LOST, last_error="damaged"),
    Gap.beginning(9, SINCE, UNTIL),
    Gap(12, 14, SINCE, UNTIL, GapCause.START),
    Gap(20, 20, SINCE, UNTIL, GapCause.SKIPPED, attempts=2, last_error="no answer"),
)


@pytest.mark.parametrize("gap", [*GAPS, Gap(0, 3, SINCE, UNTIL, GapCause.SKIPPED)])
def test_a_row_of_a_gap_tells_its_kind(gap: Gap) -> None:
    assert gap_from_row(gap_row(gap)) == gap


def test_a_gap_whose_cause_is_damaged_is_one_that_was_lost_with_a_journal() -> None:
    row = gap_row(GAPS[-1])

    for nonsense in ("skippfd", None, b"\xff", 7):
        gap = gap_from_row((*row[:4], nonsense, *row[5:]))
        assert (gap.first_id, gap.last_id, gap.cause) == (20, 20, GapCause.LOST)


def test_gaps_in_the_spare_of_an_earlier_program_have_their_kinds(tmp_path: Path) -> None:
    journal = tmp_path / "bars.journal"
    spare = Spare("spot", 10_000, {"BTCUSDT": Checkpoint(LedgerState(30, UNTIL, GAPS))})
    write_spare(journal, spare)
    about, content, _, end = spare_file(journal).read_bytes().split(b"\n")
    old = msgspec.json.decode(content)
    for gap in old["checkpoints"]["BTCUSDT"]["ledger"]["gaps"]:
        gap.pop("kind", None)
        gap["absent_at"] = 0
    content = msgspec.json.encode(old)
    spare_file(journal).write_bytes(
        b"\n".join([about, content, b"%08x" % zlib.crc32(content), end])
    )

    assert read_spare(journal) == spare
