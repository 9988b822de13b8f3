"""What the ids of a gap mean, and how its kind, cause and end are spelt."""

from __future__ import annotations

import pytest

from bintrades.model import Gap, GapCause, GapKind, GapOutcome

SINCE, UNTIL = 1_000, 2_000


def test_what_is_left_behind_some_ids_of_a_beginning_has_ids_that_are_known() -> None:
    beginning = Gap.beginning(9, SINCE, UNTIL)

    assert (beginning.is_start, beginning.has_ids) == (True, True)
    assert beginning.part(0, 5) == Gap.beginning(5, SINCE, UNTIL)
    assert beginning.part(3, 9) == Gap(3, 9, SINCE, UNTIL, GapCause.START)
    assert not beginning.part(3, 9).is_start


@pytest.mark.parametrize("ordinal", [1, 7])
def test_trades_without_ids_are_on_record_under_a_number_and_asked_for_by_nobody(
    ordinal: int,
) -> None:
    gap = Gap.unnumbered(SINCE, UNTIL, GapCause.LOST, ordinal=ordinal)

    assert (gap.kind, gap.has_ids, gap.is_abandoned) == (GapKind.UNNUMBERED, False, True)
    assert gap.first_id == gap.last_id == -ordinal
    assert gap.ordinal == ordinal
    assert gap.with_ordinal(9) == Gap.unnumbered(SINCE, UNTIL, GapCause.LOST, ordinal=9)


def test_causes_and_outcomes_are_stored_and_shown_as_these_texts() -> None:
    assert [str(cause) for cause in GapCause] == [
        "skipped",
        "reconnect",
        "restart",
        "silent stream",
        "unusable message",
        "lost with a journal",
        "start",
        "renumbered",
    ]
    assert [f"{outcome}" for outcome in GapOutcome] == [
        "repaired",
        "absent",
        "excluded",
        "unwanted",
        "late",
        "renumbered",
    ]
