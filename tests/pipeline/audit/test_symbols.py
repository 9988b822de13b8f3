"""The audit of symbols that come and go: the last bars are compared, and then no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.pipeline.audit.stage import BTC, HOUR, MINUTE, AuditStage, market
from tests.strategies import START

if TYPE_CHECKING:
    from bintrades.journal.writer import Journal

WHOLE = [(START, START + 10 * MINUTE)]
TRADES = market()


def test_the_last_bars_of_a_symbol_that_has_left_are_compared_and_no_later_ones(
    journal: Journal,
) -> None:
    stage = AuditStage(journal, TRADES)
    stage.covered[BTC] = []  # what it had last is not proven yet

    stage.audit.end([BTC])
    stage.wait(MINUTE)
    stage.covered[BTC] = WHOLE
    stage.wait(HOUR)

    assert stage.verified() == WHOLE
    stage.wait(2 * HOUR)
    assert stage.audit.snapshot.symbols == 0
    assert stage.audit.snapshot.verified_until is None
    assert len(stage.reference.asked) == 1


def test_a_symbol_that_has_returned_has_its_turns_again(journal: Journal) -> None:
    stage = AuditStage(journal, TRADES)
    stage.covered[BTC] = []
    stage.audit.end([BTC])
    stage.wait(3 * HOUR)

    stage.audit.add([BTC])
    stage.covered[BTC] = WHOLE
    stage.wait(HOUR)

    assert stage.verified() == WHOLE
    stage.wait(3 * HOUR)
    assert stage.audit.snapshot.symbols == 1


def test_one_that_is_back_before_its_last_turn_has_one_turn_at_a_time(journal: Journal) -> None:
    stage = AuditStage(journal, TRADES)
    stage.audit.end([BTC])
    stage.audit.add([BTC])

    stage.wait(3 * HOUR)

    assert stage.audit.snapshot.symbols == 1
    turns = [each for _, _, each in stage.audit._schedule._entries if each == BTC]
    assert len(turns) == 1
